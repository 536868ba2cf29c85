"""What goes wrong around a command, and not by its arguments: disks, pipes, encodings, Ctrl-C."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from safetensors import SafetensorError

from gcr_core import runtime
from gcr_core.cli import main
from gcr_core.data.gallery import Gallery
from gcr_core.errors import GcrError
from gcr_core.memory.memory import Memory
from gcr_core.serving.model_process import answered
from tests.patience import until

resource = pytest.importorskip("resource", reason="limits of processes are POSIX")

ROOT = Path(__file__).parents[2]
ENCODINGS = (
    {"PYTHONIOENCODING": "cp1252"},
    {"PYTHONIOENCODING": "ascii"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"LC_ALL": "C"},
    {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
)


def digest(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return hashlib.sha256(b"".join(str(path).encode() + path.read_bytes() for path in files)).hexdigest()


def shell(command: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
    """A command line of bash's, `gcr` the program."""
    program = f'gcr() {{ "{sys.executable}" -m gcr_core "$@"; }}; {command}'
    environment = {**os.environ, **variables}
    return subprocess.run(["bash", "-c", program], cwd=ROOT, env=environment, capture_output=True, check=False)


@pytest.fixture
def memory(tiny_memory_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_memory_dir, tmp_path / "home" / "memory"))


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "a grey dot.png"
    Image.effect_noise((500, 400), 60).save(path)
    return path


@pytest.fixture
def file_size_limit():
    """Sets how large a file may grow: a disk that is full at that point."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["add", "forget"])
def test_a_disk_that_is_full_at_any_point_is_one_line_and_changes_nothing(
    command: str, memory: Path, picture: Path, file_size_limit, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = sorted({path.stat().st_size for path in memory.rglob("*") if path.is_file()})
    points = [sizes[round(i * (len(sizes) - 1) / 9)] - 1 for i in range(10)]
    before = digest(memory)
    for size in points:
        file_size_limit(size)
        status = main([command, str(memory), str(picture) if command == "add" else "red-bar.png"])
        file_size_limit(resource.RLIM_INFINITY)
        output = capsys.readouterr()
        assert (status, output.out, output.err.count("\n")) == (2, "", 1), size
        assert "cannot be written (File too large): make room on its disk" in output.err, size
        assert [path.name for path in memory.parent.iterdir()] == [memory.name]
    assert digest(memory) == before


def test_memorising_onto_a_full_disk_is_one_line_and_leaves_no_memory(
    tiny_gallery: Gallery, llava_folder: Path, tiny_clip_dir: Path, tmp_path: Path, file_size_limit, capsys
) -> None:
    out = tmp_path / "memory"
    models = ["--backbone", str(llava_folder), "--clip", str(tiny_clip_dir), "--preset", "quick"]
    for size in (100, 20_000):
        file_size_limit(size)
        status = main(["memorize", str(tiny_gallery.root), "--out", str(out), *models])
        file_size_limit(resource.RLIM_INFINITY)
        output = capsys.readouterr()
        assert (status, output.out, output.err.count("\n")) == (2, "", 1)
        assert "make room on its disk" in output.err
        assert not out.exists()


@pytest.mark.parametrize(
    ("command", "status", "told"),
    [
        ("gcr info {memory} > /dev/full", 2, b"the answer cannot be printed (No space left on device): send it where"),
        ("gcr info {memory} --json > /dev/full", 2, b"the answer cannot be printed (No space left on device): send"),
        ("gcr info {memory} >&-", 0, b""),
        ("gcr info {memory} --json >&- 2>&-", 0, b""),
        ("gcr info nowhere >&-", 2, b"is no folder here"),
        ("gcr info nowhere 2>&-", 2, b""),
        ("gcr info nowhere 2> /dev/full", 2, b""),
        ("gcr info nowhere > /dev/full 2>&1", 2, b""),
        ("gcr --help > /dev/full", 0, b""),
        ("gcr --help >&-", 0, b""),
        ("gcr info --bad 2> /dev/full", 2, b""),
        ("gcr info {memory} | true; exit ${{PIPESTATUS[0]}}", 0, b""),
    ],
)
def test_an_answer_that_cannot_be_printed(command: str, status: int, told: bytes, memory: Path) -> None:
    done = shell(command.format(memory=memory))
    assert done.returncode == status
    assert told in done.stderr
    assert done.stderr.count(b"\n") <= 1
    assert bool(told) == bool(done.stderr)


def test_a_change_that_cannot_be_told_of_is_none_the_less_done(
    memory: Path, picture: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched, Path("/dev/full").open("w") as full:
        patched.setattr(sys, "stdout", full)
        assert main(["forget", str(memory), "red-bar.png"]) == 0
    told = capsys.readouterr().err
    assert told == ("gcr_core: the answer cannot be printed (No space left on device), what was asked for is done\n")
    assert "red-bar.png" not in Memory.load(memory).gallery.file_names


def test_a_full_disk_under_the_page_is_the_same_line() -> None:
    class Host:
        def add(self) -> None:
            raise SafetensorError("I/O error: No space left on device (os error 28)")

        def describe(self) -> None:
            raise KeyError("x")

    kind, mistake = answered(Host, "add", ())
    assert (kind, type(mistake)) == ("error", GcrError)
    assert str(mistake).startswith("a file cannot be written (No space left on device): make room")
    assert type(answered(Host, "describe", ())[1]) is RuntimeError


@pytest.mark.parametrize("variables", ENCODINGS, ids=str)
def test_what_an_encoding_lacks_is_escaped(variables: dict[str, str], memory: Path) -> None:
    manifest = memory / "memory.json"
    text = manifest.read_text(encoding="utf-8")
    manifest.write_text(text.replace("{", '{"license": "лиц → \U0001f415",', 1), encoding="utf-8")
    done = shell(f"gcr info {memory}; gcr info {memory} --json; gcr info 'nö→where'", **variables)
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr and done.stderr.count(b"\n") == 1
    assert b"license" in done.stdout and done.stdout.count(b"\n") > 10


@pytest.mark.slow
def test_a_query_is_read_as_utf_8_whatever_the_locale(memory: Path) -> None:
    command = f"gcr recall 'größer → Hund' --memory {memory} --json"
    done = shell(command, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    # The words reach the memory, which says that it cannot read them, or answers.
    assert b"udc" not in done.stdout + done.stderr
    assert done.returncode in (0, 2) and b"Traceback" not in done.stderr
    assert done.returncode == 2 or json.loads(done.stdout)["query"] == "größer → Hund"


def test_a_stream_that_is_closed_swallows_and_another_prints_any_text(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with (tmp_path / "told").open("w", encoding="cp1252") as file:
        monkeypatch.setattr(sys, "stdout", file)
        monkeypatch.setattr(sys, "stderr", None)
        runtime.open_streams()
        print("ä → \udcff")
        print("nobody hears", file=sys.stderr, flush=True)
    assert (tmp_path / "told").read_bytes().strip() == b"\xe4 \\u2192 \\udcff"


IMPORTED = """
import os, signal
class Lost:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000): pass
Lost()
"""
"""A module in whose import Ctrl-C comes while something is destroyed: what is raised there is lost."""


def interrupted(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "imported.py").write_text(IMPORTED)
    begin = "from gcr_core.runtime import interrupt_imports; interrupt_imports(); "
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}
    return subprocess.run(
        [sys.executable, "-c", begin + command], env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture
def heard() -> Iterator[None]:
    """Ctrl-C is heard by what a test starts, also where the tests were started without it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_is_not_lost_while_a_module_is_imported(tmp_path: Path, heard: None) -> None:
    done = interrupted("import imported; print('goes on')", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (runtime.INTERRUPTED, "", "")


def test_ctrl_c_is_raised_elsewhere_and_stays_unheard_where_it_was(tmp_path: Path, heard: None) -> None:
    sent = "import os, signal; {}\ntry: os.kill(os.getpid(), signal.SIGINT)\nexcept KeyboardInterrupt: print('raised')"
    assert interrupted(sent.format(""), tmp_path).stdout == "raised\n"
    ignored = (
        "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); interrupt_imports(); import imported; print(1)"
    )
    assert interrupted(ignored, tmp_path).stdout == "1\n"


@pytest.mark.slow
@pytest.mark.parametrize("imported", ["gcr_core.data", "torch._C", "torch"])
def test_ctrl_c_is_quiet_at_any_time(imported: str, memory: Path, tmp_path: Path, heard: None) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "gcr_core", "recall", "gold", "--memory", str(memory)]
    before, errors = digest(memory), tmp_path / "stderr"
    with errors.open("w") as told:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=told, text=True, start_new_session=True
        )
    until(lambda: re.search(rf"\| +{re.escape(imported)}\n", errors.read_text()))
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate()
    assert (process.returncode in (runtime.INTERRUPTED, -signal.SIGINT), output) == (True, "")
    assert [line for line in errors.read_text().splitlines() if not line.startswith("import time:")] == []
    assert digest(memory) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--port 0", "port is '0': choose a whole number"),
        ("--port x", "port is 'x': choose a whole number"),
        ("--host 192.0.2.1", "host '192.0.2.1' is no address of this machine"),
        ("--port 7997", "GCR_HOME is /dev/null/home, which cannot keep anything (Not a directory): name a folder"),
        ("--bad", "unrecognized arguments: --bad; app.py --help lists what it takes"),
    ],
)
def test_mistakes_about_the_page_are_one_line(arguments: str, words: str) -> None:
    command = [sys.executable, "app.py", *arguments.split()]
    environment = {**os.environ, "GCR_HOME": "/dev/null/home"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1

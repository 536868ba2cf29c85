"""Memories that lack a file, or a part of one."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from gcr_core.cli import main
from gcr_core.errors import HubError, MemoryFormatError
from gcr_core.memory.damage import told

NEEDED = (
    "memory.json",
    "identifiers.safetensors",
    "dense/index.faiss",
    "gallery/metadata.jsonl",
    *(
        f"{model}/{name}"
        for model in ("model", "dense/clip")
        for name in (
            "config.json",
            "model.safetensors",
            "processor_config.json",
            "tokenizer.json",
            "tokenizer_config.json",
        )
    ),
)
"""The files of a memory without which it answers nothing."""
CAPTIONS_FILE = "dense/captions.safetensors"
OPTIONAL = ("README.md", "gallery/red-bar.png", "model/generation_config.json")
"""Those without which it answers as before."""


def digest(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return hashlib.sha256(b"".join(str(path).encode() + path.read_bytes() for path in files)).hexdigest()


@pytest.fixture
def memory(tiny_memory_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_memory_dir, tmp_path / "memory"))


def damage(path: Path, how: str) -> None:
    data = path.read_bytes()
    path.unlink()
    if how != "removed":
        path.write_bytes(data[: len(data) // 2] if how == "half" else b"")


def asked(memory: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit status and the only line on stderr, perhaps empty, of a query; nothing is changed by it."""
    before = digest(memory)
    status = main(["recall", "gold", "--memory", str(memory), "--json"])
    told = capsys.readouterr().err
    assert told.count("\n") <= 1
    assert digest(memory) == before
    return status, told


def test_every_file_of_a_memory_is_in_one_of_these_lists(memory: Path) -> None:
    files = {path.relative_to(memory).as_posix() for path in memory.rglob("*") if path.is_file()}
    left = files - {*NEEDED, *OPTIONAL, CAPTIONS_FILE}
    assert all(name.startswith("gallery/") or name.endswith(".jinja") for name in left), left


@pytest.mark.parametrize("how", ["half", "empty"])
def test_the_mean_of_captions_may_be_missing_but_not_cut_off(
    how: str, memory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(memory / CAPTIONS_FILE, how)
    status, told = asked(memory, capsys)
    assert status == 2
    assert f"({CAPTIONS_FILE} is cut off or damaged): copy or pull it again" in told


@pytest.mark.parametrize("how", ["removed", "half", "empty"])
@pytest.mark.parametrize("name", NEEDED)
def test_a_file_that_is_missing_or_cut_off_is_named_with_the_remedy(
    name: str, how: str, memory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(memory / name, how)
    status, told = asked(memory, capsys)
    assert status == 2
    if (name, how) == ("memory.json", "removed"):
        assert "is no memory, it has no memory.json" in told
    elif name == "gallery/metadata.jsonl" and how != "removed":  # cut between two lines
        assert "count different images" in told and "copy it again" in told
    else:
        wrong = "is not there" if how == "removed" else "is cut off or damaged"
        assert f"is damaged or copied in part ({name} {wrong}): copy or pull it again" in told


@pytest.mark.parametrize("name", OPTIONAL)
def test_a_file_that_is_not_needed_may_be_damaged(name: str, memory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for how in ("half", "removed"):
        if (memory / name).exists():
            damage(memory / name, how)
        assert asked(memory, capsys) == (0, "")


@pytest.mark.parametrize("command", ["add", "forget", "consolidate", "describe"])
def test_a_damaged_memory_is_not_changed(
    command: str, memory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = json.loads((memory / "memory.json").read_text(encoding="utf-8"))
    changed = facts | {"changes": {"captions": 1}}  # without any change there is nothing to consolidate
    (memory / "memory.json").write_text(json.dumps(changed), encoding="utf-8")
    (memory / "model" / "tokenizer_config.json").unlink()
    before = digest(memory)
    picture = tmp_path / "a.png"
    shutil.copy(memory / "gallery" / "red-bar.png", picture)
    names = {"add": [str(picture)], "consolidate": []}.get(command, ["red-bar.png"])
    assert main([command, str(memory), *names]) == 2
    output = capsys.readouterr()
    assert (output.out, output.err.count("\n")) == ("", 1)
    assert "model/tokenizer_config.json is not there" in output.err
    assert digest(memory) == before


def test_what_is_no_damage_is_told_as_it_is(memory: Path) -> None:
    for error in (
        HubError("the hub is asleep"),
        MemoryFormatError("of another"),
        MemoryError("no room"),
        OSError(28, "x"),
    ):
        with pytest.raises(type(error)) as raised, told(memory):
            raise error
        assert raised.value is error
    with (
        pytest.raises(MemoryFormatError, match=r"copied in part \(it cannot be loaded: list index\): copy or pull it"),
        told(memory),
    ):
        raise IndexError("list index")


def test_a_shard_of_the_weights_that_is_missing_is_named(memory: Path) -> None:
    (memory / "model" / "model.safetensors").rename(memory / "model" / "model-00001-of-00002.safetensors")
    index = '{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}'
    (memory / "model" / "model.safetensors.index.json").write_text(index)
    with pytest.raises(MemoryFormatError, match=r"model/model-00002-of-00002\.safetensors is not there"), told(memory):
        raise HubError("holds no model")

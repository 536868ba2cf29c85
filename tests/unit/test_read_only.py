"""A disk that may only be read: each command that writes ends in one line, and what was there is as it was.

As the superuser may write wherever a mode forbids it, what writes is refused here as the system does that for a disk
that is mounted so: by the calls that all writing begins with. `scripts/check_read_only.py` mounts one.
"""

import errno
import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gcr_core.cli import main
from gcr_core.data.gallery import Gallery
from gcr_core.memory.memory import Memory
from gcr_core.serving.importing import Importing
from gcr_core.serving.job_queue import JobQueue
from gcr_core.serving.workspace import Workspace, new_id
from gcr_core.settings import Settings
from gcr_core.ui import routes
from gcr_core.ui.auth import HEADER, Visitors
from gcr_core.ui.registry import Registry
from tests.unit.memory.test_publish import NAME, hub  # noqa: F401
from tests.unit.test_mistakes import digest

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@pytest.fixture
def disk(tmp_path: Path, tiny_memory_dir: Path) -> Path:
    """A folder with a memory that has something to consolidate."""
    memory = shutil.copytree(tiny_memory_dir, tmp_path / "disk" / "memory")
    own = Memory.from_pretrained(memory, device="cpu")
    own.forget(["gold-bar.png"])
    own.save(memory)
    return tmp_path / "disk"


@pytest.fixture
def made_read_only(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Lets nothing below a folder be written from now on."""

    def make(disk: Path) -> None:
        def guard(module: Any, name: str, writes: Callable[..., bool] = lambda *_, **__: True) -> None:
            call = getattr(module, name)

            def guarded(path: Any, *arguments: Any, **options: Any) -> Any:
                there = isinstance(path, str | bytes | os.PathLike)
                if there and Path(os.fsdecode(path)).absolute().is_relative_to(disk) and writes(*arguments, **options):
                    raise OSError(errno.EROFS, os.strerror(errno.EROFS), os.fsdecode(path))
                return call(path, *arguments, **options)

            monkeypatch.setattr(module, name, guarded)

        for name in ("mkdir", "rename", "replace", "unlink", "remove", "rmdir", "utime", "chmod"):
            guard(os, name)
        guard(os, "open", lambda flags, *_, **__: bool(flags & WRITES))
        for module in (io, __import__("builtins")):
            guard(module, "open", lambda mode="r", *_, **__: bool(set(mode) & set("wax+")))

    return make


@pytest.mark.parametrize("command", ["add", "forget", "consolidate", "memorize", "pull", "evaluate"])
def test_a_command_that_writes_ends_in_one_line_and_changes_nothing(
    command: str,
    disk: Path,
    made_read_only: Callable[[Path], None],
    tiny_gallery: Gallery,
    llava_folder: Path,
    tiny_clip_dir: Path,
    hub: Any,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    memory, queries = str(disk / "memory"), tmp_path / "queries.jsonl"
    queries.write_text('{"query": "a red circle", "relevant": ["red-circle.png"]}\n')
    if command == "pull":
        assert main(["push", memory, NAME]) == 0
    models = ["--backbone", str(llava_folder), "--clip", str(tiny_clip_dir), "--preset", "quick"]
    words = {
        "add": [memory, str(tiny_gallery.path(0)), "--caption", "another"],
        "forget": [memory, "red-bar.png"],
        "consolidate": [memory],
        "memorize": [str(tiny_gallery.root), "--out", str(disk / "new"), *models],
        "pull": [NAME, "--out", str(disk / "new")],
        "evaluate": ["--memory", memory, "--queries", str(queries), "--csv", str(disk / "answers.csv")],
    }[command]
    before = digest(disk)
    capsys.readouterr()
    made_read_only(disk)
    assert main([command, *words]) == 2
    output = capsys.readouterr()
    assert (output.out, output.err.count("\n")) == ("", 1), output.err
    assert "cannot be used (Read-only file system): name a folder where you may write" in output.err
    assert main(["recall", "gold", "--memory", memory]) == 0
    assert digest(disk) == before


def test_a_push_from_there_is_done_though_it_cannot_be_noted_there(
    disk: Path,
    made_read_only: Callable[[Path], None],
    hub: Any,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = digest(disk)
    made_read_only(disk)
    assert main(["push", str(disk / "memory"), NAME]) == 0
    assert NAME in capsys.readouterr().out and NAME in hub.repositories
    assert digest(disk) == before


def test_a_servers_home_that_turns_so_loses_nothing_and_what_is_there_is_still_read(
    disk: Path, made_read_only: Callable[[Path], None], tiny_gallery: Gallery
) -> None:
    home = disk / "home"
    shelf = Workspace.of(home, "a" * 32, Settings(home=home, visitors=True))
    shelf.keep(shutil.copytree(disk / "memory", disk / "copy"), new_id(), "mine")
    id, _ = shelf.collect([tiny_gallery.root])
    jobs = JobQueue(home)
    jobs.close()
    before = digest(disk)
    made_read_only(disk)
    for write in (
        lambda: shelf.collect([tiny_gallery.root]),
        lambda: Importing(shelf, [tiny_gallery.root], None),
        lambda: shelf.rename(shelf.memories()[0]["id"], "theirs"),
        lambda: shelf.export(shelf.memories()[0]["id"]),
        lambda: shelf.delete(id),
        lambda: jobs.nothing_else_trains(shelf).__enter__(),
    ):
        with pytest.raises(OSError, match="Read-only file system"):
            write()
    registry = Registry(None, None, Visitors(shelf.settings))
    download = next(route.endpoint for route in routes.routes(registry) if route.path == "/download/{id}")
    asked = SimpleNamespace(
        path_params={"id": shelf.memories()[0]["id"]}, headers={HEADER: "a" * 32}, cookies={}, scope={}
    )
    answer = download(asked)
    assert answer.status_code == 507 and b"cannot be used (Read-only file system)" in answer.body
    assert [row["name"] for row in shelf.memories()] == ["mine"] and shelf.ids("galleries") == [id]
    assert digest(disk) == before

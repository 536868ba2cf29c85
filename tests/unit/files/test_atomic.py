"""Folders that appear whole or not at all."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from gcr_core.errors import InputError, NotFoundError
from gcr_core.files import atomic
from gcr_core.files.atomic import changing, new_file, new_folder, remove, sweep, write_text
from tests.patience import until

WRITER = """
import sys
from pathlib import Path
from gcr_core.files.atomic import new_folder
for round in range(100_000):
    with new_folder(Path(sys.argv[1])) as folder:
        for part in range(20):
            (folder / str(part)).write_text(str(round))
"""


@pytest.mark.slow
def test_a_writer_killed_at_any_moment_leaves_the_old_folder_or_the_new_one(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    for kill in range(10):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(target)], cwd=Path(__file__).parents[3])
        before = target.stat().st_ino if kill else None
        until(lambda before=before: target.exists() and target.stat().st_ino != before)  # type: ignore[misc]
        time.sleep(0.013 * kill)
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        rounds = {(target / str(part)).read_text() for part in range(20)}
        assert len(rounds) == 1


def test_the_new_folder_takes_its_place_where_the_system_cannot_exchange(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gcr_core.files.atomic._exchange", lambda one, other: False)
    for content in ("old", "new"):
        with new_folder(tmp_path / "folder") as folder:
            (folder / "file").write_text(content)
    assert (tmp_path / "folder" / "file").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_an_error_while_writing_leaves_the_old_folder_and_nothing_else(tmp_path: Path) -> None:
    with new_folder(tmp_path / "folder") as folder:
        (folder / "file").write_text("old")
    with pytest.raises(RuntimeError), new_folder(tmp_path / "folder") as folder:
        (folder / "file").write_text("new")
        raise RuntimeError
    assert (tmp_path / "folder" / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_missing_parents_are_made(tmp_path: Path) -> None:
    with new_folder(tmp_path / "a" / "b") as folder:
        (folder / "file").write_text("new")
    assert (tmp_path / "a" / "b" / "file").read_text() == "new"


def test_what_a_killed_writer_left_is_swept_what_a_live_one_builds_is_not(tmp_path: Path) -> None:
    program = WRITER.replace("write_text(str(round))", "write_text('x'); __import__('time').sleep(60)")
    writers = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path / name)], cwd=Path(__file__).parents[3])
        for name in ("dead", "live")
    ]
    until(lambda: len(list(tmp_path.glob(".*/0"))) == 2)
    writers[0].kill()
    writers[0].wait()
    for path in tmp_path.iterdir():
        os.utime(path, (time.time() - 3600,) * 2)
    sweep(tmp_path)
    assert [path.name.split(".")[1] for path in tmp_path.iterdir()] == ["live"]
    writers[1].kill()
    writers[1].wait()
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_written_for_long_or_while_the_clock_jumps_is_not_swept(tmp_path: Path) -> None:
    with new_file(tmp_path / "file") as building:
        building.write_text("new")
        os.utime(building, (0, 0))
        sweep(tmp_path)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("file", "new")]
    os.utime(tmp_path / "file", (0, 0))
    (tmp_path / ".file.0123abcd").touch()
    os.utime(tmp_path / ".file.0123abcd", (0, 0))
    sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_sweep_leaves_what_has_just_begun_and_what_is_no_leftover(tmp_path: Path) -> None:
    (tmp_path / ".new.0123abcd").mkdir()
    for name in ("folder", ".hidden", ".folder.0123"):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (0, 0))
    sweep(tmp_path)
    assert len(list(tmp_path.iterdir())) == 4
    sweep(tmp_path / "nowhere")


def test_where_nothing_can_be_locked_only_what_is_older_than_a_day_is_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(path: Path) -> None:
        raise OSError("no locks here")

    monkeypatch.setattr(atomic, "try_lock", no_locks)
    with new_folder(tmp_path / "folder") as folder:
        (folder / "file").write_text("new")
    for name, hours in ((".young.0123abcd", 23), (".old.0123abcd", 25)):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (time.time() - 3600 * hours,) * 2)
    sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".young.0123abcd", "folder"]


def test_a_folder_that_was_moved_aside_when_its_writer_died_is_put_back(tmp_path: Path) -> None:
    for name in ("lost", "kept"):
        (tmp_path / f".{name}.old").mkdir()
        (tmp_path / f".{name}.old" / "file").write_text("old")
        os.utime(tmp_path / f".{name}.old", (0, 0))
    (tmp_path / "kept").mkdir()
    sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "lost"]
    assert (tmp_path / "lost" / "file").read_text() == "old"


def test_a_text_file_is_replaced_whole(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "old\n")
    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "file", "half\n\ud800")
    assert (tmp_path / "file").read_bytes() == b"old\n"
    write_text(tmp_path / "file", "neü\n")
    assert (tmp_path / "file").read_bytes() == "neü\n".encode()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_removed_folder_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("x")
    remove(tmp_path / "folder")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_being_changed_is_left_alone_even_once_another_has_taken_its_place(tmp_path: Path) -> None:
    target, order = tmp_path / "folder", []
    target.mkdir()

    def change() -> None:
        with changing(target):
            order.append((target / "written").exists())

    with changing(target):
        other = threading.Thread(target=change)
        other.start()
        with pytest.raises(InputError, match="being worked on"), changing(target, wait=False):
            pass
        with new_folder(target) as folder:
            (folder / "written").touch()
    other.join()
    assert order == [True]


def test_a_folder_that_is_gone_cannot_be_changed_and_does_not_come_back(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="gone"), changing(tmp_path / "folder"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_what_is_put_in_its_place_is_on_the_disk_before_and_the_place_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    flush, replace = os.fsync, Path.replace

    def fsync(handle: int) -> None:
        order.append(str(Path(f"/proc/self/fd/{handle}").readlink()))
        flush(handle)

    def replaced(path: Path, target: Path) -> Path:
        order.append("replaced")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replaced)
    write_text(tmp_path / "file", "x")
    assert Path(order[0]).name.startswith(".file.")
    assert order[1:] == ["replaced", str(tmp_path)]

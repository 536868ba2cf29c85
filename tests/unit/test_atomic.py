"""Folders that appear whole or not at all."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gcr_core.atomic import new_folder

WRITER = """
import sys
from pathlib import Path
from gcr_core.atomic import new_folder
for round in range(100_000):
    with new_folder(Path(sys.argv[1])) as folder:
        for part in range(20):
            (folder / str(part)).write_text(str(round))
"""


def test_a_writer_killed_at_any_moment_leaves_the_old_folder_or_the_new_one(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    for kill in range(10):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(target)], cwd=Path(__file__).parents[2])
        while not target.exists():
            time.sleep(0.01)
        time.sleep(0.05 + 0.013 * kill)
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        rounds = {(target / str(part)).read_text() for part in range(20)}
        assert len(rounds) == 1


def test_the_new_folder_takes_its_place_where_the_system_cannot_exchange(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gcr_core.atomic._exchange", lambda one, other: False)
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

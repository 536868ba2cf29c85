"""Forgetting on a server and taking it back: the folder of the memory is as it was, byte for byte."""

import json
import shutil
from pathlib import Path

import pytest

from gcr_core.errors import InputError, NotFoundError
from gcr_core.files.layout import undo_folder
from gcr_core.serving import undo as undo_module
from gcr_core.serving.model_host import MemoryHost, TaskHost
from gcr_core.serving.workspace import Workspace
from gcr_core.settings import Settings

ID = "AAAAAAAAAAAA"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "mine", Settings())


@pytest.fixture
def folder(workspace: Workspace, tiny_memory_dir: Path) -> Path:
    folder = shutil.copytree(tiny_memory_dir, workspace.root / "memories" / ID)
    (folder / "originals").mkdir()
    (folder / "originals" / "red-bar.png").write_bytes(b"the picture in large")
    (folder / "originals" / "blue-bar.png").write_bytes(b"another")
    return folder


@pytest.fixture
def host(folder: Path) -> MemoryHost:
    """A host that has written the memory once, so that nothing but what is told below changes."""
    host = MemoryHost(print)
    host.move(folder, ["red-bar.png"], "bars")
    return host


def contents(folder: Path) -> dict[str, bytes]:
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    facts = json.loads(files.pop("memory.json"))
    facts.pop("changes", None)
    files.pop("README.md")
    return files | {"memory.json": json.dumps(facts).encode()}


def names(folder: Path) -> set[str]:
    return {path.name for path in (folder / "gallery").glob("*.png")}


def test_a_memory_is_as_it_was_once_forgetting_is_undone(host: MemoryHost, folder: Path) -> None:
    before = contents(folder)
    host.forget(folder, ["red-bar.png", "gold-bar.png"])
    host.forget(folder, ["blue-bar.png"])
    assert names(folder).isdisjoint({"red-bar.png", "gold-bar.png", "blue-bar.png"})
    assert not (folder / "originals").exists()
    host.restore(folder, ["red-bar.png", "gold-bar.png", "blue-bar.png"])
    assert contents(folder) == before
    assert not list(undo_folder(folder).iterdir()), "nothing is kept that the memory has"
    host.move(folder, ["gold-bar.png"], "bars")
    assert len(names(folder)) == 12, "nor was anything needed of it"


def test_another_process_can_undo_it(host: MemoryHost, folder: Path) -> None:
    before = contents(folder)
    host.forget(folder, ["red-bar.png"])
    MemoryHost(print).restore(folder, ["red-bar.png"])
    assert contents(folder) == before


def test_some_of_a_call_come_back_and_the_others_later(host: MemoryHost, folder: Path) -> None:
    before = contents(folder)
    host.forget(folder, ["red-bar.png", "gold-bar.png"])
    host.restore(folder, ["gold-bar.png"])
    assert "gold-bar.png" in names(folder)
    assert "red-bar.png" not in names(folder)
    host.restore(folder, ["red-bar.png"])
    assert contents(folder) == before


def test_an_image_that_was_forgotten_twice_comes_back_as_it_was_last(host: MemoryHost, folder: Path) -> None:
    host.forget(folder, ["red-bar.png", "gold-bar.png"])
    host.restore(folder, ["red-bar.png"])
    host.move(folder, ["red-bar.png"], "favourites")
    before = contents(folder)
    host.forget(folder, ["red-bar.png"])
    host.restore(folder, ["red-bar.png"])
    assert contents(folder) == before


def test_what_cannot_be_brought_back_is_one_line_and_changes_nothing(
    host: MemoryHost, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.forget(folder, ["red-bar.png"])
    before = contents(folder)
    with pytest.raises(NotFoundError, match=r"'dog.png' cannot be brought back"):
        host.restore(folder, ["dog.png", "red-bar.png"])
    assert contents(folder) == before
    monkeypatch.setattr(undo_module, "MAX_KEPT", 1)
    host.forget(folder, ["gold-bar.png"])
    with pytest.raises(NotFoundError, match=r"'red-bar.png' cannot be brought back"):
        host.restore(folder, ["red-bar.png"])
    host.restore(folder, ["gold-bar.png"])
    assert contents(folder) == before


def test_a_change_that_fails_leaves_the_undo_harmless(
    host: MemoryHost, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(folder)
    with monkeypatch.context() as patched:
        patched.setattr("gcr_core.memory.storage.Parts.write", None)
        with pytest.raises(TypeError):
            host.forget(folder, ["red-bar.png"])
    assert contents(folder) == before
    with pytest.raises(InputError, match=r"there is an image 'red-bar.png' in the memory"):
        host.restore(folder, ["red-bar.png"])
    assert contents(folder) == before


def test_nothing_is_kept_behind_a_consolidation_a_deletion_or_a_new_start(
    host: MemoryHost, folder: Path, workspace: Workspace
) -> None:
    for end in (
        TaskHost(print).consolidate,
        lambda folder: workspace.drop_passing(),
        lambda folder: workspace.delete(ID),
    ):
        host.forget(folder, [sorted(names(folder))[0]])
        assert undo_folder(folder).is_dir()
        end(folder)
        assert not undo_folder(folder).exists()
    assert workspace.memories() == []


def test_what_is_swept_while_the_server_runs_can_still_be_undone_and_a_new_start_ends_that(
    host: MemoryHost, folder: Path, workspace: Workspace
) -> None:
    host.forget(folder, [sorted(names(folder))[0]])
    workspace.sweep()
    assert undo_folder(folder).is_dir()
    workspace.drop_passing()
    assert not undo_folder(folder).exists()

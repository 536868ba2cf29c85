"""What owners may keep and import at a time: each of them, and all strangers together."""

import os
import shutil
import subprocess
import sys
import threading
from collections import namedtuple
from pathlib import Path

import pytest

from gcr_core.data.gallery import Gallery
from gcr_core.errors import GcrError
from gcr_core.serving import budget
from gcr_core.serving import workspace as workspaces
from gcr_core.serving.importing import Importing
from gcr_core.serving.workspace import Workspace
from gcr_core.settings import Settings
from tests import uploads


def stranger(home: Path, name: str, settings: Settings) -> Workspace:
    return Workspace.of(home, name * 32, settings)


def pictures(folder: Path, count: int, side: int) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{i}.png" for i in range(count)]
    for i, path in enumerate(paths):
        path.write_bytes(uploads.picture((side, side), seed=i))
    return paths


def kept(home: Path) -> int:
    return budget.bytes_below(home)


def imported_at_once(workspaces: list[Workspace], paths: list[Path]) -> list[str]:
    """Has each import the same, all at once; what was refused."""
    mistakes = []

    def collect(workspace: Workspace) -> None:
        try:
            workspace.collect(paths)
        except GcrError as mistake:
            mistakes.append(str(mistake))

    threads = [threading.Thread(target=collect, args=(workspace,)) for workspace in workspaces]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return mistakes


def test_imports_that_run_at_once_do_not_pass_a_limit_that_each_of_them_keeps(tmp_path):
    paths = pictures(tmp_path / "pictures", 2, 300)
    size = sum(path.stat().st_size for path in paths)
    settings = Settings(home=tmp_path / "home", max_kept_bytes=int(2.5 * size), max_imports=16)
    mistakes = imported_at_once([stranger(tmp_path / "home", "a", settings) for _ in range(8)], paths)
    assert len(mistakes) >= 6 and all("you would keep" in mistake for mistake in mistakes)
    assert kept(tmp_path / "home") <= settings.max_kept_bytes


def test_a_new_owner_each_time_does_not_pass_the_limit_of_all_visitors(tmp_path):
    paths = pictures(tmp_path / "pictures", 2, 300)
    size = sum(path.stat().st_size for path in paths)
    settings = Settings(home=tmp_path / "home", max_kept_bytes_in_all=int(3.5 * size))
    mistakes = []
    for name in "abcdefgh":
        mistakes += imported_at_once([stranger(tmp_path / "home", name, settings)], paths)
    assert len(mistakes) >= 5 and all("all visitors would keep" in mistake for mistake in mistakes)
    assert kept(tmp_path / "home") <= settings.max_kept_bytes_in_all


def test_what_grows_past_the_limit_while_it_is_imported_is_taken_back(tmp_path, monkeypatch):
    paths = pictures(tmp_path / "pictures", 1, 8)
    settings = Settings(home=tmp_path / "home", max_kept_bytes=paths[0].stat().st_size + 1)
    workspace = stranger(tmp_path / "home", "a", settings)
    with pytest.raises(GcrError, match="you would keep"):
        workspace.collect(paths)  # its metadata comes on top
    assert workspace.ids("galleries") == [] and kept(tmp_path / "home") == 0


def test_ones_own_machine_has_no_limit_of_all_visitors(tmp_path, tiny_gallery: Gallery):
    settings = Settings(home=tmp_path, max_kept_bytes_in_all=1)
    assert Workspace.of(tmp_path, None, settings).collect([tiny_gallery.root])[1].file_names


def test_a_disk_that_is_nearly_full_is_left_to_the_jobs_that_run(tmp_path, tiny_gallery, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(2**40, 2**40, budget.LEFT_FREE_BYTES))
    with pytest.raises(GcrError, match=r"would have 0\.25 GiB free, 0\.25 stay free: delete"):
        Workspace.of(tmp_path, None, Settings(home=tmp_path)).collect([tiny_gallery.root])
    assert not (tmp_path / "mine" / "galleries").exists()


def test_of_imports_at_a_time_one_too_many_is_refused_at_once_and_a_place_is_free_again_after(tmp_path, tiny_gallery):
    before = threading.enumerate()
    settings = Settings(home=tmp_path, max_imports=1, max_imports_in_all=2)
    one, two, three = (stranger(tmp_path, name, settings) for name in "abc")
    with budget.importing(one.root, settings):
        with pytest.raises(GcrError, match="1 imports of yours are under way, the limit is 1: wait"):
            Importing(one, [], None)
        with budget.importing(two.root, settings), pytest.raises(GcrError, match="2 imports of all visitors"):
            Importing(three, [], None)
    assert [each.name for each in threading.enumerate() if each not in before] == []
    with budget.importing(one.root, settings):
        pass


OTHER_SERVER = """
import sys
from pathlib import Path
from gcr_core.serving import budget
from gcr_core.serving import workspace as workspaces
from gcr_core.serving.workspace import Workspace
from gcr_core.settings import Settings

root = Workspace.of(Path(sys.argv[1]), "b" * 32, Settings()).root
with budget.importing(root, Settings()), budget.reserved(root, Settings(), 10_000):
    print("under way", flush=True)
    sys.stdin.read()
"""


def test_what_another_server_on_this_home_has_under_way_counts_until_that_server_is_killed(tmp_path):
    paths = pictures(tmp_path / "pictures", 1, 8)
    settings = Settings(home=tmp_path, max_imports_in_all=1, max_kept_bytes_in_all=10_000)
    workspace = stranger(tmp_path, "a", settings)
    command = [sys.executable, "-c", OTHER_SERVER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout.readline() == b"under way\n"
        with pytest.raises(GcrError, match="1 imports of all visitors are under way, the limit is 1"):
            Importing(workspace, [], None)
        with pytest.raises(GcrError, match="all visitors would keep"):
            workspace.collect(paths)
        server.kill()
        server.wait()
    with budget.importing(workspace.root, settings):
        assert workspace.collect(paths)[1].file_names


def test_what_another_server_on_this_home_has_kept_counts_at_once(tmp_path):
    paths = pictures(tmp_path / "pictures", 1, 8)
    settings = Settings(home=tmp_path, max_kept_bytes_in_all=10_000)
    one, two = stranger(tmp_path, "a", settings), stranger(tmp_path, "b", settings)
    one.collect(paths)
    two.collect(paths)  # has counted what the first one keeps
    (one.root / "galleries" / "kept").write_bytes(b"x" * 10_000)
    os.utime(one.root)
    with pytest.raises(GcrError, match="all visitors would keep"):
        two.collect(paths)


def test_an_import_that_fails_gives_its_place_back(tmp_path):
    settings = Settings(home=tmp_path, max_imports=1)
    workspace = stranger(tmp_path, "a", settings)
    for _ in range(3):
        with pytest.raises(TypeError):
            Importing(workspace, [], None).result()


def test_of_pushes_at_a_time_one_too_many_is_refused_and_a_place_is_free_again_after(tmp_path):
    settings = Settings(home=tmp_path, max_pushes=1, max_pushes_in_all=2)
    one, two, three = (stranger(tmp_path, name, settings) for name in "abc")
    with one.pushing():
        with pytest.raises(GcrError, match="1 pushes of yours are under way, the limit is 1: wait"), one.pushing():
            pass
        with two.pushing(), pytest.raises(GcrError, match="2 pushes of all visitors"), three.pushing():
            pass
    with one.pushing(), one.importing():
        pass


def test_zips_that_wait_to_be_sent_are_counted_before_they_are_made_and_removed_after(tmp_path, tiny_memory_dir):
    size = budget.bytes_below(tiny_memory_dir)
    settings = Settings(
        home=tmp_path, visitors=True, max_downloaded_bytes=int(1.5 * size), max_downloaded_bytes_in_all=int(2.5 * size)
    )
    one, two, three = (stranger(tmp_path, name, settings) for name in "abc")
    for workspace in (one, two, three):
        workspace.keep(shutil.copytree(tiny_memory_dir, workspace.root / "copied"), "memory-of-it", "Mine")
    before = kept(tmp_path)
    with one.download("memory-of-it") as archive:
        assert archive.is_file()
        with pytest.raises(GcrError, match="with this you would download"), one.download("memory-of-it"):
            pass
        refused = pytest.raises(GcrError, match="with this all visitors would")
        with two.download("memory-of-it"), refused, three.download("memory-of-it"):
            pass
    assert kept(tmp_path) == before
    with one.download("memory-of-it"):
        pass


def test_of_two_downloads_of_one_memory_the_first_that_ends_leaves_the_other_its_file(tmp_path, tiny_memory_dir):
    workspace = stranger(tmp_path, "a", Settings(home=tmp_path))
    workspace.keep(shutil.copytree(tiny_memory_dir, workspace.root / "copied"), "memory-of-it", "Mine")
    with workspace.download("memory-of-it"):
        second = workspace.download("memory-of-it")
        archive = second.__enter__()
    assert archive.is_file()
    second.__exit__(None, None, None)
    assert not archive.exists()


def test_a_download_leaves_the_disk_to_the_jobs_that_run(tmp_path, tiny_memory_dir, monkeypatch):
    workspace = stranger(tmp_path, "a", Settings(home=tmp_path))
    workspace.keep(shutil.copytree(tiny_memory_dir, workspace.root / "copied"), "memory-of-it", "Mine")
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(2**40, 2**40, budget.LEFT_FREE_BYTES))
    with pytest.raises(GcrError, match=r"0\.25 stay free: delete"), workspace.download("memory-of-it"):
        pass
    assert not list(workspace.root.glob("exports/*"))


def test_zips_of_which_each_alone_would_fit_on_the_disk_are_not_made_at_once(tmp_path, monkeypatch):
    settings = Settings(home=tmp_path)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(2**40, 2**39, budget.LEFT_FREE_BYTES + 1_500))
    both = [budget.downloading(tmp_path / "mine", settings, 1_000) for _ in range(2)]
    with both[0], pytest.raises(GcrError, match="stay free"), both[1]:
        pass
    with budget.downloading(tmp_path / "mine", settings, 1_000):
        pass


def test_what_is_fetched_of_one_model_takes_no_room_from_another(tmp_path):
    settings = Settings(home=tmp_path, visitors=True, max_fetched_bytes=10_000)
    with budget.fetching(tmp_path / "mine", settings, 6_000, tmp_path / "models--a--one"):
        with budget.fetching(tmp_path / "mine", settings, 6_000, tmp_path / "models--a--other"):
            pass
        with (
            pytest.raises(GcrError, match="of its revisions would be kept"),
            budget.fetching(tmp_path / "mine", settings, 6_000, tmp_path / "models--a--one"),
        ):
            pass


def test_revisions_that_strangers_name_are_fetched_as_far_as_there_is_room(tmp_path, monkeypatch):
    workspace = stranger(tmp_path, "a", Settings(home=tmp_path, visitors=True, clip="a/clip", max_fetched_bytes=10_000))
    cached, fetched = tmp_path / "cache", []
    monkeypatch.setattr(workspaces, "cache", lambda name: cached)
    monkeypatch.setattr(workspaces, "lacking", lambda name, revision: 0 if revision in fetched else 6_000)
    monkeypatch.setattr(workspaces, "released", lambda name, instead: ["1" * 40, "2" * 40])

    def fetch(name, instead, revision=None):
        if revision and revision not in fetched:
            fetched.append(revision)
            cached.mkdir(exist_ok=True)
            (cached / revision).write_bytes(b"x" * 6_000)
        return cached / "snapshots" / ("0" * 40)

    monkeypatch.setattr(workspaces, "fetch", fetch)
    for _ in range(2):
        workspace._fetch("CLIP", "a/clip", "1" * 40, "a/clip")
    with pytest.raises(
        GcrError, match=r"0\.00 GiB of its revisions would be kept, the limit is 0\.00: open it on your"
    ):
        workspace._fetch("CLIP", "a/clip", "2" * 40, "a/clip")
    assert fetched == ["1" * 40]

"""Shelves that strangers have left behind: removed after a while, never one that is used, trained on, or one's own."""

import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from gcr_core.data.gallery import Gallery
from gcr_core.errors import NotFoundError
from gcr_core.files.locks import try_lock, unlock
from gcr_core.files.uptime import uptime
from gcr_core.serving import retention
from gcr_core.serving.job import DONE, INTERRUPTED, QUEUED, RUNNING, Job
from gcr_core.serving.loading import LoadingMemory
from gcr_core.serving.model_process import ModelProcess
from gcr_core.serving.remote_memory import memory_host
from gcr_core.serving.retention import DAY_SECONDS, NOTE, note_use, remove_unused
from gcr_core.serving.workspace import Workspace, new_id
from gcr_core.settings import Settings
from gcr_core.ui import page
from gcr_core.ui.auth import HEADER, Visitors

SECRET = "x" * 32
DAYS = 30


def left_behind(shelf: Workspace, days: float, gallery: Gallery | None = None) -> str:
    """Puts a gallery on the shelf, all of it used last so many days ago; the gallery's id."""
    id, folder = shelf.new_gallery()
    folder.mkdir(parents=True)
    if gallery:
        gallery.save(folder)
    age(shelf, days)
    return id


def age(shelf: Workspace, days: float) -> None:
    now = uptime(shelf.root.parents[1] / "owners.uptime")
    note = {"used": now - days * DAY_SECONDS, "newest": retention._newest(shelf.root)}
    (shelf.root / NOTE).write_text(json.dumps(note))


def request(secret: str = SECRET) -> SimpleNamespace:
    return SimpleNamespace(headers={HEADER: secret}, cookies={})


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def stranger(home: Path) -> Workspace:
    return Workspace.of(home, SECRET)


def test_a_shelf_unused_for_longer_than_the_days_goes_whole_and_the_others_stay(
    home: Path, stranger: Workspace
) -> None:
    left_behind(stranger, DAYS + 1)
    recent = Workspace.of(home, "another")
    kept = left_behind(recent, DAYS - 1)
    assert remove_unused(home, DAYS) == [stranger.root]
    assert list((home / "owners").iterdir()) == [recent.root]
    assert recent.ids("galleries") == [kept]
    assert remove_unused(home, DAYS) == []


def test_ones_own_shelf_is_never_removed(home: Path) -> None:
    own = Workspace.of(home, None)
    id = left_behind(own, 10_000)
    assert remove_unused(home, 1) == []
    assert own.ids("galleries") == [id]


def test_a_shelf_that_was_never_looked_at_before_counts_as_used_now(home: Path, stranger: Workspace) -> None:
    left_behind(stranger, DAYS + 1)
    (stranger.root / NOTE).unlink()
    assert remove_unused(home, DAYS) == []
    age(stranger, DAYS + 1)
    assert remove_unused(home, DAYS) == [stranger.root]


def test_a_request_of_its_owner_keeps_a_shelf(home: Path, stranger: Workspace) -> None:
    left_behind(stranger, DAYS + 1)
    visitors = Visitors(Settings(home=home, visitors=True))
    visitors.workspace(request())
    visitors.workspace(request("y" * 32))
    assert remove_unused(home, DAYS) == []
    assert [path.name for path in (home / "owners").iterdir()] == [stranger.root.name]


def test_a_use_is_noted_once_an_hour(stranger: Workspace) -> None:
    left_behind(stranger, 0)
    noted = (stranger.root / NOTE).read_text()
    note_use(stranger.root)
    assert (stranger.root / NOTE).read_text() == noted
    age(stranger, 1)
    old = (stranger.root / NOTE).read_text()
    note_use(stranger.root)
    assert (stranger.root / NOTE).read_text() != old


@pytest.mark.parametrize("days", [30, -30, 400, -400])
def test_a_clock_that_jumps_removes_nothing_and_keeps_nothing_for_ever(
    home: Path, stranger: Workspace, monkeypatch: pytest.MonkeyPatch, days: int
) -> None:
    left_behind(stranger, 1)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + days * DAY_SECONDS)
    assert remove_unused(home, DAYS) == []
    (stranger.root / "galleries" / new_id()).mkdir()
    os.utime(next(stranger.root.glob("*/*")), (time.time(),) * 2)
    assert remove_unused(home, DAYS) == []
    monkeypatch.undo()
    assert remove_unused(home, DAYS) == []
    age(stranger, DAYS + 1)
    assert remove_unused(home, DAYS) == [stranger.root]


def test_a_boot_between_two_looks_takes_no_days_and_gives_none(
    home: Path, stranger: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    since_boot, boot = 100.0, "first"
    monkeypatch.setattr("gcr_core.files.uptime._since_boot", lambda: since_boot)
    monkeypatch.setattr("gcr_core.files.uptime._boot", lambda: boot)
    left_behind(stranger, 0)
    assert remove_unused(home, DAYS) == []
    since_boot += 20 * DAY_SECONDS
    assert remove_unused(home, DAYS) == []
    since_boot, boot = 5.0, "second"
    assert remove_unused(home, DAYS) == []
    since_boot += 9 * DAY_SECONDS
    assert remove_unused(home, DAYS) == []
    since_boot += 2 * DAY_SECONDS
    assert remove_unused(home, DAYS) == [stranger.root]


@pytest.mark.parametrize("note", ["", "[]", "{", '{"used": "x", "newest": 1}', '{"used": 1e300, "newest": 0}'])
def test_a_damaged_note_counts_as_a_use(home: Path, stranger: Workspace, note: str) -> None:
    left_behind(stranger, DAYS + 1)
    (stranger.root / NOTE).write_text(note)
    assert remove_unused(home, DAYS) == []
    age(stranger, DAYS + 1)
    assert remove_unused(home, DAYS) == [stranger.root]


def test_what_changes_on_a_shelf_keeps_it_without_its_owner(
    home: Path, stranger: Workspace, tiny_gallery: Gallery
) -> None:
    id = left_behind(stranger, DAYS + 1, tiny_gallery)
    gallery = Gallery.load(stranger.gallery(id))
    gallery.with_captions(gallery.captions)
    assert remove_unused(home, DAYS) == []


def put_job(shelf: Workspace, state: str) -> Job:
    folder = shelf.root / "jobs" / new_id()
    folder.mkdir(parents=True)
    job = Job(folder)
    job.create({"name": "x", "gallery": "x", "recipe": {}, "submitted": 0.0})
    job.record(state)
    age(shelf, DAYS + 1)
    return job


def test_a_shelf_with_a_job_that_waits_or_runs_stays(home: Path, stranger: Workspace) -> None:
    job = put_job(stranger, QUEUED)
    assert remove_unused(home, DAYS) == []
    job.record(RUNNING)
    process = try_lock(job.lock)
    assert process is not None
    age(stranger, DAYS + 1)
    assert remove_unused(home, DAYS) == []
    unlock(process)
    assert job.status()["state"] == INTERRUPTED
    assert remove_unused(home, DAYS) == [stranger.root]


def test_a_job_that_has_just_ended_is_a_use(home: Path, stranger: Workspace) -> None:
    put_job(stranger, RUNNING).record(DONE)
    assert remove_unused(home, DAYS) == []
    age(stranger, DAYS + 1)
    assert remove_unused(home, DAYS) == [stranger.root]


def test_a_visitor_who_comes_back_in_the_last_moment_keeps_the_shelf(
    home: Path, stranger: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first look finds the shelf unused; its owner's request comes before the lock is taken."""
    left_behind(stranger, DAYS + 1)
    put_aside = retention._put_aside

    def after_a_visit(root: Path, days: int) -> Path | None:
        note_use(root)
        return put_aside(root, days)

    monkeypatch.setattr(retention, "_put_aside", after_a_visit)
    assert remove_unused(home, DAYS) == []
    assert len(stranger.ids("galleries")) == 1


def test_a_visitor_who_comes_back_too_late_waits_and_finds_nothing_half_removed(
    home: Path, stranger: Workspace
) -> None:
    id = left_behind(stranger, DAYS + 1)
    visit = threading.Thread(target=note_use, args=(stranger.root,))
    with retention._lock(stranger.root):
        visit.start()
        visit.join(0.2)
        assert visit.is_alive()
        retention.atomic.put_aside(stranger.root)
    visit.join(10)
    assert not visit.is_alive()
    assert not stranger.root.exists()
    with pytest.raises(NotFoundError):
        stranger.gallery(id)


def test_what_a_killed_removal_left_is_removed_by_the_next(home: Path, stranger: Workspace) -> None:
    left_behind(stranger, DAYS + 1)
    os.utime(retention.atomic.put_aside(stranger.root), (0, 0))
    remove_unused(home, DAYS)
    assert list((home / "owners").iterdir()) == []


def test_a_shelf_that_cannot_be_read_is_reported_and_the_rest_goes_on(
    home: Path, stranger: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    left_behind(stranger, DAYS + 1)
    (stranger.root / NOTE).unlink()
    (stranger.root / NOTE).mkdir()
    others = [Workspace.of(home, str(number)) for number in range(5)]
    for shelf in others:
        left_behind(shelf, DAYS + 1)
    assert sorted(remove_unused(home, DAYS)) == sorted(shelf.root for shelf in others)
    assert stranger.root.name[:12] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "goes"),
    [({}, True), ({"visitors": False}, False), ({"unused_days": 0}, False), ({"unused_days": 400}, False)],
)
def test_shelves_are_removed_from_the_start_on_only_where_the_settings_say_so(
    home: Path, stranger: Workspace, changes: dict[str, bool | int], goes: bool
) -> None:
    left_behind(stranger, 365)
    settings = replace(Settings(home=home, visitors=True), **changes)
    retention.begin(settings)
    wait(lambda: not stranger.root.exists() or not goes)
    time.sleep(0 if goes else 0.3)
    assert stranger.root.exists() is not goes


def test_the_app_removes_them(home: Path, stranger: Workspace) -> None:
    left_behind(stranger, 365)
    loading = LoadingMemory(lambda: pytest.fail("nobody asked"))
    app = page.App(Settings(home=home, visitors=True), loading, ModelProcess(memory_host, "memory"))
    wait(lambda: not stranger.root.exists())
    app.jobs.close()


def test_the_removal_is_repeated(home: Path, stranger: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "LOOK_EVERY_SECONDS", 0.05)
    retention.begin(Settings(home=home, visitors=True))
    time.sleep(0.2)
    left_behind(Workspace(home / "elsewhere"), 365)
    (home / "owners").mkdir()
    (home / "elsewhere").rename(stranger.root)
    wait(lambda: not stranger.root.exists())


def wait(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)

"""Jobs: trainings that outlive their page and their server, and that say in words how they ended.

Most of them run a stand-in for `gcr_core.memory.build`, put in its place by a sitecustomize.py on PYTHONPATH: what it
does is the recipe's `backbone`, the memory it "makes" is the folder that the recipe names as `clip`.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gcr_core.data.gallery import Gallery
from gcr_core.errors import GcrError, NotFoundError
from gcr_core.files import atomic
from gcr_core.files.atomic import Temporary
from gcr_core.files.layout import undo_folder
from gcr_core.files.locks import locked
from gcr_core.memory.memory import Memory
from gcr_core.serving import job_queue as job_queue_module
from gcr_core.serving.job import DAMAGED, DISK_FULL, HANGS, HUNG, KILLED, LOST, MAX_POINTS, OUT_OF_MEMORY, Job
from gcr_core.serving.job_queue import LOOK_EVERY_SECONDS, JobQueue
from gcr_core.serving.workspace import Workspace, new_id
from gcr_core.settings import Settings
from gcr_core.training.config import Recipe
from tests import patience
from tests.patience import until

ROOT = Path(__file__).parents[3]
OVER = ("stopped", "interrupted", "failed", "done")

STAND_IN = """
import errno, json, os, shutil, subprocess, sys, time, types

def make_memory(gallery, recipe, out, on_progress, checkpoint=None):
    from gcr_core.files.atomic import write_text
    from gcr_core.errors import GalleryError
    from gcr_core.training.progress import Progress
    checkpoint.mkdir(exist_ok=True)
    kept = checkpoint / "step"
    step = int(kept.read_text()) if kept.exists() else 0
    started_at = step
    on_progress(Progress("prepare", step, 100))
    match recipe.backbone:
        case "refuses":
            raise GalleryError("0 of 12 images have a caption: type one in")
        case "fails":
            raise KeyError("no such thing")
        case "finds the disk full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        case "finds the memory full":
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes")
        case "hangs":
            subprocess.Popen([sys.executable, "-c", "while True: pass"])
            while True:
                pass
        case "takes many steps":
            on_progress(Progress("memorise", 1, 10**9))
    steps = 20 if recipe.backbone == "is quick" else 100_000
    try:
        while step < steps:
            step += 1
            time.sleep(0.01)
            on_progress(Progress("memorise", step, steps, 0.01 * (steps - step), 1 / step, step / steps))
            if recipe.backbone == "keeps every step":
                write_text(kept, str(step))
    except Exception:
        write_text(kept, str(step))
        raise
    shutil.copytree(recipe.clip, out)
    return {"images": len(gallery), "went_on_from": started_at}

module = types.ModuleType("gcr_core.memory.build")
vars(module).update(make_memory=make_memory)
sys.modules["gcr_core.memory.build"] = module
"""


class Desk:
    """An owner at a machine whose trainer is the stand-in."""

    def __init__(self, home: Path, gallery: Gallery, memory: Path) -> None:
        self.home, self.memory = home, memory
        self.shelf = Workspace.of(home, None)
        self.gallery, folder = self.shelf.new_gallery()
        gallery.save(folder)
        self.jobs = JobQueue(home)

    def submit(self, behaviour: str, shelf: Workspace | None = None) -> str:
        return self.jobs.submit(shelf or self.shelf, self.gallery, Recipe(behaviour, str(self.memory)), "shapes")

    def status(self, id: str) -> dict[str, Any]:
        return self.jobs.status(self.shelf, id)

    def job(self, id: str) -> Job:
        return Job(self.shelf.folder("jobs", id))

    def wait(self, id: str, *states: str) -> dict[str, Any]:
        """The status once its state is one of these."""
        until(lambda: self.status(id)["state"] in states)
        return self.status(id)

    def wait_for_step(self, id: str, step: int = 1) -> dict[str, Any]:
        until(lambda: self.status(id)["step"] >= step or self.status(id)["state"] in OVER)
        return self.status(id)

    def pid(self, id: str) -> int:
        until(lambda: self.job(id).pid() is not None)
        pid = self.job(id).pid()
        assert pid is not None
        return pid


def group_lives(pid: int) -> bool:
    """Whether any process of a group still uses the machine; one that is only to be reaped does not."""
    done = subprocess.run(["ps", "-eo", "pgid=,stat="], capture_output=True, text=True, check=True)
    return any(line.split()[0] == str(pid) and "Z" not in line.split()[1] for line in done.stdout.splitlines())


@contextmanager
def opened(desk: Desk) -> Iterator[Desk]:
    """The desk; no trainer of it outlives the block."""
    try:
        yield desk
    finally:
        desk.jobs.close()
        jobs = [desk.job(id) for id in desk.shelf.ids("jobs")]
        for job in jobs:
            if job.is_alive():
                os.killpg(desk.pid(job.id), signal.SIGKILL)
        until(lambda: not any(job.is_alive() for job in jobs))


@pytest.fixture
def desk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_gallery: Gallery, tiny_memory_dir: Path
) -> Iterator[Desk]:
    (tmp_path / "stand-in").mkdir()
    (tmp_path / "stand-in" / "sitecustomize.py").write_text(STAND_IN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "stand-in"))
    with opened(Desk(tmp_path / "home", tiny_gallery, tiny_memory_dir)) as desk:
        yield desk


def test_a_job_ends_with_its_memory_on_the_shelf(desk: Desk) -> None:
    id = desk.submit("is quick")
    status = desk.wait(id, *OVER)
    assert (status["state"], status["memory"], status["message"]) == ("done", id, "")
    assert status["report"] == {"images": 12, "went_on_from": 0}
    assert [(memory["id"], memory["name"]) for memory in desk.shelf.memories()] == [(id, "shapes")]
    assert len(Memory.from_pretrained(desk.shelf.memory(id), device="cpu").gallery) == 12
    assert not desk.job(id).checkpoint.exists()
    assert not (desk.job(id).folder / "memory").exists()


def test_the_status_has_the_documented_fields_and_moves(desk: Desk) -> None:
    id = desk.submit("goes on")
    status = desk.wait_for_step(id, 5)
    assert set(status) == {
        "id", "name", "gallery", "recipe", "submitted", "state", "stage", "step", "steps", "looked", "looks",
        "seconds_left", "loss", "memorized", "message", "resumed", "report", "memory", "queue_position",
    }  # fmt: skip
    assert (status["id"], status["name"], status["gallery"]) == (id, "shapes", desk.gallery)
    assert (status["state"], status["stage"], status["steps"]) == ("running", "memorise", 100_000)
    assert status["loss"] == 1 / status["step"]
    assert status["seconds_left"] > 0
    assert (status["report"], status["memory"], status["queue_position"]) == (None, None, None)
    assert json.loads(json.dumps(status)) == status
    desk.wait_for_step(id, status["step"] + 1)


def test_the_losses_of_a_job_are_its_curve(desk: Desk) -> None:
    id = desk.submit("is quick")
    desk.wait(id, "done")
    points = desk.jobs.losses(desk.shelf, id)
    assert list(points[0]) == ["stage", "step", "loss", "memorized"]
    assert [point["step"] for point in points] == sorted({point["step"] for point in points})


def test_a_long_curve_is_thinned_and_a_resumed_one_does_not_turn_back(tmp_path: Path) -> None:
    job = Job(tmp_path)
    steps = [*range(1, 3001), *range(2001, 5001)]
    lines = [json.dumps({"stage": "memorise", "step": step, "loss": 1.0, "memorized": 0.0}) for step in steps]
    (tmp_path / "log.jsonl").write_text("\n".join(lines[:3000]) + '\n{"stage": "mem\n' + "\n".join(lines[3000:]))
    found = [point["step"] for point in job.losses()]
    assert len(found) == MAX_POINTS
    assert found == sorted(set(found))
    assert (found[0], found[-1]) == (1, 5000)


def test_one_job_trains_at_a_time_the_others_wait_in_order(desk: Desk) -> None:
    first, second, third = (desk.submit("goes on") for _ in range(3))
    desk.wait(first, "running")
    assert desk.status(first)["queue_position"] is None
    assert [desk.status(id)["state"] for id in (second, third)] == ["queued", "queued"]
    assert [desk.status(id)["queue_position"] for id in (second, third)] == [1, 2]
    assert [status["id"] for status in desk.jobs.list(desk.shelf)] == [third, second, first]
    desk.jobs.stop(desk.shelf, first)
    desk.wait(second, "running")
    assert desk.status(third)["queue_position"] == 1


@pytest.mark.slow
def test_two_servers_do_not_train_two_at_once(desk: Desk) -> None:
    other = JobQueue(desk.home)
    try:
        ids = [desk.submit("is quick") for _ in range(4)]
        most = 0
        deadline = time.monotonic() + patience.SECONDS
        while not all(desk.status(id)["state"] == "done" for id in ids):
            most = max(most, sum(desk.job(id).is_alive() for id in ids))
            assert not any(desk.status(id)["state"] in ("interrupted", "failed") for id in ids)
            assert time.monotonic() < deadline
        assert most == 1
    finally:
        other.close()


@pytest.mark.slow
def test_other_training_waits_for_the_job_and_the_next_job_for_it(desk: Desk) -> None:
    first = desk.submit("is quick")
    desk.wait(first, "running", "done")
    with desk.jobs.nothing_else_trains(desk.shelf):
        assert desk.status(first)["state"] == "done"
        second = desk.submit("is quick")
        time.sleep(2 * LOOK_EVERY_SECONDS)
        assert desk.status(second)["state"] == "queued"
    desk.wait(second, "done")


def test_stop_writes_a_checkpoint_and_resume_goes_on_from_it(desk: Desk) -> None:
    id = desk.submit("goes on")
    step = desk.wait_for_step(id, 10)["step"]
    desk.jobs.stop(desk.shelf, id)
    assert desk.status(id)["state"] in ("stopping", "stopped")
    status = desk.wait(id, *OVER)
    assert status["state"] == "stopped"
    assert "Resume" in status["message"]
    kept = int((desk.job(id).checkpoint / "step").read_text())
    assert kept >= step
    assert status["resumed"] is None
    desk.jobs.resume(desk.shelf, id)
    assert desk.wait_for_step(id, kept + 1)["state"] in ("running", "queued")
    assert desk.status(id)["message"] == ""
    assert desk.status(id)["resumed"] == status["stage"]


def test_stop_frees_the_cores_of_a_trainer_that_does_not_listen(desk: Desk) -> None:
    id = desk.submit("hangs")
    until(lambda: desk.status(id)["stage"] == "prepare")
    pid = desk.pid(id)
    desk.jobs.stop(desk.shelf, id)
    assert desk.status(id)["state"] == "stopping"
    until(lambda: not group_lives(pid))
    assert desk.wait(id, *OVER)["state"] == "stopped"


def test_a_job_stopped_while_its_process_still_starts_is_stopped(desk: Desk) -> None:
    id = desk.submit("goes on")
    desk.wait(id, "running")
    desk.jobs.stop(desk.shelf, id)
    assert desk.wait(id, *OVER)["state"] == "stopped"


def test_a_job_that_waits_is_stopped_at_once(desk: Desk) -> None:
    first, second = desk.submit("goes on"), desk.submit("goes on")
    desk.wait(first, "running")
    desk.jobs.stop(desk.shelf, second)
    assert desk.status(second)["state"] == "stopped"
    desk.jobs.stop(desk.shelf, first)
    desk.wait(first, "stopped")
    assert desk.status(second)["state"] == "stopped"


def test_stopping_what_is_over_changes_nothing(desk: Desk) -> None:
    id = desk.submit("is quick")
    desk.wait(id, "done")
    desk.jobs.stop(desk.shelf, id)
    assert desk.status(id)["state"] == "done"
    with pytest.raises(GcrError, match="the job is done: only a stopped or interrupted one can be resumed"):
        desk.jobs.resume(desk.shelf, id)


def test_a_killed_trainer_is_interrupted_in_words_and_resumes(desk: Desk) -> None:
    id = desk.submit("keeps every step")
    step = desk.wait_for_step(id, 10)["step"]
    os.kill(desk.pid(id), signal.SIGKILL)
    status = desk.wait(id, *OVER)
    assert (status["state"], status["message"]) == ("interrupted", KILLED)
    assert status["step"] >= step
    desk.jobs.resume(desk.shelf, id)
    assert desk.wait_for_step(id, status["step"] + 1)["state"] in ("running", "queued")


@pytest.mark.parametrize(
    ("behaviour", "state", "message"),
    [
        ("refuses", "failed", "0 of 12 images have a caption: type one in"),
        ("finds the disk full", "interrupted", DISK_FULL),
        ("finds the memory full", "interrupted", OUT_OF_MEMORY),
        ("fails", "interrupted", "the trainer ended with an error (KeyError: 'no such thing'): Resume tries again"),
        (
            "takes many steps",
            "failed",
            "the training takes 1,000,000,000 steps, the limit is 100,000: choose a quicker",
        ),
    ],
)
def test_a_trainer_that_ends_badly_says_why(desk: Desk, behaviour: str, state: str, message: str) -> None:
    status = desk.wait(desk.submit(behaviour), *OVER)
    assert (status["state"], status["message"][: len(message)]) == (state, message)


@pytest.mark.parametrize(
    ("said", "free", "words"),
    [
        ("", 2**30, KILLED),
        ("UserWarning: slow\n  warn(x)\n", 2**30, KILLED),
        ("", 0, DISK_FULL),
        ("Traceback\nMemoryError\n", 2**30, OUT_OF_MEMORY),
        ("terminate called after throwing an instance of 'std::bad_alloc'", 2**30, OUT_OF_MEMORY),
        ("Traceback\nSafetensorError: I/O error: No space left on device", 2**30, DISK_FULL),
        ("Fatal Python error: Segmentation fault", 2**30, "the trainer ended with an error (Fatal Python error"),
    ],
)
def test_a_trainer_that_died_without_a_record_is_read_from_what_it_said_and_from_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, free: int, words: str
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=free))
    job = Job(tmp_path)
    job.create({"name": "x", "gallery": "x", "recipe": {}, "submitted": 0.0})
    job.record("running")
    job.errors.write_text(said)
    status = job.status()
    assert status["state"] == "interrupted"
    assert status["message"].startswith(words)


@pytest.mark.slow
def test_a_suspended_trainer_is_named_ended_and_begun_again_and_given_up_where_it_gets_no_further(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_queue_module, "NAMED_SECONDS", 1.0)
    monkeypatch.setattr(job_queue_module, "SUSPENDED_SECONDS", 3.0)
    first, second = desk.submit("hangs"), desk.submit("is quick")
    beat = 0.0
    for _ in range(2):
        # One that is suspended before its own heart has beaten is ended at once, by the last beat of the one before.
        until(lambda beat=beat: desk.status(first)["state"] == "running" and desk.job(first).last_beat() > beat)  # type: ignore[misc]
        pid = desk.pid(first)
        os.kill(pid, signal.SIGSTOP)
        until(lambda: desk.status(first)["message"] == HANGS)
        assert desk.status(first)["state"] == "running"
        until(lambda pid=pid: not group_lives(pid))  # type: ignore[misc]
        beat = desk.job(first).last_beat()
    until(lambda: desk.status(first)["message"] == HUNG)
    assert desk.status(first)["state"] == "interrupted"
    assert desk.wait(second, *OVER)["state"] == "done"


@pytest.mark.slow
def test_a_server_that_was_suspended_itself_ends_no_trainer(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_queue_module, "SILENT_SECONDS", 2.0)
    monkeypatch.setattr(job_queue_module, "AWAY_SECONDS", 0.0)
    id = desk.submit("goes on")
    desk.wait_for_step(id, 3)
    os.kill(desk.pid(id), signal.SIGSTOP)
    time.sleep(3)
    os.kill(desk.pid(id), signal.SIGCONT)
    desk.wait_for_step(id, desk.status(id)["step"] + 3)
    assert desk.status(id)["state"] == "running"


DAMAGES: dict[str, dict[str, bytes | None]] = {
    "status half written": {"status.json": b'{"state": "que'},
    "status empty": {"status.json": b""},
    "status a list": {"status.json": b'["queued"]'},
    "status of a state that there is not": {"status.json": b'{"state": "elsewhere"}'},
    "step no number": {"status.json": b'{"state": "queued", "step": "ten"}'},
    "status no text": {"status.json": b"\xff\xfe"},
    "config empty": {"config.json": b""},
    "config gone": {"config.json": None},
    "config a list": {"config.json": b"[]"},
    "recipe gone": {"config.json": b'{"name": "x", "gallery": "x", "submitted": 0.0}'},
    "curve of something else": {"log.jsonl": b'[1]\n7\n"x"\n{"step": null}\n\xff\n'},
}


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_job_says_so_and_the_others_go_on(desk: Desk, damage: str) -> None:
    with desk.jobs.nothing_else_trains(desk.shelf):
        first, second = desk.submit("is quick"), desk.submit("is quick")
        for name, data in DAMAGES[damage].items():
            path = desk.job(first).folder / name
            path.write_bytes(data) if data is not None else path.unlink()
    assert desk.wait(second, *OVER)["state"] == "done"
    assert {row["id"] for row in desk.jobs.list(desk.shelf)} == {first, second}
    desk.jobs.losses(desk.shelf, first)
    status = desk.status(first)
    if "config.json" in DAMAGES[damage]:
        assert (status["state"], status["message"]) == ("failed", DAMAGED)
    elif "status.json" in DAMAGES[damage]:
        assert (status["state"], status["message"]) == ("interrupted", LOST)
        desk.jobs.resume(desk.shelf, first)
        assert desk.wait(first, *OVER)["state"] == "done"
    desk.jobs.remove(desk.shelf, first)
    assert [row["id"] for row in desk.jobs.list(desk.shelf)] == [second]


@pytest.mark.parametrize("holds", [b"", b"..", b"../../etc", b"/etc", b"mine/jobs", b"mine/jobs/..", b"\xff", b"mine"])
def test_a_file_of_the_queue_that_names_no_job_is_left_aside(
    desk: Desk, holds: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (desk.jobs.queue / f"{0:020}-{new_id()}").write_bytes(holds)
    assert desk.wait(desk.submit("is quick"), *OVER)["state"] == "done"
    until(lambda: not list(desk.jobs.queue.iterdir()))
    assert capsys.readouterr().err.count("names no job") == 1


def test_a_clock_that_was_set_back_puts_nobody_in_front(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    with desk.jobs.nothing_else_trains(desk.shelf):
        first = desk.submit("is quick")
        monkeypatch.setattr(time, "time_ns", lambda: 10**9)
        second = desk.submit("is quick")
        assert [desk.status(id)["queue_position"] for id in (first, second)] == [0, 1]


def test_other_training_counts_as_a_job(desk: Desk) -> None:
    few = Workspace(desk.shelf.root, replace(Settings(), max_queued_jobs=2))
    with desk.jobs.nothing_else_trains(few):
        desk.submit("is quick", few)
        for begin in (lambda: desk.submit("is quick", few), desk.jobs.nothing_else_trains(few).__enter__):
            with pytest.raises(GcrError, match="2 jobs of yours wait or run, the limit is 2"):
                begin()
    until(lambda: not list(desk.jobs.queue.iterdir()))
    with desk.jobs.nothing_else_trains(few):
        pass


OTHER_SERVER = """
import sys
from pathlib import Path
from gcr_core.serving.job_queue import JobQueue
from gcr_core.serving.workspace import Workspace

jobs = JobQueue(Path(sys.argv[1]))
with jobs.nothing_else_trains(Workspace.of(Path(sys.argv[1]), None)):
    print("trains", flush=True)
    sys.stdin.read()
jobs.close()
"""


def test_of_two_servers_on_one_home_each_counts_what_the_other_trains_and_ends_nothing_of_the_others(
    desk: Desk, tiny_memory_dir: Path
) -> None:
    few = Workspace(desk.shelf.root, replace(desk.shelf.settings, max_queued_jobs=1))
    memory = Path(shutil.copytree(tiny_memory_dir, desk.shelf.root / "memories" / new_id()))
    undo_folder(memory).mkdir()
    command = [sys.executable, "-c", OTHER_SERVER, str(desk.home)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout and server.stdout.readline() == b"trains\n"
        with pytest.raises(GcrError, match="1 jobs of yours wait or run, the limit is 1"):
            desk.submit("is quick", few)
        server.communicate(b"")
    desk.wait(desk.submit("is quick", few), "done")
    assert undo_folder(memory).is_dir()


def test_a_server_that_is_alone_begins_without_what_the_one_before_it_kept_for_itself(
    tmp_path: Path, tiny_memory_dir: Path
) -> None:
    shelf = Workspace.of(tmp_path, None)
    memory = Path(shutil.copytree(tiny_memory_dir, shelf.root / "memories" / new_id()))
    for folder in (memory, memory.parent / new_id()):  # the second was deleted by a server that was killed over it
        undo_folder(folder).mkdir()
    shelf.export(memory.name)
    JobQueue(tmp_path).close()
    assert [path.name for path in memory.parent.iterdir()] == [memory.name]
    assert not (shelf.root / "exports").exists()


def test_a_job_that_a_server_was_killed_over_before_it_was_queued_or_stopped_goes_on_so(desk: Desk) -> None:
    asked, stopped = desk.submit("goes on"), desk.submit("goes on")
    desk.jobs.close()
    for entry in desk.jobs.queue.iterdir():
        entry.unlink()
    for id in (asked, stopped):
        until(lambda id=id: not desk.job(id).is_alive() or desk.job(id).pid())  # type: ignore[misc]
        if desk.job(id).is_alive():
            os.killpg(desk.pid(id), signal.SIGKILL)
        until(lambda id=id: not desk.job(id).is_alive())  # type: ignore[misc]
        desk.job(id).record("queued")
    desk.job(stopped).wish.touch()
    desk.jobs = JobQueue(desk.home)
    assert desk.status(stopped)["state"] == "stopped"
    desk.wait(asked, "running")


def test_what_killed_servers_left_half_written_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "JUST_BEGUN_SECONDS", 0)
    job = tmp_path / "mine" / "jobs" / new_id()
    left = [
        folder / ".a.json.0a1b2c3d" for folder in (tmp_path, tmp_path / "queue", job / "memory", job / "checkpoint")
    ]
    left.append(job / "checkpoint" / "features" / ".a.json.0a1b2c3d")
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    JobQueue(tmp_path).close()
    assert not any(path.exists() for path in left)


def test_a_server_sweeps_temporary_folders_of_the_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left, other = tmp_path / "gcr-drop-x", tmp_path / "other"
    with Temporary("gcr-features-") as living:
        for folder in (left, other, Path(living)):
            folder.mkdir(exist_ok=True)
            (folder / "file").touch()
            os.utime(folder, (0, 0))
        JobQueue(tmp_path / "home").close()
        assert {path.name for path in tmp_path.iterdir()} == {Path(living).name, "other", "home"}


SERVER = """
import sys, time
from pathlib import Path
from gcr_core.serving.job_queue import JobQueue
JobQueue(Path(sys.argv[1]))
print("ready", flush=True)
time.sleep(600)
"""


@pytest.mark.slow
def test_a_killed_server_leaves_its_trainer_to_the_next_one(desk: Desk) -> None:
    desk.jobs.close()
    with subprocess.Popen([sys.executable, "-c", SERVER, str(desk.home)], cwd=ROOT, stdout=subprocess.PIPE) as server:
        assert server.stdout and server.stdout.readline() == b"ready\n"
        running, waiting = desk.submit("goes on"), desk.submit("is quick")
        step = desk.wait_for_step(running, 3)["step"]
        server.kill()
    assert desk.status(running)["state"] == "running"
    desk.wait_for_step(running, step + 20)
    assert desk.status(waiting)["state"] == "queued"
    desk.jobs = JobQueue(desk.home)
    desk.wait_for_step(running, step + 40)
    assert desk.status(running)["state"] == "running"
    desk.jobs.stop(desk.shelf, running)
    assert desk.wait(running, *OVER)["state"] == "stopped"
    assert desk.wait(waiting, *OVER)["state"] == "done"


def test_a_memory_that_was_kept_before_its_trainer_died_is_not_made_again(desk: Desk) -> None:
    id = desk.submit("is quick")
    desk.wait(id, "done")
    until(lambda: not desk.job(id).is_alive())
    desk.job(id).record("running", memory=None, report=None)
    assert desk.status(id)["state"] == "interrupted"
    desk.jobs.resume(desk.shelf, id)
    status = desk.wait(id, *OVER)
    assert (status["state"], status["memory"]) == ("done", id)
    assert len(desk.shelf.memories()) == 1


def test_another_owners_job_is_not_found(desk: Desk) -> None:
    id = desk.submit("goes on")
    stranger = Workspace.of(desk.home, "a stranger's secret")
    assert desk.jobs.list(stranger) == []
    for call in (desk.jobs.status, desk.jobs.losses, desk.jobs.stop, desk.jobs.resume, desk.jobs.remove):
        complaints = []
        for unknown in (id, new_id(), "../../mine/jobs/" + id):
            with pytest.raises(NotFoundError) as refused:
                call(stranger, unknown)
            complaints.append(str(refused.value))
        assert len(set(complaints)) == 1
    with pytest.raises(NotFoundError, match="no such gallery"):
        desk.submit("goes on", stranger)
    assert desk.wait(id, "running")["state"] == "running"


def test_a_running_job_is_not_removed_a_stopped_one_is(desk: Desk) -> None:
    id = desk.submit("goes on")
    desk.wait_for_step(id)
    with pytest.raises(GcrError, match="the job is running: stop it first"):
        desk.jobs.remove(desk.shelf, id)
    desk.jobs.stop(desk.shelf, id)
    until(lambda: not desk.job(id).is_alive())
    desk.jobs.remove(desk.shelf, id)
    assert desk.jobs.list(desk.shelf) == []
    assert list((desk.shelf.root / "jobs").iterdir()) == []


def test_a_job_that_is_done_is_removed_while_its_process_is_still_on_its_way_out(desk: Desk) -> None:
    id = desk.submit("is quick")
    desk.wait(id, "done")
    until(lambda: not desk.job(id).is_alive())
    with locked(desk.job(id).lock):
        desk.jobs.remove(desk.shelf, id)
    assert desk.jobs.list(desk.shelf) == []


def test_removing_a_job_keeps_its_memory(desk: Desk) -> None:
    id = desk.submit("is quick")
    desk.wait(id, "done")
    until(lambda: not desk.job(id).is_alive())
    desk.jobs.remove(desk.shelf, id)
    assert [memory["id"] for memory in desk.shelf.memories()] == [id]


def test_too_many_jobs_are_refused_one_owners_and_all_owners(desk: Desk) -> None:
    few = Workspace(desk.shelf.root, replace(Settings(), max_queued_jobs=2))
    full = Workspace(desk.shelf.root, replace(Settings(), max_queued_jobs_in_all=2))
    desk.submit("goes on", few)
    second = desk.submit("goes on", few)
    for shelf, words in ((few, "2 jobs of yours wait or run, the limit is 2"), (full, "2 jobs in all wait or run")):
        with pytest.raises(GcrError, match=words):
            desk.submit("goes on", shelf)
    desk.jobs.stop(desk.shelf, second)
    desk.submit("goes on", few)
    with pytest.raises(GcrError, match="2 jobs of yours"):
        desk.jobs.resume(few, second)
    assert desk.status(second)["state"] == "stopped"


def test_too_many_pictures_are_refused(desk: Desk) -> None:
    shelf = Workspace(desk.shelf.root, replace(Settings(), max_pictures=11))
    with pytest.raises(GcrError, match=r"^12 pictures were given, the limit is 11: choose fewer$"):
        desk.submit("goes on", shelf)
    assert desk.jobs.list(desk.shelf) == []


def test_a_job_runs_behind_every_other_program(desk: Desk) -> None:
    id = desk.submit("goes on")
    desk.wait_for_step(id)
    assert os.getpriority(os.PRIO_PROCESS, desk.pid(id)) >= 10
    assert os.getsid(desk.pid(id)) == desk.pid(id)
    assert Path(f"/proc/{desk.pid(id)}/oom_score_adj").read_text() == "1000\n"


@pytest.mark.slow
def test_a_real_training_is_stopped_resumed_and_searched(
    tmp_path: Path, tiny_gallery: Gallery, tiny_memory_dir: Path, llava_folder: Path, tiny_clip_dir: Path
) -> None:
    with opened(Desk(tmp_path, tiny_gallery, tiny_memory_dir)) as desk:
        recipe = Recipe(str(llava_folder), str(tiny_clip_dir), preset="quick")
        id = desk.jobs.submit(desk.shelf, desk.gallery, recipe, "shapes")
        until(lambda: desk.status(id)["stage"] == "retrieve" or desk.status(id)["state"] in OVER)
        desk.jobs.stop(desk.shelf, id)
        stopped = desk.wait(id, *OVER)
        assert (stopped["state"], stopped["stage"]) == ("stopped", "retrieve")
        desk.jobs.resume(desk.shelf, id)
        status = desk.wait(id, *OVER)
        assert (status["state"], status["message"], status["report"]["images"]) == ("done", "", 12)
        assert status["step"] == status["steps"] == stopped["steps"]
        stages = [point["stage"] for point in desk.jobs.losses(desk.shelf, id)]
        assert (stages[0], stages[-1]) == ("memorise", "retrieve")
        memory = Memory.from_pretrained(desk.shelf.memory(id), device="cpu")
        assert memory.facts["name"] == "shapes"
        assert memory.search("a red circle")["generative"][0]["file_name"] == "red-circle.png"

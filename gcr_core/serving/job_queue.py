"""Job queue: a machine has one; one job trains at a time, whoever asked and however many servers there are.

Each job trains in a worker, a process of its own that outlives its server, unless the server starts trainings in
another way. The queue is a folder of one small file a job; the lock on `training.lock` is handed to the worker, so that
it falls when the worker dies and whoever looks next starts the next job. All that is known is on the disk: a restarted
server finds everything as it is.
"""

import contextlib
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gcr_core.data.gallery import Gallery
from gcr_core.data.importer import check_count
from gcr_core.errors import GcrError
from gcr_core.files import atomic
from gcr_core.files.locks import locked, try_lock, unlock
from gcr_core.serving.job import (
    INTERRUPTED,
    QUEUED,
    RESUMABLE,
    RUNNING,
    STOPPED,
    STOPPED_WORDS,
    STOPPING,
    Job,
    ended_with,
)
from gcr_core.serving.workspace import Workspace, clean_name, new_id
from gcr_core.settings import ROOT
from gcr_core.training.config import Recipe

Rows = list[dict[str, Any]]
Paths = list[Path]
Starter = Callable[[Job, int, int], None]
"""Starts a job's training, which keeps descriptors of both locks, the job's and the machine's, until it has ended."""

LOOK_EVERY_SECONDS = 0.25
"""How often a server looks what is to be ended or started."""
STOP_SECONDS = 1.5
"""How long a worker that is to stop may take to write a checkpoint; then it is killed."""
SILENT_SECONDS = 300.0
"""A worker whose heartbeat is older than this is killed."""


class JobQueue:
    """The queue below a home folder, looked after by a thread of this object until `close`."""

    def __init__(self, home: Path, start: Starter | None = None) -> None:
        """`start` takes the place of a worker for each job."""
        self.home = Path(home)
        self.queue = self.home / "queue"
        self.queue.mkdir(parents=True, exist_ok=True)
        self._sweep()
        self._sweep_again = time.monotonic() + 2 * atomic.JUST_BEGUN_SECONDS
        self._lock = threading.Lock()
        self._wake, self._closed = threading.Event(), False
        self._begin = start or self._start_process
        self._children: list[subprocess.Popen[bytes]] = []
        self._beats: dict[str, tuple[float, float]] = {}
        self._thread = threading.Thread(target=self._look_after, name="jobs", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Looks after the queue no more; a worker that runs goes on."""
        self._closed = True
        self._wake.set()
        self._thread.join()

    @contextlib.contextmanager
    def nothing_else_trains(self) -> Iterator[None]:
        """Lets no job train while the block lasts, which waits until the job that trains has ended."""
        with locked(self.home / "training.lock"):
            yield
        self._wake.set()

    def submit(self, workspace: Workspace, gallery_id: str, recipe: Recipe, name: str) -> str:
        """Queues the training of a memory of a gallery; returns the job's id, which will be the memory's too.

        Raises NotFoundError, GalleryError for too many pictures, GcrError where too many jobs wait.
        """
        name = clean_name(name)
        check_count(len(Gallery.load(workspace.gallery(gallery_id))), workspace.settings.max_pictures)
        workspace.check_upload(0)
        with self._lock:
            self._check_queue(workspace)
            id = new_id()
            with atomic.new_folder(workspace.root / "jobs" / id) as folder:
                asked = {"name": name, "gallery": gallery_id, "recipe": asdict(recipe), "submitted": time.time()}
                Job(folder).create(asked)
            self._enqueue(workspace, id)
        return id

    def status(self, workspace: Workspace, id: str) -> dict[str, Any]:
        """Where a job stands. Raises NotFoundError.

        {"id", "name", "gallery", "recipe", "submitted", "state", "stage", "step", "steps", "looked" and "looks" in the
        stage "look", "seconds_left", "loss", "memorized", "message", "report", "memory", "queue_position": jobs before
        it, None unless it waits}.
        """
        status = self._job(workspace, id).status()
        before = [path.name.endswith(f"-{id}") for path in self._entries()]
        waits = status["state"] == QUEUED and True in before
        return status | {"queue_position": before.index(True) if waits else None}

    def list(self, workspace: Workspace) -> Rows:
        """The statuses of all jobs of an owner, the newest first."""
        statuses = [self.status(workspace, id) for id in workspace.ids("jobs")]
        return sorted(statuses, key=lambda status: status["submitted"], reverse=True)

    def losses(self, workspace: Workspace, id: str) -> Rows:
        """The loss curve: at most 400 of {"stage", "step", "loss", "memorized"}. Raises NotFoundError."""
        return self._job(workspace, id).losses()

    def stop(self, workspace: Workspace, id: str) -> None:
        """Stops a job that waits or runs: its cores are free within 3 s. Raises NotFoundError."""
        job = self._job(workspace, id)
        with self._lock:
            state = job.status()["state"]
            if state in (QUEUED, RUNNING):
                job.wish.touch()
            if state == QUEUED:
                self._dequeue(id)
                job.record(STOPPED, message=STOPPED_WORDS)

    def resume(self, workspace: Workspace, id: str) -> None:
        """Queues a stopped or interrupted job anew; it goes on from its last checkpoint.

        Raises NotFoundError, GcrError for a job in another state or where too many jobs wait.
        """
        job = self._job(workspace, id)
        with self._lock:
            state = job.status()["state"]
            if state not in RESUMABLE:
                raise GcrError(f"the job is {state}: only a stopped or interrupted one can be resumed")
            self._dequeue(id)
            self._check_queue(workspace)
            job.wish.unlink(missing_ok=True)
            job.record(QUEUED, message="")
            self._enqueue(workspace, id)

    def remove(self, workspace: Workspace, id: str) -> None:
        """Forgets a job, its memory stays. Raises NotFoundError, GcrError for one that runs."""
        job = self._job(workspace, id)
        with self._lock:
            if job.status()["state"] in (RUNNING, STOPPING):
                raise GcrError("the job is running: stop it first")
            self._dequeue(id)
            atomic.remove(job.folder)

    def _job(self, workspace: Workspace, id: str) -> Job:
        return Job(workspace.folder("jobs", id))

    def _entries(self) -> Paths:
        """The queue's files, the next first; each holds a job's folder, relative to home."""
        return sorted(path for path in self.queue.iterdir() if not path.name.startswith("."))

    def _enqueue(self, workspace: Workspace, id: str) -> None:
        folder = (workspace.root / "jobs" / id).relative_to(self.home)
        atomic.write_text(self.queue / f"{time.time_ns():020}-{id}", folder.as_posix())
        self._wake.set()

    def _dequeue(self, id: str) -> None:
        for path in self._entries():
            if path.name.endswith(f"-{id}"):
                path.unlink(missing_ok=True)

    def _queued(self) -> Iterator[tuple[Path, Job]]:
        """The queue's files with their jobs; files of jobs that are gone are taken away."""
        for path in self._entries():
            with contextlib.suppress(FileNotFoundError):
                job = Job(self.home / path.read_text(encoding="utf-8"))
                if job.folder.is_dir():
                    yield path, job
                else:
                    path.unlink()

    def _check_queue(self, workspace: Workspace) -> None:
        jobs = [job for _, job in self._queued()]
        own = sum(job.folder.is_relative_to(workspace.root) for job in jobs)
        settings = workspace.settings
        for count, limit, whose in (
            (own, settings.max_queued_jobs, "of yours"),
            (len(jobs), settings.max_queued_jobs_in_all, "in all"),
        ):
            if count >= limit:
                raise GcrError(f"{count} jobs {whose} wait or run, the limit is {limit}: wait until one has ended")

    def _look_after(self) -> None:
        while not self._closed:
            self._wake.wait(LOOK_EVERY_SECONDS)
            self._wake.clear()
            try:
                self._look()
            except Exception as error:
                print(f"gcr_core: the queue of jobs: {error!r}", file=sys.stderr)
                time.sleep(1)

    def _sweep(self) -> None:
        """Removes what killed processes left in all workspaces."""
        self._sweep_again = math.inf
        for root in (self.home / "mine", *self.home.glob("owners/*")):
            Workspace(root).sweep()

    def _look(self) -> None:
        """Ends what is to end; where nothing trains, starts the next job."""
        if time.monotonic() > self._sweep_again:
            self._sweep()
        self._children = [child for child in self._children if child.poll() is None]
        with self._lock:
            for _, job in self._queued():
                if self._is_overdue(job) or self._is_silent(job):
                    _kill(job)
            machine = try_lock(self.home / "training.lock")
            if machine is None:
                return
            started = False
            try:
                started = self._start_next(machine)
            finally:
                (os.close if started else unlock)(machine)

    def _start_next(self, machine: int) -> bool:
        """Starts the first job that waits, if there is one; as nothing trains, those before it are over."""
        for path, job in self._queued():
            status = job.status()
            if status["state"] == QUEUED:
                return self._start(job, machine)
            job.record(status["state"], message=status["message"])
            path.unlink(missing_ok=True)
        return False

    def _start(self, job: Job, machine: int) -> bool:
        """Starts the job's training and leaves it both locks, its own and the machine's; whether that went well."""
        own = try_lock(job.lock)
        if own is None:
            return False
        started = False
        try:
            atomic.sweep(job.folder)
            os.ftruncate(own, 0)
            job.record(RUNNING, stage="prepare", seconds_left=None, message="")
            self._beats.pop(job.id, None)
            self._begin(job, own, machine)
            started = True
        except OSError as error:
            job.record(INTERRUPTED, message=job.cause(str(error)) or ended_with(str(error)))
        finally:
            (os.close if started else unlock)(own)
        return started

    def _start_process(self, job: Job, own: int, machine: int) -> None:
        with job.errors.open("wb") as errors:
            child = subprocess.Popen(
                [sys.executable, "-m", "gcr_core.serving.worker", str(job.folder)],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                start_new_session=True,
                pass_fds=(own, machine),
            )
        self._children.append(child)

    def _is_overdue(self, job: Job) -> bool:
        with contextlib.suppress(FileNotFoundError):
            return time.time() - job.wish.stat().st_mtime > STOP_SECONDS
        return False

    def _is_silent(self, job: Job) -> bool:
        """Whether its heart has not beaten while this process was awake to see it."""
        beat, now = job.last_beat(), time.monotonic()
        last, since = self._beats.get(job.id, (None, now))
        if beat != last:
            self._beats[job.id] = (beat, now)
            return False
        return now - since > SILENT_SECONDS


def _kill(job: Job) -> None:
    """Kills the job's process with all that it started; its lock says that the id is still its own."""
    pid = job.pid()
    if pid is not None and job.is_alive():
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)

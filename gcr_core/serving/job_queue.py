"""Job queue: a machine has one; one job trains at a time, whoever asked and however many servers there are.

Each job trains in a worker, a process of its own that outlives its server, unless the server starts trainings in
another way. The queue is a folder of one small file a job; the lock on `training.lock` is handed to the worker, so that
it falls when the worker dies and whoever looks next starts the next job. All that is known is on the disk: a restarted
server finds everything as it is. A trainer that gives no sign of life is named so, ended, and begun again from its
checkpoint. What is damaged is left aside with a line on stderr and stops nobody.
"""

import contextlib
import math
import os
import re
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
from gcr_core.data.sources import check_count
from gcr_core.errors import GcrError, NotFoundError
from gcr_core.files import atomic
from gcr_core.files.claims import Claims
from gcr_core.files.locks import is_suspended, lock_shared, locked, try_lock, unlock
from gcr_core.serving.job import (
    HANGS,
    HUNG,
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
PLACE = re.compile(r"(mine|owners/[0-9a-f]{64})/jobs/(?P<id>[A-Za-z0-9_-]{12})")
"""What a file of the queue holds."""
NAMED_SECONDS = 8.0
"""A worker whose heart has not beaten for so long is said to give no sign of life."""
SUSPENDED_SECONDS = 16.0
"""After so long it is ended where the system says that it is suspended."""
SILENT_SECONDS = 120.0
"""After so long it is ended in any case; a crowded machine, or a library that holds the interpreter, lets it wait."""
AWAY_SECONDS = 5.0
"""A server that has not looked for so long was suspended itself, and has seen no heart stand still."""
TEMPORARY = ("gcr-drop-", "gcr-features-")
"""How the names of this project's temporary folders begin."""


class JobQueue:
    """The queue below a home folder, looked after by a thread of this object until `close`."""

    def __init__(self, home: Path, start: Starter | None = None) -> None:
        """`start` takes the place of a worker for each job."""
        self.home = Path(home)
        self.queue = self.home / "queue"
        self.queue.mkdir(parents=True, exist_ok=True)
        self._sweep()
        self._here, alone = lock_shared(self.home / "servers.lock")
        for workspace in self._workspaces() if alone else ():
            workspace.drop_passing()
        self._sweep_again = time.monotonic() + 2 * atomic.JUST_BEGUN_SECONDS
        self._lock = threading.Lock()
        self._wake, self._closed = threading.Event(), False
        self._begin = start or self._start_process
        self._children: list[subprocess.Popen[bytes]] = []
        self._beats: dict[str, tuple[float, float]] = {}
        self._wishes: dict[str, float] = {}
        self._looked = time.monotonic()
        self._others = Claims(self.home / "under-way" / "jobs")
        self._queue_again()
        self._thread = threading.Thread(target=self._look_after, name="jobs", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Looks after the queue no more; a worker that runs goes on."""
        self._closed = True
        self._wake.set()
        self._thread.join()
        unlock(self._here)

    @contextlib.contextmanager
    def nothing_else_trains(self, workspace: Workspace) -> Iterator[None]:
        """Lets no job train while the block lasts, which waits until the job that trains has ended.

        It counts as a job of the owner's. Raises GcrError where too many jobs wait.
        """
        with self._counted(workspace):
            other = self._others.take(workspace.root.name)
        try:
            with locked(self.home / "training.lock"):
                yield
        finally:
            other.give_back()
            self._wake.set()

    def submit(self, workspace: Workspace, gallery_id: str, recipe: Recipe, name: str) -> str:
        """Queues the training of a memory of a gallery; returns the job's id, which will be the memory's too.

        Raises NotFoundError, GalleryError for too many pictures, GcrError where too many jobs wait.
        """
        name = clean_name(name)
        check_count(len(Gallery.load(workspace.gallery(gallery_id))), workspace.settings.max_pictures)
        workspace.check_upload(0)
        with self._lock, self._counted(workspace):
            id = new_id()
            with atomic.new_folder(workspace.root / "jobs" / id) as folder:
                asked = {"name": name, "gallery": gallery_id, "recipe": asdict(recipe), "submitted": time.time()}
                Job(folder).create(asked)
            self._enqueue(workspace, id)
        return id

    def status(self, workspace: Workspace, id: str) -> dict[str, Any]:
        """Where a job stands. Raises NotFoundError.

        {"id", "name", "gallery", "recipe", "submitted", "state", "stage", "step", "steps", "looked" and "looks" in the
        stage "look", "seconds_left", "loss", "memorized", "message", "resumed": the stage in which it was stopped,
        "report", "memory", "queue_position": jobs before it, None unless it waits}.
        """
        status = self._job(workspace, id).status()
        before = [path.name.endswith(f"-{id}") for path in self._entries()]
        waits = status["state"] == QUEUED and True in before
        if status["state"] == RUNNING and self._is_silent(self._job(workspace, id)):
            status["message"] = HANGS
        return status | {"queue_position": before.index(True) if waits else None}

    def list(self, workspace: Workspace) -> Rows:
        """The statuses of all jobs of an owner, the newest first."""
        statuses = []
        for id in workspace.ids("jobs"):
            with contextlib.suppress(NotFoundError):  # one that is removed at this moment
                statuses.append(self.status(workspace, id))
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
            with self._counted(workspace):
                job.wish.unlink(missing_ok=True)
                (job.folder / "hung-before").unlink(missing_ok=True)
                job.record_again()
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
        return sorted(path for path in self.queue.iterdir() if not path.name.startswith(".") and path.is_file())

    def _enqueue(self, workspace: Workspace, id: str) -> None:
        folder = (workspace.root / "jobs" / id).relative_to(self.home)
        numbers = [int(path.name[:20]) for path in self._entries() if path.name[:20].isdigit()]
        number = max([time.time_ns(), *(number + 1 for number in numbers)])  # last, wherever the clock has been set to
        atomic.write_text(self.queue / f"{number:020}-{id}", folder.as_posix())
        self._wake.set()

    def _dequeue(self, id: str) -> None:
        for path in self._entries():
            if path.name.endswith(f"-{id}"):
                path.unlink(missing_ok=True)

    def _queued(self) -> Iterator[tuple[Path, Job]]:
        """The queue's files with their jobs; files of jobs that are gone, and damaged ones, are taken away."""
        for path in self._entries():
            with contextlib.suppress(FileNotFoundError):
                named = PLACE.fullmatch(path.read_text(encoding="utf-8", errors="replace"))
                if named is None or not path.name.endswith(f"-{named['id']}"):
                    print(f"gcr_core: {path} names no job and is left aside", file=sys.stderr)
                    path.unlink()
                elif (self.home / named[0]).is_dir():
                    yield path, Job(self.home / named[0])
                else:
                    path.unlink()

    def _queue_again(self) -> None:
        """Queues what a server was killed over: a job that is recorded to wait and does not."""
        with self._others.counted():  # nobody begins one meanwhile
            queued = {job.folder for _, job in self._queued()}
            for workspace in self._workspaces():
                for job in (Job(workspace.root / "jobs" / id) for id in workspace.ids("jobs")):
                    if job.folder in queued or job.recorded()["state"] != QUEUED:
                        continue
                    if job.wish.exists():
                        job.record(STOPPED, message=STOPPED_WORDS)
                    else:
                        self._enqueue(workspace, job.id)

    @contextlib.contextmanager
    def _counted(self, workspace: Workspace) -> Iterator[None]:
        """Lets no server count or begin jobs while the block begins one. Raises GcrError where too many wait or run."""
        with self._others.counted() as others:
            owners = [job.folder.parents[1].name for _, job in self._queued()] + [other.owner for other in others]
            settings = workspace.settings
            for count, limit, whose in (
                (owners.count(workspace.root.name), settings.max_queued_jobs, "of yours"),
                (len(owners), settings.max_queued_jobs_in_all, "in all"),
            ):
                if count >= limit:
                    raise GcrError(f"{count} jobs {whose} wait or run, the limit is {limit}: wait until one has ended")
            yield

    def _look_after(self) -> None:
        said = ""
        while not self._closed:
            self._wake.wait(LOOK_EVERY_SECONDS)
            self._wake.clear()
            try:
                self._look()
                said = ""
            except Exception as error:
                if repr(error) != said:  # as long as a disk is full it is said once
                    said = repr(error)
                    print(f"gcr_core: the queue of jobs: {said}", file=sys.stderr)
                time.sleep(1)

    def _sweep(self) -> None:
        """Removes what killed processes left in the home, in all workspaces and in the temporary folder."""
        self._sweep_again = math.inf
        for folder in (self.home, self.queue):
            atomic.sweep(folder)
        for prefix in TEMPORARY:
            atomic.sweep_temporary(prefix)
        for workspace in self._workspaces():
            workspace.sweep()

    def _workspaces(self) -> Iterator[Workspace]:
        return (Workspace(root) for root in (self.home / "mine", *self.home.glob("owners/*")))

    def _look(self) -> None:
        """Ends what is to end; where nothing trains, starts the next job."""
        if time.monotonic() > self._sweep_again:
            self._sweep()
        self._children = [child for child in self._children if child.poll() is None]
        now = time.monotonic()
        if now - self._looked > AWAY_SECONDS:
            self._beats.clear()
        self._looked = now
        with self._lock:
            for _, job in self._queued():
                self._watch(job)
            machine = try_lock(self.home / "training.lock")
            if machine is None:
                return
            started = False
            try:
                started = self._start_next(machine)
            finally:
                (os.close if started else unlock)(machine)

    def _start_next(self, machine: int) -> bool:
        """Starts the first job that waits, if there is one; as nothing trains, those before it are over.

        One that hung is queued anew, unless it has got no further since it hung before.
        """
        for path, job in self._queued():
            status = job.status()
            if status["state"] == INTERRUPTED and job.hung.exists():
                status = self._after_hanging(job)
            if status["state"] == QUEUED:
                return self._start(job, machine)
            job.record(status["state"], message=status["message"])
            path.unlink(missing_ok=True)
        return False

    def _after_hanging(self, job: Job) -> dict[str, Any]:
        before = job.folder / "hung-before"
        if before.exists() and before.read_bytes() == job.hung.read_bytes():
            job.record(INTERRUPTED, message=HUNG)
            job.hung.unlink()
        else:
            job.record_again()
            job.hung.replace(before)
        return job.status()

    def _start(self, job: Job, machine: int) -> bool:
        """Starts the job's training and leaves it both locks, its own and the machine's; whether that went well."""
        own = try_lock(job.lock)
        if own is None:
            return False
        started = False
        try:
            atomic.sweep(job.folder)
            os.ftruncate(own, 0)
            (job.folder / "heartbeat").unlink(missing_ok=True)
            job.record(RUNNING, stage="prepare", seconds_left=None, message="")
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
        os.write(own, str(child.pid).encode())  # what it writes itself, once it has begun
        self._children.append(child)

    def _watch(self, job: Job) -> None:
        """Ends a worker that was to stop and has not, and one whose heart has stood still for too long."""
        now, beat = time.monotonic(), job.last_beat()
        if not job.is_alive():
            self._beats.pop(job.id, None)
            self._wishes.pop(job.id, None)
            return
        if job.wish.exists() and now - self._wishes.setdefault(job.id, now) > STOP_SECONDS:
            _kill(job)
            return
        if beat != self._beats.get(job.id, (None,))[0]:
            self._beats[job.id] = beat, now
        silence = now - self._beats[job.id][1]
        long = silence > SILENT_SECONDS or (silence > SUSPENDED_SECONDS and is_suspended(job.pid()))
        if long and job.pid() is not None:
            step = job.recorded()["step"]
            print(f"gcr_core: the trainer of {job.id} hung for {silence:.0f} s at step {step}", file=sys.stderr)
            atomic.write_text(job.hung, str(step))
            _kill(job)

    def _is_silent(self, job: Job) -> bool:
        """Whether this process, awake, has not seen a worker's heart beat for a while; one that starts takes long."""
        beat, since = self._beats.get(job.id, (0.0, math.inf))
        return time.monotonic() - since > NAMED_SECONDS and (beat > 0 or is_suspended(job.pid()))


def _kill(job: Job) -> None:
    """Kills the job's process with all that it started; its lock says that the id is still its own."""
    pid = job.pid()
    if pid is not None and job.is_alive():
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)

"""Worker: the process that trains one job, `python -m gcr_core.serving.worker JOB_FOLDER`, in a session of its own.

Whatever happens to it, the job's folder says so: it records its progress and its end, and the lock that it was given
falls when it dies. The file `stop`, or SIGTERM, asks it to write a checkpoint and leave. `train` is also for those who
train a job in slices of time. Knows nothing about the queue, nor about whoever started it.
"""

import contextlib
import json
import math
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gcr_core.data.gallery import Gallery
from gcr_core.errors import GcrError
from gcr_core.memory.manifest import read_manifest
from gcr_core.runtime import collect_seldom, keep_quiet, step_back
from gcr_core.serving.job import DONE, FAILED, INTERRUPTED, RUNNING, STOPPED, STOPPED_WORDS, Job, ended_with
from gcr_core.training.config import Recipe

if TYPE_CHECKING:
    from gcr_core.training.progress import Progress

BEAT_SECONDS = 1.0
"""How often the heartbeat is renewed."""
RECORD_EVERY_SECONDS = 0.25
"""How often progress within a stage is written down."""
SHARD_BATCHES = 8
"""In so many batches of a frozen vision tower at least one shard of features is completed and written."""


class Stopped(Exception):  # noqa: N818 - a wish, no error
    """Somebody asked the training to stop."""


class Paused(Exception):  # noqa: N818 - a rest, no error
    """The time that the training had is over; it goes on from its checkpoint."""


class Record:
    """Writes a training's progress into the job's folder, a few times a second; the place where it is stopped."""

    def __init__(self, job: Job, until: float = math.inf) -> None:
        """`until`: when its time is over, on the monotonic clock."""
        self.job, self.max_steps, self.until = job, job.workspace.settings.max_steps, until
        self._stage, self._written, self._worked = "", 0.0, 0
        log = job.folder / "log.jsonl"
        self._log = log.open("a", encoding="utf-8", buffering=1)
        if log.stat().st_size:
            self._log.write("\n")

    def __call__(self, progress: "Progress") -> None:
        """Raises Stopped where that was asked for, GcrError for more steps than the settings allow, and Paused once the
        time is over: not before a step is done or a shard of features kept, nor before what was measured is saved."""
        if self.job.wish.exists():
            raise Stopped
        if self._worked > SHARD_BATCHES and time.monotonic() > self.until and progress.stage != "save":
            raise Paused
        self._worked += SHARD_BATCHES + 1 if progress.loss is not None else progress.stage == "look"
        if progress.steps > self.max_steps:
            raise GcrError(
                f"the training takes {progress.steps:,} steps, the limit is {self.max_steps:,}: "
                "choose a quicker preset or fewer pictures"
            )
        now = time.monotonic()
        if progress.stage == self._stage and now - self._written < RECORD_EVERY_SECONDS:
            return
        self._stage, self._written = progress.stage, now
        point = {key: getattr(progress, key) for key in ("stage", "step", "loss", "memorized")}
        known = {key: value for key, value in point.items() if value is not None}
        if progress.stage == "prepare":
            # A training that goes on stands where it stood.
            del known["step"]
        looks = {"looked": progress.looked, "looks": progress.looks}
        self.job.record(RUNNING, **known, **looks, steps=progress.steps, seconds_left=progress.seconds_left)
        if progress.loss is not None:
            self._log.write(json.dumps(point) + "\n")


def main(folder: Path) -> None:
    """Trains what the job's folder asks for, as a process that may be told to stop by a signal."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: job.wish.touch())
    job = Job(folder)
    with beating(job):
        job.lock.write_text(str(os.getpid()))
        step_back()
        train(job)


def train(job: Job, until: float = math.inf) -> bool:
    """Trains what a job asks for and records how it ended; False where its time was over before that."""
    try:
        with recorded_end(job):
            report = _train(job, until)
            shutil.rmtree(job.checkpoint, ignore_errors=True)
            steps = job.recorded()["steps"]
            job.record(DONE, memory=job.id, report=report, step=steps, seconds_left=0.0)
    except Paused:
        return False
    return True


@contextlib.contextmanager
def recorded_end(job: Job) -> Iterator[None]:
    """Records why the block did not end well, if it did not. Only Paused comes out of it."""
    try:
        yield
    except Paused:
        raise
    except Stopped:
        job.record(STOPPED, message=STOPPED_WORDS)
    except GcrError as error:
        job.record(FAILED, message=str(error))
    except Exception as error:
        traceback.print_exc()
        said = f"{type(error).__name__}: {error}"
        job.record(INTERRUPTED, message=job.cause(said) or ended_with(said))


def _train(job: Job, until: float) -> dict[str, Any]:
    """The report of the training, its memory in the workspace under the job's id."""
    if job.wish.exists():
        raise Stopped
    if job.id in job.workspace.ids("memories"):
        return read_manifest(job.workspace.memory(job.id)).get("training", {})
    from gcr_core.memory import build

    gallery = Gallery.load(job.workspace.gallery(job.config["gallery"]))
    recipe = Recipe(**job.config["recipe"])
    made = job.folder / "memory"
    report = build.make_memory(gallery, recipe, made, Record(job, until), job.checkpoint)
    job.workspace.keep(made, job.id, job.config["name"])
    return report


@contextlib.contextmanager
def beating(job: Job) -> Iterator[None]:
    """Lets the job's heart beat for as long as the block lasts."""
    over = threading.Event()
    (job.folder / "heartbeat").touch()

    def beat() -> None:
        while not over.is_set():
            with contextlib.suppress(OSError):
                (job.folder / "heartbeat").touch()
            over.wait(BEAT_SECONDS)

    threading.Thread(target=beat, daemon=True).start()
    try:
        yield
    finally:
        over.set()


if __name__ == "__main__":
    collect_seldom()
    keep_quiet()
    main(Path(sys.argv[1]))

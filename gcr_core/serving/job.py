"""Job: the folder of one training, through which its process and the page know of each other.

`config.json` says what was asked, `status.json` where it stands, `log.jsonl` how the loss fell; `heartbeat` is touched
every second; `stop` asks it to stop; `errors.txt` is its stderr; `checkpoint/` is what it goes on from. `lock`, which
holds its process id, is locked by the process for as long as it lives; `hung` holds the step at which a process was
ended that gave no sign of life. A file that is damaged makes the job one that has ended, in words, and stops nobody
else's. Starts and ends no process.
"""

import contextlib
import json
import shutil
from functools import cached_property
from pathlib import Path
from types import NoneType
from typing import Any

from gcr_core.errors import DISK_SIGNS, MEMORY_SIGNS, GcrError, NotFoundError
from gcr_core.files.atomic import write_text
from gcr_core.files.locks import is_locked
from gcr_core.serving.workspace import Workspace

QUEUED, RUNNING, STOPPING, STOPPED = "queued", "running", "stopping", "stopped"
INTERRUPTED, FAILED, DONE = "interrupted", "failed", "done"
"""The states of a job. "stopping" is told where a running job was asked to stop; it is never recorded."""
RECORDED = (QUEUED, RUNNING, STOPPED, INTERRUPTED, FAILED, DONE)
UNFINISHED = (QUEUED, RUNNING, STOPPING)
RESUMABLE = (STOPPED, INTERRUPTED)

STOPPED_WORDS = "stopped; Resume goes on from the last checkpoint"
KILLED = (
    "the trainer was killed, perhaps for want of memory: close other programs or choose fewer pictures, then Resume"
)
OUT_OF_MEMORY = "the trainer ran out of memory: close other programs or choose fewer pictures, then Resume"
DISK_FULL = "the disk is full: delete memories or other files, then Resume"
HANGS = "the trainer gives no sign of life: if that goes on it is ended, and goes on from its last checkpoint"
HUNG = "the trainer hung and was ended, twice at the same step: Resume tries again from the last checkpoint"
LOST = "what this training had reached cannot be read, as after a power cut: Resume goes on from the last checkpoint"
DAMAGED = "what was asked of this training cannot be read, as after a power cut: give it up and memorise anew"
FULL_BYTES = 16 * 2**20
"""Where the disk has less free, a worker that died silently is taken to have died of that."""
SHOWN_CHARACTERS = 300
"""The most characters of an error that are shown."""
MAX_POINTS = 400
"""The most points of a loss curve."""

STARTING: dict[str, Any] = {
    "stage": None,
    "step": 0,
    "steps": 0,
    "looked": None,
    "looks": None,
    "seconds_left": None,
    "loss": None,
    "memorized": None,
    "message": "",
    "resumed": None,
    "report": None,
    "memory": None,
}
KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("step", "steps"), (int,)),
    **dict.fromkeys(("looked", "looks"), (int, NoneType)),
    **dict.fromkeys(("seconds_left", "loss", "memorized"), (int, float, NoneType)),
    **dict.fromkeys(("stage", "resumed", "memory"), (str, NoneType)),
    "message": (str,),
    "report": (dict, NoneType),
}
"""What each of these may be; anything else was written by a disk, not by a job."""
ASKED: dict[str, tuple[type, ...]] = {"name": (str,), "gallery": (str,), "recipe": (dict,), "submitted": (int, float)}
"""The same for what was asked."""


class Job:
    """One job's folder, `workspace.root/jobs/ID`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.id = folder.name
        self.checkpoint, self.errors, self.lock = folder / "checkpoint", folder / "errors.txt", folder / "lock"
        self.wish, self.hung = folder / "stop", folder / "hung"

    @cached_property
    def config(self) -> dict[str, Any]:
        """{"name", "gallery": its id, "recipe": its fields, "submitted": seconds since 1970}. Raises GcrError."""
        config = _read(self.folder / "config.json")
        if not _is_made_of(config, ASKED) or not config.keys() >= ASKED.keys():
            raise GcrError(DAMAGED)
        return config

    @property
    def workspace(self) -> Workspace:
        return Workspace(self.folder.parents[1])

    def create(self, config: dict[str, Any]) -> None:
        """Writes what was asked and "queued" into the new folder."""
        write_text(self.folder / "config.json", json.dumps(config))
        self.record(QUEUED)

    def recorded(self) -> dict[str, Any]:
        """What was written last: "state" and the fields of STARTING."""
        path = self.folder / "status.json"
        status = _read(path)
        if _is_made_of(status, KINDS) and status.get("state") in RECORDED:
            return STARTING | status
        return STARTING | ({"state": INTERRUPTED, "message": LOST} if path.exists() else {"state": QUEUED})

    def record(self, state: str, **facts: Any) -> None:
        """Writes the state, and what else has changed."""
        before = self.recorded()
        known = STARTING if before["message"] == LOST else before
        write_text(self.folder / "status.json", json.dumps(known | {"state": state} | facts))

    def record_again(self) -> None:
        """Writes that it is queued anew, and in which stage it ended."""
        before = self.recorded()
        reached = before["resumed"] if before["stage"] in (None, "prepare") else before["stage"]
        self.record(QUEUED, message="", resumed=reached)

    def status(self) -> dict[str, Any]:
        """Where the job stands at this moment: what was recorded, and whether its process lives.

        Raises NotFoundError where it was removed meanwhile.
        """
        try:
            asked = {key: self.config[key] for key in ASKED}
        except GcrError as damage:
            if not self.folder.is_dir():
                raise NotFoundError("there is no such job any more: reload the page") from None
            nothing = {"name": self.id, "gallery": "", "recipe": {}, "submitted": 0.0}
            return {"id": self.id} | nothing | STARTING | {"state": FAILED, "message": str(damage)}
        status = self.recorded()
        if status["state"] == RUNNING and self.is_alive():
            status["state"] = STOPPING if self.wish.exists() else RUNNING
        elif status["state"] == RUNNING:
            # The process may have recorded its end since the first look.
            status = self.recorded()
            if status["state"] == RUNNING:
                stopped = self.wish.exists()
                status["state"] = STOPPED if stopped else INTERRUPTED
                status["message"] = STOPPED_WORDS if stopped else self._last_words()
        return {"id": self.id} | asked | status

    def is_alive(self) -> bool:
        return is_locked(self.lock)

    def pid(self) -> int | None:
        """The id of the process, and of its process group; None where it has not said so yet."""
        text = self.lock.read_bytes() if self.lock.exists() else b""
        return int(text) if text.isdigit() else None

    def last_beat(self) -> float:
        """When the process last touched `heartbeat`; 0.0 where it never did."""
        with contextlib.suppress(FileNotFoundError):
            return (self.folder / "heartbeat").stat().st_mtime
        return 0.0

    def losses(self) -> list[dict[str, Any]]:
        """At most MAX_POINTS of {"stage", "step", "loss", "memorized"}, the last one among them, steps rising."""
        points: list[dict[str, Any]] = []
        with contextlib.suppress(FileNotFoundError):
            for line in (self.folder / "log.jsonl").read_text(encoding="utf-8", errors="replace").splitlines():
                with contextlib.suppress(ValueError, TypeError, KeyError):
                    point = json.loads(line)
                    # A resumed training does again what came after its checkpoint.
                    while points and points[-1]["step"] >= point["step"]:
                        points.pop()
                    points.append(point)
        if len(points) <= MAX_POINTS:
            return points
        return [points[round(i * (len(points) - 1) / (MAX_POINTS - 1))] for i in range(MAX_POINTS)]

    def cause(self, text: str) -> str | None:
        """What to tell a person of an error that is memory's or the disk's; None for any other."""
        if DISK_SIGNS.search(text) or shutil.disk_usage(self.folder).free < FULL_BYTES:
            return DISK_FULL
        return OUT_OF_MEMORY if MEMORY_SIGNS.search(text) else None

    def _last_words(self) -> str:
        """Why a process that recorded no end has ended."""
        text = self.errors.read_text(encoding="utf-8", errors="replace") if self.errors.exists() else ""
        last = (text.strip().splitlines() or [""])[-1].strip()
        return self.cause(text) or (ended_with(last) if last.split(":")[0].endswith(("Error", "error")) else KILLED)


def _read(path: Path) -> Any:
    """The JSON in a file; None where it cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def _is_made_of(facts: Any, kinds: dict[str, tuple[type, ...]]) -> bool:
    """Whether it is an object, and those of its values that are named are of these kinds."""
    return isinstance(facts, dict) and all(isinstance(facts[key], kinds[key]) for key in kinds if key in facts)


def ended_with(error: str) -> str:
    """What to tell a person of an error that nobody foresaw."""
    return f"the trainer ended with an error ({error[:SHOWN_CHARACTERS]}): Resume tries again from the last checkpoint"

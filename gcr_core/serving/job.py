"""Job: the folder of one training, through which its process and the page know of each other.

`config.json` says what was asked, `status.json` where it stands, `log.jsonl` how the loss fell; `heartbeat` is touched
every second; `stop` asks it to stop; `errors.txt` is its stderr; `checkpoint/` is what it goes on from. `lock`, which
holds its process id, is locked by the process for as long as it lives. Starts and ends no process.
"""

import contextlib
import json
import re
import shutil
from functools import cached_property
from pathlib import Path
from typing import Any

from gcr_core.files.atomic import write_text
from gcr_core.files.locks import is_locked
from gcr_core.serving.workspace import Workspace

QUEUED, RUNNING, STOPPING, STOPPED = "queued", "running", "stopping", "stopped"
INTERRUPTED, FAILED, DONE = "interrupted", "failed", "done"
"""The states of a job. "stopping" is told where a running job was asked to stop; it is never recorded."""
UNFINISHED = (QUEUED, RUNNING, STOPPING)
RESUMABLE = (STOPPED, INTERRUPTED)

STOPPED_WORDS = "stopped; Resume goes on from the last checkpoint"
KILLED = (
    "the trainer was killed, perhaps for want of memory: close other programs or choose fewer pictures, then Resume"
)
OUT_OF_MEMORY = "the trainer ran out of memory: close other programs or choose fewer pictures, then Resume"
DISK_FULL = "the disk is full: delete memories or other files, then Resume"
MEMORY_SIGNS = re.compile(r"out of memory|(can't|cannot|unable to) allocate|MemoryError|bad_alloc", re.IGNORECASE)
DISK_SIGNS = re.compile(r"No space left|quota exceeded", re.IGNORECASE)
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
    "report": None,
    "memory": None,
}


class Job:
    """One job's folder, `workspace.root/jobs/ID`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.id = folder.name
        self.checkpoint, self.errors, self.lock = folder / "checkpoint", folder / "errors.txt", folder / "lock"
        self.wish = folder / "stop"

    @cached_property
    def config(self) -> dict[str, Any]:
        """{"name", "gallery": its id, "recipe": its fields, "submitted": seconds since 1970}."""
        return json.loads((self.folder / "config.json").read_text(encoding="utf-8"))

    @property
    def workspace(self) -> Workspace:
        return Workspace(self.folder.parents[1])

    def create(self, config: dict[str, Any]) -> None:
        """Writes what was asked and "queued" into the new folder."""
        write_text(self.folder / "config.json", json.dumps(config))
        self.record(QUEUED)

    def recorded(self) -> dict[str, Any]:
        """What was written last: "state" and the fields of STARTING."""
        try:
            return STARTING | json.loads((self.folder / "status.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return STARTING | {"state": QUEUED}

    def record(self, state: str, **facts: Any) -> None:
        """Writes the state, and what else has changed."""
        write_text(self.folder / "status.json", json.dumps(self.recorded() | {"state": state} | facts))

    def status(self) -> dict[str, Any]:
        """Where the job stands at this moment: what was recorded, and whether its process lives."""
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
        asked = {key: self.config[key] for key in ("name", "gallery", "recipe", "submitted")}
        return {"id": self.id} | asked | status

    def is_alive(self) -> bool:
        return is_locked(self.lock)

    def pid(self) -> int | None:
        """The id of the process, and of its process group; None where it has not said so yet."""
        text = self.lock.read_text() if self.lock.exists() else ""
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
            for line in (self.folder / "log.jsonl").read_text(encoding="utf-8").splitlines():
                with contextlib.suppress(ValueError):
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


def ended_with(error: str) -> str:
    """What to tell a person of an error that nobody foresaw."""
    return f"the trainer ended with an error ({error[:SHOWN_CHARACTERS]}): Resume tries again from the last checkpoint"

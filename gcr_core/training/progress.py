"""Progress of making a memory: which step of which stage, how long it will take, and what outlives an interruption.

Knows numbers and names of stages. Imports no model library.
"""

import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gcr_core.files.atomic import write_text
from gcr_core.training.config import Step, Training

SURE_AFTER_STEPS = 5
"""The steps after which the time that is left is told: fewer say too little."""
NOTED_EVERY_SECONDS = 10.0
"""How often the time that was spent is written down while training goes on."""
RECENT_STEPS = 50
"""How many of the last steps of a kind tell how long the next one will take."""


@dataclass(frozen=True)
class Progress:
    """Where making a memory stands."""

    stage: str
    """"prepare", "dense", "look", "read", "memorise", "describe", "retrieve", "measure" or "save"."""
    step: int
    """The training steps that are done."""
    steps: int
    """The training steps in all."""
    seconds_left: float | None = None
    """The time that the views and steps ahead will take; None before it can be told."""
    loss: float | None = None
    """The loss of the step's batch, in nats."""
    memorized: float | None = None
    """The share of the pictures that were known when they were last trained on, in [0, 1]."""
    looked: int | None = None
    """In the stage "dense": the pictures and captions that CLIP has embedded. In the stage "look": the views, several
    of each picture, that a frozen vision tower has encoded; in the stage "read": the captions that were read."""
    looks: int | None = None
    """The same in all."""


Listener = Callable[[Progress], None]


class Notes(dict[str, Any]):
    """Figures that outlive an interruption: a dictionary, also in a JSON file where there is a checkpoint."""

    def __init__(self, checkpoint: Path | None):
        self._path = checkpoint / "notes.json" if checkpoint else None
        super().__init__(json.loads(self._path.read_text()) if self._path and self._path.exists() else {})

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, value)
        if self._path:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_text(self._path, json.dumps(self))


class Clock:
    """Counts and times the encoded views and the backbone's steps, each kind by itself, and reports Progress."""

    def __init__(self, training: Training, notes: Notes, on_progress: Listener, small: bool = True):
        """`small`: whether the backbone is trained whole.

        The steps of such a backbone take about as long whatever they are of, so that the first ones tell how much time
        is left. For a larger one it is told once each kind of step was timed or is expected.
        """
        self.small = small
        self.order = [training.task(step) for step in range(training.steps)]
        self.spent = {"dense": 0.0, "backbone": 0.0, **notes.get("spent", {})}
        self._timed: dict[str, list[float]] = {}
        self._expected: dict[str, float] = {}
        self._lapped, self._looked, self._read = "", 0, 0
        self._notes, self._on_progress = notes, on_progress
        self._last = self._noted = time.monotonic()

    def embedded(self, done: int, total: int) -> None:
        """What `Embeddings.read` is to call."""
        self._spend("dense")
        self._on_progress(Progress("dense", 0, len(self.order), looked=done, looks=total))

    def indexed(self) -> None:
        """Notes what the dense baseline took, once it is made."""
        self._spend("dense")
        self._notes["spent"] = self.spent

    def expect(self, seconds: dict[str, float]) -> None:
        """Takes kind → seconds that a step of it, or a view ("look"), will take; believed until one was timed."""
        self._expected = seconds

    def looked(self, done: int, total: int) -> None:
        """What `FeatureCache.compute` is to call."""
        self._lap("look", "look", max(1, done - self._looked))
        self._looked = done
        left = self._seconds_left(0, total - done)
        self._on_progress(Progress("look", 0, len(self.order), left, looked=done, looks=total))

    def read(self, done: int, total: int) -> None:
        """What `States.read` is to call."""
        self._lap("read", "read", max(1, done - self._read))
        self._read = done
        left = self._seconds_left(0, read=total - done)
        self._on_progress(Progress("read", 0, len(self.order), left, looked=done, looks=total))

    def backbone(self, step: Step) -> None:
        """What `memorize` is to call."""
        self._lap("step", self.order[step.step - 1])
        stage, left = "retrieve" if step.stage == "finish" else step.stage, self._seconds_left(step.step)
        self._on_progress(Progress(stage, step.step, len(self.order), left, step.loss, step.memorized))

    def _lap(self, group: str, kind: str, count: int = 1) -> None:
        """Times `count` steps or views of a kind, but not the first ones of their group, which take longer."""
        seconds = self._spend("backbone")
        if self._lapped == group:
            self._timed.setdefault(kind, []).append(seconds / count)
        self._lapped = group

    def _spend(self, engine: str) -> float:
        """Counts the seconds since the last time for an engine, and returns them."""
        now = time.monotonic()
        seconds, self._last = now - self._last, now
        self.spent[engine] += seconds
        if now - self._noted > NOTED_EVERY_SECONDS:
            self._notes["spent"], self._noted = self.spent, now
        return seconds

    def _seconds_left(self, done: int, look: int = 0, read: int = 0) -> float | None:
        """The time ahead by the median of each kind's last times, else by what was expected, else by the mean of the
        kinds that are known."""
        timed = {kind: float(np.median(times[-RECENT_STEPS:])) for kind, times in self._timed.items()}
        known = self._expected | timed
        ahead = Counter(self.order[done:]) + Counter(look=look, read=read)
        if not known or not (ahead.keys() <= known.keys() or (self.small and done >= SURE_AFTER_STEPS)):
            return None
        unknown = float(np.mean([*known.values()]))
        return sum(known.get(kind, unknown) * count for kind, count in ahead.items())

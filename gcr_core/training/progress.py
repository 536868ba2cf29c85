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
    """"prepare", "dense", "look", "memorise", "describe", "retrieve", "measure" or "save"."""
    step: int
    """The training steps that are done, of both engines."""
    steps: int
    """The training steps in all."""
    seconds_left: float | None = None
    """The time that the views and steps ahead will take; None before it can be told."""
    loss: float | None = None
    """The loss of the step's batch, in nats."""
    memorized: float | None = None
    """The share of the pictures that were known when they were last trained on, in [0, 1]."""
    looked: int | None = None
    """In the stage "look": the views, several of each picture, that a frozen vision tower has encoded."""
    looks: int | None = None
    """In the stage "look": the views in all."""


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
    """Counts and times the encoded views and the steps of both engines, each kind by itself, and reports Progress."""

    def __init__(self, training: Training, dense_steps: int, notes: Notes, on_progress: Listener, small: bool = True):
        """`small`: whether the backbone is trained whole.

        The steps of such a backbone take about as long as the dense baseline's, so that these tell how much time is
        left. For a larger one it is not told before its own steps were timed or expected.
        """
        self.dense_steps, self.small = dense_steps, small
        self.order = ["dense"] * dense_steps + [training.task(step) for step in range(training.steps)]
        self.spent = {"dense": 0.0, "backbone": 0.0, **notes.get("spent", {})}
        self._timed: dict[str, list[float]] = {}
        self._expected: dict[str, float] = {}
        self._lapped, self._looked = "", 0
        self._notes, self._on_progress = notes, on_progress
        self._last = self._noted = time.monotonic()

    def dense(self, done: int) -> Callable[[int, float], None]:
        """What `tune` is to call, where `done` steps of the dense baseline came before."""
        return lambda step, loss: self._step("dense", "dense", done + step, loss, None)

    def expect(self, seconds: dict[str, float]) -> None:
        """Takes kind → seconds that a step of it, or a view ("look"), will take; believed until one was timed."""
        self._expected = seconds

    def looked(self, done: int, total: int) -> None:
        """What `FeatureCache.compute` is to call."""
        self._lap("backbone", "look", max(1, done - self._looked))
        self._looked = done
        left = self._seconds_left(self.dense_steps, total - done)
        self._on_progress(Progress("look", self.dense_steps, len(self.order), left, looked=done, looks=total))

    def backbone(self, step: Step) -> None:
        """What `memorize` is to call."""
        self._step("backbone", step.stage, self.dense_steps + step.step, step.loss, step.memorized)

    def _step(self, engine: str, stage: str, done: int, loss: float, memorized: float | None) -> None:
        self._lap(engine, self.order[done - 1])
        stage = "retrieve" if stage == "finish" else stage
        self._on_progress(Progress(stage, done, len(self.order), self._seconds_left(done), loss, memorized))

    def _lap(self, engine: str, kind: str, count: int = 1) -> None:
        """Times `count` steps or views of a kind, but not the first ones of an engine, which take longer."""
        now = time.monotonic()
        self.spent[engine] += now - self._last
        group = kind if kind == "look" else engine
        if self._lapped == group:
            self._timed.setdefault(kind, []).append((now - self._last) / count)
        self._lapped, self._last = group, now
        if now - self._noted > NOTED_EVERY_SECONDS:
            self._notes["spent"], self._noted = self.spent, now

    def _seconds_left(self, done: int, looks: int = 0) -> float | None:
        """The time ahead by the median of each kind's last times, else by what was expected, else by the mean of the
        kinds that are known."""
        timed = {kind: float(np.median(times[-RECENT_STEPS:])) for kind, times in self._timed.items()}
        known = self._expected | timed
        ahead = Counter(self.order[done:]) + Counter(look=looks)
        if done < SURE_AFTER_STEPS or not known or not (self.small or ahead.keys() <= known.keys()):
            return None
        unknown = float(np.mean([*known.values()]))
        return sum(known.get(kind, unknown) * count for kind, count in ahead.items())

"""Progress of making a memory: which step of which stage, what is left, and what has to outlive an interruption.

Knows numbers and names of stages, no model.
"""

import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .memorize import Step, Training

SURE_AFTER_STEPS = 5
NOTED_EVERY_SECONDS = 10.0


@dataclass(frozen=True)
class Progress:
    """Where making a memory stands."""

    stage: str
    """"prepare", "dense", "look", "memorise", "describe", "retrieve", "measure" or "save"."""
    step: int
    """training steps done, of both engines"""
    steps: int
    """training steps in all"""
    seconds_left: float | None = None
    """of the training; None before it can be told"""
    loss: float | None = None
    """of the step's batch, in nats"""
    memorized: float | None = None
    """share of the pictures known when they were last trained on, in [0, 1]"""


Listener = Callable[[Progress], None]


class Notes(dict[str, Any]):
    """Figures that outlive an interruption, in a JSON file where there is a checkpoint."""

    def __init__(self, checkpoint: Path | None):
        self._path = checkpoint / "notes.json" if checkpoint else None
        super().__init__(json.loads(self._path.read_text()) if self._path and self._path.exists() else {})

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, value)
        if self._path:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            building = self._path.with_suffix(".new")
            building.write_text(json.dumps(self))
            building.replace(self._path)


class Clock:
    """Turns the steps of both engines into Progress: counts them, times each kind, tells what is left."""

    def __init__(self, training: Training, dense_steps: int, notes: Notes, on_progress: Listener):
        self.dense_steps = dense_steps
        self.order = ["dense"] * dense_steps + [training.task(step) for step in range(training.steps)]
        self.spent = {"dense": 0.0, "backbone": 0.0, **notes.get("spent", {})}
        self._timed: dict[str, list[float]] = {}
        self._notes, self._on_progress = notes, on_progress
        self._last = self._noted = time.monotonic()

    def dense(self, done: int) -> Callable[[int, float], None]:
        """What `tune` is to call, where `done` steps of the dense baseline came before."""
        return lambda step, loss: self._step("dense", "dense", done + step, loss, None)

    def looked(self, done: int, total: int) -> None:
        """What `Features.compute` is to call; how far it is shows as a share of the stage, not of the steps."""
        self._on_progress(Progress("look", self.dense_steps, len(self.order)))

    def backbone(self, step: Step) -> None:
        self._step("backbone", step.stage, self.dense_steps + step.step, step.loss, step.memorized)

    def _step(self, engine: str, stage: str, done: int, loss: float, memorized: float | None) -> None:
        now = time.monotonic()
        self.spent[engine] += now - self._last
        self._timed.setdefault(self.order[done - 1], []).append(now - self._last)
        self._last = now
        if now - self._noted > NOTED_EVERY_SECONDS:
            self._notes["spent"], self._noted = self.spent, now
        stage = "retrieve" if stage == "finish" else stage
        self._on_progress(Progress(stage, done, len(self.order), self._seconds_left(done), loss, memorized))

    def _seconds_left(self, done: int) -> float | None:
        """By the median time of each kind of step, the mean of them for kinds that have not come yet."""
        if done < SURE_AFTER_STEPS:
            return None
        medians = {kind: float(np.median(seconds[-50:])) for kind, seconds in self._timed.items()}
        unknown = float(np.mean([*medians.values()]))
        return sum(medians.get(kind, unknown) * count for kind, count in Counter(self.order[done:]).items())

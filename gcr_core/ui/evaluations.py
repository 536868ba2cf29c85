"""Evaluations: many queries asked of memories in the background, one owner's at a time; the page looks on.

All take turns with each other, query by query, and with whoever searches: nobody waits for more than one query. What
came of the last one is kept until the next, or until others' have taken its place.
"""

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from gcr_core.data.queries import Query
from gcr_core.errors import InputError
from gcr_core.evaluation.answers import row
from gcr_core.evaluation.evaluate import OUTCOME, Asked, ask, figures
from gcr_core.serving.remote_memory import RemoteMemory

MAX_MEMORIES = 4
"""How many memories stand side by side."""
MAX_QUESTIONS = 10_000
"""How many queries one evaluation asks, of all its memories together."""
MAX_STRANGERS_QUESTIONS = 2_000
"""The same where visitors are strangers to each other."""
MAX_LENT_QUESTIONS = 100
"""The same where a GPU is lent for each query (ZeroGPU)."""
MAX_RUNNING = 16
"""How many evaluations of all owners go on at a time."""
MAX_STRANGERS_SECONDS = 1_800.0
"""How long one may go on where visitors are strangers to each other; what was asked until then stays."""
MAX_KEPT = 64
"""How many owners' last evaluations are kept."""
PAUSE_SECONDS = 0.002
"""How long the memory is free between two queries, for whoever waits for it."""

State = Literal["running", "done", "stopped", "failed"]
Lent = Callable[[Path, Callable[[RemoteMemory, Query], Asked], RemoteMemory, Query], Asked]


@dataclass
class Subject:
    """One memory of an evaluation, and what it answered so far."""

    id: str
    name: str
    memory: RemoteMemory
    queries: list[Query]
    """With this memory's own file names."""
    asked: list[Asked] = field(default_factory=list)

    @property
    def outcomes(self) -> np.ndarray:
        """(n,) of OUTCOME: of the queries that were asked."""
        return np.array([asked.outcome for asked in self.asked], OUTCOME)

    @property
    def figures(self) -> dict[str, Any]:
        """As `evaluate.figures`, of the queries that were asked."""
        return figures(self.outcomes, len(self.memory.gallery))

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [row(query, asked) for query, asked in zip(self.queries, self.asked, strict=False)]


@dataclass
class Evaluation:
    """Queries, and the memories that are asked with all of them one after the other."""

    source: str
    """Where the queries come from, in words."""
    tested: list[Subject]
    state: State = "running"
    mistake: str = ""
    stops: bool = False
    started: float = field(default_factory=time.monotonic)
    version: int = field(default_factory=time.time_ns)
    """Another one once it has ended."""

    @property
    def total(self) -> int:
        return sum(len(each.queries) for each in self.tested)

    @property
    def done(self) -> int:
        return sum(len(each.asked) for each in self.tested)

    @property
    def seconds_left(self) -> float | None:
        """None before it can be told."""
        done = self.done
        return (time.monotonic() - self.started) / done * (self.total - done) if done > 2 else None

    def as_json(self) -> dict[str, Any]:
        """Figures and single answers of each memory."""
        memories = [{"memory": each.name, **each.figures, "answers": each.rows} for each in self.tested if each.asked]
        return {"queries": self.source, "state": self.state, "memories": memories}


class Evaluations:
    """Each owner's last evaluation, by the root of the owner's workspace."""

    def __init__(self, strangers: bool, lent: Lent | None = None) -> None:
        """`strangers`: whether owners are strangers to each other; `lent`: where a GPU is lent for each query, what
        calls as if from the owner's last event, on whose quota it is."""
        self.most = MAX_STRANGERS_QUESTIONS if strangers else MAX_QUESTIONS
        self.most = MAX_LENT_QUESTIONS if lent else self.most
        self.longest = MAX_STRANGERS_SECONDS if strangers else math.inf
        self._lent = lent
        self._kept: OrderedDict[Path, Evaluation] = OrderedDict()
        self._lock, self._turn = threading.Lock(), threading.Lock()

    def of(self, owner: Path) -> Evaluation | None:
        return self._kept.get(owner)

    def begin(self, owner: Path, source: str, tested: list[Subject]) -> None:
        """Begins to ask. Raises InputError where there is too much to ask, or where the owner's last goes on."""
        evaluation = Evaluation(source, tested)
        if evaluation.total > self.most:
            each = f"{len(tested[0].queries):,} queries"
            many = f" of {len(tested)} memories are {evaluation.total:,}" if len(tested) > 1 else ""
            raise InputError(
                f"{each}{many}, the limit is {self.most:,}: ask fewer, or all of a file with `gcr evaluate`"
            )
        with self._lock:
            running = [kept for kept in self._kept.values() if kept.state == "running"]
            if (last := self._kept.get(owner)) and last.state == "running":
                raise InputError(f"a test of yours goes on, at query {last.done:,} of {last.total:,}: stop it first")
            if len(running) >= MAX_RUNNING:
                raise InputError(f"{len(running)} tests go on, the limit is {MAX_RUNNING}: begin in a few minutes")
            self._kept[owner] = evaluation
            self._kept.move_to_end(owner)
            for root in [root for root, kept in self._kept.items() if kept.state != "running"]:
                if len(self._kept) > MAX_KEPT:
                    del self._kept[root]
        run = copy_context().run
        threading.Thread(target=run, args=(self._ask_all, owner, evaluation), name="evaluation", daemon=True).start()

    def stop(self, owner: Path) -> None:
        """Ends the owner's evaluation after the query that is being asked; what was asked stays."""
        if evaluation := self._kept.get(owner):
            evaluation.stops = True

    def _ask_all(self, owner: Path, evaluation: Evaluation) -> None:
        state: State = "failed"
        try:
            for tested in evaluation.tested:
                if not evaluation.stops:
                    self._ask(owner, tested, tested.queries[0])  # the first is slower than the rest: it is not counted
                for query in tested.queries:
                    if evaluation.stops:
                        break
                    self._check_time(evaluation)
                    tested.asked.append(self._ask(owner, tested, query))
            state = "done" if evaluation.done == evaluation.total else "stopped"
        except Exception as mistake:
            evaluation.mistake = str(mistake)
        finally:
            evaluation.version, evaluation.state = time.time_ns(), state

    def _check_time(self, evaluation: Evaluation) -> None:
        """Raises InputError once an evaluation has gone on for too long."""
        if time.monotonic() - evaluation.started > self.longest:
            raise InputError(
                f"it took longer than {self.longest / 60:.0f} minutes, the limit: ask fewer queries, or all of a file "
                "with `gcr evaluate`"
            )

    def _ask(self, owner: Path, tested: Subject, query: Query) -> Asked:
        with self._turn:
            asked = self._lent(owner, ask, tested.memory, query) if self._lent else ask(tested.memory, query)
        time.sleep(PAUSE_SECONDS)
        return asked

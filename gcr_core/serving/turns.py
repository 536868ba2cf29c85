"""Turns: callers of something that does one thing at a time take theirs in the order in which they came.

A caller may leave its question at the place where it waits. Whoever's turn it is can take others' questions along that
are of the same kind as its own, and answers for them: their turns are then over. Knows no processes.
"""

import threading
from collections import deque
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Any


class Place:
    """A caller's place in the line."""

    answer: tuple[Any, Exception | None] | None = None
    """What came of its question, or the mistake; None while it is nobody's turn who answers it."""

    def __init__(self, kind: Hashable = None, question: Any = None) -> None:
        """`kind`: what its question has in common with those that can be answered with it; None for none."""
        self.kind, self.question = kind, question
        self.called = threading.Event()


class Turns:
    """The line."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._line: deque[Place] = deque()
        self._taken = False

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Waits, and has its turn in the block."""
        self.come(Place())
        try:
            yield
        finally:
            self.go()

    def come(self, place: Place) -> bool:
        """Waits; whether it is this caller's turn, which then has to `go`. Else its question was answered."""
        with self._lock:
            if not self._taken:
                self._taken = True
                return True
            self._line.append(place)
        place.called.wait()
        return place.answer is None

    def take_along(self, place: Place, most: int) -> list[Place]:
        """Of those that wait, the first of the same kind, `most` of them: who takes them has to `dismiss` each."""
        with self._lock:
            alike = [other for other in self._line if other.kind == place.kind][:most]
            for other in alike:
                self._line.remove(other)
        return alike

    def dismiss(self, place: Place, value: Any, mistake: Exception | None = None) -> None:
        """Gives a caller its answer."""
        place.answer = value, mistake
        place.called.set()

    def go(self) -> None:
        """Ends a turn: the next caller has its own."""
        with self._lock:
            if self._line:
                self._line.popleft().called.set()
            else:
                self._taken = False

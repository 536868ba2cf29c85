"""Guests: memories from elsewhere, which a stranger may have made to do harm, each in a process of its own.

Few at a time, each with limits of memory and of time for an answer, and ended when nobody has asked it for a while.
What such a memory does to its process is felt by those who ask it, by nobody else.
"""

import threading
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

from gcr_core.errors import GcrError
from gcr_core.memory.archive import needed
from gcr_core.serving import memory_budget
from gcr_core.serving.memory_budget import CHANGE_ROOM, GUEST_LIBRARIES
from gcr_core.serving.model_process import Deadlines, ModelProcess
from gcr_core.settings import Settings

MARK = "elsewhere"
"""The key in the manifest of a memory that came in a zip; it stays there whatever is done with the memory."""
MAX_GUESTS = 2
"""The most of these processes at a time; each takes half a gigabyte or more."""
MAX_ASKED = 2
"""The most questions of a guest that are under way; with those of all guests, searches of others are still answered."""
CHANGES = ("add", "forget", "restore", "move", "recaption")
DEADLINES = Deadlines(answer=30.0, first=90.0, of=dict.fromkeys(CHANGES, 600.0))
"""The seconds for a question, for the first one, and for a change, over which no search waits."""
IDLE_SECONDS = 300.0
"""After so long without a question a guest's process is ended."""
LOOKS = 10
"""How often in that time it is looked for those that are."""
PATIENCE, TRIAL_PATIENCE = 20.0, 600.0
"""How long a question, and one that is opened for the first time, waits for memory that others take."""


class Guests:
    """The processes of memories from elsewhere."""

    def __init__(self, settings: Settings, make: Callable[[], ModelProcess] | None = None) -> None:
        self._settings = settings
        self._make = make or (lambda: ModelProcess(guest_host, "memory from elsewhere", DEADLINES))
        self._lock = threading.Lock()
        self._there: dict[Path, ModelProcess] = {}
        self._asked: dict[Path, int] = {}
        self._left: dict[Path, float] = {}
        self._room: dict[Path, ExitStack] = {}
        self._changed: set[Path] = set()
        self._timer: threading.Timer | None = None
        if settings.visitors:
            memory_budget.note(self)

    def of(self, folder: Path) -> "Guest":
        """What asks the memory in a folder."""
        return Guest(self, folder)

    def ask(self, folder: Path, method: str, *arguments: Any, on_word: Callable[[Any], None]) -> Any:
        """As `ModelProcess.ask`. Raises GcrError where it, or too many others, are asked at this moment."""
        process = self._come(folder)
        try:
            if method in CHANGES:
                self._widen(folder)
            return process.ask(method, *arguments, on_word=on_word)
        finally:
            with self._lock:
                self._asked[folder] -= 1
                self._left[folder] = time.monotonic()
                self._look_again()

    def make_room(self) -> bool:
        """Ends the one that was asked the longest ago, of those that nobody asks at this moment; whether there is
        one."""
        with self._lock:
            idle = [folder for folder in self._there if not self._asked[folder]]
            if idle:
                self._send_away(min(idle, key=lambda folder: self._left[folder]))
            return bool(idle)

    def _come(self, folder: Path) -> ModelProcess:
        with self._lock:
            if folder in self._there:
                return self._asked_once_more(folder)
        with ExitStack() as held:
            held.enter_context(room(folder, self._settings, PATIENCE))  # others are asked meanwhile
            while len(self._there) >= MAX_GUESTS and folder not in self._there:
                if not self.make_room():
                    raise GcrError(
                        f"{len(self._there)} other memories that were opened from zips are asked at this moment, the "
                        f"limit is {MAX_GUESTS}: ask again in a minute"
                    )
            with self._lock:
                if folder not in self._there:
                    self._there[folder] = self._make()
                    self._asked[folder], self._left[folder] = 0, time.monotonic()
                    self._room[folder] = held.pop_all()
                return self._asked_once_more(folder)

    def _widen(self, folder: Path) -> None:
        """Takes the memory that a change needs until the process is ended, which does not give all of it back before.
        Raises GcrError, as `memory_budget.lend`."""
        if folder in self._changed or not self._settings.visitors:
            return
        lent = memory_budget.lend(self._settings, "change", CHANGE_ROOM, PATIENCE)
        with self._lock:
            self._changed.add(folder)
            self._room[folder].callback(lent.give_back)

    def _asked_once_more(self, folder: Path) -> ModelProcess:
        if self._asked[folder] >= MAX_ASKED:
            raise GcrError(
                f"{self._asked[folder]} questions of this memory, which was opened from a zip, are under way, the "
                f"limit is {MAX_ASKED}: wait for their answers"
            )
        self._asked[folder] += 1
        return self._there[folder]

    def _rest(self) -> None:
        """Ends those that nobody has asked for a while."""
        with self._lock:
            self._timer = None
            for folder in [folder for folder in self._there if not self._asked[folder]]:
                if time.monotonic() - self._left[folder] >= IDLE_SECONDS:
                    self._send_away(folder)
            if self._there:
                self._look_again()

    def _look_again(self) -> None:
        if self._timer is None:
            self._timer = threading.Timer(IDLE_SECONDS / LOOKS, self._rest)
            self._timer.daemon = True
            self._timer.start()

    def _send_away(self, folder: Path) -> None:
        self._there.pop(folder).end()
        self._room.pop(folder).close()
        del self._asked[folder], self._left[folder]
        self._changed.discard(folder)


class Guest:
    """What asks one memory from elsewhere, in the place of a `ModelProcess`."""

    def __init__(self, guests: Guests, folder: Path) -> None:
        self._guests, self._folder = guests, folder

    def ask(self, method: str, *arguments: Any, on_word: Callable[[Any], None] = lambda word: None) -> Any:
        """As `Guests.ask`."""
        return self._guests.ask(self._folder, method, *arguments, on_word=on_word)

    def ask_together(self, method: str, subject: Any, question: Any, alike: Hashable, most: int) -> Any:
        """As `ask`: each question has a time limit of its own."""
        return self.ask(method, subject, question)

    @property
    def state(self) -> Literal["ready"]:
        """It starts when it is asked."""
        return "ready"


@contextmanager
def room(folder: Path, settings: Settings, patience: float) -> Iterator[None]:
    """Memory for a process that opens the memory in a folder, where it is a stranger's. Raises GcrError, as
    `memory_budget.lend`."""
    if not settings.visitors:
        yield
        return
    lent = memory_budget.lend(settings, "memory", GUEST_LIBRARIES + needed(folder), patience)
    try:
        yield
    finally:
        lent.give_back()


def guest_host(say: Callable[[Any], None]) -> Any:
    """A MemoryHost, made in the child, which limits itself by the first memory that it is asked for."""
    from gcr_core.serving.model_host import GuestHost

    return GuestHost(say)

"""Memory budget: what the processes may take together in which strangers' pictures and memories are opened.

A process takes its part before it begins: what its libraries take, and what it limits itself to beyond them. Who finds
too little left waits a while, and is refused then; guests that nobody asks make room. A part is left to pictures that
are not large, so that no import and no memory keeps them waiting. Counted over the home, however many servers it has.

Those of one server who wait stand in a line, the least patient first: what somebody waits for on the page is before
imports, and before memories that are opened for the first time.
"""

import itertools
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from gcr_core.errors import GcrError
from gcr_core.files.claims import Claims, Held
from gcr_core.settings import Settings

MIB = 2**20
PICTURE_ROOM, LARGE_ROOM = 352 * MIB, 608 * MIB
"""What a process may take beyond its libraries that opens a picture, and one that is LARGE."""
LARGE = 0.5
"""A picture is large that has more than this share of the most pixels of its format."""
IMPORT_ROOM = 704 * MIB
"""The same for an import, which opens one picture at a time, with the next files read already."""
LIBRARIES = 24 * MIB
"""What the libraries of these processes take."""
GUEST_LIBRARIES = 261 * MIB
"""What those take that open memories: torch among them."""
CHANGE_ROOM = 448 * MIB
"""What a memory may take beyond what it is asked with, from when it is first changed: pictures are added by sixteen."""
PICTURE, LARGE_PICTURE = LIBRARIES + PICTURE_ROOM, LIBRARIES + LARGE_ROOM
IMPORT = LIBRARIES + IMPORT_ROOM
LOOK_SECONDS = 0.1
"""How often it is looked whether there is room now."""

Kind = Literal["picture", "large", "import", "memory", "change"]
UNQUEUED = ("picture", "change")
"""What waits in no line: pictures have a part that is left to them, and a memory that is changed holds what those ahead
of it may be waiting for."""


class Place(NamedTuple):
    """Of somebody in the line of a home; the least is the first, of equal patience who came first."""

    home: Path
    patience: float
    number: int


_line: set[Place] = set()
_numbers = itertools.count()


class Yields(Protocol):
    """What takes memory that it can do without."""

    def make_room(self) -> bool:
        """Gives some of it back; whether there was any."""


_yielding: "weakref.WeakSet[Yields]" = weakref.WeakSet()


def note(yields: Yields) -> None:
    """Has somebody asked for room whenever there is too little."""
    _yielding.add(yields)


def lend(settings: Settings, kind: Kind, size: int, patience: float) -> Held:
    """`size` bytes for a process, until they are given back, or this process has ended; waits `patience` seconds for
    them. Raises GcrError where there were none in that time, or never can be."""
    claims = Claims(settings.home / "under-way" / "memory")
    most = settings.max_strangers_memory - (0 if kind == "picture" else PICTURE)
    if size > most:
        raise GcrError(
            f"this takes {size // MIB:,} MiB of memory to open, the limit here is {max(most, 0) // MIB:,} "
            "(GCR_MAX_STRANGERS_MEMORY): choose a smaller one, or run the page on your own machine"
        )
    until = time.monotonic() + patience
    with _in_line(settings.home, kind, patience) as place:
        while True:
            first = place is None or place <= min(each for each in list(_line) if each.home == place.home)
            with claims.counted() as held:
                others = sum(claim.size for claim in held if kind == "picture" or claim.owner != "picture")
                everything = sum(claim.size for claim in held)
                if first and others + size <= most and everything + size <= settings.max_strangers_memory:
                    return claims.take(kind, size)
            if first and any(each.make_room() for each in list(_yielding)):
                continue
            if time.monotonic() > until:
                more = "" if first else ", others wait for more"
                raise GcrError(
                    f"{everything // MIB:,} MiB of memory are taken by what visitors are sending{more}, this takes "
                    f"{size // MIB:,} more, the limit is {settings.max_strangers_memory // MIB:,}: try again in a "
                    "minute"
                )
            time.sleep(LOOK_SECONDS)


@contextmanager
def _in_line(home: Path, kind: Kind, patience: float) -> Iterator[Place | None]:
    """A place in the line while the block lasts; None for what does not queue."""
    if kind in UNQUEUED:
        yield None
        return
    place = Place(home, patience, next(_numbers))
    _line.add(place)
    try:
        yield place
    finally:
        _line.discard(place)

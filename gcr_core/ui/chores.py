"""Chores: long work on memories that outlives a reload, and what it consists of where pictures are added."""

import threading
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from contextvars import copy_context
from dataclasses import dataclass
from itertools import count
from operator import attrgetter
from pathlib import Path
from typing import Any

from PIL import Image

from gcr_core.data.pictures import IMPORT_SIDE
from gcr_core.errors import InputError, one_line
from gcr_core.serving.remote_memory import RemoteMemory
from gcr_core.serving.workspace import Workspace
from gcr_core.ui import uploads

ADDED_AT_ONCE = 16
"""How many pictures a memory takes in before it is saved."""
MAX_ENDS = 1000
"""Of how many memories and galleries it is known how the work on them ended; later ones push the oldest out."""
Work = Callable[[Callable[[str], None]], str]
"""Gets a function for progress in words, and returns how it ended."""


@dataclass
class End:
    """How a chore ended."""

    number: int
    """They are numbered as they come."""
    kind: str
    """A notice's."""
    words: str
    told: bool = False
    """Whether a page has told it."""


class Chores:
    """Long work on memories and galleries that outlives a reload, and how the last on each ended, by its id.

    Every open page of the owner's tells an end once: it says which number it knows of.
    """

    def __init__(self, doing: dict[str, str]) -> None:
        """`doing`: a memory's id → what is being done with it, in words."""
        self.doing = doing
        self._ends: dict[str, End] = {}
        self._numbers = count(1)
        self._lock = threading.Lock()

    def begin(self, id: str, words: str, work: Work, held: AbstractContextManager[Any] | None = None) -> None:
        """Starts work on a memory; `held` is entered before that, and left after it. Raises InputError for one that is
        being worked on, and what `held` raises."""
        with self._lock, ExitStack() as taken:
            if id in self.doing:
                raise InputError("this memory is being worked on: wait until that is done")
            taken.enter_context(held or nullcontext())
            until_done = taken.pop_all()
            self.doing[id] = words

        def run() -> None:
            try:
                with until_done:
                    end = "good", work(lambda words: self.doing.__setitem__(id, words))
            except Exception as mistake:
                end = "", one_line(mistake) or str(mistake)
            self.end(id, *end)

        threading.Thread(target=copy_context().run, args=(run,), name=f"chore-{id}", daemon=True).start()

    def end(self, id: str, kind: str, words: str) -> None:
        """Work on a memory or a gallery has ended so."""
        with self._lock:
            self._ends.pop(id, None)
            self._ends[id] = End(next(self._numbers), kind, words)
            for old in list(self._ends)[:-MAX_ENDS]:
                del self._ends[old]
            self.doing.pop(id, None)

    def last(self, ids: Iterable[str]) -> int:
        """The number of the last end of work on these; 0 where none has ended."""
        return max((end.number for end in self._of(ids)), default=0)

    def over(self, ids: Iterable[str], since: int | None, until: int) -> list[tuple[str, str]]:
        """How work on these ended, as kind and words: by the numbers after `since`, or, where that is None, as for a
        page that was opened just now, what no page has told yet."""
        ends = [end for end in self._of(ids) if end.number <= until]
        new = [end for end in ends if (not end.told if since is None else end.number > since)]
        for end in new:
            end.told = True
        return [(end.kind, end.words) for end in sorted(new, key=attrgetter("number"))]

    def _of(self, ids: Iterable[str]) -> list[End]:
        with self._lock:
            return [self._ends[id] for id in ids if id in self._ends]


def adding(
    memory: RemoteMemory,
    workspace: Workspace,
    files: Any,
    captions: list[str],
    open_picture: Callable[[Path, int], Image.Image],
) -> Work:
    """The work of adding uploads to a memory of the workspace, each with all the captions, within the limits of what is
    kept there. `open_picture`: as `open_image`."""
    settings = workspace.settings
    most = settings.max_pictures - len(memory.gallery)

    def work(say: Callable[[str], None]) -> str:
        there = set(memory.gallery.file_names)
        names: list[str] = []
        skipped: list[str] = []
        started = time.monotonic()
        with uploads.laid_out(files, most) as paths, workspace.room_for(paths) as check:
            for start in range(0, len(paths), ADDED_AT_ONCE):
                pictures = []
                for path in paths[start : start + ADDED_AT_ONCE]:
                    try:
                        pictures.append((path.name, open_picture(path, IMPORT_SIDE)))
                    except InputError as mistake:
                        skipped.append(str(mistake))
                names += memory.add(pictures, [captions] * len(pictures)) if pictures else []
                check()
                say(f"Adding pictures… {min(start + ADDED_AT_ONCE, len(paths)):,} of {len(paths):,}")
        if not names:
            raise InputError(f"nothing was added: {skipped[0] if skipped else 'choose a picture'}")
        new = [name for name in dict.fromkeys(names) if name not in there]
        known = [name for name in dict.fromkeys(names) if name in there]
        said = [f"Added {_some(new)} in {time.monotonic() - started:.1f} s."] if new else []
        said += [f"There already: {_some(known)}."] if known else []
        said += ["Consolidate to train their new captions in."] if known and captions and settings.training else []
        said += [f"Left out: {_some(skipped)}."] if skipped else []
        return " ".join(said)

    return work


def _some(words: list[str]) -> str:
    return "; ".join(words[:3]) + " and more" * (len(words) > 3)

"""Chores: long work on memories that outlives a reload, and what it consists of where pictures are added."""

import threading
import time
from collections.abc import Callable, Iterable
from contextvars import copy_context
from pathlib import Path
from typing import Any

from PIL import Image

from gcr_core.data.pictures import IMPORT_SIDE
from gcr_core.errors import InputError, one_line
from gcr_core.serving.remote_memory import RemoteMemory
from gcr_core.settings import Settings
from gcr_core.ui import uploads

ADDED_AT_ONCE = 16
"""How many pictures a memory takes in before it is saved."""
Work = Callable[[Callable[[str], None]], str]
"""Gets a function for progress in words, and returns how it ended."""


class Chores:
    """Long work on memories that outlives a reload: how the last one ended, by the memory's id."""

    def __init__(self, doing: dict[str, str]) -> None:
        """`doing`: a memory's id → what is being done with it, in words."""
        self.doing = doing
        self.ended: dict[str, tuple[str, str]] = {}
        self._lock = threading.Lock()

    def begin(self, id: str, words: str, work: Work) -> None:
        """Starts work on a memory. Raises InputError for one that is being worked on."""
        with self._lock:
            if id in self.doing:
                raise InputError("this memory is being worked on: wait until that is done")
            self.doing[id] = words

        def run() -> None:
            try:
                self.ended[id] = ("good", work(lambda words: self.doing.__setitem__(id, words)))
            except Exception as mistake:
                self.ended[id] = ("", one_line(mistake) or str(mistake))
            finally:
                del self.doing[id]

        threading.Thread(target=copy_context().run, args=(run,), name=f"chore-{id}", daemon=True).start()

    def over(self, ids: Iterable[str]) -> list[tuple[str, str]]:
        """How the work on these memories ended, where it has; told once."""
        return [self.ended.pop(id) for id in ids if id in self.ended and id not in self.doing]


def adding(
    memory: RemoteMemory,
    settings: Settings,
    files: Any,
    captions: list[str],
    open_picture: Callable[[Path, int], Image.Image],
) -> Work:
    """The work of adding uploads to a memory, each with all the captions. `open_picture`: as `open_image`."""
    most = settings.max_pictures - len(memory.gallery)

    def work(say: Callable[[str], None]) -> str:
        there = set(memory.gallery.file_names)
        names: list[str] = []
        skipped: list[str] = []
        started = time.monotonic()
        with uploads.laid_out(files, most) as paths:
            for start in range(0, len(paths), ADDED_AT_ONCE):
                pictures = []
                for path in paths[start : start + ADDED_AT_ONCE]:
                    try:
                        pictures.append((path.name, open_picture(path, IMPORT_SIDE)))
                    except InputError as mistake:
                        skipped.append(str(mistake))
                names += memory.add(pictures, [captions] * len(pictures)) if pictures else []
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

"""Decoder: opens pictures of strangers in processes of their own, which may take little memory and time.

They are warm, two of them, so that one slow picture does not keep all others waiting; whoever is refused or cut off has
sent the picture. Nobody else's search waits for them. What they take is counted by `memory_budget`.
"""

import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from threading import BoundedSemaphore
from typing import Any

from PIL import Image

from gcr_core.data import importer
from gcr_core.data.gallery import Gallery
from gcr_core.data.images import open_image, share_of_most
from gcr_core.errors import GcrError, InputError
from gcr_core.runtime import confine, narrow, step_back
from gcr_core.serving import memory_budget
from gcr_core.serving.memory_budget import (
    IMPORT,
    IMPORT_ROOM,
    LARGE,
    LARGE_PICTURE,
    LARGE_ROOM,
    PICTURE,
    PICTURE_ROOM,
)
from gcr_core.serving.model_process import Deadlines, EndedError, ModelProcess
from gcr_core.settings import Settings

PROCESSES = 2
"""How many pictures are opened at a time."""
SECONDS = 10.0
"""How long a picture may take."""
START_SECONDS = 40.0
"""How long the process may take to start."""
MAX_UNDER_WAY = 4
"""The most pictures that are being opened or wait for that; searches with words are answered meanwhile."""
IMPORT_SECONDS = 60.0
"""How long one picture of an import may take."""
IMPORT_PATIENCE = 600.0
"""How long an import waits for memory that others take."""


class TooMuchError(InputError):
    """A picture that took more memory than it may."""


class Decoder:
    """Opens pictures, for any thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._under_way = BoundedSemaphore(MAX_UNDER_WAY)
        self._free: SimpleQueue[ModelProcess] = SimpleQueue()
        for _ in range(PROCESSES):
            self._free.put(ModelProcess(PictureHost, "picture", Deadlines(SECONDS, START_SECONDS)))

    def open(self, picture: str | Path, longest: int) -> Image.Image:
        """As `open_image` of a path. Raises InputError, also for what takes too much time or memory, and where too many
        are opened."""
        if not self._under_way.acquire(blocking=False):
            raise InputError(
                f"{MAX_UNDER_WAY} pictures are being opened at this moment, the limit is {MAX_UNDER_WAY}: ask again in "
                "a minute, or with words"
            )
        process = self._free.get()
        try:
            try:
                return self._opened(process, Path(picture), longest)
            except TooMuchError:
                process.end()  # it may be what pictures before this one have left
                return self._opened(process, Path(picture), longest)
        except GcrError as refusal:
            raise refusal if isinstance(refusal, InputError) else InputError(str(refusal)) from refusal
        finally:
            self._free.put(process)
            self._under_way.release()

    def _opened(self, process: ModelProcess, picture: Path, longest: int) -> Image.Image:
        lent, room = memory_budget.lend(self._settings, "picture", PICTURE, SECONDS), PICTURE_ROOM
        try:
            if process.ask("share_of_most", picture) > LARGE:
                lent.give_back()
                lent, room = memory_budget.lend(self._settings, "large", LARGE_PICTURE, SECONDS), LARGE_ROOM
            return process.ask("open", picture, longest, room)
        except EndedError as ended:
            raise InputError(_too_much(picture, room)) from ended
        finally:
            if room == LARGE_ROOM:
                process.end()  # what it took is not all given back, and the next picture has less
            lent.give_back()


class PictureHost:
    """What opens them, in the child."""

    def __init__(self, say: Callable[[Any], None]) -> None:
        step_back()
        confine(LARGE_ROOM)

    def share_of_most(self, picture: Path) -> float:
        with _within(PICTURE_ROOM, picture):
            return share_of_most(picture)

    def open(self, picture: Path, longest: int, room: int) -> Image.Image:
        with _within(room, picture):
            return open_image(picture, longest)


@contextmanager
def _within(room: int, picture: Path) -> Iterator[None]:
    narrow(LARGE_ROOM - room)
    try:
        yield
    except MemoryError:
        raise TooMuchError(_too_much(picture, room)) from None


def _too_much(picture: Path, room: int) -> str:
    return f"{picture.name} takes more than {SECONDS:.0f} s or {room // 2**20:,} MiB to open: save it anew, smaller"


class ImportHost:
    """What imports a gallery, in a child that imports nothing else."""

    def __init__(self, say: Callable[[Any], None]) -> None:
        step_back()
        confine(IMPORT_ROOM, files=1024)
        importer.THREADS = 1  # what it may take is counted for one picture at a time
        self._say = say

    def collect(self, sources: list[Path], into: Path, max_pictures: int) -> tuple[Any, Any]:
        gallery = Gallery.collect(sources, into, lambda done, total: self._say((done, total)), max_pictures)
        return gallery.skipped, gallery.notes


def collect(
    sources: Iterable[Path], into: Path, on_progress: Callable[[int, int], None], max_pictures: int, settings: Settings
) -> Gallery:
    """As `Gallery.collect`, in a process of its own. Raises GcrError where that took too much time or memory, or where
    others took the memory for too long."""
    lent = memory_budget.lend(settings, "import", IMPORT, IMPORT_PATIENCE)
    process = ModelProcess(ImportHost, "import", Deadlines(IMPORT_SECONDS, START_SECONDS))
    into = into.absolute()
    try:
        said = process.ask("collect", list(sources), into, max_pictures, on_word=lambda word: on_progress(*word))
    except EndedError as ended:
        raise GcrError(
            f"the import was ended: a picture took more than {IMPORT_SECONDS:.0f} s, or the pictures more than "
            f"{IMPORT_ROOM // 2**20:,} MiB of memory: choose fewer, or smaller ones"
        ) from ended
    finally:
        process.end()
        lent.give_back()
        for left in into.parent.glob(f".{into.name}.*"):
            shutil.rmtree(left, ignore_errors=True)
    gallery = Gallery.load(into)
    gallery.skipped, gallery.notes = said
    return gallery

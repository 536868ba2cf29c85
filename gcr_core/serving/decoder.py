"""Decoder: opens pictures of strangers in processes of their own, which may take little memory and time.

They are warm, two of them, so that one slow picture does not keep all others waiting; whoever is refused or cut off has
sent the picture. Nobody else's search waits for them.
"""

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from queue import SimpleQueue
from threading import BoundedSemaphore
from typing import Any

from PIL import Image

from gcr_core.data.gallery import Gallery
from gcr_core.data.images import open_image
from gcr_core.errors import GcrError, InputError
from gcr_core.runtime import confine, step_back
from gcr_core.serving.model_process import EndedError, Limits, ModelProcess

PROCESSES = 2
"""How many pictures are opened at a time."""
SECONDS = 10.0
"""How long a picture may take."""
START_SECONDS = 40.0
"""How long the process may take to start."""
MAX_UNDER_WAY = 4
"""The most pictures that are being opened or wait for that; searches with words are answered meanwhile."""
ROOM = 640 * 2**20
"""The bytes of memory that a process which opens pictures may take beyond its libraries."""
IMPORT_SECONDS = 60.0
"""How long one picture of an import may take."""
IMPORT_ROOM = 1536 * 2**20
"""The same for an import, which opens several pictures at a time."""


class Decoder:
    """Opens pictures, for any thread."""

    def __init__(self) -> None:
        self._under_way = BoundedSemaphore(MAX_UNDER_WAY)
        self._free: SimpleQueue[ModelProcess] = SimpleQueue()
        for _ in range(PROCESSES):
            self._free.put(ModelProcess(PictureHost, "picture", Limits(SECONDS, START_SECONDS)))

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
            return process.ask("open", Path(picture), longest)
        except EndedError as ended:
            raise InputError(_too_much(Path(picture))) from ended
        finally:
            self._free.put(process)
            self._under_way.release()


class PictureHost:
    """What opens them, in the child."""

    def __init__(self, say: Callable[[Any], None]) -> None:
        step_back()
        confine(ROOM)

    def open(self, picture: Path, longest: int) -> Image.Image:
        try:
            return open_image(picture, longest)
        except MemoryError:
            raise InputError(_too_much(picture)) from None


def _too_much(picture: Path) -> str:
    return f"{picture.name} takes more than {SECONDS:.0f} s or {ROOM // 2**20:,} MiB to open: save it anew, smaller"


class ImportHost:
    """What imports a gallery, in a child that imports nothing else."""

    def __init__(self, say: Callable[[Any], None]) -> None:
        step_back()
        confine(IMPORT_ROOM, files=1024)
        self._say = say

    def collect(self, sources: list[Path], into: Path, max_pictures: int) -> tuple[Any, Any]:
        gallery = Gallery.collect(sources, into, lambda done, total: self._say((done, total)), max_pictures)
        return gallery.skipped, gallery.notes


def collect(sources: Iterable[Path], into: Path, on_progress: Callable[[int, int], None], max_pictures: int) -> Gallery:
    """As `Gallery.collect`, in a process of its own. Raises GcrError where that took too much time or memory."""
    process = ModelProcess(ImportHost, "import", Limits(IMPORT_SECONDS, START_SECONDS))
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
        for left in into.parent.glob(f".{into.name}.*"):
            shutil.rmtree(left, ignore_errors=True)
    gallery = Gallery.load(into)
    gallery.skipped, gallery.notes = said
    return gallery

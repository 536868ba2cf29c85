"""Intake: the images that a heap of files makes. Decoded on several threads; pictures of the same pixels become one.

What cannot be used is listed and the rest goes on. Knows pictures and metadata, not where they are kept.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import PurePosixPath
from typing import NamedTuple, TypeVar

from PIL import Image

from .errors import GalleryError, InputError
from .images import open_image
from .metadata import MAX_CAPTIONS, METADATA_NAMES, Metadata, add_captions
from .names import check_name, printable, safe_name
from .sources import File

THREADS = min(4, os.cpu_count() or 1)
"""Threads that decode pictures; one of the largest size takes a thread about half a gigabyte."""
T = TypeVar("T")
Make = Callable[[Image.Image, str], T]


class Images(NamedTuple):
    """`captions[i]`, `also[i]`, its other names, and `pseudo_queries[i]`, those of its captions that the model wrote,
    belong to the image `file_names[i]`."""

    file_names: list[str]
    captions: list[list[str]]
    also: list[list[str]]
    pseudo_queries: list[list[str]]


class _MetadataFile(NamedTuple):
    data: bytes


class Intake:
    """`for path, made in intake.pictures(files, make): intake.add(path, name, fingerprint)`, then `images()`."""

    skipped: list[tuple[str, str]]
    """(path or metadata line, why it was left out)"""

    def __init__(self, skipped: Iterable[tuple[str, str]] = ()) -> None:
        self.skipped = list(skipped)
        self._metadata = Metadata()
        self._found: list[tuple[str, str, bytes]] = []

    def pictures(
        self,
        files: Sequence[File],
        make: Make[T],
        on_progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> Iterator[tuple[str, T]]:
        """(path, what `make` made of picture and path) in the order of the files, few of them in memory at a time.

        `make` runs on several threads. Metadata is read on the way. `on_progress(done, total)` counts files.
        """
        for done, (path, made) in enumerate(_in_order(files, make), start=1):
            if isinstance(made, InputError):
                self.skipped.append((printable(path), str(made)))
            elif isinstance(made, _MetadataFile):
                self._metadata.read(path, made.data)
            else:
                yield path, made
            on_progress(done, len(files))

    def add(self, path: str, file_name: str, fingerprint: bytes) -> None:
        """The picture that came by `path` is to be called `file_name`."""
        self._found.append((path, file_name, fingerprint))

    def images(self) -> Images:
        """The images added, by the first name of each. Raises GalleryError where there are none."""
        paths = [path for path, _, _ in self._found]
        captions = self._metadata.captions(paths, {path for path, _ in self.skipped})
        self.skipped += self._metadata.skipped
        if not paths:
            first = f" (first of {len(self.skipped):,} skipped: {': '.join(self.skipped[0])})" if self.skipped else ""
            raise GalleryError(f"no image can be used{first}: add JPEG, PNG, WebP, GIF or BMP files")
        taken = {name for _, name, _ in self._found}
        images: dict[bytes, tuple[list[str], dict[str, bool]]] = {}
        for (path, name, fingerprint), texts in zip(self._found, captions, strict=True):
            names, known = images.setdefault(fingerprint, ([], {}))
            earlier = dict.fromkeys(map(safe_name, self._metadata.also.get(path, ())))
            names += [name, *(other for other in earlier if other not in taken)]
            taken |= earlier.keys()
            add_captions(known, texts)
        kept = [list(known.items())[:MAX_CAPTIONS] for _, known in images.values()]
        return Images(
            [names[0] for names, _ in images.values()],
            [[text for text, _ in known] for known in kept],
            [names[1:] for names, _ in images.values()],
            [[text for text, written in known if written] for known in kept],
        )


def _in_order(files: Sequence[File], make: Make[T]) -> Iterator[tuple[str, T | _MetadataFile | InputError]]:
    """Reads file after file and has the pictures made on several threads, at most two ahead for each."""
    waiting: deque[tuple[str, Future[T | _MetadataFile | InputError]]] = deque()
    with ThreadPoolExecutor(THREADS) as pool:
        for path, read, _ in files:
            waiting.append((path, pool.submit(_made, path, _read(path, read), make)))
            if len(waiting) > 2 * THREADS:
                path, made = waiting.popleft()
                yield path, made.result()
        for path, made in waiting:
            yield path, made.result()


def _read(path: str, read: Callable[[], bytes]) -> bytes | InputError:
    try:
        check_name(path)
        return read()
    except InputError as error:
        return error


def _made(path: str, data: bytes | InputError, make: Make[T]) -> T | _MetadataFile | InputError:
    if isinstance(data, InputError):
        return data
    if PurePosixPath(path).name in METADATA_NAMES:
        return _MetadataFile(data)
    try:
        return make(open_image(data), path)
    except InputError as error:
        return error
    except Exception as error:
        return InputError(f"cannot be written anew ({error}): save it in another format")

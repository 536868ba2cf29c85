"""Importer: makes images of the files that a person hands over.

`Importer` decodes on several threads, and pictures of the same pixels become one; a sub-folder becomes an album. Of a
live photo and of a raw picture beside a JPEG the picture is taken. What cannot be used is listed in `skipped` and the
rest goes on; what stands beside pictures for a use of its own is passed over. Knows pictures and metadata, not where
they are kept.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import PurePosixPath
from posixpath import commonpath
from typing import Any, NamedTuple, TypeVar

from PIL import Image

from gcr_core.data.caption_files import DOCUMENTS, looks_like_captions, may_hold_captions
from gcr_core.data.formats import FORMAT_WORDS
from gcr_core.data.images import MAX_FILE_BYTES, open_image
from gcr_core.data.kinds import DATA, OTHER_USES, grouped, left_out
from gcr_core.data.metadata import MAX_CAPTIONS, MAX_LISTED, NOT_READ, Metadata, add_captions, checked_album
from gcr_core.data.pictures import IMPORT_SIDE
from gcr_core.data.sources import File
from gcr_core.errors import GalleryError, InputError
from gcr_core.files.names import check_name, printable, safe_name

THREADS = min(4, os.cpu_count() or 1)
"""How many threads decode pictures; for one of the largest size a thread takes about half a gigabyte."""
T = TypeVar("T")
Make = Callable[[Image.Image, str], T]


class Images(NamedTuple):
    """`captions[i]`, `also[i]`, its other names, `pseudo_queries[i]`, those of its captions that the model wrote, and
    `albums[i]` belong to the image `file_names[i]`."""

    file_names: list[str]
    captions: list[list[str]]
    also: list[list[str]]
    pseudo_queries: list[list[str]]
    albums: list[str]


class _CaptionFile(NamedTuple):
    data: bytes


class _PassedOver(NamedTuple):
    """A file for a use of its own."""


class Importer:
    """`for path, made in importer.pictures(files, make): importer.add(path, name, fingerprint)`, then `images()`."""

    skipped: list[tuple[str, str]]
    """(path or metadata line, why it was left out)."""
    notes: list[tuple[str, str]]
    """(files or caption, how they were read otherwise than written, or what to know of them)."""

    def __init__(self, skipped: Iterable[tuple[str, str]] = (), notes: Iterable[tuple[str, str]] = ()) -> None:
        self.skipped, self.notes = list(skipped), list(notes)
        self._metadata = Metadata()
        self._found: list[tuple[str, str, bytes]] = []
        self._folders: dict[str, str] = {}
        self._left_out: list[tuple[str, str]] = []

    def pictures(
        self,
        files: Sequence[File],
        make: Make[T],
        on_progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> Iterator[tuple[str, T]]:
        """(path, what `make` made of picture and path) in the order of the files, few of them in memory at a time.

        `make` runs on several threads, on pictures at most IMPORT_SIDE pixels long. Metadata is read on the way.
        `on_progress(done, total)` counts files.
        """
        self._folders |= {file.name: file.folder for file in files}
        beside, alone = left_out(file.name for file in files)
        self._left_out += [(name, beside[name]) for name in beside]
        for done, (path, made) in enumerate(_in_order(files, partial(_made, make=make), alone, beside), start=1):
            if isinstance(made, InputError):
                self.skipped.append((printable(path), str(made)))
            elif isinstance(made, _CaptionFile):
                self._metadata.read(path, made.data)
            elif not isinstance(made, _PassedOver):
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
        self.notes += [*grouped([*self._left_out, *self._metadata.notes]), *self._metadata.shared][:MAX_LISTED]
        if not paths:
            first = f" (first of {len(self.skipped):,} skipped: {': '.join(self.skipped[0])})" if self.skipped else ""
            raise GalleryError(f"no image can be used{first}: add {FORMAT_WORDS} files")
        taken = {name for _, name, _ in self._found}
        images: dict[bytes, tuple[list[str], dict[str, bool]]] = {}
        albums: dict[bytes, str] = {}
        found = zip(self._found, captions, self._albums(paths), strict=True)
        for (path, name, fingerprint), texts, album in found:
            names, known = images.setdefault(fingerprint, ([], {}))
            albums[fingerprint] = albums.get(fingerprint) or album
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
            list(albums.values()),
        )

    def _albums(self, paths: list[str]) -> list[str]:
        """The albums of the images at `paths`: what metadata says, else the folder, below the one that holds all."""
        given, top = self._metadata.albums(paths), commonpath([self._folders[path] for path in paths])
        albums = {folder: folder[len(top) :].strip("/") for folder in map(self._folders.get, paths) if folder}
        for folder, album in albums.items():
            try:
                albums[folder] = checked_album(album)
            except ValueError as error:
                albums[folder] = ""
                self.skipped.append((printable(folder), f"{error}; its pictures are in no album"))
        return [given.get(path, albums.get(self._folders[path], "")) for path in paths]


def _in_order(
    files: Sequence[File], made: Callable[..., Any], alone: dict[str, str], beside: dict[str, str]
) -> Iterator[tuple[str, T | _CaptionFile | _PassedOver | InputError]]:
    """Reads file after file and has the pictures made on several threads, at most two ahead for each."""
    waiting: deque[tuple[str, Future[T | _CaptionFile | _PassedOver | InputError]]] = deque()
    with ThreadPoolExecutor(THREADS) as pool:
        for path, read, *_ in files:
            is_of_use = path not in beside and not path.lower().endswith(DATA)
            data = _read(path, read, alone.get(path)) if is_of_use else _PassedOver()
            waiting.append((path, pool.submit(made, path, data)))
            if len(waiting) > 2 * THREADS:
                path, first = waiting.popleft()
                yield path, first.result()
        for path, first in waiting:
            yield path, first.result()


def _read(path: str, read: Callable[[], bytes], refusal: str | None) -> bytes | InputError:
    """A file's bytes, unless its name says why they are of no use."""
    suffix = PurePosixPath(path).suffix.lower()
    if suffix in DOCUMENTS and looks_like_captions(path):
        refusal = f"{NOT_READ}save it as metadata.csv, with the columns file_name and text"
    try:
        check_name(path)
        return read() if refusal is None else InputError(refusal)
    except InputError as error:
        if may_hold_captions(path) and "MiB" in str(error):
            return InputError(f"is larger than {MAX_FILE_BYTES // 2**20} MiB, the limit: keep the best captions")
        return error


def _made(
    path: str, data: bytes | InputError | _PassedOver, make: Make[T]
) -> T | _CaptionFile | _PassedOver | InputError:
    if not isinstance(data, bytes):
        return data
    if may_hold_captions(path):
        return _CaptionFile(data)
    try:
        return make(open_image(data, IMPORT_SIDE), path)
    except InputError as error:
        return _PassedOver() if PurePosixPath(path).suffix.lower() in OTHER_USES else error
    except Exception as error:
        return InputError(f"cannot be written anew ({error}): save it in another format")

"""Importer: makes images of what a person hands over, files, folders and zips in any mix.

`Sources` lists the files and decodes nothing: a file's name is its path below what was handed over; where there are
several sources, that of a folder or zip stands before it. `Importer` decodes on several threads, and pictures of the
same pixels become one. What cannot be used, a whole source or one file, is listed in `skipped` and the rest goes on.
Knows pictures and metadata, not where they are kept.
"""

import os
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple, TypeVar
from zipfile import ZipInfo
from zlib import crc32

from PIL import Image

from gcr_core.data.images import SUFFIXES, open_image, read_file
from gcr_core.data.metadata import MAX_CAPTIONS, METADATA_NAMES, Metadata, add_captions
from gcr_core.errors import GalleryError, InputError
from gcr_core.files.layout import IDENTIFIERS_FILE, MANIFEST_FILE
from gcr_core.files.names import check_name, is_hidden, printable, safe_name, unique
from gcr_core.files.zips import Zip

MAX_FILES = 50_000
"""The most files of all kinds that one import takes; a source with which they would be more is left out."""
THREADS = min(4, os.cpu_count() or 1)
"""How many threads decode pictures; for one of the largest size a thread takes about half a gigabyte."""
T = TypeVar("T")
Make = Callable[[Image.Image, str], T]


class File(NamedTuple):
    name: str
    read: Callable[[], bytes]
    """Raises InputError."""
    checksum: Callable[[], int]
    """The CRC-32 of its bytes, 0 where they cannot be read."""


class Sources:
    """`with Sources(given) as sources: for file in sources.files: ...`; an open file is taken for a zip."""

    files: list[File]
    skipped: list[tuple[str, str]]
    """(source, why it was left out as a whole)."""

    def __init__(self, given: Iterable[str | Path | BinaryIO]) -> None:
        """Looks into folders and zips. Raises GalleryError where the only source is refused as a whole."""
        given = list(given)
        self.files, self.skipped = [], []
        self._zips = ExitStack()
        taken: set[str] = set()
        for source in given:
            path = Path(str(source if isinstance(source, (str, Path)) else getattr(source, "name", "the zip")))
            prefix = unique(path.name, taken) + "/" if len(given) > 1 else ""
            if not isinstance(source, (str, Path)):
                self._add_zip(source, path.name, prefix)
            elif path.is_dir():
                self._add_folder(path, prefix)
            elif not is_hidden(path.name):
                self._add_file(path, path.name, prefix)
        if len(self.skipped) == len(given) == 1:
            self._zips.close()
            raise GalleryError(self.skipped[0][1])

    def __enter__(self) -> "Sources":
        return self

    def __exit__(self, *_: object) -> None:
        self._zips.close()

    def _add_folder(self, root: Path, prefix: str) -> None:
        for name, path in files_below(root):
            self._add_file(path, prefix + name, f"{prefix}{name}/")

    def _add_file(self, path: Path, name: str, zip_prefix: str) -> None:
        if path.suffix.lower() == ".zip":
            self._add_zip(path, name, zip_prefix)
        else:
            self._add(name, [file_at(path, name)])

    def _add_zip(self, archive: Path | BinaryIO, name: str, prefix: str) -> None:
        try:
            opened = self._zips.enter_context(Zip(archive))
        except GalleryError as error:
            self.skipped.append((printable(name), str(error)))
        else:
            self._add(name, [_member(opened, member, prefix) for member in opened.members])

    def _add(self, source: str, files: list[File]) -> None:
        count = len(self.files) + len(files)
        if count > MAX_FILES:
            reason = f"brings the files to {count:,}, the limit is {MAX_FILES:,}: import fewer"
            self.skipped.append((printable(source), reason))
        else:
            self.files += files


def check_count(pictures: int, limit: int, all_counted: bool = True) -> None:
    """Raises GalleryError for more pictures than `limit`."""
    if pictures > limit:
        more = "" if all_counted else " or more"
        raise GalleryError(f"{pictures:,}{more} pictures were given, the limit is {limit:,}: choose fewer")


def check_files(files: Iterable[tuple[str, Callable[[], Hashable]]], limit: int) -> None:
    """The same for files, of which none is decoded: a picture is what has a picture's name, and copies count once.

    `files`: (name, a function whose value is the same for copies).
    """
    pictures = [tell for name, tell in files if name.lower().endswith(SUFFIXES)]
    different: set[Hashable] = set()
    for tell in pictures if len(pictures) > limit else []:
        different.add(tell())
        if len(different) > limit:
            check_count(len(pictures), limit)


def file_at(path: Path, name: str) -> File:
    """The file at a path, to be called `name`."""
    return File(name, partial(read_file, path), partial(_checksum, path))


def files_below(root: Path) -> list[tuple[str, Path]]:
    """(path below the folder, path) of its files by name. Hidden ones are left out, links to folders are not followed,
    a memory that stands below it is no part of it."""
    paths = []
    for folder, folders, files in os.walk(root):
        if {MANIFEST_FILE, IDENTIFIERS_FILE} <= set(files) and Path(folder) != root:
            folders.clear()
        else:
            paths += [Path(folder, file) for file in files]
    paths.sort()
    named = ((path.relative_to(root).as_posix(), path) for path in paths)
    return [(name, path) for name, path in named if not is_hidden(name)]


def _member(archive: Zip, member: ZipInfo, prefix: str) -> File:
    return File(prefix + member.filename, partial(archive.read, member), lambda: member.CRC)


def _checksum(path: Path) -> int:
    try:
        return crc32(read_file(path))
    except InputError:
        return 0


class Images(NamedTuple):
    """`captions[i]`, `also[i]`, its other names, and `pseudo_queries[i]`, those of its captions that the model wrote,
    belong to the image `file_names[i]`."""

    file_names: list[str]
    captions: list[list[str]]
    also: list[list[str]]
    pseudo_queries: list[list[str]]


class _MetadataFile(NamedTuple):
    data: bytes


class Importer:
    """`for path, made in importer.pictures(files, make): importer.add(path, name, fingerprint)`, then `images()`."""

    skipped: list[tuple[str, str]]
    """(path or metadata line, why it was left out)."""

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

"""Sources: what a person hands over, files, folders and zip archives in any mix, as one list of named files.

A file's name is its path below what was handed over; where there are several sources, that of a folder or zip stands
before it. A source that cannot be used is listed in `skipped` and the rest goes on. Decodes nothing.
"""

import os
from collections.abc import Callable, Hashable, Iterable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple
from zipfile import ZipInfo
from zlib import crc32

from .errors import GalleryError, InputError
from .facts import FACTS_FILE, IDENTIFIERS_FILE
from .images import SUFFIXES, read_file
from .names import is_hidden, printable, unique
from .zips import Zip

MAX_FILES = 50_000
"""Files of all kinds that one import takes; a source with which they would be more is left out."""


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
    """(source, why it was left out as a whole)"""

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
        if {FACTS_FILE, IDENTIFIERS_FILE} <= set(files) and Path(folder) != root:
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

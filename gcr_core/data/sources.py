"""Sources: the files of what a person hands over, files, folders, zips and tars in any mix; decodes none of them.

A file's name is its path below what was handed over, a folder that holds all of an archive left out; where there are
several sources, that of a folder or archive stands before it. A source that is refused as a whole is listed.
"""

import os
import re
from collections.abc import Callable, Hashable, Iterable
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from posixpath import commonpath
from typing import Any, BinaryIO, NamedTuple
from zlib import crc32

from gcr_core.data.caption_files import may_hold_captions
from gcr_core.data.formats import SUFFIXES
from gcr_core.data.images import read_file
from gcr_core.data.kinds import is_archive
from gcr_core.errors import GalleryError, InputError
from gcr_core.files.layout import IDENTIFIERS_FILE, MANIFEST_FILE
from gcr_core.files.names import base_name, folder_name, is_hidden, printable, unique
from gcr_core.files.tars import Tar, open_archive
from gcr_core.files.zips import Zip

MAX_FILES = 50_000
"""The most files of all kinds that one import takes; a source with which they would be more is left out."""
MAX_DOUBTFUL, MAX_TEXT_BYTES = 100, 4 * 2**20
"""How many names that could be read in several ways are looked for in how much text."""
INSIDE_FOLDER = "is an archive: unpack it, or import the folder"


class File(NamedTuple):
    name: str
    read: Callable[[], bytes]
    """Raises InputError."""
    checksum: Callable[[], int]
    """The CRC-32 of its bytes, 0 where they cannot be read."""
    folder: str
    """The folder that it came in, below what was handed over: an archive is none, nor is a gallery that has metadata
    beside other folders."""


class Sources:
    """`with Sources(given) as sources: for file in sources.files: ...`; an open file is taken for an archive."""

    files: list[File]
    skipped: list[tuple[str, str]]
    """(source or folder, why it was left out as a whole)."""
    notes: list[tuple[str, str]]
    """(source, what to know of how it was read)."""

    def __init__(
        self, given: Iterable[str | Path | BinaryIO], max_files: int | None = None, archives: bool = True
    ) -> None:
        """Looks into folders and, with `archives`, into zips and tars, which are listed without. At most `max_files`,
        MAX_FILES unless said otherwise. Raises GalleryError where the only source is refused as a whole."""
        given = list(given)
        self.files, self.skipped, self.notes = [], [], []
        self._archives, self._opens = ExitStack(), archives
        self._max_files = MAX_FILES if max_files is None else max_files
        taken: set[str] = set()
        paths = [Path(str(s if isinstance(s, (str, Path)) else getattr(s, "name", "the archive"))) for s in given]
        has_loose = any(isinstance(s, (str, Path)) and not path.is_dir() for s, path in zip(given, paths, strict=True))
        for source, path in zip(given, paths, strict=True):
            prefix = unique(path.name, taken) + "/" if len(given) > 1 else ""
            if not isinstance(source, (str, Path)):
                self._add_archive(source, path.name, prefix, "")
            elif path.is_dir():
                if not (prefix and is_hidden(path.name)):
                    self._add_folder(path, prefix, has_loose)
            elif not is_hidden(path.name):
                self._add_file(path, path.name, prefix, "")
        if len(self.skipped) == len(given) == 1 and not self.files:
            self._archives.close()
            raise GalleryError(self.skipped[0][1])

    def __enter__(self) -> "Sources":
        return self

    def __exit__(self, *_: object) -> None:
        self._archives.close()

    def _add_folder(self, root: Path, prefix: str, is_part: bool) -> None:
        """`is_part`: the folder stands among loose files, as in the folder that holds them all."""
        below, refused = files_below(root)
        self.skipped += [(printable(prefix + name), reason) for name, reason in refused]
        names = {name.lower() for name, _ in below}
        top = "" if names & {"metadata.jsonl", "metadata.csv"} and not is_part else prefix
        for name, path in below:
            self._add_file(path, prefix + name, f"{prefix}{name}/", folder_name(top + name))

    def _add_file(self, path: Path, name: str, inner_prefix: str, folder: str) -> None:
        if not is_archive(path.name):
            self._add(name, [file_at(path, name)._replace(folder=folder)])
        elif self._opens:
            self._add_archive(path, name, inner_prefix, folder)
        else:
            self.skipped.append((printable(name), INSIDE_FOLDER))

    def _add_archive(self, archive: Path | BinaryIO, name: str, prefix: str, folder: str) -> None:
        try:
            opened: Zip | Tar = open_archive(archive)
            self._archives.enter_context(opened)
        except GalleryError as error:
            self.skipped.append((printable(name), str(error)))
            return
        if isinstance(opened, Zip) and opened.code_pages:
            self._decide(opened, printable(name))
        paths = [member.filename.removeprefix("./") for member in opened.members]
        top = _top(paths)
        below = [folder_name(f"{folder}/{path}") for path in paths]
        self._add(
            name,
            [
                _member(opened, member, prefix + path[len(top) :], inside)
                for member, path, inside in zip(opened.members, paths, below, strict=True)
            ],
        )

    def _decide(self, archive: Zip, name: str) -> None:
        """Reads the names of a zip that could be read in several code pages as the captions in it write them."""
        text = _texts(archive)
        known = {
            page: sum(base_name(path) in text for path in paths[:MAX_DOUBTFUL])
            for page, paths in archive.code_pages.items()
        }
        best = max(known, key=lambda page: known[page])
        if known[best] and list(known.values()).count(known[best]) == 1:
            archive.decide(best)
            self.notes.append((name, f"says not how its file names are coded: they are read as {best}"))
        else:
            pages = ", ".join(known)
            self.notes.append(
                (name, f"says not how its file names are coded ({pages}?): their letters are left out, zip it as UTF-8")
            )

    def _add(self, source: str, files: list[File]) -> None:
        count = len(self.files) + len(files)
        if count > self._max_files:
            reason = f"brings the files to {count:,}, the limit is {self._max_files:,}: import fewer"
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
    return File(name, partial(read_file, path), partial(_checksum, path), folder_name(name))


def files_below(root: Path) -> tuple[list[tuple[str, Path]], list[tuple[str, str]]]:
    """(path below the folder, path) of its files by name, and (path, why it is left out) of folders.

    Hidden ones are left out. The first link to a folder is followed where that is within the root and does not hold the
    link. A memory that stands below it is no part of it.
    """
    found: list[Path] = []
    refused: list[tuple[str, str]] = []
    real = root.resolve()
    waiting, followed = [root], set[Path]()
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(folder) as listing:
                entries = list(listing)
        except OSError as error:
            reason = f"cannot be read ({error.strerror}): allow it to be read"
            refused.append((folder.relative_to(root).as_posix(), reason))
            continue
        if {MANIFEST_FILE, IDENTIFIERS_FILE} <= {entry.name for entry in entries} and folder != root:
            continue
        for entry in entries:
            path = Path(entry.path)
            name = path.relative_to(root).as_posix()
            if is_hidden(name):
                continue
            if not entry.is_dir():
                found.append(path)
            elif entry.is_symlink() and (reason := _why_not_followed(path, real, followed)):
                refused.append((name, reason))
            else:
                waiting.append(path)
    return [(path.relative_to(root).as_posix(), path) for path in sorted(found)], sorted(refused)


def _why_not_followed(link: Path, root: Path, followed: set[Path]) -> str:
    """ "" for a link to a folder that is within the root, does not hold the link and was not `followed`; then it is."""
    target = link.resolve()
    if not target.is_relative_to(root):
        return "is a link to a folder outside the gallery: put that folder into it"
    if link.parent.resolve().is_relative_to(target):
        return "is a link to a folder that holds it"
    if target in followed:
        return "is a second link to a folder"
    followed.add(target)
    return ""


def _top(paths: list[str]) -> str:
    """The folder that holds all of an archive, with a slash behind it; "" where none does, or a name leaves it."""
    folders = [path.rpartition("/")[0] for path in paths]
    if not all(folders) or any(re.match(r"/|.*\.\.(/|$)", folder) for folder in folders):
        return ""
    top = commonpath(folders)
    return top + "/" if top and all(path.startswith(top + "/") for path in paths) else ""


def _member(archive: Zip | Tar, member: Any, name: str, folder: str) -> File:
    return File(name, partial(archive.read, member), partial(archive.checksum, member), folder)


def _texts(archive: Zip) -> str:
    """What the caption files in a zip say, up to MAX_TEXT_BYTES of it."""
    texts, left = [], MAX_TEXT_BYTES
    for member in archive.members:
        if may_hold_captions(member.filename) and member.file_size <= left:
            left -= member.file_size
            with suppress(InputError):
                texts.append(archive.read(member).decode("utf-8-sig", errors="replace"))
    return "\n".join(texts)


def _checksum(path: Path) -> int:
    try:
        return crc32(read_file(path))
    except InputError:
        return 0

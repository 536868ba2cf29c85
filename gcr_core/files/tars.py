"""Tars from strangers, plain or packed by gzip, read member by member under the limits that zips have.

A packed one is unpacked into a temporary file without a name, counted as it comes out. No member's name becomes a path.
Links, devices and archives in the archive are refused one by one. Knows nothing about what the members hold.
"""

import gzip
import os
import tarfile
import tempfile
import zlib
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple

from gcr_core.errors import GalleryError, InputError
from gcr_core.files.names import check_name, is_hidden
from gcr_core.files.zips import (
    ARCHIVE_MAGICS,
    ARCHIVE_SUFFIXES,
    CHUNK,
    RATIO_COUNTS_FROM,
    ArchiveLimits,
    Zip,
    size_words,
)

GZIP_MAGIC = b"\x1f\x8b"
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
TAR_MAGIC, TAR_MAGIC_AT = b"ustar", 257
MAX_HEADER_BYTES = 2**20
"""The most bytes of what stands before a member, such as a long name, or are read of one at a time."""


class Member(NamedTuple):
    filename: str
    info: tarfile.TarInfo


def open_archive(archive: str | Path | BinaryIO) -> "Zip | Tar":
    """The zip or tar in a file, told by its content. Raises GalleryError for what is neither."""
    try:
        if isinstance(archive, (str, Path)):
            with Path(archive).open("rb") as file:
                head = file.read(2 * TAR_MAGIC_AT)
        else:
            head = archive.read(2 * TAR_MAGIC_AT)
            archive.seek(0)
    except OSError as error:
        raise GalleryError(f"{_name(archive)} cannot be read ({error.strerror or error}): check its path") from error
    is_zip = head.startswith(b"PK")
    is_tar = head.startswith(GZIP_MAGIC) or head[TAR_MAGIC_AT:].startswith(TAR_MAGIC)
    is_tar = is_tar or (not is_zip and _name(archive).lower().endswith(TAR_SUFFIXES))
    return Tar(archive) if is_tar else Zip(archive)


class Tar:
    """`with Tar(archive) as tar: for member in tar.members: data = tar.read(member)`"""

    name: str
    members: list[Member]
    """The files by name, hidden ones left out."""

    def __init__(self, archive: str | Path | BinaryIO, limits: ArchiveLimits | None = None) -> None:
        """Raises GalleryError for what is no tar or is over a limit as a whole."""
        self.limits = limits or ArchiveLimits()
        self.name = _name(archive)
        with ExitStack() as stack:
            try:
                if isinstance(archive, (str, Path)):
                    file: IO[bytes] = stack.enter_context(Path(archive).open("rb"))
                else:
                    file = archive
                is_packed = file.read(2) == GZIP_MAGIC
                file.seek(0)
                if is_packed:
                    file = stack.enter_context(self._unpacked(file))
                self._tar = stack.enter_context(tarfile.open(fileobj=_Bounded(file), mode="r:"))
                self._list()
            except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError, RecursionError) as error:
                raise GalleryError(f"{self.name} cannot be read as a tar ({error}): make the tar anew") from error
            except OSError as error:
                reason = error.strerror or error
                raise GalleryError(
                    f"{self.name} cannot be unpacked ({reason}): check its path and free space"
                ) from error
            self._open = stack.pop_all()

    def __enter__(self) -> "Tar":
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def checksum(self, member: Member) -> int:
        """The CRC-32 of its bytes, 0 where they cannot be read."""
        try:
            return zlib.crc32(self.read(member))
        except InputError:
            return 0

    def read(self, member: Member) -> bytes:
        """The member's bytes. Raises InputError where it is refused, damaged or over a limit."""
        self._check_member(member)
        try:
            stream = self._tar.extractfile(member.info)
            data = b"".join(iter(lambda: stream.read(CHUNK), b"")) if stream else b""
        except (tarfile.TarError, OSError, ValueError) as error:
            raise InputError(f"cannot be unpacked ({error}): the tar is damaged there, make it anew") from error
        if data.startswith(ARCHIVE_MAGICS):
            raise InputError("is an archive inside the archive: unpack it first")
        return data

    def _unpacked(self, packed: IO[bytes]) -> IO[bytes]:
        """A temporary file of what was packed. Raises GalleryError where that is over a limit."""
        allowed = max(RATIO_COUNTS_FROM, self.limits.ratio * packed.seek(0, os.SEEK_END))
        packed.seek(0)
        size = 0
        with ExitStack() as stack:
            file = stack.enter_context(tempfile.TemporaryFile())
            with gzip.GzipFile(fileobj=packed) as stream:
                while chunk := stream.read(CHUNK):
                    size += len(chunk)
                    if size > self.limits.total_bytes:
                        limit = size_words(self.limits.total_bytes)
                        raise GalleryError(f"{self.name} holds more than {limit} unpacked, the limit: split it")
                    if size > allowed:
                        raise GalleryError(
                            f"{self.name} unpacks to over {self.limits.ratio} times its packed size, the limit: "
                            "pack it without compression"
                        )
                    file.write(chunk)
            file.seek(0)
            stack.pop_all()
        return file

    def _list(self) -> None:
        files, total = [], 0
        for count, info in enumerate(self._tar, start=1):
            if count > self.limits.entries:
                raise GalleryError(f"{self.name} has over {self.limits.entries:,} entries, the limit: split it")
            total += info.size
            if total > self.limits.total_bytes:
                limit = size_words(self.limits.total_bytes)
                raise GalleryError(f"{self.name} holds more than {limit} unpacked, the limit: split it")
            if not info.isdir() and not is_hidden(info.name):
                files.append(Member(info.name.removeprefix("./"), info))
        self.members = sorted(files, key=lambda member: member.filename.split("/"))

    def _check_member(self, member: Member) -> None:
        """Raises InputError for a member that is refused unread."""
        check_name(member.filename)
        if not member.info.isreg() or member.info.issparse():
            raise InputError("is a link or a special file: put the file itself into the tar")
        if member.filename.lower().endswith(ARCHIVE_SUFFIXES):
            raise InputError("is an archive inside the archive: unpack it first")
        if member.info.size > self.limits.member_bytes:
            raise InputError(
                f"has {size_words(member.info.size)} unpacked, the limit is {size_words(self.limits.member_bytes)}: "
                "make it smaller"
            )


class _Bounded:
    """A file of which not much is read at a time: tarfile takes what stands before a member into memory as a whole."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MAX_HEADER_BYTES:
            raise ValueError(f"a header of {size:,} bytes, the limit is {MAX_HEADER_BYTES:,}")
        return self._file.read(size)


def _name(archive: str | Path | BinaryIO) -> str:
    return Path(str(archive if isinstance(archive, (str, Path)) else getattr(archive, "name", "the archive"))).name

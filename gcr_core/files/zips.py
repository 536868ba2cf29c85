"""Zips from strangers, read member by member under limits: no name becomes a path, nothing is unpacked unread.

Links, encrypted members, archives in the archive and members over a limit are refused one by one; a zip that is over a
limit as a whole is refused before any of it is unpacked. Knows nothing about what the members hold.
"""

import os
import stat
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from gcr_core.errors import GalleryError, InputError
from gcr_core.files.code_pages import STANDARD, readings, spelled_out, utf8
from gcr_core.files.names import check_name, is_hidden

ARCHIVE_SUFFIXES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar")
ARCHIVE_MAGICS = (b"PK\x03\x04", b"PK\x05\x06", b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf", b"Rar!")
UTF8_FLAG, FAT = 0x800, 0
"""What says of a member that its name is UTF-8, and the system whose names may have backslashes for slashes."""
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""The compression methods that are read: the others can unpack without bound in one step."""
RECORD = b"PK\x01\x02"
"""How an entry of a zip's directory begins."""
RATIO_COUNTS_FROM = 2**20
"""The bytes from which a member's ratio of compression is limited."""
CHUNK = 2**16
"""How many bytes of a member are unpacked at a time."""
DIRECTORY_CHUNK = 2**20
"""How many bytes of the directory are read at a time."""


@dataclass(frozen=True)
class ArchiveLimits:
    """What a zip may hold; sizes are bytes, unpacked."""

    entries: int = 50_000
    total_bytes: int = 8 * 2**30
    member_bytes: int = 64 * 2**20
    ratio: int = 200
    """How many times its packed size a member may have, where that is over 1 MiB."""


class Zip:
    """`with Zip(archive) as zip: for member in zip.members: data = zip.read(member)`"""

    name: str
    members: list[zipfile.ZipInfo]
    """The files by name, hidden ones left out."""
    code_pages: dict[str, list[str]]
    """Where names can be read in several ways: the names, by code page; see `decide`."""

    def __init__(self, archive: str | Path | BinaryIO, limits: ArchiveLimits | None = None) -> None:
        """Raises GalleryError for what is no zip or is over a limit as a whole."""
        self.limits = limits or ArchiveLimits()
        self.name = Path(str(archive if isinstance(archive, (str, Path)) else getattr(archive, "name", "the zip"))).name
        try:
            if isinstance(archive, (str, Path)):
                with Path(archive).open("rb") as file:
                    self._check_entries(file)
            else:
                self._check_entries(archive)
            self._zip = zipfile.ZipFile(archive)
        except OSError as error:
            raise GalleryError(f"{self.name} cannot be read ({error.strerror or error}): check its path") from error
        except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise GalleryError(f"{self.name} cannot be read as a zip ({error}): make the zip anew") from error
        self._decode()
        self._list()
        try:
            self._check_sizes()
        except GalleryError:
            self._zip.close()
            raise

    def __enter__(self) -> "Zip":
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def decide(self, code_page: str) -> None:
        """Reads the names that could be read in several ways in this one of `code_pages`."""
        for member, name in zip(self._doubtful, self.code_pages[code_page], strict=True):
            member.filename = name
        self.code_pages = {}
        self._list()

    def checksum(self, member: zipfile.ZipInfo) -> int:
        """The CRC-32 that the directory says."""
        return member.CRC

    def read(self, member: zipfile.ZipInfo) -> bytes:
        """The member's bytes. Raises InputError where it is refused, damaged or over a limit."""
        return b"".join(self.chunks(member))

    def chunks(self, member: zipfile.ZipInfo) -> Iterator[bytes]:
        """The member's bytes piece by piece, the limits counted as they come out. Raises InputError."""
        self._check_member(member)
        size, allowed = 0, max(RATIO_COUNTS_FROM, self.limits.ratio * member.compress_size)
        try:
            with self._zip.open(member) as stream:
                while chunk := stream.read(CHUNK):
                    if size == 0 and chunk.startswith(ARCHIVE_MAGICS):
                        raise InputError("is an archive inside the archive: unpack it first")
                    size += len(chunk)
                    if size > allowed:
                        raise InputError(
                            f"unpacks to {size_words(member.file_size)}, over {self.limits.ratio} times its packed "
                            "size, the limit: store it without compression"
                        )
                    yield chunk
        except InputError:
            raise
        except Exception as error:
            raise InputError(f"cannot be unpacked ({error}): the zip is damaged there, make it anew") from error

    def _decode(self) -> None:
        """Reads the names that are not said to be UTF-8; those of several readings are spelled out until `decide`."""
        self._doubtful: list[zipfile.ZipInfo] = []
        raw = []
        for member in self._zip.infolist():
            if member.flag_bits & UTF8_FLAG or member.filename.isascii():
                continue
            with suppress(UnicodeEncodeError):
                name = member.filename.encode(STANDARD)
                member.filename = utf8(name) or spelled_out(name)
                if not utf8(name):
                    self._doubtful.append(member)
                    raw.append(name)
        self.code_pages = (readings(raw) or {STANDARD: [name.decode(STANDARD) for name in raw]}) if raw else {}
        if len(self.code_pages) == 1:
            self.decide(*self.code_pages)

    def _list(self) -> None:
        for member in self._zip.infolist():
            if member.create_system == FAT:
                member.filename = member.filename.replace("\\", "/")
        files = (member for member in self._zip.infolist() if not member.is_dir() and not is_hidden(member.filename))
        self.members = sorted(files, key=lambda member: member.filename.split("/"))

    def _check_entries(self, file: BinaryIO) -> None:
        """Counts the directory records in the raw bytes, before zipfile makes an object of each.

        The directory is the end of the file, and no record so long that a whole chunk of it could be without any.
        """
        self._bytes = start = file.seek(0, os.SEEK_END)
        count = found = 0
        while start and (found or start == self._bytes):
            end, start = start, max(0, start - DIRECTORY_CHUNK)
            file.seek(start)
            found = file.read(end - start + len(RECORD) - 1).count(RECORD)
            count += found
        file.seek(0)
        if count > self.limits.entries:
            raise GalleryError(f"{self.name} has {count:,} entries, the limit is {self.limits.entries:,}: split it")

    def _check_sizes(self) -> None:
        """What the directory says is the most that zipfile unpacks: a false directory only refuses itself."""
        unpacked = sum(member.file_size for member in self.members)
        if unpacked > self.limits.total_bytes:
            limit = size_words(self.limits.total_bytes)
            raise GalleryError(f"{self.name} holds {size_words(unpacked)} unpacked, the limit is {limit}: split it")
        packed = sum(member.compress_size for member in self.members)
        if packed > self._bytes:
            raise GalleryError(
                f"{self.name} says it packs {size_words(packed)} into its {size_words(self._bytes)}: make the zip anew"
            )

    def _check_member(self, member: zipfile.ZipInfo) -> None:
        """Raises InputError for a member that is refused unread."""
        check_name(member.filename)
        if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG):
            raise InputError("is a link or a special file: put the file itself into the zip")
        if member.flag_bits & 1:
            raise InputError("is encrypted: zip it without a password")
        if member.filename.lower().endswith(ARCHIVE_SUFFIXES):
            raise InputError("is an archive inside the archive: unpack it first")
        if member.compress_type not in METHODS:
            raise InputError(f"is packed by method {member.compress_type}, not by Deflate: zip it anew")
        if member.file_size > self.limits.member_bytes:
            raise InputError(
                f"has {size_words(member.file_size)} unpacked, the limit is {size_words(self.limits.member_bytes)}: "
                "make it smaller"
            )


def size_words(count: int) -> str:
    """1536 is "1.5 KiB"."""
    size, unit = float(count), "bytes"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.1f}".removesuffix(".0") + f" {unit}"

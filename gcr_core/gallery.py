"""Gallery: images with captions, in a folder of the Hugging Face ImageFolder convention.

Made from a folder or a zip of one. What cannot be used is left out and listed in `skipped`; the rest goes on.
A zip is taken in member by member under the limits below: no member name becomes a path, nothing is unpacked
unread. Knows nothing about models.
"""

import json
import os
import re
import shutil
import stat
import unicodedata
import zipfile
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from PIL import Image

from .atomic import new_folder
from .errors import GalleryError, InputError
from .images import MAX_FILE_BYTES, open_image
from .metadata import METADATA_NAMES, Metadata, checked_row

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")
ARCHIVE_SUFFIXES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar")
ARCHIVE_MAGICS = (b"PK\x03\x04", b"PK\x05\x06", b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf", b"Rar!")

MAX_ENTRIES = 50_000
MAX_ZIP_BYTES = 8 * 2**30
MAX_RATIO = 200
RATIO_COUNTS_FROM = 2**20
MAX_METADATA_BYTES = 64 * 2**20
MAX_NAME_BYTES = 200
IMPORT_SIDE = 1024
THUMBNAIL_SIDE = 256

BIDI_CONTROLS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
FILE_FACTS = frozenset(
    ("jfif", "jfif_version", "jfif_unit", "jfif_density", "loop", "background", "timestamp", "duration")
)
"""What Pillow reports of a file that holds nothing but the picture."""
FILE_FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}


class Gallery:
    """Images with captions: `file_names[i]` below `root`, `captions[i]` its captions (perhaps none)."""

    root: Path
    file_names: list[str]
    captions: list[list[str]]
    skipped: list[tuple[str, str]]
    """(file name or metadata line, why it was left out)"""

    def __init__(
        self,
        root: Path,
        file_names: list[str],
        captions: list[list[str]],
        skipped: Iterable[tuple[str, str]] = (),
    ) -> None:
        """Raises GalleryError for a name that leaves `root` or stands twice."""
        self.root, self.file_names, self.captions, self.skipped = (
            Path(root),
            file_names,
            captions,
            list(skipped),
        )
        self._index = {name: i for i, name in enumerate(file_names)}
        if len(self._index) != len(file_names):
            raise GalleryError(f"the gallery {root} names an image twice: keep one row for each file_name")
        for name in file_names:
            if not _stays_inside(name):
                raise GalleryError(f"file_name {name!r} leaves the gallery's folder: name files below {root}")

    def __len__(self) -> int:
        return len(self.file_names)

    def path(self, index: int) -> Path:
        return self.root / self.file_names[index]

    def open(self, index: int) -> Image.Image:
        """The image, upright, RGB. Raises InputError where the file is gone or damaged."""
        return open_image(self.path(index))

    def index(self, file_name: str) -> int:
        """The image's index. Raises GalleryError for a name that the gallery lacks."""
        try:
            return self._index[file_name]
        except KeyError:
            raise GalleryError(
                f"image {file_name!r} is not in the gallery of {len(self):,} images: name one of its files"
            ) from None

    @classmethod
    def from_folder(cls, root: str | Path) -> "Gallery":
        """The images below a folder, each opened once to see that it can be; names are relative to it.

        Raises GalleryError for no folder, metadata that cannot be read, or no image at all.
        """
        root = Path(root)
        if not root.is_dir():
            raise GalleryError(f"gallery {str(root)!r} is no folder: name a folder of images or a zip of one")
        names = sorted(
            path.relative_to(root).as_posix()
            for folder, _, files in os.walk(root)
            for path in (Path(folder, file) for file in files)
            if not _is_hidden(path.relative_to(root).as_posix())
        )
        metadata, skipped = Metadata(), []
        images = []
        for name in names:
            if PurePosixPath(name).name in METADATA_NAMES:
                metadata.read(name, _read_metadata_file(root / name))
            elif name.lower().endswith(IMAGE_SUFFIXES):
                try:
                    _check_name(name)
                    open_image(root / name)
                    images.append(name)
                except InputError as error:
                    skipped.append((name, str(error)))
        captions = metadata.captions(images)
        return cls(root, images, captions, skipped + metadata.skipped)._with_images(str(root))

    @classmethod
    def from_zip(cls, archive: str | Path | BinaryIO, into: str | Path) -> "Gallery":
        """The images of a zip, streamed member by member into the new or empty folder `into`.

        Each image is decoded, made at most IMPORT_SIDE pixels long, and written anew without metadata under
        its own base name, made safe and unique. Raises GalleryError, and leaves nothing behind, for what is
        no zip, is over a limit as a whole, or holds no image.
        """
        into = Path(into)
        if into.exists() and (not into.is_dir() or any(into.iterdir())):
            raise GalleryError(f"folder {str(into)!r} is not empty: import into a new one")
        name = Path(archive).name if isinstance(archive, (str, Path)) else "the zip"
        try:
            with (
                Path(archive).open("rb") if isinstance(archive, (str, Path)) else nullcontext(archive) as file,
                new_folder(into) as building,
            ):
                _check_entries(file, name)
                with zipfile.ZipFile(file) as members:
                    gallery = _import_members(members, name, building)._with_images(name)
                gallery._write_metadata(building)
        except OSError as error:
            raise GalleryError(
                f"{name} cannot be imported ({error.strerror or error}): check its path and the free space"
            ) from error
        except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise GalleryError(f"{name} cannot be read as a zip ({error}): make the zip anew") from error
        gallery.root = into
        return gallery

    def save(self, folder: str | Path) -> None:
        """Writes thumbnails, at most THUMBNAIL_SIDE pixels long, and `metadata.jsonl` into `folder`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for i, name in enumerate(self.file_names):
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if _is_bare_thumbnail(self.path(i)):
                shutil.copyfile(self.path(i), target)
            else:
                _write_image(self.open(i), THUMBNAIL_SIDE, target)
        self._write_metadata(folder)

    @classmethod
    def load(cls, folder: str | Path) -> "Gallery":
        """What `save` wrote, in its order, without opening an image. Raises GalleryError."""
        path = Path(folder) / "metadata.jsonl"
        try:
            lines = path.read_text(encoding="utf-8").split("\n")
            rows = [checked_row(json.loads(line)) for line in lines if line]
        except (OSError, ValueError) as error:
            raise GalleryError(f"{path} is no saved gallery ({error!r}): save it anew") from error
        return cls(Path(folder), [name for name, _ in rows], [captions for _, captions in rows])

    def _write_metadata(self, folder: Path) -> None:
        rows = zip(self.file_names, self.captions, strict=True)
        text = "".join(
            json.dumps({"file_name": name, "text": captions}, ensure_ascii=False) + "\n" for name, captions in rows
        )
        (folder / "metadata.jsonl").write_text(text, encoding="utf-8", newline="\n")

    def _with_images(self, name: str) -> "Gallery":
        if not self.file_names:
            reason = f" (first of {len(self.skipped)} skipped: {': '.join(self.skipped[0])})" if self.skipped else ""
            raise GalleryError(f"{name} holds no image that can be used{reason}: add JPEG, PNG, WebP, GIF or BMP files")
        return self


def _read_metadata_file(path: Path) -> bytes:
    if path.stat().st_size > MAX_METADATA_BYTES:
        raise GalleryError(f"{path.name} is larger than {MAX_METADATA_BYTES // 2**20} MiB: shorten the captions")
    return path.read_bytes()


def _check_entries(file: BinaryIO, name: str) -> None:
    """Counts the directory records in the raw bytes, before zipfile makes an object of each."""
    record, count, tail = b"PK\x01\x02", 0, b""
    while chunk := file.read(2**20):
        count += (tail + chunk).count(record)
        tail = chunk[-len(record) + 1 :]
    file.seek(0)
    if count > MAX_ENTRIES:
        raise GalleryError(f"{name} has {count:,} entries, the limit is {MAX_ENTRIES:,}: split it")


def _import_members(members: zipfile.ZipFile, archive: str, folder: Path) -> Gallery:
    """Writes every usable image of the zip into `folder`; what is refused is listed with its reason."""
    metadata, skipped = Metadata(), []
    images: dict[str, str] = {}
    taken = set(METADATA_NAMES)
    total = 0
    for member in sorted(members.infolist(), key=lambda member: member.filename):
        name = member.filename
        if member.is_dir() or _is_hidden(name):
            continue
        try:
            _check_member(member)
            data = _read_member(members, member)
            total += len(data)
            if total > MAX_ZIP_BYTES:
                raise GalleryError(f"{archive} holds over {MAX_ZIP_BYTES // 2**30} GiB unpacked, the limit: split it")
            if PurePosixPath(name).name in METADATA_NAMES:
                metadata.read(name, data)
                continue
            if data.startswith(ARCHIVE_MAGICS):
                raise InputError("is an archive inside the archive: unpack it first")
            image = open_image(data)
        except InputError as error:
            skipped.append((name, str(error)))
            continue
        images[name] = _unique(_safe_name(name), taken)
        _write_image(image, IMPORT_SIDE, folder / images[name])
    file_names = list(images.values())
    captions = metadata.captions(list(images))
    return Gallery(folder, file_names, captions, skipped + metadata.skipped)


def _check_member(member: zipfile.ZipInfo) -> None:
    """Raises InputError for a member that is refused unread."""
    _check_name(member.filename)
    if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG):
        raise InputError("is a link or a special file, not an image: put the image itself into the zip")
    if member.flag_bits & 1:
        raise InputError("is encrypted: zip it without a password")
    if member.filename.lower().endswith(ARCHIVE_SUFFIXES):
        raise InputError("is an archive inside the archive: unpack it first")


def _read_member(members: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """The member's bytes, the limits counted as they come out. Raises InputError."""
    is_metadata = PurePosixPath(member.filename).name in METADATA_NAMES
    limit = MAX_METADATA_BYTES if is_metadata else MAX_FILE_BYTES
    data = bytearray()
    try:
        with members.open(member) as stream:
            while chunk := stream.read(2**16):
                data += chunk
                if len(data) > limit:
                    raise InputError(f"is larger than {limit // 2**20} MiB unpacked: make it smaller")
                if len(data) > max(RATIO_COUNTS_FROM, MAX_RATIO * member.compress_size):
                    raise InputError(f"unpacks to over {MAX_RATIO} times its size, the limit: store it as PNG or JPEG")
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"cannot be unpacked ({error}): the zip is damaged there, make it anew") from error
    return bytes(data)


def _check_name(name: str) -> None:
    """Raises InputError for a name that no gallery can hold."""
    if not _stays_inside(name):
        raise InputError("its name leaves the folder: name files below it")
    if any(unicodedata.category(c) == "Cs" for c in name):
        raise InputError("its name is not UTF-8: rename the file")


def _stays_inside(name: str) -> bool:
    """Whether a relative name, read on any system, stays below the folder it is relative to."""
    parts = re.split(r"[/\\]", name)
    on_a_drive = len(parts) > 1 and parts[0].endswith(":")
    return parts[0] != "" and ".." not in parts and "\0" not in name and not on_a_drive


def _is_hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) and part != ".." for part in PurePosixPath(name).parts)


def _safe_name(member_name: str) -> str:
    """The member's base name with what no file system should see replaced by `_`, and not too long."""
    base = re.split(r"[/\\]", member_name)[-1]
    safe = "".join("_" if unicodedata.category(c) in ("Cc", "Cs") or c in BIDI_CONTROLS else c for c in base)
    suffix = PurePosixPath(safe).suffix
    stem = safe.removesuffix(suffix).encode()[: MAX_NAME_BYTES - len(suffix.encode())].decode(errors="ignore")
    return (stem.strip() or "image") + suffix


def _unique(name: str, taken: set[str]) -> str:
    """`name`, or `name` with a number, such that no taken name is the same in any case; then taken."""
    stem, suffix = PurePosixPath(name).stem, PurePosixPath(name).suffix
    number, unique = 1, name
    while unique.casefold() in taken:
        number += 1
        unique = f"{stem}-{number}{suffix}"
    taken.add(unique.casefold())
    return unique


def _is_bare_thumbnail(path: Path) -> bool:
    """Whether a file can be copied as it is: of thumbnail size, with nothing in it but the picture."""
    try:
        with Image.open(path, formats=tuple({"PNG", *FILE_FORMATS.values()})) as image:
            small = max(image.size) <= THUMBNAIL_SIDE and image.mode == "RGB"
            return small and image.info.keys() <= FILE_FACTS
    except Exception:
        return False


def _write_image(image: Image.Image, longest: int, path: Path) -> None:
    """Writes the image, shrunk to `longest` pixels on its longer side, in its name's format or as PNG."""
    image.thumbnail((longest, longest), Image.Resampling.LANCZOS, reducing_gap=3.0)
    image.save(path, FILE_FORMATS.get(path.suffix.lower(), "PNG"), quality=95)

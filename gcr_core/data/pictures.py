"""Pictures: the files of an image, one that models and the lightbox get and a thumbnail that cards show.

A gallery's folder holds its pictures, and thumbnails of the larger ones in a hidden folder; that of a memory's gallery
holds thumbnails, and a folder beside it the larger pictures. Knows files, not captions.
"""

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from gcr_core.data.formats import PHOTO_SUFFIXES, WRITTEN_SUFFIXES
from gcr_core.data.images import encoded, fingerprint, is_bare, open_image, shrink
from gcr_core.files.names import safe_name

IMPORT_SIDE = 1600
"""The longest side of an imported picture, in pixels."""
MODEL_SIDE = 1024
"""The longest side of a picture as models get it, in pixels."""
THUMBNAIL_SIDE = 256
"""The longest side of a thumbnail, in pixels."""
THUMBNAILS = ".thumbnails"
"""The folder of an imported gallery that holds its thumbnails; hidden, so that none is taken for an image."""
FINGERPRINTS = ".fingerprints"
"""The file of an imported gallery that says what the pixels of its images were before they were written anew: a line
for each, the fingerprint in hex and the file's name; the last line on a name counts."""


class Files(NamedTuple):
    """The two files of a picture on its way into a memory, each as its bytes or as the path of one that has them."""

    small: bytes | Path
    large: bytes | Path | None
    """None where the thumbnail is the whole picture, or all that is kept."""

    @classmethod
    def of(cls, picture: Image.Image, name: str, longest: int) -> "Files":
        """Those of a new picture, the larger at most `longest` pixels long."""
        is_kept = max(picture.size) > THUMBNAIL_SIDE < longest
        return cls(thumbnail_of(picture, name), encoded(picture.copy(), longest, name) if is_kept else None)

    @classmethod
    def made(cls, path: Path, thumbnail: Path, longest: int) -> "Files":
        """Those of a picture in a gallery's folder, written anew where they are too large or hold more than it."""
        small = (
            thumbnail if is_bare(thumbnail, THUMBNAIL_SIDE) else thumbnail_of(open_image(path, IMPORT_SIDE), path.name)
        )
        if longest <= THUMBNAIL_SIDE or small == path:
            return cls(small, None)
        if is_bare(path, longest):
            return cls(small, path)
        picture = open_image(path, longest)
        return cls(small, encoded(picture, longest, path.name) if max(picture.size) > THUMBNAIL_SIDE else None)


class Imported(NamedTuple):
    """A picture on its way into a gallery: what its own pixels were, and the bytes to write."""

    fingerprint: bytes
    image: bytes
    thumbnail: bytes | None

    @classmethod
    def made(cls, image: Image.Image, path: str) -> "Imported":
        digest, is_small, name = fingerprint(image), max(image.size) <= THUMBNAIL_SIDE, import_name(path)
        large = encoded(image, IMPORT_SIDE, name)
        return cls(digest, large, None if is_small else thumbnail_of(image, name))

    def write(self, folder: Path, name: str) -> None:
        (folder / name).write_bytes(self.image)
        note_fingerprints(folder, {name: self.fingerprint.hex()})
        if self.thumbnail is not None:
            (folder / THUMBNAILS).mkdir(exist_ok=True)
            (folder / THUMBNAILS / name).write_bytes(self.thumbnail)


def note_fingerprints(folder: Path, fingerprints: dict[str, str]) -> None:
    """Adds images of an imported gallery, file name → fingerprint in hex, to those that are known."""
    with (folder / FINGERPRINTS).open("a", encoding="utf-8") as file:
        file.writelines(f"{digest} {name}\n" for name, digest in fingerprints.items())


def fingerprints(folder: Path) -> dict[str, str]:
    """File name → fingerprint in hex, of the images of an imported gallery of which it is known."""
    with suppress(FileNotFoundError):
        lines = (folder / FINGERPRINTS).read_text(encoding="utf-8").split("\n")
        return {name: digest for digest, _, name in (line.partition(" ") for line in lines)}
    return {}


def thumbnail_of(picture: Image.Image, name: str) -> bytes:
    """The bytes of a picture's thumbnail `name`, the same wherever it comes in."""
    small = picture.copy()
    for side in (IMPORT_SIDE, MODEL_SIDE):
        shrink(small, side)
    return encoded(small, THUMBNAIL_SIDE, name)


def import_name(path: str) -> str:
    """The file name that a picture asks for: its own, made safe, with the suffix of what is written."""
    name = safe_name(path)
    if name.lower().endswith(WRITTEN_SUFFIXES):
        return name
    return f"{name}.jpg" if name.lower().endswith(PHOTO_SUFFIXES) else f"{name}.png"


def put(file: bytes | Path, target: Path, link: bool = False) -> None:
    """Writes a file, or copies one; with `link` the copy shares the place on the disk, where that can be."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(file, bytes):
        target.write_bytes(file)
        return
    with suppress(OSError):
        if link:
            os.link(file.resolve(), target)
            return
    shutil.copyfile(file, target)

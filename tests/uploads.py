"""Pictures and zips to hand over, made on the spot."""

import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from gcr_core.data.pictures import FINGERPRINTS
from gcr_core.errors import InputError
from gcr_core.files.tars import Tar
from gcr_core.files.zips import Zip


def picture(size: tuple[int, int] = (8, 8), file_format: str = "PNG", seed: int = 0) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 255, (*size[::-1], 3), np.uint8)
    return encoded(Image.fromarray(noise), file_format)


def encoded(image: Image.Image, file_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def outcome(archive: Zip | Tar) -> dict[str, bytes | str]:
    """Each member's bytes, or why it is refused."""
    found: dict[str, bytes | str] = {}
    for member in archive.members:
        try:
            found[member.filename] = archive.read(member)
        except InputError as error:
            found[member.filename] = str(error)
    return found


def everything_below(folder: Path) -> list[str]:
    """The files of a folder, but for what an import notes for itself."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != FINGERPRINTS)
    return sorted(path.relative_to(folder).as_posix() for path in files)

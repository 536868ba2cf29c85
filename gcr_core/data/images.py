"""Images: the one place that opens an image file, whatever its source, as an upright RGB picture, and that encodes one.

The format is told by content, never by name; the pixel limit is checked before decoding; EXIF rotation is
applied; transparency is laid on white; of an animation, the first frame counts. No metadata survives, no URL
is fetched.
"""

import hashlib
import io
import warnings
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np
from PIL import Image

from gcr_core.errors import InputError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")
OTHER_SUFFIXES = (".jpe", ".jfif", ".tif", ".tiff", ".heic", ".heif", ".avif", ".jxl", ".dng")
"""The suffixes of pictures in formats that no gallery has."""
WRITTEN_AS = {".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
"""The format that a picture is written in, by its suffix; for every other suffix it is PNG."""
MAX_PIXELS = 64_000_000
"""The most pixels of a picture that is decoded."""
MAX_FILE_BYTES = 64 * 2**20
"""The most bytes of an image file that is read."""
BAND_PIXELS = 2**22
"""How many pixels of a picture are converted at a time, to save memory."""

BARE_FACTS = frozenset(
    ("jfif", "jfif_version", "jfif_unit", "jfif_density", "loop", "background", "timestamp", "duration")
)
"""What Pillow reports of a file that holds nothing but the picture."""
ORIENTATION_TAG = 0x0112
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# MAX_PIXELS is the stricter limit and comes with a message of its own.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)


def open_image(source: str | Path | bytes | BinaryIO, longest: int | None = None) -> Image.Image:
    """The picture in `source` (a path, the file's bytes or an open binary file), upright, mode RGB, shrunk to `longest`
    pixels where it is longer.

    Raises InputError for what is no file, too large, damaged, or no JPEG, PNG, WebP, GIF or BMP.
    """
    name, data = _read(source)
    if not data:
        raise InputError(f"{name} has 0 bytes: save the picture anew")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise _too_many_pixels(name, f"over {2 * (Image.MAX_IMAGE_PIXELS or 0):,}") from error
    except Exception as error:
        raise InputError(
            f"{name} is no JPEG, PNG, WebP, GIF or BMP picture: save it in one of these formats"
        ) from error
    with image:
        if image.width * image.height > MAX_PIXELS:
            raise _too_many_pixels(name, f"{image.width:,} x {image.height:,}")
        try:
            image.load()
            flat = _on_white(_upright(image))
        except Exception as error:
            raise InputError(f"{name} cannot be decoded ({error}): it is damaged or cut off, save it anew") from error
    if longest is not None:
        shrink(flat, longest)
    return flat


def read_file(path: str | Path) -> bytes:
    """The bytes of a regular file. Raises InputError for what is none, or larger than MAX_FILE_BYTES."""
    path = Path(path)
    try:
        if path.exists() and not path.is_file():
            raise ValueError("it is no file")
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"image {str(path)!r} cannot be read ({reason}): check the path") from error
    return _checked_size(path.name, data)


def fingerprint(image: Image.Image) -> bytes:
    """32 bytes that only pictures of the same size and pixels share."""
    digest = hashlib.sha256(b"%d %d " % image.size)
    for box in _bands(image):
        digest.update(image.crop(box).tobytes())
    return digest.digest()


def shrink(image: Image.Image, longest: int) -> None:
    """Makes the image itself at most so many pixels long."""
    image.thumbnail((longest, longest), Image.Resampling.LANCZOS, reducing_gap=1.5)


def encoded(image: Image.Image, longest: int, name: str) -> bytes:
    """The bytes of a file `name` that holds only the picture; `image` itself is shrunk to `longest` pixels."""
    shrink(image, longest)
    file = io.BytesIO()
    image.save(file, WRITTEN_AS.get(PurePosixPath(name).suffix.lower(), "PNG"), quality=95)
    return file.getvalue()


def is_bare(path: Path, longest: int) -> bool:
    """Whether `encoded` would have nothing to do: the file is not larger than that and holds only the picture."""
    try:
        with Image.open(path, formats=tuple({"PNG", *WRITTEN_AS.values()})) as image:
            return max(image.size) <= longest and image.mode == "RGB" and image.info.keys() <= BARE_FACTS
    except Exception:
        return False


def _read(source: str | Path | bytes | BinaryIO) -> tuple[str, bytes]:
    """The source's name for messages, and its bytes, at most MAX_FILE_BYTES of them."""
    if isinstance(source, bytes):
        return "the image", _checked_size("the image", source)
    if isinstance(source, (str, Path)):
        return Path(source).name or str(source), read_file(source)
    name = str(getattr(source, "name", "the image"))
    return name, _checked_size(name, source.read(MAX_FILE_BYTES + 1))


def _checked_size(name: str, data: bytes) -> bytes:
    if len(data) > MAX_FILE_BYTES:
        raise InputError(f"{name} is larger than {MAX_FILE_BYTES // 2**20} MiB, the limit: make the picture smaller")
    return data


def _too_many_pixels(name: str, size: str) -> InputError:
    return InputError(f"{name} has {size} pixels, the limit is {MAX_PIXELS:,}: make the picture smaller")


def _upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF orientation says; EXIF that cannot be read turns nothing."""
    try:
        orientation = image.getexif().get(ORIENTATION_TAG)
    except Exception:
        return image
    return image.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else image


def _on_white(image: Image.Image) -> Image.Image:
    """The image as bare RGB: 16-bit grey scaled to 8, transparency laid on white."""
    flat = _flattened(image)
    flat.info.clear()
    return flat


def _flattened(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    flat = Image.new("RGB", image.size)
    for box in _bands(image):
        band = image.crop(box).convert("RGBA")
        flat.paste(Image.alpha_composite(Image.new("RGBA", band.size, "white"), band).convert("RGB"), box)
    return flat


def _bands(image: Image.Image) -> Iterator[tuple[int, int, int, int]]:
    """Boxes that cover the image from top to bottom: what is made of one does not take as much memory as all of it."""
    rows = max(1, BAND_PIXELS // image.width)
    for top in range(0, image.height, rows):
        yield 0, top, image.width, min(top + rows, image.height)

"""Images: the one place that opens an image file, whatever its source, as an upright RGB picture, and that encodes one.

The format is told by content, never by name; what a file asks of a decoder is counted before decoding; colours are
sRGB; EXIF rotation is applied; transparency is laid on white; of an animation, the first frame counts. No metadata
survives, no URL is fetched.
"""

import hashlib
import io
import math
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from PIL import Image, ImageChops

from gcr_core.data import formats
from gcr_core.data.colour import bands, on_white
from gcr_core.data.formats import PHOTO_SUFFIXES, Encoded
from gcr_core.errors import InputError, first_line

WRITTEN_AS = {".webp": "WEBP"} | dict.fromkeys((".jpg", ".jpeg", *PHOTO_SUFFIXES), "JPEG")
"""The format that a picture is written in, by its suffix; for every other suffix it is PNG."""
MAX_PIXELS = 64_000_000
"""The most pixels of a picture that is decoded."""
MAX_PIXELS_OF = {"WEBP": 30_000_000, "HEIF": 50_000_000, "AVIF": 50_000_000}
"""The most of formats whose decoders take several times the picture's memory: half a gigabyte at these."""
MAX_FRAMES = 10_000
"""The most frames of a picture, of which the first is decoded."""
MAX_FILE_BYTES = 64 * 2**20
"""The most bytes of an image file that is read."""
LARGE_PIXELS = 16_000_000
"""A picture of more pixels is decoded while no other such one is, to save memory."""
ROOM = 1.5
"""A large picture is first made smaller quickly, to this many times the length that is asked for, then filtered."""
PROBE = b"\x55" * 4096
"""Bytes put in the place of a JPEG's lost end. Where pixels were lost too, a decoder makes other pixels of these."""

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
# Nobody who reads what they remark on broken EXIF could act on it.
warnings.filterwarnings("ignore", module=r"PIL\b|pillow_heif\b")

_large = threading.Lock()


def open_image(source: str | Path | bytes | BinaryIO, longest: int | None = None) -> Image.Image:
    """The picture in `source` (a path, the file's bytes or an open binary file), upright, mode RGB, shrunk to `longest`
    pixels where it is longer; then it takes less time and memory.

    Raises InputError for what is no file, too large, damaged, or no JPEG, PNG, WebP, GIF, BMP, HEIC or AVIF.
    """
    name, data = _read(source)
    encoded = formats.read(name, data)
    del data
    with _decoder(name, encoded) as image:
        exif = encoded.exif or image.info.get("exif")
        profile = encoded.profile or formats.small(image.info.get("icc_profile"))
        size = image.size if longest is None else _fitted(image.width, image.height, longest)
        # A shorter side that was rounded up would ask for twice the picture.
        asked = tuple(side - (side < max(size)) or 1 for side in size)
        drafted = image.draft(None, asked) if encoded.format == "JPEG" else None
        image.load()
        if not encoded.is_ended:
            _check_end(image, encoded)
        factor = int(max(image.size) / max(size) / ROOM) or 1
        flat = on_white(image, profile, encoded.clear, encoded.depth, factor)
        if flat.size != size:
            width, height = drafted[1][2:] if drafted else image.size
            flat = flat.resize(size, Image.Resampling.LANCZOS, (0, 0, width / factor, height / factor), ROOM)
        return _upright(flat, exif)


def share_of_most(source: str | Path | bytes | BinaryIO) -> float:
    """How many pixels a picture has, of the most that one of its format may have; nothing is decoded. Raises InputError
    as `open_image` does."""
    name, data = _read(source)
    encoded = formats.read(name, data)
    with _decoder(name, encoded) as image:
        return image.width * image.height / MAX_PIXELS_OF.get(encoded.format, MAX_PIXELS)


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
    for box in bands(image):
        digest.update(image.crop(box).tobytes())
    return digest.digest()


def shrink(image: Image.Image, longest: int) -> None:
    """Makes the image itself at most so many pixels long."""
    image.thumbnail((longest, longest), Image.Resampling.LANCZOS, reducing_gap=ROOM)


def encoded(image: Image.Image, longest: int, name: str) -> bytes:
    """The bytes of a file `name` that holds only the picture; `image` itself is shrunk to `longest` pixels."""
    shrink(image, longest)
    file = io.BytesIO()
    image.save(file, WRITTEN_AS.get(PurePosixPath(name).suffix.lower(), "PNG"), quality=95)
    return file.getvalue()


def is_bare(path: Path, longest: int) -> bool:
    """Whether `encoded` would have nothing to do: the file is not larger than that and holds only the picture."""
    try:
        with Image.open(path, formats=("PNG", "JPEG", "WEBP")) as image:
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


def _too_many_pixels(name: str, size: str, kind: str) -> InputError:
    limit = MAX_PIXELS_OF.get(kind, MAX_PIXELS)
    of = f" for {formats.NAMES[kind]}" if kind in MAX_PIXELS_OF else ""
    return InputError(f"{name} has {size} pixels, the limit is {limit:,}{of}: make the picture smaller")


@contextmanager
def _decoder(name: str, encoded: Encoded) -> Iterator[Any]:
    """The picture, its header read and within the limits, to be decoded in the block. Raises InputError for a damaged
    one."""
    if encoded.format == "HEIF":
        _register_heif(name)
    try:
        image: Any = Image.open(io.BytesIO(encoded.data), formats=(encoded.format,))
    except Image.DecompressionBombError as error:
        raise _too_many_pixels(name, f"over {2 * (Image.MAX_IMAGE_PIXELS or 0):,}", encoded.format) from error
    except Exception as error:
        raise _damaged(name, "its header makes no sense") from error
    with image:
        pixels = image.width * image.height
        if pixels > MAX_PIXELS_OF.get(encoded.format, MAX_PIXELS):
            raise _too_many_pixels(name, f"{image.width:,} x {image.height:,}", encoded.format)
        try:
            if encoded.format != "GIF" and getattr(image, "n_frames", 1) > MAX_FRAMES:
                raise ValueError(f"{image.n_frames:,} frames, the limit is {MAX_FRAMES:,}")
            with _large if pixels > LARGE_PIXELS else nullcontext():
                yield image
        except (Exception, RecursionError) as error:
            raise _damaged(name, first_line(error)) from error


def _damaged(name: str, why: str) -> InputError:
    return InputError(f"{name} cannot be decoded ({why}): it is damaged or cut off, save it anew")


def _register_heif(name: str) -> None:
    """Lets Pillow read HEIC: the picture itself, no thumbnail that a file has of it. Raises InputError where the
    package for it was removed, as whoever publishes an image may do for its licence."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError as error:
        raise InputError(
            f"{name} is HEIC, and the package pillow-heif, which reads it, is not installed: save the picture as JPEG"
        ) from error

    register_heif_opener(thumbnails=False, depth_images=False, aux_images=False, decode_threads=1)


def _fitted(width: int, height: int, longest: int) -> tuple[int, int]:
    """The size that `shrink` makes of another."""
    aspect = width / height
    if max(width, height) <= longest:
        return width, height
    if aspect > 1:
        exact = longest / aspect
        sides = math.floor(exact), math.ceil(exact)
        return longest, max(1, min(sides, key=lambda side: side and abs(aspect - longest / side)))
    exact = longest * aspect
    return max(1, min(math.floor(exact), math.ceil(exact), key=lambda side: abs(aspect - side / longest))), longest


def _check_end(image: Any, encoded: Encoded) -> None:
    """Raises ValueError where a JPEG without its end marker lacks pixels too: these change with what is put last."""
    other = Image.open(io.BytesIO(encoded.data[:-2] + PROBE + encoded.data[-2:]), formats=("JPEG",))
    with other:
        other.draft(None, image.size)
        other.load()
        lacks = other.size != image.size or ImageChops.difference(image, other).getbbox(alpha_only=False)
    if lacks:
        raise ValueError("its last part is missing")


def _upright(image: Image.Image, exif: bytes | None) -> Image.Image:
    """The image turned as its EXIF orientation says; EXIF that cannot be read turns nothing."""
    if not exif:
        return image
    given = Image.Exif()
    try:
        given.load(exif)
        orientation = given.get(ORIENTATION_TAG)
    except Exception:
        return image
    return image.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else image

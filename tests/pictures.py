"""Small pictures of every format that is read, and parts to put together odd ones of."""

import io
import struct
import zlib
from functools import cache

import numpy as np
from PIL import Image

from gcr_core.data.formats import NAMES

SIGNATURE = b"\x89PNG\r\n\x1a\n"


@cache
def photograph(width: int = 48, height: int = 32) -> Image.Image:
    """Soft colours, as cameras see: what a format that loses something loses little of."""
    noise = np.random.default_rng(0).integers(40, 215, (4, 6, 3), np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, file_format: str, **options: object) -> bytes:
    if file_format == "HEIF":
        import pillow_heif

        pillow_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False, decode_threads=1)
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


@cache
def sample(file_format: str) -> bytes:
    """The photograph in one of the formats that are read."""
    options = {"quality": 95} if file_format in ("JPEG", "WEBP", "HEIF", "AVIF") else {}
    return encoded(photograph(), file_format, **options)


def samples() -> dict[str, bytes]:
    return {file_format: sample(file_format) for file_format in NAMES}


def chunk(kind: bytes, body: bytes, crc: int | None = None) -> bytes:
    """A PNG's chunk; its checksum is right unless one is given."""
    checksum = zlib.crc32(kind + body) if crc is None else crc
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)


def png(
    rows: bytes, width: int, height: int, depth: int, colours: int, *between: bytes, ended: bool = True, idat: int = 1
) -> bytes:
    """A PNG of raw rows, each behind its filter's number; `between` stands before its pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0))
    pixels = zlib.compress(rows)
    cut = -(-len(pixels) // idat)
    parts = [chunk(b"IDAT", pixels[at : at + cut]) for at in range(0, len(pixels), cut)]
    return SIGNATURE + header + b"".join(between) + b"".join(parts) + (chunk(b"IEND", b"") if ended else b"")


def segment(kind: int, body: bytes) -> bytes:
    """A JPEG's segment."""
    return bytes([0xFF, kind]) + struct.pack(">H", len(body) + 2) + body


def with_segments(jpeg: bytes, *segments: bytes) -> bytes:
    """A JPEG with more segments behind its first mark."""
    return jpeg[:2] + b"".join(segments) + jpeg[2:]

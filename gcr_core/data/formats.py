"""Formats: what a file is, told by its first bytes, and how much it asks of a decoder, counted before one sees it.

Of a JPEG or PNG decoders get what says how its pixels are; profile and EXIF are taken out, and whatever else it carries
is left out, so that a broken text or a huge one says nothing of the picture. Decodes nothing.
"""

import re
import zlib
from pathlib import Path
from struct import unpack_from
from typing import NamedTuple

from gcr_core.errors import InputError

NAMES = {
    "JPEG": "JPEG", "PNG": "PNG", "WEBP": "WebP", "GIF": "GIF", "BMP": "BMP", "HEIF": "HEIC", "AVIF": "AVIF"
}  # fmt: skip
"""The formats that are read, as Pillow calls them, and as people do."""
*_FIRST, _LAST = NAMES.values()
FORMAT_WORDS = f"{', '.join(_FIRST)} or {_LAST}"
WRITTEN_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")
"""The suffixes of pictures that are written as what their suffix says, or as PNG."""
PHOTO_SUFFIXES = (".jpe", ".jfif", ".mpo", ".heic", ".heif", ".hif", ".avif")
"""Those of photographs, which are written anew as JPEG."""
SUFFIXES = WRITTEN_SUFFIXES + PHOTO_SUFFIXES
OTHER_SUFFIXES = (".tif", ".tiff", ".jxl", ".jp2", ".dng", ".psd", ".svg")
"""The suffixes of pictures in formats that no gallery has."""

MAX_SCANS = 32
"""The most scans of a JPEG. Encoders write ten, of four colours 18, and each is a pass over all pixels."""
MAX_SCANNED_PIXELS = 768_000_000
"""The most pixels of all scans of a JPEG together: twelve of the largest picture."""
MAX_SEGMENTS = 20_000
"""The most parts of a JPEG, or chunks of a PNG."""
MAX_PROFILE_BYTES = 4 * 2**20
"""The most bytes of a colour profile, decompressed, that is applied; a larger one is left out."""
ZEROS = 16
"""From this many zeros on, the end of a JPEG counts as room for what was never copied, not as pixels."""
HEAD_BYTES = 64
"""How many of its first bytes tell what a file is."""

MEDIA_TYPES = {"HEIF": "image/heic"}
AVIF_BRANDS, HEIF_BRANDS = {b"avif", b"avis"}, {b"mif1", b"msf1", b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"}
AVIF_NOTES = re.compile(rb"(?s)(infe.{8})Exif")
"""Where an AVIF lists its EXIF. Its decoder stops at a broken one and needs none, as rotation is noted elsewhere."""
BITMAP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)
"""How long the headers of BMP files are."""
OTHERS = (
    (rb"II\*\0|MM\0\*", "a TIFF or a camera's raw picture"),
    (rb"8BPS", "a Photoshop document"),
    (rb"\xff\x0a|\0\0\0\x0cJXL ", "a JPEG XL picture"),
    (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (rb"(?s)....ftypcrx |FUJIFILMCCD", "a camera's raw picture"),
    (rb"(?s)....ftyp|\x1aE\xdf\xa3|RIFF....AVI ", "a video"),
    (rb"\0\0\x01\0", "an icon"),
    (rb"%PDF", "a PDF"),
    (rb"PK\x03\x04|Rar!|7z\xbc\xaf|\x1f\x8b", "an archive"),
    (rb"(?s)\s*<(\?xml.*<svg|svg)", "an SVG drawing"),
    (rb"(?i)\s*<(!doctype html|html)", "a web page"),
    (rb"version https://git-lfs", "a Git LFS pointer, whose picture was not fetched"),
    (rb"\0\x05\x16\x07", "a macOS note on another file"),
)
"""(how a file that is not read begins, what messages call it)."""

MARKER = re.compile(rb"\xff([^\x00\x01\xff\xd0-\xd7])")
"""A JPEG's next marker of a segment, found as decoders find it: over padding, coded pixels and restarts."""
START_OF_SCAN, END_OF_IMAGE, EXIF_SEGMENT, PROFILE_SEGMENT = 0xDA, 0xD9, 0xE1, 0xE2
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""The segments that say how large a picture is."""
NOTES = frozenset({*range(0xE1, 0xF0), 0xFE} - {0xEE})
"""The segments that say nothing of the pixels. Adobe's is none of them: it says how colours are coded."""
PROFILE_NAME = b"ICC_PROFILE\0"
SIGNATURE = b"\x89PNG\r\n\x1a\n"
END_CHUNK = b"\0\0\0\0IEND\xaeB`\x82"
GREY, COLOUR, PALETTE = 0, 2, 3
"""Colour types of a PNG whose tRNS chunk counts."""


class Encoded(NamedTuple):
    """A picture before it is decoded."""

    format: str
    data: bytes
    """What a decoder gets."""
    profile: bytes | None = None
    """The colour profile (ICC) that was taken out of the data."""
    exif: bytes | None = None
    clear: tuple[int, ...] | None = None
    """The colour of the pixels that are transparent, as a PNG has them: one number for grey, or three."""
    depth: int = 8
    """Bits of each number in a PNG."""
    is_ended: bool = True
    """False where a JPEG lacked its end marker; `data` has one."""


def format_of(head: bytes) -> str | None:
    """The format of a picture by its first HEAD_BYTES or more; None for what is none of NAMES."""
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(SIGNATURE):
        return "PNG"
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return "GIF"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[:2] == b"BM" and len(head) >= 18 and unpack_from("<I", head, 14)[0] in BITMAP_HEADERS:
        return "BMP"
    if head[4:8] == b"ftyp":
        end = min(unpack_from(">I", head)[0], HEAD_BYTES)
        brands = {head[at : at + 4] for at in (8, *range(16, end - 3, 4))}
        return "AVIF" if brands & AVIF_BRANDS else "HEIF" if brands & HEIF_BRANDS else None
    return None


def media_type(path: Path) -> str | None:
    """The media type of a picture's file, by its content; None for what is no picture or cannot be read."""
    try:
        with path.open("rb") as file:
            kind = format_of(file.read(HEAD_BYTES))
    except OSError:
        return None
    return kind and MEDIA_TYPES.get(kind, f"image/{kind.lower()}")


def read(name: str, data: bytes) -> Encoded:
    """What a decoder gets of a file's bytes. Raises InputError, saying what the file is, for what is no picture, and
    for one of too many parts; `name` is what messages call it."""
    if not data:
        raise InputError(f"{name} has 0 bytes: save the picture anew")
    kind = format_of(data)
    if kind is None:
        raise InputError(_is_none(name, data))
    if kind == "JPEG":
        return _jpeg(name, data)
    if kind == "PNG":
        return _png(name, data)
    return Encoded(kind, AVIF_NOTES.sub(rb"\1free", data) if kind == "AVIF" else data)


def _is_none(name: str, data: bytes) -> str:
    """Why a file is no picture that is read."""
    if not data.strip(b"\0"):
        return f"{name} holds zeros alone: copying it has failed, copy it again"
    head = data[:1024].removeprefix(b"\xef\xbb\xbf")
    what = next((f" but {words}" for start, words in OTHERS if re.match(start, head)), "")
    return f"{name} is no {FORMAT_WORDS} picture{what}: save it in one of these formats"


def _jpeg(name: str, data: bytes) -> Encoded:
    """Without notes, up to its end marker: what follows is another picture, or a video."""
    kept, start, at, scans, segments = [], 0, 2, 0, 0
    exif, profile, pixels, is_ended = None, {}, 0, False
    while found := MARKER.search(data, at):
        if not scans and found.start() > at:
            kept.append(data[start:at])
            start = found.start()
        kind, at = found[1][0], found.end()
        if kind == END_OF_IMAGE:
            is_ended = True
            break
        size = int.from_bytes(data[at : at + 2], "big")
        body = data[at + 2 : at + size]
        at += size
        scans, segments = scans + (kind == START_OF_SCAN), segments + 1
        if kind in FRAMES:
            pixels = int.from_bytes(body[1:3], "big") * int.from_bytes(body[3:5], "big")
        if scans > (most := min(MAX_SCANS, MAX_SCANNED_PIXELS // max(pixels, 1))) > 0 or segments > MAX_SEGMENTS:
            parts = f"{most} scans" if segments <= MAX_SEGMENTS else f"{MAX_SEGMENTS:,} parts"
            raise InputError(f"{name} is a JPEG of more than {parts}, the limit: save it anew")
        if kind in NOTES:
            kept.append(data[start : found.start()])
            start = at
        if kind == EXIF_SEGMENT and exif is None and body.startswith(b"Exif\0"):
            exif = body
        elif kind == PROFILE_SEGMENT and body.startswith(PROFILE_NAME):
            profile[body[12:13]] = body[14:]
    rest = data[start : at if is_ended else len(data)]
    if not is_ended:
        padded = len(rest) - len(rest.rstrip(b"\0")) >= ZEROS
        rest = (rest.rstrip(b"\0") if padded else rest).removesuffix(b"\xff") + b"\xff\xd9"
    kept.append(rest)
    whole = b"".join(part for _, part in sorted(profile.items()))
    return Encoded("JPEG", b"".join(kept), small(whole), exif, is_ended=is_ended)


def _png(name: str, data: bytes) -> Encoded:
    """The chunks that say how its pixels are; over a chunk of no possible length, its pixels are looked for."""
    kept, at, chunks = [SIGNATURE], len(SIGNATURE), 0
    colours, depth, profile, exif, clear = COLOUR, 8, None, None, None
    while at + 12 <= len(data):
        size, kind = unpack_from(">I4s", data, at)
        end = at + 12 + size
        if not kind.isalpha() or (end > len(data) and kind != b"IDAT"):
            at = data.find(b"IDAT", at + 4) - 4
            if at < 0:
                break
            continue
        chunks += 1
        if chunks > MAX_SEGMENTS:
            raise InputError(f"{name} is a PNG of more than {MAX_SEGMENTS:,} chunks, the limit: save it anew")
        body = data[at + 8 : end - 4]
        if kind == b"IHDR" and size == 13:
            depth, colours = body[8], body[9]
        if kind in (b"IHDR", b"PLTE", b"IDAT") or (kind == b"tRNS" and colours == PALETTE):
            kept.append(data[at:end])
        elif kind == b"tRNS" and size == (2 if colours == GREY else 6):
            clear = unpack_from(f">{size // 2}H", body)
        elif kind == b"iCCP":
            profile = _inflated(body.partition(b"\0")[2][1:])
        elif kind == b"eXIf":
            exif = body
        elif kind == b"IEND":
            break
        at = end
    return Encoded("PNG", b"".join([*kept, END_CHUNK]), profile, exif, clear, depth)


def _inflated(data: bytes) -> bytes | None:
    """A compressed profile; None for one that is broken or too large."""
    try:
        return small(zlib.decompressobj().decompress(data, MAX_PROFILE_BYTES + 1))
    except zlib.error:
        return None


def small(profile: bytes | None) -> bytes | None:
    """A colour profile; None for an empty one, and for one of more than MAX_PROFILE_BYTES."""
    return profile if profile and len(profile) <= MAX_PROFILE_BYTES else None

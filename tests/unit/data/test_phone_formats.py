"""HEIC and AVIF, as phones make them, whole and broken."""

import struct
import sys
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gcr_core.data.images import open_image
from gcr_core.errors import InputError
from tests.pictures import encoded, photograph, sample

FORMATS = ("HEIF", "AVIF")
WHOLE: dict[str, dict[str, Any]] = {
    "small": {},
    "of one pixel": {"size": (1, 1)},
    "of odd sides": {"size": (33, 17)},
    "grey": {"mode": "L"},
    "with transparency": {"mode": "RGBA"},
    "all of its colours": {"subsampling": "4:4:4", "chroma": 444},
    "of poor quality": {"quality": 5},
    "several pictures": {"save_all": True, "append_images": [Image.new("RGB", (48, 32), "red")] * 3},
    "with texts": {"xmp": b"<x:xmpmeta/>" * 500},
}


@pytest.mark.parametrize("what", WHOLE)
@pytest.mark.parametrize("file_format", FORMATS)
def test_pictures_of_phones_open(file_format: str, what: str) -> None:
    options = dict(WHOLE[what])
    picture = photograph(*options.pop("size", (48, 32))).convert(options.pop("mode", "RGB"))
    opened = open_image(encoded(picture, file_format, **options))
    assert (opened.mode, opened.size, opened.info) == ("RGB", picture.size, {})
    mean = np.asarray(picture.convert("RGB"), int).mean((0, 1))
    assert np.abs(np.asarray(opened, int).mean((0, 1)) - mean).max() < 12


def test_without_the_package_for_heic_its_pictures_are_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    heic = encoded(photograph(48, 32), "HEIF")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(
        InputError, match=r"^the image is HEIC, and the package pillow-heif, .*: save the picture as JPEG$"
    ):
        open_image(heic)
    assert open_image(encoded(photograph(48, 32), "AVIF")).size == (48, 32)


def box(data: bytes, kind: bytes, body: bytes, at: int = 4) -> bytes:
    """The file with other bytes in the first box of a kind, `at` so many behind its name."""
    start = data.index(kind) + at
    return data[:start] + body + data[start + len(body) :]


BROKEN = {
    "its half": lambda data: data[: len(data) // 2],
    "its head": lambda data: data[:40],
    "its first box": lambda data: data[: struct.unpack(">I", data[:4])[0]],
    "without its last bytes": lambda data: data[:-60],
    "a size of nothing": lambda data: box(data, b"ispe", bytes(8), 8),
    "a size beyond the limit": lambda data: box(data, b"ispe", struct.pack(">II", 9000, 9000), 8),
    "a size beyond all": lambda data: box(data, b"ispe", b"\xff" * 8, 8),
    "boxes of no room": lambda data: box(data, b"meta", b"\0\0\0\x0c", -4),
    "a box longer than the file": lambda data: box(data, b"meta", b"\x7f\xff\xff\xff", -4),
    "places beyond the file": lambda data: box(data, b"iloc", b"\xff" * 40, 12),
    "no description": lambda data: data.replace(b"iprp", b"free"),
    "no pixels": lambda data: data[: data.index(b"mdat") + 4] + bytes(len(data) - data.index(b"mdat") - 4),
}


@pytest.mark.parametrize("what", BROKEN)
@pytest.mark.parametrize("file_format", FORMATS)
def test_broken_pictures_of_phones_are_one_line(file_format: str, what: str) -> None:
    with pytest.raises(InputError) as refused:
        open_image(BROKEN[what](sample(file_format)))
    words = str(refused.value)
    assert "\n" not in words
    assert "cannot be decoded" in words or "pixels, the limit is 50,000,000 for" in words


@pytest.mark.parametrize("file_format", FORMATS)
def test_notes_that_are_broken_turn_nothing(file_format: str) -> None:
    exif = Image.Exif()
    exif[0x010E] = "a red boat"
    data = encoded(photograph(), file_format, exif=exif.tobytes())
    broken = data.replace(b"MM\0*", b"nope").replace(b"II*\0", b"nope")
    assert broken != data
    assert open_image(broken).size == photograph().size

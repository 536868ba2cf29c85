"""Colours and transparency on the way to RGB."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from gcr_core.data import colour
from gcr_core.data.images import ORIENTATION_TAG, open_image, shrink
from tests.pictures import chunk, encoded, photograph, png

WHITE = (255, 255, 255)


def matrix_profile(swapped: bool = False, gamma: float = 2.2) -> bytes:
    """An RGB profile; `swapped`: with the primaries of red and blue exchanged, so that no eye misses it."""
    primaries = [(0.4360, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141)]
    return _profile(b"RGB ", dict(zip("rgb", primaries[::-1] if swapped else primaries, strict=True)), gamma)


def grey_profile(gamma: float) -> bytes:
    return _profile(b"GRAY", {}, gamma)


def _profile(space: bytes, primaries: dict[str, tuple[float, ...]], gamma: float) -> bytes:
    def xyz(numbers: tuple[float, ...]) -> bytes:
        return b"XYZ \0\0\0\0" + b"".join(struct.pack(">i", round(number * 65536)) for number in numbers)

    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    tags = {
        b"wtpt": xyz((0.9642, 1.0, 0.8249)),
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", 5) + b"mine\0" + bytes(79),
    }
    tags |= {f"{name}XYZ".encode(): xyz(numbers) for name, numbers in primaries.items()}
    tags |= {f"{name}TRC".encode(): curve for name in primaries or "k"}
    at, table, bodies = 132 + 12 * len(tags), b"", b""
    for name, body in tags.items():
        body += bytes(-len(body) % 4)
        table += name + struct.pack(">II", at + len(bodies), len(body))
        bodies += body
    rest = struct.pack(">I", len(tags)) + table + bodies
    header = struct.pack(">I4sI4s4s4s", 128 + len(rest), b"lcms", 0x02400000, b"mntr", space, b"XYZ ")
    header += bytes(12) + b"acsp" + bytes(28) + struct.pack(">iii", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + rest


SWAPPED = matrix_profile(swapped=True)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "AVIF", "HEIF"])
def test_a_profile_is_applied(file_format: str) -> None:
    red = Image.new("RGB", (16, 16), (230, 20, 20))
    pixel = open_image(encoded(red, file_format, icc_profile=SWAPPED, quality=95)).getpixel((8, 8))
    assert pixel[2] > 200 > 60 > max(pixel[:2])


def test_a_profile_of_srgb_changes_nothing() -> None:
    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    plain, told = (open_image(encoded(photograph(), "PNG", **options)) for options in ({}, {"icc_profile": own}))
    assert (np.asarray(plain) == np.asarray(told)).all()


def test_grey_is_as_light_as_its_profile_says() -> None:
    grey = Image.new("L", (4, 4), 128)
    shades = [
        open_image(encoded(grey, "PNG", icc_profile=grey_profile(gamma))).getpixel((0, 0))[0] for gamma in (1.0, 2.2, 3)
    ]
    assert shades[0] > 180 and abs(shades[1] - 128) < 4 and shades[2] < 110


@pytest.mark.parametrize("mode", ["P", "RGBA", "LA", "L", "1", "CMYK"])
def test_a_profile_of_other_colours_than_the_pictures_is_left_out(mode: str) -> None:
    file_format = "JPEG" if mode == "CMYK" else "PNG"
    profile = grey_profile(1.0) if mode in ("P", "RGBA") else SWAPPED
    plain, told = (
        open_image(encoded(photograph().convert(mode), file_format, **options))
        for options in ({}, {"icc_profile": profile})
    )
    assert (np.asarray(plain) == np.asarray(told)).all()


def test_a_profile_is_applied_to_palettes_and_behind_transparency() -> None:
    for mode in ("P", "RGBA"):
        picture = Image.new("RGB", (4, 4), (230, 20, 20)).convert(mode)
        pixel = open_image(encoded(picture, "PNG", icc_profile=SWAPPED)).getpixel((1, 1))
        assert pixel[2] > 200 > 60 > pixel[0]
    clear = Image.new("RGBA", (4, 4), (230, 20, 20, 0))
    assert open_image(encoded(clear, "PNG", icc_profile=SWAPPED)).getpixel((1, 1)) == WHITE


@pytest.mark.parametrize("damage", ["cut", "empty", "zeros", "noise", "tags"])
def test_a_broken_profile_is_left_out(damage: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, 700, np.uint8).tobytes()
    given = {
        "cut": SWAPPED[:200], "empty": b"x", "zeros": bytes(500), "noise": noise,
        "tags": SWAPPED[:128] + b"\xff" * 4 + SWAPPED[132:],
    }  # fmt: skip
    plain, told = (
        open_image(encoded(photograph(), "PNG", **options)) for options in ({}, {"icc_profile": given[damage]})
    )
    assert (np.asarray(plain) == np.asarray(told)).all()


def test_cmyk_goes_by_its_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(
        colour,
        "to_srgb",
        lambda profile, mode: asked.append((profile, mode)) or (lambda picture: picture.convert("RGB")),
    )
    ink = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    pixel = open_image(encoded(ink, "JPEG", icc_profile=b"inks" * 90_000, quality=95)).getpixel((8, 8))
    assert asked == [(b"inks" * 90_000, "CMYK")]
    assert pixel[0] > 240 > 20 > max(pixel[1:])


def grey16(numbers: list[int], *between: bytes) -> bytes:
    return png(b"\0" + struct.pack(f">{len(numbers)}H", *numbers), len(numbers), 1, 16, 0, *between)


CLEAR_PNGS = {
    "grey of 16 bits": (grey16([0, 256, 257, 65535], chunk(b"tRNS", struct.pack(">H", 257))), [0, 1, 255, 255]),
    "grey of 16 bits, none clear": (grey16([0, 256, 257]), [0, 1, 1]),
    "grey of 8 bits": (png(b"\0\0\7\x09", 3, 1, 8, 0, chunk(b"tRNS", b"\0\7")), [0, 255, 9]),
    "grey of 4 bits": (png(b"\0\x0f", 2, 1, 4, 0, chunk(b"tRNS", b"\0\0")), [255, 255]),
    "grey of 4 bits, the middle": (png(b"\0\x57", 2, 1, 4, 0, chunk(b"tRNS", b"\0\5")), [255, 119]),
    "grey of 2 bits": (png(b"\0\x1b", 4, 1, 2, 0, chunk(b"tRNS", b"\0\1")), [0, 255, 170, 255]),
    "black and white": (png(b"\0\x40", 2, 1, 1, 0, chunk(b"tRNS", b"\0\0")), [255, 255]),
    "colour of 8 bits": (
        png(b"\0\1\1\1\2\2\2", 2, 1, 8, 2, chunk(b"tRNS", b"\0\2\0\2\0\2")),
        [1, 255],
    ),
    "colour of 16 bits": (
        png(b"\0" + b"\1\0" * 3 + b"\2\0" * 3, 2, 1, 16, 2, chunk(b"tRNS", b"\2\0" * 3)),
        [1, 255],
    ),
    "palette": (
        png(b"\0\0\1\2", 3, 1, 8, 3, chunk(b"PLTE", bytes([9] * 3 + [5] * 3 + [0] * 3)), chunk(b"tRNS", b"\xff\0\x80")),
        [9, 255, 127],
    ),
    "a colour in a grey picture": (png(b"\0\7", 1, 1, 8, 0, chunk(b"tRNS", b"\0\7\0\7\0\7")), [7]),
}


@pytest.mark.parametrize("what", CLEAR_PNGS)
def test_the_transparent_colour_of_a_png_is_white(what: str) -> None:
    data, shades = CLEAR_PNGS[what]
    picture = np.asarray(open_image(data))[0]
    assert (picture == picture[:, :1]).all()
    assert np.abs(picture[:, 0].astype(int) - shades).max() <= 1


@pytest.mark.parametrize("file_format", ["PNG", "WEBP", "GIF", "AVIF", "HEIF"])
def test_transparent_pixels_are_white_whatever_colour_they_hide(file_format: str) -> None:
    picture = Image.new("RGBA", (32, 32), (10, 200, 10, 255))
    picture.paste((0, 0, 0, 0), (0, 0, 16, 32))
    opened = open_image(encoded(picture, file_format))
    assert min(opened.getpixel((4, 16))) > 248
    assert np.abs(np.subtract(opened.getpixel((28, 16)), (10, 200, 10))).max() < 20


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "CMYK", "P", "1"])
@pytest.mark.parametrize("longest", [None, 60, 20, 7])
def test_a_picture_made_smaller_on_the_way_is_like_one_made_smaller_after(mode: str, longest: int | None) -> None:
    data = encoded(photograph(200, 130).convert(mode), "JPEG" if mode in ("CMYK", "RGB") else "PNG")
    made, whole = open_image(data, longest), open_image(data)
    if longest is not None:
        shrink(whole, longest)
        assert max(made.size) == longest
    assert made.size == whole.size
    assert np.abs(np.asarray(made, int) - np.asarray(whole, int)).mean() < (12 if mode == "1" else 3)


def test_a_long_jpeg_is_decoded_at_the_size_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    on_white = colour.on_white
    monkeypatch.setattr(
        "gcr_core.data.images.on_white", lambda image, *more: sizes.append(image.size) or on_white(image, *more)
    )
    data = encoded(photograph(1600, 100), "JPEG")
    assert open_image(data, 200).size == (200, 13)
    assert sizes == [(200, 13)]


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "AVIF", "HEIF"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8, 99])
def test_pictures_stand_upright(file_format: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = orientation
    picture = Image.new("RGB", (64, 32), "black")
    picture.paste("white", (0, 0, 32, 32))
    opened = open_image(encoded(picture, file_format, exif=exif.tobytes(), quality=95))
    left, top = {3: (48, 16), 6: (16, 16), 8: (16, 48)}.get(orientation, (16, 16))
    assert opened.size == ((32, 64) if orientation in (6, 8) else (64, 32))
    assert min(opened.getpixel((left, top))) > 230
    assert io.BytesIO(opened.tobytes()).read(3) == bytes(opened.getpixel((0, 0)))

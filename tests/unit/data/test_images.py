"""The guarded image loader."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gcr_core.data import colour, formats, images
from gcr_core.data.images import open_image
from gcr_core.errors import InputError
from tests.pictures import encoded


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and has no pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((len(chunk) - 4, chunk, zlib.crc32(chunk)) for chunk in (header, b"IDAT"))
    return b"\x89PNG\r\n\x1a\n" + b"".join(struct.pack(">I", n) + c + struct.pack(">I", crc) for n, c, crc in chunks)


@pytest.mark.parametrize("file_format", tuple(formats.NAMES))
def test_every_accepted_format_opens_as_rgb(file_format: str) -> None:
    image = open_image(encoded(Image.new("RGB", (6, 4), (200, 30, 30)), file_format))
    assert (image.mode, image.size) == ("RGB", (6, 4))
    assert np.abs(np.asarray(image, int) - (200, 30, 30)).max() < 12


def test_path_text_bytes_and_open_file_give_the_same_picture(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(Image.new("RGB", (3, 3), "teal"), "PNG"))
    with path.open("rb") as file:
        sources = [path, str(path), path.read_bytes(), file]
        pictures = [np.asarray(open_image(source)) for source in sources]
    assert all((picture == pictures[0]).all() for picture in pictures)


def test_transparency_is_laid_on_white() -> None:
    half = Image.new("RGBA", (2, 2), (255, 0, 0, 0))
    assert open_image(encoded(half, "PNG")).getpixel((0, 0)) == (255, 255, 255)
    palette = Image.new("P", (2, 2), 0)
    palette.putpalette([10, 20, 30])
    assert open_image(encoded(palette, "PNG", transparency=0)).getpixel((0, 0)) == (255, 255, 255)


def test_a_picture_taken_band_by_band_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (23, 17, 4), np.uint8)
    picture = encoded(Image.fromarray(noise), "PNG")
    whole = open_image(picture)
    monkeypatch.setattr(colour, "BAND_PIXELS", 40)
    banded = open_image(picture)
    assert (np.asarray(banded) == np.asarray(whole)).all()
    whole_print = images.fingerprint(whole)
    monkeypatch.undo()
    assert images.fingerprint(banded) == whole_print


def test_only_the_same_size_and_pixels_have_the_same_fingerprint() -> None:
    blank, turned, other = (Image.new("RGB", size, colour) for size, colour in (((2, 8), 0), ((8, 2), 0), ((2, 8), 1)))
    assert images.fingerprint(blank) == images.fingerprint(blank.copy())
    assert len({images.fingerprint(picture) for picture in (blank, turned, other)}) == 3


def test_exif_rotation_is_applied_and_no_metadata_is_kept() -> None:
    exif = Image.Exif()
    exif[images.ORIENTATION_TAG] = 6
    picture = Image.new("RGB", (4, 2), "black")
    picture.putpixel((0, 0), (255, 255, 255))
    opened = open_image(encoded(picture, "PNG", exif=exif))
    assert opened.size == (2, 4)
    assert opened.getpixel((1, 0)) == (255, 255, 255)
    assert not opened.getexif()


def test_broken_exif_turns_nothing() -> None:
    picture = encoded(Image.new("RGB", (4, 2)), "JPEG", exif=b"Exif\0\0nonsense")
    assert open_image(picture).size == (4, 2)


@pytest.mark.parametrize("mode", ["CMYK", "L", "1", "P", "LA", "I;16"])
def test_unusual_modes_open(mode: str) -> None:
    file_format = "JPEG" if mode == "CMYK" else "PNG"
    assert open_image(encoded(Image.new(mode, (5, 5)), file_format)).mode == "RGB"


def test_sixteen_bit_grey_keeps_its_shades() -> None:
    shades = Image.fromarray(np.array([[0, 32768, 65535]], np.uint16))
    assert [open_image(encoded(shades, "PNG")).getpixel((x, 0))[0] for x in range(3)] == [0, 128, 255]


def test_of_an_animation_the_first_frame_counts() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    animated = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert open_image(animated).getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize("file_format", ["TIFF", "PPM", "EPS"])
def test_other_formats_are_refused_whatever_their_name(file_format: str, tmp_path: Path) -> None:
    path = tmp_path / "picture.jpg"
    path.write_bytes(encoded(Image.new("RGB", (4, 4)), file_format))
    with pytest.raises(InputError, match=r"picture\.jpg is no JPEG, PNG, WebP, GIF, BMP, HEIC or AVIF"):
        open_image(path)


def test_svg_and_text_files_are_refused() -> None:
    for data in (b"hello", b"<svg xmlns='http://www.w3.org/2000/svg'/>"):
        with pytest.raises(InputError, match="save it in one of these formats"):
            open_image(data)


def test_empty_file_is_refused() -> None:
    with pytest.raises(InputError, match="has 0 bytes: save the picture anew"):
        open_image(b"")


def test_truncated_file_is_refused() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    for file_format in ("JPEG", "PNG"):
        data = encoded(Image.fromarray(noise), file_format)
        with pytest.raises(InputError, match="damaged or cut off"):
            open_image(data[: len(data) // 2])


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [9_000, 12_000, 50_000])
def test_pixel_limit_rejects_oversized_image_before_decoding(side: int) -> None:
    with pytest.raises(InputError, match=r"pixels, the limit is 64,000,000: make the picture smaller"):
        open_image(png_header(side, side))


def test_byte_limit_rejects_large_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_FILE_BYTES", 10)
    with pytest.raises(InputError, match="larger than"):
        open_image(encoded(Image.new("RGB", (4, 4)), "PNG"))


@pytest.mark.parametrize("source", ["nowhere/a.png", "https://example.org/a.png", "a\0b.png", "/"])
def test_what_is_no_file_is_refused_and_never_fetched(source: str) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        open_image(source)

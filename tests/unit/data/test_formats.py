"""What a file is by its content, and what of it a decoder gets."""

import io
import struct
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gcr_core.data import colour, formats, images
from gcr_core.data.formats import format_of, media_type
from gcr_core.data.images import open_image
from gcr_core.errors import InputError
from tests.pictures import SIGNATURE, chunk, encoded, photograph, png, sample, samples, segment, with_segments

ROWS = b"".join(b"\0" + bytes(range(60 * y, 60 * y + 12)) for y in range(3))
"""Three rows of four coloured pixels."""
BROKEN_PNG = {
    "a profile of four megabytes": chunk(b"iCCP", b"scanner\0\0" + zlib.compress(bytes(5 * 2**20))),
    "a profile that is no profile": chunk(b"iCCP", b"x\0\0" + zlib.compress(b"nonsense" * 40)),
    "a profile whose compression is broken": chunk(b"iCCP", b"x\0\0" + b"nonsense"),
    "a text with a wrong checksum": chunk(b"tEXt", b"Title\0boat", crc=1),
    "a text that is huge unpacked": b"",  # made in its test: it takes half a second, which whoever collects would wait
    "many texts": chunk(b"tEXt", b"k\0" + b"v" * 70_000) * 40,
    "an international text cut short": chunk(b"iTXt", b"XML"),
    "a text with an impossible length": struct.pack(">I", 2**31 - 5) + b"tEXt" + b"Title\0boat",
    "EXIF that is none": chunk(b"eXIf", b"nonsense"),
    "resolution of no length": chunk(b"pHYs", b""),
    "transparency of a wrong length": chunk(b"tRNS", b"\1"),
    "frames of an animation that are not there": chunk(b"acTL", struct.pack(">II", 9_999_999, 0)),
    "a chunk of nobody's": chunk(b"vpAg", b"\0" * 9),
}


@pytest.mark.parametrize("what", BROKEN_PNG)
def test_what_a_png_carries_beside_its_pixels_keeps_it_from_nothing(what: str) -> None:
    broken = BROKEN_PNG[what] or chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(200 * 2**20), 9))
    picture = open_image(png(ROWS, 4, 3, 8, 2, broken))
    assert np.asarray(picture).tobytes() == b"".join(ROWS[at : at + 13][1:] for at in (0, 13, 26))


def test_a_png_without_its_last_chunk_opens_and_one_without_its_last_pixels_does_not() -> None:
    whole = png(ROWS, 4, 3, 8, 2, ended=False)
    assert open_image(whole).size == (4, 3)
    for cut in (9, 20):
        with pytest.raises(InputError, match="damaged or cut off"):
            open_image(whole[:-cut])


@pytest.mark.parametrize("depth", [2, 8])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 100}, {"subsampling": 0}, {"restart": 1}])
def test_a_jpeg_that_lacks_only_its_end_marker_opens(options: dict, depth: int) -> None:
    if "restart" in options:
        options = {"restart_marker_blocks": options["restart"]}
    whole = encoded(photograph(200, 150), "JPEG", **options)
    assert whole.endswith(b"\xff\xd9")
    expected = np.asarray(open_image(whole))
    for cut in (whole[:-2], whole[:-1], whole[:-2] + b"\0" * 4096):
        assert (np.asarray(open_image(cut)) == expected).all()


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 4}])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.97])
def test_a_jpeg_that_lacks_pixels_is_said_to_be_cut_off(options: dict, share: float) -> None:
    whole = encoded(photograph(200, 150), "JPEG", quality=95, **options)
    for rest in (b"", b"\0" * 9000):
        with pytest.raises(InputError, match=r"its last part is missing.*cut off|cannot be decoded"):
            open_image(whole[: int(len(whole) * share)] + rest)


JPEG_NOTES = {
    "EXIF that is none": [segment(0xE1, b"Exif\0\0nonsense")],
    "a profile that lacks a part": [segment(0xE2, b"ICC_PROFILE\0\1\2" + b"x" * 300)],
    "a profile of no number": [segment(0xE2, b"ICC_PROFILE\0")],
    "a list of more pictures that is broken": [segment(0xE2, b"MPF\0II*\0\xff\xff\xff\xff")],
    "a comment": [segment(0xFE, b"\xff\xda\xff\xd9" * 300)],
    "forty comments that look like scans": [segment(0xFE, b"\xff\xda" * 30_000)] * 40,
    "Photoshop's notes, broken": [segment(0xED, b"Photoshop 3.0\x008BIM\xff")],
    "XMP": [segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x")],
    "padding": [b"\xff" * 9000],
    "bytes of no segment": [segment(0xFE, b"x") + b"nothing at all"],
}


@pytest.mark.parametrize("what", JPEG_NOTES)
def test_what_a_jpeg_carries_beside_its_pixels_keeps_it_from_nothing(what: str) -> None:
    picture = open_image(with_segments(sample("JPEG"), *JPEG_NOTES[what]))
    assert (np.asarray(picture) == np.asarray(open_image(sample("JPEG")))).all()


@pytest.mark.parametrize("name", ["a.jpg", "a.jfif", "a.jpe", "a.mpo", "a.JPG", "a.png", "a", "a.txt", "a.heic"])
@pytest.mark.parametrize("file_format", tuple(formats.NAMES))
def test_what_a_file_is_is_told_by_its_content_whatever_its_name(file_format: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(sample(file_format))
    assert open_image(path).size == photograph().size
    assert media_type(path) == {"HEIF": "image/heic"}.get(file_format, f"image/{file_format.lower()}")


def test_of_a_file_of_several_pictures_the_first_counts() -> None:
    two = encoded(photograph(), "MPO", save_all=True, append_images=[Image.new("RGB", (9, 9))], quality=95)
    assert (np.asarray(open_image(two)) == np.asarray(open_image(sample("JPEG")))).all()
    assert open_image(sample("JPEG") + b"\0\0\0\x18ftypmp42" + b"film" * 9000).size == photograph().size


NO_PICTURES = {
    "a TIFF": encoded(photograph(), "TIFF"),
    "a Photoshop document": b"8BPS\0\1" + bytes(300),
    "a JPEG XL": b"\xff\x0a" + bytes(30),
    "a JPEG 2000": encoded(photograph(), "JPEG2000"),
    "a camera's raw": b"\0\0\0\x18ftypcrx \0\0\0\1crx isom",
    "a video": b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom",
    "an icon": encoded(photograph(), "ICO"),
    "a PDF": b"%PDF-1.7\n",
    "an archive": b"PK\x03\x04" + bytes(90),
    "an SVG": b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- x -->\n<svg xmlns='http://www.w3.org/2000/svg'/>",
    "a web page": b"\n<!DOCTYPE html><html><body>404</body></html>",
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7\n",
    "copying it has failed": bytes(5000),
}


@pytest.mark.parametrize("what", NO_PICTURES)
def test_what_is_no_picture_is_called_what_it_is(what: str) -> None:
    with pytest.raises(InputError) as refused:
        open_image(NO_PICTURES[what])
    assert what in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"", None),
        (b"\xff\xd8", None),
        (b"BM", None),
        (b"BMW is a car, this is a text of it", None),
        (b"RIFF\0\0\0\0WAVEfmt ", None),
        (b"GIF88a", None),
        (b"\0\0\0\x1cftypavif\0\0\0\0mif1miafavif", "AVIF"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0avifmif1", "AVIF"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0heicmif1", "HEIF"),
        (b"\0\0\0\x18ftypmsf1\0\0\0\0hevcmsf1", "HEIF"),
        (b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", None),
        (b"\xff\xff\xff\xffftypisom\0\0\0\0mp41", None),
    ],
)
def test_the_format_by_the_first_bytes(head: bytes, kind: str | None) -> None:
    assert format_of(head) == kind


def test_scans_are_counted_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = encoded(photograph(64, 64), "JPEG", progressive=True)
    scans = [found.start() for found in formats.MARKER.finditer(whole) if found[1][0] == formats.START_OF_SCAN]
    last, end = whole[scans[-1] : -2], whole[-2:]
    monkeypatch.setattr(images.Image, "open", lambda *_, **__: pytest.fail("a picture was decoded"))
    for count in (30, 250, 4000):
        with pytest.raises(InputError, match="is a JPEG of more than 32 scans, the limit: save it anew"):
            open_image(whole[:-2] + last * count + end)
    hidden = whole[:-2] + (last + b"\xff\xd0\xff\x01junk") * 40 + end
    with pytest.raises(InputError, match="more than 32 scans"):
        open_image(hidden)


def test_a_large_jpeg_may_have_fewer_scans(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = encoded(photograph(64, 64), "JPEG", progressive=True)
    monkeypatch.setattr(formats, "MAX_SCANNED_PIXELS", 64 * 64 * 12)
    assert open_image(whole).size == (64, 64)
    monkeypatch.setattr(formats, "MAX_SCANNED_PIXELS", 64 * 64 * 8)
    with pytest.raises(InputError, match="more than 8 scans"):
        open_image(whole)


@pytest.mark.parametrize(
    "data",
    [
        with_segments(sample("JPEG"), segment(0xFE, b"") * 30_000),
        png(ROWS, 4, 3, 8, 2, chunk(b"tEXt", b"") * 30_000),
        SIGNATURE + chunk(b"IDAT", b"") * 30_000,
    ],
    ids=["segments", "chunks", "pixels"],
)
def test_parts_are_counted_before_decoding(data: bytes) -> None:
    with pytest.raises(InputError, match=r"of more than 20,000 (parts|chunks), the limit"):
        open_image(data)


@pytest.mark.slow
@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xd8" + b"\xff" * 2**22 + b"\0",
        b"\xff\xd8\xff\xe0" + b"\xff\0" * 2**21,
        sample("JPEG")[:-2] + b"\0" * 2**22 + b"x",
        SIGNATURE + b"IDAT" * 2**20,
        SIGNATURE + b"\0\0\0\0....IDAT" * 2**18,
        b"GIF89a" + b"\xff" * 2**22,
        b"<" * 2**22,
    ],
    ids=["padding", "coded", "zeros", "names", "no chunks", "gif", "text"],
)
@pytest.mark.timeout(120)
def test_files_made_to_be_slow_to_read_are_answered(data: bytes) -> None:
    with suppress(InputError):
        open_image(data)


def test_pixels_of_formats_that_take_more_memory_are_limited_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS_OF", dict.fromkeys(images.MAX_PIXELS_OF, 1000))
    for file_format, data in samples().items():
        if file_format in images.MAX_PIXELS_OF:
            words = rf"has 48 x 32 pixels, the limit is 1,000 for {formats.NAMES[file_format]}: make the picture"
            with pytest.raises(InputError, match=words):
                open_image(data)
        else:
            assert open_image(data).size == (48, 32)


def test_pixels_that_are_packed_beyond_the_picture_are_not_unpacked() -> None:
    assert open_image(png(b"\0\1\2\3" + bytes(100 * 2**20), 1, 1, 8, 2)).getpixel((0, 0)) == (1, 2, 3)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
def test_a_profile_that_is_too_large_is_left_out(file_format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(colour.ImageCms, "ImageCmsProfile", lambda *_: pytest.fail("a profile was read"))
    huge = bytes(range(250)) * 20_000
    data = encoded(photograph(), file_format, icc_profile=huge)
    assert open_image(data).size == photograph().size


def test_frames_are_counted_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_FRAMES", 2)
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "green", "blue")]
    film = encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:])
    with pytest.raises(InputError, match="3 frames, the limit is 2"):
        open_image(film)


def test_every_format_keeps_its_picture() -> None:
    expected = np.asarray(photograph(), int)
    for file_format, data in samples().items():
        made = np.asarray(open_image(io.BytesIO(data)), int)
        assert np.abs(made - expected).mean() < (14 if file_format == "GIF" else 4), file_format

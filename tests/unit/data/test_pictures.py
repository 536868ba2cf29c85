"""The files of a picture: what they are called, and what is in them."""

import io
from pathlib import Path

import pytest
from PIL import Image

from gcr_core.data.formats import NAMES, format_of, media_type
from gcr_core.data.images import open_image
from gcr_core.data.pictures import IMPORT_SIDE, THUMBNAIL_SIDE, Files, Imported, import_name
from tests.pictures import encoded, photograph, sample


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("a.jpg", "a.jpg"),
        ("a.JPEG", "a.JPEG"),
        ("album/a.png", "a.png"),
        ("a.webp", "a.webp"),
        ("a.gif", "a.gif"),
        ("a.heic", "a.heic.jpg"),
        ("IMG_0001.HEIC", "IMG_0001.HEIC.jpg"),
        ("a.hif", "a.hif.jpg"),
        ("a.avif", "a.avif.jpg"),
        ("a.jfif", "a.jfif.jpg"),
        ("a.mpo", "a.mpo.jpg"),
        ("a", "a.png"),
        ("a.dat", "a.dat.png"),
    ],
)
def test_a_picture_is_called_as_what_is_written(given: str, name: str) -> None:
    assert import_name(given) == name
    made = Imported.made(photograph().copy(), given)
    kind = format_of(made.image)
    assert kind == {"jpg": "JPEG", "jpeg": "JPEG", "webp": "WEBP"}.get(name.rpartition(".")[2].lower(), "PNG")


@pytest.mark.parametrize("file_format", NAMES)
def test_a_memory_keeps_what_browsers_show_whatever_came_in(file_format: str, tmp_path: Path) -> None:
    path = tmp_path / f"photo.{file_format.lower()}"
    path.write_bytes(encoded(photograph(700, 500), file_format))
    files = Files.made(path, path, IMPORT_SIDE)
    for data in (files.small, files.large):
        kept = data.read_bytes() if isinstance(data, Path) else data
        assert (format_of(kept) or "") in ("JPEG", "PNG", "WEBP")
    assert max(open_image(files.small).size) == THUMBNAIL_SIDE
    path.write_bytes(files.small)
    assert (media_type(path) or "") in ("image/jpeg", "image/png", "image/webp")


def test_the_media_type_is_that_of_the_content_and_none_for_no_picture(tmp_path: Path) -> None:
    path = tmp_path / "a.heic"
    path.write_bytes(sample("JPEG"))
    assert media_type(path) == "image/jpeg"
    for data in (b"", b"<svg xmlns='http://www.w3.org/2000/svg'/>", encoded(photograph(), "TIFF"), b"BM"):
        path.write_bytes(data)
        assert media_type(path) is None
    assert media_type(tmp_path / "nowhere.png") is None
    assert media_type(tmp_path) is None


def test_a_large_picture_is_imported_from_a_smaller_decoding() -> None:
    buffer = io.BytesIO()
    photograph(4000, 1000).save(buffer, "JPEG")
    made = Imported.made(open_image(buffer.getvalue(), IMPORT_SIDE), "a.jpg")
    with Image.open(io.BytesIO(made.image)) as kept:
        assert kept.size == (1600, 400)

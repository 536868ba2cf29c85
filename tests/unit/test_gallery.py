"""Galleries from folders and zips, saved and loaded."""

import io
import json
import os
import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gcr_core import gallery as gallery_module
from gcr_core.errors import GalleryError
from gcr_core.gallery import IMPORT_SIDE, THUMBNAIL_SIDE, Gallery


def picture(size: tuple[int, int] = (8, 8), file_format: str = "PNG", seed: int = 0) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 255, (*size[::-1], 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, file_format)
    return buffer.getvalue()


def zipped(tmp_path: Path, members: dict[str, bytes]) -> Path:
    path = tmp_path / "gallery.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def everything_below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_folder_with_metadata(tmp_path: Path) -> None:
    (tmp_path / "b.png").write_bytes(picture())
    (tmp_path / "a.jpg").write_bytes(picture(file_format="JPEG"))
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "b.png", "text": ["a dog", "a pet"]}')
    gallery = Gallery.from_folder(tmp_path)
    assert gallery.file_names == ["a.jpg", "b.png"]
    assert gallery.captions == [[], ["a dog", "a pet"]]
    assert gallery.index("b.png") == 1
    assert gallery.path(1) == tmp_path / "b.png"
    assert gallery.open(1).size == (8, 8)


def test_folder_without_metadata_is_captioned_by_its_file_names(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "red-boat.png").write_bytes(picture())
    (tmp_path / ".hidden.png").write_bytes(picture())
    (tmp_path / "notes.txt").write_text("not an image")
    gallery = Gallery.from_folder(tmp_path)
    assert gallery.file_names == ["sub/red-boat.png"]
    assert gallery.captions == [["red boat"]]
    assert not gallery.skipped


def test_a_bad_file_is_listed_and_the_rest_goes_on(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"not a picture")
    (tmp_path / "good.png").write_bytes(picture())
    gallery = Gallery.from_folder(tmp_path)
    assert gallery.file_names == ["good.png"]
    assert [name for name, _ in gallery.skipped] == ["bad.png"]


def test_no_folder_and_no_image_are_named_errors(tmp_path: Path) -> None:
    with pytest.raises(GalleryError, match="is no folder"):
        Gallery.from_folder(tmp_path / "nowhere")
    with pytest.raises(GalleryError, match="holds no image"):
        Gallery.from_folder(tmp_path)


def test_unknown_file_name_is_a_named_error(tiny_gallery: Gallery) -> None:
    with pytest.raises(GalleryError, match=r"'dog\.png' is not in the gallery of 12 images"):
        tiny_gallery.index("dog.png")


@pytest.mark.parametrize("name", ["../a.png", "/etc/a.png", "a/../../b.png", "..\\a.png", "C:/a.png"])
def test_a_gallery_never_names_a_file_outside_its_folder(name: str, tmp_path: Path) -> None:
    (tmp_path / "metadata.jsonl").write_text(json.dumps({"file_name": name, "text": []}))
    with pytest.raises(GalleryError, match="leaves the gallery's folder"):
        Gallery.load(tmp_path)


def test_zip_keeps_base_names_and_captions(tmp_path: Path) -> None:
    rows = '{"file_name": "1f600.png", "text": "grinning face"}'
    archive = zipped(tmp_path, {"emoji/1f600.png": picture(), "emoji/metadata.jsonl": rows.encode()})
    gallery = Gallery.from_zip(archive, tmp_path / "into")
    assert gallery.file_names == ["1f600.png"]
    assert gallery.captions == [["grinning face"]]
    assert everything_below(tmp_path / "into") == ["1f600.png", "metadata.jsonl"]
    assert Gallery.load(tmp_path / "into").captions == gallery.captions


def test_zip_from_an_open_file(tmp_path: Path) -> None:
    with zipped(tmp_path, {"a.png": picture()}).open("rb") as file:
        assert len(Gallery.from_zip(file, tmp_path / "into")) == 1


def test_same_base_name_twice_gets_a_number(tmp_path: Path) -> None:
    archive = zipped(tmp_path, {"x/a.png": picture(), "y/a.png": picture(), "y/A.PNG": picture()})
    assert Gallery.from_zip(archive, tmp_path / "into").file_names == ["a.png", "A-2.PNG", "a-3.png"]


@pytest.mark.parametrize(
    "name",
    [
        "quo\"te's.png",
        "line\nbreak.png",
        "😀.png",
        "right\u202eto-left.png",
        "<script>.png",
        " .png",
        "x" * 250 + ".png",
    ],
)
def test_awkward_member_names_become_safe_file_names(name: str, tmp_path: Path) -> None:
    gallery = Gallery.from_zip(zipped(tmp_path, {name: picture()}), tmp_path / "into")
    (kept,) = gallery.file_names
    assert gallery.open(0).size == (8, 8)
    assert not set(kept) & set("\n\u202e/\\")
    assert len(kept.encode()) <= 200


def test_images_are_written_anew_and_not_larger_than_the_import_side(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "where I live"
    buffer = io.BytesIO()
    Image.new("RGB", (2 * IMPORT_SIDE, 10)).save(buffer, "JPEG", exif=exif)
    gallery = Gallery.from_zip(zipped(tmp_path, {"big.jpg": buffer.getvalue()}), tmp_path / "into")
    with Image.open(gallery.path(0)) as image:
        assert image.size == (IMPORT_SIDE, 5)
        assert not image.getexif()
    assert b"where I live" not in gallery.path(0).read_bytes()


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("../up.png", picture(), "leaves the folder"),
        ("/abs.png", picture(), "leaves the folder"),
        ("inner.zip", b"anything", "archive inside the archive"),
        ("inner.png", b"PK\x03\x04 anything", "archive inside the archive"),
        ("bomb.bmp", bytes(5_000_000), "200 times its size"),
        ("text.png", b"hello", "is no JPEG"),
        ("empty.png", b"", "is no JPEG"),
    ],
)
def test_a_refused_member_is_listed_and_the_rest_goes_on(name: str, data: bytes, reason: str, tmp_path: Path) -> None:
    gallery = Gallery.from_zip(zipped(tmp_path, {name: data, "good.png": picture()}), tmp_path / "into")
    assert gallery.file_names == ["good.png"]
    assert [member for member, _ in gallery.skipped] == [name]
    assert reason in gallery.skipped[0][1]
    assert everything_below(tmp_path) == ["gallery.zip", "into/good.png", "into/metadata.jsonl"]


def test_a_link_is_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    archive = zipped(tmp_path, {"good.png": picture()})
    with zipfile.ZipFile(archive, "a") as members:
        members.writestr(link, "/etc/passwd")
    gallery = Gallery.from_zip(archive, tmp_path / "into")
    assert gallery.file_names == ["good.png"]
    assert "link" in gallery.skipped[0][1]


def test_a_member_larger_than_the_limit_is_refused_while_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = zipped(tmp_path, {"big.png": picture((200, 200)), "good.png": picture()})
    monkeypatch.setattr(gallery_module, "MAX_FILE_BYTES", 20_000)
    assert Gallery.from_zip(archive, tmp_path / "into").file_names == ["good.png"]


def test_entry_limit_refuses_the_zip_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = zipped(tmp_path, {f"{i}.png": b"" for i in range(12)})
    monkeypatch.setattr(gallery_module, "MAX_ENTRIES", 10)
    with pytest.raises(GalleryError, match="12 entries, the limit is 10: split it"):
        Gallery.from_zip(archive, tmp_path / "into")


def test_total_limit_refuses_the_zip_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = zipped(tmp_path, {f"{i}.png": picture(seed=i) for i in range(9)})
    monkeypatch.setattr(gallery_module, "MAX_ZIP_BYTES", 1_000)
    with pytest.raises(GalleryError, match="unpacked, the limit"):
        Gallery.from_zip(archive, tmp_path / "into")
    assert everything_below(tmp_path) == ["gallery.zip"]


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: b"no zip", lambda data: data[: len(data) // 2]])
def test_what_is_no_zip_is_a_named_error_and_leaves_nothing(damage, tmp_path: Path) -> None:
    archive = zipped(tmp_path, {"a.png": picture()})
    archive.write_bytes(damage(archive.read_bytes()))
    with pytest.raises(GalleryError, match="cannot be read as a zip"):
        Gallery.from_zip(archive, tmp_path / "into")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gallery.zip"]


def test_a_damaged_member_is_listed(tmp_path: Path) -> None:
    archive = zipped(tmp_path, {"a.png": picture((64, 64)), "b.png": picture()})
    data = bytearray(archive.read_bytes())
    data[200:260] = bytes(60)
    archive.write_bytes(bytes(data))
    gallery = Gallery.from_zip(archive, tmp_path / "into")
    assert gallery.file_names == ["b.png"]
    assert "zip is damaged" in gallery.skipped[0][1]


def test_importing_into_a_folder_with_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GalleryError, match="is not empty"):
        Gallery.from_zip(zipped(tmp_path, {"a.png": picture()}), tmp_path)


def test_a_file_name_that_is_no_text_is_listed(tmp_path: Path) -> None:
    (tmp_path / "good.png").write_bytes(picture())
    (tmp_path / os.fsdecode(b"bad\xff.png")).write_bytes(picture())
    gallery = Gallery.from_folder(tmp_path)
    assert gallery.file_names == ["good.png"]
    assert "not UTF-8" in gallery.skipped[0][1]


def test_a_full_disk_is_not_called_a_bad_zip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gallery_module, "_write_image", full)
    with pytest.raises(GalleryError, match=r"\(No space left on device\): check its path and the free space"):
        Gallery.from_zip(zipped(tmp_path, {"a.png": picture()}), tmp_path / "into")
    assert everything_below(tmp_path) == ["gallery.zip"]


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP"])
def test_saving_a_saved_gallery_changes_no_byte(file_format: str, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    name = f"a.{file_format.lower()}"
    (tmp_path / "source" / name).write_bytes(picture((400, 300), file_format))
    Gallery.from_folder(tmp_path / "source").save(tmp_path / "one")
    Gallery.load(tmp_path / "one").save(tmp_path / "two")
    assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()


def test_saved_gallery_has_thumbnails_and_loads_in_its_own_order(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "wide.jpg").write_bytes(picture((600, 300), "JPEG"))
    (source / "small.png").write_bytes(picture())
    gallery = Gallery.from_folder(source)
    gallery.file_names.reverse()
    gallery.captions.reverse()
    gallery.save(tmp_path / "saved")
    loaded = Gallery.load(tmp_path / "saved")
    assert loaded.file_names == ["sub/wide.jpg", "small.png"]
    assert loaded.captions == gallery.captions
    assert loaded.open(0).size == (THUMBNAIL_SIDE, THUMBNAIL_SIDE // 2)
    assert (tmp_path / "saved" / "small.png").read_bytes() == (source / "small.png").read_bytes()


def test_a_small_png_with_metadata_in_it_is_not_copied_as_it_is(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "where I live"
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", exif=exif)
    Gallery.from_folder(tmp_path).save(tmp_path / "saved")
    assert b"where I live" not in (tmp_path / "saved" / "a.png").read_bytes()


@pytest.mark.parametrize("row", ["5", "{}", '{"file_name": "a.png", "text": [5]}', "{"])
def test_loading_what_was_never_saved_is_a_named_error(row: str, tmp_path: Path) -> None:
    with pytest.raises(GalleryError, match="is no saved gallery"):
        Gallery.load(tmp_path)
    (tmp_path / "metadata.jsonl").write_text(row)
    with pytest.raises(GalleryError, match="is no saved gallery"):
        Gallery.load(tmp_path)

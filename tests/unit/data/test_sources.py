"""Files, folders, links and archives as they are handed over; what stands beside pictures."""

import os
from pathlib import Path

import pytest

from gcr_core.data.gallery import Gallery
from gcr_core.data.kinds import DEVELOPED, FILM, LIVE, RAW, left_out
from gcr_core.data.sources import files_below
from gcr_core.errors import GalleryError
from tests.mixed import as_tar, as_zip, laid
from tests.uploads import picture, zipped


@pytest.mark.parametrize(
    ("names", "beside", "alone"),
    [
        (["IMG_1.jpg", "IMG_1.CR2"], {"IMG_1.CR2": DEVELOPED}, {}),
        (["img_1.JPG", "IMG_1.nef"], {"IMG_1.nef": DEVELOPED}, {}),
        (["IMG_1.HEIC", "IMG_1.MOV"], {"IMG_1.MOV": LIVE}, {}),
        (["a/IMG_1.jpg", "a/IMG_1.mp4", "b/IMG_1.mp4"], {"a/IMG_1.mp4": LIVE}, {"b/IMG_1.mp4": FILM}),
        (["PXL_1.RAW-01.COVER.jpg", "PXL_1.RAW-02.ORIGINAL.dng"], {"PXL_1.RAW-02.ORIGINAL.dng": DEVELOPED}, {}),
        (["PXL_1.MP.jpg", "PXL_1.MP"], {"PXL_1.MP": LIVE}, {}),
        (["IMG_1.HEIC", "IMG_1.HEIC.MP4"], {"IMG_1.HEIC.MP4": LIVE}, {}),
        (["IMG_1.NEF", "IMG_1.NEF.jpg"], {"IMG_1.NEF": DEVELOPED}, {}),
        (["IMG_1.dng"], {}, {"IMG_1.dng": RAW}),
        (["IMG_1.dng", "IMG_1.mov"], {}, {"IMG_1.dng": RAW, "IMG_1.mov": FILM}),
        (["IMG_1.jpg", "IMG_10.arw"], {}, {"IMG_10.arw": RAW}),
        (["IMG_1.txt", "IMG_1.raf"], {}, {"IMG_1.raf": RAW}),
        (["IMG_1.jpg", "IMG_1.png"], {}, {}),
        ([], {}, {}),
    ],
)
def test_of_one_shot_the_picture_is_taken_once(names: list[str], beside: dict[str, str], alone: dict[str, str]) -> None:
    assert left_out(names) == (beside, alone)


def test_a_motion_photo_is_its_picture(tmp_path: Path) -> None:
    film = b"\0\0\0\x18ftypmp42" + bytes(5_000)
    (tmp_path / "a-dog.jpg").write_bytes(picture(file_format="JPEG") + film)
    gallery = Gallery.from_folder(tmp_path)
    assert (gallery.captions, gallery.skipped) == ([["a dog"]], [])


def test_a_row_about_a_raw_picture_captions_the_one_that_is_taken(tmp_path: Path) -> None:
    rows = b"file_name,text\nIMG_1.CR2,a red boat\n"
    files = {"IMG_1.jpg": picture(file_format="JPEG"), "IMG_1.CR2": b"II*\0 raw", "metadata.csv": rows}
    gallery = Gallery.from_folder(laid(tmp_path, files))
    assert (gallery.file_names, gallery.captions, gallery.skipped) == (["IMG_1.jpg"], [["a red boat"]], [])


def linked(tmp_path: Path) -> Path:
    root = laid(tmp_path / "gallery", {"a.png": picture(), "sea/b.png": picture(seed=1), "lake/c.png": picture(seed=2)})
    laid(tmp_path / "elsewhere", {"d.png": picture(seed=3)})
    return root


@pytest.mark.parametrize(
    ("link", "target", "reason"),
    [
        ("images", "../elsewhere", "is a link to a folder outside the gallery: put that folder into it"),
        ("sea/images", "../../elsewhere", "is a link to a folder outside the gallery"),
        ("images", "/usr/share", "is a link to a folder outside the gallery"),
        ("loop", ".", "is a link to a folder that holds it"),
        ("sea/loop", "..", "is a link to a folder that holds it"),
    ],
)
def test_a_link_to_a_folder_that_is_not_followed_is_listed(link: str, target: str, reason: str, tmp_path: Path) -> None:
    root = linked(tmp_path)
    (root / link).symlink_to(target)
    for gallery in (Gallery.from_folder(root), Gallery.collect([root], tmp_path / "into")):
        assert len(gallery) == 3
        ((name, why),) = gallery.skipped
        assert name == link
        assert why.startswith(reason)


def test_a_link_to_a_folder_within_is_followed_once(tmp_path: Path) -> None:
    root = linked(tmp_path)
    (root / "a link").symlink_to("sea")
    (root / "lake" / "another").symlink_to("../sea")
    gallery = Gallery.from_folder(root)
    assert gallery.file_names == ["a link/b.png", "a.png", "lake/c.png"]
    assert gallery.also == [["sea/b.png"], [], []]
    assert gallery.skipped == [("lake/another", "is a second link to a folder")]


def test_links_that_lead_to_one_another_come_to_an_end(tmp_path: Path) -> None:
    root = linked(tmp_path)
    (root / "sea" / "x").symlink_to("../lake")
    (root / "lake" / "y").symlink_to("../sea")
    found, refused = files_below(root)
    assert {name for name, _ in found} >= {"a.png", "sea/b.png", "lake/c.png"}
    assert refused


def test_a_linked_picture_is_one_and_a_link_to_nothing_is_listed(tmp_path: Path) -> None:
    root = linked(tmp_path)
    (root / "e.png").symlink_to("../elsewhere/d.png")
    (root / "f.png").symlink_to("nowhere")
    gallery = Gallery.from_folder(root)
    assert "e.png" in gallery.file_names
    assert [name for name, _ in gallery.skipped] == ["f.png"]


@pytest.mark.parametrize(
    "name", ["a.jfif", "a.jpe", "a.mpo", "a", "a.dat", "A.JPG", "a.png", "a.gif", "a.html", "a.heic"]
)
@pytest.mark.parametrize("way", ["folder", "zip", "tar.gz", "file"])
def test_a_picture_is_one_by_its_content_in_every_way(name: str, way: str, tmp_path: Path) -> None:
    folder = laid(tmp_path / "photos", {name: picture(file_format="JPEG")})
    if way == "folder":
        gallery = Gallery.from_folder(folder)
    else:
        ways = {"zip": as_zip, "tar.gz": as_tar}
        source = folder / name if way == "file" else ways[way](tmp_path / f"photos.{way}", folder)
        gallery = Gallery.collect([source], tmp_path / "into")
    assert (len(gallery), gallery.skipped) == (1, [])


def test_a_zip_beside_its_metadata_is_one_gallery_with_it(tmp_path: Path) -> None:
    rows = b"file_name,text\nlake/IMG_1.png,a red boat\nsea/IMG_1.png,a sail\n"
    folder = laid(tmp_path / "photos", {"metadata.csv": rows})
    zipped(folder / "photos.zip", {"lake/IMG_1.png": picture(), "sea/IMG_1.png": picture(seed=1)})
    gallery = Gallery.read(folder, tmp_path / "into")
    assert (gallery.captions, gallery.albums, gallery.skipped) == ([["a red boat"], ["a sail"]], ["lake", "sea"], [])
    dropped = Gallery.collect(sorted(folder.iterdir()), tmp_path / "dropped")
    assert (dropped.captions, dropped.albums, dropped.skipped) == (gallery.captions, gallery.albums, [])


def test_where_a_gallery_stands_archives_in_it_are_listed(tmp_path: Path) -> None:
    folder = laid(tmp_path / "photos", {"a-dog.png": picture()})
    zipped(folder / "more.zip", {"b.png": picture(seed=1)})
    gallery = Gallery.from_folder(folder)
    assert (gallery.file_names, [name for name, _ in gallery.skipped]) == (["a-dog.png"], ["more.zip"])
    assert Gallery.read(folder, tmp_path / "into").captions == [["a dog"], []]


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.jpg", picture(file_format="JPEG"), "a.jpg is a picture, no gallery: name a folder, zip or tar of pictures"),
        ("a.zip", picture(), "a.zip is a picture, no gallery"),
        ("a.txt", b"file_name,text", "a.txt cannot be read as a zip"),
        ("a.tar.gz", b"\x1f\x8b\x08 cut off", "a.tar.gz cannot be read as a tar"),
    ],
)
def test_a_file_that_is_no_gallery_is_told_what_it_is(name: str, data: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(GalleryError) as caught:
        Gallery.read(tmp_path / name, tmp_path / "into")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "into").exists()


def test_what_stands_beside_pictures_for_other_uses_is_passed_over(tmp_path: Path) -> None:
    files = {
        "a-dog.png": picture(),
        "a-dog.xmp": b"<x/>",
        "a-dog.AAE": b"<plist/>",
        "index.html": b"<html>",
        "x.py": b"",
        "weights.bin": b"x",
    }
    gallery = Gallery.collect([laid(tmp_path / "photos", files)], tmp_path / "into")
    assert (gallery.captions, gallery.skipped, gallery.notes) == ([["a dog"]], [], [])


@pytest.mark.parametrize("name", ["captions.xlsx", "metadata.parquet", "My Descriptions.docx", "labels.xml"])
def test_a_document_that_is_called_captions_is_listed(name: str, tmp_path: Path) -> None:
    gallery = Gallery.from_folder(laid(tmp_path, {"a-dog.png": picture(), name: b"PK\3\4"}))
    ((listed, reason),) = gallery.skipped
    assert listed == name
    assert "looks like captions, is not read: save it as metadata.csv" in reason


def test_a_folder_with_metadata_among_loose_pictures_is_an_album_as_in_the_folder_that_holds_both(
    tmp_path: Path,
) -> None:
    rows = b"file_name,text\nIMG_1.png,a red boat\n"
    files = {"a-dog.png": picture(), "sea/IMG_1.png": picture(seed=1), "sea/metadata.csv": rows}
    folder = laid(tmp_path / "photos", files)
    dropped = Gallery.collect(sorted(folder.iterdir()), tmp_path / "dropped")
    assert dropped.albums == Gallery.from_folder(folder).albums == ["", "sea"]
    assert dropped.captions == [["a dog"], ["a red boat"]]


def test_a_folder_that_may_not_be_read_stops_nothing(tmp_path: Path) -> None:
    folder = laid(tmp_path / "photos", {"a-dog.png": picture(), "closed/b.png": picture(seed=1)})
    (folder / "closed").chmod(0)
    try:
        gallery = Gallery.from_folder(folder)
    finally:
        (folder / "closed").chmod(0o700)
    assert gallery.captions[0] == ["a dog"]
    if os.geteuid():
        ((name, reason),) = gallery.skipped
        assert (name, "Permission denied" in reason) == ("closed", True)

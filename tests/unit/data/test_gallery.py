"""Galleries from folders and zips, saved and loaded."""

import io
import json
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from gcr_core.data.gallery import Gallery
from gcr_core.data.metadata import MAX_CAPTION_CHARACTERS
from gcr_core.data.pictures import IMPORT_SIDE, THUMBNAIL_SIDE, thumbnail_of
from gcr_core.errors import GalleryError, InputError
from tests.uploads import encoded, everything_below, picture, zipped


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
    (tmp_path / "IMG_0001.HEIC").write_bytes(b"an image of a phone")
    gallery = Gallery.from_folder(tmp_path)
    assert gallery.file_names == ["sub/red-boat.png"]
    assert gallery.captions == [["red boat"]]
    assert [name for name, _ in gallery.skipped] == ["IMG_0001.HEIC"]


def test_a_memory_below_the_folder_is_no_part_of_it(tmp_path: Path, tiny_memory_dir: Path) -> None:
    (tmp_path / "red-boat.png").write_bytes(picture())
    shutil.copytree(tiny_memory_dir, tmp_path / "memory")
    assert Gallery.from_folder(tmp_path).file_names == ["red-boat.png"]
    assert len(Gallery.from_folder(tmp_path / "memory" / "gallery")) == 12
    (tmp_path / "memory" / "identifiers.safetensors").unlink()
    assert len(Gallery.from_folder(tmp_path)) == 13, "what only looks like one is read"


def test_a_bad_file_is_listed_and_the_rest_goes_on(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"not a picture")
    (tmp_path / "good.png").write_bytes(picture())
    gallery = Gallery.from_folder(tmp_path)
    assert gallery.file_names == ["good.png"]
    assert [name for name, _ in gallery.skipped] == ["bad.png"]


def test_no_folder_and_no_image_are_named_errors(tmp_path: Path) -> None:
    with pytest.raises(GalleryError, match="is no folder"):
        Gallery.from_folder(tmp_path / "nowhere")
    with pytest.raises(GalleryError, match="no image can be used"):
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
    archive = zipped(tmp_path / "gallery.zip", {"emoji/1f600.png": picture(), "emoji/metadata.jsonl": rows.encode()})
    gallery = Gallery.from_zip(archive, tmp_path / "into")
    assert gallery.file_names == ["1f600.png"]
    assert gallery.captions == [["grinning face"]]
    assert everything_below(tmp_path / "into") == ["1f600.png", "metadata.jsonl"]
    assert Gallery.load(tmp_path / "into").captions == gallery.captions


def test_zip_from_an_open_file(tmp_path: Path) -> None:
    with zipped(tmp_path / "gallery.zip", {"a.png": picture()}).open("rb") as file:
        assert len(Gallery.from_zip(file, tmp_path / "into")) == 1


def test_same_base_name_twice_gets_a_number(tmp_path: Path) -> None:
    members = {"x/a.png": picture(), "y/a.png": picture(seed=1), "y/A.PNG": picture(seed=2)}
    archive = zipped(tmp_path / "gallery.zip", members)
    assert Gallery.from_zip(archive, tmp_path / "into").file_names == ["a.png", "A-2.PNG", "a-3.png"]


def test_images_are_written_anew_and_not_larger_than_the_import_side(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "where I live"
    big = encoded(Image.new("RGB", (2 * IMPORT_SIDE, 10)), "JPEG", exif=exif)
    gallery = Gallery.from_zip(zipped(tmp_path / "gallery.zip", {"big.jpg": big}), tmp_path / "into")
    with Image.open(gallery.path(0)) as image:
        assert image.size == (IMPORT_SIDE, 5)
        assert not image.getexif()
    assert b"where I live" not in gallery.path(0).read_bytes()


def test_importing_into_a_folder_with_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GalleryError, match="is not empty"):
        Gallery.from_zip(zipped(tmp_path / "gallery.zip", {"a.png": picture()}), tmp_path)


def test_a_file_name_that_is_no_text_is_listed(tmp_path: Path) -> None:
    (tmp_path / "good.png").write_bytes(picture())
    (tmp_path / os.fsdecode(b"bad\xff.png")).write_bytes(picture())
    gallery = Gallery.from_folder(tmp_path)
    assert gallery.file_names == ["good.png"]
    assert "not UTF-8" in gallery.skipped[0][1]


def test_a_full_disk_is_not_called_a_bad_zip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(GalleryError, match=r"\(No space left on device\): check path and free space"):
        Gallery.from_zip(zipped(tmp_path / "gallery.zip", {"a.png": picture()}), tmp_path / "into")
    assert everything_below(tmp_path) == ["gallery.zip"]


def test_files_folders_zips_and_metadata_are_one_gallery(tmp_path: Path) -> None:
    (tmp_path / "red-boat.png").write_bytes(picture(seed=1))
    (tmp_path / "metadata.csv").write_text("file_name,text\nIMG_1.png,a dog\nIMG_2.png,a cat\n")
    (tmp_path / "album" / "sub").mkdir(parents=True)
    (tmp_path / "album" / "sub" / "IMG_1.png").write_bytes(picture(seed=2))
    (tmp_path / "album" / ".hidden.png").write_bytes(picture(seed=9))
    zipped(tmp_path / "album" / "more.zip", {"IMG_2.png": picture(seed=3)})
    rows = b'{"file_name": "IMG_1.png", "text": ["a hat", "a cap"]}'
    archive = zipped(tmp_path / "photos.zip", {"IMG_1.png": picture(seed=4), "metadata.jsonl": rows})
    counted: list[tuple[int, int]] = []
    gallery = Gallery.collect(
        [tmp_path / "red-boat.png", str(tmp_path / "metadata.csv"), tmp_path / "album", archive],
        tmp_path / "into",
        lambda done, total: counted.append((done, total)),
    )
    assert gallery.file_names == ["red-boat.png", "IMG_2.png", "IMG_1.png", "IMG_1-2.png"]
    assert gallery.captions == [["red boat"], ["a cat"], [], ["a hat", "a cap"]]
    assert gallery.skipped == [("IMG_1.png", "could be sub/IMG_1.png and photos.zip/IMG_1.png: write its path")]
    assert counted == [(done, 6) for done in range(1, 7)]
    assert Gallery.load(tmp_path / "into").captions == gallery.captions


@pytest.mark.slow
def test_a_picture_that_is_added_later_has_the_thumbnail_that_an_import_makes(tmp_path: Path) -> None:
    noise = Image.effect_noise((2 * IMPORT_SIDE + 30, 700), 80).convert("RGB")
    noise.save(tmp_path / "noise.png")
    gallery = Gallery.collect([tmp_path / "noise.png"], tmp_path / "into")
    assert gallery.thumbnail(0).read_bytes() == thumbnail_of(noise, "noise.png")


def test_a_large_picture_gets_a_thumbnail_and_a_small_one_is_its_own(tmp_path: Path) -> None:
    (tmp_path / "large.jpg").write_bytes(picture((THUMBNAIL_SIDE + 64, 80), "JPEG"))
    (tmp_path / "small.png").write_bytes(picture())
    gallery = Gallery.collect([tmp_path / "large.jpg", tmp_path / "small.png"], tmp_path / "into")
    with Image.open(gallery.thumbnail(0)) as thumbnail:
        assert thumbnail.size == (THUMBNAIL_SIDE, 64)
    assert gallery.open(0).size == (THUMBNAIL_SIDE + 64, 80)
    assert gallery.thumbnail(1) == gallery.path(1)
    gallery.save(tmp_path / "saved")
    assert (tmp_path / "saved" / "large.jpg").read_bytes() == gallery.thumbnail(0).read_bytes()
    assert Gallery.from_folder(tmp_path / "into").file_names == gallery.file_names


def test_pictures_of_the_same_pixels_are_one_image_with_all_their_captions(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    pixels = Image.open(io.BytesIO(picture((300, 200), "JPEG"))).convert("RGB")
    (source / "red-boat.jpg").write_bytes(picture((300, 200), "JPEG"))
    (source / "a-boat.jpg").write_bytes(picture((300, 200), "JPEG"))
    (source / "the-boat.png").write_bytes(encoded(pixels, "PNG"))
    (source / "turned.png").write_bytes(encoded(pixels.rotate(180), "PNG"))
    archive = zipped(tmp_path / "source.zip", {path.name: path.read_bytes() for path in source.iterdir()})
    for gallery in (Gallery.from_folder(source), Gallery.from_zip(archive, tmp_path / "into")):
        assert gallery.file_names == ["a-boat.jpg", "turned.png"]
        assert gallery.also == [["red-boat.jpg", "the-boat.png"], []]
        assert gallery.captions == [["a boat", "red boat", "the boat"], ["turned"]]
        assert gallery.index("the-boat.png") == 0
    assert everything_below(tmp_path / "into") == [
        ".thumbnails/a-boat.jpg",
        ".thumbnails/turned.png",
        "a-boat.jpg",
        "metadata.jsonl",
        "turned.png",
    ]


def test_merged_names_live_in_their_order_through_saving_and_another_import(tmp_path: Path) -> None:
    also = [f"{letter}.png" for letter in "bcdefg"]
    pictures = {name: picture() for name in ("a.png", *also)} | {"z.png": picture(seed=1)}
    Gallery.from_zip(zipped(tmp_path / "a.zip", pictures), tmp_path / "one").save(tmp_path / "two")
    row = json.loads((tmp_path / "two" / "metadata.jsonl").read_text().splitlines()[0])
    assert row["also"] == also
    galleries = [Gallery.load(tmp_path / "one"), Gallery.load(tmp_path / "two"), Gallery.from_folder(tmp_path / "two")]
    galleries.append(Gallery.collect([tmp_path / "two"], tmp_path / "three"))
    assert [gallery.also for gallery in galleries] == [[also, []]] * 4
    assert [gallery.index("b.png") for gallery in galleries] == [0] * 4


def test_captions_are_changed_on_disk_too(tmp_path: Path) -> None:
    gallery = Gallery.from_zip(zipped(tmp_path / "a.zip", {"a.png": picture(), "b.png": picture()}), tmp_path / "into")
    gallery.with_captions([[" a  dog ", "", "a pet", "a dog"]])
    assert gallery.captions == [["a dog", "a pet"]]
    assert Gallery.load(tmp_path / "into").captions == [["a dog", "a pet"]]
    assert Gallery.load(tmp_path / "into").also == [["b.png"]]


@pytest.mark.parametrize(
    ("captions", "reason"),
    [
        ([], "0 lists of captions for 1 images"),
        ([["x" * (MAX_CAPTION_CHARACTERS + 1)]], "a.png: has a caption of 1,001 characters, the limit is 1,000"),
        ([["x"] * 1_001], "a.png: has 1,001 captions, the limit is 1,000"),
        ([[None]], "a.png: captions are neither"),
    ],
)
def test_captions_over_a_limit_change_nothing(captions: list[list[str]], reason: str, tmp_path: Path) -> None:
    gallery = Gallery.from_zip(zipped(tmp_path / "a.zip", {"a.png": picture()}), tmp_path / "into")
    gallery.with_captions([["a dog"]])
    with pytest.raises(GalleryError, match=reason):
        gallery.with_captions(captions)
    assert gallery.captions == Gallery.load(tmp_path / "into").captions == [["a dog"]]


def test_what_the_model_wrote_is_kept_apart_until_a_person_corrects_it(tmp_path: Path) -> None:
    for name, colour in (("IMG_1.png", "red"), ("IMG_2.png", "blue")):
        Image.new("RGB", (8, 8), colour).save(tmp_path / name)
    gallery = Gallery.from_folder(tmp_path).with_pseudo_queries({0: ["a red thing", "a field"], 1: ["the sea"]})
    assert not (tmp_path / "metadata.jsonl").exists()
    gallery.save(tmp_path / "saved")
    loaded = Gallery.load(tmp_path / "saved")
    assert loaded.captions == loaded.pseudo_queries == [["a red thing", "a field"], ["the sea"]]
    again = Gallery.collect([tmp_path / "saved"], tmp_path / "imported")
    assert again.pseudo_queries == loaded.pseudo_queries
    again.with_captions([["a red square", "a red thing"], []])
    changed = Gallery.load(tmp_path / "imported")
    assert changed.captions == [["a red square", "a red thing"], []]
    assert changed.pseudo_queries == [["a red thing"], []]
    assert changed.without([1]).pseudo_queries == [["a red thing"]]
    grown = changed.with_pictures([("new.png", Image.new("RGB", (8, 8)))], [["a new one"]])
    assert grown.pseudo_queries == [["a red thing"], [], []]


def test_the_model_writes_behind_what_people_wrote_and_claims_none_of_it(tmp_path: Path) -> None:
    gallery = Gallery(tmp_path, ["a.png"], [["a red square"]])
    written = gallery.with_pseudo_queries({0: ["a square", "a red square", " a  square "]})
    assert (written.captions, written.pseudo_queries) == ([["a red square", "a square"]], [["a square"]])
    assert gallery.captions == [["a red square"]]
    with pytest.raises(GalleryError, match="limit"):
        gallery.with_pseudo_queries({0: ["x" * (MAX_CAPTION_CHARACTERS + 1)]})


def test_a_picture_without_a_pictures_suffix_gets_one(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", {"page.html": picture(), "a dog": picture(seed=1), "b.GIF": picture(seed=2)})
    assert Gallery.from_zip(archive, tmp_path / "into").file_names == ["a dog.png", "b.GIF", "page.html.png"]


def test_a_cancelled_import_leaves_nothing(tmp_path: Path) -> None:
    def cancel(done: int, total: int) -> None:
        raise KeyboardInterrupt

    archive = zipped(tmp_path / "a.zip", {f"{i}.png": picture(seed=i) for i in range(40)})
    with pytest.raises(KeyboardInterrupt):
        Gallery.collect([archive], tmp_path / "into", cancel)
    assert everything_below(tmp_path) == ["a.zip"]


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


@pytest.mark.parametrize(
    "row", ["5", "{}", '{"file_name": "a.png", "text": [5]}', '{"file_name": "a.png", "also": "b"}', "{"]
)
def test_loading_what_was_never_saved_is_a_named_error(row: str, tmp_path: Path) -> None:
    with pytest.raises(GalleryError, match="is no saved gallery"):
        Gallery.load(tmp_path)
    (tmp_path / "metadata.jsonl").write_text(row)
    with pytest.raises(GalleryError, match="is no saved gallery"):
        Gallery.load(tmp_path)


def laid(folder: Path, *names: str) -> Path:
    """A folder of different pictures under these names."""
    for seed, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(picture(seed=seed + sum(map(ord, folder.name))))
    return folder


def albums(gallery: Gallery) -> dict[str, str]:
    return dict(zip(gallery.file_names, gallery.albums, strict=True))


@pytest.mark.parametrize("how", ["folder", "dropped", "zip", "nested zip"])
def test_a_sub_folder_is_an_album_and_the_folder_that_holds_all_is_none(how: str, tmp_path: Path) -> None:
    names = ("a.png", "beach/b.png", "trip/day 1/c.png")
    if how == "folder":
        gallery = Gallery.from_folder(laid(tmp_path / "photos", *names))
        assert gallery.albums == ["", "beach", "trip/day 1"]
        return
    if how == "dropped":
        source = laid(tmp_path / "photos", *names)
    else:
        top = "" if how == "zip" else "top/photos/"
        members = {top + name: picture(seed=seed) for seed, name in enumerate(names)}
        source = zipped(tmp_path / "photos.zip", members)
    gallery = Gallery.collect([source], tmp_path / "into")
    assert albums(gallery) == {"a.png": "", "b.png": "beach", "c.png": "trip/day 1"}
    assert Gallery.load(tmp_path / "into").albums == gallery.albums
    assert Gallery.from_folder(tmp_path / "into").albums == gallery.albums


def test_dropped_folders_are_albums_beside_loose_pictures_but_zips_are_none(tmp_path: Path) -> None:
    loose = laid(tmp_path, "loose.png") / "loose.png"
    beach, archive = laid(tmp_path / "beach", "b.png"), zipped(tmp_path / "z.zip", {"c.png": picture(seed=1)})
    zipped(beach / "more.zip", {"sea/d.png": picture(seed=2)})
    gallery = Gallery.collect([loose, beach, archive], tmp_path / "into")
    assert albums(gallery) == {"loose.png": "", "b.png": "beach", "d.png": "beach/sea", "c.png": ""}


def test_a_gallery_that_is_collected_again_with_more_pictures_keeps_its_albums(tmp_path: Path) -> None:
    first = Gallery.collect([laid(tmp_path / "one", "a.png", "beach/b.png")], tmp_path / "first")
    more = laid(tmp_path / "town", "c.png")
    assert albums(Gallery.collect([first.root, more], tmp_path / "both")) == {
        "a.png": "",
        "b.png": "beach",
        "c.png": "town",
    }


def test_the_album_in_the_metadata_wins_and_may_be_none(tmp_path: Path) -> None:
    folder = laid(tmp_path / "photos", "a.png", "beach/b.png", "beach/c.png")
    rows = [{"file_name": "a.png", "album": "  my \n favourites "}, {"file_name": "beach/b.png", "album": ""}]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert albums(Gallery.from_folder(folder)) == {
        "a.png": "my favourites",
        "beach/b.png": "",
        "beach/c.png": "beach",
    }


def test_pictures_of_the_same_pixels_keep_the_first_album(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    for name in ("a.png", "beach/b.png", "town/c.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(picture())
    gallery = Gallery.from_folder(folder)
    assert (gallery.file_names, gallery.albums) == (["a.png"], ["beach"])


def test_an_album_that_cannot_be_used_is_listed(tmp_path: Path) -> None:
    folder = laid(tmp_path / "photos", "a.png", "b.png", "/".join(["x" * 100] * 3) + "/c.png")
    rows = [{"file_name": "a.png", "album": ["beach"]}, {"file_name": "b.png", "album": "y" * 201}]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    gallery = Gallery.from_folder(folder)
    assert gallery.albums == ["", "", ""]
    assert [name for name, _ in gallery.skipped] == [
        "metadata.jsonl:1",
        "metadata.jsonl:2",
        "/".join(["x" * 100] * 3),
    ]
    assert "no text" in gallery.skipped[0][1]
    assert all("the limit is 200" in reason for _, reason in gallery.skipped[1:])


def test_images_can_be_moved_to_albums(tmp_path: Path) -> None:
    gallery = Gallery.collect([laid(tmp_path / "photos", "a.png", "beach/b.png")], tmp_path / "into")
    gallery.with_albums(["sea ", ""])
    assert Gallery.load(tmp_path / "into").albums == gallery.albums == ["sea", ""]
    with pytest.raises(GalleryError, match="an album of 201 characters, the limit is 200"):
        gallery.with_albums(["x" * 201, ""])
    with pytest.raises(GalleryError, match="1 albums for 2 images"):
        gallery.with_albums(["x"])
    assert Gallery.load(tmp_path / "into").albums == gallery.albums == ["sea", ""]


def test_every_gallery_made_of_another_keeps_the_albums(tmp_path: Path) -> None:
    gallery = Gallery.from_folder(laid(tmp_path / "photos", "a.png", "beach/b.png", "town/c.png"))
    assert gallery.with_pseudo_queries({0: ["a dog"]}).albums == ["", "beach", "town"]
    assert gallery.without([1]).albums == ["", "town"]
    new = [("d.png", Image.new("RGB", (8, 8)))]
    assert gallery.with_pictures(new, [[]]).albums == ["", "beach", "town", ""]
    gallery.with_pictures(new, [[]]).save(tmp_path / "saved")
    assert Gallery.load(tmp_path / "saved").albums == ["", "beach", "town", ""]


def test_an_album_is_found_by_its_name(tmp_path: Path) -> None:
    gallery = Gallery.from_folder(laid(tmp_path / "photos", "a.png", *(f"album {i}/{i}.png" for i in range(7))))
    assert gallery.in_album("album 3") == [gallery.index("album 3/3.png")]
    assert gallery.album_sizes == {f"album {i}": 1 for i in range(7)}
    with pytest.raises(InputError, match=r"no album 'beach': name one of 7, such as 'album 0', .*'album 4', \.\.\.$"):
        gallery.in_album("beach")
    with pytest.raises(InputError, match="this gallery has no albums"):
        gallery.without(range(1, 8)).in_album("beach")


def sizes(gallery: Gallery, longest: int, folder: Path) -> tuple[dict[str, int], dict[str, int]]:
    """The longer sides of what a memory keeps, thumbnails and larger pictures."""
    gallery.save(folder / "gallery", folder / "originals", longest)
    return tuple(  # type: ignore[return-value]
        {path.name: max(Image.open(path).size) for path in (folder / part).rglob("*.*") if path.suffix != ".jsonl"}
        for part in ("gallery", "originals")
    )


@pytest.mark.parametrize("imported", [True, False])
def test_a_memory_keeps_pictures_at_most_so_large_beside_their_thumbnails(imported: bool, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for side in (100, 256, 700, 2000):
        name = f"{side}.png" if side != 700 else "700.jpg"
        made = picture((side, 90), "JPEG" if side == 700 else "PNG")
        (tmp_path / "photos" / name).write_bytes(made)
    gallery = Gallery.from_folder(tmp_path / "photos")
    if imported:
        gallery = Gallery.collect([tmp_path / "photos"], tmp_path / "into")
    small = {"100.png": 100, "256.png": 256, "700.jpg": 256, "2000.png": 256}
    assert sizes(gallery, 1600, tmp_path / "m") == (small, {"700.jpg": 700, "2000.png": 1600})
    assert sizes(gallery, 500, tmp_path / "less") == (small, {"700.jpg": 500, "2000.png": 500})
    assert sizes(gallery, 256, tmp_path / "none") == (small, {})
    loaded = Gallery.load(tmp_path / "m" / "gallery", tmp_path / "m" / "originals")
    assert max(Image.open(loaded.original(loaded.index("2000.png"))).size) == 1600
    assert loaded.original(0) == loaded.path(0)
    assert loaded.open(loaded.index("2000.png")).width == THUMBNAIL_SIDE


def test_what_a_memory_keeps_stays_byte_for_byte_when_it_is_saved_again(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(picture((700, 90), "JPEG"))
    Gallery.from_folder(tmp_path / "photos").save(tmp_path / "one" / "gallery", tmp_path / "one" / "originals")
    loaded = Gallery.load(tmp_path / "one" / "gallery", tmp_path / "one" / "originals")
    new = Image.new("RGB", (2000, 900), "red")
    gallery = loaded.with_pictures([("new.png", new)], [[]]).without([])
    gallery.save(tmp_path / "two" / "gallery", tmp_path / "two" / "originals", 256)
    kept = tmp_path / "two" / "originals" / "a.jpg"
    assert kept.read_bytes() == loaded.original(0).read_bytes() == (tmp_path / "photos" / "a.jpg").read_bytes()
    assert kept.samefile(loaded.original(0)), "no second copy on the disk"
    assert not loaded.original(0).samefile(tmp_path / "photos" / "a.jpg"), "a person's file is theirs"
    with Image.open(tmp_path / "two" / "originals" / "new.png") as image:
        assert image.size == (1600, 720)


def test_the_bytes_that_a_memory_will_keep_are_known_before(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for side in (100, 700, 2000):
        (tmp_path / "photos" / f"{side}.jpg").write_bytes(picture((side, side), "JPEG", seed=side))
    gallery = Gallery.collect([tmp_path / "photos"], tmp_path / "into")
    for longest in (1600, 256):
        sizes(gallery, longest, tmp_path / str(longest))
        kept = [path for part in ("gallery", "originals") for path in (tmp_path / str(longest) / part).rglob("*.jpg")]
        assert gallery.bytes_kept(longest) == sum(path.stat().st_size for path in kept)
    assert gallery.bytes_kept(256) < gallery.bytes_kept(800) < gallery.bytes_kept(1600)

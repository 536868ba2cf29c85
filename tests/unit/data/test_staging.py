"""A gallery before it is memorised: batches merged, images taken out and put back, captions kept throughout."""

import io
from contextlib import nullcontext
from itertools import count
from pathlib import Path

import pytest
from PIL import Image

from gcr_core.data import staging
from gcr_core.data.gallery import Gallery
from gcr_core.data.pictures import THUMBNAILS
from gcr_core.errors import GalleryError
from tests.uploads import encoded, picture, zipped

MOST = 100


@pytest.fixture
def made(tmp_path):
    """made(name, {member: bytes}): a gallery imported from a zip of these members."""

    def made(name, members):
        return Gallery.from_zip(zipped(tmp_path / f"{name}.zip", members), tmp_path / "staged" / name)

    return made


@pytest.fixture
def staged(made):
    """Two captioned pictures and a third."""
    gallery = made("first", {"red.png": picture(seed=1), "blue.png": picture(seed=2), "IMG_3.png": picture(seed=3)})
    return gallery.root


def rows(gallery):
    return dict(zip(gallery.file_names, gallery.captions, strict=True))


def test_a_batch_comes_in_behind_and_its_doubles_are_merged(staged, made):
    Gallery.load(staged).with_captions([["mine"], ["a red thing"], []])  # in the order of their names
    assert Gallery.load(staged).file_names == ["IMG_3.png", "blue.png", "red.png"]
    metadata = b'{"file_name": "sea/again.png", "text": ["a wave"]}\n{"file_name": "sea/red.png", "text": []}'
    batch = made(
        "second",
        {
            "sea/again.png": picture(seed=3),
            "sea/red.png": picture(size=(600, 400), seed=4),
            "sky/new.png": picture(seed=5),
            "metadata.jsonl": metadata,
        },
    )
    merged = staging.merge(staged, batch, MOST)
    assert merged == (2, [("again.png", "IMG_3.png")])
    gallery = Gallery.load(staged)
    assert rows(gallery) == {
        "IMG_3.png": ["mine", "a wave"],
        "blue.png": ["a red thing"],
        "red.png": [],
        "red-2.png": [],
        "new.png": ["new"],
    }
    assert gallery.albums == ["sea", "", "", "sea", "sky"]
    assert gallery.index("again.png") == 0
    assert all(gallery.open(image) for image in range(5))
    assert gallery.thumbnail(3) == staged / THUMBNAILS / "red-2.png"


def test_a_picture_that_comes_again_in_another_format_is_a_double(staged, made):
    jpeg = picture(size=(300, 200), file_format="JPEG", seed=4)
    same_pixels = encoded(Image.open(io.BytesIO(jpeg)), "PNG")
    first = staging.merge(staged, made("second", {"boat.jpg": jpeg}), MOST)
    third = made("third", {"boat.webp": jpeg, "scan.png": same_pixels, "red.jpg": picture(seed=1)})
    again = staging.merge(staged, third, MOST)
    assert (first.added, again.added) == (1, 0)
    assert again.doubles == [("boat.webp", "boat.jpg"), ("red.jpg", "red.png")]
    assert Gallery.load(staged).index("scan.png") == Gallery.load(staged).index("boat.webp") == 3


def test_one_folder_is_an_album_as_several_are(staged, made, tmp_path):
    for name in ("beach", "gallery/sub", "x" * 250):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "gallery" / "metadata.jsonl").touch()
    assert staging.album_of([tmp_path / "beach"]) == "beach"
    assert staging.album_of([tmp_path / "gallery"]) == "", "what it says of albums counts"
    assert staging.album_of([tmp_path / "beach", tmp_path / "gallery"]) == "", "they are albums already"
    assert staging.album_of([tmp_path / "beach.zip"]) == staging.album_of([tmp_path / ("x" * 250)]) == ""
    batch = made("second", {"a.png": picture(seed=4), "sub/b.png": picture(seed=5), "IMG_3.png": picture(seed=3)})
    staging.merge(staged, batch, MOST, "beach")
    gallery = Gallery.load(staged)
    assert dict(zip(gallery.file_names, gallery.albums, strict=True)) == {
        "IMG_3.png": "beach", "blue.png": "", "red.png": "", "a.png": "beach", "b.png": "beach/sub"
    }  # fmt: skip


def test_names_of_doubles_that_two_batches_have_in_common_are_kept_once(staged, made):
    batch = made("second", {"a.png": picture(seed=4), "blue.png": picture(seed=4)})
    assert batch.also == [["blue.png"]]
    staging.merge(staged, batch, MOST)
    gallery = Gallery.load(staged)
    assert gallery.also == [[], [], [], []]
    assert gallery.index("blue.png") == 1


def test_too_large_a_batch_changes_nothing(staged, made):
    before = Gallery.load(staged)
    batch = made("second", {f"{number}.png": picture(seed=number) for number in range(3, 6)})
    with pytest.raises(GalleryError, match="5 pictures were given, the limit is 4"):
        staging.merge(staged, batch, 4)
    assert rows(Gallery.load(staged)) == rows(before)
    assert all(path.exists() for path in map(batch.path, range(3)))
    assert staging.merge(staged, batch, 5).added == 2


def cut_off_at(step, patch):
    """Lets the process end over the file that is put into its place so many others after the first."""
    replace, steps = Path.replace, count()

    def replace_until(path, target):
        if next(steps) == step:
            raise KeyboardInterrupt
        return replace(path, target)

    patch.setattr(Path, "replace", replace_until)


def listed(folder):
    return {"metadata.jsonl", *Gallery.load(folder).file_names, *staging.taken_out(folder).file_names}


def there(folder):
    """The files of a gallery, its thumbnails among them."""
    paths = [path for place in (folder, folder / THUMBNAILS) if place.exists() for path in place.iterdir()]
    return {path.name for path in paths if not path.name.startswith(".")}


@pytest.mark.parametrize("killed", [True, False])
@pytest.mark.parametrize("step", range(6))
def test_a_merge_that_is_cut_off_leaves_no_picture_that_no_list_names(staged, made, monkeypatch, step, killed):
    staging.take_out(staged, ["red.png"])
    large = picture(size=(600, 400), seed=4)
    batch = made("second", {"large.png": large, "new.png": picture(seed=5), "red.png": picture(seed=1)})
    with monkeypatch.context() as patch:
        cut_off_at(step, patch)
        if killed:
            patch.setattr(staging, "_remove_unlisted", lambda folder: None)
        with pytest.raises(KeyboardInterrupt) if step < 5 else nullcontext():
            staging.merge(staged, batch, MOST)
    if killed:
        staging.sweep(staged)
    assert there(staged) == listed(staged)
    gallery = Gallery.load(staged)
    assert len(gallery) == (2 if step < 4 else 5)
    assert all(gallery.open(image) for image in range(len(gallery)))
    assert staging.merge(staged, made("third", {"large.png": large}), MOST).added == (step < 4)


def test_nothing_of_a_damaged_gallery_is_swept(staged):
    before = there(staged)
    (staged / "metadata.jsonl").write_text("{", encoding="utf-8")
    staging.sweep(staged)
    assert there(staged) == before


def test_what_is_taken_out_comes_back_with_what_was_typed_meanwhile(staged):
    assert staging.take_out(staged, ["red.png", "IMG_3.png", "unknown.png"]) == 2
    assert Gallery.load(staged).file_names == ["blue.png"]
    gallery, image = staging.holding(staged, "red.png")
    gallery.captions[image] = ["a late caption"]
    gallery.with_captions(gallery.captions)
    assert Gallery.load(staged).file_names == ["blue.png"]
    staging.put_back(staged, MOST)
    assert rows(Gallery.load(staged)) == {"blue.png": ["blue"], "IMG_3.png": [], "red.png": ["a late caption"]}
    assert len(staging.taken_out(staged)) == 0
    with pytest.raises(GalleryError, match="is not in the gallery"):
        staging.holding(staged, "unknown.png")


def test_not_all_can_be_taken_out(staged):
    with pytest.raises(GalleryError, match="all 3 pictures would be removed"):
        staging.take_out(staged, ["red.png", "blue.png", "IMG_3.png"])
    assert len(Gallery.load(staged)) == 3


def test_a_picture_that_was_taken_out_and_is_dropped_again_is_put_back(staged, made):
    staging.take_out(staged, ["red.png", "blue.png"])
    merged = staging.merge(staged, made("second", {"again.png": picture(seed=1), "IMG_3.png": picture(seed=3)}), MOST)
    assert merged == (1, [("IMG_3.png", "IMG_3.png")])
    assert rows(Gallery.load(staged)) == {"IMG_3.png": [], "red.png": ["red", "again"]}
    assert staging.taken_out(staged).file_names == ["blue.png"]


def test_of_what_a_crash_left_in_both_lists_the_gallerys_stays(staged):
    before = Gallery.load(staged)
    staging.take_out(staged, ["red.png"])
    before.with_captions([["one"], ["two"], ["three"]])  # as where the second of the two files was not written
    assert staging.holding(staged, "red.png")[0].root == staged
    staging.put_back(staged, MOST)
    assert rows(Gallery.load(staged)) == {"IMG_3.png": ["one"], "blue.png": ["two"], "red.png": ["three"]}


def test_the_models_captions_of_a_double_stay_the_models(staged, made):
    written = Gallery.load(staged).with_pseudo_queries({0: ["a thing"]})
    written.with_captions(written.captions)
    batch = made("second", {"x.png": picture(seed=3), "metadata.jsonl": b'{"file_name": "x.png", "text": ["a dog"]}'})
    staging.merge(staged, batch, MOST)
    gallery = Gallery.load(staged)
    assert gallery.captions[0] == ["a thing", "a dog"]
    assert gallery.pseudo_queries[0] == ["a thing"]

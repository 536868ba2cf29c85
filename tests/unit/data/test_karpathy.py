"""Karpathy's splits of Flickr30K and MS-COCO: what is read, what is left out, what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gcr_core.cli import main
from gcr_core.data.gallery import Gallery
from gcr_core.data.karpathy import read_entries, read_gallery
from gcr_core.data.metadata import MAX_LISTED
from gcr_core.data.queries import karpathy_queries
from gcr_core.errors import GalleryError
from gcr_core.evaluation.evaluate import among, evaluate
from gcr_core.memory.memory import Memory


def image(name: str, split: str, *captions: str, **more: Any) -> dict[str, Any]:
    sentences = [
        {"tokens": text.split(), "raw": text, "imgid": 0, "sentid": number} for number, text in enumerate(captions)
    ]
    return {"filename": name, "split": split, "sentences": sentences, "imgid": 0, "sentids": [0], **more}


FLICKR = [
    image("1.jpg", "train", "Two dogs  run .", "Dogs run .", "Two dogs  run ."),
    image("2.jpg", "test", "A red boat ."),
    image("3.jpg", "train", "A boy swims ."),
    image("4.jpg", "val", "A girl sings ."),
]


def write(folder: Path, images: Any, there: bool = True) -> Path:
    path = folder / "dataset.json"
    path.write_text(json.dumps({"images": images, "dataset": "flickr30k"}))
    for entry in images if there else []:
        file = folder / "images" / entry.get("filepath", "") / entry["filename"]
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), "red").save(file)
    return path


def test_a_split_is_a_gallery_of_its_images_and_tidied_captions(tmp_path: Path) -> None:
    gallery = read_gallery(write(tmp_path, FLICKR), tmp_path / "images")
    assert gallery.file_names == ["1.jpg", "3.jpg"]
    assert gallery.captions == [["Two dogs run .", "Dogs run ."], ["A boy swims ."]]
    assert gallery.skipped == []
    assert gallery.open(1).size == (8, 8)


def test_a_split_may_be_memorised_without_its_captions(tmp_path: Path) -> None:
    gallery = read_gallery(write(tmp_path, FLICKR), tmp_path / "images", ["train", "val"], ["test"])
    assert dict(zip(gallery.file_names, map(len, gallery.captions), strict=True)) == {
        "1.jpg": 2,
        "2.jpg": 0,
        "3.jpg": 1,
        "4.jpg": 1,
    }


def test_coco_names_images_below_their_year(tmp_path: Path) -> None:
    coco = [
        image("COCO_val2014_000000000042.jpg", "restval", "A shoe .", filepath="val2014", cocoid=42),
        image("COCO_train2014_000000000009.jpg", "train", "A box .", filepath="train2014", cocoid=9),
    ]
    gallery = read_gallery(write(tmp_path, coco), tmp_path / "images", ["train", "restval"])
    assert gallery.file_names == ["val2014/COCO_val2014_000000000042.jpg", "train2014/COCO_train2014_000000000009.jpg"]
    gallery.save(tmp_path / "saved")
    assert Gallery.load(tmp_path / "saved").open(0).size == (8, 8)


def test_a_split_with_a_byte_order_mark_and_backslashes_is_read(tmp_path: Path) -> None:
    coco = [image("COCO_val2014_000000000042.jpg", "restval", "A shoe .", filepath="val2014")]
    path = write(tmp_path, coco)
    coco[0]["filename"], coco[0]["filepath"] = "val2014\\COCO_val2014_000000000042.jpg", ".\\"
    path.write_text("\ufeff" + json.dumps({"images": coco}), encoding="utf-8")
    assert read_gallery(path, tmp_path / "images", ["restval"]).file_names == ["val2014/COCO_val2014_000000000042.jpg"]


def test_no_picture_is_opened_before_it_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, FLICKR)
    monkeypatch.setattr("gcr_core.data.gallery.open_image", None)
    assert len(read_gallery(path, tmp_path / "images")) == 2


def test_images_that_are_not_there_are_listed_and_the_rest_goes_on(tmp_path: Path) -> None:
    path = write(tmp_path, FLICKR)
    (tmp_path / "images" / "1.jpg").unlink()
    gallery = read_gallery(path, tmp_path / "images")
    assert gallery.file_names == ["3.jpg"]
    assert [name for name, _ in gallery.skipped] == ["1.jpg"]
    many = [*FLICKR, *(image(f"gone-{number}.jpg", "train", "gone") for number in range(MAX_LISTED))]
    skipped = read_gallery(write(tmp_path, many, there=False), tmp_path / "images").skipped
    assert len(skipped) == MAX_LISTED + 1 and skipped[-1][0] == "1 more"


def test_where_no_picture_is_there_the_folder_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, FLICKR, there=False)
    with pytest.raises(GalleryError, match=r"nowhere' has 0 of 2 images, such as '1\.jpg'.*unpacked"):
        read_gallery(path, tmp_path / "nowhere")


def test_an_unknown_split_names_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(GalleryError, match=r"no split 'dev': choose of train \(2\), test \(1\), val \(1\)"):
        read_entries(write(tmp_path, FLICKR, there=False), ["dev"])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "is no Karpathy split"),
        ("[]", "no list of images"),
        ('{"images": 5}', "no list of images"),
        ('{"annotations": []}', "no list of images"),
        ("[" * 100_000, "no list of images"),
        ('{"images": [5]}', "image 1 is no JSON object"),
        (
            '{"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": []}',
            "COCO's form, without splits: put it beside",
        ),
        ('{"images": [{"filename": "a.jpg"}]}', "image 1 has no filename or no split"),
        ('{"images": [{"filename": 5, "split": "train"}]}', "image 1 has no filename"),
        ('{"images": [{"filename": "a", "split": "train", "sentences": [{"text": "a"}]}]}', "without raw text"),
        (
            '{"images": [{"filename": "a", "split": "train", "sentences": [{"raw": 5}]}]}',
            "image 1 captions are neither",
        ),
    ],
)
def test_another_format_is_a_named_error(content: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "dataset.json"
    path.write_text(content)
    with pytest.raises(GalleryError, match=reason) as caught:
        read_entries(path, ["train"])
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_a_named_error(tmp_path: Path) -> None:
    with pytest.raises(GalleryError, match="cannot be read"):
        read_entries(tmp_path / "dataset.json", ["train"])


def test_names_that_leave_the_folder_or_stand_twice_are_refused(tmp_path: Path) -> None:
    outside = [image("../images/1.jpg", "train", "x")]
    with pytest.raises(GalleryError, match="leaves the gallery's folder"):
        read_gallery(write(tmp_path, outside), tmp_path / "images")
    with pytest.raises(GalleryError, match="twice"):
        read_gallery(write(tmp_path, [FLICKR[0], FLICKR[0]]), tmp_path / "images")


def test_a_split_asks_for_its_own_images_alone(tiny_memory: Memory, tmp_path: Path) -> None:
    names = tiny_memory.gallery.file_names
    images = [image(name, "test" if name in names[2:5] else "train", f"one {name}", f"two {name}") for name in names]
    path = write(tmp_path, images, there=False)
    queries = karpathy_queries(path, "test", tiny_memory.gallery)
    assert [query.text for query in queries] == [f"{one} {name}" for name in names[2:5] for one in ("one", "two")]
    assert {name for query in queries for name in query.relevant} == set(names[2:5])
    few = among(tiny_memory, names[2:5])
    assert (len(few.gallery), len(tiny_memory.gallery), tiny_memory.dense.index.ntotal) == (3, 12, 12)
    everything, asked = tiny_memory.search("a bar", top=12), few.search("a bar")
    for engine in ("generative", "dense"):
        order = [hit["file_name"] for hit in everything[engine] if hit["file_name"] in names[2:5]]
        assert [hit["file_name"] for hit in asked[engine]] == order
    assert evaluate(few, queries)["images"] == 3


def test_a_split_that_was_not_memorised_is_a_named_error(tiny_memory: Memory, tmp_path: Path) -> None:
    path = write(tmp_path, [*FLICKR, image("red-bar.png", "test", "a bar")], there=False)
    with pytest.raises(GalleryError, match=r"lacks 1 of the 2 images of split 'test', such as '2\.jpg'"):
        karpathy_queries(path, "test", tiny_memory.gallery)


def test_a_split_without_captions_is_a_named_error(tiny_memory: Memory, tmp_path: Path) -> None:
    path = write(tmp_path, [image("red-bar.png", "test")], there=False)
    with pytest.raises(GalleryError, match="has 0 captions to ask"):
        karpathy_queries(path, "test", tiny_memory.gallery)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["dataset.json"], "add --images DIR"),
        (["folder", "--split", "train"], "'folder' is no .json file"),
        (["dataset.json", "--images", "nowhere"], "cannot be read"),
    ],
)
def test_commands_say_what_a_split_needs(
    arguments: list[str], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["memorize", *arguments, "--out", str(tmp_path / "memory")]) == 2
    assert reason in capsys.readouterr().err


def test_the_captions_of_a_memorised_split_are_asked_by_the_command(
    tiny_memory_dir: Path, tiny_memory: Memory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = tiny_memory.gallery.file_names
    path = write(tmp_path, [image(name, "test", f"a {name}") for name in names[:4]], there=False)
    assert (
        main(["evaluate", "--memory", str(tiny_memory_dir), "--queries", str(path), "--split", "test", "--json"]) == 0
    )
    answer = json.loads(capsys.readouterr().out)
    assert (answer["queries"], answer["images"]) == (4, 4)
    assert answer["generative"]["recall@5"] == answer["dense"]["recall@5"] == 1

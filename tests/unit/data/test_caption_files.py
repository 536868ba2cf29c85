"""Captions in the forms in which people bring them: each row is used or listed with its true reason, none is lost."""

import json
import re
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gcr_core.data import metadata as metadata_module
from gcr_core.data.metadata import Metadata

IMAGES = ["IMG_1.jpg", "IMG_2.jpg", "x/c.png", "y/c.png"]


class Said:
    """What becomes of the captions of IMAGES after some files were read."""

    def __init__(self, files: dict[str, str | bytes], images: list[str] = IMAGES) -> None:
        metadata = Metadata()
        for name, text in files.items():
            metadata.read(name, text.encode() if isinstance(text, str) else text)
        captions = metadata.captions(images)
        self.captions = {image: list(some) for image, some in zip(images, captions, strict=True) if some}
        self.albums = metadata.albums(images)
        self.skipped, self.notes = metadata.skipped, metadata.notes


ONE = {"IMG_1.jpg": ["a red boat"]}
TWO = {"IMG_1.jpg": ["a red boat"], "IMG_2.jpg": ["a car"]}
BOTH = {"IMG_1.jpg": ["a red boat", "a ship"]}


@pytest.mark.parametrize(
    ("name", "text", "captions", "note"),
    [
        (
            "metadata.csv",
            "file_name;text\nIMG_1.jpg;a red boat; at sea\n",
            {"IMG_1.jpg": ["a red boat; at sea"]},
            "';'",
        ),
        ("metadata.csv", "file_name\ttext\nIMG_1.jpg\ta red boat\n", ONE, ""),
        ("metadata.csv", "sep=;\r\nfile_name;text\r\nIMG_1.jpg;a red boat\r\n", ONE, ""),
        ("metadata.csv", "text,file_name\na boat, at sea,IMG_1.jpg\n", {"IMG_1.jpg": ["a boat, at sea"]}, "whole"),
        ("metadata.csv", "file_name,text\nIMG_1.jpg,a red boat,,\nIMG_2.jpg,a car\n", TWO, ""),
        ("metadata.csv", "id,image,comment\n1,IMG_1.jpg,a boat, at sea\n", {"IMG_1.jpg": ["a boat, at sea"]}, "whole"),
        ("metadata.csv", "file_name,text,text\nIMG_1.jpg,a red boat,a ship\n", BOTH, "2 columns of captions"),
        ("metadata.csv", "id,image,caption_1,caption_2\n1,IMG_1.jpg,a red boat,a ship\n", BOTH, "all are taken"),
        ("metadata.csv", "File Name,Caption\nIMG_1.jpg,a red boat\n", ONE, '"Caption" is taken'),
        ("metadata.csv", "filename,prompt\n./IMG_1.jpg,a red boat\nC:\\photos\\IMG_2.JPG,a car\n", TWO, '"prompt"'),
        ("metadata.csv", "IMG_1.jpg,a red boat\nIMG_2.jpg,a car\n", TWO, "has no header"),
        ("metadata.csv", 'file_name,text\nIMG_1.jpg,"a "red" boat"\n', {"IMG_1.jpg": ['a "red" boat']}, ""),
        ("metadata.csv", 'file_name,text\nIMG_1.jpg,"a red\nboat"\nIMG_2.jpg,a car\n', TWO, ""),
        ("MetaData.CSV", "file_name,text\nIMG_1.jpg,a red boat\n", ONE, ""),
        ("train_metadata.csv", "file_name,text\nIMG_1.jpg,a red boat\n", ONE, "read as captions"),
        ("metadata.csv.txt", "file_name,text\nIMG_1.jpg,a red boat\n", ONE, "read as captions"),
        ("results.csv", "image_name| comment_number| comment\nIMG_1.jpg| 0| a red boat\n", ONE, '"comment"'),
        ("Flickr8k.token.txt", "IMG_1.jpg#0\ta red boat\nIMG_1.jpg#1\ta ship\n", BOTH, "no header"),
        ("captions.txt", "image,caption\nIMG_1.jpg,a red boat\n", ONE, '"image" is taken'),
        ("captions.txt", "IMG_1.jpg a red boat\nIMG_2.jpg a car\n", TWO, "no header"),
        ("IMG_1.txt", "\ufeffa red boat\r\na ship\r\n", BOTH, "picture of its name"),
        ("img_1.JPG.txt", "a red boat", ONE, "picture of its name"),
        ("captions/IMG_1.caption", "a red boat", ONE, "picture of its name"),
        ("metadata.jsonl", '{"image": "IMG_1.jpg", "caption": "a red boat"}', ONE, '"caption" is taken'),
        ("metadata.jsonl", '{"file_name": "IMG_1.jpg", "captions": ["a red boat", "a ship"]}', BOTH, '"captions"'),
        ("metadata.jsonl", '{"file_name": "IMG_1.jpg", "text": "a red boat", "title": "x"}', ONE, ""),
        ("metadata.jsonl", '{"file_name": "IMG_1.jpg", "text": "a red boat", "text": "a ship"}', BOTH, ""),
        ("metadata.jsonl", '[\n{"file_name": "IMG_1.jpg", "text": "a red boat"}\n]', ONE, ""),
        ("metadata.jsonl", '{"file_name": "IMG_1.jpg", "text": "a red boat"},\n', ONE, ""),
        ("metadata.json1", '{"file_name": "IMG_1.jpg", "text": "a red boat"}', ONE, "read as captions"),
        ("metadata.jsonl", '{"file_name": "IMG_1", "text": "a red boat"}', ONE, "of that stem"),
        ("metadata.jsonl", '{"file_name": "IMG_1.CR2", "text": "a red boat"}', ONE, "of that stem"),
        ("captions.json", '\ufeff{"IMG_1.jpg": ["a red boat", "a ship"]}', BOTH, "read as captions"),
        ("captions.json", '{"IMG_1": "a red boat", "IMG_2": ["a car"]}', TWO, "of that stem"),
        ("meta.json", '{"IMG_1": {"caption": "a red boat", "tags": "sea"}}', ONE, "of that stem"),
        ("captions.json", '[["IMG_1.jpg", "a red boat"], ["IMG_2.jpg", "a car"]]', TWO, "read as captions"),
        ("data.json", '{"version": 1, "rows": [{"path": "IMG_1.jpg", "description": "a red boat"}]}', ONE, '"path"'),
        ("IMG_1.json", '{"caption": "a red boat", "width": 3}', ONE, "picture of its name"),
        ("IMG_1.jpg.json", '{"title": "IMG_1.jpg", "description": "a red boat"}', ONE, '"description"'),
        ("captions.csv", "\ufefffile,prompt\r\nIMG_1.jpg,a red boat\r\n".encode("utf-16-le"), ONE, "read as captions"),
        (
            "captions_val.json",
            '\ufeff{"images": [{"id": 1, "file_name": "IMG_1.jpg"}],'
            ' "annotations": [{"image_id": 1, "caption": "a red boat"}]}',
            ONE,
            "read as captions",
        ),
        (
            "dataset_coco.json",
            '\ufeff{"images": [{"filepath": "y", "filename": "c.png", "sentences": [{"raw": "A shoe ."}]}]}',
            {"y/c.png": ["A shoe ."]},
            "read as captions",
        ),
    ],
)
def test_what_has_one_reading_is_taken_and_said(
    name: str, text: str | bytes, captions: dict[str, list[str]], note: str
) -> None:
    said = Said({name: text})
    assert said.captions == captions
    assert said.skipped == []
    assert note in " ".join(remark for _, remark in said.notes)
    assert bool(note) == bool(said.notes)


@pytest.mark.parametrize(
    ("name", "text", "place", "reason"),
    [
        ("metadata.csv", "file_name,album,text\nIMG_1.jpg,lake, summer,a boat\n", "metadata.csv:2", "has 4 fields"),
        ("metadata.csv", "file_name,text,by\nIMG_1.jpg,a boat, at sea,me\n", "metadata.csv:2", "has 4 fields"),
        ("metadata.csv", "text,file_name,by\na, boat,IMG_1.jpg,me\n", "metadata.csv:2", "has 4 fields"),
        ("metadata.csv", "file_name,text\nIMG_1.jpg\n", "metadata.csv:2", "has 1 of 2 fields"),
        ("metadata.csv", 'file_name,text\nIMG_1.jpg,"a boat\n', "metadata.csv:2", "a quote that is never closed"),
        ("metadata.csv", "image,title,description\nIMG_1.jpg,A,a boat\n", "metadata.csv", '"title" and "description"'),
        ("metadata.csv", "image,path,text\nx,y,a boat\n", "metadata.csv", '"image" and "path": call one file_name'),
        ("metadata.csv", "file_name,words\nIMG_1.jpg,a boat\n", "metadata.csv", "no column 'text'"),
        ("metadata.csv", "", "metadata.csv", "has no rows"),
        ("data.csv", "lat,lon\n1,2\n", "data.csv", "looks like captions, is not read: it has no column 'file_name'"),
        ("captions.csv", b"image,caption\nIMG_1.jpg,caf\xe9\n", "captions.csv", "is not read: it is not UTF-8 text"),
        ("captions.txt", "IMG_1 a red boat\n", "captions.txt", "there is no picture called 'captions'"),
        ("captions.txt", "1 2 3\n", "captions.txt", "has no words"),
        ("IMG_1.txt", "x" * 2_000, "IMG_1.txt", "a caption of 2,000 characters, the limit is 1,000"),
        ("IMG_1.txt", b"caf\xe9", "IMG_1.txt", "is not read: it is not UTF-8 text"),
        ("c.txt", "a clock: c.png", "c.txt", "could be x/c.png and y/c.png: write its path"),
        ("metadata.jsonl", '{"file_name": "c.png", "text": "a"}', "c.png", "could be x/c.png and y/c.png"),
        (
            "metadata.jsonl",
            '{"file_name": "IMG_1.jpg", "words": "a boat"}',
            "metadata.jsonl:1",
            'has no "text" but "words"',
        ),
        ("metadata.jsonl", '{"image": "IMG_1.jpg", "caption": "a", "prompt": "b"}', "metadata.jsonl:1", '"prompt"'),
        ("metadata.jsonl", '{"file_name": "a", "file_name": "b"}', "metadata.jsonl:1", 'has "file_name" twice'),
        ("captions.json", "[1, 2]", "captions.json", "has 2 rows of which none can be used; line 1 is no JSON object"),
        ("captions.json", '{"a": [{"image": "1"}], "b": [{"image": "2"}]}', "captions.json", "has 2 lists of pictures"),
        ("captions.json", '{"IMG_1.jpg": "a boat",\n', "captions.json", "is no JSON from line"),
        ("captions.json", "5", "captions.json", "is no list of rows"),
        ("captions.json", '{"caption": 5}', "captions.json", "captions that are no text"),
        ("config.json", '{"see": "IMG_1.jpg"}', "config.json", "names no picture"),
        (
            "instances_val.json",
            '{"images": [{"id": 1, "file_name": "IMG_1.jpg"}], "annotations": [{"image_id": 1}]}',
            "instances_val.json",
            "of COCO's form and has no captions",
        ),
        ("queries.jsonl", '{"query": "a boat", "relevant": ["IMG_1.jpg"]}', "queries.jsonl", "leave it to evaluate"),
    ],
)
def test_what_has_no_reading_or_several_is_listed(name: str, text: str | bytes, place: str, reason: str) -> None:
    said = Said({name: text})
    assert said.captions == {}
    ((listed, why),) = said.skipped
    assert listed == place
    assert reason in why
    assert "\n" not in why


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("notes.txt", "a walk in the park"),
        ("LICENSE.txt", "x" * 5_000),
        ("config.json", '{"width": 5}'),
        ("package.json", "{"),
        ("IMG_1.txt", "0 0.5 0.5 0.2 0.1"),
        ("IMG_1.json", '{"iso": 100, "camera": "a box"}'),
    ],
)
def test_text_that_is_for_something_else_is_passed_over(name: str, text: str) -> None:
    said = Said({name: text})
    assert (said.captions, said.skipped, said.notes) == ({}, [], [])


def test_a_text_without_a_picture_is_listed_where_others_have_one() -> None:
    said = Said({"IMG_1.txt": "a red boat", "IMG_3.txt": "a picture that is gone"})
    assert said.captions == ONE
    assert [name for name, _ in said.skipped] == ["IMG_3.txt"]


def test_an_open_quote_swallows_no_other_row() -> None:
    said = Said({"metadata.csv": 'file_name,text\nIMG_1.jpg,"a boat\nIMG_2.jpg,"a car"\n'})
    assert said.captions == {"IMG_2.jpg": ["a car"]}
    assert [name for name, _ in said.skipped] == ["metadata.csv:2"]


def test_what_is_no_metadata_takes_no_room_from_what_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata_module, "MAX_BYTES", 100)
    said = Said({"config.json": '{"a": 1}' + " " * 80, "metadata.csv": "file_name,text\nIMG_1.jpg,a red boat\n"})
    assert (said.captions, said.skipped) == (ONE, [])


def test_a_row_without_a_word_on_captions_leaves_the_stem_to_serve() -> None:
    said = Said({"metadata.jsonl": '{"file_name": "a-red-boat.jpg", "album": "sea"}'}, ["a-red-boat.jpg"])
    assert said.captions == {"a-red-boat.jpg": ["a red boat"]}
    assert said.albums == {"a-red-boat.jpg": "sea"}


def test_a_picture_with_a_row_of_its_own_gets_none_of_another_suffix() -> None:
    rows = [{"file_name": "IMG_1.png", "text": "another"}, {"file_name": "IMG_1.jpg", "text": "a red boat"}]
    said = Said({"metadata.jsonl": "\n".join(map(json.dumps, rows))})
    assert said.captions == ONE
    assert [name for name, _ in said.skipped] == ["IMG_1.png"]


def test_the_longest_end_of_a_path_tells_images_of_one_name_apart() -> None:
    rows = [{"file_name": f"/home/me/photos/{folder}/c.png", "text": folder} for folder in ("x", "y")]
    assert Said({"metadata.jsonl": "\n".join(map(json.dumps, rows))}).captions == {"x/c.png": ["x"], "y/c.png": ["y"]}


WORDS = st.text("ab ,;\t|\"'é\u0301Ж船{}[]:\\#\n\r", min_size=1, max_size=20)


@st.composite
def caption_files(draw: st.DrawFn) -> tuple[str, str, dict[str, str], dict[str, int]]:
    """(name, text, caption by image, number of its row by image) of a file as carelessly written as people do."""
    form = draw(st.sampled_from(["jsonl", "json", "mapping", "coco", "csv", "headless", "token", "spaced"]))
    key, text_key = draw(st.sampled_from(["file_name", "image", "File"])), draw(st.sampled_from(["text", "Caption"]))
    quotes = draw(st.booleans())
    texts = draw(st.lists(WORDS.filter(lambda text: re.search("[ab]", text)), min_size=1, max_size=6))
    if form in ("token", "spaced") or (form in ("csv", "headless") and not quotes):
        texts = [text.replace("\n", "").replace("\r", "") for text in texts]
    rows = {f"IMG_{number}.jpg": text for number, text in enumerate(texts)}
    numbers = {image: number for number, image in enumerate(rows, start=1)}
    if form in ("jsonl", "json"):
        objects = [json.dumps({key: name, text_key: text}) for name, text in rows.items()]
        return f"captions.{form}", "\n".join(objects) if form == "jsonl" else f"[{','.join(objects)}]", rows, numbers
    if form == "mapping":
        return "captions.json", json.dumps(rows), rows, numbers
    if form == "coco":
        images = [{"id": i, "file_name": name} for i, name in enumerate(rows)]
        captions = [{"image_id": i, "caption": text} for i, text in enumerate(rows.values())]
        return "captions.json", json.dumps({"images": images, "annotations": captions}), rows, numbers
    delimiter = {"token": "\t", "spaced": " "}.get(form) or draw(st.sampled_from([",", ";", "\t", "|"]))
    quoted = quotes and form in ("csv", "headless")
    lines = [
        delimiter.join([name, '"' + text.replace('"', '""') + '"' if quoted else text]) for name, text in rows.items()
    ]
    head = [delimiter.join([key, text_key])] if form == "csv" else []
    text = "\n".join([*head, *lines])
    numbers = {image: len(re.split("\r\n|\r|\n", text[: text.index(image)])) for image in rows}
    return "captions.txt" if form in ("token", "spaced") else "captions.csv", text, rows, numbers


def letters(text: str) -> str:
    return "".join(re.findall(r"\w", text))


@pytest.mark.slow
@settings(max_examples=400, deadline=None, derandomize=True)
@given(caption_files())
def test_every_row_is_used_or_listed(file: tuple[str, str, dict[str, str], dict[str, int]]) -> None:
    name, text, rows, numbers = file
    said = Said({name: text}, list(rows))
    listed = {place for place, _ in said.skipped}
    for image, caption in rows.items():
        used = letters(caption) in map(letters, said.captions.get(image, []))
        assert used or {name, f"{name}:{numbers[image]}"} & listed, (image, numbers[image], said.captions, said.skipped)


@pytest.mark.slow
@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.sampled_from(
        ["metadata.csv", "metadata.jsonl", "captions.json", "captions.txt", "IMG_1.txt", "a.tsv", "IMG_1.json"]
    ),
    st.one_of(
        st.binary(max_size=200),
        st.text(max_size=200).map(str.encode),
        st.text('{}[]",:;|\t\n\rabc.jpg_IMG1file_nametextcaption', max_size=300).map(str.encode),
        st.recursive(
            st.one_of(st.none(), st.integers(), st.sampled_from(["IMG_1.jpg", "a boat", ""])),
            lambda inner: st.one_of(
                st.lists(inner, max_size=3),
                st.dictionaries(
                    st.sampled_from(["file_name", "text", "image", "images", "annotations", "caption", "IMG_1.jpg"]),
                    inner,
                ),
            ),
        ).map(lambda value: json.dumps(value).encode()),
    ),
)
@example("metadata.csv", b"file_name,text\n\x00")
@example("metadata.jsonl", b"[" * 10_000)
def test_no_text_is_an_exception_and_metadata_is_never_lost_in_silence(name: str, data: bytes) -> None:
    said = Said({name: data})
    assert all(isinstance(c, str) for captions in said.captions.values() for c in captions)
    if name.startswith("metadata") and re.search(rb"[a-z]", data.lower()):
        rows = any(line.strip() for line in data.decode(errors="replace").split("\n")[1:]) or name.endswith("l")
        assert said.captions or said.skipped or not rows or said_nothing(data)


def said_nothing(data: bytes) -> Any:
    """Whether each row names an image, and none captions it: there is nothing to lose."""
    return not re.search(rb"boat|[a-z]{2}", re.sub(rb"file_name|text|image|caption|IMG_1\.jpg|jpg|null", b"", data))

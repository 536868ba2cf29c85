"""Captions from metadata files and file names."""

import json

import pytest

from gcr_core.data import metadata as metadata_module
from gcr_core.data.metadata import MAX_CAPTION_CHARACTERS, MAX_LISTED, Metadata
from gcr_core.data.stems import album_words


def read(name: str, text: str, paths: list[str]) -> tuple[list[list[str]], list[tuple[str, str]]]:
    metadata = Metadata()
    metadata.read(name, text.encode())
    return [list(captions) for captions in metadata.captions(paths)], metadata.skipped


def test_text_is_a_string_or_a_list_and_white_space_is_tidied() -> None:
    first = '{"file_name": "a.png", "text": " a  dog\\n"}'
    text = first + '\n\n{"file_name": "b.png", "text": ["one", "", "one", "two"]}'
    captions, skipped = read("metadata.jsonl", text, ["a.png", "b.png", "c.png"])
    assert captions == [["a dog"], ["one", "two"], []]
    assert not skipped


def test_csv_reads_like_jsonl() -> None:
    text = '\ufefffile_name,text\na.png,"a dog, asleep"\nb.png,\n'
    assert read("metadata.csv", text, ["a.png", "b.png"])[0] == [["a dog, asleep"], []]


def test_paths_are_relative_to_the_metadata_file() -> None:
    assert read("train/metadata.jsonl", '{"file_name": "a.png", "text": "x y"}', ["train/a.png"])[0] == [["x y"]]


def test_rows_for_the_same_image_add_up() -> None:
    rows = "\n".join(json.dumps({"file_name": "a.png", "text": text}) for text in ("one", "two", "one"))
    assert read("metadata.jsonl", rows, ["a.png"])[0] == [["one", "two"]]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("{", "no JSON object"),
        ("[1]", "no JSON object"),
        ("[" * 100_000, "no JSON object"),
        ('{"text": "x"}', 'no "file_name"'),
        ('{"file_name": 5}', 'no "file_name"'),
        ('{"file_name": "a.png", "text": 5}', "neither a string nor a list"),
        ('{"file_name": "a.png", "text": [null]}', "neither a string nor a list"),
        (
            json.dumps({"file_name": "a.png", "text": "x" * 10_000_000}),
            "10,000,000 characters, the limit is 1,000",
        ),
        (json.dumps({"file_name": "a.png", "text": ["x"] * 2_000}), "2,000 captions, the limit is 1,000"),
    ],
)
def test_a_bad_row_is_listed_with_its_line_and_the_rest_goes_on(row: str, reason: str) -> None:
    captions, skipped = read("metadata.jsonl", f'{row}\n{{"file_name": "b.png", "text": "fine"}}', ["b.png"])
    assert captions == [["fine"]]
    assert [name for name, _ in skipped] == ["metadata.jsonl:1"]
    assert reason in skipped[0][1]


def test_a_row_about_no_image_is_listed() -> None:
    assert read("metadata.jsonl", '{"file_name": "gone.png", "text": "x"}', [])[1] == [
        ("gone.png", "the metadata names it but there is no such image")
    ]


def test_a_line_separator_inside_a_caption_ends_no_line() -> None:
    row = json.dumps({"file_name": "a.png", "text": "one\u2028two"}, ensure_ascii=False)
    assert read("metadata.jsonl", row, ["a.png"])[0] == [["one two"]]


def test_a_huge_csv_field_is_listed_not_fatal() -> None:
    text = f"file_name,text\na.png,{'x' * (MAX_CAPTION_CHARACTERS * 1_000)}\nb.png,fine\n"
    captions, skipped = read("metadata.csv", text, ["b.png"])
    assert captions == [["fine"]]
    assert len(skipped) == 1


def test_metadata_that_is_no_text_is_listed() -> None:
    metadata = Metadata()
    metadata.read("metadata.jsonl", b"\xff\xfe\x00")
    ((name, reason),) = metadata.skipped
    assert name == "metadata.jsonl"
    assert "not UTF-8" in reason


def test_a_file_name_alone_finds_the_one_image_that_has_it() -> None:
    rows = "\n".join(json.dumps({"file_name": name, "text": "x y"}) for name in ("A.png", "b\u0065\u0301.png", "c.png"))
    paths = ["photos/a.png", "photos/b\u00e9.png", "x/c.png", "y/c.png"]
    captions, skipped = read("metadata.jsonl", rows, paths)
    assert captions == [["x y"], ["x y"], [], []]
    assert [name for name, _ in skipped] == ["c.png"]


def test_an_image_that_no_row_names_is_captioned_by_its_stem() -> None:
    captions, _ = read("metadata.jsonl", '{"file_name": "red-boat.png", "text": []}', ["red-boat.png", "blue-boat.png"])
    assert captions == [[], ["blue boat"]]


def test_rows_about_a_refused_image_are_not_called_lost() -> None:
    metadata = Metadata()
    metadata.read("metadata.jsonl", b'{"file_name": "a/x.png", "text": "one"}')
    assert metadata.captions(["b/x.png"], {"a/x.png"}) == [{}]
    assert metadata.skipped == []


def test_half_a_character_and_control_characters_are_left_out() -> None:
    row = '{"file_name": "a.png", "text": "a\\ud800 \\u0000dog\\u0007"}'
    assert read("metadata.jsonl", row, ["a.png"])[0] == [["a dog"]]


@pytest.mark.parametrize(
    ("columns", "missing"), [("sheet,text", "file_name"), ("file_name,words", "text"), (" ,text", "file_name")]
)
def test_a_csv_without_a_column_is_listed_once(columns: str, missing: str) -> None:
    captions, skipped = read("metadata.csv", f"{columns}\n" + "a-dog.png,x\n" * 50, ["a-dog.png"])
    assert captions == [["a dog"]]
    ((name, reason),) = skipped
    assert name == "metadata.csv"
    assert missing in reason


def test_the_report_of_bad_rows_ends() -> None:
    bad = "\n".join(["{"] * (MAX_LISTED + 5))
    skipped = read("metadata.jsonl", bad, [])[1]
    assert len(skipped) == MAX_LISTED + 1
    assert "over 1,000 rows that cannot be used" in skipped[-1][1]
    unknown = "\n".join(json.dumps({"file_name": f"{i:04}.png"}) for i in range(MAX_LISTED + 5))
    skipped = read("metadata.jsonl", unknown, [])[1]
    assert len(skipped) == MAX_LISTED + 1
    assert skipped[-1][0] == "5 more"


def test_more_metadata_than_the_limit_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata_module, "MAX_BYTES", 60)
    metadata = Metadata()
    for name in ("a", "b"):
        metadata.read(f"{name}/metadata.jsonl", b'{"file_name": "a.png", "text": "one two"}')
    assert list(metadata.rows) == ["a/a.png"]
    assert metadata.skipped[0][0] == "b/metadata.jsonl"
    assert "the limit is 60" in metadata.skipped[0][1]


def test_a_caption_that_the_model_wrote_stays_the_models_until_a_person_gives_or_changes_it() -> None:
    rows = [
        {"file_name": "a.png", "text": ["a dog", "a hound", "a tail"], "pseudo_queries": ["a hound", "cat", "a tail"]},
        {"file_name": "a.png", "text": "a tail"},
    ]
    metadata = Metadata()
    metadata.read("metadata.jsonl", "\n".join(map(json.dumps, rows)).encode())
    assert metadata.captions(["a.png"]) == [{"a dog": False, "a hound": True, "a tail": False}]
    assert not metadata.skipped


@pytest.mark.parametrize(
    ("album", "words"),
    [
        ("Trip to Rome/Day_2", "Trip to Rome Day"),
        ("annasBirthday", "annas Birthday"),
        ("St. Moritz 2021", "St Moritz"),
        ("DCIM/Rome", "Rome"),
        ("\u732b", "\u732b"),
        ("DCIM/100APPLE", ""),
        ("Camera Roll", ""),
        ("2021/03", ""),
        ("New folder (2)", ""),
        ("", ""),
    ],
)
def test_an_albums_name_has_words_unless_a_camera_or_a_program_gave_it(album: str, words: str) -> None:
    assert album_words(album) == words

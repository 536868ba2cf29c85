"""Query files that may be larger than memory, and queries that somebody else has pasted."""

import csv
import json
import tracemalloc
from pathlib import Path

import pytest

from gcr_core.data.gallery import Gallery
from gcr_core.data.queries import Query, QueryFile, load_queries, pasted_queries
from gcr_core.errors import GalleryError

MANY = 20_000


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    return Gallery(tmp_path, ["a.png", "b.png"], [[], []], also=[["old.png"], []])


def asked(text: str, *names: str) -> Query:
    return Query(text, None, frozenset(names))


def test_a_file_is_read_anew_each_time_and_knows_how_many_it_has(gallery: Gallery, tmp_path: Path) -> None:
    path = tmp_path / "queries.jsonl"
    path.write_text('{"query": "x", "relevant": ["a.png"]}\n\n{"query": "y", "relevant": []}\n')
    queries = QueryFile(path, gallery)
    assert len(queries) == 2
    assert list(queries) == list(queries) == [asked("x", "a.png"), asked("y")]
    assert asked("y") in queries and asked("z") not in queries


def test_many_queries_take_no_more_memory_than_few(gallery: Gallery, tmp_path: Path) -> None:
    path = tmp_path / "queries.jsonl"
    line = json.dumps({"query": "a query of some length " * 5, "relevant": ["a.png"]}) + "\n"
    path.write_text(line * MANY)
    tracemalloc.start()
    queries = QueryFile(path, gallery)
    assert sum(1 for _ in queries) == len(queries) == MANY
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < len(line) * MANY / 10


@pytest.mark.parametrize("suffix", [".csv", ".CSV", ".tsv", ".txt"])
def test_a_table_is_a_query_file_by_its_suffix(suffix: str, gallery: Gallery, tmp_path: Path) -> None:
    path = tmp_path / f"queries{suffix}"
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        rows = csv.writer(file, delimiter="," if suffix.lower() == ".csv" else "\t")
        rows.writerows([["query", "file_name"], ["x, y", "old.png"], ["nothing", ""]])
    assert load_queries(path, gallery) == [asked("x, y", "a.png"), asked("nothing")]


def test_a_bad_row_of_a_table_is_an_error_naming_file_and_line(gallery: Gallery, tmp_path: Path) -> None:
    path = tmp_path / "queries.csv"
    path.write_text("query,file_name\nx,a.png\ny,gone.png\n")
    with pytest.raises(GalleryError) as caught:
        QueryFile(path, gallery)
    assert str(caught.value).startswith(f"{path}:3: image 'gone.png' is not in the gallery")


def test_a_file_that_is_no_text_is_a_named_error(gallery: Gallery, tmp_path: Path) -> None:
    path = tmp_path / "queries.jsonl"
    path.write_bytes(b'{"query": "\xff"}')
    with pytest.raises(GalleryError, match="cannot be read"):
        QueryFile(path, gallery)


def test_pasted_queries_are_lines_or_json_with_any_line_ends(gallery: Gallery) -> None:
    expected = [asked("x", "a.png"), asked("y")]
    assert pasted_queries("\ufeffx | a.png\r\ny |\r\n", gallery) == expected
    assert (
        pasted_queries('{"query": "x", "relevant": ["old.png"]}\n{"query": "y", "relevant": []}', gallery) == expected
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "there is no query: write each line as"),
        (" \n\t\n", "there is no query"),
        ("x | a.png\ny | gone.png", "line 2: image 'gone.png' is not in the gallery of 2 images"),
        ("x | 1.png\ny | 2.png\nz | 3.png", "line 1: .*2 more such lines"),
        ("words alone", "line 1: names no file"),
        ('{"image": "/etc/passwd", "relevant": ["a.png"]}', "line 1: asks with a picture"),
        ('{"query": 5, "relevant": ["a.png"]}', "line 1: needs a string"),
        ("[1, 2]", "line 1: is no JSON object"),
    ],
)
def test_what_is_pasted_wrong_is_one_line_that_names_its_line(text: str, message: str, gallery: Gallery) -> None:
    with pytest.raises(GalleryError, match=message) as caught:
        pasted_queries(text, gallery)
    assert "\n" not in str(caught.value)

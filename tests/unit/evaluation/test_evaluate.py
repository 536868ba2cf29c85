"""Recall, MRR and latency of both engines."""

import json
from pathlib import Path

import pytest

from gcr_core.data.gallery import Gallery
from gcr_core.data.queries import Query, load_queries
from gcr_core.errors import GalleryError, InputError
from gcr_core.evaluation.evaluate import evaluate
from gcr_core.memory.memory import Memory

METRICS = ["recall@1", "recall@5", "recall@10", "mrr@10", "latency_ms_p50", "latency_ms_p95"]


def query_file(tmp_path: Path, *lines: object) -> Path:
    path = tmp_path / "queries.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return path


def asked(*relevant: str, text: str = "a gold bar") -> Query:
    return Query(text, None, frozenset(relevant))


def ranked(memory: Memory, engine: str) -> list[str]:
    return [hit["file_name"] for hit in memory.search("a gold bar", top=10)[engine]]


def test_report_has_the_documented_shape(tiny_memory: Memory) -> None:
    report = evaluate(tiny_memory, [asked("red-bar.png")])
    assert list(report) == ["queries", "images", "generative", "dense", "intervals", "paired", "curves"]
    assert (report["queries"], report["images"]) == (1, 12)
    for engine in ("generative", "dense"):
        assert list(report[engine]) == METRICS
        assert 0 < report[engine]["latency_ms_p50"] <= report[engine]["latency_ms_p95"]
    assert json.loads(json.dumps(report)) == report


@pytest.mark.parametrize("engine", ["generative", "dense"])
def test_recall_and_mrr_count_the_first_relevant_image(engine: str, tiny_memory: Memory) -> None:
    names = ranked(tiny_memory, engine)
    queries = [asked(names[0]), asked(names[8], names[3]), asked(names[9])]
    report = evaluate(tiny_memory, queries)[engine]
    assert (report["recall@1"], report["recall@5"], report["recall@10"]) == (0.3333, 0.6667, 1.0)
    assert report["mrr@10"] == round((1 + 1 / 4 + 1 / 10) / 3, 4)


def test_a_query_that_fails_is_a_miss_and_stays_in_the_denominator(tiny_memory: Memory, tmp_path: Path) -> None:
    best = ranked(tiny_memory, "generative")[0]
    gone = Query(None, tmp_path / "gone.png", frozenset({best}))
    report = evaluate(tiny_memory, [asked(best, text=" "), asked(best), asked(best, text="x" * 2_000), gone])
    assert report["queries"] == 4
    assert report["generative"]["recall@1"] == 0.25


def test_where_every_query_fails_there_is_no_latency(tiny_memory: Memory) -> None:
    report = evaluate(tiny_memory, [asked("red-bar.png", text="")])
    assert report["dense"]["recall@10"] == 0
    assert report["dense"]["latency_ms_p50"] is None


def test_beams_outside_their_limits_are_an_error_not_a_miss(tiny_memory: Memory) -> None:
    with pytest.raises(InputError, match="beams is 0"):
        evaluate(tiny_memory, [asked("red-bar.png")], beams=0)


def test_pictures_are_queries_relative_to_the_file(tiny_memory: Memory, tmp_path: Path) -> None:
    (tmp_path / "copies").mkdir()
    tiny_memory.gallery.open(2).save(tmp_path / "copies" / "x.png")
    name = tiny_memory.gallery.file_names[2]
    path = query_file(
        tmp_path,
        {"image": "copies/x.png", "relevant": [name]},
        {"image": str(tmp_path / "copies" / "x.png"), "relevant": [name]},
    )
    report = evaluate(tiny_memory, load_queries(path, tiny_memory.gallery))
    assert report["queries"] == 2
    assert report["dense"]["recall@1"] == 1


def test_query_file_is_read_line_by_line(tiny_gallery: Gallery, tmp_path: Path) -> None:
    path = query_file(tmp_path, {"query": "a bar", "relevant": ["red-bar.png", "gold-bar.png"], "note": 1}, "", " ")
    assert load_queries(path, tiny_gallery) == [asked("red-bar.png", "gold-bar.png", text="a bar")]


def test_a_merged_name_stands_for_the_image_it_was_merged_into(tmp_path: Path) -> None:
    gallery = Gallery(tmp_path, ["a.png", "b.png"], [[], []], also=[["old.png"], []])
    path = query_file(tmp_path, {"query": "x", "relevant": ["old.png", "b.png"]})
    assert load_queries(path, gallery) == [asked("a.png", "b.png", text="x")]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "recursion"),
        ("[1]", "is no JSON object"),
        ({"relevant": ["red-bar.png"]}, "needs a string as"),
        ({"query": 5, "relevant": ["red-bar.png"]}, "needs a string as"),
        ({"query": "a", "image": "b", "relevant": ["red-bar.png"]}, "one of the two"),
        ({"query": "a"}, 'needs "relevant"'),
        ({"query": "a", "relevant": "red-bar.png"}, 'needs "relevant"'),
        ({"query": "a", "relevant": ["dog.png"]}, "'dog.png' is not in the gallery"),
    ],
)
def test_a_bad_line_is_an_error_naming_file_and_line(
    line: object, reason: str, tiny_gallery: Gallery, tmp_path: Path
) -> None:
    path = query_file(tmp_path, {"query": "a bar", "relevant": ["red-bar.png"]}, line)
    with pytest.raises(GalleryError) as caught:
        load_queries(path, tiny_gallery)
    assert str(caught.value).startswith(f"{path}:2: ")
    assert reason in str(caught.value)


def test_no_file_and_no_query_are_named_errors(tiny_gallery: Gallery, tmp_path: Path) -> None:
    with pytest.raises(GalleryError, match="cannot be read"):
        load_queries(tmp_path / "nowhere.jsonl", tiny_gallery)
    with pytest.raises(GalleryError, match="has no query"):
        load_queries(query_file(tmp_path), tiny_gallery)

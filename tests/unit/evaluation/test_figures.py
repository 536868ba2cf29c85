"""Figures of scripted answers: what is absent, what failed, how sure each side was; and the rows of a table."""

import csv
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gcr_core.cli import main
from gcr_core.data.queries import Query, QueryFile
from gcr_core.errors import InputError
from gcr_core.evaluation.answers import COLUMNS, csv_file, row
from gcr_core.evaluation.evaluate import OUTCOME, Asked, ask, evaluate, figures
from gcr_core.memory.memory import Memory
from gcr_core.retrieval.query import SearchRequest


class Scripted:
    """Answers by a script: query → (generative files, dense files, match of both or None)."""

    def __init__(self, **script: tuple[list[str], list[str], float | None]) -> None:
        self.script, self.gallery = script, ["a", "b", "c"]

    def answer(self, request: SearchRequest) -> dict[str, Any]:
        left, right, match = self.script[str(request.query)]
        hits = {
            engine: [{"rank": rank, "file_name": name, "score": -rank / 2} for rank, name in enumerate(names, start=1)]
            for engine, names in (("generative", left), ("dense", right))
        }
        matches = {} if match is None else {"match": {"generative": match, "dense": match / 2}}
        return {**hits, **matches, "latency_ms": {"generative": 4.0, "dense": 2.0}}


def asked(text: str, *names: str) -> Query:
    return Query(text, None, frozenset(names))


def of(memory: Scripted, *queries: Query) -> dict[str, Any]:
    report = figures(np.array([ask(memory, query).outcome for query in queries], OUTCOME), len(memory.gallery))
    assert json.loads(json.dumps(report)) == report
    return report


FOUR = [asked("x", "a"), asked("y", "b"), asked("z", "c"), asked("w", "c")]
SCRIPT: dict[str, Any] = {
    "x": (["a", "b"], ["a", "b"], 0.9),
    "y": (["b", "a"], ["a", "b"], 0.7),
    "z": (["c", "a"], ["b", "a"], 0.4),
    "w": (["a", "b"], ["a", "c"], 0.1),
}


def test_both_sides_have_figures_intervals_curves_and_a_paired_test() -> None:
    report = of(Scripted(**SCRIPT), *FOUR)
    assert (report["queries"], report["images"]) == (4, 3)
    assert report["generative"]["recall@1"] == 0.75
    assert report["dense"] == {
        "recall@1": 0.25, "recall@5": 0.75, "recall@10": 0.75, "mrr@10": 0.5, "latency_ms_p50": 2, "latency_ms_p95": 2
    }  # fmt: skip
    assert report["paired"] == {"both": 1, "generative_only": 2, "dense_only": 0, "neither": 1, "p": 0.5}
    for engine in ("generative", "dense"):
        for figure, (low, high) in report["intervals"][engine].items():
            assert low <= report[engine][figure] <= high
        curves = report["curves"][engine]
        assert curves["recall"][0] == report[engine]["recall@1"]
        assert curves["recall"][9] == report[engine]["recall@10"]
        assert curves["risk_coverage"][-1] == [1.0, round(1 - report[engine]["recall@1"], 4)]
    assert report["curves"]["generative"]["risk_coverage"] == [[0.25, 0], [0.5, 0], [0.75, 0], [1.0, 0.25]]
    assert "no_match" not in report


class Reordering(Scripted):
    """Has new orders of what it recalls in words, where the right one comes first."""

    def answer(self, request: SearchRequest) -> dict[str, Any]:
        answer = super().answer(request)
        if request.query == "x":
            return answer
        turned = [hit | {"rank": rank} for rank, hit in enumerate(answer["generative"][::-1], start=1)]
        took = answer["latency_ms"] | {"reranked": 5.0, "together": 7.0}
        return answer | {"reranked": turned, "together": answer["dense"], "latency_ms": took}


def test_new_orders_have_figures_where_a_memory_has_them() -> None:
    """A query that has none, as a picture, counts as it was recalled."""
    report = of(Reordering(**SCRIPT), *FOUR)
    assert report["reranked"] == {
        "recall@1": 0.25, "recall@5": 0.75, "recall@10": 0.75, "mrr@10": 0.5, "latency_ms_p50": 5, "latency_ms_p95": 5
    }  # fmt: skip
    assert (report["together"]["recall@1"], report["together"]["recall@5"]) == (0.25, 0.75)
    assert list(report["intervals"]) == ["generative", "dense", "reranked", "together"]
    plain = of(Scripted(**SCRIPT), *FOUR)
    assert not {"reranked", "together"} & {*plain, *plain["intervals"]}
    assert {key: report[key] for key in ("generative", "dense", "paired", "curves")} == {
        key: plain[key] for key in ("generative", "dense", "paired", "curves")
    }


def test_sureness_is_the_match_where_there_is_one_else_the_probability() -> None:
    with_match = of(Scripted(**SCRIPT), *FOUR)["curves"]
    assert [with_match[engine]["confidence"] for engine in ("generative", "dense")] == ["match", "match"]
    assert with_match["generative"]["reliability"] == [[0.1, 0, 1], [0.4, 1, 1], [0.7, 1, 1], [0.9, 1, 1]]
    without = of(Scripted(**{query: (*files, None) for query, (*files, _) in SCRIPT.items()}), *FOUR)["curves"]
    assert [without[engine]["confidence"] for engine in ("generative", "dense")] == ["probability", "score"]
    assert without["generative"]["reliability"] == [[round(float(np.exp(-0.5)), 4), 0.75, 4]]
    assert without["dense"]["reliability"] is None


def test_what_the_gallery_lacks_counts_in_no_recall_but_in_whether_that_is_told() -> None:
    memory = Scripted(**SCRIPT, n=(["a"], ["b"], 0.3))
    report = of(memory, *FOUR, asked("n"))
    assert report["queries"] == 5
    assert report["generative"] == of(memory, *FOUR)["generative"]
    assert report["paired"] == of(memory, *FOUR)["paired"]
    assert report["no_match"]["generative"]["auroc"] == 0.75
    assert report["curves"]["generative"]["risk_coverage"][-1] == [1.0, 0.4]


def test_a_file_that_asks_for_nothing_that_is_there_has_no_recall() -> None:
    report = of(Scripted(n=(["a"], ["b"], 0.3)), asked("n"), asked("n"))
    assert report["generative"]["recall@1"] is None
    assert report["curves"]["dense"]["recall"] == [0] * 10
    assert "no_match" not in report


def test_a_query_that_fails_is_missed_and_the_least_sure() -> None:
    memory = Scripted(x=(["a"], ["a"], 0.2))
    report = of(memory, asked("x", "a"), asked(" ", "a"), asked("y" * 2_000, "a"))
    assert report["generative"]["recall@1"] == 0.3333
    assert report["curves"]["generative"]["confidence"] == "match"
    assert report["curves"]["generative"]["risk_coverage"] == [[0.3333, 0.0], [1.0, 0.6667]]
    assert report["curves"]["generative"]["reliability"] == [[0.2, 1.0, 1]]
    assert "blank" in ask(memory, asked(" ", "a")).mistake


def timeless(report: dict[str, Any]) -> dict[str, Any]:
    """The report without what another run takes another time for."""
    for engine in ("generative", "dense"):
        del report[engine]["latency_ms_p50"], report[engine]["latency_ms_p95"]
    return report


def test_queries_of_a_file_are_asked_as_those_of_a_list(tiny_memory: Memory, tmp_path: Path) -> None:
    gallery = tiny_memory.gallery
    rows = [(texts[0], name) for name, texts in zip(gallery.file_names, gallery.captions, strict=True)]
    path = tmp_path / "queries.jsonl"
    path.write_text("".join(json.dumps({"query": text, "relevant": [name]}) + "\n" for text, name in rows))
    heard: list[tuple[Query, Asked]] = []
    from_file = evaluate(tiny_memory, QueryFile(path, gallery), on_asked=lambda *one: heard.append(one))
    from_list = evaluate(tiny_memory, [asked(text, name) for text, name in rows])
    assert timeless(from_file) == timeless(from_list)
    assert [query.text for query, _ in heard] == [text for text, _ in rows]


def test_a_row_says_what_each_side_had_first_and_where_the_right_one_was() -> None:
    memory = Scripted(**SCRIPT)
    assert row(FOUR[1], ask(memory, FOUR[1])) == {
        "query": "y",
        "relevant": ["b"],
        "generative": {"rank": 1, "first": "b", "score": -0.5, "match": 0.7, "latency_ms": 4.0},
        "dense": {"rank": 2, "first": "a", "score": -0.5, "match": 0.35, "latency_ms": 2.0},
        "mistake": None,
    }
    failed = row(asked(" ", "a", "b"), ask(memory, asked(" ", "a", "b")))
    assert set(failed["dense"].values()) == {None}
    assert "blank" in failed["mistake"]


def test_rows_come_into_a_file_one_by_one_and_it_is_there_once_all_are(tmp_path: Path) -> None:
    memory, path = Scripted(**SCRIPT), tmp_path / "out.csv"
    with csv_file(str(path)) as note:
        for query in (*FOUR, asked("x", "a", "c")):
            note(query, ask(memory, query))
        assert not path.exists()
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(COLUMNS)
    assert [(row["query"], row["relevant"], row["dense_rank"]) for row in rows] == [
        ("x", "a", "1"), ("y", "b", "2"), ("z", "c", ""), ("w", "c", "2"), ("x", "a|c", "1")
    ]  # fmt: skip


def test_a_file_that_breaks_off_leaves_nothing_and_several_processes_write_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeyError), csv_file(str(tmp_path / "out.csv")):
        raise KeyError
    with csv_file(None) as note:
        note(FOUR[0], SimpleNamespace())
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="written by one process"), csv_file(str(tmp_path / "out.csv")):
        pass
    assert not list(tmp_path.iterdir())


def test_the_command_reads_a_table_and_writes_one(
    tiny_memory_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    queries, out = tmp_path / "queries.csv", tmp_path / "out.csv"
    queries.write_text("query,file_name\na gold bar,gold-bar.png\na unicorn,\n")
    command = ["evaluate", "--memory", str(tiny_memory_dir), "--queries", str(queries), "--csv", str(out)]
    assert main([*command, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["queries"], set(report["no_match"])) == (2, {"generative", "dense"})
    assert main(command) == 0
    table = capsys.readouterr().out
    low, high = report["intervals"]["dense"]["recall@1"]
    assert f"[{low:.4f}, {high:.4f}]" in table
    assert "no match, auroc" in table and "McNemar's exact test: p = " in table
    assert [row["query"] for row in csv.DictReader(out.open(newline=""))] == ["a gold bar", "a unicorn"]

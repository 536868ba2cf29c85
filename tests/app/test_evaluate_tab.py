"""The Test it tab's routes: queries of one's own asked of both sides, for whoever asked alone."""

import csv
import json
import re
import secrets
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from gcr_core.data.gallery import Gallery
from gcr_core.data.queries import pasted_queries
from gcr_core.evaluation.evaluate import evaluate
from gcr_core.ui import evaluate_tab
from gcr_core.ui.auth import COOKIE
from gcr_core.ui.evaluate_tab import EvaluateTab
from gcr_core.ui.evaluations import MAX_STRANGERS_QUESTIONS
from gcr_core.ui.registry import SHIPPED
from tests.patience import until

HOSTILE = "<img src=x onerror=alert(1)> ${1}"
TEXT = (
    "a red circle | red-circle.png\na gold bar | gold-bar.png\nsomething blue | blue-bar.png\n"
    f"{HOSTILE} | red-circle.png | gold-bar.png\na green unicorn |\n"
)


@pytest.fixture
def registry(registry):
    registry.loading.load()
    return registry


@pytest.fixture
def routes(registry):
    return EvaluateTab(registry, emoji=False).routes()


def begin(browser, *memories, text=TEXT, **asked):
    wanted = {"do": "begin", "memories": list(memories) or [SHIPPED], "source": "pasted", "text": text}
    return browser.post("/evaluation", json=wanted | asked)


def ended(browser, reply):
    """What is shown once the evaluation that was begun has ended."""
    assert reply.status_code == 200, reply.text
    until(lambda: "results" in browser.get("/evaluation").json())
    return browser.get("/evaluation").json()


def refused(reply, message, status=400):
    assert reply.status_code == status
    assert re.search(message, reply.json()["mistake"]), reply.json()
    assert "\n" not in reply.json()["mistake"]


def test_before_anything_is_asked_there_is_nothing(owner):
    assert owner.get("/evaluation").json() == {}
    refused(owner.get("/evaluation/results.json"), "there is no test of yours that has ended", 404)
    refused(owner.get("/evaluation/misses?place=0&kind=dense"), "there is no test", 404)


def test_figures_are_those_of_evaluate(owner, tiny_memory):
    ended(owner, begin(owner))
    [report] = owner.get("/evaluation/results.json").json()["memories"]
    expected = evaluate(tiny_memory, pasted_queries(TEXT, tiny_memory.gallery))
    for each in (report, expected):
        for side in ("generative", "dense"):
            del each[side]["latency_ms_p50"], each[side]["latency_ms_p95"]
    assert report["memory"] == evaluate_tab.PAGES_OWN
    assert {key: report[key] for key in expected} == json.loads(json.dumps(expected))
    assert [row["query"] for row in report["answers"]] == [line.split(" |")[0] for line in TEXT.splitlines()]


def test_results_have_figures_plots_and_what_was_asked(owner):
    now = ended(owner, begin(owner))
    html = now["results"]
    assert "5 queries of yours, asked of" in html
    assert html.count('role="img"') == html.count('<details class="numbers">') == 3
    for words in ("Recall@1", "MRR@10", "McNemar’s exact test", "Recall against k", "Risk against coverage"):
        assert words in html
    assert owner.get(f"/evaluation?seen={now['version']}").json() == {"version": now["version"]}


def test_misses_are_pictures_with_a_link_to_search_and_nothing_in_them_is_markup(owner, kept):
    ended(owner, begin(owner, kept.id, text=f"{HOSTILE} | red-circle.png\nx{HOSTILE} | gold-bar.png"))
    shown = [owner.get(f"/evaluation/misses?place=0&kind={kind}").json() for kind in ("generative", "dense", "both")]
    assert all(len(re.findall("<li>", each["cards"])) == each["total"] for each in shown)
    cards = "".join(each["cards"] for each in shown)
    assert f'href="?memory={kept.id}&amp;q=' in cards
    assert f'<img src="picture/{kept.id}/' in cards
    assert "<img src=x" not in cards and "${1}" not in cards
    assert "<shapes>" not in owner.get("/evaluation").json()["results"]


def test_misses_of_one_side_alone_are_those_that_the_other_had_right(owner):
    ended(owner, begin(owner, source="captions"))
    total = {
        kind: owner.get(f"/evaluation/misses?place=0&kind={kind}").json()["total"]
        for kind in ("generative", "dense", "both", "generative-only", "dense-only")
    }
    assert total["generative"] == total["both"] + total["generative-only"]
    assert total["dense"] == total["both"] + total["dense-only"]
    page = owner.get("/evaluation/misses?place=0&kind=generative&start=1").json()
    assert (page["total"], page["cards"].count("<li>")) == (total["generative"], max(0, min(12, page["total"] - 1)))


def test_memories_stand_side_by_side(owner, kept):
    html = ended(owner, begin(owner, SHIPPED, kept.id))["results"]
    assert "asked of The memory of this page and My &lt;shapes&gt;" in html
    assert html.count('class="verdict"') == 2
    report = owner.get("/evaluation/results.json").json()["memories"]
    assert [each["memory"] for each in report] == [evaluate_tab.PAGES_OWN, "My <shapes>"]
    assert report[0]["generative"]["recall@1"] == report[1]["generative"]["recall@1"]
    rows = list(csv.DictReader(owner.get("/evaluation/results.csv").text.splitlines()))
    assert [row["memory"] for row in rows] == [evaluate_tab.PAGES_OWN] * 5 + ["My <shapes>"] * 5
    assert rows[3]["relevant"] == "gold-bar.png|red-circle.png"
    assert 'filename="evaluation.csv"' in owner.get("/evaluation/results.csv").headers["content-disposition"]


def test_an_example_can_be_asked_as_it_is(owner):
    text = owner.get("/evaluation/example?memory=").json()["text"]
    assert len(text.splitlines()) == 3
    assert "3 queries of yours" in ended(owner, begin(owner, text=text))["results"]


def test_captions_that_were_learnt_are_said_to_be_with_the_figures_of_those_that_were_kept_out(owner, kept):
    assert "have learnt" not in ended(owner, begin(owner, text="something new | red-circle.png"))["results"]
    path = kept.folder / "memory.json"
    facts = json.loads(path.read_text())
    facts["training"] = {"held_out": 20, "retrieved": 0.45, "dense": {"retrieved": 0.4}}
    path.write_text(json.dumps(facts))
    gallery = Gallery.load(kept.folder / "gallery")
    text = f"{gallery.captions[0][0]} | {gallery.file_names[0]}"
    html = ended(owner, begin(owner, kept.id, SHIPPED, text=f"{text}\nsomething new | {gallery.file_names[0]}"))[
        "results"
    ]
    learnt = "1 of the 2 queries are captions that both sides have learnt, new words are harder."
    shares = "45.0 % had their picture first from memory and 40.0 % by CLIP."
    kept_out = f" Of 20 captions kept out of the training until both had been asked, {shares}"
    assert re.findall(r'<p class="note learnt">(.*?)</p>', html) == [
        f"“My &lt;shapes&gt;”: {learnt}{kept_out}",
        f"“{evaluate_tab.PAGES_OWN}”: {learnt}",
    ]
    html = ended(owner, begin(owner, kept.id, source="captions"))["results"]
    number = len({caption for captions in gallery.captions for caption in captions})
    assert f'<p class="note learnt">All {number:,} are captions that both sides have learnt' in html and shares in html


def test_what_is_asked_by_one_visitor_is_nobody_elses(owner, visit, kept):
    ended(owner, begin(owner))
    other = visit()
    assert other.get("/evaluation").json() == {}
    refused(other.get("/evaluation/results.csv"), "there is no test", 404)
    refused(begin(other, kept.id), "", 404)
    assert other.post("/evaluation", json={"do": "stop"}).json() == {}
    assert "results" in owner.get("/evaluation").json()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"text": ""}, "there is no query: write each line as"),
        ({"text": "x | gone.png"}, "line 1: image 'gone.png' is not in the gallery of 12 images"),
        ({"text": "x,y\nz,red-circle.png"}, "line 1: image 'y'"),
        ({"text": "query,foo\nz,red-circle.png"}, "has no column for the file"),
        ({"text": '{"image": "/etc/passwd", "relevant": []}'}, "asks with a picture"),
        ({"text": "x | red-circle.png\n" * (MAX_STRANGERS_QUESTIONS + 1)}, "2,001 queries, the limit is 2,000"),
        ({"text": 5}, "text is int"),
        ({"memories": []}, "0 memories are chosen: choose 1 to 4"),
        ({"memories": ["a", "b", "c", "d", "e"]}, "5 memories are chosen: choose 1 to 4"),
        ({"memories": "shipped"}, "0 memories are chosen"),
        ({"do": "fly"}, "'fly' is nothing that can be done here"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_line(owner, asked, message):
    refused(begin(owner, **asked), message)
    assert owner.get("/evaluation").json() == {}


def test_a_file_that_one_of_several_memories_lacks_names_the_memory(owner, kept):
    file = kept.folder / "gallery" / "metadata.jsonl"
    file.write_text(file.read_text().replace("red-circle.png", "other.png"))
    (kept.folder / "gallery" / "red-circle.png").rename(kept.folder / "gallery" / "other.png")
    refused(begin(owner, SHIPPED, kept.id), "“My <shapes>”: line 1: image 'red-circle.png' is not in the gallery")


@pytest.mark.parametrize("query", ["place=1&kind=dense", "place=0&kind=all", "place=0&kind=dense&start=-1", "place=x"])
def test_misses_that_there_are_not_are_refused(owner, query):
    ended(owner, begin(owner))
    assert owner.get(f"/evaluation/misses?{query}").status_code in (400, 404)


def test_the_page_of_another_site_begins_nothing(owner):
    headers = {"Origin": "http://elsewhere.example", "Sec-Fetch-Site": "cross-site"}
    assert owner.post("/evaluation", json={"do": "begin"}, headers=headers).status_code == 403


def test_keywords_kept_out_are_asked_where_the_memory_is_the_emojis(registry, tiny_memory_dir, tmp_path, monkeypatch):
    path = tmp_path / "kept_out.jsonl"
    path.write_text('{"query": "red", "relevant": ["red-circle.png"]}\n')
    monkeypatch.setattr(evaluate_tab, "KEPT_OUT", path)
    app = Starlette(routes=EvaluateTab(registry, emoji=True).routes())
    owner = TestClient(app, cookies={COOKIE: secrets.token_urlsafe(32)}, headers={"Sec-Fetch-Site": "same-origin"})
    assert "1 keyword kept out of training, asked of Emoji" in ended(owner, begin(owner, source="kept_out"))["results"]


def test_the_kept_out_keywords_are_there():
    assert Path(evaluate_tab.KEPT_OUT).is_file()

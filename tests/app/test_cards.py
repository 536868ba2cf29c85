"""What reaches the page as HTML: escaped, marked, aligned."""

import re
from pathlib import Path

import pytest

from gcr_core.ui import cards

HOSTILE = "<img src=x onerror=alert(1)> ${alert(2)} {{value}} `\\` \" ' &"


class Gallery:
    """Three images; the last has no caption, the second a hostile one."""

    file_names = ("a.png", "b.png", "<script>.png")
    captions = (["dog", "pet"], [HOSTILE], [])

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in self.file_names:
            self.path(self.index(name)).write_bytes(b"")

    def __len__(self):
        return len(self.file_names)

    def path(self, index):
        return self.root / f"{index}.png"

    def index(self, name):
        return self.file_names.index(name)


@pytest.fixture
def gallery(tmp_path):
    return Gallery(tmp_path)


def answer(**changes):
    return {
        "query": "a dog",
        "generative": [
            {"rank": 1, "file_name": "a.png", "score": -0.12, "identifier": "<img_0>"},
            {"rank": 2, "file_name": "b.png", "score": -3.456, "identifier": "<img_1>"},
        ],
        "dense": [
            {"rank": 1, "file_name": "<script>.png", "score": 0.831},
            {"rank": 2, "file_name": "a.png", "score": -0.2},
        ],
        "latency_ms": {"generative": 41.6, "dense": 9.2},
    } | changes


ENGINES = {"generative": "beam search", "dense": "nearest vectors"}


def results(gallery, **changes):
    return cards.results(answer(**changes), gallery, ENGINES)


def test_captions_file_names_and_queries_are_escaped(gallery):
    page = results(gallery, query=HOSTILE, trace=[[{"identifier": HOSTILE, "probability": 0.5, "images": 2}]])
    for raw in ("<img src=x", "<script>", "${", "{{", "`", "\\", HOSTILE):
        assert raw not in page


def test_a_message_is_escaped(gallery):
    assert "<b>" not in cards.message("<b>no</b>")


def test_scores_stand_under_their_names(gallery):
    words = re.sub(r"<[^>]+>", "", results(gallery))
    for score in ("log p −0.12", "log p −3.46", "cosine 0.83", "cosine −0.20"):
        assert score in words


def test_an_image_that_both_sides_found_names_its_rank_on_the_other_side(gallery):
    page = results(gallery)
    assert page.count('class="card both"') == 2
    assert "index #2" in page
    assert "memory #1" in page
    assert "1 of 2 found by both" in page


def test_sides_that_share_nothing_say_so(gallery):
    page = results(gallery, dense=[{"rank": 1, "file_name": "<script>.png", "score": 0.5}])
    assert "nothing found by both" in page
    assert 'class="card both"' not in page


def test_every_picture_has_a_text_alternative(gallery):
    alternatives = re.findall(r'<div class="picture"><img src="[^"]+" alt="([^"]*)">', results(gallery))
    assert len(alternatives) == 4
    assert all(alternatives)


def test_the_latency_of_each_side_stands_beside_its_engine(gallery):
    words = re.sub(r"<[^>]+>", "", results(gallery))
    assert "42 ms beam search" in words
    assert "9 ms nearest vectors" in words


def test_the_trace_shows_a_leaf_as_its_image_and_counts_beams_that_it_leaves_out(gallery):
    many = [{"identifier": f"<c{i}>", "probability": 0.01, "images": 3} for i in range(cards.TRACE_ROWS + 5)]
    page = results(gallery, trace=[many, [{"identifier": "<img_0>", "probability": 0.887, "images": 1}]])
    assert "2 steps" in page
    assert "and 5 more" in page
    assert "88.7%" in page
    assert "</section>" in page.split("Step 2")[1]
    assert "dog" in page.split("Step 2")[1]


def test_an_answer_without_trace_has_none(gallery):
    assert "<details" not in results(gallery)


def test_the_mosaic_of_a_small_gallery_shows_each_image_once(gallery):
    assert cards.mosaic(gallery).count("<img") == len(gallery)

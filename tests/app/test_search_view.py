"""What reaches the page as HTML: escaped, marked, aligned."""

import re
from pathlib import Path

import pytest

from gcr_core.ui import html, search_view

HOSTILE = "<img src=x onerror=alert(1)> ${alert(2)} {{value}} `\\` \" ' &"


class Gallery:
    """Three images; the last has no caption, the second a hostile one."""

    file_names = ("a.png", "b.png", "<script>.png")
    captions = (["dog", "pet"], [HOSTILE], [])
    pseudo_queries = ([], [], [])

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in self.file_names:
            self.path(self.index(name)).write_bytes(b"")

    def __len__(self):
        return len(self.file_names)

    def path(self, index):
        return self.root / f"{index}.png"

    def has_picture(self, index):
        return self.path(index).exists()

    def index(self, name):
        return self.file_names.index(name)


@pytest.fixture
def album(tmp_path):
    return html.Album(Gallery(tmp_path), "shipped")


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


def results(album, **changes):
    return search_view.results(answer(**changes), album, ENGINES)


def test_captions_file_names_and_queries_are_escaped(album):
    page = results(album, query=HOSTILE, trace=[[{"identifier": HOSTILE, "probability": 0.5, "images": 2}]])
    for raw in ("<img src=x", "<script>", "${", "{{", "`", "\\", HOSTILE):
        assert raw not in page


def test_a_message_is_escaped(album):
    assert "<b>" not in search_view.message("<b>no</b>")


def test_scores_stand_under_their_names(album):
    words = re.sub(r"<[^>]+>", "", results(album))
    for score in ("log p −0.12", "log p −3.46", "cosine 0.83", "cosine −0.20"):
        assert score in words
    assert "cosine <b>0.00" in results(album, dense=[{"rank": 1, "file_name": "a.png", "score": -0.001}])


def test_an_image_that_both_sides_found_names_its_rank_on_the_other_side(album):
    page = results(album)
    assert page.count('class="card both"') == 2
    assert "index #2" in page
    assert "memory #1" in page
    assert "1 of 2 found by both" in page


def test_sides_that_share_nothing_say_so(album):
    page = results(album, dense=[{"rank": 1, "file_name": "<script>.png", "score": 0.5}])
    assert "nothing found by both" in page
    assert 'class="card both"' not in page


def test_an_image_whose_picture_was_left_out_is_shown_by_its_caption(album):
    album.gallery.path(0).unlink()
    page = results(album)
    assert page.count(f'<img src="{html.NO_PICTURE}" alt="dog">') == 2
    assert html.NO_PICTURE not in html.mosaic(album)
    assert html.mosaic(album).count("<img") == 2


def test_every_picture_has_a_text_alternative(album):
    alternatives = re.findall(r'<div class="picture"><img src="[^"]+" alt="([^"]*)">', results(album))
    assert len(alternatives) == 4
    assert all(alternatives)


def test_the_latency_of_each_side_stands_beside_its_engine(album):
    words = re.sub(r"<[^>]+>", "", results(album))
    assert "42 ms beam search" in words
    assert "9 ms nearest vectors" in words


def test_the_trace_shows_a_leaf_as_its_image_and_counts_beams_that_it_leaves_out(album):
    many = [{"identifier": f"<c{i}>", "probability": 0.01, "images": 3} for i in range(search_view.TRACE_ROWS + 5)]
    page = results(album, trace=[many, [{"identifier": "<img_0>", "probability": 0.887, "images": 1}]])
    assert "2 steps" in page
    assert "and 5 more" in page
    assert "88.7%" in page
    assert "</section>" in page.split("Step 2")[1]
    assert "dog" in page.split("Step 2")[1]


def test_an_answer_without_trace_has_none(album):
    assert "<details" not in results(album)


def test_the_mosaic_of_a_small_gallery_shows_each_image_once(album):
    assert html.mosaic(album).count("<img") == len(album.gallery)


def test_what_the_model_says_of_an_image_is_marked_as_its_words_and_escaped(album):
    page = search_view.results(answer(), album, ENGINES, said={"a.png": HOSTILE})
    assert "the model says" in page
    assert "<img src=x" not in page
    assert page.count('class="said"') == len(answer()["generative"]) + len(answer()["dense"])


def test_captions_that_the_model_wrote_are_marked_behind_those_of_people(album):
    assert "written" not in results(album)
    album.gallery.captions = (["dog", "A dog sits", "pet", "A brown dog"], [HOSTILE], [])
    album.gallery.pseudo_queries = (["A dog sits", "A brown dog"], [HOSTILE], [])
    page = results(album)
    words = re.sub(r"<[^>]+>", "", page)
    assert words.count("pet, ✦written by the model: A dog sits, A brown dog") == 2
    assert page.count('title="pet, written by the model: A dog sits, A brown dog"') == 2
    assert page.count(f'<p class="name" title="{search_view.WRITTEN}') == 1
    assert words.count("captions that the model wrote") == 2
    assert "<img src=x" not in page


def test_only_from_ones_own_memory_an_image_can_be_forgotten(album):
    assert 'data-do="forget"' not in results(album)
    own = search_view.results(answer(), html.Album(album.gallery, "AAAAAAAAAAAA", own=True), ENGINES)
    assert own.count('data-do="forget"') == 4
    assert "<script>" not in own

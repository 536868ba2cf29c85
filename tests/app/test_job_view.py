"""A training's card: stage, step, time, what Resume goes on with; and the card of the memory that comes of it."""

import re

import pytest

from gcr_core.data.gallery import Gallery
from gcr_core.serving.job import STOPPED_WORDS
from gcr_core.ui import job_view, memory_cards
from gcr_core.ui.html import ShownGallery
from tests.app.test_memorize_view import ID, JOB, REPORT, words


def told(job, **points):
    return re.sub(r"\s+", " ", words(job_view.jobs([JOB | job], points)))


@pytest.fixture
def card(tmp_path):
    """What a memory's card shows of a report, as words."""
    (tmp_path / "a.png").write_bytes(b"")
    gallery = Gallery(tmp_path, ["a.png"], [[]])
    row = {
        "id": ID, "name": "Forms", "images": 98, "captions": 4,
        "created": "2026-11-30T09:08:42.000+00:00", "repository": None,
    }  # fmt: skip

    def shown(report, busy=None, changes=None):
        shown = ShownGallery(gallery, ID, True, changes or {})
        return memory_cards.cards([(row, shown, report)], {ID: busy} if busy else {})

    return shown


def test_a_running_job_says_stage_step_time_share_and_loss_and_can_be_stopped():
    points = [{"stage": "memorise", "step": step, "loss": 3 / step, "memorized": step / 30} for step in range(1, 30)]
    page = job_view.jobs([JOB], {ID: points})
    for part in ("Learning which picture is which", "step 30 of 120", "about 40 s left", "40% memorised", "loss 1.50"):
        assert part in re.sub(r"\s+", " ", words(page))
    assert page.count("<polyline") == 1
    assert 'data-do="stop"' in page


def test_a_job_that_looks_at_the_pictures_says_how_many_views_it_took_and_no_loss_of_before():
    job = {"stage": "look", "looked": 1240, "looks": 7384, "seconds_left": 3000.0, "memorized": None}
    for part in ("Looking at the pictures", "view 1,240 of 7,384", "about 50 min left"):
        assert part in told(job)
    assert "loss" not in told(job) and "step" not in told(job)
    assert '<progress max="7384" value="1240" aria-label="views">' in job_view.jobs([JOB | job], {})


def test_a_job_that_embeds_the_gallery_counts_vectors():
    page = told({"stage": "dense", "looked": 64, "looks": 300})
    assert "vector 64 of 300" in page and "CLIP vectors" in page


@pytest.mark.parametrize(
    ("state", "verbs"),
    [
        ("queued", ["stop"]),
        ("running", ["stop"]),
        ("stopping", ["stop"]),
        ("stopped", ["resume", "remove"]),
        ("interrupted", ["resume", "remove"]),
        ("failed", ["remove"]),
        ("done", []),
    ],
)
def test_each_state_offers_what_can_be_done_and_one_that_is_done_has_its_memorys_card(state, verbs):
    page = job_view.jobs([JOB | {"state": state, "report": REPORT, "memory": ID}], {})
    assert re.findall(r'data-do="(\w+)"', page) == verbs
    assert ("disabled" in page) == (state == "stopping")


def test_what_resume_goes_on_with_and_what_it_begins_again_is_said():
    stopped = {"state": "stopped", "message": STOPPED_WORDS}
    assert "Resume goes on where it stopped." in told(stopped | {"stage": "retrieve"})
    assert "Stopped while “Reading the captions”: Resume begins that again." in told(stopped | {"stage": "read"})
    reading = {"stage": "read", "looked": 3, "looks": 9}
    for stopped_in in ("read", "retrieve"):
        assert "Begins again" in told(reading | {"resumed": stopped_in})
    for never_begun in ("look", None):
        assert "Begins again" not in told(reading | {"resumed": never_begun})
    assert "Begins again" not in told({"resumed": "retrieve", "stage": "retrieve"})


def test_once_it_is_trained_no_time_left_is_named():
    assert "left" not in told({"stage": "measure", "seconds_left": 0.0})


def figures(page):
    """The rows of the card's table, without the words on how many they are of."""
    rows = re.findall(r"<tr><th[^>]*>(.*?)</th><td[^>]*>(.*?)</td><td[^>]*>(.*?)</td></tr>", page)
    return {asked.split(" <small>")[0]: (memory, dense) for asked, memory, dense in rows}


def test_a_card_shows_both_sides_figures_and_rounds_nothing_up_to_all(card):
    assert figures(card(REPORT)) == {
        "its own picture": ("99.4%", "100%"),
        "captions it learnt": ("100%", "–"),
        "captions kept out of training": ("55%", "40%"),
    }
    page = words(card(REPORT))
    for part in ("98 pictures · 4 captions · 30 Nov 2026", "98 pictures memorised in 54 s", "20 captions kept out"):
        assert part in page
    none = REPORT | {"retrieved": None, "held_out": 0}
    written = none | {"trained_captions": None, "pseudo_queries": 30, "trained_pseudo_queries": 0.9}
    assert figures(card(written)) == {"its own picture": ("99.4%", "100%"), "captions the model wrote": ("90%", "–")}
    assert "kept out" not in card(none)


def test_a_card_says_of_how_many_pictures_and_captions_its_figures_are(card):
    def of(report):
        return re.findall(r'<th scope="row">([^<]*) <small>(.*?)</small></th>', card(report))

    counted = [("its own picture", "of 98 pictures"), ("captions kept out of training", "of 20")]
    assert of(REPORT) == counted, "a memory of an earlier version does not know more"
    asked = {"trained_captions": 1120, "trained_pseudo_queries": 0}
    assert of(REPORT | {"asked": asked}) == [counted[0], ("captions it learnt", "of 1,120"), counted[1]]
    for strange in ("many", True, 0, [1]):
        assert of({"memorized": 1.0, "images": strange, "asked": strange}) == []


@pytest.mark.parametrize("report", [{}, {"memorized": "all"}, {"memorized": 7}, {"memorized": True}, {"dense": [1]}])
def test_a_strangers_memory_without_figures_has_a_card_without_them(card, report):
    page = card(report)
    assert "Forms" in page and figures(page) == {}


def test_a_memory_that_is_worked_on_says_so_and_offers_nothing(card):
    assert re.findall(r'data-do="(\w+)"', card(REPORT, changes={"added": 2})) == [
        "consolidate", "search", "add", "push", "rename", "delete"
    ]  # fmt: skip
    assert "2 pictures added since it was trained" in words(card(REPORT, changes={"added": 2}))
    page = card(REPORT, busy="Adding pictures…", changes={"added": 2})
    assert re.findall(r'data-do="(\w+)"', page) == [] and "Adding pictures…" in page

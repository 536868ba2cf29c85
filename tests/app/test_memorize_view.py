"""What the Memorise tab shows: escaped, paged, in words."""

import re
from pathlib import Path

import pytest

from gcr_core.data.gallery import Gallery
from gcr_core.memory.manifest import changes
from gcr_core.serving.caption_writer import Writing
from gcr_core.ui import captions_view, html, memorize_view
from gcr_core.ui.html import Album

ID = "AAAAAAAAAAAA"
HOSTILE = "<script>alert(1)</script> ${1} {{x}} ` \" ' \\"
JOB = {
    "id": ID,
    "name": HOSTILE,
    "gallery": ID,
    "state": "running",
    "stage": "memorise",
    "step": 30,
    "steps": 120,
    "seconds_left": 44.0,
    "loss": 1.5,
    "memorized": 0.4,
    "message": "",
    "report": None,
    "memory": None,
    "queue_position": None,
}
REPORT = {
    "images": 98,
    "seconds": 54.2,
    "memorized": 0.9949,
    "trained_captions": 1.0,
    "held_out": 20,
    "retrieved": 0.55,
    "dense": {"memorized": 1.0, "retrieved": 0.4},
    "remarks": [HOSTILE],
}


def words(page):
    return re.sub(r"<[^>]+>", " ", page)


@pytest.fixture
def gallery(tmp_path):
    names = [HOSTILE.replace("/", "") + ".png", *(f"{number}.png" for number in range(29))]
    for name in names:
        (tmp_path / name).write_bytes(b"")
    captions = [[HOSTILE], *([f"picture {number}"] if number % 2 else [] for number in range(29))]
    return Gallery(tmp_path, names, captions)


def pages(gallery):
    report = {"name": HOSTILE, "skipped": [[HOSTILE, HOSTILE]]}
    chosen = dict.fromkeys(("name", "backbone", "clip", "preset", "identifiers", "seed"), HOSTILE)
    yield memorize_view.taken_in(ID, gallery, report)
    yield captions_view.table(ID, gallery)
    yield captions_view.table(ID, gallery.with_pseudo_queries({0: [f"more {HOSTILE}"]}))
    yield captions_view.offer(ID, HOSTILE, bare=3, each=5)
    yield captions_view.writing(ID, Writing(HOSTILE, 3, waits=False))
    yield memorize_view.remarks([HOSTILE], refused=True)
    yield memorize_view.recipe(ID, chosen, {"quick": HOSTILE}, None, ["atomic"], fixed=False, refused=False)
    yield memorize_view.jobs([JOB, JOB | {"state": "interrupted", "message": HOSTILE}], {})
    yield memorize_view.jobs([JOB | {"state": "done", "report": REPORT, "memory": ID}], {})
    album = Album(gallery, ID, True, {"added": 1, "forgotten": 2, "captions": 3})
    row = {"id": ID, "name": HOSTILE, "images": 3, "captions": 4, "created": HOSTILE, "repository": HOSTILE}
    yield memorize_view.memories([(row, album), (row | {"created": None}, album)], {ID: HOSTILE}, HOSTILE, HOSTILE)
    yield html.notice(HOSTILE)


def test_nothing_from_outside_reaches_the_page_as_html_or_template(gallery):
    for page in pages(gallery):
        for raw in ("<script", "${", "{{", "`", "\\"):
            assert raw not in page


def test_the_captions_come_in_pages_and_those_missing_can_be_had_alone(gallery):
    rows = captions_view.ROWS
    assert captions_view.table(ID, gallery).count("<textarea") == rows
    assert f"{rows + 1} to {2 * rows} of 30" in captions_view.table(ID, gallery, (1, False))
    assert captions_view.table(ID, gallery, (99, False)).count("<textarea") == 30 - 2 * rows
    few = Gallery(gallery.root, gallery.file_names[:rows], gallery.captions[:rows])
    assert 'data-do="page"' in captions_view.table(ID, gallery) and 'data-do="page"' not in captions_view.table(ID, few)
    alone = captions_view.table(ID, gallery, (0, True))
    assert "of 15" in alone
    assert "picture 1" not in alone


def test_what_the_model_wrote_stands_apart_from_what_people_wrote(gallery):
    page = captions_view.table(ID, gallery.with_pseudo_queries({1: ["a field"], 2: ["a hill", "a road"]}))
    values = re.findall(r'<textarea rows="\d" value="([^"]*)"', page)
    assert values[1:5] == ["", "a field", "picture 1", "a hill\na road"]
    assert page.count("written by the model<") == page.count('data-which="models"') == 2


def test_the_model_offers_to_write_and_says_how_far_it_is():
    assert "SmolVLM writes up to 5 for a picture; 1 picture has none yet" in words(
        captions_view.offer(ID, "SmolVLM", 1, 5)
    )
    going = Writing("owner/SmolVLM", 12)
    assert "Waiting" in captions_view.writing(ID, going)
    going.waits = False
    assert "Waking SmolVLM…" in captions_view.writing(ID, going)
    going.beat(4)
    assert "4 of 12 pictures…" in captions_view.writing(ID, going)
    going.beat(4)
    assert "8 of 12 pictures, about 1 s left" in captions_view.writing(ID, going)
    assert 'data-do="hush"' in captions_view.writing(ID, going)


def test_a_running_job_says_stage_step_time_share_and_loss_and_can_be_stopped():
    points = [{"stage": "dense", "step": 1, "loss": 4.0, "memorized": None}] * 2
    points += [{"stage": "memorise", "step": step, "loss": 3 / step, "memorized": step / 30} for step in range(2, 30)]
    page = memorize_view.jobs([JOB], {ID: points})
    for part in ("Learning which picture is which", "step 30 of 120", "about 40 s left", "40% memorised", "loss 1.50"):
        assert part in re.sub(r"\s+", " ", words(page))
    assert page.count("<polyline") == 2
    assert 'data-do="stop"' in page


def test_a_job_that_looks_at_the_pictures_says_how_many_looks_it_took_and_no_loss_of_before():
    job = JOB | {"stage": "look", "looked": 1240, "looks": 7384, "seconds_left": 3000.0, "memorized": None}
    page = re.sub(r"\s+", " ", words(memorize_view.jobs([job], {})))
    for part in ("Looking at the pictures", "look 1,240 of 7,384", "about 50 min left"):
        assert part in page
    assert "loss" not in page and "step" not in page
    assert '<progress max="7384" value="1240" aria-label="looks">' in memorize_view.jobs([job], {})


@pytest.mark.parametrize(
    ("state", "verbs"),
    [
        ("queued", ["stop"]),
        ("running", ["stop"]),
        ("stopping", ["stop"]),
        ("stopped", ["resume", "remove"]),
        ("interrupted", ["resume", "remove"]),
        ("failed", ["remove"]),
        ("done", ["search", "push", "remove"]),
    ],
)
def test_each_state_offers_what_can_be_done(state, verbs):
    page = memorize_view.jobs([JOB | {"state": state, "report": REPORT, "memory": ID}], {})
    assert re.findall(r'data-do="(\w+)"', page) == verbs
    assert ("disabled" in page) == (state == "stopping")


def test_the_report_says_what_was_measured_with_captions_never_seen_and_rounds_nothing_up_to_all():
    told = words(memorize_view.jobs([JOB | {"state": "done", "report": REPORT, "memory": ID}], {}))
    for part in ("99.4%", "98 pictures in 54 s", "20 captions that it had never seen", "55%", "40%"):
        assert part in told
    none = REPORT | {"retrieved": None, "held_out": 0}
    written = REPORT | {"trained_captions": None, "pseudo_queries": 30, "trained_pseudo_queries": 0.9}
    told = words(memorize_view.jobs([JOB | {"state": "done", "report": written, "memory": ID}], {}))
    assert "30 captions that the model wrote itself, 90% bring up their picture" in told
    assert "captions that it learnt" not in told
    assert "never seen" not in memorize_view.jobs([JOB | {"state": "done", "report": none, "memory": ID}], {})


def test_once_it_is_trained_no_time_left_is_named():
    assert "left" not in words(memorize_view.jobs([JOB | {"stage": "measure", "seconds_left": 0.0}], {}))


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.2, "about 1 s"), (14, "about 14 s"), (43, "about 40 s"), (100, "about 2 min"), (6000, "about 1.7 h")],
)
def test_times_are_said_as_a_person_says_them(seconds, said):
    assert html.duration(seconds) == said


def test_the_thumbnails_of_a_gallery_are_files_with_an_address(gallery):
    addresses = re.findall(r'<img src="([^"]+)"', captions_view.table(ID, gallery))
    assert len(set(addresses)) == captions_view.ROWS
    assert all(re.fullmatch(rf"thumbnail/{ID}/\d+/[0-9a-f]+", address) for address in addresses)
    assert Path(gallery.root).name not in "".join(addresses)


def test_changes_that_a_stranger_wrote_into_a_memory_are_counts_or_nothing():
    assert changes({"changes": {"added": "many", "<img src=x onerror=alert(1)>": 3, "forgotten": 2}}) == {
        "added": 0,
        "forgotten": 2,
        "captions": 0,
    }
    assert changes({"changes": [1]}) == changes({}) == {"added": 0, "forgotten": 0, "captions": 0}

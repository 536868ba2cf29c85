"""What the Memorise tab shows: escaped, paged, in words."""

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from gcr_core.data.gallery import Gallery
from gcr_core.memory.manifest import changes
from gcr_core.retrieval.identifiers import IDENTIFIER_TYPES
from gcr_core.serving.caption_writer import Writing
from gcr_core.training.config import PRESET_WORDS
from gcr_core.ui import captions_view, html, job_view, memorize_view, memory_cards
from gcr_core.ui.html import ShownGallery

ID = "AAAAAAAAAAAA"
HOSTILE = "<script>alert(1)</script> ${1} {{x}} ` \" ' \\"
NAME = HOSTILE.replace("/", "") + ".png"
LONGEST = 1_600
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
    "resumed": None,
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
    names = [NAME, *(f"{number}.png" for number in range(29))]
    for name in names:
        (tmp_path / name).write_bytes(b"")
    captions = [[HOSTILE], *([f"picture {number}"] if number % 2 else [] for number in range(29))]
    return Gallery(tmp_path, names, captions, albums=[HOSTILE, "sea", *[""] * 28])


def pages(gallery):
    report = {"name": HOSTILE, "skipped": [[HOSTILE, HOSTILE]], "notes": [[HOSTILE, HOSTILE]]}
    chosen = dict.fromkeys(("name", "backbone", "clip", "preset", "identifiers", "seed"), HOSTILE)
    yield memorize_view.staged(ID, gallery, report, LONGEST, 2)
    yield captions_view.table(ID, gallery)
    yield captions_view.table(ID, gallery.with_pseudo_queries({0: [f"more {HOSTILE}"]}))
    yield captions_view.offer(ID, HOSTILE, wanting=3, each=5, wordless=1)
    yield captions_view.unreachable(ID, "clip", HOSTILE, "checkpoints/gcr-mini-clip")
    yield captions_view.writing(ID, Writing(HOSTILE, 3, waits=False))
    yield memorize_view.remarks([HOSTILE], refused=True)
    for fixed in (False, True):
        yield memorize_view.recipe(ID, chosen, {"quick": HOSTILE}, None, ["atomic"], fixed=fixed, refused=False)
    yield job_view.jobs([JOB, JOB | {"state": "interrupted", "message": HOSTILE}], {})
    shown = ShownGallery(gallery, ID, True, {"added": 1, "forgotten": 2, "captions": 3})
    row = {"id": ID, "name": HOSTILE, "images": 3, "captions": 4, "created": HOSTILE, "repository": HOSTILE}
    reports = REPORT, {"memorized": HOSTILE, "dense": HOSTILE, "remarks": HOSTILE, "images": HOSTILE}
    rows = [(row, shown, reports[0]), (row | {"created": None}, shown, reports[1])]
    yield memory_cards.cards(rows, {}, HOSTILE, HOSTILE)
    yield memory_cards.cards(rows, {ID: HOSTILE}, HOSTILE, HOSTILE)
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
    assert re.findall(r"(<nav|<ul|</ul)", captions_view.table(ID, gallery)) == ["<nav", "<ul", "</ul", "<nav"]
    few = gallery.without(range(rows, 30))
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
    assert "SmolVLM writes up to 5 captions for a picture, for the 1 picture without a caption" in words(
        captions_view.offer(ID, "SmolVLM", 1, 5)
    )
    assert "gcr-mini writes up to 5 words for what it sees in a picture, for the 2 pictures without" in words(
        captions_view.offer(ID, "gcr-mini", 2, 5, eyes=True)
    )
    none = captions_view.offer(ID, "gcr-mini", 0, 5, wordless=1)
    assert "gcr-mini has no words for 1 picture without a caption: type some in to search it by." in words(none)
    assert "<button" not in none
    going = Writing("owner/SmolVLM", 12)
    assert "Waiting" in captions_view.writing(ID, going)
    going.waits = False
    assert "Loading SmolVLM…" in captions_view.writing(ID, going)
    going.beat(4)
    assert "4 of 12 pictures…" in captions_view.writing(ID, going)
    going.beat(4)
    assert "8 of 12 pictures, about 1 s left" in captions_view.writing(ID, going)
    assert 'data-do="hush"' in captions_view.writing(ID, going)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.2, "about 1 s"), (14, "about 14 s"), (43, "about 40 s"), (100, "about 2 min"), (6000, "about 1.7 h")],
)
def test_times_are_said_as_a_person_says_them(seconds, said):
    assert html.duration(seconds) == said


def test_the_thumbnails_of_a_gallery_are_named_by_their_files_since_places_change(gallery):
    addresses = re.findall(r'<img src="([^"]+)"', captions_view.table(ID, gallery))
    assert len(set(addresses)) == captions_view.ROWS
    assert all(re.fullmatch(rf"thumbnail/{ID}/[\w.%-]+/[0-9a-f]+", address) for address in addresses)
    names = [unquote(address.split("/")[2]) for address in addresses]
    assert names == gallery.file_names[: captions_view.ROWS]
    assert Path(gallery.root).name not in "".join(addresses)
    assert addresses[2:] == re.findall(r'<img src="([^"]+)"', captions_view.table(ID, gallery.without([0, 1])))[:10]


def test_an_album_stands_in_its_pictures_row_and_is_counted(gallery):
    page = captions_view.table(ID, gallery)
    assert page.count('class="album"') == 2
    assert "Album: sea" in words(page).replace("  ", " ").replace("Album:  ", "Album: ")
    assert "2 of them in 2 albums" in re.sub(r"\s+", " ", words(memorize_view.staged(ID, gallery, {}, LONGEST)))


def test_what_the_last_drop_brought_is_one_line(gallery):
    def said(**last):
        report = {"last": {"added": 0, "doubles": 0, "skipped": 0} | last}
        return words(memorize_view.staged(ID, gallery, report, LONGEST))

    assert "Last drop: 1 picture added." in said(added=1)
    assert "Last drop: nothing new, 2 there already, 3 files left out." in said(doubles=2, skipped=3)
    assert "1 picture added to the album “a &amp; b”." in said(added=1, albums=["a & b"])
    assert "4 pictures added in 2 albums, 1 there already." in said(added=4, albums=["a", "b"], doubles=1)
    assert "Last drop" not in words(memorize_view.staged(ID, gallery, {}, LONGEST))


def test_what_the_pictures_will_take_on_the_disk_is_said(gallery):
    for image in range(len(gallery)):
        gallery.path(image).write_bytes(bytes(200_000))
    said = [words(memorize_view.staged(ID, gallery, {}, longest)) for longest in (LONGEST, 256)]
    assert "take about 6.0 MB on the disk, kept up to 1,600 pixels" in said[0]
    assert "on the disk, kept as thumbnails" in said[1]
    assert [html.size(count) for count in (0, 1_400, 999_000, 1_000_000, 25_600_000, 3_210_000_000)] == [
        "1 KB", "1 KB", "999 KB", "1.0 MB", "26 MB", "3.2 GB"
    ]  # fmt: skip


def test_no_path_of_the_server_stands_in_what_is_said():
    path = "/home/someone/.local/share/gcr/galleries/AbC"
    for said in (
        html.notice(f"the gallery cannot be written to {path}: check path and free space"),
        memorize_view.remarks([f"'{path}/x.png' is gone"], refused=True),
        job_view.jobs([JOB | {"state": "failed", "message": f"no such file {path}"}], {}),
        captions_view.unreachable(ID, "clip", "gone", "checkpoints/gcr-mini-clip"),
    ):
        assert "/home" not in said and "share" not in said
    link = "Pushed to https://huggingface.co/me/my-memory, with its pictures; and/or"
    assert html.without_paths(link) == link


def test_no_label_needs_a_second_reading(gallery):
    shown = ShownGallery(gallery, ID, True, {"added": 1, "forgotten": 2, "captions": 3})
    row = {"id": ID, "name": "x", "images": 3, "captions": 4, "created": None, "repository": None}
    chosen = {"name": "x", "backbone": "checkpoints/gcr-mini", "clip": "checkpoints/gcr-mini-clip"}
    types = list(memorize_view.IDENTIFIERS)
    page = "".join(
        [
            memorize_view.drop_zone(),
            memorize_view.staged(ID, gallery, {"skipped": [["a", "b"]]}, LONGEST, 2),
            memorize_view.training_is_off(),
            memorize_view.recipe(ID, chosen, PRESET_WORDS, None, types, fixed=False, refused=False),
            captions_view.table(ID, gallery),
            *(job_view.jobs([JOB | {"name": "x", "stage": stage}], {}) for stage in job_view.STAGES),
            memory_cards.cards([(row, shown, REPORT)], {}),
            html.notice("x"),
        ]
    )
    assert types == list(IDENTIFIER_TYPES)
    for unclear in ("put away", "putting", "ephemeral", "taken in", "memory.json", "GCR_", "atomic<", "waking"):
        assert unclear not in page.casefold(), unclear


def test_changes_that_a_stranger_wrote_into_a_memory_are_counts_or_nothing():
    assert changes({"changes": {"added": "many", "<img src=x onerror=alert(1)>": 3, "forgotten": 2}}) == {
        "added": 0,
        "forgotten": 2,
        "captions": 0,
    }
    assert changes({"changes": [1]}) == changes({}) == {"added": 0, "forgotten": 0, "captions": 0}


def test_what_was_read_otherwise_than_written_stands_among_the_files(gallery):
    report = {"skipped": [["a", "is a film"]], "notes": [["metadata.csv", "read as captions"]]}
    page = memorize_view.staged(ID, gallery, report, LONGEST, 2)
    assert "1 file left out, 1 note." in words(page)
    assert "<li><b>metadata.csv</b> read as captions</li><li><b>a</b> is a film</li>" in page

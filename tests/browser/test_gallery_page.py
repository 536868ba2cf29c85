"""The Gallery tab as a person meets it: thousands of pictures at once, found, selected, captioned and forgotten.

Each page is a visitor of its own, with a memory of its own.
"""

import json
import os
import re
import secrets
import shutil
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import expect

from gcr_core.data.gallery import Gallery
from gcr_core.memory.manifest import read_manifest
from gcr_core.serving.workspace import Workspace, new_id
from gcr_core.settings import Settings
from gcr_core.ui.auth import COOKIE

MANY = 5_000
MOST_ELEMENTS = 300
"""More pictures than a window needs are never in the page."""
COUNT, CHOSEN = '[data-part="count"]', '[data-part="chosen"]'
HOSTILE = '<img src=x onerror="window.hacked=1">'


@pytest.fixture
def open_gallery(open_page, strangers, tiny_memory_dir):
    """Opens the Gallery tab of a new visitor, on a memory that `prepare` has changed on the disk; also its folder."""
    address, home = strangers

    def open_(prepare=lambda folder: None, **options):
        secret = secrets.token_urlsafe(32)
        shelf = Workspace.of(home, secret, Settings())
        folder = Path(shutil.copytree(tiny_memory_dir, shelf.root / "copied"))
        prepare(folder)
        shelf.keep(folder, id := new_id(), "My shapes")
        cookie = {"name": COOKIE, "value": secret, "domain": "127.0.0.1", "path": "/"}
        page = open_page(f"{address}?memory={id}#tab=gallery", storage_state={"cookies": [cookie]}, **options)
        expect(page.get_by_role("grid", name="Pictures").get_by_role("gridcell").first).to_be_visible()
        return page, shelf.memory(id)

    return open_


def many(folder):
    """Makes a memory's gallery one of thousands: each image is one file."""
    picture = folder / "gallery" / "red-circle.png"
    for image in range(MANY):
        os.link(picture, folder / "gallery" / f"IMG_{image:04}.png")
    rows = [{"file_name": f"IMG_{image:04}.png", "text": [f"picture number {image}"]} for image in range(MANY)]
    write(folder, rows)


def write(folder, rows):
    (folder / "gallery" / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def rows_of(folder):
    return [json.loads(line) for line in (folder / "gallery" / "metadata.jsonl").read_text().splitlines()]


def in_albums(folder):
    """Circles and squares are in albums, bars in none; one has no caption, one is the model's, the last two are new."""
    rows = rows_of(folder)
    for row in rows:
        shape = row["file_name"].removesuffix(".png").split("-")[1]
        row |= {} if shape == "bar" else {"album": f"shapes/{shape}"}
    rows[0]["text"] = []
    rows[1]["pseudo_queries"] = rows[1]["text"]
    write(folder, rows)
    manifest = read_manifest(folder)
    manifest["changes"] = {"added": 2, "forgotten": 0, "captions": 0}
    (folder / "memory.json").write_text(json.dumps(manifest))


def cells(page):
    return page.get_by_role("gridcell")


def named(page, name):
    return cells(page).and_(page.locator(f'[aria-label*="{name}"]'))


def check(page, *names):
    for name in names:
        named(page, name).locator(".check").click(force=True)


def focused(page):
    return page.evaluate("document.activeElement.getAttribute('aria-label')")


def test_five_thousand_pictures_scroll_at_once_and_few_are_in_the_page(open_gallery):
    page, _ = open_gallery(many)
    expect(page.locator(COUNT)).to_have_text("5,000 pictures")
    height = page.evaluate("document.documentElement.scrollHeight")
    for place in (0.2, 0.9, 0.5, 0.1, 1, 0):
        page.evaluate("y => scrollTo(0, y)", place * height)
        page.wait_for_function(
            """() => [...document.querySelectorAll("#pictures .cell")].some((cell) => {
              const { top, bottom } = cell.getBoundingClientRect();
              return top >= 0 && bottom <= innerHeight && cell.querySelector("img")?.naturalWidth;
            })"""
        )
        assert page.evaluate('document.querySelectorAll("#pictures .cell").length') < MOST_ELEMENTS
        assert page.evaluate('document.querySelectorAll("#pictures *").length') < 5 * MOST_ELEMENTS
    page.evaluate("y => scrollTo(0, y)", height)
    expect(named(page, f"IMG_{MANY - 1}.png")).to_be_in_viewport()


def test_the_keyboard_goes_through_thousands(open_gallery):
    page, _ = open_gallery(many)
    cells(page).first.focus()
    page.keyboard.press("Control+End")
    assert focused(page) == f"picture number {MANY - 1}, IMG_{MANY - 1}.png"
    expect(named(page, f"IMG_{MANY - 1}.png")).to_be_in_viewport()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Space")
    expect(named(page, f"IMG_{MANY - 2}.png")).to_have_attribute("aria-selected", "true")
    page.keyboard.press("Control+Home")
    assert focused(page) == "picture number 0, IMG_0000.png"
    assert page.locator('#pictures .cell[tabindex="0"]').count() == 1
    page.keyboard.press("Control+a")
    expect(page.locator(CHOSEN)).to_have_text("5,000 selected")
    page.keyboard.press("Escape")
    expect(page.locator(CHOSEN)).to_be_hidden()


def test_words_find_pictures_by_caption_and_by_file_name(open_gallery):
    page, _ = open_gallery(many)
    find = page.get_by_role("searchbox")
    find.fill("NUMBER 312")
    expect(page.locator(COUNT)).to_have_text("11 of 5,000")  # 312 and 3120 to 3129
    find.fill("img_0007")
    expect(page.locator(COUNT)).to_have_text("1 of 5,000")
    find.fill("nothing like it")
    expect(page.locator(COUNT)).to_have_text("0 of 5,000")
    page.get_by_role("button", name="Show all").click()
    expect(page.locator(COUNT)).to_have_text("5,000 pictures")


def test_pictures_are_filtered_by_album_and_by_what_is_known_of_them(open_gallery):
    page, _ = open_gallery(in_albums)
    album, only = page.locator('[data-part="album"]'), page.locator('[data-part="only"]')
    album.select_option("shapes/circle (4)")
    expect(page.locator(COUNT)).to_have_text("4 of 12")
    assert all("circle" in label for label in cells(page).evaluate_all("all => all.map((cell) => cell.ariaLabel)"))
    album.select_option("no album (4)")
    expect(cells(page).first).to_have_attribute("aria-label", re.compile("bar"))
    album.select_option("all albums")
    for words, count in (
        ("without captions (1)", "1 of 12"),
        ("written by the model (1)", "1 of 12"),
        ("added since training (2)", "2 of 12"),
        ("with captions (11)", "11 of 12"),
    ):
        only.select_option(words)
        expect(page.locator(COUNT)).to_have_text(count)


def test_pictures_are_sorted(open_gallery):
    page, folder = open_gallery(in_albums)
    names = [row["file_name"] for row in rows_of(folder)]
    order = page.locator('[data-part="order"]')

    def shown():
        return cells(page).evaluate_all("all => all.map((cell) => cell.key)")

    assert shown() == names
    order.select_option("by name")
    assert shown() == sorted(names)
    order.select_option("newest first")
    assert shown() == names[::-1]
    order.select_option("by album")
    assert ["bar" in name for name in shown()] == [False] * 8 + [True] * 4


def test_a_range_is_selected_with_shift_by_mouse_and_by_keyboard(open_gallery):
    page, _ = open_gallery()
    cells(page).nth(1).locator(".check").click(force=True)
    cells(page).nth(4).click(modifiers=["Shift"])
    expect(page.locator(CHOSEN)).to_have_text("4 selected")
    assert page.locator('#pictures .cell[tabindex="0"]').count() == 1
    page.keyboard.press("Shift+ArrowRight")
    expect(page.locator(CHOSEN)).to_have_text("5 selected")
    page.get_by_role("searchbox").fill("red")
    expect(page.locator(CHOSEN)).to_have_text("5 selected, 5 of them not shown")
    page.get_by_role("button", name="Select all shown").click()
    expect(page.locator(CHOSEN)).to_have_text("8 selected, 5 of them not shown")
    page.get_by_role("button", name="Clear").click()
    expect(page.locator(CHOSEN)).to_be_hidden()


def test_two_that_are_forgotten_are_gone_here_and_on_the_search_tab(open_gallery):
    page, folder = open_gallery()
    check(page, "red-circle.png", "blue-bar.png")
    page.get_by_role("button", name="Forget").click()
    dialog = page.get_by_role("dialog", name="Forget 2 pictures?")
    dialog.get_by_role("button", name="Cancel").click()
    expect(page.locator(CHOSEN)).to_have_text("2 selected")
    page.get_by_role("button", name="Forget").click()
    dialog.get_by_role("button", name="Forget").click()
    expect(page.locator(COUNT)).to_have_text("10 pictures")
    expect(named(page, "red-circle.png")).to_have_count(0)
    assert len(Gallery.load(folder / "gallery")) == 10
    expect(page.locator('[data-part="memory"] option:checked')).to_have_text("My shapes (10)")
    page.get_by_role("tab", name="Search").click()
    expect(page.locator("#state")).to_contain_text("10 images")


def test_forgetting_is_undone(open_gallery):
    page, folder = open_gallery()
    before = Gallery.load(folder / "gallery").file_names
    check(page, "red-circle.png", "blue-bar.png")
    page.keyboard.press("Delete")
    page.get_by_role("dialog", name="Forget 2 pictures?").get_by_role("button", name="Forget").click()
    expect(page.locator(COUNT)).to_have_text("10 pictures")
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(COUNT)).to_have_text("12 pictures")
    expect(page.get_by_text("2 pictures are back.")).to_be_visible()
    assert Gallery.load(folder / "gallery").file_names == before
    assert cells(page).evaluate_all("all => all.map((cell) => cell.key)") == before


def test_what_is_forgotten_on_the_search_tab_is_gone_here(open_gallery):
    page, _ = open_gallery()
    page.get_by_role("tab", name="Search").click()
    page.locator("#query textarea").fill("a red circle")
    page.locator("#query textarea").press("Enter")
    card = page.locator(".side.generative .card").first
    card.hover()
    card.locator(".forget").click()
    expect(page.get_by_text("is forgotten")).to_be_visible()
    page.get_by_role("tab", name="Gallery").click()
    expect(page.locator(COUNT)).to_have_text("11 pictures")


def test_another_page_of_the_same_visitor_shows_what_has_changed(open_gallery):
    page, _ = open_gallery()
    other = page.context.new_page()
    other.goto(page.url)
    check(page, "red-circle.png")
    page.get_by_role("button", name="Edit captions").click()
    page.get_by_role("textbox", name="Captions, one a line").fill("a setting sun")
    page.get_by_role("button", name="Save").click()
    expect(named(other, "a setting sun, red-circle.png")).to_be_visible()


def test_pictures_are_moved_to_a_new_album_and_filtered_by_it(open_gallery):
    page, folder = open_gallery()
    album = page.locator('[data-part="album"]')
    expect(album).to_be_hidden()
    check(page, "red-circle.png", "blue-bar.png")
    page.get_by_role("button", name="Move to album").click()
    page.get_by_role("dialog").get_by_role("combobox").fill("Toys & <b>boxes</b>")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    album.select_option("Toys & <b>boxes</b> (2)")
    expect(page.locator(COUNT)).to_have_text("2 of 12")
    assert Gallery.load(folder / "gallery").album_sizes == {"Toys & <b>boxes</b>": 2}
    page.get_by_role("button", name="Move to album").click()
    expect(page.get_by_role("dialog").get_by_role("combobox")).to_have_value("Toys & <b>boxes</b>")
    page.get_by_role("dialog").get_by_role("combobox").fill("")
    page.get_by_role("button", name="Save").click()
    expect(album).to_be_hidden()
    expect(page.locator(COUNT)).to_have_text("12 pictures")


def test_edited_captions_are_there_after_a_reload_and_count_as_changes(open_gallery):
    page, folder = open_gallery()
    check(page, "red-circle.png")
    page.get_by_role("button", name="Edit captions").click()
    text = page.get_by_role("textbox", name="Captions, one a line")
    expect(text).to_have_value("a red circle\ncircle in red")
    text.fill(f"a setting sun\n{HOSTILE}")
    page.get_by_role("button", name="Save").click()
    expect(named(page, "a setting sun, red-circle.png")).to_be_visible()
    page.reload()
    expect(named(page, "a setting sun, red-circle.png")).to_contain_text("a setting sun")
    gallery = Gallery.load(folder / "gallery")
    assert gallery.captions[gallery.index("red-circle.png")] == ["a setting sun", HOSTILE]
    assert read_manifest(folder)["changes"]["captions"] == 2
    page.get_by_role("tab", name="Memorise").click()
    expect(page.get_by_role("button", name="Consolidate")).to_be_visible()
    assert page.evaluate("window.hacked") is None


def test_a_caption_is_added_to_several(open_gallery):
    page, folder = open_gallery()
    check(page, "red-circle.png", "blue-bar.png")
    page.get_by_role("button", name="Edit captions").click()
    page.get_by_role("textbox", name="Captions, one a line").fill("from the toy box")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("found by these captions now")).to_be_visible()
    page.get_by_role("searchbox").fill("toy box")
    expect(page.locator(COUNT)).to_have_text("2 of 12")
    gallery = Gallery.load(folder / "gallery")
    assert gallery.captions[gallery.index("blue-bar.png")] == ["a blue bar", "bar in blue", "from the toy box"]
    page.get_by_role("button", name="Edit captions").click()
    page.get_by_role("textbox", name="Captions, one a line").fill("a toy box")
    page.get_by_label("Replace them").check()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    gallery = Gallery.load(folder / "gallery")
    assert [gallery.captions[gallery.index(name)] for name in ("red-circle.png", "blue-bar.png")] == [["a toy box"]] * 2


def test_a_picture_that_is_not_in_the_memory_has_a_drawing_in_its_place(open_gallery):
    page, _ = open_gallery(lambda folder: (folder / "gallery" / "red-circle.png").unlink())
    expect(named(page, "red-circle.png").locator("img")).to_have_attribute("src", "no-picture.svg")
    expect(named(page, "blue-bar.png").locator("img")).to_have_attribute("src", re.compile("^picture/"))


def test_what_was_typed_stays_where_it_cannot_be_saved(open_gallery):
    page, _ = open_gallery()
    check(page, "red-circle.png")
    page.get_by_role("button", name="Edit captions").click()
    text = page.get_by_role("textbox", name="Captions, one a line")
    text.fill("x" * 1_001)
    page.get_by_role("button", name="Save").click()
    alert = page.get_by_role("dialog").get_by_role("alert")
    expect(alert).to_contain_text("1,001 characters, the limit is 1,000")
    page.route("**/gallery/*", lambda route: route.abort())
    text.fill("a setting sun")
    page.get_by_role("button", name="Save").click()
    expect(alert).to_contain_text("nothing answers")
    expect(text).to_have_value("a setting sun")
    page.unroute("**/gallery/*")
    page.get_by_role("button", name="Save").click()
    expect(named(page, "a setting sun")).to_be_visible()


def test_a_picture_opens_large_and_the_focus_comes_back_to_the_one_seen_last(open_gallery):
    page, _ = open_gallery()
    cells(page).first.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_contain_text("1 of 12")
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("dialog")).to_contain_text("2 of 12")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(cells(page).nth(1)).to_be_focused()


def test_the_memory_that_ships_says_that_it_cannot_be_changed(open_page, strangers):
    page = open_page(f"{strangers[0]}#tab=gallery")
    expect(page.get_by_text("nothing in it can be changed")).to_be_visible()
    expect(page.locator(COUNT)).to_have_text("12 pictures")
    expect(page.get_by_role("button", name="Select all shown")).to_be_hidden()
    expect(cells(page).first.locator(".check")).to_be_hidden()
    cells(page).first.focus()
    page.keyboard.press("Space")
    expect(page.locator(CHOSEN)).to_be_hidden()


def test_photographs_fill_the_mosaic_where_drawings_stood_before(open_gallery):
    def photographs(folder):
        for path in folder.glob("gallery/*.png"):
            Image.new("RGB", (256, 192), "teal").save(path)

    page, folder = open_gallery(photographs)
    page.get_by_role("tab", name="Search").click()
    memory, mosaic = page.get_by_role("combobox", name="Memory"), page.locator("#mosaic .mosaic")
    memory.select_option("shipped")
    expect(mosaic.locator("img.drawing[data-cut]")).to_have_count(12)
    memory.select_option(folder.name)
    expect(mosaic).to_have_attribute("data-memory", folder.name)
    page.wait_for_function("[...document.querySelectorAll('#mosaic img')].every((image) => image.naturalWidth === 256)")
    expect(mosaic.locator(".drawing")).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_it_without_overflow(open_gallery, scheme):
    page, _ = open_gallery(in_albums, width=390, height=844, color_scheme=scheme, has_touch=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    cells(page).first.locator(".check").click()
    bar = page.get_by_role("toolbar", name="Selected pictures").bounding_box()
    assert bar["x"] >= 0 and bar["x"] + bar["width"] <= 390

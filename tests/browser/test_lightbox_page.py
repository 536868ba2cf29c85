"""The lightbox as a person meets it: open a picture, walk on, close; and what can be done with the picture."""

import re
import shutil

import pytest
from playwright.sync_api import expect

from gcr_core.data.gallery import Gallery
from gcr_core.memory.manifest import changes, read_manifest
from gcr_core.serving.workspace import Workspace, new_id
from gcr_core.settings import Settings
from tests.browser.test_search_page import PHONE, ask, assert_on_screen, contrast
from tests.firefox import of_chromium
from tests.serving import serve


@pytest.fixture(scope="module")
def place(tiny_memory_dir, tmp_path_factory):
    """The address of an app, and the shelf of the person whose machine it is."""
    folder = tmp_path_factory.mktemp("lightbox")
    with serve(tiny_memory_dir, folder / "app.log") as address:
        yield address, Workspace.of(folder / "home", None, Settings())


@pytest.fixture
def page(open_page, place):
    page = open_page(place[0])
    expect(ask(page)).to_be_visible()
    return page


@pytest.fixture
def own(place, tiny_memory_dir):
    """The id of a memory of one's own, in which a picture was captioned by the model."""
    shelf = place[1]
    shelf.root.mkdir(parents=True, exist_ok=True)
    folder, id = shutil.copytree(tiny_memory_dir, shelf.root / "copied"), new_id()
    gallery = Gallery.load(tiny_memory_dir / "gallery")
    gallery.with_pseudo_queries({0: ["What the model wrote"]}).save(folder / "gallery")
    shelf.keep(folder, id, "Shapes")
    yield id
    shelf.delete(id)


@pytest.fixture
def own_page(open_page, place, own):
    page = open_page(f"{place[0]}?memory={own}&q=a+happy+dog")
    expect(page.get_by_role("heading", name="“a happy dog”")).to_be_visible()
    expect(page.locator(f".results[data-memory='{own}']")).to_be_visible()
    return page


def lightbox(page):
    return page.locator("dialog.lightbox")


def picture(page, rank=1, side="generative"):
    return page.locator(f".side.{side} .card").nth(rank - 1).locator(".picture")


def fact(page, term):
    return lightbox(page).locator(f"dt:text-is('{term}') + dd")


def file_of(page):
    expect(fact(page, "File")).to_be_visible()
    return fact(page, "File").inner_text()


def swipe(page, by):
    """One finger over the picture, as far to the right as `by` of the screen's width."""
    client, width = page.context.new_cdp_session(page), page.viewport_size["width"]
    start = width / 2 - by * width / 2
    steps = [start + by * width * step / 4 for step in range(5)]
    client.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": start, "y": 200}]})
    for x in steps:
        client.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [{"x": x, "y": 200}]})
        page.wait_for_timeout(20)
    page.wait_for_timeout(100)  # the finger rests before it leaves: Chromium takes a tap after a fling for its end
    client.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def test_a_click_opens_the_picture_with_all_that_is_known_of_it(page, tiny_memory):
    picture(page).click()
    expect(lightbox(page)).to_be_visible()
    gallery, index = tiny_memory.gallery, tiny_memory.gallery.index(file_of(page))
    expect(lightbox(page).get_by_role("heading")).to_have_text(gallery.captions[index][0])
    for caption in gallery.captions[index][1:]:
        expect(lightbox(page).get_by_role("listitem").filter(has_text=caption)).to_be_visible()
    expect(fact(page, "Recalled from memory")).to_have_text(re.compile(r"^1st, .*%, log p −\d+\.\d\d$"))
    expect(fact(page, "CLIP + FAISS")).to_have_text(re.compile(r"^\d+(st|nd|rd|th), cosine −?\d\.\d{3}$"))
    expect(fact(page, "Identifier")).to_have_text(re.compile(r"^<.+>$"))
    expect(lightbox(page).locator(".stage.sharp .full")).to_be_visible()
    expect(lightbox(page).get_by_text("1 of 10 · Recalled from memory")).to_be_visible()


def test_the_thumbnail_is_there_at_once_while_the_server_says_nothing(page):
    held = []
    page.route("**/about/**", lambda route: held.append(route))
    picture(page).click()
    shown = lightbox(page).locator(".small")
    expect(shown).to_be_visible()
    assert shown.evaluate("image => image.complete && image.naturalWidth > 0")
    expect(fact(page, "File")).to_have_count(0)
    for route in held:
        route.continue_()
    expect(fact(page, "File")).to_be_visible()


def test_the_keyboard_opens_walks_and_closes_and_the_focus_comes_back_to_the_picture(page):
    picture(page, rank=2, side="dense").press("Enter")
    expect(lightbox(page)).to_be_visible()
    expect(lightbox(page).get_by_text("2 of 10 · CLIP + FAISS")).to_be_visible()
    second = file_of(page)
    page.keyboard.press("ArrowRight")
    expect(lightbox(page).get_by_text("3 of 10")).to_be_visible()
    expect(fact(page, "File")).not_to_have_text(second)
    page.keyboard.press("ArrowLeft")
    expect(fact(page, "File")).to_have_text(second)
    page.keyboard.press("End")
    expect(lightbox(page).get_by_text("10 of 10")).to_be_visible()
    expect(lightbox(page).get_by_role("button", name="Next picture")).to_be_hidden()
    page.keyboard.press("ArrowRight")
    expect(lightbox(page).get_by_text("10 of 10")).to_be_visible()
    page.keyboard.press("Escape")
    expect(lightbox(page)).to_be_hidden()
    expect(picture(page, rank=10, side="dense")).to_be_focused()


def test_the_focus_stays_inside_while_it_is_open(page):
    picture(page).click()
    expect(fact(page, "File")).to_be_visible()
    for _ in range(12):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement === document.body || !!document.activeElement.closest('dialog')")


def test_back_closes_it_and_the_answer_stays(page):
    before = page.url
    page.evaluate("document.querySelector('#results .results').dataset.mine = 'yes'")
    picture(page).click()
    expect(fact(page, "File")).to_be_visible()
    page.go_back()
    expect(lightbox(page)).to_be_hidden()
    assert page.url == before
    picture(page).click()
    page.keyboard.press("Escape")
    expect(lightbox(page)).to_be_hidden()
    page.wait_for_function("!history.state?.lightbox")
    assert page.url == before
    expect(page.locator(".results[data-mine=yes]")).to_be_visible()


def test_a_picture_of_the_first_screen_opens_too(open_page, place):
    page = open_page(place[0])
    first = page.locator("#mosaic img").first
    first.click()
    expect(fact(page, "File")).to_be_visible()
    expect(lightbox(page).get_by_text("1 of 12")).to_be_visible()
    expect(fact(page, "Recalled from memory")).to_have_count(0)
    expect(fact(page, "Identifier")).to_have_text(re.compile("^<.+>$"))


def test_a_click_beside_the_picture_closes_it(page):
    picture(page).click()
    expect(fact(page, "File")).to_be_visible()
    lightbox(page).locator(".stage").click(position={"x": 20, "y": 20})
    expect(lightbox(page)).to_be_hidden()


@of_chromium
def test_on_a_phone_a_tap_opens_and_a_finger_walks(open_page, place):
    page = open_page(place[0], width=PHONE, height=844, has_touch=True, is_mobile=True)
    expect(ask(page)).to_be_visible()
    picture(page).tap()
    expect(lightbox(page).get_by_text("1 of 10")).to_be_visible()
    swipe(page, -0.6)
    expect(lightbox(page).get_by_text("2 of 10")).to_be_visible()
    swipe(page, 0.6)
    expect(lightbox(page).get_by_text("1 of 10")).to_be_visible()
    assert_on_screen(lightbox(page).locator(":is(button, .button):visible, dl, h2"), PHONE)
    lightbox(page).get_by_role("button", name="Close").tap()
    expect(lightbox(page)).to_be_hidden()


@of_chromium
def test_on_a_phone_one_side_is_seen_and_the_other_a_tap_or_a_swipe_away(open_page, place):
    page = open_page(place[0], width=PHONE, height=844, has_touch=True, is_mobile=True)
    expect(ask(page)).to_be_visible()
    first = picture(page)
    expect(first).to_be_in_viewport(ratio=0.5)
    expect(picture(page, side="dense")).not_to_be_in_viewport()
    page.get_by_role("button", name="CLIP + FAISS").tap()
    expect(picture(page, side="dense")).to_be_in_viewport(ratio=0.5)
    expect(page.get_by_role("button", name="CLIP + FAISS")).to_have_attribute("aria-pressed", "true")
    expect(first).not_to_be_in_viewport()
    page.locator(".sides").evaluate("sides => sides.scrollTo({ left: 0 })")
    expect(page.get_by_role("button", name="Recalled from memory")).to_have_attribute("aria-pressed", "true")


def test_the_side_that_was_chosen_on_a_phone_stays_for_the_next_answer(open_page, place):
    page = open_page(place[0], width=PHONE, height=844)
    expect(ask(page)).to_be_visible()
    page.get_by_role("button", name="CLIP + FAISS").click()
    expect(picture(page, side="dense")).to_be_in_viewport(ratio=0.5)
    expect(ask(page, "a red boat")).to_be_visible()
    expect(picture(page, side="dense")).to_be_in_viewport(ratio=0.5)


def test_more_like_this_asks_with_the_picture(page, tiny_memory):
    picture(page, rank=2).click()
    file, source = file_of(page), lightbox(page).get_by_role("link", name="Save").get_attribute("href")
    lightbox(page).get_by_role("button", name="More like this").click()
    expect(page.get_by_role("heading", name=re.compile("^more like “.+”$"))).to_be_visible()
    expect(lightbox(page)).to_be_hidden()
    assert source.split("/")[-2] == page.locator("img.asked").get_attribute("src").split("/")[-2]
    gallery = tiny_memory.gallery
    nearest = tiny_memory.search_image(gallery.open(gallery.index(file)))["dense"][0]["file_name"]
    picture(page, side="dense").click()
    assert file_of(page) == nearest
    assert "q=" not in page.url


def test_what_is_not_ones_own_cannot_be_changed(page):
    picture(page).click()
    expect(fact(page, "File")).to_be_visible()
    expect(lightbox(page).get_by_role("button", name="Copy")).to_be_visible()
    for name in ("Edit captions", "Forget"):
        expect(lightbox(page).get_by_role("button", name=name)).to_be_hidden()


def test_the_picture_is_saved_under_its_name(page):
    picture(page).click()
    file = file_of(page)
    with page.expect_download() as saved:
        lightbox(page).get_by_role("link", name="Save").click()
    assert saved.value.suggested_filename == file


@of_chromium
def test_the_picture_is_copied_as_a_picture(page, place):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=place[0])
    picture(page).click()
    expect(lightbox(page).locator(".stage.sharp")).to_be_visible()
    lightbox(page).get_by_role("button", name="Copy").click()
    expect(lightbox(page).get_by_role("status")).to_contain_text("clipboard")
    kinds = page.evaluate("async () => (await navigator.clipboard.read())[0].types")
    assert kinds == ["image/png"]


def test_captions_are_edited_and_count_as_changes(own_page, place, own):
    page = own_page
    picture(page).click()
    file = file_of(page)
    lightbox(page).get_by_role("button", name="Edit captions").click()
    field = lightbox(page).get_by_label("Captions, one a line")
    field.press("ArrowRight")  # moves in the text, not to the next picture
    field.fill("a zebra\n\n<b>on</b> a bicycle ")
    lightbox(page).get_by_role("button", name="Save captions").click()
    expect(lightbox(page).get_by_role("heading")).to_have_text("a zebra")
    expect(lightbox(page).get_by_role("status")).to_contain_text("found by these captions now")
    expect(lightbox(page).get_by_role("listitem")).to_have_text(["<b>on</b> a bicycle"])
    folder = place[1].memory(own)
    gallery = Gallery.load(folder / "gallery")
    assert gallery.captions[gallery.index(file)] == ["a zebra", "<b>on</b> a bicycle"]
    assert changes(read_manifest(folder))["captions"]
    page.keyboard.press("Escape")
    expect(page.locator(".side.dense .name", has_text="a zebra")).to_be_visible()


def test_escape_leaves_the_editor_and_not_the_picture(own_page):
    page = own_page
    picture(page).click()
    file = file_of(page)
    lightbox(page).get_by_role("button", name="Edit captions").click()
    lightbox(page).get_by_label("Captions, one a line").fill("half a cap")
    lightbox(page).locator(".stage").click(position={"x": 20, "y": 20})
    lightbox(page).get_by_role("button", name="Save captions").focus()
    page.keyboard.press("ArrowRight")
    expect(lightbox(page).get_by_label("Captions, one a line")).to_have_value("half a cap")
    page.keyboard.press("Escape")
    expect(lightbox(page).get_by_label("Captions, one a line")).to_have_count(0)
    assert file_of(page) == file
    expect(lightbox(page).get_by_text("half a cap")).to_have_count(0)


def test_captions_that_cannot_be_kept_stay_in_the_editor_with_the_reason(own_page):
    page = own_page
    picture(page).click()
    file_of(page)
    lightbox(page).get_by_role("button", name="Edit captions").click()
    field = lightbox(page).get_by_label("Captions, one a line")
    field.fill("a" * 10_000)
    lightbox(page).get_by_role("button", name="Save captions").click()
    expect(lightbox(page).get_by_role("status")).to_contain_text("10,000")
    expect(field).to_have_value("a" * 10_000)


def test_captions_that_the_model_wrote_say_so(own_page):
    page = own_page
    picture(page).click()
    mark = lightbox(page).get_by_text("written by the model")
    for _ in range(9):
        file_of(page)
        if mark.count():
            break
        page.keyboard.press("ArrowRight")
    expect(mark.locator("xpath=..")).to_have_text("written by the model What the model wrote")
    assert contrast(page, "dialog.lightbox .written") >= 4.5


def test_a_picture_is_forgotten_and_brought_back(own_page, place, own):
    page = own_page
    picture(page, rank=3).click()
    file = file_of(page)
    names = page.locator(".side.generative .picture img")
    count, before = names.count(), names.evaluate_all("all => all.map(image => image.alt)")
    lightbox(page).get_by_role("button", name="Forget").click()
    expect(lightbox(page)).to_be_hidden()
    expect(page.get_by_text("is forgotten")).to_be_visible()
    expect(names.nth(2)).not_to_have_attribute("alt", before[2])
    assert file not in Gallery.load(place[1].memory(own) / "gallery")
    undo = page.get_by_role("button", name="Undo")
    expect(undo).to_be_focused()
    undo.click()
    expect(page.get_by_text("is back")).to_be_visible()
    expect(names.nth(2)).to_have_attribute("alt", before[2])
    assert file in Gallery.load(place[1].memory(own) / "gallery")
    assert names.count() == count


def test_what_was_forgotten_is_brought_back_from_the_memorys_card_after_a_reload(own_page, place, own):
    before = sorted(Gallery.load(place[1].memory(own) / "gallery").file_names)
    own_page.locator(".side.generative .forget").first.click()
    expect(own_page.get_by_role("button", name="Undo")).to_be_visible()
    own_page.goto(f"{place[0]}?memory={own}#tab=memorise")
    own_page.reload()
    card = own_page.get_by_role("listitem", name="Shapes", exact=True)
    expect(card).to_contain_text("1 forgotten picture can be brought back.")
    card.get_by_role("button", name="Bring it back").click()
    expect(card.get_by_text("can be brought back")).to_have_count(0)
    assert sorted(Gallery.load(place[1].memory(own) / "gallery").file_names) == before


def test_several_that_were_forgotten_are_brought_back_together(own_page, place, own):
    page = own_page
    for left in (2, 1):
        name = page.locator(".side.generative .name").first.inner_text()
        page.locator(".side.generative .card").first.hover()
        page.locator(".side.generative .forget").first.click()
        expect(page.locator(".side.generative .name").first).not_to_have_text(name)
        expect(page.get_by_text("is forgotten" if left == 2 else "2 pictures are forgotten")).to_be_visible()
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_text("2 pictures are back")).to_be_visible()
    assert len(Gallery.load(place[1].memory(own) / "gallery")) == 12


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_its_words_can_be_read_in_light_and_in_dark(open_page, place, own, scheme):
    page = open_page(f"{place[0]}?memory={own}&q=a+happy+dog", color_scheme=scheme)
    expect(page.locator(f".results[data-memory='{own}']")).to_be_visible()
    picture(page).click()
    file_of(page)
    for selector in ("h2", ".place", "dt", "dd", ".like", ".copy", ".save"):
        assert contrast(page, f"dialog.lightbox {selector}") >= 4.5, selector


def test_a_drawing_on_white_stands_on_the_plate_without_the_white(page):
    expect(page.locator(".picture.whole > img").first).to_have_attribute("srcset", re.compile("^data:image/png"))
    corner = page.locator(".picture.whole > img").first.evaluate(
        """async image => {
            await image.decode();
            const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 });
            canvas.getContext("2d").drawImage(image, 0, 0);
            return canvas.getContext("2d").getImageData(0, 0, 1, 1).data[3];
        }"""
    )
    assert corner == 0


def test_the_trace_leads_to_the_picture(page):
    page.get_by_text("How it was recalled").click()
    row = page.locator(".trace li").first
    row.get_by_role("button").click()
    expect(fact(page, "Identifier")).to_have_text(row.locator("code").inner_text())
    page.keyboard.press("Escape")
    expect(row.get_by_role("button")).to_be_focused()


@of_chromium
def test_the_results_are_saved_and_the_programs_name_this_page(page, place):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=place[0])
    page.get_by_text("Take the results along").click()
    with page.expect_download() as saved:
        page.get_by_role("link", name="Save as CSV").click()
    assert saved.value.suggested_filename == "a-happy-dog.csv"
    assert saved.value.path().read_text().startswith("side,rank,file_name,score,identifier")
    page.get_by_role("button", name="Copy the Python program").click()
    expect(page.get_by_role("button", name="Copy the Python program")).to_have_text("Copied")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert f'Client("{place[0].rstrip("/")}")' in copied and "'a happy dog'" in copied

"""The address as a person uses it: a link, Back, Forward, a reload, Share; and photographs dropped anywhere."""

import re
import secrets
import shutil
from urllib.parse import quote

import pytest
from playwright.sync_api import expect

from gcr_core.data.gallery import Gallery
from gcr_core.serving.workspace import Workspace, new_id
from gcr_core.settings import Settings
from gcr_core.ui.auth import COOKIE
from tests.browser.test_search_page import PHONE, QUERY, ask, both_sides, box
from tests.firefox import of_chromium

ALBUMS = ("Rome & around", "at home")
OTHER = "a blue square"
LATE_OPENING = """
const send = window.fetch, openings = [];
window.fetch = async (...request) => {
  const body = request[1]?.body;
  const data = typeof body === "string" ? JSON.parse(body).data : [];
  if (!openings.length && data?.length === 1 && data[0]?.again === false)
    await new Promise((release) => openings.push(release));
  return send(...request);
};
window.openings = openings;
"""
"""Holds the request with which a page is opened until `openings[0]()` is called, as a slow line may."""
SAID_SINCE = """
window.said = [];
new MutationObserver(() => {
  const alert = document.querySelector("[role=alert]");
  if (alert) said.push(alert.textContent);
}).observe(document.body, { childList: true, subtree: true });
"""
"""Keeps in `said` what the page says from now on, also where it takes it back."""
SHOWN_MEMORIES = """
const send = window.fetch;
window.shown = [];
window.fetch = (...request) => {
  const body = request[1]?.body, data = typeof body === "string" ? JSON.parse(body).data : [];
  if (data?.length === 1 && typeof data[0] === "string") shown.push(data[0]);
  return send(...request);
};
"""
"""Keeps in `shown` the words with which alone the server is asked: of which memories it says what they hold, too."""
CLIPBOARD = ["clipboard-read", "clipboard-write"]


@pytest.fixture
def visitor(strangers, tiny_memory_dir):
    """(the cookie, the id of a memory with two albums and pictures in none) of a new visitor."""
    secret, id = secrets.token_urlsafe(32), new_id()
    shelf = Workspace.of(strangers[1], secret, Settings())
    folder = shutil.copytree(tiny_memory_dir, shelf.root / "copied")
    gallery = Gallery.load(folder / "gallery")
    gallery.with_albums([*ALBUMS[:1] * 4, *ALBUMS[1:] * 3, *[""] * (len(gallery) - 7)])
    shelf.keep(folder, id, "Journeys")
    cookie = {"name": COOKIE, "value": secret, "domain": "127.0.0.1", "path": "/"}
    return {"storage_state": {"cookies": [cookie]}}, id


def heading(page, words):
    return page.get_by_role("heading", name=f"“{words}”")


def address(path):
    return re.compile(f"^http://[^/]+/{re.escape(path)}$")


def choice(page, name):
    return page.get_by_role("combobox", name=name)


def tab(page, name):
    return page.get_by_role("tab", name=name)


def drag(page, element, files, drop=True):
    """Drags files of this machine over an element, as a file manager does, and drops them."""
    page.locator("#invitation").wait_for(state="attached")  # the page takes no files before
    place = element.bounding_box()
    where = {"x": place["x"] + place["width"] / 2, "y": place["y"] + place["height"] / 2}
    data = {"items": [], "files": [str(file) for file in files], "dragOperationsMask": 1}
    browser = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", *["drop"] * drop):
        browser.send("Input.dispatchDragEvent", {"type": kind, **where, "data": data})


def test_a_link_to_a_query_asks_it_at_once(page, open_page):
    expect(ask(page)).to_be_visible()
    expect(page).to_have_url(address("?q=a+happy+dog"))
    expect(page).to_have_title(re.compile(f"^{QUERY} · "))
    other = open_page(page.url)
    expect(heading(other, QUERY)).to_be_visible()
    expect(box(other)).to_have_value(QUERY)


def test_back_and_forward_walk_queries_and_tabs(page):
    for words in (QUERY, OTHER):
        expect(ask(page, words)).to_be_visible()
    tab(page, "Memorise").click()
    places = "?q=a+happy+dog", "?q=a+blue+square", "?q=a+blue+square#tab=memorise"
    expect(page).to_have_url(address(places[-1]))
    page.evaluate("history.back()")  # Playwright's own waits in Firefox for a page that is loaded
    expect(tab(page, "Search")).to_have_attribute("aria-selected", "true")
    expect(heading(page, OTHER)).to_be_visible()
    page.evaluate("history.back()")
    expect(heading(page, QUERY)).to_be_visible()
    expect(box(page)).to_have_value(QUERY)
    page.evaluate("history.back()")
    expect(page.locator("#results .card")).to_have_count(0)
    expect(box(page)).to_have_value("")
    for place, words in zip(places, (QUERY, OTHER, ""), strict=True):
        page.evaluate("history.forward()")
        expect(page).to_have_url(address(place))
        if words:
            expect(heading(page, words)).to_be_visible()
    expect(tab(page, "Memorise")).to_have_attribute("aria-selected", "true")
    tab(page, "Search").click()
    expect(heading(page, OTHER)).to_be_visible()


def test_who_walks_on_before_the_answers_have_come_is_where_they_went_last(page):
    for words in (QUERY, OTHER):
        expect(ask(page, words)).to_be_visible()
    tab(page, "Memorise").click()
    expect(page).to_have_url(address("?q=a+blue+square#tab=memorise"))
    for direction in ("back", "forward"):
        page.evaluate(f"history.go({-3 if direction == 'back' else 1})")
        expect(tab(page, "Search")).to_have_attribute("aria-selected", "true")
    page.evaluate("history.forward(); history.forward()")
    expect(tab(page, "Memorise")).to_have_attribute("aria-selected", "true")
    tab(page, "Search").click()
    expect(heading(page, OTHER)).to_be_visible()
    expect(page).to_have_url(address("?q=a+blue+square"))


def test_an_opening_that_is_late_leaves_the_answer_and_what_was_asked(open_page, strangers, visitor):
    options, id = visitor
    page = open_page(f"{strangers[0]}?memory={id}", script=LATE_OPENING, **options)
    expect(page.locator("#state")).to_contain_text("ready")
    expect(ask(page)).to_be_visible()
    page.evaluate("openings[0]()")
    expect(choice(page, "Album")).to_be_visible()
    expect(choice(page, "Memory")).to_have_value(id)  # the opening has been answered
    expect(heading(page, QUERY)).to_be_visible()
    choice(page, "Album").select_option(ALBUMS[0])
    for side in both_sides(page):
        expect(side.locator(".card")).to_have_count(4)


def test_the_same_query_again_is_no_new_entry(page):
    for words in (QUERY, OTHER, OTHER):
        page.evaluate("document.querySelector('#results .results')?.setAttribute('data-before', '')")
        expect(ask(page, words)).to_be_visible()
        expect(page.locator("#results [data-before]")).to_have_count(0)
    page.go_back()
    expect(heading(page, QUERY)).to_be_visible()


def test_a_reload_keeps_memory_album_query_and_tab(open_page, strangers, visitor):
    options, id = visitor
    at = f"?memory={id}&q=a+happy+dog&album=at+home"
    page = open_page(strangers[0] + at, **options)
    for _ in range(2):
        expect(heading(page, QUERY)).to_be_visible()
        expect(choice(page, "Memory")).to_have_value(id)
        expect(choice(page, "Album")).to_have_value("at home")
        expect(page).to_have_url(address(at))
        page.reload()
    tab(page, "Memorise").click()
    expect(page).to_have_url(address(f"{at}#tab=memorise"))
    page.reload()
    expect(tab(page, "Memorise")).to_have_attribute("aria-selected", "true")
    expect(page).to_have_url(address(f"{at}#tab=memorise"))


def test_only_the_memory_of_the_address_is_shown_whichever_answer_comes_last(open_page, strangers, visitor):
    options, id = visitor
    page = open_page(f"{strangers[0]}?memory={id}&q=a+happy+dog", script=SHOWN_MEMORIES, **options)
    expect(heading(page, QUERY)).to_be_visible()
    tab(page, "Gallery").click()
    tab(page, "Search").click()
    expect(choice(page, "Album")).to_be_visible()
    asked = page.evaluate("shown")
    assert id in asked and "shipped" not in asked


def test_another_memory_is_an_entry_without_query_and_album(open_page, strangers, visitor):
    options, id = visitor
    page = open_page(f"{strangers[0]}?memory={id}&q=a+happy+dog&album=at+home", **options)
    expect(heading(page, QUERY)).to_be_visible()
    choice(page, "Memory").select_option("shipped")
    expect(page).to_have_url(address(""))
    expect(page.locator("#results .card")).to_have_count(0)
    expect(choice(page, "Album")).to_have_count(0)
    page.go_back()
    expect(heading(page, QUERY)).to_be_visible()
    expect(choice(page, "Memory")).to_have_value(id)
    expect(choice(page, "Album")).to_have_value("at home")


def test_an_album_restricts_both_sides_and_asks_the_last_query_again(open_page, strangers, visitor):
    options, id = visitor
    page = open_page(f"{strangers[0]}?memory={id}", **options)
    expect(ask(page)).to_be_visible()
    for side in both_sides(page):
        expect(side.locator(".card")).to_have_count(10)
    choice(page, "Album").select_option(ALBUMS[0])
    expect(page).to_have_url(address(f"?memory={id}&q=a+happy+dog&album=Rome+%26+around"))
    for side in both_sides(page):
        expect(side.locator(".card")).to_have_count(4)
    choice(page, "Album").select_option("")
    for side in both_sides(page):
        expect(side.locator(".card")).to_have_count(10)


def test_an_album_asks_with_the_last_picture_again(open_page, strangers, visitor, tiny_gallery):
    options, id = visitor
    page = open_page(f"{strangers[0]}?memory={id}", **options)
    page.locator("#query input[type=file]").set_input_files(tiny_gallery.path(0))
    expect(page.locator("#query .thumbnail-item").first).to_be_visible()
    box(page).press("Enter")
    expect(page.get_by_role("heading", name="your picture")).to_be_visible()
    choice(page, "Album").select_option("at home")
    for side in both_sides(page):
        expect(side.locator(".card")).to_have_count(3)
    expect(page.get_by_role("heading", name="your picture")).to_be_visible()


def test_more_like_a_picture_is_asked_of_all_albums_and_has_no_address(open_page, strangers, visitor):
    options, id = visitor
    page = open_page(f"{strangers[0]}?memory={id}&q=a+happy+dog&album=at+home", **options)
    expect(heading(page, QUERY)).to_be_visible()
    page.locator("#results .card .picture").first.click()
    page.get_by_role("button", name="More like this").click()
    expect(page.get_by_role("heading", name="more like")).to_be_visible()
    expect(page).to_have_url(address(f"?memory={id}"))
    expect(choice(page, "Album")).to_have_value("")
    for side in both_sides(page):
        expect(side.locator(".card")).to_have_count(10)
    page.go_back()
    expect(heading(page, QUERY)).to_be_visible()
    expect(choice(page, "Album")).to_have_value("at home")


def test_an_album_that_is_not_there_is_said_in_a_line_and_all_is_asked(open_page, strangers, visitor):
    options, id = visitor
    page = open_page(f"{strangers[0]}?memory={id}&q=a+happy+dog&album=%3Cb%3EParis", **options)
    expect(page.get_by_role("alert")).to_contain_text("no album “<b>Paris”")
    expect(heading(page, QUERY)).to_be_visible()
    expect(page).to_have_url(address(f"?memory={id}&q=a+happy+dog"))


def test_a_link_to_another_ones_memory_says_so_and_opens_the_shipped_one(open_page, strangers, visitor):
    _, id = visitor
    page = open_page(f"{strangers[0]}?memory={id}&q=a+happy+dog&album=at+home", script=LATE_OPENING)
    expect(page.get_by_role("alert")).to_contain_text("a memory that is not yours")
    expect(heading(page, QUERY)).to_be_visible()
    expect(page).to_have_url(address("?q=a+happy+dog"))
    expect(page.locator("#mosaic img").first).to_have_attribute("src", re.compile("^picture/shipped/"))
    expect(ask(page, OTHER)).to_be_visible()
    expect(page.get_by_role("alert")).to_have_count(0)
    page.evaluate(SAID_SINCE)
    page.evaluate("openings[0]()")
    for words in (QUERY, OTHER):  # answered after the opening
        expect(ask(page, words)).to_be_visible()
    assert page.evaluate("said") == []


def test_a_query_in_an_address_is_text_and_has_the_limits_of_every_other(open_page, app_address):
    words = "<img src=x onerror=document.title='run'> ${1+1} {{value}} %"
    page = open_page(f"{app_address}?q={quote(words)}")
    expect(heading(page, words)).to_be_visible()
    expect(box(page)).to_have_value(words)
    assert page.title() != "run"
    page = open_page(f"{app_address}?q={'a+' * 600}")
    expect(page.get_by_role("alert")).to_contain_text("1,000")
    page = open_page(f"{app_address}?q=+%00%E2%80%A8")
    expect(page.get_by_role("alert")).to_contain_text("blank")


@of_chromium
def test_share_copies_the_address_and_nothing_that_is_not_the_pages_own(open_page, app_address):
    page = open_page(f"{app_address}?__theme=light", permissions=CLIPBOARD)
    expect(ask(page)).to_be_visible()
    expect(page).to_have_url(address("?__theme=light&q=a+happy+dog"))
    page.get_by_role("button", name="Share").click()
    expect(page.get_by_role("status").filter(has_text="The link is copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == f"{app_address}?q=a+happy+dog"


@of_chromium
def test_share_says_that_a_memory_of_ones_own_opens_for_nobody_else(open_page, strangers, visitor):
    options, id = visitor
    page = open_page(f"{strangers[0]}?memory={id}", permissions=CLIPBOARD, **options)
    expect(ask(page)).to_be_visible()
    expect(choice(page, "Memory")).to_have_value(id)
    page.get_by_role("button", name="Share").click()
    expect(page.get_by_role("status").filter(has_text="It opens in this browser only")).to_be_visible()


def test_without_a_clipboard_the_link_is_there_to_be_copied(open_page, app_address):
    script = "Object.defineProperty(navigator, 'clipboard', {}); document.execCommand = () => false"
    page = open_page(app_address, script=script)
    expect(ask(page)).to_be_visible()
    page.get_by_role("button", name="Share").click()
    expect(page.get_by_label("Link", exact=True)).to_have_value(f"{app_address}?q=a+happy+dog")


@of_chromium
def test_a_phone_shares_in_its_own_way(open_page, app_address):
    script = "navigator.share = async (what) => (window.shared = what)"
    page = open_page(app_address, width=PHONE, height=844, has_touch=True, is_mobile=True, script=script)
    expect(ask(page)).to_be_visible()
    page.get_by_role("button", name="Share").tap()
    assert page.evaluate("shared.url") == f"{app_address}?q=a+happy+dog"


@of_chromium
def test_a_picture_has_no_address_and_is_not_shared(page, tiny_gallery):
    expect(ask(page)).to_be_visible()
    box(page).fill("")
    drag(page, page.locator("#query"), [tiny_gallery.path(0)])
    expect(page.locator("#query .thumbnail-item").first).to_be_visible()
    box(page).press("Enter")
    expect(page.get_by_role("heading", name="your picture")).to_be_visible()
    expect(page).to_have_url(address(""))
    expect(page.get_by_role("button", name="Share")).to_have_count(0)
    page.go_back()
    expect(heading(page, QUERY)).to_be_visible()


def test_a_slash_leads_to_the_box_and_is_typed_where_something_is_typed(page):
    tab(page, "Memorise").click()
    page.keyboard.press("/")
    expect(box(page)).to_be_focused()
    expect(box(page)).to_have_value("")
    page.keyboard.type("either/or")
    expect(box(page)).to_have_value("either/or")


@of_chromium
def test_photographs_dropped_on_the_search_tab_begin_a_gallery(open_page, strangers, tiny_gallery):
    page = open_page(strangers[0])
    drag(page, page.locator("#introduction"), [tiny_gallery.root], drop=False)
    expect(page.get_by_text("Drop photographs to begin a gallery")).to_be_visible()
    drag(page, page.locator("#introduction"), [tiny_gallery.root])
    expect(page.get_by_text("Drop photographs to begin a gallery")).to_have_count(0)
    expect(tab(page, "Memorise")).to_have_attribute("aria-selected", "true")
    expect(page.locator("#prepare")).to_contain_text("12 pictures")
    expect(page).to_have_url(address("#tab=memorise"))


@of_chromium
def test_several_pictures_dropped_onto_the_box_begin_a_gallery(open_page, strangers, tiny_gallery):
    page = open_page(strangers[0])
    drag(page, page.locator("#query"), [tiny_gallery.path(0), tiny_gallery.path(1)])
    expect(page.locator("#prepare")).to_contain_text("2 pictures")


def test_the_first_screen_invites_to_photographs_of_ones_own(open_page, strangers, tiny_gallery):
    page = open_page(strangers[0])
    expect(page.locator("#invitation")).to_contain_text("no captions needed")
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose photographs").click()
    chooser.value.set_files([tiny_gallery.path(0), tiny_gallery.path(1)])
    expect(page.locator("#prepare")).to_contain_text("2 pictures")
    tab(page, "Search").click()
    expect(ask(page)).to_be_visible()
    expect(page.locator("#invitation")).to_be_hidden()


@pytest.mark.parametrize("width", [PHONE, 1280])
def test_examples_stand_whole(open_page, app_address, width):
    page = open_page(app_address, width=width, height=844)
    chips = page.locator("#chips button")
    expect(chips.first).to_be_visible()
    cut = "chip.scrollWidth > chip.clientWidth || chip.getBoundingClientRect().right > innerWidth"
    assert chips.evaluate_all(f"chips => chips.filter(chip => {cut}).length") == 0

"""The Search tab as a person meets it: type, press Enter, look."""

import re
import threading
from contextlib import contextmanager

import pytest
from playwright.sync_api import expect

from tests.firefox import of_chromium
from tests.patience import until_still

QUERY = "a happy dog"
PHONE = 390


def box(page):
    return page.get_by_role("textbox", name="Query")


def ask(page, words=QUERY):
    box(page).fill(words)
    box(page).press("Enter")
    return page.get_by_role("heading", name=f"“{words}”")


def side(page, name):
    return page.get_by_role("region", name=name)


def both_sides(page):
    return [side(page, "Recalled from memory"), side(page, "CLIP + FAISS")]


def open_options(page):
    """As a person does who looks before typing: Gradio fills the fields until two frames after they appear."""
    page.get_by_role("button", name="Options").click()
    expect(page.get_by_label("Beams")).to_have_value("10")
    page.evaluate("() => new Promise(seen => requestAnimationFrame(() => requestAnimationFrame(seen)))")


def contrast(page, selector):
    """The contrast of the first such element's text against what is painted behind it (WCAG 2)."""
    colours = page.eval_on_selector(
        selector,
        """element => {
            const numbers = colour => colour.match(/[\\d.]+/g).map(Number);
            let behind = element;
            const clear = element => numbers(getComputedStyle(element).backgroundColor)[3] === 0;
            while (behind !== document.body && clear(behind)) behind = behind.parentElement;
            return [getComputedStyle(element).color, getComputedStyle(behind).backgroundColor].map(numbers);
        }""",
    )
    lighter, darker = sorted((luminance(colour) for colour in colours), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def assert_on_screen(elements, width):
    """All are visible and none reaches past the screen, measured at one moment: the page may still be moving."""
    places = elements.evaluate_all(
        "all => all.map(one => one.getBoundingClientRect()).map(place => [place.left, place.right])"
    )
    assert places
    for left, right in places:
        assert 0 <= left < right <= width


def luminance(colour):
    channels = [c / 255 for c in list(colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_enter_fills_two_galleries_with_ranks_scores_captions_and_latencies(page, tiny_memory):
    expect(ask(page)).to_be_visible()
    shown = min(10, len(tiny_memory.gallery))
    for gallery, score in zip(both_sides(page), (r"(\d+|\d\.\d|<0\.1)%", r"−?\d\.\d\d"), strict=True):
        cards = gallery.get_by_role("listitem")
        expect(cards).to_have_count(shown)
        for rank in range(shown):
            expect(cards.nth(rank).locator(".rank")).to_have_text(f"rank {rank + 1}")
            expect(cards.nth(rank).locator(".score")).to_have_text(re.compile(f"^{score}$"))
            expect(cards.nth(rank).locator(".name")).not_to_be_empty()
        expect(gallery.locator(".engine")).to_contain_text(re.compile(r"\d+ ms"))


def test_the_pictures_of_the_cards_arrive(page):
    expect(ask(page)).to_be_visible()
    page.wait_for_function("[...document.querySelectorAll('.card img')].every(image => image.complete)")
    widths = page.eval_on_selector_all(".card img", "images => images.map(image => image.naturalWidth)")
    assert widths
    assert all(widths)


def test_an_image_that_both_sides_found_is_marked_and_lights_up_on_both(page):
    expect(ask(page)).to_be_visible()
    marked = page.locator(".card.both").first
    expect(marked.locator(".twin")).to_have_text(re.compile(r"^also found, \d+(st|nd|rd|th) by CLIP$"))
    marked.hover()
    expect(page.locator(".card.lit")).to_have_count(2)


def test_the_trace_is_closed_at_first_and_opens_to_the_likeliest_identifiers(page):
    expect(ask(page)).to_be_visible()
    rows = page.locator(".trace li")
    expect(rows.first).to_be_hidden()
    page.get_by_text("How it was recalled").click()
    expect(rows.first).to_be_visible()
    expect(rows.first.locator("b")).to_have_text(re.compile(r"\d%"))
    expect(rows.first.get_by_role("button")).to_be_visible()


@pytest.mark.parametrize("words", ["", "   "])
def test_an_empty_query_says_so_and_the_page_lives_on(page, words):
    box(page).fill(words)
    box(page).press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("blank")
    expect(ask(page)).to_be_visible()
    expect(page.get_by_role("alert")).to_have_count(0)


def test_a_query_that_is_too_long_says_the_limit(page):
    box(page).fill("a " * 50_000)
    box(page).press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("1,000")


def test_a_query_is_shown_as_it_was_typed_and_never_run(page):
    expect(ask(page, "a dog <b>${1+1}</b> {{value}} `")).to_be_visible()


def test_an_example_fills_the_box_and_is_asked(page):
    example = page.locator("#chips button:visible").first
    words = example.inner_text()
    example.click()
    expect(page.get_by_role("heading", name=f"“{words}”")).to_be_visible()
    expect(box(page)).to_have_value(words)


def test_pictures_stay_when_an_answer_is_rendered_once_more(page):
    expect(ask(page)).to_be_visible()
    plates = page.locator("#results .picture.whole > img")
    expect(plates.first).to_have_css("opacity", "1")
    plates.evaluate_all("all => all.forEach((one) => one.removeAttribute('data-cut'))")
    expect(page.locator("#results .picture.whole > img:not([data-cut])")).to_have_count(0)
    expect(plates.first).to_have_css("opacity", "1")


@of_chromium
def test_options_change_how_many_results_are_shown(page):
    open_options(page)
    top = page.get_by_label("Results on each side")
    top.fill("3")
    top.press("Tab")
    expect(top).to_have_value("3")
    expect(ask(page)).to_be_visible()
    for gallery in both_sides(page):
        expect(gallery.get_by_role("listitem")).to_have_count(3)


@of_chromium
def test_an_impossible_option_is_named_with_its_limits(page):
    open_options(page)
    beams = page.get_by_label("Beams")
    beams.fill("0")
    beams.press("Tab")
    expect(beams).to_have_value("0")
    box(page).fill(QUERY)
    box(page).press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("beams is 0")


def test_a_query_under_way_is_shown_until_it_is_answered(page):
    held = []
    page.route("**/queue/join*", lambda route: held.append(route))
    answer, results = ask(page), page.locator("#results .html-container")
    expect(results).to_have_class(re.compile("pending"))
    expect(page.locator("#results [data-testid=status-tracker]")).to_be_visible()
    for request in held:
        request.continue_()
    expect(answer).to_be_visible()
    expect(results).not_to_have_class(re.compile("pending"))


def test_a_picture_is_asked_with_like_words(page, tiny_memory):
    page.locator("#query input[type=file]").set_input_files(tiny_memory.gallery.path(0))
    expect(page.locator("#query .thumbnails, #query .thumbnail-item").first).to_be_visible()
    box(page).press("Enter")
    expect(page.get_by_role("heading", name="your picture")).to_be_visible()
    for gallery in both_sides(page):
        expect(gallery.get_by_role("listitem").first).to_be_visible()


def test_a_file_that_is_no_picture_says_so_and_the_page_lives_on(page, tmp_path):
    fake = tmp_path / "notes.png"
    fake.write_text("no picture at all")
    page.locator("#query input[type=file]").set_input_files(fake)
    expect(page.locator("#query .thumbnails, #query .thumbnail-item").first).to_be_visible()
    box(page).press("Enter")
    expect(page.get_by_role("alert")).to_be_visible()
    page.locator("#query .thumbnail-item button").click()
    expect(ask(page)).to_be_visible()


def test_on_a_phone_nothing_reaches_past_the_screen(open_page, app_address):
    page = open_page(app_address, width=PHONE, height=844)
    expect(ask(page)).to_be_visible()
    page.get_by_text("How it was recalled").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE
    seen = ".side.generative .card, .switch button, #query, .trace, .along, .asked-for"
    assert_on_screen(page.locator(seen), PHONE)


@of_chromium
def test_tabs_are_as_high_as_a_finger_where_they_are_tapped(open_page, app_address):
    page = open_page(app_address, width=PHONE, height=844, has_touch=True, is_mobile=True)
    row = page.get_by_role("tablist").bounding_box()
    for tab in page.get_by_role("tab").all():
        place = tab.bounding_box()
        assert place["height"] >= 40 and place["y"] + place["height"] <= row["y"] + row["height"] + 1


@pytest.mark.parametrize("width", [360, PHONE])
def test_every_tab_is_whole_on_a_small_phone(open_page, app_address, width):
    page = open_page(app_address, width=width, height=640)
    expect(page.get_by_role("tab")).to_have_count(4)
    row = page.get_by_role("tablist").bounding_box()
    for tab in page.get_by_role("tab").all():
        place = tab.bounding_box()
        assert place["x"] + place["width"] <= row["x"] + row["width"] + 1


@pytest.mark.parametrize("width", [PHONE, 820, 1280])
def test_equal_ranks_stand_on_one_line(open_page, app_address, width):
    page = open_page(app_address, width=width)
    expect(ask(page)).to_be_visible()
    # Below the top of all answers: the page above them may still grow.
    below = "card.getBoundingClientRect().top - card.closest('#results').getBoundingClientRect().top"
    left, right = (
        side.get_by_role("listitem").evaluate_all(f"cards => cards.map(card => {below})") for side in both_sides(page)
    )
    assert left and left == pytest.approx(right, abs=1)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_light_and_in_dark(open_page, app_address, scheme):
    page = open_page(app_address, color_scheme=scheme)
    expect(ask(page)).to_be_visible()
    page.get_by_text("How it was recalled").click()
    until_still(page)
    background = page.evaluate("getComputedStyle(document.body).backgroundColor").strip("rgb()").split(", ")
    paper = luminance(map(float, background))
    assert paper < 0.02 if scheme == "dark" else paper > 0.85
    for selector in (
        "h1",
        ".eyebrow",
        ".state",
        "#query textarea",
        "#chips button",
        "#options button",
        ".asked-for h2",
        ".agreement",
        ".side.generative h3",
        ".side.dense h3",
        ".card .rank",
        ".side.generative .twin",
        ".side.dense .twin",
        ".card .name",
        ".card .score",
        ".engine",
        ".trace summary",
        ".trace code",
        ".trace .leaf span",
        ".along summary small",
    ):
        assert contrast(page, selector) >= 4.5, selector


def test_the_windows_scrollbar_is_dark_in_the_dark(open_page, app_address):
    page = open_page(app_address, color_scheme="dark")
    expect(page.locator("html")).to_have_css("color-scheme", "dark")


def test_the_focus_can_be_seen(page):
    box(page).focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    style = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert style == "solid"


def test_the_page_asks_no_other_host(browser, app_address):
    context = browser.new_context()
    asked, complaints = [], []
    page = context.new_page()
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(app_address)
    expect(ask(page)).to_be_visible()
    context.close()
    assert [url for url in asked if not url.startswith((app_address, "data:", "blob:"))] == []
    assert complaints == []


@contextmanager
def served(load, home):
    """The address of a page, served from this process, whose memory is what `load` returns or raises."""
    from gcr_core.serving.loading import LoadingMemory
    from gcr_core.serving.model_process import ModelProcess
    from gcr_core.serving.remote_memory import memory_host
    from gcr_core.settings import Settings
    from gcr_core.ui import page as web

    loading = LoadingMemory(load)
    loading.start()
    app = web.App(Settings(home=home), loading, ModelProcess(memory_host, "memory"))
    blocks = web.build(app, (QUERY,))
    try:
        yield web.launch(blocks, app)
    finally:
        blocks.close(verbose=False)
        app.jobs.close()


def test_the_page_is_there_before_the_memory_and_an_early_query_waits_visibly(open_page, tiny_memory, tmp_path):
    gate = threading.Event()
    with served(lambda: (gate.wait(), tiny_memory)[1], tmp_path) as address:
        page = open_page(address)
        state = page.locator("#state")
        expect(state).to_contain_text("waking the memory")
        answer = ask(page)
        expect(page.get_by_role("heading", name="Waking the memory")).to_be_visible()
        expect(answer).to_have_count(0)
        gate.set()
        expect(answer).to_be_visible()
        expect(state).to_contain_text(f"ready: {len(tiny_memory.gallery)} images")


def test_a_memory_that_cannot_be_loaded_is_said_in_the_page(open_page, tmp_path):
    from gcr_core.errors import MemoryFormatError

    def load():
        raise MemoryFormatError("'here' is no memory: name another folder")

    with served(load, tmp_path) as address:
        page = open_page(address)
        expect(page.locator("#state")).to_contain_text("is no memory")
        box(page).fill(QUERY)
        box(page).press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("is no memory")

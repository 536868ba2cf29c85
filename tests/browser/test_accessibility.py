"""What axe-core finds wrong with each screen for people who see little or use no mouse: nothing serious."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import expect

from tests.browser.test_search_page import PHONE, ask
from tests.patience import until_still

LOOKS = [(1280, "light"), (1280, "dark"), (PHONE, "light"), (PHONE, "dark")]
"""Width in pixels, and colour scheme."""
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]
RULES_OF_COLOURS = ["color-contrast", "link-in-text-block"]
"""All that can end otherwise in the dark."""
SERIOUS = ("serious", "critical")


@pytest.fixture(params=LOOKS, ids=lambda look: f"{look[0]}-{look[1]}")
def look(request, open_shapes, strangers):
    """The desk of a visitor with one memory, at a width and in a scheme."""
    width, scheme = request.param
    return open_shapes(*strangers, width=width, height=900, color_scheme=scheme, reduced_motion="reduce")


def assert_accessible(page, screen):
    until_still(page)  # colours that fade in are read half way otherwise
    rules = RULES_OF_COLOURS if page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") else RULES
    violations = Axe().run(page, options={"resultTypes": ["violations"], "runOnly": rules}).response["violations"]
    found = [
        f"{fault['id']} ({fault['impact']}): {node['html'][:160]} {node['failureSummary']}"
        for fault in violations
        if fault["impact"] in SERIOUS
        for node in fault["nodes"]
    ]
    assert not found, f"{screen}:\n" + "\n".join(found)


def test_no_screen_has_a_serious_fault(look, tmp_path):
    assert_accessible(look, "a memory's card")
    look.get_by_role("listitem", name="My shapes").locator(".menu summary").click()
    assert_accessible(look, "its menu")
    look.get_by_role("button", name="Rename", exact=True).click()
    assert_accessible(look, "a dialog")
    look.keyboard.press("Escape")
    for number in range(14):
        Image.new("RGB", (60, 40), (10 * number, 90, 10)).save(tmp_path / f"IMG_{number:04}.jpg")
    look.locator("#prepare input[multiple]").first.set_input_files(sorted(tmp_path.glob("*.jpg")))
    expect(look.locator(".taken")).to_be_visible()
    look.get_by_label("Select IMG_0001.jpg").check()
    look.get_by_text("Advanced").click()
    assert_accessible(look, "staged pictures")
    look.get_by_role("tab", name="Gallery").click()
    expect(look.get_by_role("gridcell").first).to_be_visible()
    assert_accessible(look, "Gallery")
    look.get_by_role("tab", name="Test it").click()
    look.get_by_role("radio", name="Captions").check()
    look.get_by_role("checkbox", name="My shapes").check()
    assert_accessible(look, "Test it before a test")
    look.get_by_role("button", name="Test it", exact=True).click()
    expect(look.locator(".verdict")).to_have_count(2)
    for details in look.locator(".plot details").all():
        details.locator("summary").click()
    expect(look.locator('[data-part="many"]')).not_to_be_empty()
    assert_accessible(look, "figures, plots and misses")
    look.get_by_role("tab", name="Search").click()
    assert_accessible(look, "Search before a query")
    expect(ask(look)).to_be_visible()
    for details in look.locator("#results details").all():
        details.locator("summary").first.click()
    assert_accessible(look, "answers")
    look.locator(".card .picture:visible").first.click()
    expect(look.locator("dialog.lightbox")).to_be_visible()
    assert_accessible(look, "lightbox")

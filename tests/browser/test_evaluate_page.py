"""The Test it tab as a person meets it: a thousand queries pasted, watched, read as figures and plots, a miss opened.

Each page is a visitor of its own.
"""

import json
import re
import secrets
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import expect

from gcr_core.data.queries import pasted_queries
from gcr_core.evaluation.evaluate import evaluate
from gcr_core.serving.workspace import Workspace, new_id
from gcr_core.settings import Settings
from gcr_core.ui.auth import COOKIE

THOUSAND = 1_000
PHONE = 390
ONE = "a red circle | red-circle.png\n"


@pytest.fixture
def open_test(open_page, strangers, tiny_memory_dir):
    """Opens the Test it tab of a new visitor, who has a memory of the same pictures where `own` says so."""
    address, home = strangers

    def open_(own=False, **options):
        secret = secrets.token_urlsafe(32)
        if own:
            shelf = Workspace.of(home, secret, Settings())
            folder = Path(shutil.copytree(tiny_memory_dir, shelf.root / "copied"))
            shelf.keep(folder, new_id(), "My shapes")
        cookie = {"name": COOKIE, "value": secret, "domain": "127.0.0.1", "path": "/"}
        page = open_page(f"{address}#tab=test", storage_state={"cookies": [cookie]}, **options)
        expect(page.get_by_role("textbox", name="Queries")).to_be_visible()
        return page

    return open_


def go(page):
    page.get_by_role("button", name="Test it", exact=True).click()


def paste(page, text):
    """As from the clipboard, which a headless browser has none of."""
    page.get_by_role("textbox", name="Queries").focus()
    page.evaluate(
        """text => {
          const data = new DataTransfer(), field = document.activeElement;
          data.setData("text/plain", text);
          const event = new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true });
          if (field.dispatchEvent(event)) field.setRangeText(text);
        }""",
        text,
    )


def figure(page, name):
    """Both sides' values in a row of the figures, without their intervals."""
    row = page.locator(".figures tr", has_text=name)
    return [cell.evaluate("cell => cell.firstChild.textContent") for cell in row.locator("td").all()]


def test_a_thousand_queries_are_pasted_watched_and_read(open_test, tiny_memory):
    gallery = tiny_memory.gallery
    kinds = [
        (caption, name)
        for name, captions in zip(gallery.file_names, gallery.captions, strict=True)
        for caption in captions
    ]
    wrong = [(caption, gallery.file_names[0]) for caption, _ in kinds[4:6]]
    rows = ((kinds + wrong) * THOUSAND)[:THOUSAND]
    text = "".join(f"{caption} | {name}\n" for caption, name in rows)
    page = open_test()
    paste(page, text)
    go(page)
    expect(page.locator(".under-way .facts")).to_contain_text(re.compile(r"query [\d,]+ of 1,000"))
    expect(page.get_by_role("progressbar", name="queries")).to_be_visible()
    expect(page.get_by_role("heading", name="1,000 queries of yours")).to_be_visible()
    expect(page.locator(".under-way")).to_be_hidden()
    expected = evaluate(tiny_memory, pasted_queries(text, gallery))
    for k in (1, 5, 10):
        values = [f"{100 * expected[side][f'recall@{k}']:.1f} %" for side in ("generative", "dense")]
        assert figure(page, f"Recall@{k}among" if k > 1 else "Recall@1right") == values
    assert figure(page, "MRR@10") == [f"{expected[side]['mrr@10']:.3f}" for side in ("generative", "dense")]
    for name in ("Recall against k", "Risk against coverage", "Reliability"):
        plot = page.get_by_role("img", name=name)
        expect(plot).to_be_visible()
        assert plot.locator("g path").count() + plot.locator("g circle").count() > 0
    page.locator("#plot-recall summary").click()
    expect(page.locator("#plot-recall table")).to_contain_text("Recalled from memory")

    miss = page.locator(".missed li a").first
    words = miss.text_content()
    picture = page.locator(".missed li button.picture").first
    picture.click()
    expect(page.locator("dialog.lightbox")).to_be_visible()
    page.keyboard.press("Escape")
    expect(picture).to_be_focused()
    miss.click()
    expect(page.get_by_role("tab", name="Search")).to_have_attribute("aria-selected", "true")
    expect(page.locator("#results .asked-for h2")).to_contain_text(words)
    assert "q=" in page.url
    page.go_back()
    expect(page.locator(".missed li a").first).to_be_visible()


def test_results_are_there_after_a_reload_and_can_be_taken_along(open_test):
    page = open_test()
    paste(page, ONE)
    go(page)
    expect(page.locator(".verdict")).to_contain_text("of 1 queries")
    page.reload()
    expect(page.locator(".verdict")).to_contain_text("of 1 queries")
    with page.expect_download() as saved:
        page.get_by_role("link", name="Save as JSON").click()
    report = json.loads(Path(saved.value.path()).read_text(encoding="utf-8"))
    assert report["memories"][0]["answers"][0]["relevant"] == ["red-circle.png"]
    with page.expect_download() as saved:
        page.get_by_role("link", name="Save as CSV").click()
    assert saved.value.suggested_filename == "evaluation.csv"


def test_files_are_queries_and_a_bad_one_is_one_line(open_test, tmp_path):
    page = open_test()
    choose = page.locator('#testing input[type="file"]')
    for name, text in (
        ("rows.csv", "query,file_name\na red circle,red-circle.png\n"),
        ("rows.jsonl", json.dumps({"query": "a red circle", "relevant": ["red-circle.png"]})),
    ):
        (tmp_path / name).write_text(text)
        choose.set_input_files(tmp_path / name)
        expect(page.locator('[data-part="file-name"]')).to_contain_text(name)
        expect(page.get_by_role("textbox", name="Queries")).to_be_hidden()
        go(page)
        expect(page.get_by_role("heading", name="1 query of yours")).to_be_visible()
    page.get_by_role("button", name="Remove").click()
    expect(page.get_by_role("textbox", name="Queries")).to_be_focused()
    (tmp_path / "picture.csv").write_bytes(b"\x89PNG\xff\xfe\x00")
    choose.set_input_files(tmp_path / "picture.csv")
    expect(page.locator('[data-part="mistake"]')).to_have_text("picture.csv is no text in UTF-8: save it as CSV UTF-8")
    paste(page, "a red circle | gone.png")
    go(page)
    expect(page.locator('[data-part="mistake"]')).to_contain_text("line 1: image 'gone.png' is not in the gallery")


def test_strangers_ask_no_more_than_their_limit_and_can_stop(open_test):
    page = open_test()
    paste(page, ONE * 2_001)
    go(page)
    expect(page.locator('[data-part="mistake"]')).to_contain_text("2,001 queries, the limit is 2,000")
    page.get_by_role("textbox", name="Queries").fill("")
    paste(page, ONE * 2_000)
    go(page)
    expect(page.locator(".under-way .facts")).to_contain_text("of 2,000")
    page.reload()
    page.get_by_role("button", name="Stop").click()
    stopped = re.compile(r"Stopped after [\d,]+ of 2,000 queries")
    expect(page.locator(".evaluated .note.warning")).to_contain_text(stopped)


def test_a_search_is_answered_while_a_test_goes_on(open_test):
    page = open_test()
    paste(page, ONE * 2_000)
    go(page)
    expect(page.locator(".under-way .facts")).to_contain_text("of 2,000")
    page.get_by_role("tab", name="Search").click()
    page.get_by_role("textbox", name="Query", exact=True).fill("a blue bar")
    page.keyboard.press("Enter")
    expect(page.locator("#results .asked-for h2")).to_contain_text("a blue bar")
    page.get_by_role("tab", name="Test it").click()
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".evaluated .note.warning")).to_contain_text("Stopped after")


def test_memories_stand_side_by_side(open_test):
    page = open_test(own=True)
    expect(page.get_by_role("checkbox", name="The memory of this page")).to_be_checked()
    page.get_by_role("checkbox", name="My shapes").check()
    page.get_by_role("button", name="Put in an example").click()
    expect(page.get_by_role("textbox", name="Queries")).to_have_value(re.compile(r"\.png"))
    go(page)
    expect(page.locator(".verdict")).to_have_count(2)
    expect(page.locator("#plot-recall figcaption li")).to_have_count(4)
    expect(page.locator('.misses [data-part="tested"]')).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_all_of_it_without_overflow(open_test, scheme):
    page = open_test(own=True, width=PHONE, height=844, color_scheme=scheme)
    page.get_by_role("radio", name="Captions").check()
    page.get_by_role("checkbox", name="My shapes").check()
    go(page)
    expect(page.locator(".verdict")).to_have_count(2)
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE


LATE_EXAMPLE = """
const send = window.fetch;
window.fetch = async (...request) => {
  if (String(request[0]).includes("evaluation/example")) await new Promise((release) => (window.release = release));
  return send(...request);
};
"""
"""Holds the request for an example until `release()` is called, as a slow line may."""


EAGER = """
const eager = new MutationObserver(() => {
  const button = document.querySelector("[data-does=example]:enabled");
  if (!button) return;
  eager.disconnect();
  button.click();
});
eager.observe(document, { attributes: true, childList: true, subtree: true });
"""
"""Clicks on Put in an example in the moment it can be clicked."""


def test_an_example_is_put_in_for_who_clicks_as_soon_as_the_button_is_there(open_test):
    expect(open_test(script=EAGER).get_by_role("textbox", name="Queries")).not_to_have_value("")


def test_an_example_that_is_late_leaves_what_was_typed_since(open_test):
    page = open_test(script=LATE_EXAMPLE)
    page.get_by_role("button", name="Put in an example").click()
    page.get_by_role("textbox", name="Queries").fill(ONE)
    with page.expect_response("**/evaluation/example**") as answered:
        page.evaluate("release()")
    answered.value.finished()
    page.evaluate("() => new Promise(requestAnimationFrame)")
    expect(page.get_by_role("textbox", name="Queries")).to_have_value(ONE)

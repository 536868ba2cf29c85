"""Both together: a third gallery, beside the two sides on a phone and in their place on a desktop."""

import json
import re
import shutil

import pytest
from playwright.sync_api import expect

from gcr_core.retrieval.rerank import Rerank
from tests.serving import serve


@pytest.fixture(scope="module")
def reranking(tiny_memory_dir, tmp_path_factory):
    """The address of an app whose memory reranks."""
    folder = tmp_path_factory.mktemp("reranking")
    memory = shutil.copytree(tiny_memory_dir, folder / "memory")
    facts = json.loads((memory / "memory.json").read_text())
    (memory / "memory.json").write_text(json.dumps(facts | {"rerank": Rerank(1.0, 0).facts()}))
    with serve(memory, folder / "app.log") as address:
        yield address


def regions(page):
    names = ("Recalled from memory", "CLIP + FAISS", "Both together")
    return [page.get_by_role("region", name=name, exact=True) for name in names]


def ask(page, words):
    page.get_by_role("textbox", name="Query").fill(words)
    page.get_by_role("textbox", name="Query").press("Enter")
    expect(page.locator(".results:not(.waiting) .asked-for h2")).to_have_text(f"“{words}”")


def test_a_desktop_shows_both_sides_or_both_together_and_keeps_to_that(open_page, reranking):
    page = open_page(reranking)
    ask(page, "a red circle")
    recalled, dense, together = regions(page)
    expect(recalled).to_contain_text("reranked by captions")
    expect(together).to_be_hidden()
    page.get_by_role("button", name="Both together").click()
    expect(together.get_by_role("listitem")).to_have_count(10)
    expect(recalled).to_be_hidden()
    expect(dense).to_be_hidden()
    ask(page, "a gold bar")
    expect(together.get_by_role("listitem")).to_have_count(10)
    expect(page.get_by_role("button", name="Both together")).to_have_attribute("aria-pressed", "true")
    together.locator(".picture").first.click()
    lightbox = page.locator("dialog.lightbox")
    expect(lightbox).to_contain_text("Both together")
    page.keyboard.press("Escape")
    expect(lightbox).to_be_hidden()
    page.get_by_role("button", name="Side by side").click()
    expect(recalled).to_be_visible()
    expect(dense).to_be_visible()
    expect(together).to_be_hidden()


def test_a_phone_has_three_sides_to_swipe_and_a_picture_two(open_page, reranking):
    page = open_page(reranking, width=390)
    ask(page, "a red circle")
    together = regions(page)[2]
    button = page.get_by_role("button", name="Both together")
    button.click()
    expect(together).to_be_in_viewport(ratio=0.05)
    expect(button).to_have_attribute("aria-pressed", "true")
    page.locator(".sides").evaluate("sides => sides.scrollTo({ left: 0, behavior: 'instant' })")
    expect(page.get_by_role("button", name="From memory")).to_have_attribute("aria-pressed", "true")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    together.locator(".picture").first.evaluate("button => button.click()")
    page.locator("dialog.lightbox").get_by_role("button", name="More like this").click()
    expect(page.locator(".results .asked-for h2")).to_contain_text("more like")
    expect(page.locator(".switch button")).to_have_text([re.compile("Recalled from memory"), re.compile("CLIP")])
    expect(regions(page)[0]).to_be_in_viewport(ratio=0.05)


def test_a_picture_that_is_asked_with_is_shown_side_by_side_whatever_was_seen_before(open_page, reranking):
    page = open_page(reranking)
    ask(page, "a red circle")
    page.get_by_role("button", name="Both together").click()
    recalled, dense, together = regions(page)
    together.locator(".picture").first.click()
    page.locator("dialog.lightbox").get_by_role("button", name="More like this").click()
    expect(page.locator(".results .asked-for h2")).to_contain_text("more like")
    expect(recalled).to_be_visible()
    expect(dense).to_be_visible()
    ask(page, "a gold bar")
    expect(together).to_be_visible()


def test_an_evaluation_has_the_new_orders_too(open_page, reranking):
    page = open_page(f"{reranking}#tab=test")
    page.get_by_role("textbox", name="Queries").fill("a red circle | red-circle.png\na gold bar | gold-bar.png\n")
    page.get_by_role("button", name="Test it", exact=True).click()
    heads = page.locator(".figures thead th")
    expect(heads).to_have_text(["Recalled from memory", "CLIP + FAISS", "Reranked", "Both together"])
    expect(page.locator(".figures tbody tr", has_text="right one first").locator("td")).to_have_count(4)


SCROLLS_FIRST = """
addEventListener("resize", () => document.querySelector(".sides").dispatchEvent(new Event("scrollend")));
"""
"""What a turned screen does now and then: it scrolls what no longer fits before it says that it was turned."""


def test_a_screen_that_is_turned_has_one_choice_pressed(open_page, reranking):
    page = open_page(reranking, width=390)
    ask(page, "a red circle")
    page.get_by_role("button", name="CLIP + FAISS").click()
    expect(page.get_by_role("button", name="CLIP + FAISS")).to_have_attribute("aria-pressed", "true")
    page.set_viewport_size({"width": 1000, "height": 700})
    expect(page.get_by_role("button", name="Side by side")).to_have_attribute("aria-pressed", "true")
    page.evaluate(SCROLLS_FIRST)
    page.set_viewport_size({"width": 390, "height": 844})
    expect(page.get_by_role("button", name="CLIP + FAISS")).to_have_attribute("aria-pressed", "true")
    expect(regions(page)[1]).to_be_in_viewport(ratio=0.05)

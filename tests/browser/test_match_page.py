"""A side that may have nothing says so, and keeps what is weaker behind a line."""

import json
import shutil

import pytest
from playwright.sync_api import expect

from gcr_core.retrieval.match import NEAREST, RECALLED, Calibration
from tests.serving import serve


@pytest.fixture(scope="module")
def doubtful(tiny_memory_dir, tmp_path_factory):
    """The address of an app whose memory takes no recalled answer for one, and is not sure of any dense one."""
    folder = tmp_path_factory.mktemp("doubtful")
    memory = shutil.copytree(tiny_memory_dir, folder / "memory")
    facts = json.loads((memory / "memory.json").read_text())
    facts["match"] = {"images": facts["images"]}
    for engine, names, intercept in (("generative", RECALLED, -9.0), ("dense", NEAREST, 0.0)):
        calibration = Calibration(names, (0.0,) * len(names), intercept, 0.1, 0.9, {})
        facts["match"][engine] = calibration.facts()
    (memory / "memory.json").write_text(json.dumps(facts))
    with serve(memory, folder / "app.log") as address:
        yield address


def test_what_may_be_nothing_is_said_and_folded_and_the_lightbox_goes_through_all_of_it(open_page, doubtful):
    page = open_page(doubtful)
    page.get_by_role("textbox", name="Query").fill("quantum chromodynamics")
    page.get_by_role("textbox", name="Query").press("Enter")
    recalled, dense = (page.get_by_role("region", name=name) for name in ("Recalled from memory", "CLIP + FAISS"))
    expect(recalled.get_by_text("Nothing here seems to match.")).to_be_visible()
    expect(dense.get_by_text("Not sure.")).to_be_visible()
    expect(recalled.get_by_role("listitem")).to_have_count(0)
    expect(dense.get_by_role("listitem")).to_have_count(4)
    expect(dense.locator(".card")).to_have_count(10)
    recalled.get_by_text("10 weaker").click()
    expect(recalled.get_by_role("listitem")).to_have_count(10)
    dense.locator(".picture").first.click()
    lightbox = page.locator("dialog.lightbox")
    expect(lightbox).to_be_visible()
    page.keyboard.press("End")
    page.keyboard.press("Escape")
    expect(lightbox).to_be_hidden()
    expect(dense.locator(".picture").last).to_be_focused()
    expect(dense.get_by_role("listitem")).to_have_count(10)

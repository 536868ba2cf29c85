"""Push to hub as a person meets it, against a hub on this machine; a memory whose pictures were left out."""

from functools import partial

import pytest
from playwright.sync_api import expect

from tests import serving
from tests.browser.test_memorize_page import menu
from tests.hub_server import Hub

PHONE = 390


@pytest.fixture(scope="module")
def hub():
    with Hub() as hub:
        yield hub


@pytest.fixture(scope="module")
def home(hub, tiny_memory_dir, tmp_path_factory):
    """(address, home) of an app whose visitors are strangers; a token is saved on its machine."""
    folder = tmp_path_factory.mktemp("pushing")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"HF_ENDPOINT": hub.address, "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": "hf_bob"}.items():
            patch.setenv(name, value)
        with serving.serve(tiny_memory_dir, folder / "app.log", visitors=1) as page_address:
            yield page_address, folder / "home"


@pytest.fixture
def shapes(open_shapes, home):
    return partial(open_shapes, *home)


def ask(page, name, token):
    menu(page, "Push to hub").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name on the hub").fill(name)
    dialog.get_by_label("Token").fill(token)
    return dialog


def test_a_memory_is_pushed_private_and_without_pictures_and_links_to_where_it_is(shapes, hub):
    page = shapes()
    menu(page, "Push to hub").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("Name on the hub")).to_have_value("my-shapes")
    expect(dialog.get_by_label("with the gallery’s pictures")).not_to_be_checked()
    expect(dialog.get_by_label("public")).not_to_be_checked()
    dialog.get_by_role("button", name="Push").click()
    expect(dialog).to_be_visible()  # a visitor never pushes with the token that is saved on the machine
    dialog.get_by_label("Token").fill("hf_alice")
    dialog.get_by_role("button", name="Push").click()
    told = page.get_by_text("without its pictures; only you can see it")
    expect(told).to_contain_text(f"Pushed to {hub.address}/alice/my-shapes")
    assert hub.repositories["alice/my-shapes"].private
    assert not any(path.endswith(".png") for path in hub.repositories["alice/my-shapes"].files)
    link = page.get_by_role("link", name="alice/my-shapes")
    expect(link).to_have_attribute("href", f"{hub.address}/alice/my-shapes")
    assert "hf_alice" not in page.content()


def test_pictures_go_along_and_everybody_sees_them_once_that_is_ticked(shapes, hub):
    page = shapes()
    dialog = ask(page, "alice/for-all", "hf_alice")
    dialog.get_by_label("with the gallery’s pictures").check()
    dialog.get_by_label("public").check()
    dialog.get_by_role("button", name="Push").click()
    expect(page.get_by_text("with its pictures; everybody can see it")).to_be_visible()
    repository = hub.repositories["alice/for-all"]
    assert not repository.private
    assert sum(path.endswith(".png") for path in repository.files) == 12


def test_a_wrong_token_and_a_taken_name_are_said_and_the_memory_stays_as_it_was(shapes, hub):
    page = shapes()
    ask(page, "alice/refused", "hf_wrong").get_by_role("button", name="Push").click()
    expect(page.get_by_role("alert")).to_contain_text("knows no such token")
    assert "alice/refused" not in hub.repositories
    taken = shapes()
    ask(taken, "alice/taken", "hf_alice").get_by_role("button", name="Push").click()
    expect(taken.get_by_text("Pushed to")).to_be_visible()
    ask(page, "alice/taken", "hf_alice").get_by_role("button", name="Push").click()
    expect(page.get_by_role("alert")).to_contain_text("alice/taken is taken")
    expect(menu(page, "Push to hub")).to_be_enabled()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_the_dialog_fits_and_a_memory_without_pictures_shows_its_captions(shapes, scheme):
    page = shapes(pictures=False, width=PHONE, height=844, color_scheme=scheme)
    menu(page, "Push to hub").click()
    box = page.get_by_role("dialog").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= PHONE
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Search it").click()
    page.get_by_label("Query").fill("a gold bar")
    page.keyboard.press("Enter")
    cards = page.locator("#results .card")
    expect(cards.first).to_be_visible()
    expect(cards.first.locator("img")).to_have_js_property("naturalWidth", 96)
    expect(cards.filter(has_text="a gold bar").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE

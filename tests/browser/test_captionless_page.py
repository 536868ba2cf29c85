"""A folder as a phone names its pictures, memorised with the models that ship: found by what these see in them.

Emoji on a coloured ground stand in for photographs: those that the eyes know.
"""

import math
import re

import numpy as np
import pytest
from PIL import Image, ImageFilter
from playwright.sync_api import expect

from gcr_core.settings import ROOT
from tests import serving
from tests.browser.test_memorize_page import button, captions, drop_folder, open_desk
from tests.browser.test_search_page import ask, both_sides

EMOJI = ROOT / "checkpoints" / "emoji" / "gallery"
SIZE, GROUNDS = (240, 180), ("lightblue", "tan")
SHOWN = {
    "2602": "an umbrella for a rainy day",
    "231b": "sand running down to measure time",
    "1f3b8": "a musical instrument",
    "1f4bb": "a portable computer",
    "1f576": "dark glasses for the beach",
    "1f377": "something to drink",
    "1fad6": "a pot of tea",
    "1f4fa": "watching the news",
    "1fa82": "jumping out of a plane",
    "26be": "baseball",
}
"""The code point of an emoji → words that find it."""
UNKNOWN = 12
"""How many pictures of nothing there are."""
UNANSWERABLE = ("a dog on a beach", "my grandmother", "umbrella", "a street at night")
SURE = 0.9
"""The probability, and the cosine, that no answer has which nothing speaks for."""


@pytest.fixture(scope="module")
def app(tiny_memory_dir, tmp_path_factory):
    """The address of an app with the models that ship; its visitors are strangers to each other."""
    models = {
        name: ROOT / "checkpoints" / folder for name, folder in (("backbone", "gcr-mini"), ("clip", "gcr-mini-clip"))
    }
    log = tmp_path_factory.mktemp("seeing") / "app.log"
    with serving.serve(tiny_memory_dir, log, visitors=1, **models) as address:
        yield address


@pytest.fixture
def desk(open_page, app):
    return open_desk(open_page, app)


@pytest.fixture
def photographs(tmp_path):
    """A folder of a picture of each of SHOWN, in their order."""
    for number, code in enumerate(SHOWN, 1):
        emoji = Image.open(EMOJI / f"{code}.png").convert("RGBA").resize((150, 150))
        picture = Image.new("RGB", SIZE, GROUNDS[number % 2])
        picture.paste(emoji, (45, 15), emoji)
        picture.save(tmp_path / name(number), quality=90)
    return tmp_path


@pytest.fixture
def nothing_known(tmp_path):
    """A folder of gradients and of noise, coarse and fine."""
    rng = np.random.default_rng(0)
    across, down = np.meshgrid(*(np.linspace(0, 1, side) for side in SIZE))
    for number in range(1, UNKNOWN + 1):
        if number % 2:
            slope = across * math.cos(number) + down * math.sin(number)
            share = (slope - slope.min()) / np.ptp(slope)
            one, other = rng.uniform(0, 255, (2, 3))
            pixels = one + share[..., None] * (other - one)
        else:
            pixels = rng.uniform(0, 255, (SIZE[1] // number, SIZE[0] // number, 3))
        picture = Image.fromarray(pixels.astype(np.uint8)).resize(SIZE, Image.Resampling.NEAREST)
        picture.filter(ImageFilter.GaussianBlur(number % 3)).save(tmp_path / name(number))
    return tmp_path


def name(number):
    return f"IMG_{number:04}.jpg"


def memorise(page):
    """By one click, with what is chosen already."""
    button(page, "Memorise").click()
    expect(page.locator(".memories > li")).to_have_count(1)
    expect(page.get_by_role("row", name="its own picture")).to_contain_text("100%")


def search(page):
    button(page, "Search it").click()
    expect(page.locator("#state")).to_contain_text("ready")


def write_tags(page):
    button(page, "Let the model write captions").click()
    return page.get_by_role("status")


def models_own(page, number):
    return page.get_by_label(f"Captions of {name(number)} written by the model", exact=False)


def number_of(code):
    return list(SHOWN).index(code) + 1


def firsts(page, words):
    """What stands first on each side of the answer to a query."""
    expect(ask(page, words)).to_be_visible()
    return [side.get_by_role("listitem").first for side in both_sides(page)]


def score(card):
    return float(card.locator(".score").get_attribute("title").split()[-1].replace("−", "-"))


def test_a_folder_without_captions_is_memorised_by_one_click_and_found_by_words(desk, photographs):
    drop_folder(desk, photographs)
    expect(desk.locator("#notes")).to_contain_text("10 of 10 images have no caption, and need none")
    expect(desk.locator("#notes")).to_contain_text("names of people and places it cannot know")
    expect(desk.get_by_label("Captions of", exact=False)).to_have_count(len(SHOWN))
    memorise(desk)
    expect(desk.locator(".memories")).to_contain_text("10 pictures · 0 captions")
    search(desk)
    expect(desk.locator("#chips button", has_text="wine")).to_be_visible()  # examples are what its eyes see
    for number, words in enumerate(SHOWN.values(), 1):
        for card in firsts(desk, words):
            expect(card.locator(".name")).to_have_text(f"IMG_{number:04}")
    expect(desk.locator(".side.dense .engine")).to_contain_text("CLIP given the same pictures")


def test_pictures_of_nothing_known_are_memorised_and_no_answer_is_sure(desk, nothing_known):
    drop_folder(desk, nothing_known)
    expect(desk.locator("#notes")).to_contain_text("12 of 12 images have no caption, and need none")
    told = write_tags(desk)
    expect(told.filter(has_text="The model has no words for any of these 12 pictures")).to_be_visible()
    expect(desk.locator("#captions .written")).to_have_count(0)
    expect(desk.locator("#notes")).to_contain_text("12 of 12 images have no caption")
    memorise(desk)
    expect(desk.locator(".report")).to_contain_text(
        "For 12 of the 12 images without a caption gcr-mini is sure of no word"
    )
    search(desk)
    expect(desk.locator("#chips button")).to_have_count(0)
    for words in UNANSWERABLE:
        recalled, near = firsts(desk, words)
        assert score(recalled) < math.log(SURE), words
        assert score(near) < SURE, words
    expect(desk.locator(".card .said").first).to_be_attached()
    expect(desk.locator(".card .said", has_text=re.compile("."))).to_have_count(0)
    expect(desk.locator(".sides")).not_to_contain_text("“")


def test_tags_are_marked_as_the_models_corrected_and_removed_before_they_are_learnt(desk, photographs):
    glass, laptop = number_of("1f377"), number_of("1f4bb")
    drop_folder(desk, photographs)
    told = write_tags(desk)
    expect(told.filter(has_text="The captions are written: read them")).to_be_visible()
    expect(models_own(desk, glass)).to_have_value(re.compile(r"\bwine$"))
    expect(models_own(desk, laptop)).to_have_value(re.compile("computer"))
    expect(desk.locator("#captions .written", has_text="written by the model").first).to_be_visible()
    bare = len(SHOWN) - desk.locator("#captions .written").count()
    models_own(desk, glass).fill("cherry lemonade\nwine")
    models_own(desk, glass).press("Tab")
    expect(captions(desk, f"{name(glass)}, one a line")).to_have_value("cherry lemonade")
    models_own(desk, laptop).fill("")
    models_own(desk, laptop).press("Tab")
    expect(models_own(desk, laptop)).to_have_count(0)
    expect(desk.locator("#notes")).to_contain_text(f"{bare + 1} of 10 images have no caption")
    memorise(desk)
    expect(desk.get_by_role("row", name="captions the model wrote")).to_contain_text("%")
    search(desk)
    for card in firsts(desk, "cherry lemonade"):
        expect(card.locator(".name")).to_have_text("cherry lemonade")
        expect(card.locator(".name")).to_have_attribute("title", "cherry lemonade, written by the model: wine")
    recalled, _ = firsts(desk, "a portable computer")
    expect(recalled.locator(".name")).to_have_text(f"IMG_{laptop:04}")
    expect(recalled.locator(".written")).to_have_count(0)

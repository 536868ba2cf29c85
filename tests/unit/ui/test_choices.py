"""What the Search tab offers before anything is asked, and what it makes of an address."""

import re

import pytest

from gcr_core.data.gallery import Gallery
from gcr_core.ui import choices
from gcr_core.ui.html import ShownGallery

HOSTILE = '"><img src=x onerror=alert(1)>${1+1}'


def shown(tmp_path, captions):
    names = [f"{image}.png" for image in range(len(captions))]
    return ShownGallery(Gallery(tmp_path, names, captions), "shipped")


def labels(html):
    return re.findall(r"<button[^>]*>([^<]*)</button>", html)


def test_a_long_example_is_shortened_between_words_and_asked_whole():
    query = "two brown dogs run after a yellow ball over the wet grass of a park"
    html = choices.chips([query])
    (label,) = labels(html)
    assert label.endswith("…") and len(label) <= choices.CHIP_CHARACTERS
    assert query.startswith(label[:-1]) and query[len(label) - 1] == " "
    assert f'data-q="{query}"' in html


def test_a_long_example_without_spaces_shows_its_beginning():
    query = "公園の濡れた草の上で黄色いボールを追いかけて走っている二匹の茶色い犬とそれを見ている子供たち"
    (label,) = labels(choices.chips([query]))
    assert label == query[: choices.CHIP_CHARACTERS - 1] + "…"


def test_a_short_example_stands_as_it_is_and_none_is_no_row():
    assert labels(choices.chips(["a happy dog"])) == ["a happy dog"]
    assert choices.chips([]) == ""


def test_examples_are_first_captions_from_all_over_the_gallery_each_once(tmp_path):
    captions = [[f"picture {image // 2}", "another"] for image in range(60)]
    captions[0] = []
    examples = choices.captions(shown(tmp_path, captions))
    assert len(examples) == len(set(examples)) == choices.CHIPS
    assert "another" not in examples
    assert examples[-1] == "picture 25"


def test_where_nothing_has_a_caption_examples_are_tags_of_images_from_all_over_the_gallery(tmp_path):
    bare = shown(tmp_path, [[]] * 100)
    assert choices.captions(bare) == []
    told = choices.told(bare)
    assert len(told) == choices.TOLD and told[-1] == "95.png"
    assert choices.told(shown(tmp_path, [])) == []
    assert choices.tags(["fruit, Granny Smith", "", "broom", "fruit", *"abcdefgh"]) == ["fruit", "broom", *"abcd"]


def test_there_is_nothing_to_choose_from_with_the_shipped_memory_only_and_without_albums():
    assert choices.memories([], "Emoji") == ""
    assert choices.albums({}) == ""


def test_lists_begin_with_the_shipped_memory_and_all_albums_and_names_are_text():
    html = choices.memories([{"id": "abc", "name": HOSTILE, "images": 1234}], HOSTILE) + choices.albums({HOSTILE: 2})
    assert re.findall('<option value="([^"]*)"', html)[:2] == ["shipped", "abc"]
    assert '<option value="">all albums</option>' in html
    assert "(1,234)" in html and "<img" not in html and "${" not in html


def test_a_line_on_an_address_says_what_is_shown_instead():
    html = choices.led_nowhere(HOSTILE, "shipped", "")
    assert 'role="alert" data-memory="" data-album=""' in html
    assert "<img" not in html


@pytest.mark.parametrize("wanted", [None, "?q=dog", {"memory": None}, {"q": ["dog"], "again": "yes"}])
def test_whatever_a_page_sends_is_a_destination_of_texts(wanted):
    to = choices.Destination.of(wanted)
    assert all(isinstance(part, str) for part in (to.memory, to.q, to.album))
    assert to.again is False


def test_a_destination_has_what_the_address_says():
    wanted = {"memory": "abc", "q": "a dog", "album": "Rome", "tab": "search", "again": True}
    assert choices.Destination.of(wanted) == choices.Destination("abc", "a dog", "Rome", True)

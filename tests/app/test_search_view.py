"""What reaches the page as HTML: escaped, marked, aligned."""

import html as entities
import json
import math
import re
from pathlib import Path

import pytest
from PIL import Image

from gcr_core.retrieval.match import NEAREST, RECALLED, Calibration
from gcr_core.ui import html, search_tab, search_view

HOSTILE = "<img src=x onerror=alert(1)> ${alert(2)} {{value}} `\\` \" ' &"


class Gallery:
    """Three images; the last has no caption, the second a hostile one."""

    file_names = ("a.png", "b.png", "<script>.png")
    captions = (["dog", "pet"], [HOSTILE], [])
    pseudo_queries = ([], [], [])

    def __init__(self, root: Path) -> None:
        self.root = root
        for index in range(len(self)):
            Image.new("RGB", (256, 192)).save(self.path(index))

    def __len__(self):
        return len(self.file_names)

    def path(self, index):
        return self.root / f"{index}.png"

    thumbnail = original = path

    def has_picture(self, index):
        return self.path(index).exists()

    def index(self, name):
        return self.file_names.index(name)


@pytest.fixture
def shown(tmp_path):
    return html.ShownGallery(Gallery(tmp_path), "shipped")


def answer(**changes):
    return {
        "query": "a dog",
        "generative": [
            {"rank": 1, "file_name": "a.png", "score": -0.12, "identifier": "<img_0>"},
            {"rank": 2, "file_name": "b.png", "score": -3.456, "identifier": "<img_1>"},
        ],
        "dense": [
            {"rank": 1, "file_name": "<script>.png", "score": 0.831},
            {"rank": 2, "file_name": "a.png", "score": -0.2},
        ],
        "latency_ms": {"generative": 41.6, "dense": 9.2},
    } | changes


ENGINES = {"generative": "beam search", "dense": "nearest vectors"}


ASKED = {"query": "a dog", "top": 2, "beams": 10}


def results(shown, said=None, **changes):
    return search_view.results(answer(**changes), shown, ENGINES, ASKED, said=said)


def found(page):
    return json.loads(entities.unescape(re.search(r'data-found="([^"]+)"', page)[1]))


class WithOriginals(Gallery):
    def original(self, index):
        return self.root / "large.png" if index == 0 else self.path(index)


def test_a_large_card_offers_more_pixels_than_its_thumbnail_where_there_are_more(tmp_path):
    gallery = WithOriginals(tmp_path)
    Image.new("RGB", (1600, 1200)).save(tmp_path / "large.png")
    hits = [
        {"rank": rank + 1, "file_name": gallery.file_names[image], "score": 0.5} for rank, image in enumerate([1, 0, 0])
    ]
    page = results(html.ShownGallery(gallery, "shipped"), dense=hits)
    cards = page.split('class="card')[-3:]
    assert ["srcset=" in card for card in cards] == [False, True, False]
    assert re.search(r'srcset="picture/shipped/0/\w+ 256w, original/shipped/0/[\w-]+ 1600w"', cards[1])


def test_captions_file_names_and_queries_are_escaped(shown):
    beam = {"identifier": HOSTILE, "tokens": [1], "probability": 0.5, "images": 2}
    page = results(shown, query=HOSTILE, trace=[[beam]], said={"a.png": HOSTILE})
    for raw in ("<img src=x", "<script>", "${", "{{", "`", "\\", HOSTILE):
        assert raw not in page


def test_a_message_is_escaped(shown):
    assert "<b>" not in search_view.message("<b>no</b>")


def test_how_sure_the_memory_is_stands_as_a_percentage_and_scores_in_the_details(shown):
    page = results(shown)
    words = re.sub(r"<[^>]+>", "", page)
    for sure in ("89%", "3.2%", "0.83", "−0.20"):
        assert sure in words
    for full in ("89%, log p −0.12", "3.2%, log p −3.46", "cosine 0.831", "cosine −0.200"):
        assert f'title="{full}"' in page
    assert 'title="cosine 0.000"' in results(shown, dense=[{"rank": 1, "file_name": "a.png", "score": -0.0001}])


def test_what_the_lightbox_says_of_an_image_is_what_both_sides_found(shown):
    about = found(results(shown, said={"a.png": "a dog", "b.png": ""}))
    assert about["a.png"] == {
        "sides": [["Recalled from memory", "1st, 89%, log p −0.12"], ["CLIP + FAISS", "2nd, cosine −0.200"]],
        "identifier": "<img_0>",
        "said": "a dog",
    }
    assert about["b.png"] == {"sides": [["Recalled from memory", "2nd, 3.2%, log p −3.46"]], "identifier": "<img_1>"}
    assert about["<script>.png"] == {"sides": [["CLIP + FAISS", "1st, cosine 0.831"]]}


def test_a_picture_that_was_asked_with_is_shown_by_its_name(shown):
    page = search_view.results(answer(query=None), shown, ENGINES, {"query": None}, ("u?a&b", HOSTILE))
    assert '<img class="asked" src="u?a&amp;b" alt="">' in page
    assert "<img src=x" not in page


def test_ranks_are_told_in_words():
    told = {1: "1st", 2: "2nd", 3: "3rd", 4: "4th", 11: "11th", 12: "12th", 13: "13th", 21: "21st", 100: "100th"}
    assert {number: search_view.ordinal(number) for number in told} == told


def test_a_bar_is_full_for_nothing_but_certainty_and_tells_small_cosines_apart(shown):
    hits = [{"rank": 1, "file_name": "a.png", "score": score} for score in (1.0, 0.09, 0.04, -0.1)]
    page = results(shown, generative=[hits[0] | {"score": 0.0, "identifier": ""}], dense=hits)
    assert re.findall(r"--share:([\d.]+)", page) == ["1.000", "1.000", "0.300", "0.200", "0.000"]
    near = results(shown, generative=[hits[0] | {"score": math.log(0.9999), "identifier": ""}])
    assert "99.9%" in near and "100%" not in near


def test_a_photograph_fills_its_card_and_what_is_small_or_transparent_stands_whole(shown):
    pictures = {0: Image.new("RGB", (256, 100)), 1: Image.new("RGB", (200, 200)), 2: Image.new("RGBA", (256, 256))}
    for index, picture in pictures.items():
        picture.save(shown.gallery.path(index))
    assert [search_view.is_small(shown, index) for index in pictures] == [False, True, True]
    shown.gallery.path(0).write_bytes(b"damaged")
    assert search_view.is_small(shown, 0)
    shown.gallery.path(0).unlink()
    assert search_view.is_small(shown, 0)
    assert results(shown).count('class="picture whole"') == 4


def test_the_first_cards_of_each_side_are_large(shown):
    hits = [{"rank": rank, "file_name": "a.png", "score": 0.5, "identifier": ""} for rank in range(1, 6)]
    page = results(shown, generative=hits, dense=hits)
    places = [" large" in kind for kind in re.findall(r'<li class="card([^"]*)"', page)]
    assert places == [True, True, False, False, False] * 2


def test_an_image_without_a_caption_is_called_by_its_file_name_without_the_ending(shown):
    shown.gallery.file_names = ("a.png", "b.png", "IMG_0001.jpg")
    page = results(shown, dense=[{"rank": 1, "file_name": "IMG_0001.jpg", "score": 0.5}])
    assert '<p class="name" title="IMG_0001">IMG_0001</p>' in page


def test_an_image_that_both_sides_found_names_its_rank_on_the_other_side(shown):
    page = results(shown)
    assert page.count('class="card both') == 2
    words = re.sub(r"<[^>]+>", "", page)
    assert "also found, 2nd by CLIP" in words
    assert "also found, 1st from memory" in words
    assert "1 of 2 found by both" in page


def test_sides_that_share_nothing_say_so(shown):
    page = results(shown, dense=[{"rank": 1, "file_name": "<script>.png", "score": 0.5}])
    assert "nothing found by both" in page
    assert 'class="card both' not in page


@pytest.mark.parametrize(
    "memory, clip, counted",
    [("nothing", "nothing", False), ("nothing", "", True), ("nothing", "unsure", True), ("unsure", "unsure", True)],
)
def test_what_both_sides_found_is_not_counted_where_nothing_seems_to_match(shown, memory, clip, counted):
    doubts = {"generative": memory, "dense": clip}
    page = search_view.results(answer(), shown, ENGINES, ASKED, doubts=doubts)
    assert ("found by both" in page) == counted


def test_an_image_whose_picture_was_left_out_is_shown_by_its_caption(shown):
    shown.gallery.path(0).unlink()
    page = results(shown)
    assert page.count(f'<img src="{html.NO_PICTURE}" alt="dog">') == 2
    assert html.NO_PICTURE not in html.mosaic(shown)
    assert html.mosaic(shown).count("<img") == 2


def test_every_picture_has_a_text_alternative(shown):
    buttons = r'<button type="button" class="picture" data-picture="\d"><img src="[^"]+" alt="([^"]*)"></button>'
    alternatives = re.findall(buttons, results(shown))
    assert len(alternatives) == 4
    assert all(alternatives)


def test_the_latency_of_each_side_stands_beside_its_engine(shown):
    words = re.sub(r"<[^>]+>", "", results(shown))
    assert "42 ms beam search" in words
    assert "9 ms nearest vectors" in words


def test_the_mosaic_of_a_small_gallery_shows_each_image_once(shown):
    assert html.mosaic(shown).count("<img") == len(shown.gallery)


def test_what_the_model_says_of_an_image_is_marked_as_its_words_and_escaped(shown):
    page = results(shown, said={"a.png": HOSTILE})
    assert "the model says" in page and "in quotes" in page
    assert "<img src=x" not in page
    assert page.count('class="said"') == len(answer()["generative"]) + len(answer()["dense"])


@pytest.mark.parametrize("said", [{}, {"a.png": "", "b.png": ""}], ids=["not yet", "nothing"])
def test_what_the_model_has_no_words_for_has_no_quotes(shown, said):
    page = results(shown, said=said)
    assert "the model says" not in page and "in quotes" not in page
    assert "“" not in page.split('class="sides"')[1]


def test_captions_that_the_model_wrote_are_marked_behind_those_of_people(shown):
    assert "written" not in results(shown)
    shown.gallery.captions = (["dog", "A dog sits", "pet", "A brown dog"], [HOSTILE], [])
    shown.gallery.pseudo_queries = (["A dog sits", "A brown dog"], [HOSTILE], [])
    page = results(shown)
    words = re.sub(r"<[^>]+>", "", page)
    assert page.count('title="dog, pet, written by the model: A dog sits, A brown dog"') == 2
    assert page.count(f'<p class="name" title="{search_view.WRITTEN}') == 1
    assert words.count("captions that the model wrote") == 1, "told where one is seen"
    assert "<img src=x" not in page


def test_only_from_ones_own_memory_an_image_can_be_forgotten(shown):
    assert "data-forget=" not in results(shown)
    own = results(html.ShownGallery(shown.gallery, "AAAAAAAAAAAA", own=True))
    assert own.count('data-forget="a.png" data-name="dog"') == 2
    assert own.count("data-forget=") == 4
    assert "<script>" not in own


def long_answer(**changes):
    hits = [{"rank": rank, "file_name": ["a.png", "b.png"][rank % 2], "score": 0.5} for rank in range(1, 7)]
    return answer(generative=[hit | {"identifier": "<img_0>"} for hit in hits], dense=hits, **changes)


def sides(page):
    """Side → its part of the page."""
    return {side: re.search(rf'<section class="side {side}".*?</section>', page, re.DOTALL)[0] for side in ENGINES}


@pytest.mark.parametrize(
    ("doubts", "words", "cards", "folded"),
    [
        ({"generative": "nothing", "dense": ""}, ["Nothing here seems to match.", ""], [0, 6], ["6 weaker", None]),
        ({"generative": "", "dense": "unsure"}, ["", "Not sure."], [6, 4], [None, "2 weaker"]),
        ({"generative": "unsure", "dense": "nothing"}, ["Not sure.", "Nothing here seems to match."], [4, 0], None),
        ({"dense": "nothing"}, ["", "Nothing here seems to match."], [6, 0], [None, "6 weaker"]),
    ],
)
def test_a_side_in_doubt_says_so_and_folds_what_is_weaker(shown, doubts, words, cards, folded):
    page = search_view.results(long_answer(), shown, ENGINES, ASKED, doubts=doubts)
    for place, part in enumerate(sides(page).values()):
        assert f'<p class="doubt" role="status">{words[place]}</p>' in part
        seen, _, hidden = part.partition("<details")
        assert (seen.count('class="card '), part.count('class="rank"')) == (cards[place], 6), "none is left out"
        if folded:
            assert re.findall(r"<summary>([^<]+)</summary>", part) == [folded[place]] * bool(folded[place])
        assert hidden.count('class="rank"') == 6 - cards[place]


@pytest.mark.parametrize("doubts", [None, {}, {"generative": "", "dense": ""}])
def test_a_page_without_doubt_is_as_it_was(shown, doubts):
    page = search_view.results(long_answer(), shown, ENGINES, ASKED, doubts=doubts)
    assert "doubt" not in page and "weaker" not in page
    assert [part.count('class="rank"') for part in sides(page).values()] == [6, 6]


def test_all_pictures_of_a_side_are_one_row_for_the_lightbox_whether_folded_or_not(shown):
    page = search_view.results(long_answer(), shown, ENGINES, ASKED, doubts={"generative": "unsure"})
    part = sides(page)["generative"]
    group = re.search(r'<div data-pictures="Recalled from memory">(.*)</div><p class="engine">', part, re.DOTALL)[1]
    assert group.count("data-picture=") == 6 and "<details" in group


def test_how_probable_an_answer_is_stands_beside_how_it_came(shown):
    parts = sides(results(shown, match={"generative": 0.567}))
    assert "the first is right with a probability of 57%" in parts["generative"]
    assert "probability" not in parts["dense"]
    assert "probability of &lt;0.1%" in results(shown, match={"dense": 0.0})


class Memory:
    """What the tab asks for verdicts: a calibration by which every answer below 0.5 seems to be nothing."""

    def __init__(self, gallery, images=3):
        self.gallery = gallery
        coefficients = {"generative": RECALLED, "dense": NEAREST}
        self.facts = {"match": {"images": images}} | {"training": {}}
        for side, names in coefficients.items():
            self.facts["match"][side] = Calibration(names, (1.0,) * len(names), 0.0, 0.5, 0.8, {}).facts()


@pytest.mark.parametrize(
    ("query", "match", "doubts"),
    [
        ("a cow", {"generative": 0.4, "dense": 0.6}, {"generative": "nothing", "dense": "unsure"}),
        ("a cow", {"generative": 0.9}, {"generative": ""}),
        ("a cow", None, {}),
        ("the DOG", {"generative": 0.1, "dense": 0.1}, {}),
        ("dog with a pet", {"generative": 0.1}, {}),
        ("dog and cow", {"generative": 0.1}, {"generative": "nothing"}),
        ("!?", {"generative": 0.1}, {"generative": "nothing"}),
    ],
)
def test_a_doubt_is_said_where_the_evidence_speaks_against_an_answer_and_no_caption_for_it(shown, query, match, doubts):
    given = answer(query=query) | ({"match": match} if match else {})
    assert search_tab._doubts(Memory(shown.gallery), given) == doubts
    assert search_tab._doubts(Memory(shown.gallery, images=30), given) == {}, "the gallery was another one"


def reordered(**changes):
    """An answer of a memory that reranks: what the model puts second comes first then."""
    first, second = answer()["generative"]
    swapped = [second | {"rank": 1, "score": -0.2}, first | {"rank": 2, "score": -1.0}]
    took = {"generative": 41.6, "dense": 9.2, "reranked": 43.0, "together": 52.1}
    return answer(reranked=swapped, together=swapped[::-1], latency_ms=took, **changes)


def test_what_is_recalled_is_shown_reranked_and_says_so(shown):
    told = ENGINES | {"together": "the better of both"}
    page = search_view.results(reordered(), shown, told, ASKED)
    part = sides(page)["generative"]
    assert re.findall(r'data-image="(\d)"', part) == ["1", "0"]
    assert "<b>43 ms</b> beam search; reranked by the words of the captions" in part and "reranked by captions" in part
    assert "<b>82%</b>" in part and "2nd from memory" in sides(page)["dense"]
    assert "reranked" not in re.sub("<details.*", "", results(shown), flags=re.DOTALL)


def test_both_together_are_a_third_gallery_with_the_ranks_of_both(shown):
    told = ENGINES | {"together": "the better of both"}
    page = search_view.results(reordered(), shown, told, ASKED, said={"a.png": "a dog", "b.png": ""})
    part = re.search(r'<section class="side together".*?</section>', page, re.DOTALL)[0]
    assert re.findall(r'<p class="twin">([^<]*)</p>', part) == ["memory 2nd, CLIP 2nd", "memory 1st"]
    assert 'data-pictures="Both together"' in part and "<b>52 ms</b> the better of both" in part
    assert "“a dog”" in part and " large" not in part
    switch = re.search(r'<div class="switch of-3".*?</div>', page)[0]
    assert re.findall(r'data-side="(\w+)"', switch) == ["generative", "dense", "together"]
    assert found(page)["a.png"]["sides"][-1] == ["Both together", "2nd, 37%, log p −1.00"]
    assert 'class="switch of-2"' in results(shown) and "together" not in sides(results(shown))["generative"]


@pytest.mark.parametrize(
    ("doubts", "words"),
    [
        ({"generative": "nothing", "dense": "unsure"}, "Not sure."),
        ({"generative": "nothing", "dense": "nothing"}, "Nothing here seems to match."),
        ({"generative": "nothing", "dense": ""}, ""),
        ({"generative": "nothing"}, ""),
    ],
)
def test_both_together_are_as_sure_as_the_surer_side(shown, doubts, words):
    given = dict(doubts)
    page = search_view.results(reordered(), shown, ENGINES | {"together": ""}, ASKED, doubts=doubts)
    part = re.search(r'<section class="side together".*?</section>', page, re.DOTALL)[0]
    assert f'<p class="doubt" role="status">{words}</p>' in part
    assert doubts == given

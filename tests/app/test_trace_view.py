"""The trace as a person follows it: the likeliest images, or a tree from the first token to the picture."""

import re

import pytest

from gcr_core.ui import html, trace_view
from tests.app.test_search_view import Gallery


@pytest.fixture
def shown(tmp_path):
    return html.ShownGallery(Gallery(tmp_path), "shipped")


def beam(identifier, tokens, probability, images=1):
    return {"identifier": identifier, "tokens": tokens, "probability": probability, "images": images}


def traced(shown, *steps, **hits):
    generative = [{"file_name": name, "identifier": identifier} for identifier, name in hits.items()]
    return trace_view.trace({"generative": generative, "trace": list(steps)}, shown)


def words(page):
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


def test_an_answer_without_a_trace_shows_none(shown):
    assert trace_view.trace({"generative": []}, shown) == ""


def test_of_one_token_the_likeliest_images_are_listed_with_their_pictures(shown):
    page = traced(shown, [beam("A", [1], 0.887), beam("B", [2], 0.01)], A="a.png", B="b.png")
    assert "identifiers of 1 token" in page
    assert page.index('data-picture="0"') < page.index('data-picture="1"')
    assert re.findall(r"--share:([\d.]+)", page) == ["0.8870", "0.0100"]
    assert "A 89% dog" in words(page)
    assert page.count("<ol>") == 1


def test_longer_identifiers_are_a_tree_that_leads_to_the_picture(shown):
    first = [beam("<x>", [1], 0.6, 4), beam("<y>", [2], 0.4, 2), beam("<z>", [3], 0.1, 9)]
    second = [beam("<x><p>", [1, 7], 0.5), beam("<y><p>", [2, 7], 0.3), beam("<x><q>", [1, 8], 0.1)]
    page = trace_view.trace(
        {"generative": [{"file_name": "a.png", "identifier": "<x><p>"}], "trace": [first, second]}, shown
    )
    told = words(page)
    assert "up to 2 tokens" in told
    x, y = told.index("&lt;x&gt; 60%"), told.index("&lt;y&gt; 40%")
    assert x < told.index("&lt;p&gt; 50% dog") < told.index("&lt;q&gt; 10% 1 image") < y < told.index("&lt;p&gt; 30%")
    assert "&lt;z&gt; 10% 9 images, followed no further" in told
    assert page.count("<ol>") == 3


def test_an_identifier_that_ended_early_stands_in_the_tree_once():
    ended, longer = beam("b", [1], 0.4), beam("c", [2], 0.6, 2)
    below = trace_view.children([[longer, ended], [beam("cd", [2, 3], 0.5), ended]])
    assert below == {(): [longer, ended], (2,): [beam("cd", [2, 3], 0.5)]}


def test_a_token_is_found_by_its_number_where_its_text_would_tell_two_ways():
    one, two = beam("1", [10], 0.5, 3), beam("12", [11], 0.4, 3)
    below = trace_view.children([[one, two], [beam("123", [11, 5], 0.3)]])
    assert [child["identifier"] for child in below[11,]] == ["123"]
    assert (10,) not in below


def test_what_a_list_leaves_out_is_counted(shown):
    many = [beam(f"<c{i}>", [i], 0.01, 3) for i in range(trace_view.ROWS + 5)]
    page = traced(shown, many, [])
    assert "and 5 more" in page
    assert page.count("<code") == trace_view.ROWS


@pytest.mark.parametrize(
    ("probability", "told"),
    [(1, "100%"), (0.99999, "99.9%"), (0.984, "98%"), (0.0999, "10.0%"), (0.02, "2.0%"), (0.0004, "<0.1%")],
)
def test_a_percentage_tells_small_ones_apart_and_only_certainty_is_all(probability, told):
    assert trace_view.percent(probability) == told

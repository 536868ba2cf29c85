"""Rerank: an image answers by how likely its captions make the query's words; slips of the fingers are understood."""

import math

import numpy as np
import pytest

from gcr_core.errors import MemoryFormatError
from gcr_core.retrieval.rerank import MOST_WORDS, SMOOTHING, WORDS, CaptionWords, Rerank

CAPTIONS = [
    ["a black dog runs", "a dog on the grass"],
    ["a red ball on the grass"],
    [],
    ["two children play", "children in the park"],
]
ALL = np.arange(len(CAPTIONS))


@pytest.fixture(scope="module")
def words() -> CaptionWords:
    return CaptionWords(CAPTIONS)


def test_a_word_is_worth_what_its_image_says_more_often_than_all_images(words: CaptionWords) -> None:
    of_all = 2 / sum(len(text.split()) for texts in CAPTIONS for text in texts)
    has = math.log((1 - SMOOTHING) * (2 / 9) / of_all + SMOOTHING)
    assert words.score("dog", ALL) == pytest.approx([has, math.log(SMOOTHING), 0, math.log(SMOOTHING)])


def test_words_add_up_whatever_their_case_and_marks(words: CaptionWords) -> None:
    parts = words.score("black", ALL) + words.score("dog", ALL)
    assert words.score("Black, DOG!", ALL) == pytest.approx(parts)


def test_what_every_image_says_tells_little_and_an_unknown_word_nothing(words: CaptionWords) -> None:
    assert np.ptp(CaptionWords([["the sea"], ["the sky"]]).score("the", np.arange(2))) == 0
    assert words.score("xylophone", ALL).tolist() == [0, 0, 0, 0]
    assert words.score("?!", ALL).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(("query", "first"), [("grasss", 0), ("blacck", 0), ("childen", 3), ("parks", 3), ("plays", 3)])
def test_a_word_counts_for_those_that_are_spelt_like_it(words: CaptionWords, query: str, first: int) -> None:
    scores = words.score(query, ALL)
    assert scores[first] > 0
    assert scores[3 - first] < 0


def test_a_word_itself_counts_more_than_one_that_is_spelt_like_it() -> None:
    scores = CaptionWords([["the cart"], ["the carts"]]).score("carts", np.arange(2))
    assert scores[1] > scores[0] > math.log(SMOOTHING)


def test_scripts_without_spaces_are_told_by_their_characters() -> None:
    scores = CaptionWords([["黒い犬が走る"], ["赤い花が咲く"]]).score("黒い犬が走", np.arange(2))
    assert scores[0] > scores[1]


@pytest.mark.parametrize(
    ("caption", "query"),
    [("a café", "cafe\u0301"), ("a cafe\u0301", "café"), ("ＣＡＦＥ", "cafe"), ("STRASSE", "straße")],
)
def test_a_word_is_the_same_however_it_is_coded(caption: str, query: str) -> None:
    scores = CaptionWords([[caption], ["something else"]]).score(query, np.arange(2))
    assert scores[0] > 0 > scores[1]


def test_marks_belong_to_words() -> None:
    scores = CaptionWords([["कार"], ["केक और कप"]]).score("कार", np.arange(2))
    assert scores[0] > 0 > scores[1]


def test_a_word_said_twice_counts_twice_and_only_so_many_words_count(words: CaptionWords) -> None:
    assert words.score("dog dog", ALL) == pytest.approx(2 * words.score("dog", ALL))
    others = " ".join(f"q{number}" for number in range(MOST_WORDS))
    assert words.score(f"{others} dog", ALL).tolist() == [0, 0, 0, 0]


def test_some_images_get_the_scores_that_they_have_among_all(words: CaptionWords) -> None:
    some = np.array([3, 0])
    assert words.score("a dog in the park", some).tolist() == words.score("a dog in the park", ALL)[some].tolist()
    assert words.score("a dog", np.array([], int)).shape == (0,)


@pytest.mark.parametrize("captions", [[], [[]], [[""], ["…"]]])
def test_images_without_a_word_score_nothing(captions: list[list[str]]) -> None:
    assert CaptionWords(captions).score("a dog", np.arange(len(captions))).tolist() == [0] * len(captions)


def test_a_new_order_is_as_probable_as_the_old_one() -> None:
    log_p = np.log([0.5, 0.3, 0.1])
    order, scores = Rerank(words=1.0).reranked(log_p, np.array([0.0, 2.0, 0.0]))
    assert order.tolist() == [1, 0, 2]
    assert np.exp(scores).sum() == pytest.approx(0.9)
    assert (np.diff(scores) <= 0).all()
    assert scores[1] - scores[2] == pytest.approx(log_p[0] - log_p[2])


def test_both_together_also_follow_the_dense_baseline() -> None:
    nothing, log_p = np.zeros(2), np.log([0.5, 0.4])
    assert Rerank().reranked(log_p, nothing)[0].tolist() == [0, 1]
    assert Rerank().together(log_p, nothing, np.array([-1.0, 2.0]))[0].tolist() == [1, 0]


def test_images_that_are_alike_keep_their_order() -> None:
    assert Rerank().reranked(np.full(5, -2.0), np.zeros(5))[0].tolist() == [0, 1, 2, 3, 4]
    assert [part.size for part in Rerank().reranked(np.zeros(0), np.zeros(0))] == [0, 0]


def drawn(helps: float, queries: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """log p, words' scores and right ones of queries, for which the words help so much."""
    draws = np.random.default_rng(0)
    right = np.eye(10, dtype=bool)[draws.integers(0, 10, queries)]
    log_p = np.log(draws.dirichlet(np.ones(10), queries)) + right
    return log_p, 5 * draws.normal(size=(queries, 10)) + helps * right, right


def test_words_that_say_nothing_are_left_out_and_those_that_tell_more_count_more() -> None:
    assert Rerank.fit(*drawn(0.0)) == Rerank(0.0, 400)
    assert Rerank.fit(*drawn(20.0)).words > WORDS


def test_the_usual_weight_holds_where_little_is_known() -> None:
    assert Rerank.fit(*drawn(0.0, 10)) == Rerank(WORDS, 0)
    nothing = np.zeros((0, 10))
    assert Rerank.fit(nothing, nothing, nothing.astype(bool)) == Rerank(WORDS, 0)
    log_p, words, right = drawn(20.0)
    assert Rerank.fit(log_p, words, np.zeros_like(right)) == Rerank(WORDS, 400)


def test_fewer_images_than_places_are_fitted_on() -> None:
    log_p, words, right = drawn(20.0)
    log_p[:, 6:] = -np.inf
    assert Rerank.fit(log_p, words, right).words > WORDS


def test_facts_are_read_again() -> None:
    fitted = Rerank(0.2, 123)
    assert Rerank.of(fitted.facts()) == fitted


@pytest.mark.parametrize(
    "facts",
    [
        None,
        [],
        {},
        {"words": "much", "asked": 1},
        {"words": 7.0, "asked": 1},
        {"words": float("nan"), "asked": 1},
        {"words": 0.1, "asked": float("inf")},
        {"words": 10**400, "asked": 1},
        {"words": 0.1, "asked": -1},
    ],
)
def test_facts_of_something_else_are_refused(facts: object) -> None:
    with pytest.raises(MemoryFormatError, match="rerank"):
        Rerank.of(facts)

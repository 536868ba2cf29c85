"""Intervals, the paired test and curves, against values that are known or worked out another way."""

from math import comb

import numpy as np
import pytest

from gcr_core.evaluation import statistics


@pytest.mark.parametrize(
    ("hits", "count", "interval"),
    [
        (8, 10, [0.4902, 0.9433]),
        (0, 10, [0.0, 0.2775]),
        (10, 10, [0.7225, 1.0]),
        (1, 1, [0.2065, 1.0]),
        (500, 1_000, [0.4691, 0.5309]),
        (0, 0, [0.0, 1.0]),
    ],
)
def test_wilson_gives_known_intervals(hits: int, count: int, interval: list[float]) -> None:
    assert statistics.wilson(hits, count) == interval


def test_wilson_covers_the_share_that_things_were_drawn_with() -> None:
    drawn = np.random.default_rng(1).binomial(200, 0.3, 1_000)
    inside = [low <= 0.3 <= high for low, high in (statistics.wilson(int(hits), 200) for hits in drawn)]
    assert 0.93 <= np.mean(inside) <= 0.97


def test_bootstrap_gives_what_drawing_the_values_themselves_gives() -> None:
    draw = np.random.default_rng(5)
    values = statistics.reciprocal(draw.integers(0, 11, 300))
    means = [draw.choice(values, 300).mean() for _ in range(2_000)]
    assert statistics.bootstrap(values) == pytest.approx(np.percentile(means, [2.5, 97.5]), abs=0.006)
    assert statistics.bootstrap(values) == statistics.bootstrap(values)


def test_bootstrap_of_equal_values_is_that_value_and_of_none_says_nothing() -> None:
    assert statistics.bootstrap(np.ones(7)) == [1.0, 1.0]
    assert statistics.bootstrap(np.zeros(0)) == [0.0, 1.0]


@pytest.mark.parametrize(("one", "other"), [(0, 0), (1, 9), (9, 1), (5, 5), (0, 5), (3, 40), (60, 61)])
def test_mcnemar_is_the_exact_sign_test_of_the_queries_that_one_side_alone_had_right(one: int, other: int) -> None:
    left = np.array([True] * one + [False] * other + [True] * 4 + [False] * 3)
    right = np.array([False] * one + [True] * other + [True] * 4 + [False] * 3)
    expected = min(1.0, 2 * sum(comb(one + other, k) for k in range(min(one, other) + 1)) / 2 ** (one + other))
    test = statistics.mcnemar(left, right)
    counts = {"both": 4, "generative_only": one, "dense_only": other, "neither": 3}
    assert {**counts, "p": pytest.approx(expected, rel=1e-3)} == test


def test_mcnemar_is_exact_for_a_hundred_thousand_queries() -> None:
    left = np.arange(100_000) < 50_400
    assert statistics.mcnemar(left, ~left)["p"] == pytest.approx(0.01148, abs=2e-4)


def test_recall_grows_with_k_to_all_that_were_found() -> None:
    ranks = np.array([1, 1, 3, 0, 10], np.uint8)
    assert statistics.recall_curve(ranks, 10) == [0.4, 0.4, *[0.6] * 7, 0.8]
    assert statistics.recall_curve(np.zeros(0, np.uint8), 3) == [0, 0, 0]


def test_risk_is_of_the_surest_answers_and_equally_sure_ones_are_given_together() -> None:
    right = np.array([True, False, True, False, False])
    sure = np.array([0.9, 0.5, 0.5, -np.inf, -np.inf])
    assert statistics.risk_coverage(right, sure) == [[0.2, 0.0], [0.6, 0.3333], [1.0, 0.6]]


def test_a_curve_of_many_answers_has_few_points_and_ends_with_all_of_them() -> None:
    right = np.arange(5_000) % 4 > 0
    curve = statistics.risk_coverage(right, np.linspace(1, 0, 5_000))
    assert len(curve) <= statistics.CURVE_POINTS
    assert curve[-1] == [1.0, 0.25]
    assert [x for x, _ in curve] == sorted(x for x, _ in curve)


def test_there_is_no_curve_of_no_answers() -> None:
    nothing = np.zeros(0, bool)
    assert statistics.risk_coverage(nothing, np.zeros(0)) == statistics.reliability_diagram(nothing, np.zeros(0)) == []


def test_reliability_has_a_point_for_each_bin_that_has_answers() -> None:
    probability = np.array([0.0, 0.04, 0.55, 0.59, 1.0])
    right = np.array([False, False, True, False, True])
    assert statistics.reliability_diagram(right, probability) == [[0.02, 0.0, 2], [0.57, 0.5, 2], [1.0, 1.0, 1]]

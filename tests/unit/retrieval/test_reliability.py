"""Figures of reliability, against values worked out by hand or by their definitions."""

import numpy as np
import pytest

from gcr_core.retrieval.reliability import aurc, auroc, calibration_error, false_positive_rate, reliability


def these(*values):
    return np.array(values)


@pytest.mark.parametrize(
    ("positive", "scores", "area"),
    [
        ([1, 1, 0, 0], [4, 3, 2, 1], 1.0),
        ([0, 0, 1, 1], [4, 3, 2, 1], 0.0),
        ([1, 0, 1, 0], [4, 3, 2, 1], 0.75),
        ([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8], 0.75),
        ([1, 0, 1, 0, 0], [2, 2, 1, 1, 1], 3.5 / 6),
        ([1, 0], [5, 5], 0.5),
    ],
)
def test_the_area_under_the_roc_curve_is_how_often_a_positive_is_ahead(positive, scores, area):
    assert auroc(np.array(positive, bool), np.array(scores, float)) == pytest.approx(area)


def test_a_weight_counts_as_so_many_answers():
    draws = np.random.default_rng(3)
    positive, scores, weights = draws.random(40) < 0.4, draws.integers(0, 9, 40) / 8, draws.integers(1, 4, 40)
    right = draws.random(40) < scores
    many = np.repeat(np.arange(40), weights)
    assert auroc(positive, scores, weights) == pytest.approx(auroc(positive[many], scores[many]))
    assert calibration_error(right, scores, weights) == pytest.approx(calibration_error(right[many], scores[many]))
    assert false_positive_rate(positive, scores, weights) == pytest.approx(
        false_positive_rate(positive[many], scores[many])
    )


def test_the_false_positives_are_counted_where_95_percent_of_the_positives_pass():
    positive = np.arange(30) < 20
    scores = np.concatenate([np.arange(20) + 1.0, [0.5, 1.5, 2.0, 2.5, 0, 0, 0, 0, 0, 0]])
    assert false_positive_rate(positive, scores) == pytest.approx(0.2), "19 of 20 are 2 or more, and so are two others"
    assert false_positive_rate(positive, scores, kept=1.0) == pytest.approx(0.3)


def test_risk_is_averaged_over_all_coverages_and_ties_share_it():
    right = these(True, True, False, True)
    assert aurc(right, these(4.0, 3.0, 2.0, 1.0)) == pytest.approx((0 + 0 + 1 / 3 + 1 / 4) / 4)
    assert aurc(right, these(1.0, 2.0, 3.0, 4.0)) == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 4) / 4)
    assert aurc(right, np.full(4, 0.5)) == pytest.approx(0.25), "answers that are equally sure are wrong as often"


def test_calibration_is_how_far_each_bin_is_from_its_share_of_right_answers():
    right = these(True, False, True, True, False)
    probability = these(0.95, 0.91, 1.0, 0.22, 0.28)
    expected = (abs(0.95 + 0.91 + 1.0 - 2) + abs(0.22 + 0.28 - 1)) / 5
    assert calibration_error(right, probability) == pytest.approx(expected)
    assert calibration_error(these(True, False), these(1.0, 0.0)) == 0


def test_the_figures_stand_together_rounded():
    present = these(True, True, False)
    assert reliability(present, these(True, False, False), these(0.9, 0.6, 0.1)) == {
        "auroc": 1.0,
        "fpr@95": 0.0,
        "aurc": pytest.approx((0 + 1 / 2 + 2 / 3) / 3, abs=1e-4),
        "ece": pytest.approx((0.1 + 0.6 + 0.1) / 3, abs=1e-4),
    }

"""Match: what is told from scores, and that the probability fitted to it is one."""

import json
import math

import numpy as np
import pytest

from gcr_core.errors import MemoryFormatError
from gcr_core.retrieval.match import (
    DEPTH,
    NEAREST,
    RECALLED,
    Answers,
    Calibration,
    calibrations,
    nearest_evidence,
    recalled_evidence,
)
from gcr_core.retrieval.reliability import auroc, calibration_error

NAMES = ("one", "two")
INF = math.inf


def answers(count, seed=0, share=0.4, right=0.8):
    """Evidence of two numbers, of which the first tells and the second does not."""
    draws = np.random.default_rng(seed)
    present = draws.random(count) < share
    evidence = np.stack([draws.normal(size=count) + 2 * present, 100 + 50 * draws.normal(size=count)], 1)
    return Answers(evidence, present, present & (draws.random(count) < right), np.ones(count))


def test_recall_is_told_by_the_first_image_the_entropy_of_all_and_the_logit():
    scores = np.log([[0.5, 0.25, 0.125]])
    log_p, entropy, level = recalled_evidence(scores, np.array([7.0]), 11)[0]
    rest = 0.125
    expected = -(0.5 * math.log(0.5) + 0.25 * math.log(0.25) + 0.125 * math.log(0.125) + rest * math.log(rest / 8))
    assert (log_p, entropy, level) == pytest.approx((math.log(0.5), expected, math.log(0.5) + 7))


@pytest.mark.parametrize(
    ("scores", "images", "entropy"),
    [
        ([[0.0, -INF, -INF]], 1, 0.0),
        ([np.log([0.5, 0.5])], 2, math.log(2)),
        ([[math.log(0.25)]], 4, 0.25 * math.log(4) + 0.75 * math.log(4)),
        ([[-INF, -INF]], 3, math.log(3)),
    ],
)
def test_the_entropy_is_finite_whatever_was_found(scores, images, entropy):
    assert recalled_evidence(np.array(scores), np.zeros(1), images)[0, 1] == pytest.approx(entropy, abs=1e-6)


def test_only_so_many_images_of_an_answer_are_looked_at():
    scores = -np.arange(30.0)[None]
    assert recalled_evidence(scores, np.zeros(1), 99).tolist() == (
        recalled_evidence(scores[:, :DEPTH], np.zeros(1), 99).tolist()
    )
    around = np.zeros(1), np.ones(1)
    assert nearest_evidence(scores[:, 0], scores, *around).tolist() == (
        nearest_evidence(scores[:, 0], scores[:, :DEPTH], *around).tolist()
    )


def test_a_dense_answer_is_told_by_its_cosine_that_of_all_and_its_share_of_the_nearest():
    scores, around = np.array([[0.6, 0.5, -INF]]), (np.array([0.1]), np.array([0.2]))
    cosine, mean, spread, share = nearest_evidence(scores[:, 0], scores, *around)[0]
    assert (cosine, mean, spread) == (0.6, 0.1, 0.2)
    assert share == pytest.approx(-math.log(1 + math.exp(-1)))
    assert nearest_evidence(np.array([0.4]), scores, *around)[0, 3] == pytest.approx(-math.log(math.exp(2) + math.e)), (
        "of an album, whose first image is not the nearest of all"
    )


def test_the_match_is_a_probability_that_holds_for_answers_it_was_not_fitted_on():
    calibration, others = Calibration.fit(answers(2000), NAMES), answers(4000, seed=1)
    match = calibration.match(others.evidence)
    assert match.min() > 0 and match.max() < 1
    assert calibration_error(others.right, match) < 0.06
    assert calibration.reliability["auroc"] == pytest.approx(auroc(others.present, match), abs=0.02)
    assert calibration.reliability["ece"] < 0.05
    counts = calibration.reliability["present"], calibration.reliability["absent"]
    assert sum(counts) == 2000 and counts[0] == answers(2000).present.sum()


def test_weights_say_how_often_what_is_not_there_is_asked_for():
    usual = answers(3000)
    rare = Answers(usual.evidence, usual.present, usual.right, np.where(usual.present, 0.1, 1.0))
    match = [Calibration.fit(some, NAMES).match(usual.evidence) for some in (usual, rare)]
    assert np.average(match[1] - usual.right, weights=rare.weights) == pytest.approx(0, abs=0.01)
    assert match[1].mean() < match[0].mean() - 0.1
    assert np.corrcoef(*match)[0, 1] > 0.8


def test_few_answers_make_small_coefficients_and_too_few_make_none():
    certain = Answers(np.arange(20.0)[:, None], np.arange(20) >= 10, np.arange(20) >= 10, np.ones(20))
    calibration = Calibration.fit(certain, ("one",))
    assert (
        0.02 < calibration.match(np.array([[0.0]]))[0] < 0.2 and 0.8 < calibration.match(np.array([[19.0]]))[0] < 0.98
    )
    assert Calibration.fit(certain.part(np.arange(20) != 15), ("one",)) is None
    assert Calibration.fit(certain.part(np.arange(20) != 5), ("one",)) is None


def test_evidence_far_from_all_that_was_seen_is_no_error():
    calibration = Calibration.fit(answers(500), NAMES)
    match = calibration.match(np.array([[1e9, 0], [-1e9, 0], [0, -1e12]]))
    assert np.isfinite(match).all() and match[0] > 0.999 and match[1] < 0.001


def test_a_person_is_told_where_the_evidence_speaks_against_an_answer():
    calibration = Calibration.fit(answers(2000), NAMES)
    assert 0 < calibration.nothing < calibration.unsure < 1
    assert calibration.unsure == pytest.approx(answers(2000).right.mean(), abs=1e-4)
    odds = [share / (1 - share) for share in (calibration.nothing, calibration.unsure)]
    assert odds[0] == pytest.approx(odds[1] / 3, rel=1e-2)
    told = [calibration.verdict(match) for match in (0.0, calibration.nothing, calibration.unsure, 1.0)]
    assert told == ["nothing", "unsure", "", ""]


def facts(images=100, **changes):
    match = {"images": images}
    for engine, names in (("generative", RECALLED), ("dense", NEAREST)):
        numbers = [0.5] * len(names)
        match[engine] = {
            "evidence": list(names),
            "coefficients": numbers,
            "intercept": 0.0,
            "nothing": 0.1,
            "unsure": 0.3,
            "reliability": {"auroc": 0.9},
        }
    match["generative"] |= changes
    return {"match": match}


def test_a_calibration_is_kept_as_json():
    fitted = Calibration.fit(answers(300), NAMES)
    assert Calibration.of(json.loads(json.dumps(fitted.facts())), NAMES) == fitted


@pytest.mark.parametrize(("images", "holds"), [(100, True), (150, True), (80, True), (151, False), (79, False)])
def test_a_calibration_holds_for_about_as_many_images(images, holds):
    assert set(calibrations(facts(), images)) == ({"generative", "dense"} if holds else set())


def test_where_there_is_more_or_less_to_find_all_odds_rise_or_fall_as_much():
    def odds(share):
        return share / (1 - share)

    def known(images):
        return calibrations(facts(1000), images)["dense"]

    evidence = np.array([[0.1, 0.2, 0.3, -0.4], [1.0, 2.0, 3.0, -4.0]])
    for images, times in ((1000, 1.0), (1500, 1.5), (800, 0.8)):
        assert odds(known(images).match(evidence)) == pytest.approx(times * odds(known(1000).match(evidence)))
        for name in ("nothing", "unsure"):
            assert odds(getattr(known(images), name)) == pytest.approx(
                times * odds(getattr(known(1000), name)), rel=1e-2
            )
    few = calibrations(facts(100), 80)["dense"]
    assert few == calibrations(facts(100), 100)["dense"], "fewer than 100 count as so many"


@pytest.mark.parametrize("match", [{}, {"match": None}, {"match": {}}, {"match": {"images": 100}}])
def test_a_memory_without_one_has_no_match(match):
    assert calibrations(match, 100) == {}


@pytest.mark.parametrize(
    "changes",
    [
        {"coefficients": [1.0]},
        {"coefficients": "none"},
        {"evidence": ["log_p", "entropy", "luck"]},
        {"intercept": None},
        {"nothing": "?"},
    ],
)
def test_one_that_cannot_be_read_is_a_named_error(changes):
    with pytest.raises(MemoryFormatError, match=r'"match" in memory\.json .*: delete it there'):
        calibrations(facts(**changes), 100)


@pytest.mark.parametrize("match", [[1], "x", {"images": "many"}, {"images": 100, "dense": 3}])
def test_what_is_no_object_is_a_named_error_too(match):
    with pytest.raises(MemoryFormatError, match=r'"match" in memory\.json'):
        calibrations({"match": match}, 100)

"""Reliability: figures of how well a score tells right answers from wrong ones. Knows numbers only."""

import numpy as np

KEPT = 0.95
"""The share of what is there that a threshold keeps."""
BINS = 10
"""Into how many bins of equal width probabilities go."""


def reliability(present: np.ndarray, right: np.ndarray, match: np.ndarray) -> dict[str, float]:
    """{"auroc", "fpr@95", "aurc", "ece"} of n answers; each in [0, 1].

    `present` (n,) bool: whether what was asked for is there; `right` (n,) bool: whether the first image is right;
    `match` (n,): the probability of that. The first two figures are of telling what is there from what is not, the
    others of how far the probability can be relied upon. Needs answers of both kinds.
    """
    figures = {
        "auroc": auroc(present, match),
        "fpr@95": false_positive_rate(present, match),
        "aurc": aurc(right, match),
        "ece": calibration_error(right, match),
    }
    return {name: round(figure, 4) for name, figure in figures.items()}


def auroc(positive: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> float:
    """How often a positive scores above a negative, ties counting half: the area under the ROC curve."""
    weights = np.ones(len(scores)) if weights is None else weights
    _, places = np.unique(scores, return_inverse=True)
    of_positives, of_negatives = (np.bincount(places, weights=weights * kind) for kind in (positive, ~positive))
    below = of_negatives.cumsum() - of_negatives / 2
    return float((of_positives * below).sum() / (of_positives.sum() * of_negatives.sum()))


def false_positive_rate(
    positive: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None, kept: float = KEPT
) -> float:
    """The share of the negatives at or above the highest score that so many of the positives reach."""
    weights = np.ones(len(scores)) if weights is None else weights
    order = np.argsort(-scores[positive], kind="stable")
    reached = weights[positive][order].cumsum()
    place = np.searchsorted(reached, kept * reached[-1] * (1 - 1e-9))
    passed = scores[~positive] >= scores[positive][order][place]
    return float(np.average(passed, weights=weights[~positive]))


def aurc(right: np.ndarray, confidence: np.ndarray) -> float:
    """The mean share of wrong answers among the surest k, over all k; equally sure ones are as wrong as their mean."""
    levels, places, counts = np.unique(-confidence, return_inverse=True, return_counts=True)
    wrong = np.bincount(places, weights=~right, minlength=len(levels)) / counts
    expected = np.repeat(wrong, counts)
    return float(np.mean(expected.cumsum() / np.arange(1, len(right) + 1)))


def calibration_error(right: np.ndarray, probability: np.ndarray, weights: np.ndarray | None = None) -> float:
    """The expected calibration error: how far the mean probability of a bin is from its share of right answers."""
    weights = np.ones(len(right)) if weights is None else weights
    bins = bins_of(probability)
    return float(np.abs(np.bincount(bins, weights=weights * (probability - right))).sum() / weights.sum())


def bins_of(probability: np.ndarray) -> np.ndarray:
    """(n,) int64: which of BINS bins of equal width each probability is in."""
    return np.minimum((probability * BINS).astype(int), BINS - 1)

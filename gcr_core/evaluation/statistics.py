"""Statistics: how far figures can be trusted, and curves of what stands behind them. Knows numbers only.

Intervals are of 95 %: Wilson's score interval for shares, percentile bootstrap for means of reciprocal ranks. Two sides
that answered the same queries are compared by McNemar's exact test.
"""

from typing import Any

import numpy as np

from gcr_core.retrieval.reliability import bins_of

Z = 1.959964
"""The quantile of a standard normal distribution that leaves 2.5 % above it."""
RESAMPLES = 2_000
"""How often the bootstrap draws."""
CURVE_POINTS = 50
"""The most points of a curve of risk against coverage."""


def wilson(hits: int, count: int) -> list[float]:
    """[low, high] of the share hits / count; [0, 1] where nothing was counted."""
    if not count:
        return [0.0, 1.0]
    share, square = hits / count, Z * Z / count
    middle = share + square / 2
    half = Z * np.sqrt(share * (1 - share) / count + square / (4 * count))
    low, high = (middle - half) / (1 + square), (middle + half) / (1 + square)
    return [_rounded(low if hits else 0.0), _rounded(high if hits < count else 1.0)]


def reciprocal(ranks: np.ndarray) -> np.ndarray:
    """(n,) float64: 1 / rank, 0 for rank 0, which stands for nothing found."""
    return np.divide(1.0, ranks, out=np.zeros(len(ranks)), where=ranks > 0)


def bootstrap(values: np.ndarray, seed: int = 0) -> list[float]:
    """[low, high] of the mean of values, of which there are only a few different ones; [0, 1] of none.

    Drawing n values anew is drawing how often each different one comes, which takes no n draws.
    """
    if not len(values):
        return [0.0, 1.0]
    different, counts = np.unique(values, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(len(values), counts / len(values), RESAMPLES)
    low, high = np.percentile(drawn @ different / len(values), [2.5, 97.5])
    return [_rounded(low), _rounded(high)]


def mcnemar(left: np.ndarray, right: np.ndarray) -> dict[str, Any]:
    """Whether two sides differ by more than chance, of (n,) bool that say of the same queries which each had right.

    {"both", "generative_only", "dense_only", "neither", "p"}: `left` is the generative side, "p" two-sided and exact.
    """
    only_left, only_right = int((left & ~right).sum()), int((~left & right).sum())
    return {
        "both": int((left & right).sum()),
        "generative_only": only_left,
        "dense_only": only_right,
        "neither": int((~left & ~right).sum()),
        "p": float(f"{_sign_test(only_left, only_right):.4g}"),
    }


def recall_curve(ranks: np.ndarray, depth: int) -> list[float]:
    """The share of the queries whose first relevant image is among the first k, for k from 1 to `depth`."""
    found = np.bincount(ranks[ranks > 0], minlength=depth + 1)[1 : depth + 1]
    return [_rounded(share) for share in found.cumsum() / max(len(ranks), 1)]


def risk_coverage(right: np.ndarray, confidence: np.ndarray) -> list[list[float]]:
    """[coverage, risk] where only the answers are given that are the surest: their share of all, and how many of them
    are wrong. Answers that are equally sure are given together, so that no order among them is made up."""
    order = np.argsort(-confidence, kind="stable")
    sure = confidence[order]
    ends = np.flatnonzero(np.append(sure[1:] != sure[:-1], True)) if len(order) else np.array([], int)
    given = ends + 1
    wrong = (~right[order]).cumsum()[ends]
    if len(ends) > CURVE_POINTS:
        wanted = np.linspace(given[0], given[-1], CURVE_POINTS)
        kept = np.unique(np.searchsorted(given, wanted))
        given, wrong = given[kept], wrong[kept]
    return [[_rounded(many / len(right)), _rounded(bad / many)] for many, bad in zip(given, wrong, strict=True)]


def reliability_diagram(right: np.ndarray, probability: np.ndarray) -> list[list[float]]:
    """The points of a reliability diagram: [mean probability, share that was right, answers] of each bin that has any,
    from the least probable."""
    bins = bins_of(probability)
    rows = [(probability[bins == each], right[bins == each]) for each in np.unique(bins)]
    return [[_rounded(sure.mean()), _rounded(hit.mean()), len(sure)] for sure, hit in rows]


def _sign_test(one: int, other: int) -> float:
    """The probability that fair coins fall at least so unequally as `one` against `other`."""
    count = one + other
    logs = np.concatenate([[0.0], np.log(np.arange(1, count + 1))]).cumsum()  # of the factorials
    fewer = np.arange(min(one, other) + 1)
    return min(1.0, 2 * float(np.exp(logs[count] - logs[fewer] - logs[count - fewer] - count * np.log(2)).sum()))


def _rounded(share: float) -> float:
    return round(float(share), 4)

"""Match: the probability that the first image of an answer is right, told from the answer's scores.

Evidence is a few numbers of an answer, of either engine; `Calibration` turns them into a probability by logistic
regression. Its coefficients are fitted for one memory, on answers of which it is known whether they are right. Knows
scores, neither queries nor images.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple, Self

import numpy as np

from gcr_core.errors import MemoryFormatError
from gcr_core.retrieval.reliability import auroc, calibration_error, false_positive_rate

DEPTH = 10
"""How many images of an answer are looked at."""
RECALLED = ("log_p", "entropy", "level")
"""What tells of recall: log p of the first image; the entropy of the images, in nats, where those beyond DEPTH count as
equally likely; and the first image's logit, which says how well it fits whatever the others do."""
NEAREST = ("cosine", "mean", "spread", "share")
"""What tells of a dense answer: the first image's cosine; the mean and the standard deviation of all images' cosines;
and the log of the first one's share of the DEPTH nearest, by a softmax. In the answer of an album, whose images are few
to compare with, these are of the whole gallery, as log p is: the match is that of the album's first image then."""
EVIDENCE = {"generative": RECALLED, "dense": NEAREST}
FEWER, MORE = 1.25, 1.5
"""By which factors a gallery may shrink and grow before its calibration is another memory's. Measured: so far the match
is off by 0.05 at most, once it is adjusted for how much is there."""
FEWEST_IMAGES = 100
"""A gallery of fewer images counts as one of so many: who asks it knows what it has."""
TEMPERATURE = 0.1
"""Of this softmax, in cosines."""
LEAST = 1e-9
"""The least probability that a logarithm is taken of."""
PENALTY = 1.0
"""What the square of a coefficient costs, for evidence of standard deviation one: as one of the answers."""
FARTHEST = 30.0
"""The farthest that log odds go."""
ROUNDS = 50
"""The most rounds of Newton's method."""
SLIGHT = 1 / 3
"""How small a share of the odds of any answer are those of one that does not seem to match."""
FEWEST = 10
"""The fewest answers that are right, and that are wrong, which a calibration is fitted on."""
FOLDS = 5
"""In how many parts the answers are taken to measure the reliability, each by the others' coefficients."""


def recalled_evidence(scores: np.ndarray, level: np.ndarray, images: int) -> np.ndarray:
    """(b, 3): RECALLED of answers by their log p (b, k), best first, -inf where there are no more.

    `level` (b,): what was added to log p to make it a logit. `images`: how many there are in all.
    """
    log_p = scores[:, :DEPTH].astype(np.float64)
    found = np.isfinite(log_p)
    p = np.exp(np.where(found, log_p, -np.inf))
    rest = np.clip(1 - p.sum(1), LEAST, 1)
    others = np.maximum(images - found.sum(1), 1)
    entropy = -np.where(found, p * np.where(found, log_p, 0.0), 0.0).sum(1) - rest * np.log(rest / others)
    return np.stack([log_p[:, 0], entropy, log_p[:, 0] + level], 1)


def nearest_evidence(first: np.ndarray, scores: np.ndarray, mean: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """(b, 4): NEAREST of answers by the cosines (b,) of their first images and those of all: the nearest ones (b, k),
    best first, their mean (b,) and standard deviation (b,)."""
    nearest = scores[:, :DEPTH].astype(np.float64)
    with np.errstate(invalid="ignore"):  # NaN of an answer without any image
        share = -np.log(np.exp((nearest - first[:, None]) / TEMPERATURE).sum(1))
    return np.stack([first, mean, spread, share], 1)


@dataclass(frozen=True)
class Answers:
    """n answers of which it is known whether they are right: what a calibration is fitted on."""

    evidence: np.ndarray
    """(n, evidence) float64."""
    present: np.ndarray
    """(n,) bool: whether what was asked for is there."""
    right: np.ndarray
    """(n,) bool: whether the first image is right."""
    weights: np.ndarray
    """(n,) float64: how many queries each stands for."""

    def part(self, rows: np.ndarray) -> Self:
        return type(self)(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class Calibration:
    """The coefficients for one engine of one memory."""

    evidence: tuple[str, ...]
    """What the numbers of the evidence are."""
    coefficients: tuple[float, ...]
    """What each adds to the log odds."""
    intercept: float
    nothing: float
    """Below it nothing seems to match: the odds are SLIGHT of those below which an answer is not sure."""
    unsure: float
    """Below it an answer is not sure: its evidence makes it no likelier to be right than any answer is."""
    reliability: Mapping[str, float]
    """What was measured when it was fitted, on answers that it was not fitted on: "auroc", "fpr@95" and "ece" as in
    `reliability`, and how many answers were of queries "present" and "absent"."""

    @classmethod
    def fit(cls, answers: Answers, names: tuple[str, ...]) -> Self | None:
        """None where fewer than FEWEST answers are right, or wrong."""
        count, right = len(answers.right), int(answers.right.sum())
        if min(right, count - right) < FEWEST:
            return None
        match, folds = np.empty(count), np.arange(count) % FOLDS
        for fold in range(FOLDS):
            match[folds == fold] = _fitted(answers.part(folds != fold)).match(answers.evidence[folds == fold])
        regression, share = _fitted(answers), float(np.average(answers.right, weights=answers.weights))
        figures = {
            "auroc": auroc(answers.present, match, answers.weights),
            "fpr@95": false_positive_rate(answers.present, match, answers.weights),
            "ece": calibration_error(answers.right, match, answers.weights),
        }
        counts = {"present": int(answers.present.sum()), "absent": int((~answers.present).sum())}
        return cls(
            names,
            tuple(round(float(coefficient), 5) for coefficient in regression.coefficients),
            round(regression.intercept, 5),
            round(SLIGHT * share / (1 - share + SLIGHT * share), 4),
            round(share, 4),
            {name: round(figure, 4) for name, figure in figures.items()} | counts,
        )

    @classmethod
    def of(cls, facts: Any, names: tuple[str, ...]) -> Self:
        """What `asdict` made of one. Raises MemoryFormatError for what is something else."""
        try:
            read = cls(
                tuple(facts["evidence"]),
                tuple(map(float, facts["coefficients"])),
                float(facts["intercept"]),
                float(facts["nothing"]),
                float(facts["unsure"]),
                facts["reliability"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise MemoryFormatError(f'"match" in memory.json cannot be read ({error}): delete it there') from error
        if read.evidence != names or len(read.coefficients) != len(names):
            raise MemoryFormatError('"match" in memory.json is of another gcr_core: delete it there')
        return read

    def facts(self) -> dict[str, Any]:
        """JSON-ready, as `of` reads it."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    def match(self, evidence: np.ndarray) -> np.ndarray:
        """(b,) in [0, 1]: how probable it is that the first image is right, by the evidence (b, evidence)."""
        return _Regression(np.array(self.coefficients), self.intercept).match(evidence)

    def likelier(self, times: float) -> Self:
        """The same where what is asked for is there so many times as often, as in a gallery of so many times as many
        images: all odds are so many times as high."""
        nothing, unsure = (
            round(times * share / (1 - share + times * share), 4) for share in (self.nothing, self.unsure)
        )
        return replace(self, intercept=self.intercept + math.log(times), nothing=nothing, unsure=unsure)

    def verdict(self, match: float) -> str:
        """What a person is told of an answer: "nothing" seems to match, "unsure", or "" where there is no doubt."""
        return "nothing" if match < self.nothing else "unsure" if match < self.unsure else ""


def calibrations(facts: Mapping[str, Any], images: int) -> dict[str, Calibration]:
    """Engine → its calibration, where the manifest of a memory has one that holds for so many images.

    Raises MemoryFormatError for what cannot be read.
    """
    match = facts.get("match") or {"images": 0}
    fitted = match.get("images") if isinstance(match, Mapping) else None
    if not isinstance(fitted, int):
        raise MemoryFormatError('"match" in memory.json says not of how many images it is: delete it there')
    if not fitted / FEWER <= images <= fitted * MORE:
        return {}
    times = max(images, FEWEST_IMAGES) / max(fitted, FEWEST_IMAGES)
    return {
        engine: Calibration.of(match[engine], names).likelier(times)
        for engine, names in EVIDENCE.items()
        if engine in match
    }


class _Regression(NamedTuple):
    coefficients: np.ndarray
    intercept: float

    def match(self, evidence: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-np.clip(evidence @ self.coefficients + self.intercept, -FARTHEST, FARTHEST)))


def _fitted(answers: Answers) -> _Regression:
    """Logistic regression by Newton's method; the weights' sum counts as much as there are answers."""
    mean, spread = answers.evidence.mean(0), answers.evidence.std(0) + LEAST
    standard = np.c_[(answers.evidence - mean) / spread, np.ones(len(answers.right))]
    weights = answers.weights * len(answers.weights) / answers.weights.sum()
    price = np.full(standard.shape[1], PENALTY)
    price[-1] = LEAST
    found = np.zeros(standard.shape[1])
    for _ in range(ROUNDS):
        p = _Regression(found, 0.0).match(standard)
        slope = standard.T @ (weights * (p - answers.right)) + price * found
        curvature = (standard.T * (weights * p * (1 - p))) @ standard + np.diag(price)
        step = np.linalg.solve(curvature, slope)
        found -= step
        if np.abs(step).max() < LEAST:
            break
    coefficients = found[:-1] / spread
    return _Regression(coefficients, float(found[-1] - coefficients @ mean))

"""Pairs: the texts that a backbone learns to answer, with the images that each asks for. Knows no model."""

from dataclasses import dataclass

import numpy as np

from .errors import GcrError

MOST_OWNERS = 64


@dataclass(frozen=True)
class Pairs:
    """Training queries and the images they ask for."""

    texts: list[str]
    images: np.ndarray
    """(texts, k) int32: image indices, -1 where a text asks for fewer"""
    weights: np.ndarray
    """(texts, k) float32: how likely each is meant; rows sum to 1"""
    odds: np.ndarray
    """(texts,) float64: how often a text is drawn; sums to 1"""

    @classmethod
    def from_captions(cls, captions: list[list[str]]) -> "Pairs":
        """Every caption asks for the images that have it, all equally; all captions are drawn equally often.

        One of more than MOST_OWNERS images asks for some of them, evenly over the gallery. Raises GcrError where there
        is no caption.
        """
        owners: dict[str, list[int]] = {}
        for image, texts in enumerate(captions):
            for text in texts:
                owners.setdefault(text, []).append(image)
        if not owners:
            raise GcrError("the gallery has 0 captions; learning to retrieve needs at least 1: type some in")
        spread = [asked[:: -(-len(asked) // MOST_OWNERS)] for asked in owners.values()]
        images = np.full((len(owners), max(map(len, spread))), -1, np.int32)
        for row, asked in zip(images, spread, strict=True):
            row[: len(asked)] = asked
        weights = (images >= 0) / (images >= 0).sum(axis=1, keepdims=True)
        return cls(list(owners), images, weights.astype(np.float32), np.full(len(owners), 1 / len(owners)))

"""Tags: words for what the eyes see in photographs, told from the odds of their classes.

`tags.json` in a checkpoint's folder holds the words, `[{"word": "Labrador retriever", "classes": [208]}, {"word":
"dog", "classes": [151, ...]}, ...]`. A word is given where its classes together are likely: a dog of unclear breed is
still a "dog", and a picture of nothing known has no word. Knows neither networks nor galleries.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from PIL import Image

from gcr_core.errors import HubError
from gcr_core.files.layout import TAGS_FILE

MOST = 6
"""The most words for an image."""
LIKELY = 0.3
"""The odds from which a word is given, beyond those that its share of the classes would have of nothing at all."""
SAYS_MORE = 0.1
"""By how much a word is likelier than a narrower one that does not tell the same."""
SQUARES, NOISE = 16, 0.2
"""How alike neighbours are, as a correlation, in a picture shrunk to so many squares a side. Of noise of any grain it
is at most 0.15; one of 2,428 photographs had less than 0.2."""


class Tagger:
    """The words of a checkpoint's eyes."""

    def __init__(self, table: Sequence[Mapping[str, Any]]):
        """`table`: as in `tags.json`."""
        rows = sorted(((row["word"], frozenset(row["classes"])) for row in table), key=lambda row: len(row[1]))
        self.words = [word for word, _ in rows]
        self._classes = [classes for _, classes in rows]

    @classmethod
    def from_folder(cls, folder: str | Path) -> Self | None:
        """The words of a checkpoint, or None where it has none. Raises HubError for what is no table of words."""
        path = Path(folder, TAGS_FILE)
        if not path.is_file():
            return None
        try:
            return cls(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, KeyError, TypeError) as error:
            raise HubError(f"{path} holds no words with their classes: fetch the checkpoint again") from error

    def tags(self, logits: torch.Tensor) -> list[list[str]]:
        """The words for each row of logits (b, classes), at most MOST, those of the fewest classes first."""
        odds = logits.float().softmax(-1).cpu().numpy()
        of_words = np.stack([odds[:, list(classes)].sum(1) for classes in self._classes], axis=1)
        flat = np.array([len(classes) for classes in self._classes]) / odds.shape[1]
        return [self._chosen(row, np.flatnonzero(row - flat >= LIKELY)) for row in of_words]

    def _chosen(self, odds: np.ndarray, likely: np.ndarray) -> list[str]:
        """Of an image's likely words, narrow ones first, those that tell more than a kind or two words before them."""
        chosen: list[int] = []
        for word in likely:
            inside = [one for one in chosen if self._classes[one] <= self._classes[word]]
            same = [one for one in inside if odds[word] < odds[one] + SAYS_MORE]
            if len(same) < 2 and all(len(self._classes[one]) == 1 for one in same):
                chosen.append(word)
        return [self.words[word] for word in chosen[:MOST]]


def is_noise(picture: Image.Image) -> bool:
    """Whether a picture is nothing but noise, in which the eyes see doormats and birds."""
    squares = np.asarray(picture.convert("L").resize((SQUARES, SQUARES), Image.Resampling.BOX), np.float64)
    squares -= squares.mean()
    beside = np.mean(squares[1:] * squares[:-1]) + np.mean(squares[:, 1:] * squares[:, :-1])
    return bool(beside / 2 < NOISE * np.mean(squares**2))

"""Spread: how a dense encoder, the teacher, spreads everyday phrases over a gallery's pictures.

They are soft targets by which pictures without captions are found by words: a phrase asks for each picture as much as
the softmax of the teacher's cosines gives it. From a picture's cosines their mean over all phrases is taken, as one
that is like every phrase is nobody's answer (Dinu et al. 2015). Images with captions are asked for less: their captions
teach them by much more than a phrase does, and images without any would never come first beside them.
"""

import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from gcr_core.files.atomic import new_file
from gcr_core.models.clip import logit_scale
from gcr_core.models.distributed import is_first
from gcr_core.retrieval.dense import DenseIndex
from gcr_core.training.batches import Pairs

GAIN, LEAST = 3.0, 0.02
"""By how much phrases ask more for images without captions at most, so that a few of them do not answer everything; and
how much, at least, for the others."""
LIKELIEST, DRAWN = 384, 128
"""How many pictures of a phrase `pairs` keeps, and draws from the others, where there are more than both together."""
TOGETHER = 64
"""How many phrases the teacher reads, and spreads, together."""


@dataclass(frozen=True)
class Spread:
    """Phrases, each with a probability for every picture."""

    phrases: list[str]
    said: torch.Tensor
    """(phrases, d) float32: their vectors without the mean of these, at the length that makes products logits."""
    shown: torch.Tensor
    """(images, d) float32: the pictures' vectors, of length one."""
    asked: torch.Tensor
    """(images,) float32: the log of how much each is asked for."""

    @classmethod
    def of(
        cls,
        teacher: DenseIndex,
        phrases: list[str],
        pictures: Callable[[], np.ndarray],
        bare: Collection[int],
        kept: Path | None = None,
        on_progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> Self:
        """As the teacher has it; `pictures` gives its vectors (images, d) of the pictures alone. `bare`: those images
        that have no captions.

        They are written to the file `kept`, and read from there where it is. `on_progress(done, total)` counts phrases.
        """
        if kept and kept.exists():
            return cls(phrases, **load_file(kept))
        read = []
        for start in range(0, len(phrases), TOGETHER):
            read.append(torch.from_numpy(teacher.embed_texts(phrases[start : start + TOGETHER])))
            on_progress(min(start + TOGETHER, len(phrases)), len(phrases))
        vectors = torch.cat(read)
        said = logit_scale(teacher.model) * (vectors - vectors.mean(0))
        shown = torch.from_numpy(np.ascontiguousarray(pictures()))
        spread = cls(phrases, said, shown, _asked(len(shown), bare))
        if kept and is_first():
            kept.parent.mkdir(parents=True, exist_ok=True)
            with new_file(kept) as building:
                save_file({name: getattr(spread, name) for name in ("said", "shown", "asked")}, building)
        return spread

    def odds(self, together: int = TOGETHER) -> Iterator[torch.Tensor]:
        """(b, images) float32, on the CPU: how likely each picture is the one that is meant, so many phrases a time."""
        return ((some @ self.shown.T + self.asked).softmax(1) for some in self.said.split(together))

    def pairs(self) -> Pairs:
        """The phrases as training queries.

        Those of a large gallery keep their likeliest pictures; in the place of the others stand a few that are drawn by
        their probability, so that what is asked for is the same in the mean.
        """
        images, weights = [], []
        generator = torch.Generator().manual_seed(0)
        for odds in self.odds():
            p, order = odds.sort(1, descending=True)
            if p.shape[1] > LIKELIEST + DRAWN:
                tail = p[:, LIKELIEST:].double()
                rest = tail.sum(1, keepdim=True)
                # Systematic sampling (Kitagawa 1996): a draw from each of as many parts of equal probability.
                places = (torch.rand(len(p), 1, generator=generator) + torch.arange(DRAWN)) / DRAWN
                drawn = torch.searchsorted(tail.cumsum(1), places * rest).clamp(max=tail.shape[1] - 1) + LIKELIEST
                p = torch.cat([p[:, :LIKELIEST], (rest / DRAWN).float().expand(-1, DRAWN)], 1)
                order = torch.cat([order[:, :LIKELIEST], order.gather(1, drawn)], 1)
            images.append(order.numpy().astype(np.int32))
            weights.append(p.numpy())
        count = len(self.phrases)
        return Pairs(self.phrases, np.concatenate(images), np.concatenate(weights), np.full(count, 1 / count))


def _asked(count: int, bare: Collection[int]) -> torch.Tensor:
    """(count,): as `Spread.asked`. Of an even spread, images that are `bare` get at most GAIN times their part."""
    asked, share = torch.zeros(count), len(bare) / count
    if share < 1:
        others = max(LEAST, (1 / GAIN - share) / (1 - share))
        asked += math.log(others)
        asked[list(bare)] = 0.0
    return asked

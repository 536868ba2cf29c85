"""Batches: what a training step reads, drawn from the seed and the number of the step alone.

`Pairs` are the texts that a backbone learns to answer, with the images that each asks for. Pictures are augmented, or
the features of an augmented view are read in their place; queries lose words and get typing errors. Knows galleries,
not how a loss is computed.
"""

import random
from collections.abc import Container
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch

from gcr_core.data.gallery import Gallery
from gcr_core.errors import GcrError
from gcr_core.models.backbone import Backbone
from gcr_core.retrieval.identifiers import Identifiers
from gcr_core.training.augment import Augmenter, vary
from gcr_core.training.config import PHRASE_ODDS
from gcr_core.training.features import Features

MAX_IMAGES_A_TEXT = 64
"""The most images that a training text asks for."""
BATCHES_DRAWN = 32
"""The most text batches that are drawn together; their texts are sorted by length, so that a batch needs little
padding."""
KNOWN_ODDS = 0.3
"""How often a picture is drawn that the model knows, in relation to a picture of mean loss."""
KNOWN_LOSS = np.log(2)
"""The loss, in nats, below which a picture's identifier has more than half of the probability."""
Batch = tuple[dict[str, Any], torch.Tensor, torch.Tensor]
"""What `Backbone.hidden` takes; the images asked for, (b, k) int64, -1 for none; their weights (b, k) float32."""


@dataclass(frozen=True)
class Pairs:
    """Training queries and the images they ask for."""

    texts: list[str]
    images: np.ndarray
    """(texts, k) int32: the indices of the images that a text asks for, -1 where it asks for fewer than k."""
    weights: np.ndarray
    """(texts, k) float32: how likely each image is the one that is meant; rows sum to 1."""
    odds: np.ndarray
    """(texts,) float64: the probability with which a text is drawn; sums to 1."""

    @classmethod
    def from_captions(cls, captions: list[list[str]]) -> Self:
        """Every caption asks equally for each image that has it; all captions are drawn equally often.

        One of more than MAX_IMAGES_A_TEXT images asks for so many of them, evenly over the gallery. Raises GcrError
        where there is no caption.
        """
        owners: dict[str, list[int]] = {}
        for image, texts in enumerate(captions):
            for text in texts:
                owners.setdefault(text, []).append(image)
        if not owners:
            raise GcrError("the gallery has 0 captions; learning to retrieve needs at least 1: type some in")
        spread = [asked[:: -(-len(asked) // MAX_IMAGES_A_TEXT)] for asked in owners.values()]
        images = np.full((len(owners), max(map(len, spread))), -1, np.int32)
        for row, asked in zip(images, spread, strict=True):
            row[: len(asked)] = asked
        weights = (images >= 0) / (images >= 0).sum(axis=1, keepdims=True)
        return cls(list(owners), images, weights.astype(np.float32), np.full(len(owners), 1 / len(owners)))

    def oftener(self, texts: Container[str], times: float) -> Self:
        """With some of the texts drawn so many times as often, in relation to the others."""
        odds = self.odds * [times if text in texts else 1.0 for text in self.texts]
        return replace(self, odds=odds / odds.sum())

    @classmethod
    def joined(cls, captions: Self | None, phrases: Self) -> Self:
        """Phrases behind captions, each drawn PHRASE_ODDS as often as a caption is on average."""
        if captions is None:
            return phrases
        wide = max(captions.images.shape[1], phrases.images.shape[1])

        def both(column: str, fill: float) -> np.ndarray:
            sides = [getattr(side, column) for side in (captions, phrases)]
            filled = [np.pad(of, ((0, 0), (0, wide - of.shape[1])), constant_values=fill) for of in sides]
            return np.concatenate(filled)

        texts = captions.texts + phrases.texts
        odds = np.concatenate([captions.odds * len(captions.texts), np.full(len(phrases.texts), PHRASE_ODDS)])
        return cls(texts, both("images", -1), both("weights", 0), odds / odds.sum())


class PictureBatches:
    """Augmented pictures of a gallery; those that the model still mistakes are drawn more often.

    A picture is drawn with odds proportional to its last loss plus a share of the mean, as in prioritised replay
    (Schaul et al. 2016): of a few thousand pictures most are soon known, while lookalikes take long.
    """

    losses: np.ndarray
    """(images,) float64: the model's last loss on each picture, in nats."""

    def __init__(self, backbone: Backbone, gallery: Gallery, size: int, seed: int, features: Features | None = None):
        """`features`: read in the place of pictures, one of each picture's views at random."""
        self.backbone, self.features = backbone, features
        self.size, self.seed = min(size, len(gallery)), seed
        self.losses = np.full(len(gallery), np.log(max(len(gallery), 2)))
        self.augmenter = Augmenter(backbone.processor.image_processor, gallery)

    def drawn(self, step: int) -> np.ndarray:
        """(size,) int64: the images of a step's batch."""
        odds = self.losses + KNOWN_ODDS * self.losses.mean()
        choice = np.random.default_rng((self.seed, step))
        return choice.choice(len(self.losses), self.size, replace=False, p=odds / odds.sum())

    def draw(self, step: int, rows: np.ndarray | slice = slice(None)) -> Batch:
        """These rows of a step's batch."""
        drawn = self.drawn(step)[rows]
        draws = [random.Random(f"{self.seed} {step} {image}") for image in drawn]
        if self.features:
            views = [one.randrange(self.features.views) for one in draws]
            inputs = self.backbone.feature_inputs(self.features.read(drawn, views))
        else:
            pictures = [self.augmenter.augmented(*one) for one in zip(drawn, draws, strict=True)]
            inputs = self.backbone.image_inputs(pictures)
        images = torch.from_numpy(drawn).to(self.backbone.device)[:, None]
        return inputs, images, torch.ones_like(images, dtype=torch.float32)

    def learnt(self, images: np.ndarray, losses: torch.Tensor) -> None:
        """Takes the model's losses (b,) on images (b,), which the odds of later draws follow."""
        self.losses[images] = losses.detach().cpu().numpy().clip(min=1e-3)

    @property
    def known(self) -> float:
        """The share of the pictures whose identifier was the likeliest when they were last drawn, in [0, 1]."""
        return float((self.losses < KNOWN_LOSS).mean())


class TextBatches:
    """Texts of pairs, each as often as its odds say.

    Sampling is systematic (Kitagawa 1996), so that no text is left out by chance. The texts of a batch have about
    equally many tokens.
    """

    def __init__(self, tokenizer: Any, pairs: Pairs, size: int, seed: int):
        self.tokenizer, self.pairs, self.size, self.seed = tokenizer, pairs, size, seed
        self.batches_drawn = min(BATCHES_DRAWN, max(1, len(pairs.texts) // size))  # a text stands in a batch once
        self._drawn: tuple[int, np.ndarray] | None = None

    def draw(self, number: int) -> tuple[list[str], np.ndarray]:
        """The texts of the batch of that number, counted from 0, varied, and their rows (b,) in the pairs."""
        many, one = divmod(number, self.batches_drawn)
        if self._drawn is None or self._drawn[0] != many:
            self._drawn = many, self._rows(np.random.default_rng((self.seed, many)))
        rows, draws = self._drawn[1][one], random.Random(f"{self.seed} {number}")
        return [vary(self.pairs.texts[row], draws) for row in rows], rows

    def _rows(self, choice: np.random.Generator) -> np.ndarray:
        """(at_once, size): rows of the pairs."""
        count = self.size * self.batches_drawn
        ends = self.pairs.odds.cumsum()
        drawn = np.searchsorted(ends, ends[-1] * (choice.random() + np.arange(count)) / count, side="right")
        drawn = choice.permutation(drawn)
        tokens = self.tokenizer([self.pairs.texts[row] for row in drawn])["input_ids"]
        drawn = drawn[np.argsort([len(ids) for ids in tokens], kind="stable")]
        return choice.permutation(drawn.reshape(self.batches_drawn, -1))


class QueryBatches:
    """Queries, each with all images that it asks for."""

    def __init__(self, backbone: Backbone, pairs: Pairs, size: int, seed: int):
        self.backbone, self.pairs, self.texts = backbone, pairs, TextBatches(backbone.tokenizer, pairs, size, seed)

    def draw(self, number: int) -> Batch:
        """The batch of that number, counted from 0."""
        texts, rows = self.texts.draw(number)
        images = torch.from_numpy(self.pairs.images[rows]).long().to(self.backbone.device)
        weights = torch.from_numpy(self.pairs.weights[rows]).to(self.backbone.device)
        return text_inputs(self.backbone, texts), images, weights


class DescriptionBatches:
    """Identifiers with the first caption of their image."""

    def __init__(self, gallery: Gallery, identifiers: Identifiers, size: int, seed: int):
        self.gallery, self.identifiers, self.seed = gallery, identifiers, seed
        self.captioned = [image for image, captions in enumerate(gallery.captions) if captions]
        self.size = min(size, len(self.captioned))

    def draw(self, step: int, rows: np.ndarray | slice = slice(None)) -> tuple[list[list[int]], list[str]]:
        """These rows of a step's batch."""
        chosen = np.random.default_rng((self.seed, step)).choice(self.captioned, self.size, replace=False)[rows]
        sequences = [self.identifiers.sequence(image).tolist() for image in chosen]
        return sequences, [self.gallery.captions[image][0] for image in chosen]


def part(batch: tuple[Any, ...], rows: np.ndarray | slice) -> tuple[Any, ...]:
    """Some rows of a batch, whose columns are tensors, dictionaries of tensors, or lists (`rows` is then a slice)."""
    return tuple(
        {name: value[rows] for name, value in column.items()} if isinstance(column, dict) else column[rows]
        for column in batch
    )


def text_inputs(backbone: Backbone, texts: list[str]) -> dict[str, Any]:
    """What `Backbone.hidden` takes for text queries."""
    ids, mask = backbone.pad(backbone.query_prompts(texts))
    return {"input_ids": ids, "attention_mask": mask}

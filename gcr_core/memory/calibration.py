"""Calibration of a memory: the match of both engines and the weight of rerank, fitted on queries of known answers.

Present queries are texts that neither engine was given, with the images that they are of. Absent ones are of three
kinds: the same texts, had their images not been there; everyday phrases in words that no caption has; and gibberish.
What they are answered is asked of the engines as they stand, and nothing in them changes.
"""

import random
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from gcr_core.data.gallery import Gallery
from gcr_core.models.backbone import Backbone
from gcr_core.retrieval.beam_search import recall
from gcr_core.retrieval.dense import DenseIndex
from gcr_core.retrieval.describe import describe
from gcr_core.retrieval.identifiers import Identifiers
from gcr_core.retrieval.match import (
    DEPTH,
    FEWEST_IMAGES,
    NEAREST,
    RECALLED,
    Answers,
    Calibration,
    nearest_evidence,
    recalled_evidence,
)
from gcr_core.retrieval.rerank import RERANKED, CaptionWords, Rerank
from gcr_core.retrieval.trie import IdentifierTrie
from gcr_core.training.everyday import content_words

OTHERS = 1_000
"""How many other things people ask for beside the images of a gallery: a small gallery seldom has what is meant."""
NEAR_SHARE = 0.8
"""The share of these other things that are much like the images, as an image is that was left out."""
MOST_ASKED = 100
"""The most present queries where no caption was kept out."""
WORDS = 10
"""How many words are asked."""
MOST_OWNERS = 40
"""The most images that a word, or such a query, may be of."""
MOST_RERANKED = 500
"""The most queries that rerank is fitted on."""
TOGETHER = 2_048
"""The most beams of all queries that are searched together."""
Asked = dict[str, set[int]]
"""The texts that are asked, with the images that each is of."""


def recalled(
    backbone: Backbone,
    trie: IdentifierTrie,
    prompts: list[list[int]] | torch.Tensor,
    owners: list[set[int]],
    near_share: float = NEAR_SHARE,
) -> dict[str, Any] | None:
    """The facts of the calibration of what is recalled, or None where too few answers are known.

    `prompts` of texts, or their states, the first of which are of `owners`; the others are absent. There are as many
    beams as it takes to see beyond the images asked for.
    """
    top = DEPTH + max(map(len, owners), default=0)
    images, scores, levels = [], [], []
    for start in range(0, len(prompts), TOGETHER // top):
        found = recall(backbone, trie, prompts[start : start + TOGETHER // top], top, top)
        images += found.images.tolist()
        scores.append(found.scores.numpy().astype(np.float64))
        levels.append(found.levels.numpy().astype(np.float64))
    log_p, level = np.concatenate(scores), np.concatenate(levels)
    is_own = _is_own(images, owners)
    p = np.exp(log_p[: len(owners)])
    gone = np.log1p(-np.minimum((p * is_own).sum(1), 1 - 1e-6))
    near = _without(log_p[: len(owners)], is_own) - gone[:, None]
    parts = recalled_evidence(log_p, level, len(trie)), recalled_evidence(near, level[: len(owners)] + gone, len(trie))
    return _fitted(_answers(*parts, is_own[:, 0], len(trie), near_share), RECALLED)


def reranked(
    backbone: Backbone,
    trie: IdentifierTrie,
    prompts: list[list[int]] | torch.Tensor,
    queries: dict[str, int],
    captions: list[list[str]],
) -> Rerank:
    """How the words of `captions` are to count: on queries that are none of these, with the image that each is of.

    `prompts` of the queries, or their states.
    """
    words, asked = CaptionWords(captions), list(queries.items())
    if len(asked) > MOST_RERANKED:  # evenly, as they may be sorted by image
        rows = np.linspace(0, len(asked) - 1, MOST_RERANKED).astype(int).tolist()
        asked = [asked[row] for row in rows]
        prompts = prompts[rows] if isinstance(prompts, torch.Tensor) else [prompts[row] for row in rows]
    log_p, said = np.full((2, len(asked), RERANKED), -np.inf)
    right = np.zeros(log_p.shape, dtype=bool)
    together = TOGETHER // RERANKED
    for start in range(0, len(asked), together):
        some = asked[start : start + together]
        found = recall(backbone, trie, prompts[start : start + len(some)], RERANKED, RERANKED)
        for row, (query, image) in enumerate(some):
            images = found.images[row].numpy()
            count = int((images >= 0).sum())
            log_p[start + row, :count] = found.scores[row, :count]
            said[start + row, :count] = words.score(query, images[:count])
            right[start + row] = images == image
    return Rerank.fit(log_p, np.where(np.isfinite(said), said, 0.0), right)


def nearest(
    dense: DenseIndex, vectors: np.ndarray, owners: list[set[int]], near_share: float = NEAR_SHARE
) -> dict[str, Any] | None:
    """The same of the dense baseline, by the vectors (n, d) of texts."""
    count = dense.index.ntotal
    found = dense.nearest(vectors, DEPTH + max(map(len, owners), default=0))
    cosines = np.array([[score for _, score in hits] for hits in found], dtype=np.float64)
    is_own = _is_own([[image for image, _ in hits] for hits in found], owners)
    near = _without(cosines[: len(owners)], is_own)
    parts = (
        nearest_evidence(cosines[:, 0], cosines, *dense.around(vectors)),
        nearest_evidence(near[:, 0], near, *dense.around(vectors[: len(owners)], owners)),
    )
    return _fitted(_answers(*parts, is_own[:, 0], count, near_share), NEAREST)


def shared_words(captions: list[list[str]], seed: int, count: int = WORDS) -> Asked:
    """At most so many words that captions of several images have, MOST_OWNERS at most: what is asked for in general."""
    owners: Asked = {}
    for image, texts in enumerate(captions):
        for word in content_words(" ".join(texts)):
            owners.setdefault(word, set()).add(image)
    most = min(MOST_OWNERS, len(captions) // 4)
    shared = sorted(word for word, images in owners.items() if 2 <= len(images) <= most and word.isalpha())
    chosen = random.Random(seed).sample(shared, min(len(shared), count))
    return {word: owners[word] for word in chosen}


def likely_queries(gallery: Gallery, backbone: Backbone, identifiers: Identifiers, seed: int) -> Asked:
    """What people may ask for where no caption was kept out: about half of the words of a caption, and for images
    without any the words that the backbone has for them. Of MOST_OWNERS images at most, MOST_ASKED of them."""
    draws = random.Random(seed)
    bare = gallery.bare
    told = describe(backbone, [identifiers.sequence(image).tolist() for image in bare]) if bare else []
    known = dict(enumerate(gallery.captions)) | {
        image: words.split(", ") for image, words in zip(bare, told, strict=True)
    }
    owners: Asked = {}
    for image, texts in known.items():
        for text in texts:
            owners.setdefault(text, set()).add(image)
    asked: Asked = {}
    for text, images in owners.items():
        if text and len(images) <= min(MOST_OWNERS, len(gallery) // 2):
            asked.setdefault(_shortened(text, draws), set()).update(images)
    chosen = draws.sample(list(asked), min(len(asked), MOST_ASKED))
    return {text: asked[text] for text in chosen}


def _fitted(answers: Answers, names: tuple[str, ...]) -> dict[str, Any] | None:
    """The facts of a calibration, JSON-ready; None where there are too few answers."""
    calibration = Calibration.fit(answers, names)
    return None if calibration is None else calibration.facts()


def _answers(evidence: np.ndarray, near: np.ndarray, right: np.ndarray, images: int, near_share: float) -> Answers:
    """Of queries of which the first are present, and of these without their images, where others are left."""
    asked, absent = len(near), len(evidence) - len(near)
    kinds = ((asked, max(images, FEWEST_IMAGES)), (absent, (1 - near_share) * OTHERS), (asked, near_share * OTHERS))
    answers = Answers(
        np.concatenate([evidence, near]),
        np.arange(2 * asked + absent) < asked,
        np.concatenate([right, np.zeros(absent + asked, dtype=bool)]),
        np.concatenate([np.full(many, queries / max(many, 1)) for many, queries in kinds]),
    )
    return answers.part(np.isfinite(answers.evidence).all(1))


def _is_own(images: Iterable[list[int]], owners: list[set[int]]) -> np.ndarray:
    """(asked, k) bool: which images of the answers are those that were asked for."""
    return np.array([[image in own for image in found] for found, own in zip(images, owners, strict=False)], dtype=bool)


def _without(scores: np.ndarray, is_own: np.ndarray) -> np.ndarray:
    """Scores (n, k), best first, of the other images, -inf behind them."""
    return -np.sort(-np.where(is_own, -np.inf, scores), axis=1)


def _shortened(text: str, draws: random.Random) -> str:
    words = text.split()
    kept = sorted(draws.sample(range(len(words)), -(-len(words) // 2)))
    return " ".join(words[place] for place in kept)

"""Rerank: the first images of a beam in a new order, by how likely their captions make the query's words.

An identifier's probability says which image a query asks for. Asked the other way round, an image answers by
log p(words | image) - log p(words), so that no image gains by words that every image has (the reverse direction of
TIGeR, Qu et al. 2024, without its bias). p(word | image) is the unigram model of the image's captions, smoothed by that
of all captions (Ponte and Croft 1998; Zhai and Lafferty 2001). A word stands for every word that is spelt much like it,
the more the likelier: slips of the fingers and other forms of a word are understood. An image without captions
is as likely to have any word as all images are.

`Rerank` says how much this counts beside log p. Knows texts and scores, no model.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from gcr_core.errors import MemoryFormatError

RERANKED = 50
"""How many images of a beam get a new order."""
WORDS = 0.15
"""How much the words count, in nats of log p for one of theirs: the usual weight. Chosen on photographs (1,000 drawn
from Flickr8k's train split), whose recall@1 hardly differs from 0.1 to 0.2."""
WEIGHTS = (0.0, 0.05, 0.1, WORDS, 0.2, 0.3)
"""The weights that a memory may have."""
DENSE = 0.5
"""How much a dense score counts in `together`, in standard deviations of the scores of all images. Chosen likewise."""
SMOOTHING = 0.5
"""The share of p(word | image) that is p(word) of all captions (Jelinek and Mercer 1980)."""
ALIKE = 0.6
"""Words are spelt alike that have at least this share of their character bigrams and trigrams in common (Dice 1945)."""
TEMPERATURES = (0.5, 0.7, 1.0, 1.4, 2.0)
"""By which scores may be divided before they are compared by likelihood: some memories are surer than right."""
LEAST = 1e-4
"""The least probability of the right image that counts: a query of which it is not among the first says no more."""
FEWEST = 20
"""The fewest queries that a weight is chosen on."""
MOST_WORDS = 64
"""How many different words of a query count."""
WORD = re.compile("[a-z0-9]+")
"""Of ASCII text."""


class CaptionWords:
    """The words of the captions of a gallery's images."""

    def __init__(self, captions: list[list[str]]) -> None:
        """`captions` of all images, any of which may have none."""
        vocabulary: dict[str, int] = {}
        counts = [Counter(word for text in texts for word in _words(text)) for texts in captions]
        entries = [
            (vocabulary.setdefault(word, len(vocabulary)), n) for of_image in counts for word, n in of_image.items()
        ]
        self._words, self._counts = np.array(entries, np.int64).reshape(-1, 2).T
        self._ends = np.cumsum([0, *map(len, counts)])
        self._lengths = np.array([of_image.total() for of_image in counts], np.float64)
        self._frequencies = np.bincount(self._words, self._counts, len(vocabulary))
        grams = [_grams(word) for word in vocabulary]
        self._spellings = np.array(list(map(len, grams)), np.float64)
        having: defaultdict[str, list[int]] = defaultdict(list)
        for word, of_word in enumerate(grams):
            for gram in of_word:
                having[gram].append(word)
        self._having = {gram: np.array(words) for gram, words in having.items()}

    def score(self, query: str, images: np.ndarray) -> np.ndarray:
        """(k,) float64: log p(words | image) - log p(words) of images (k,), summed over the query's words that captions
        have, or that are spelt like some of theirs. 0 for an image without captions."""
        starts, sizes = self._ends[images], np.diff(self._ends)[images]
        row = np.repeat(np.arange(len(images)), sizes)
        entries = np.arange(sizes.sum()) + np.repeat(starts - np.cumsum(sizes) + sizes, sizes)
        words, counts = self._words[entries], self._counts[entries]
        has_captions, lengths = sizes > 0, np.maximum(self._lengths[images], 1)
        scores = np.zeros(len(images))
        for word, times in list(Counter(_words(query)).items())[:MOST_WORDS]:
            weights = self._spelt_like(word)
            everywhere = (weights @ self._frequencies) / max(self._frequencies.sum(), 1)
            if everywhere > 0:
                here = np.bincount(row, weights[words] * counts, len(images)) / lengths
                gains = np.log((1 - SMOOTHING) * here / everywhere + SMOOTHING)
                scores += np.where(has_captions, times * gains, 0.0)
        return scores

    def _spelt_like(self, word: str) -> np.ndarray:
        """(vocabulary,) float64: how much each word counts as this one, from 0 to 1."""
        own = _grams(word)
        found = [self._having[gram] for gram in own if gram in self._having]
        if not found:
            return np.zeros(len(self._spellings))
        alike = 2 * np.bincount(np.concatenate(found), minlength=len(self._spellings)) / (len(own) + self._spellings)
        return np.where(alike >= ALIKE, alike**2, 0.0)


@dataclass(frozen=True)
class Rerank:
    """How a memory's answers to words get a new order."""

    words: float = WORDS
    """The weight of `CaptionWords.score` beside log p; 0 where it does not help."""
    asked: int = 0
    """On how many queries it was chosen; 0 for the usual weight where there were too few."""

    @classmethod
    def fit(cls, log_p: np.ndarray, words: np.ndarray, right: np.ndarray) -> Self:
        """By the likelihood of the right ones among the first images of queries: log_p, words, right (n, k).

        The usual weight holds unless another is better by more than one standard error (Breiman et al. 1984).
        """
        if len(log_p) < FEWEST:
            return cls()
        likelihoods = {
            weight: max((_log_likelihood((log_p + weight * words) / t, right) for t in TEMPERATURES), key=np.mean)
            for weight in WEIGHTS
        }
        best = max(WEIGHTS, key=lambda weight: likelihoods[weight].mean())
        gain = likelihoods[best] - likelihoods[WORDS]
        sure = gain.mean() > gain.std() / np.sqrt(len(gain))
        return cls(best if sure else WORDS, len(log_p))

    @classmethod
    def of(cls, facts: Any) -> Self:
        """What `facts` made of one. Raises MemoryFormatError for what is something else."""
        try:
            read = cls(float(facts["words"]), int(facts["asked"]))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise MemoryFormatError(f'"rerank" in memory.json cannot be read ({error}): delete it there') from error
        if not (0 <= read.words <= 1 and read.asked >= 0):
            raise MemoryFormatError(f'"rerank" in memory.json is {read}, its weight is from 0 to 1: delete it there')
        return read

    def facts(self) -> dict[str, Any]:
        """JSON-ready, as `of` reads it."""
        return asdict(self)

    def reranked(self, log_p: np.ndarray, words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(k,) and (k,): the new order of images by their log p (k,) and their words' scores (k,), and their log p
        then, best first: together they stay as probable as they were."""
        return _shared_out(log_p, self.words * words)

    def together(self, log_p: np.ndarray, words: np.ndarray, standing: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The same with the dense baseline's scores (k,) too, in standard deviations of those of all images."""
        return _shared_out(log_p, self.words * words + DENSE * standing)


def _shared_out(log_p: np.ndarray, gains: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scores = log_p + gains
    scores = scores + np.logaddexp.reduce(log_p) - np.logaddexp.reduce(scores)
    order = np.argsort(-scores, kind="stable")
    return order, scores[order]


def _log_likelihood(scores: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(n,): log p of the right ones by a softmax of scores (n, k)."""
    p = np.exp(scores - scores.max(1, keepdims=True))
    return np.log((p * right).sum(1) / p.sum(1) + LEAST)


def _words(text: str) -> list[str]:
    """The words of a text, however its letters and marks are coded."""
    if text.isascii():
        return WORD.findall(text.casefold())
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return "".join(c if c.isalnum() or unicodedata.category(c)[0] == "M" else " " for c in text).split()


def _grams(word: str) -> set[str]:
    """Its character bigrams and trigrams, with its ends."""
    whole = f" {word} "
    return {whole[at : at + length] for length in (2, 3) for at in range(len(whole) - length + 1)}

"""Reranking: a memory's answers to words in the orders of `Rerank`, by its captions and its dense index."""

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from gcr_core.memory.hits import Hit
from gcr_core.retrieval.rerank import CaptionWords, Rerank
from gcr_core.training.pseudo_queries import without_tags

if TYPE_CHECKING:
    from gcr_core.memory.memory import Memory

LEAST_SPREAD = 1e-6
"""Of cosines that are all alike, as of a single image."""


class Reranking:
    """Of one memory as it is: one whose captions have changed takes another."""

    def __init__(self, memory: "Memory", rerank: Rerank) -> None:
        self._memory, self._rerank = memory, rerank

    @cached_property
    def _words(self) -> CaptionWords:
        """Of all captions but the tags that a model wrote: what is true of many pictures."""
        gallery = self._memory.gallery
        return CaptionWords(without_tags(gallery.captions, gallery, self._memory.backbone.tagger))

    def orders(self, queries: list[Any], vectors: np.ndarray, found: list[list[Hit]]) -> list[dict[str, list[Hit]]]:
        """For each text, by its dense vector (d,), what it recalled in new orders: "reranked" and "together"."""
        dense, orders = self._memory.dense, []
        mean, spread = dense.around(vectors)
        for number, hits in enumerate(found):
            images, log_p = np.array([hit.index for hit in hits], np.int64), np.array([hit.score for hit in hits])
            words = self._words.score(queries[number], images)
            cosines = dense.cosines(vectors[number], images)
            standing = (cosines - mean[number]) / max(spread[number], LEAST_SPREAD)
            both = {
                "reranked": self._rerank.reranked(log_p, words),
                "together": self._rerank.together(log_p, words, standing),
            }
            orders.append(
                {
                    name: [replace(hits[place], score=float(score)) for place, score in zip(*order, strict=True)]
                    for name, order in both.items()
                }
            )
        return orders

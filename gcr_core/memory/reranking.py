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
        """For each text, by its dense vector (d,), what it recalled in new orders: "reranked" and "together".

        Without images that the memory has forgotten since they were found.
        """
        dense, gallery, orders = self._memory.dense, self._memory.gallery, []
        mean, spread = dense.around(vectors)
        for number, recalled in enumerate(found):
            hits = [hit for hit in recalled if hit.file_name in gallery]
            images = np.array([gallery.index(hit.file_name) for hit in hits], np.int64)
            log_p = np.array([hit.score for hit in hits])
            words = self._words.score(queries[number], images)
            cosines = dense.cosines(vectors[number], images)
            standing = np.nan_to_num((cosines - mean[number]) / max(spread[number], LEAST_SPREAD))
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

"""Refit: match and rerank of a memory that is consolidated, whose gallery is no longer that which they were fitted on.

Where rows begin anew, captions are kept out of them until both engines have been asked with these, as in a first
training. Other weights have learnt all captions: what was fitted holds on while the gallery has about as many images,
and beyond that parts of captions are asked, as in a training that keeps none out.
"""

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gcr_core.memory import calibration
from gcr_core.retrieval.dense import DenseIndex, Embeddings
from gcr_core.retrieval.match import calibrations
from gcr_core.retrieval.rerank import Rerank
from gcr_core.training.everyday import absent_phrases
from gcr_core.training.pseudo_queries import without_tags
from gcr_core.training.states import States, states_of_texts

if TYPE_CHECKING:
    from gcr_core.memory.memory import Memory


class Refit:
    """What a memory's engines are asked while it is consolidated, and what comes of it."""

    def __init__(self, memory: "Memory") -> None:
        self._memory = memory
        self._kept: list[list[str]] = []
        self._held_out: dict[str, int] = {}
        self._words: calibration.Asked = {}
        self._absent = absent_phrases(text for texts in memory.gallery.captions for text in texts)
        self._found: dict[str, dict[str, Any] | None] = {}
        self._rerank: Rerank | None = None

    def ask_memory(self, states: States, kept: list[list[str]], held_out: dict[str, int]) -> None:
        """Asks what is recalled, while the rows know the captions `kept` alone; `held_out`: the others, and of what
        image each is."""
        memory, self._kept, self._held_out = self._memory, kept, held_out
        self._words = calibration.shared_words(memory.gallery.captions, 0)
        others = states_of_texts(memory.backbone, [*self._words, *self._absent])
        prompts = states.of_texts[states.rows(list(held_out))]
        asked = torch.cat([prompts, others])
        self._found["generative"] = calibration.recalled(memory.backbone, memory.trie, asked, self._owners)
        if held_out:
            self._rerank = calibration.reranked(memory.backbone, memory.trie, prompts, held_out, kept)

    def dense_anew(self) -> DenseIndex:
        """The dense index made anew of the gallery, once it was asked without the captions that were held out."""
        taught, dense = copy.copy(self._memory.gallery), self._memory.dense
        taught.captions = without_tags(taught.captions, taught, self._memory.backbone.tagger)
        vectors = Embeddings.shown(taught, (dense.model, dense.processor))
        if self._held_out:
            kept = vectors.index(self._kept, taught.albums)
            others = kept.embed_texts([*self._words, *self._absent])
            asked = np.concatenate([vectors.captions(self._held_out), others])
            self._found["dense"] = calibration.nearest(kept, asked, self._owners)
        return vectors.index(taught.captions, taught.albums)

    def finish(self) -> None:
        """The memory is calibrated by what was found, now that it is trained."""
        memory = self._memory
        if not self._held_out and calibrations(memory.facts, len(memory.gallery)):
            return
        if not self._held_out:
            likely = calibration.likely_queries(memory.gallery, memory.backbone, memory.identifiers, 0)
            if not likely:
                return
            texts, owners = [*likely, *self._absent], list(likely.values())
            prompts = memory.backbone.query_prompts(texts)
            self._found = {
                "generative": calibration.recalled(memory.backbone, memory.trie, prompts, owners),
                "dense": calibration.nearest(memory.dense, memory.dense.embed_texts(texts), owners),
            }
        if self._rerank is None and "rerank" not in memory.facts:
            said = without_tags(memory.gallery.captions, memory.gallery, memory.backbone.tagger)
            self._rerank = Rerank() if any(said) else None
        memory.calibrate(self._found, self._rerank)

    @property
    def _owners(self) -> list[set[int]]:
        return [*({image} for image in self._held_out.values()), *self._words.values()]

"""Measures: what shares of a gallery a memory finds, of its pictures and of its captions."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from gcr_core.data.gallery import Gallery
from gcr_core.memory.memory import Memory
from gcr_core.models.distributed import mapped
from gcr_core.retrieval.dense import DenseIndex, Embeddings
from gcr_core.training.features import Features
from gcr_core.training.rows import likeliest
from gcr_core.training.states import States

PICTURE_BATCH = 64
"""How many pictures are opened together when the memory is asked for them."""


def recalled(memory: Memory, queries: list[Any]) -> list[int]:
    ask = memory.recall if queries and isinstance(queries[0], str) else memory.recall_images
    return [hits[0].index for hits in ask(queries, top=1)]


def nearest(dense: DenseIndex, vectors: Embeddings, captions: list[str]) -> list[int]:
    return [hits[0][0] for hits in dense.nearest(vectors.captions(captions), 1)] if captions else []


def share_right(answers: list[int], images: Iterable[int]) -> float | None:
    right = [answer == image for answer, image in zip(answers, images, strict=True)]
    return round(sum(right) / len(right), 4) if right else None


def _share_found(ask: Callable[[list[Any]], list[int]], captions: list[list[str]]) -> float | None:
    """The share of the captions with an image of theirs at rank 1."""
    owners: dict[str, set[int]] = {}
    for image, texts in enumerate(captions):
        for text in texts:
            owners.setdefault(text, set()).add(image)
    if not owners:
        return None
    answers = mapped(ask, list(owners))
    return round(float(np.mean([answer in owned for answer, owned in zip(answers, owners.values(), strict=True)])), 4)


def by_author(gallery: Gallery) -> dict[str, list[list[str]]]:
    """Each image's captions that people wrote, and those that the model did, by the names of the shares of them."""
    both = zip(gallery.captions, gallery.pseudo_queries, strict=True)
    people = [[text for text in texts if text not in written] for texts, written in both]
    return {"trained_captions": people, "trained_pseudo_queries": gallery.pseudo_queries}


def shares_found(ask: Callable[[list[Any]], list[int]], gallery: Gallery) -> dict[str, float | None]:
    """ "trained_captions" and "trained_pseudo_queries" of an engine."""
    return {key: _share_found(ask, texts) for key, texts in by_author(gallery).items()}


def measured(memory: Memory, features: Features | None) -> dict[str, Any]:
    """ "memorized", "trained_captions" and "trained_pseudo_queries" of the memory."""
    gallery = memory.gallery

    def own_found(images: Sequence[int]) -> list[int]:
        found: list[int] = []
        for start in range(0, len(images), PICTURE_BATCH):
            some = images[start : start + PICTURE_BATCH]
            found += recalled(memory, list(features.pictures(some)) if features else list(map(gallery.open, some)))
        return found

    own = mapped(own_found, range(len(gallery)))
    return {"memorized": share_right(own, range(len(own))), **shares_found(partial(recalled, memory), gallery)}


def unknown(memory: Memory, name: str) -> list[str]:
    """What to say of images that have no caption and no word of the backbone's; nothing where there is none."""
    gallery = memory.gallery
    said = memory.describe([gallery.file_names[image] for image in gallery.bare])
    which = f"{said.count(''):,} of the {len(said):,} images without a caption"
    return [f"For {which} {name} is sure of no word: caption those that words do not find."] if "" in said else []


@torch.inference_mode()
def measured_by(states: States, memory: Memory) -> dict[str, Any]:
    """The same by states: the likeliest is the first image."""
    own, asked = (
        likeliest(memory.backbone, memory.trie, some)[0].tolist() for some in (states.of_pictures[0], states.of_texts)
    )

    def ask(captions: list[Any]) -> list[int]:
        return [asked[states.texts[caption]] for caption in captions]

    return {"memorized": share_right(own, range(len(own))), **shares_found(ask, memory.gallery)}

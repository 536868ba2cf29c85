"""Prospects: what will come of a gallery, told from its captions alone. Imports no model library."""

import math
from collections import Counter
from pathlib import Path

import numpy as np

from .errors import GalleryError
from .gallery import Gallery
from .recipe import Recipe

HELD_OUT_FROM = 3
"""Captions of an image of which one can be kept out."""
HELD_OUT_SHARE, HELD_OUT_FEWEST = 0.1, 20


def remarks(gallery: Gallery, recipe: Recipe) -> list[str]:
    """What should be known before the gallery is memorised: what will be found by words and what will not.

    Raises GalleryError where no image has a caption.
    """
    bare = sum(not captions for captions in gallery.captions)
    name = Path(recipe.backbone).name
    if bare == len(gallery):
        raise GalleryError(
            f"0 of {len(gallery):,} images have a caption, and {name} cannot describe pictures by itself: "
            "type at least one caption in"
        )
    told = []
    if bare:
        told.append(
            f"{bare:,} of {len(gallery):,} images have no caption, and {name} cannot describe pictures by itself: "
            "these will be recalled from their own picture, not from words. Type captions in to find them by words."
        )
    if not _eligible(gallery.captions):
        told.append(
            f"No image has {HELD_OUT_FROM} captions or more, so none can be kept out of training: the report will not "
            "say how well words that were never trained on are answered."
        )
    return told


def hold_out(captions: list[list[str]], seed: int) -> tuple[list[list[str]], dict[str, int]]:
    """The captions to train on, and those kept out with their image; an image keeps its first caption."""
    eligible = _eligible(captions)
    count = min(len(eligible), max(HELD_OUT_FEWEST, math.ceil(HELD_OUT_SHARE * len(eligible))))
    choice = np.random.default_rng(seed)
    chosen = sorted(choice.choice(len(eligible), count, replace=False)) if count else []
    held_out = {str(choice.choice(eligible[row][1])): eligible[row][0] for row in chosen}
    return [[text for text in texts if held_out.get(text) != image] for image, texts in enumerate(captions)], held_out


def _eligible(captions: list[list[str]]) -> list[tuple[int, list[str]]]:
    """Images of whose captions one may be kept out, and which: no other image has it."""
    owners = Counter(text for texts in captions for text in set(texts))
    found = [
        (image, [text for text in texts[1:] if owners[text] == 1])
        for image, texts in enumerate(captions)
        if len(texts) >= HELD_OUT_FROM
    ]
    return [(image, texts) for image, texts in found if texts]

"""Planning: what will come of a gallery, how many steps it is worth, how long they take on this machine.

Trains nothing that lasts and writes nothing.
"""

import math
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from .backbone import Backbone
from .contrast import tune
from .dense import load_clip
from .errors import GalleryError
from .gallery import Gallery
from .identifiers import Identifiers
from .memorize import Training, memorize
from .pairs import Pairs
from .recipe import PRESETS, Recipe

PASSES = {"quick": 12, "balanced": 30, "thorough": 90}
"""How often each caption is trained on."""
PICTURE_PASSES = 0.8
"""How often each picture is trained on, as a share of PASSES, before descriptions and queries begin."""
DESCRIPTION_PASSES = 0.25
FINISH = 0.15
"""The last part of learning to retrieve, on all captions."""
MIN_STEPS = 6
"""Steps of each kind that a pass must have, where a gallery is small, on the mean of all passes."""
HELD_OUT_FROM = 3
"""Captions of an image of which one can be kept out."""
HELD_OUT_SHARE, HELD_OUT_FEWEST = 0.1, 20
TIMED_STEPS = 4


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


def plan(gallery: Gallery, preset: str, seed: int = 0) -> tuple[Training, int, int]:
    """The backbone's training, and the dense baseline's steps before and after its captions are complete."""
    captions = sum(map(len, gallery.captions))
    queries, pictures = _batch(captions / 6, 256), _batch(len(gallery) / 3, 96)
    passes = PASSES[preset]
    asked = passes * max(MIN_STEPS, captions / queries)
    shown = passes * max(MIN_STEPS, len(gallery) / pictures)
    said = passes * max(MIN_STEPS, len(gallery) / pictures) * DESCRIPTION_PASSES
    finish = math.ceil(FINISH * asked * 1.5)
    training = Training(
        memorise=math.ceil(PICTURE_PASSES * shown),
        describe=math.ceil(said),
        retrieve=math.ceil((1 - FINISH) * asked * 1.5),
        finish=finish,
        pictures=pictures,
        descriptions=pictures,
        queries=queries,
        seed=seed,
    )
    return training, math.ceil((1 - FINISH) * asked), math.ceil(FINISH * asked)


def estimate(gallery: Gallery, recipe: Recipe) -> dict[str, float]:
    """Preset → seconds on this machine, from a few steps of each kind that are taken and timed. Raises as `remarks`."""
    remarks(gallery, recipe)
    started = time.monotonic()
    backbone, clip = Backbone.from_pretrained(recipe.backbone), load_clip(recipe.clip)
    loading = time.monotonic() - started
    seconds = {}
    timed: dict[tuple[int, int], dict[str, float]] = {}
    for preset in PRESETS:
        training, dense_steps, last_dense_steps = plan(gallery, preset, recipe.seed)
        sizes = training.queries, training.pictures
        if sizes not in timed:
            timed[sizes] = _seconds_a_step(backbone, clip, gallery, training)
        per = timed[sizes]
        tasks = Counter(training.task(step) for step in range(training.steps))
        spent = sum(per[task] * count for task, count in tasks.items()) + per["dense"] * (
            dense_steps + last_dense_steps
        )
        asked = len(gallery) + sum(map(len, gallery.captions))
        seconds[preset] = loading + spent + per["queries"] * asked / training.queries
    return seconds


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


def _batch(wanted: float, largest: int) -> int:
    """The power of two (or three halves of one) next below, from 8 to `largest`."""
    sizes = [size for power in range(3, 10) for size in (2**power, 3 * 2 ** (power - 1)) if size <= largest]
    return max([size for size in sizes if size <= wanted], default=sizes[0])


def _seconds_a_step(
    backbone: Backbone, clip: tuple[Any, Any], gallery: Gallery, training: Training
) -> dict[str, float]:
    """Task → seconds: the fastest of a few steps of each, on the gallery's first images."""
    few = Gallery(gallery.root, gallery.file_names[: training.pictures], gallery.captions[: training.pictures])
    if not any(few.captions):
        few.captions[0] = [next(texts[0] for texts in gallery.captions if texts)]
    pairs = Pairs.from_captions(few.captions)
    best: dict[str, float] = {}
    last = time.monotonic()

    def lap(task: str) -> None:
        nonlocal last
        now = time.monotonic()
        best[task] = min(best.get(task, math.inf), now - last)
        last = now

    tune(*clip, few, pairs, TIMED_STEPS, training.queries, on_step=lambda step, loss: lap("dense"))
    identifiers = Identifiers.build("atomic", few, backbone.tokenizer)
    trial = replace(training, memorise=0, describe=0, retrieve=4 * TIMED_STEPS, finish=0, descriptions_every=2)
    memorize(backbone, few, identifiers, pairs, trial, lambda step: lap(step.task))
    return best

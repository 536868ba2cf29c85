"""Planning: how many steps a gallery is worth, and how long they take on this machine.

Trains nothing that lasts and writes nothing.
"""

import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from .backbone import Backbone
from .contrast import tune
from .dense import load_clip
from .features import Features
from .gallery import Gallery
from .identifiers import Identifiers
from .memorize import Training, memorize
from .pairs import Pairs
from .prospects import remarks
from .recipe import PRESETS, Recipe

PASSES: dict[str, float] = {"quick": 6, "balanced": 12, "thorough": 50}
"""How often each caption is trained on."""
ADAPTER_PASSES = 1 / 2
"""Share of the passes that an adapter takes: of 60 emoji, one on gcr-mini knew as much after these as after more."""
VIEWS = {"quick": 2, "balanced": 4, "thorough": 8}
"""Of each picture that a frozen vision tower looks at: the picture as it is, the others perturbed."""
PICTURE_PASSES = 1.2
"""How often each picture is trained on, as a share of PASSES, before descriptions and queries begin."""
DESCRIPTION_PASSES = 0.5
"""The same for descriptions, between the two."""
FINISH = 0.15
"""The last part of learning to retrieve, on all captions."""
MIN_STEPS = 6
"""Batches that a pass has at least: a small gallery has small ones."""
REVISED = Training.pictures_every / (Training.pictures_every - 1)
"""Steps that retrieving takes for each batch of queries, as one in so many is of pictures."""
TIMED_STEPS, TIMED_LARGE_STEPS = 4, 2
"""of each kind, of a small backbone and of another, after one that warms up"""
TIMED_PICTURES = 3
"""that go through a frozen vision tower, the first to warm it up"""


class OnePicture(Features):
    """In a trial the features of all pictures: those of one."""

    def __init__(self, features: torch.Tensor):
        """`features` (1, tokens, hidden)"""
        self.features, self.views = features, 1

    def read(self, images: Sequence[int] | np.ndarray, views: Sequence[int] | np.ndarray) -> torch.Tensor:
        return self.features.expand(len(images), -1, -1)


def plan(gallery: Gallery, preset: str, seed: int = 0, small: bool = True) -> tuple[Training, int, int]:
    """The backbone's training, and the dense baseline's steps before and after its captions are complete.

    `small`: whether the backbone is trained whole.
    """
    captions = sum(map(len, gallery.captions))
    queries, pictures = _batch(captions / MIN_STEPS, 256), _batch(len(gallery) / MIN_STEPS, 96)
    passes = PASSES[preset]
    dense_steps = passes * max(MIN_STEPS, captions / queries)
    passes *= 1 if small else ADAPTER_PASSES
    asked = passes * max(MIN_STEPS, captions / queries)
    shown = passes * max(MIN_STEPS, len(gallery) / pictures)
    training = Training(
        memorise=math.ceil(PICTURE_PASSES * shown),
        describe=math.ceil(DESCRIPTION_PASSES * shown),
        retrieve=math.ceil((1 - FINISH) * asked * REVISED),
        finish=math.ceil(FINISH * asked * REVISED),
        pictures=pictures,
        descriptions=pictures,
        descriptions_every=8,
        queries=queries,
        views=VIEWS[preset],
        seed=seed,
    )
    return training, math.ceil((1 - FINISH) * dense_steps), math.ceil(FINISH * dense_steps)


def estimate(gallery: Gallery, recipe: Recipe) -> dict[str, float]:
    """Preset → seconds on this machine, from a few steps of each kind that are taken and timed. Raises as `remarks`."""
    remarks(gallery, recipe)
    started = time.monotonic()
    backbone, clip = Backbone.from_pretrained(recipe.backbone), load_clip(recipe.clip)
    loading = time.monotonic() - started
    look, features = _seconds_a_look(backbone, gallery)
    seconds = {}
    timed: dict[tuple[int, int], dict[str, float]] = {}
    for preset in PRESETS:
        training, dense_steps, last_dense_steps = plan(gallery, preset, recipe.seed, backbone.is_small)
        sizes = training.queries, training.pictures
        if sizes not in timed:
            timed[sizes] = _seconds_a_step(backbone, clip, gallery, training, features)
        per = timed[sizes]
        steps = Counter(training.task(step) for step in range(training.steps))
        captions = sum(map(len, gallery.captions))
        # A step reads its batch about three times, and so does all that is read outside of training.
        steps["queries"] += math.ceil(captions / training.queries)
        steps["pictures"] += math.ceil(len(gallery) / training.pictures)
        steps["dense"] = dense_steps + last_dense_steps + math.ceil(max(captions, len(gallery)) / training.queries)
        looking = look * training.views * len(gallery)
        seconds[preset] = loading + looking + sum(per[task] * count for task, count in steps.items())
    return seconds


def _seconds_a_look(backbone: Backbone, gallery: Gallery) -> tuple[float, Features | None]:
    """Seconds that the features of a picture take, and such features; 0 and None where all is trained."""
    if backbone.is_small or not backbone.takes_features:
        return 0.0, None
    laps = []
    for image in range(TIMED_PICTURES):
        started = time.monotonic()
        features = backbone.image_features([gallery.open(image % len(gallery))])
        laps.append(time.monotonic() - started)
    return float(np.median(laps[1:])), OnePicture(features)


def _batch(wanted: float, largest: int) -> int:
    """The power of two (or three halves of one) next below, from 8 to `largest`."""
    sizes = [size for power in range(3, 10) for size in (2**power, 3 * 2 ** (power - 1)) if size <= largest]
    return max([size for size in sizes if size <= wanted], default=sizes[0])


def _seconds_a_step(
    backbone: Backbone, clip: tuple[Any, Any], gallery: Gallery, training: Training, features: Features | None
) -> dict[str, float]:
    """Task → seconds: the median of a few steps of each, on the gallery's first images."""
    few = Gallery(gallery.root, gallery.file_names[: training.queries], gallery.captions[: training.queries])
    if not any(few.captions):
        few.captions[0] = [next(texts[0] for texts in gallery.captions if texts)]
    pairs = Pairs.from_captions(few.captions)
    laps: dict[str, list[float]] = {}
    last = time.monotonic()

    def lap(task: str) -> None:
        nonlocal last
        now = time.monotonic()
        laps.setdefault(task, []).append(now - last)
        last = now

    tune(*clip, few, pairs, 1 + TIMED_STEPS, training.queries, on_step=lambda step, loss: lap("dense"))
    identifiers = Identifiers.build("atomic", few, backbone.tokenizer)
    steps = 4 * (TIMED_STEPS if backbone.is_small else TIMED_LARGE_STEPS)
    trial = replace(training, memorise=0, describe=0, retrieve=steps, finish=0, descriptions_every=2)
    memorize(backbone, few, identifiers, pairs, trial, lambda step: lap(step.task), features=features)
    return {task: float(np.median(seconds[1:])) for task, seconds in laps.items()}

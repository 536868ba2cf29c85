"""Estimate: how long a training will take on this machine, told from a few steps of each kind that are timed.

The steps are the training's own, at a learning rate of zero: the backbone keeps its weights, so one that is about to be
trained can be timed. Writes nothing.
"""

import math
import time
from collections import Counter
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np

from gcr_core.data.gallery import Gallery
from gcr_core.models.backbone import Backbone
from gcr_core.models.clip import load_clip
from gcr_core.retrieval.identifiers import Identifiers
from gcr_core.training.batches import Pairs
from gcr_core.training.config import PRESETS, Recipe, Step, Training, plan
from gcr_core.training.features import RepeatedFeatures
from gcr_core.training.preflight import remarks
from gcr_core.training.train import memorize
from gcr_core.training.train_clip import tune

TIMED_STEPS = 5
"""How many steps of each kind are timed, after one that warms up; their median counts."""
TIMED_SLOW_STEPS = 1
"""The same for a large backbone on a CPU, where a single step takes seconds."""
TIMED_PICTURES = 2
"""How many pictures a frozen vision tower encodes to be timed, after one that warms it up."""


def estimate(gallery: Gallery, recipe: Recipe) -> dict[str, float]:
    """Preset → seconds that making the memory will take on this machine. Raises as `remarks`."""
    remarks(gallery, recipe)
    started = time.monotonic()
    backbone, clip = Backbone.from_pretrained(recipe.backbone), load_clip(recipe.clip)
    before = time.monotonic() - started
    training, *_ = plan(gallery, recipe.preset, recipe.seed, backbone.is_small)  # batches are as large in all presets
    seconds_a = seconds_a_step(backbone, gallery, training)
    if not backbone.is_small:
        before = time.monotonic() - started  # its steps are timed again before it is trained
    seconds_a |= _seconds_a_dense_step(clip, gallery, training)
    captions = sum(map(len, gallery.captions))
    seconds = {}
    for preset in PRESETS:
        training, dense_steps, last_dense_steps = plan(gallery, preset, recipe.seed, backbone.is_small)
        steps = Counter(training.task(step) for step in range(training.steps))
        # Outside of training each caption and picture passes about three times, which takes as long as a step on it.
        steps["queries"] += math.ceil(captions / training.queries)
        steps["pictures"] += math.ceil(len(gallery) / training.pictures)
        steps["dense"] = dense_steps + last_dense_steps + math.ceil(max(captions, len(gallery)) / training.queries)
        steps["look"] = training.views * len(gallery)
        seconds[preset] = before + sum(seconds_a.get(kind, 0.0) * count for kind, count in steps.items())
    return seconds


def seconds_a_step(backbone: Backbone, gallery: Gallery, training: Training) -> dict[str, float]:
    """Task → seconds that a step of the backbone's training takes; the gallery has a caption at least.

    "look" is among them where a frozen vision tower encodes the pictures beforehand: seconds a view of a picture. The
    weights stay as they are; a backbone that is not small gets its adapter.
    """
    watch = _Stopwatch()
    features, timed = None, TIMED_STEPS
    if not backbone.is_small:
        timed = TIMED_SLOW_STEPS if backbone.device.type == "cpu" else TIMED_STEPS
        if backbone.takes_features:
            for image in range(1 + TIMED_PICTURES):
                features = RepeatedFeatures(backbone.image_features([gallery.open(image % len(gallery))]))
                watch.lap("look", counts=image > 0)
    few, pairs = _trial(gallery, training.queries)
    # An identifier is a token of the vocabulary here, as new tokens would stay.
    tokens = np.arange(len(few), dtype=np.int32)
    identifiers = Identifiers("atomic", np.arange(len(few) + 1), tokens, [], len(backbone.tokenizer))
    steps = 1 + 3 * timed
    trial = replace(training, memorise=0, describe=0, retrieve=steps, finish=0, descriptions_every=2, learning_rate=0.0)

    def lap(step: Step) -> None:
        watch.lap(step.task, counts=step.step > 1)

    memorize(backbone, few, identifiers, pairs, trial, lap, features=features)
    return watch.medians()


def _seconds_a_dense_step(clip: tuple[Any, Any], gallery: Gallery, training: Training) -> dict[str, float]:
    """The same of the dense baseline, as "dense"; trains it."""
    watch = _Stopwatch()
    few, pairs = _trial(gallery, training.queries)

    def lap(step: int, loss: float) -> None:
        watch.lap("dense", counts=step > 1)

    tune(*clip, few, pairs, 1 + TIMED_STEPS, training.queries, on_step=lap)
    return watch.medians()


def _trial(gallery: Gallery, size: int) -> tuple[Gallery, Pairs]:
    """Images to take a few steps on, those with captions first, and as many queries, which any of them may answer.

    The queries are captions of a middling length: a batch is of texts of about one length, and this is the usual one.
    """
    images = sorted(range(len(gallery)), key=lambda image: not gallery.captions[image])[:size]
    few = Gallery(
        gallery.root, [gallery.file_names[image] for image in images], [gallery.captions[image] for image in images]
    )
    texts = sorted(chain.from_iterable(gallery.captions), key=len)
    first = max(0, len(texts) - size) // 2
    asked: list[list[str]] = [[] for _ in images]
    for place, text in enumerate(texts[first : first + size]):
        asked[place % len(images)].append(text)
    return few, Pairs.from_captions(asked)


class _Stopwatch:
    """The time between laps, by kind."""

    def __init__(self) -> None:
        self._laps: dict[str, list[float]] = {}
        self._last = time.monotonic()

    def lap(self, kind: str, counts: bool = True) -> None:
        now = time.monotonic()
        if counts:
            self._laps.setdefault(kind, []).append(now - self._last)
        self._last = now

    def medians(self) -> dict[str, float]:
        """Kind → median seconds."""
        return {kind: float(np.median(laps)) for kind, laps in self._laps.items()}

"""Estimate: how long making a memory will take on this machine, told from a few steps of each kind that are timed.

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
import torch

from gcr_core.data.gallery import Gallery
from gcr_core.models.backbone import Backbone
from gcr_core.models.clip import image_features, load_clip, text_features
from gcr_core.models.inspection import has_other_eyes, shares_weights
from gcr_core.retrieval.identifiers import Identifiers
from gcr_core.training import everyday
from gcr_core.training.batches import Pairs, text_inputs
from gcr_core.training.config import MOST_QUERIES, PRESETS, Recipe, Step, Training, plan
from gcr_core.training.features import RepeatedFeatures
from gcr_core.training.preflight import remarks
from gcr_core.training.rows import seconds_a_row_step
from gcr_core.training.solve import ITERATIONS
from gcr_core.training.states import READ_TOGETHER, WORN, state_of
from gcr_core.training.train import memorize

TIMED_STEPS = 5
"""How many steps of each kind are timed, after one that warms up; their median counts."""
TIMED_SLOW_STEPS = 1
"""The same for a large backbone on a CPU, where a single step takes seconds."""
TIMED_PICTURES = 2
"""How many pictures a frozen vision tower encodes to be timed, after one that warms it up."""
TIMED_TEXTS = 8
"""How many captions a hub backbone reads to be timed, after as many that warm it up."""
TIMED_VECTORS = 16
"""How many pictures, and captions, CLIP embeds to be timed, after as many that warm it up."""


def estimate(gallery: Gallery, recipe: Recipe) -> dict[str, float]:
    """Preset → seconds that making the memory will take on this machine. Raises as `remarks`."""
    remarks(gallery, recipe)
    started = time.monotonic()
    backbone, clip = Backbone.from_pretrained(recipe.backbone), load_clip(recipe.clip)
    loaded = time.monotonic() - started
    kind = backbone.is_small, backbone.has_joint_space, has_other_eyes(recipe.clip)
    plans = {preset: plan(gallery, replace(recipe, preset=preset), *kind) for preset in PRESETS}
    timed = {training.trained: training for training in plans.values()}
    read_by_backbone = timed.keys() == {"rows"} and shares_weights(recipe.clip, recipe.backbone)
    of_vectors = {} if read_by_backbone else _seconds_a_vector(clip, gallery)
    seconds_of, before_of = {}, {}
    for trained in sorted(timed, reverse=True):  # what gets an adapter is last
        begun = time.monotonic()
        seconds_of[trained] = of_vectors | seconds_a_step(backbone, gallery, timed[trained])
        again = not backbone.is_small  # its steps are timed again before it is trained
        before_of[trained] = loaded + again * (time.monotonic() - begun)
    captions = sum(map(len, gallery.captions))
    captioned = len(set(chain.from_iterable(gallery.captions)))
    seconds = {}
    for preset, training in plans.items():
        seconds_a, before = seconds_of[training.trained], before_of[training.trained]
        texts = captioned + training.phrases
        steps = Counter({"image": len(gallery), "caption": texts})
        steps.update(training.task(step) for step in range(training.steps))
        steps["look"] = training.views * len(gallery)
        if training.trained in ("rows", "solved"):
            steps["read"] = texts
        else:
            # Besides each caption and picture passes about three times, which takes as long as a step on it.
            steps["queries"] += math.ceil((captions + training.phrases) / training.queries)
            steps["pictures"] += math.ceil(len(gallery) / training.pictures)
        if training.trained == "solved":
            steps += {"look": min(WORN, len(gallery)), "read": min(WORN, texts)}
        seconds[preset] = before + sum(seconds_a.get(kind, 0.0) * count for kind, count in steps.items())
    return seconds


def seconds_a_step(backbone: Backbone, gallery: Gallery, training: Training) -> dict[str, float]:
    """Task → seconds that a step of the backbone's training takes.

    "look" is among them where a frozen vision tower encodes the pictures beforehand: seconds a view of a picture, with
    its state where rows are solved for; and "read" where the captions are read beforehand: seconds a caption. The
    weights stay as they are; a backbone that is not small gets its adapter.
    """
    watch = _Stopwatch()
    features, timed = None, TIMED_STEPS
    solved = training.trained == "solved"
    if not backbone.is_small:
        timed = TIMED_SLOW_STEPS if backbone.device.type == "cpu" else TIMED_STEPS
        if backbone.takes_features or solved:
            for image in range(1 + TIMED_PICTURES):
                picture = gallery.open(image % len(gallery))
                if backbone.takes_features:
                    features = RepeatedFeatures(backbone.image_features([picture]))
                if solved:
                    shown = backbone.feature_inputs(features.pictures([0])) if features else None
                    state_of(backbone, shown or backbone.image_inputs([picture]))
                watch.lap("look", counts=image > 0)
    few, pairs = _trial(gallery, MOST_QUERIES if solved else training.queries)
    if training.trained in ("rows", "solved"):
        texts = pairs.texts[: TIMED_TEXTS if solved else READ_TOGETHER]
        for counts in (False, True):
            state_of(backbone, text_inputs(backbone, texts))
            watch.lap("read", counts)
        seconds = watch.medians()
        seconds["read"] /= len(texts)
        size, asked = (len(gallery), backbone.state_size), min(MOST_QUERIES, training.queries)
        step = seconds_a_row_step(*size, asked, backbone.device)
        if solved:
            step *= ITERATIONS * (training.queries + training.views * len(gallery)) / asked
            return seconds | {"queries": step, "pictures": step}
        return seconds | {"queries": step, "pictures": seconds_a_row_step(*size, training.pictures, backbone.device)}
    # An identifier is a token of the vocabulary here, as new tokens would stay.
    tokens = np.arange(len(few), dtype=np.int32)
    identifiers = Identifiers("atomic", np.arange(len(few) + 1), tokens, [], len(backbone.tokenizer))
    steps = 1 + 3 * timed
    rehearsed = 2 if any(few.captions) else 0
    trial = replace(
        training,
        memorise=0,
        describe=0,
        retrieve=steps,
        finish=0,
        descriptions_every=rehearsed,
        learning_rate=0.0,
    )

    def lap(step: Step) -> None:
        watch.lap(step.task, counts=step.step > 1)

    memorize(backbone, few, identifiers, pairs, trial, lap, features=features)
    return watch.medians()


@torch.inference_mode()
def _seconds_a_vector(clip: tuple[Any, Any], gallery: Gallery) -> dict[str, float]:
    """ "image" and "caption" → seconds that CLIP takes for the vector of one."""
    watch = _Stopwatch()
    few, pairs = _trial(gallery, TIMED_VECTORS)
    for counts in (False, True):
        image_features(*clip, [few.open(image) for image in range(len(few))]).cpu()
        watch.lap("image", counts)
        text_features(*clip, pairs.texts).cpu()
        watch.lap("caption", counts)
    seconds = watch.medians()
    return {"image": seconds["image"] / len(few), "caption": seconds["caption"] / len(pairs.texts)}


def _trial(gallery: Gallery, size: int) -> tuple[Gallery, Pairs]:
    """Images to try a few of, those with captions first, and as many queries, which any of them may answer.

    The queries are captions of a middling length, or phrases where there are none: a batch is of texts of about one
    length, and this is the usual one.
    """
    images = sorted(range(len(gallery)), key=lambda image: not gallery.captions[image])[:size]
    few = Gallery(
        gallery.root, [gallery.file_names[image] for image in images], [gallery.captions[image] for image in images]
    )
    texts = sorted(chain.from_iterable(gallery.captions), key=len) or sorted(everyday.bank(size), key=len)
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

"""Pace: how long the training steps of a frozen backbone will take, before any was taken. Trains nothing."""

import time
from collections.abc import Callable
from functools import partial
from itertools import chain, islice
from typing import Any

import torch

from .backbone import Backbone
from .batches import text_inputs
from .gallery import Gallery
from .memorize import Training

ROWS = 16
"""of a batch that are read, twice: the first time warms up"""
READINGS = 2.5
"""times that a step takes as long as its batch is read: forwards, and back to the adapter"""


@torch.inference_mode()
def seconds_a_step(backbone: Backbone, gallery: Gallery, training: Training) -> dict[str, float]:
    """Task → seconds that a step will take. The gallery has a caption at least."""
    texts = list(islice(chain.from_iterable(gallery.captions), ROWS))
    pictures = [gallery.open(0)] * min(ROWS, training.pictures)
    seen = partial(backbone.image_inputs, pictures)
    if backbone.takes_features:
        features = backbone.image_features(pictures[:1])
        seen = partial(backbone.feature_inputs, features.expand(len(pictures), -1, -1))
    of_text = _seconds(backbone, partial(text_inputs, backbone, texts)) / len(texts)
    of_picture = _seconds(backbone, seen) / len(pictures)
    return {
        "pictures": READINGS * of_picture * training.pictures,
        "queries": READINGS * of_text * training.queries,
        "descriptions": READINGS * of_text * training.descriptions,
    }


def _seconds(backbone: Backbone, inputs: Callable[[], dict[str, Any]]) -> float:
    for _ in range(2):
        started = time.monotonic()
        backbone.hidden(**backbone.with_prefix_read(inputs()))[0][0, -1].tolist()
        took = time.monotonic() - started
    return took

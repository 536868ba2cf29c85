"""Training of CLIP, the dense baseline, on the same pairs that a backbone learns to retrieve.

CLIP's symmetric contrastive loss over a batch (Radford et al. 2021), where an image that several texts ask for stands
once and is nobody's negative. The same arguments give the same weights on one machine, interrupted or not. Of several
processes each embeds a share of the batch; the loss is over all of it, as in one.
"""

import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import cross_entropy

from gcr_core.data.gallery import Gallery
from gcr_core.models.clip import image_features, text_features
from gcr_core.models.device import seed_random
from gcr_core.models.distributed import joined, share, trainee
from gcr_core.training.augment import Augmenter
from gcr_core.training.batches import Pairs, TextBatches
from gcr_core.training.learner import Learner, rise_and_fall

SMALL_CLIP_PARAMETERS = 50_000_000
"""A CLIP with fewer parameters is small."""
SMALL_RATE, LARGE_RATE = 1e-3, 1e-5
"""The learning rates of a small CLIP and of a larger one."""
HIGHEST_SCALE = np.log(100)
"""The highest value of the logit scale's logarithm, as in CLIP."""


def contrastive_loss(logits: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """The loss of logits (texts, images) over distinct images: text i asks for image `where[i]`."""
    by_image = torch.nn.functional.one_hot(where, logits.shape[1]).float().T
    by_image = by_image / by_image.sum(1, keepdim=True)
    return cross_entropy(logits, where) + cross_entropy(logits.T, by_image)


def tune(
    model: Any,
    processor: Any,
    gallery: Gallery,
    pairs: Pairs,
    steps: int,
    size: int,
    seed: int = 0,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
    checkpoint: Path | None = None,
) -> None:
    """Trains CLIP in place, on `size` texts a step with one of the images that each asks for, augmented.

    `on_step` gets the steps done and the loss in nats; its exception stops the training. With a `checkpoint` folder a
    training that finds its state there goes on from it.
    """
    few = sum(weight.numel() for weight in model.parameters()) < SMALL_CLIP_PARAMETERS
    clip = trainee(model)
    groups = [{"params": list(clip.parameters()), "lr": SMALL_RATE if few else LARGE_RATE}]
    learner = Learner(model, clip, groups, partial(rise_and_fall, steps=steps), checkpoint, np.zeros(0))
    augmenter = Augmenter(processor.image_processor, gallery)
    batches = TextBatches(processor.tokenizer, pairs, size, seed)

    def loss_of(asked: list[str], shown: list[Image.Image], where: torch.Tensor, images: int) -> torch.Tensor:
        texts = joined(text_features(clip, processor, asked), len(where))
        pictures = joined(image_features(clip, processor, shown), images)
        return contrastive_loss(clip.logit_scale.exp() * texts @ pictures.T, where.to(texts.device))

    with learner:
        for step in range(learner.done, steps):
            seed_random(clip.device, seed, step)
            choice, (asked, rows) = np.random.default_rng((seed, step)), batches.draw(step)
            images = [int(choice.choice(pairs.images[row], p=_shares(pairs.weights[row]))) for row in rows]
            distinct, where = np.unique(images, return_inverse=True)
            shown = [
                augmenter.augmented(image, random.Random(f"{seed} {step} {image}"))
                for image in distinct[share(len(distinct))]
            ]
            own = [asked[row] for row in share(size)]
            loss = learner.loss(loss_of, own, shown, torch.from_numpy(where), len(distinct))
            learner.step()
            clip.logit_scale.data.clamp_(max=HIGHEST_SCALE)
            learner.keep(step + 1)
            on_step(step + 1, loss)


def _shares(weights: np.ndarray) -> np.ndarray:
    return weights / weights.sum(dtype=np.float64)

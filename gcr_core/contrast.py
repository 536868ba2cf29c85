"""Contrast: the dense baseline's training, CLIP on the same pairs that a backbone learns to retrieve.

CLIP's symmetric contrastive loss over a batch (Radford et al. 2021), where an image that several texts ask for stands
once and is nobody's negative. The same arguments give the same weights on one machine, interrupted or not.
"""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from .batches import input_side, perturb, reduced, vary
from .checkpoint import Checkpoint
from .gallery import Gallery
from .memorize import rise_and_fall
from .pairs import Pairs

SMALL_PARAMETERS = 50_000_000
SMALL_RATE, LARGE_RATE = 3e-4, 1e-5
"""learning rate of a CLIP with fewer parameters than that, and of a larger one"""
HIGHEST_SCALE = np.log(100)
"""of the logits, as in CLIP"""


def contrastive_loss(output: Any, where: torch.Tensor) -> torch.Tensor:
    """The loss of a CLIP output for texts (b,) and distinct images (n,): text i asks for image `where[i]`."""
    by_image = torch.nn.functional.one_hot(where, output.logits_per_image.shape[0]).float().T
    by_image = by_image / by_image.sum(1, keepdim=True)
    return cross_entropy(output.logits_per_text, where) + cross_entropy(output.logits_per_image, by_image)


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
    """Train CLIP in place, `size` texts a step with one of the images that each asks for, perturbed.

    `on_step` gets the steps done and the loss in nats; its exception stops the training. With a `checkpoint` folder a
    training that finds its state there goes on from it.
    """
    few = sum(weight.numel() for weight in model.parameters()) < SMALL_PARAMETERS
    weights = dict(model.named_parameters())
    optimizer = torch.optim.AdamW(weights.values(), lr=0.0, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    length = model.config.text_config.max_position_embeddings
    form = {"padding": True, "padding_side": "right", "truncation": True, "max_length": length}
    kept = Checkpoint(checkpoint, weights, optimizer, np.zeros(0))
    side, pictures = input_side(processor.image_processor), {}
    model.train()
    try:
        for step in range(kept.load(), steps):
            choice, draws = np.random.default_rng((seed, step)), random.Random(f"{seed} {step}")
            torch.manual_seed(seed * 1_000_003 + step)
            rows = choice.choice(len(pairs.texts), size, p=pairs.odds)
            images = [int(choice.choice(pairs.images[row], p=_shares(pairs.weights[row]))) for row in rows]
            distinct, where = np.unique(images, return_inverse=True)
            for image in distinct:
                if image not in pictures:
                    pictures[image] = reduced(gallery.open(image), side)
            shown = [perturb(pictures[image], side, draws) for image in distinct]
            asked = [vary(pairs.texts[row], draws) for row in rows]
            inputs = processor.tokenizer(asked, return_token_type_ids=False, return_tensors="pt", **form)
            inputs |= processor.image_processor(shown, return_tensors="pt")
            loss = contrastive_loss(model(**inputs.to(model.device)), torch.from_numpy(where).to(model.device))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights.values(), 1.0)
            optimizer.param_groups[0]["lr"] = (SMALL_RATE if few else LARGE_RATE) * rise_and_fall(step, steps)
            optimizer.step()
            model.logit_scale.data.clamp_(max=HIGHEST_SCALE)
            kept.done(step + 1)
            on_step(step + 1, loss.item())
    except BaseException:
        kept.save()
        raise
    finally:
        model.eval()


def _shares(weights: np.ndarray) -> np.ndarray:
    return weights / weights.sum(dtype=np.float64)

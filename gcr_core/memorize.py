"""Memorising: a backbone learns to say an image's identifier when shown the image or asked for it.

Stages: learning to memorise (picture → identifier) and to retrieve (query → identifier) after Li et al., ACL 2024;
between them learning to describe (identifier → caption) after SIGMA. Later stages go on with batches of the earlier
ones, so that nothing is forgotten. The loss of an identifier step is over that step's codes, as in decoding. A small
backbone is trained whole, of a larger one an adapter. The same arguments give the same weights on one machine,
interrupted or not. Several processes share each batch out and sum their gradients: a step is the same as in one. Knows
nothing about files or the dense baseline.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from .backbone import Backbone
from .batches import DescriptionBatches, PictureBatches, QueryBatches, part, text_inputs
from .checkpoint import Checkpoint
from .decoding import code_log_probabilities
from .describing import MAX_CAPTION_TOKENS, describe_loss
from .errors import GcrError
from .features import Features
from .gallery import Gallery
from .identifiers import Identifiers
from .pairs import Pairs
from .recipe import Step, Training
from .room import Room
from .together import gathered, same_start, share, state, sum_gradients, summed
from .trie import IdentifierTrie

NATS = 20.0
"""that a new token's first row scores its code above chance where a query matches it altogether"""
ROW_NORM = 1.25
"""the length of such a row for gcr-mini"""
MINI_WIDTH = 256
"""of gcr-mini's states"""
LORA_WIDTH, LORA_POWER = 1_000, 0.78
"""numbers of a state up to which LoRA takes the whole learning rate; how fast it falls beyond"""


class IdentifierLoss:
    """-log p of identifiers given prompts, (b,) float32 in nats, against soft targets.

    A prompt may ask for several images with weights. One is drawn and its identifier is fed to the model; the target
    of each step is how the weights of all images that agree with it so far divide over the step's codes.
    """

    def __init__(self, backbone: Backbone, trie: IdentifierTrie):
        self.backbone = backbone
        self.paths = torch.from_numpy(trie.paths()).long().to(backbone.device)
        self.tensors = trie.to(backbone.device)

    def __call__(
        self,
        inputs: dict[str, Any],
        images: torch.Tensor,
        weights: torch.Tensor,
        drawn: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """`inputs`: what `Backbone.hidden` takes, padded left. `images` (b, k) int64, -1 for none; `weights` (b, k).

        `drawn` (b, 1): the column of the image that is fed; by default drawn here.
        """
        chosen = images.gather(1, torch.multinomial(weights, 1) if drawn is None else drawn).squeeze(1)
        path, candidates = self.paths[chosen], self.paths[images.clamp(min=0)]
        fed = path[:, :-1]
        inputs = self.backbone.with_prefix_read(inputs)
        ids = torch.cat([inputs["input_ids"], fed.clamp(min=0)], dim=1)
        mask = torch.cat([inputs["attention_mask"], (fed >= 0).long()], dim=1)
        asked: dict[str, Any] = {
            **inputs,
            "input_ids": ids,
            "attention_mask": None if mask.all() else mask,
            "position_ids": (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :],
        }
        states = self.backbone.hidden(**asked, last=path.shape[1])[0]
        loss = torch.zeros(len(path), device=states.device)
        for depth, codes in enumerate(self.tensors.depth_tokens):
            here = path[:, depth] >= 0
            log_p = code_log_probabilities(self.backbone, states[here, depth], self.tensors.head_rows[depth])
            tokens = candidates[here, :, depth]
            share = weights[here] * (tokens >= 0)
            columns = torch.searchsorted(codes, tokens.clamp(min=0).contiguous()).clamp(max=len(codes) - 1)
            loss = loss.index_add(0, here.nonzero()[:, 0], -(share * log_p.gather(1, columns)).sum(1) / share.sum(1))
            weights = weights * (candidates[:, :, depth] == path[:, depth : depth + 1])
        return loss


def memorize(
    backbone: Backbone,
    gallery: Gallery,
    identifiers: Identifiers,
    pairs: Pairs,
    training: Training,
    on_step: Callable[[Step], None] = lambda step: None,
    last_pairs: Pairs | None = None,
    checkpoint: Path | None = None,
    features: Features | None = None,
) -> None:
    """Train the backbone in place. Its new tokens' rows start from the captions, unless it has them already.

    `last_pairs` take the place of `pairs` in the stage "finish". An exception of `on_step` stops the training.
    With a `checkpoint` folder the state is kept there, also when it is stopped, and a training that finds one
    goes on from it. `features` of the gallery spare the vision tower of a backbone that is not small. Raises GcrError
    for impossible settings.
    """
    processes, accelerator = state().num_processes, Accelerator()
    if min(training.pictures, len(gallery)) < processes:
        raise GcrError(
            f"a batch of {min(training.pictures, len(gallery))} pictures cannot be shared by {processes} processes: "
            "start fewer"
        )
    backbone.model.to(accelerator.device)
    if not backbone.is_small:
        backbone.adapt(training.seed)
    start_rows(backbone, gallery, identifiers, features)
    weights = {name: weight for name, weight in backbone.model.named_parameters() if weight.requires_grad}
    optimizer = torch.optim.AdamW(_groups(backbone, weights), lr=0.0, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    pictures = PictureBatches(backbone, gallery, training.pictures, training.seed, features)
    queries = QueryBatches(backbone, pairs, training.queries, training.seed)
    last_queries = QueryBatches(backbone, last_pairs, training.queries, training.seed) if last_pairs else queries
    descriptions = DescriptionBatches(gallery, identifiers, training.descriptions, training.seed)
    loss_of = IdentifierLoss(backbone, IdentifierTrie.build(identifiers.indptr, identifiers.tokens))
    kept = Checkpoint(checkpoint, weights, optimizer, pictures.losses)
    room = Room(backbone, len(backbone.image_prompt()))
    tasks = [training.task(step) for step in range(training.steps)]
    asked = np.cumsum([task == "queries" for task in tasks])
    optimizer = accelerator.prepare(optimizer)
    backbone.model.train()
    try:
        done = kept.load()
        same_start(weights.values(), done)
        for step in range(done, training.steps):
            torch.manual_seed(training.seed * 1_000_003 + step)
            stage, task = training.stage(step), tasks[step]
            batch: Any
            losses_of: Callable[..., torch.Tensor]
            if task == "descriptions":
                batch, losses_of = descriptions.draw(step), partial(describe_loss, backbone)
                at_once = room.rows(MAX_CAPTION_TOKENS, said=True)
            else:
                if task == "pictures":
                    batch = pictures.draw(step, share(pictures.size))
                else:
                    batch = (last_queries if stage == "finish" else queries).draw(int(asked[step]))
                batch, losses_of = (*batch, torch.multinomial(batch[2], 1)), loss_of
                at_once = room.rows(batch[0]["input_ids"].shape[1] - backbone.shared_prefix(batch[0]))
            size = pictures.size
            if task != "pictures":
                size = len(batch[1])
                batch = part(batch, share(size))
            optimizer.zero_grad()
            losses = torch.zeros(len(batch[1]), device=backbone.device)
            for first in range(0, len(losses), at_once):
                rows = slice(first, first + at_once)
                of_rows = losses_of(*part(batch, rows))
                accelerator.backward(of_rows.sum() / size)
                losses[rows] = of_rows.detach()
            sum_gradients(weights.values())
            losses = gathered(losses, size)
            if task == "pictures":
                pictures.learnt(pictures.drawn(step), losses)
            accelerator.clip_grad_norm_(weights.values(), 1.0)
            for group in optimizer.param_groups:
                group["lr"] = group["pace"] * training.learning_rate * rise_and_fall(step, training.steps)
            optimizer.step()
            kept.done(step + 1)
            on_step(Step(stage, task, step + 1, training.steps, losses.mean().item(), pictures.known))
    except BaseException:
        kept.save()
        raise
    finally:
        backbone.model.eval()


def start_rows(
    backbone: Backbone, gallery: Gallery, identifiers: Identifiers, features: Features | None = None
) -> None:
    """Add the identifiers' new tokens; the row of each is the mean state of its images' captions.

    States of large models have most of their length in common: there a row is what sets its own apart.
    """
    if not identifiers.new_tokens or backbone.new_tokens == identifiers.new_tokens:
        return
    backbone.add_tokens(identifiers.new_tokens)
    rows = identifiers.seed_vectors(image_states(backbone, gallery, features))
    length = ROW_NORM
    if backbone.new_rows is not None:
        rows -= rows.mean(0)
        length = NATS / _state_length(backbone)
    rows *= length / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-6)
    backbone.set_rows(range(backbone.first_new_id, backbone.first_new_id + len(rows)), rows)


def rise_and_fall(step: int, steps: int) -> float:
    """The factor of the learning rate: a linear rise, then half a cosine."""
    rise = min(100, 0.1 * steps)
    return float(min(1.0, (step + 1) / (rise + 1)) * max(0.02, 0.5 + 0.5 * np.cos(np.pi * step / steps)))


@torch.inference_mode()
def image_states(
    backbone: Backbone, gallery: Gallery, features: Features | None = None, batch: int = 256
) -> np.ndarray:
    """(images, hidden) float32: the mean of the backbone's states for an image's captions, each of length one.

    The state is the one behind the whole prompt. An image without captions has the state of its picture.
    Several processes share texts and pictures out.
    """
    owners = [image for image, texts in enumerate(gallery.captions) for _ in texts]
    texts = [text for texts in gallery.captions for text in texts]
    bare = [image for image, texts in enumerate(gallery.captions) if not texts]
    own = share(len(texts))
    owners, texts, bare = owners[own], texts[own], bare[share(len(bare))]
    states = np.zeros((len(gallery), backbone.hidden_size), np.float32)
    for start in range(0, len(texts), batch):
        np.add.at(
            states,
            owners[start : start + batch],
            _states(backbone, text_inputs(backbone, texts[start : start + batch])),
        )
    for start in range(0, len(bare), batch):
        chosen = bare[start : start + batch]
        if features:
            inputs = backbone.feature_inputs(features.pictures(chosen))
        else:
            inputs = backbone.image_inputs([gallery.open(image) for image in chosen])
        states[chosen] = _states(backbone, inputs)
    states = summed(torch.from_numpy(states)).numpy()
    return states / np.linalg.norm(states, axis=1, keepdims=True).clip(1e-6)


def _groups(backbone: Backbone, weights: dict[str, torch.nn.Parameter]) -> list[dict[str, Any]]:
    """What AdamW trains, and at which "pace", as a share of the learning rate: that is for gcr-mini.

    A wider model takes a lower rate for LoRA (Schulman et al., "LoRA Without Regret", 2025); rows change by the same
    share of themselves a step, however long they are.
    """
    if backbone.new_rows is None:
        return [{"params": list(weights.values()), "pace": 1.0}]
    rows = {id(weight) for weight in backbone.new_rows.parameters()}
    lora = [weight for weight in weights.values() if id(weight) not in rows]
    width = backbone.hidden_size
    row_pace = NATS / _state_length(backbone) / ROW_NORM * (MINI_WIDTH / width) ** 0.5
    return [
        {"params": lora, "pace": min(1.0, (LORA_WIDTH / width) ** LORA_POWER)},
        {"params": [weight for weight in weights.values() if id(weight) in rows], "pace": row_pace},
    ]


@torch.inference_mode()
def _state_length(backbone: Backbone) -> float:
    return backbone.hidden(**text_inputs(backbone, ["a picture"]))[0][0, -1].float().norm().item()


def _states(backbone: Backbone, inputs: dict[str, Any]) -> np.ndarray:
    states = backbone.hidden(**inputs, last=1)[0][:, -1]
    return torch.nn.functional.normalize(states.float(), dim=-1).cpu().numpy()

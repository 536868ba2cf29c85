"""Training: a backbone learns to generate an image's identifier when shown the image or asked for it.

Stages: learning to memorise (picture → identifier) and to retrieve (query → identifier) after Li et al., ACL 2024;
between them learning to describe (identifier → caption) after SIGMA. Later stages go on with batches of the earlier
ones, so that nothing is forgotten. The loss of an identifier's token is over the codes of its depth, as in beam search.
A small backbone is trained whole, of a larger one only its adapter. The same arguments give the same weights on one
machine, interrupted or not. Several processes share each batch out: a step is the same as in one. Knows nothing about
the dense baseline.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gcr_core.data.gallery import Gallery
from gcr_core.models.backbone import Backbone
from gcr_core.models.device import seed_random
from gcr_core.models.distributed import gathered, kinds, share, state, trainee
from gcr_core.retrieval.beam_search import code_log_probabilities
from gcr_core.retrieval.describe import MAX_CAPTION_TOKENS, describe_loss
from gcr_core.retrieval.identifiers import Identifiers
from gcr_core.retrieval.trie import IdentifierTrie
from gcr_core.training.batches import Batch, DescriptionBatches, Pairs, PictureBatches, QueryBatches, part, text_inputs
from gcr_core.training.config import Step, Training
from gcr_core.training.features import Features
from gcr_core.training.learner import Learner
from gcr_core.training.microbatch import MicroBatcher

FIRST_LOGIT = 20.0
"""The logit, in nats above chance, that a new token's first row gives for a query that matches it perfectly."""
ROW_NORM = 1.25
"""The norm of such a row in gcr-mini."""
MINI_WIDTH = 256
"""The hidden size of gcr-mini."""
LORA_WIDTH, LORA_POWER = 1_000, 0.78
"""LoRA takes the whole learning rate up to this hidden size; beyond, the rate falls with this power of the size."""


class IdentifierLoss:
    """-log p of identifiers given prompts, (b,) float32 in nats, against soft targets.

    A prompt may ask for several images, each with a weight. One is drawn and its identifier is fed to the model. The
    target at a depth are the weights of all images whose identifiers have begun like the drawn one, by their next code.
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

        `drawn` (b, 1) int64: the column of the image whose identifier is fed; by default it is drawn here.
        """
        chosen = images.gather(1, torch.multinomial(weights, 1) if drawn is None else drawn).squeeze(1)
        path, candidates = self.paths[chosen], self.paths[images.clamp(min=0)]
        fed = path[:, :-1]
        inputs = self.backbone.with_shared_prefix(inputs)
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


class Task(ABC):
    """One kind of training step: what its batch is, the losses of that, and the size of its micro-batches."""

    size: int
    """The rows of a batch."""
    losses_of: Callable[..., torch.Tensor]
    """Gives the losses (b,) of some rows of a batch."""

    def __init__(self, backbone: Backbone, micro_batcher: MicroBatcher):
        self.backbone, self.micro_batcher = backbone, micro_batcher

    @abstractmethod
    def draw(self, step: int, rows: np.ndarray) -> tuple[Any, ...]:
        """These rows of a step's batch."""

    @abstractmethod
    def micro_batch(self, batch: tuple[Any, ...]) -> int:
        """How many rows of a batch a micro-batch may have."""

    def learnt(self, step: int, losses: torch.Tensor) -> None:  # noqa: B027 - only pictures are drawn by their losses
        """Takes the losses (size,) of a step's batch, which later draws may follow."""


class IdentifierTask(Task):
    """Learning to generate identifiers: of those that a row asks for, one is drawn."""

    def micro_batch(self, batch: tuple[Any, ...]) -> int:
        inputs = batch[0]
        return self.micro_batcher.size(inputs["input_ids"].shape[1] - self.backbone.shared_prefix(inputs))

    @staticmethod
    def _with_drawn(batch: Batch) -> tuple[Any, ...]:
        return *batch, torch.multinomial(batch[2], 1)


class PictureTask(IdentifierTask):
    """Learning to memorise: picture → identifier."""

    def __init__(
        self, backbone: Backbone, micro_batcher: MicroBatcher, losses_of: IdentifierLoss, batches: PictureBatches
    ):
        super().__init__(backbone, micro_batcher)
        self.losses_of, self.batches, self.size = losses_of, batches, batches.size

    def draw(self, step: int, rows: np.ndarray) -> tuple[Any, ...]:
        return self._with_drawn(self.batches.draw(step, rows))

    def learnt(self, step: int, losses: torch.Tensor) -> None:
        self.batches.learnt(self.batches.drawn(step), losses)


class QueryTask(IdentifierTask):
    """Learning to retrieve: query → identifier; in the stage "finish" with the pairs `last`."""

    def __init__(
        self,
        backbone: Backbone,
        micro_batcher: MicroBatcher,
        losses_of: IdentifierLoss,
        training: Training,
        pairs: Pairs,
        last: Pairs,
    ):
        super().__init__(backbone, micro_batcher)
        self.losses_of, self.size = losses_of, training.queries
        self.batches, self.last_batches = (
            QueryBatches(backbone, some, training.queries, training.seed) for some in (pairs, last)
        )
        self.stage = training.stage
        self.numbers = np.cumsum([training.task(step) == "queries" for step in range(training.steps)])

    def draw(self, step: int, rows: np.ndarray) -> tuple[Any, ...]:
        batches = self.last_batches if self.stage(step) == "finish" else self.batches
        return part(self._with_drawn(batches.draw(int(self.numbers[step]))), rows)


class DescriptionTask(Task):
    """Learning to describe: identifier → caption."""

    def __init__(self, backbone: Backbone, micro_batcher: MicroBatcher, batches: DescriptionBatches):
        super().__init__(backbone, micro_batcher)
        self.losses_of, self.batches, self.size = partial(describe_loss, backbone), batches, batches.size

    def draw(self, step: int, rows: np.ndarray) -> tuple[Any, ...]:
        return self.batches.draw(step, rows)

    def micro_batch(self, batch: tuple[Any, ...]) -> int:
        return self.micro_batcher.size(MAX_CAPTION_TOKENS, captions=True)


def memorize(
    backbone: Backbone,
    gallery: Gallery,
    identifiers: Identifiers,
    pairs: Pairs | None,
    training: Training,
    on_step: Callable[[Step], None] = lambda step: None,
    last_pairs: Pairs | None = None,
    checkpoint: Path | None = None,
    features: Features | None = None,
) -> None:
    """Trains the backbone in place, on pictures alone where there are no `pairs`.

    Its new tokens' rows start from the captions, unless it has them already.

    `last_pairs` take the place of `pairs` in the stage "finish". An exception of `on_step` stops the training. With a
    `checkpoint` folder the state is kept there, also when the training is stopped, and a training that finds one goes
    on from it. `features` of the gallery spare the vision tower of a backbone that is not small. Raises GcrError where
    the processes find different checkpoints, or Accelerate is configured for what cannot train a memory.
    """
    backbone.model.to(state().device)
    if not backbone.is_small:
        backbone.adapt(training.seed)
    start_rows(backbone, gallery, identifiers, features)
    model, backbone = backbone.model, copy.copy(backbone)
    backbone.model = trainee(model)
    pictures = PictureBatches(backbone, gallery, training.pictures, training.seed, features)
    groups = _groups(backbone, training.learning_rate)
    learner = Learner(model, backbone.model, groups, training.steps, checkpoint, pictures.losses)
    micro_batcher = MicroBatcher(backbone, len(backbone.image_prompt()))
    identify = IdentifierLoss(backbone, IdentifierTrie.build(identifiers.indptr, identifiers.tokens))
    descriptions = DescriptionBatches(gallery, identifiers, training.descriptions, training.seed)
    tasks: dict[str, Task] = {
        "pictures": PictureTask(backbone, micro_batcher, identify, pictures),
        "descriptions": DescriptionTask(backbone, micro_batcher, descriptions),
    }
    if pairs is not None:
        tasks["queries"] = QueryTask(backbone, micro_batcher, identify, training, pairs, last_pairs or pairs)
    with learner:
        for step in range(learner.done, training.steps):
            seed_random(backbone.device, training.seed, step)
            name = training.task(step)
            task = tasks[name]
            batch = task.draw(step, share(task.size))
            micro_batch = min(kinds(task.micro_batch(batch)))
            starts = range(0, len(batch[1]), micro_batch)
            parts = [part(batch, slice(start, start + micro_batch)) for start in starts]
            losses = learner.losses(task.losses_of, parts, task.size)
            learner.step()
            task.learnt(step, losses)
            learner.keep(step + 1)
            on_step(Step(training.stage(step), name, step + 1, training.steps, losses.mean().item(), pictures.known))


def start_rows(
    backbone: Backbone, gallery: Gallery, identifiers: Identifiers, features: Features | None = None
) -> None:
    """Adds the identifiers' new tokens; the row of each starts as the mean state of its images' captions.

    In a large model all states share one large component, so there the mean of all rows is taken from each.
    """
    if not identifiers.new_tokens or backbone.new_tokens == identifiers.new_tokens:
        return
    backbone.add_tokens(identifiers.new_tokens)
    rows = identifiers.seed_vectors(image_states(backbone, gallery, features))
    length = ROW_NORM
    if backbone.new_rows is not None:
        rows -= rows.mean(0)
        length = FIRST_LOGIT / _state_length(backbone)
    rows *= length / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-6)
    backbone.set_rows(range(backbone.first_new_id, backbone.first_new_id + len(rows)), rows)


@torch.inference_mode()
def image_states(
    backbone: Backbone, gallery: Gallery, features: Features | None = None, batch: int = 256
) -> np.ndarray:
    """(images, state) float32, rows of length one: the mean of the backbone's states for an image's captions.

    The state is the one behind the whole prompt. An image without captions has the state of its picture. Several
    processes share the images out.
    """
    own = share(len(gallery))
    captions = [gallery.captions[image] for image in own]
    owners = [place for place, texts in enumerate(captions) for _ in texts]
    texts = [text for texts in captions for text in texts]
    bare = [place for place, texts in enumerate(captions) if not texts]
    states = np.zeros((len(own), backbone.state_size), np.float32)
    for start in range(0, len(texts), batch):
        np.add.at(
            states,
            owners[start : start + batch],
            _states(backbone, text_inputs(backbone, texts[start : start + batch])),
        )
    for start in range(0, len(bare), batch):
        places = bare[start : start + batch]
        if features:
            inputs = backbone.feature_inputs(features.pictures(own[places].tolist()))
        else:
            inputs = backbone.image_inputs([gallery.open(image) for image in own[places]])
        states[places] = _states(backbone, inputs)
    states /= np.linalg.norm(states, axis=1, keepdims=True).clip(1e-6)
    return gathered(torch.from_numpy(states), len(gallery)).numpy()


def _groups(backbone: Backbone, rate: float) -> list[dict[str, Any]]:
    """AdamW's parameter groups; `rate` is the learning rate for gcr-mini.

    A wider model takes a lower rate for LoRA (Schulman et al., "LoRA Without Regret", 2025). The rate of the rows is
    in proportion to their norm, so that a step changes them by the same share of themselves.
    """
    weights = [weight for weight in backbone.model.parameters() if weight.requires_grad]
    if backbone.new_rows is None:
        return [{"params": weights, "lr": rate}]
    rows = {id(weight) for weight in backbone.new_rows.parameters()}
    lora = [weight for weight in weights if id(weight) not in rows]
    width = backbone.hidden_size
    row_pace = FIRST_LOGIT / _state_length(backbone) / ROW_NORM * (MINI_WIDTH / width) ** 0.5
    return [
        {"params": lora, "lr": min(1.0, (LORA_WIDTH / width) ** LORA_POWER) * rate},
        {"params": [weight for weight in weights if id(weight) in rows], "lr": row_pace * rate},
    ]


@torch.inference_mode()
def _state_length(backbone: Backbone) -> float:
    return backbone.hidden(**text_inputs(backbone, ["a picture"]))[0][0, -1].float().norm().item()


def _states(backbone: Backbone, inputs: dict[str, Any]) -> np.ndarray:
    states = backbone.hidden(**inputs, last=1)[0][:, -1]
    return torch.nn.functional.normalize(states.float(), dim=-1).cpu().numpy()

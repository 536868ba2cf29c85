"""Memorising: a backbone learns to say an image's identifier when shown the image or asked for it.

Two steps after Li et al., ACL 2024: learning to memorise (picture → identifier), then learning to retrieve
(query → identifier), with pictures in between so that they are not forgotten. The loss of an identifier step is over
that step's codes, as in decoding. Trains all weights of the backbone. Knows nothing about files or the dense baseline.
"""

import io
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from PIL import Image

from .backbone import Backbone
from .decoding import code_log_probabilities
from .errors import GcrError
from .gallery import Gallery
from .identifiers import Identifiers
from .trie import IdentifierTrie

ROW_NORM = 1.25
"""length of a new token's first row: a well-matched query then scores its code about 20 nats above chance"""
PICTURE_SIDE = 144
"""pixels that a picture keeps in memory while it is trained on"""
DRAWN_AT_ONCE = 32
"""text batches drawn together and sorted by length, so that a batch needs little padding"""
REVISED = 0.3
"""how often a picture that is known is drawn, as a share of the mean picture"""
SLIPS = 0.06
"""share of the queries that are trained on with a slip of the fingers"""


@dataclass(frozen=True)
class Pairs:
    """Training queries and the images they ask for."""

    texts: list[str]
    images: np.ndarray
    """(texts, k) int32: image indices, -1 where a text asks for fewer"""
    weights: np.ndarray
    """(texts, k) float32: how likely each is meant; rows sum to 1"""
    odds: np.ndarray
    """(texts,) float64: how often a text is drawn; sums to 1"""

    @classmethod
    def from_captions(cls, captions: list[list[str]]) -> "Pairs":
        """Every caption asks for the images that have it, all equally; all captions are drawn equally often."""
        owners: dict[str, list[int]] = {}
        for image, texts in enumerate(captions):
            for text in texts:
                owners.setdefault(text, []).append(image)
        if not owners:
            raise GcrError("the gallery has 0 captions; learning to retrieve needs at least 1: type some in")
        images = np.full((len(owners), max(map(len, owners.values()))), -1, np.int32)
        for row, asked in zip(images, owners.values(), strict=True):
            row[: len(asked)] = asked
        weights = (images >= 0) / (images >= 0).sum(axis=1, keepdims=True)
        return cls(list(owners), images, weights.astype(np.float32), np.full(len(owners), 1 / len(owners)))


@dataclass(frozen=True)
class Training:
    """How long and how strongly to train."""

    seconds: float
    """time for both steps together"""
    memorising: float = 0.25
    """share of that time for learning to memorise"""
    pictures_every: int = 4
    """in learning to retrieve, one batch of pictures after so many batches of queries"""
    queries: int = 256
    """queries a batch"""
    pictures: int = 64
    """pictures a batch"""
    learning_rate: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        if self.seconds <= 0:
            raise GcrError(f"training time is {self.seconds} s; it must be above 0")


@dataclass(frozen=True)
class Progress:
    """Where training stands after a batch."""

    stage: str
    """"memorise" or "retrieve"."""
    step: int
    share: float
    """of the time, in [0, 1]"""
    loss: float
    """of the batch: mean -log p of an identifier, in nats"""


class IdentifierLoss:
    """-log p of identifiers given prompts, (b,) float32 in nats, against soft targets.

    A prompt may ask for several images with weights. One is drawn and its identifier is fed to the model; the target
    of each step is how the weights of all images that agree with it so far divide over the step's codes.
    """

    def __init__(self, backbone: Backbone, trie: IdentifierTrie):
        self.backbone = backbone
        self.paths = torch.from_numpy(trie.paths()).long().to(backbone.device)
        self.tensors = trie.to(backbone.device)

    def __call__(self, inputs: dict[str, Any], images: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """`inputs`: what `Backbone.hidden` takes, padded left. `images` (b, k) int64, -1 for none; `weights` (b, k)."""
        chosen = images.gather(1, torch.multinomial(weights, 1)).squeeze(1)
        path, candidates = self.paths[chosen], self.paths[images.clamp(min=0)]
        fed = path[:, :-1]
        mask = torch.cat([inputs["attention_mask"], (fed >= 0).long()], dim=1)
        asked: dict[str, Any] = {
            **inputs,
            "input_ids": torch.cat([inputs["input_ids"], fed.clamp(min=0)], dim=1),
            "attention_mask": None if mask.all() else mask,
            "position_ids": (mask.cumsum(1) - 1).clamp(min=0),
        }
        states = self.backbone.hidden(**asked)[0][:, -path.shape[1] :]
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
    on_step: Callable[[Progress], None] = lambda progress: None,
) -> None:
    """Train the backbone in place. The identifiers' new tokens are added, their rows start from the captions.

    Stops when the time is up; an exception of `on_step` stops it too. Raises GcrError for impossible settings.
    """
    accelerator = Accelerator()
    backbone.model.to(accelerator.device)
    backbone.add_tokens(identifiers.new_tokens)
    if identifiers.new_tokens:
        rows = identifiers.seed_vectors(image_states(backbone, gallery))
        rows *= ROW_NORM / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-6)
        first = backbone.first_new_id
        backbone.set_rows(range(first, first + len(rows)), rows)
    loss_of = IdentifierLoss(backbone, IdentifierTrie.build(identifiers.indptr, identifiers.tokens))
    torch.manual_seed(training.seed)
    weights = [weight for weight in backbone.model.parameters() if weight.requires_grad]
    optimizer = accelerator.prepare(
        torch.optim.AdamW(weights, lr=0.0, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    )
    pictures = PictureBatches(backbone, gallery, training)
    queries = _query_batches(backbone, pairs, training)
    backbone.model.train()
    started, step = time.monotonic(), 0
    while (share := (time.monotonic() - started) / training.seconds) < 1:
        memorising = share < training.memorising
        picture = memorising or step % (training.pictures_every + 1) == 0
        inputs, images, shares = pictures.draw() if picture else next(queries)
        losses = loss_of(inputs, images, shares)
        if picture:
            pictures.learnt(images, losses)
        loss = losses.mean()
        optimizer.zero_grad()
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(weights, 1.0)
        rise, fall = min(1.0, (step + 1) / 100), 0.5 + 0.5 * np.cos(np.pi * min(share, 1.0))
        optimizer.param_groups[0]["lr"] = training.learning_rate * rise * max(fall, 0.02)
        optimizer.step()
        step += 1
        on_step(Progress("memorise" if memorising else "retrieve", step, share, loss.item()))
    backbone.model.eval()


@torch.inference_mode()
def image_states(backbone: Backbone, gallery: Gallery, batch: int = 256) -> np.ndarray:
    """(images, hidden) float32: the mean of the backbone's states for an image's captions, each of length one.

    The state is the one behind the whole prompt. An image without captions has the state of its picture.
    """
    owners = [image for image, texts in enumerate(gallery.captions) for _ in texts]
    texts = [text for texts in gallery.captions for text in texts]
    bare = [image for image, texts in enumerate(gallery.captions) if not texts]
    states = np.zeros((len(gallery), backbone.hidden_size), np.float32)
    for start in range(0, len(texts), batch):
        np.add.at(
            states,
            owners[start : start + batch],
            _states(backbone, text_inputs(backbone, texts[start : start + batch])),
        )
    for start in range(0, len(bare), batch):
        chosen = bare[start : start + batch]
        states[chosen] = _states(backbone, backbone.image_inputs([gallery.open(image) for image in chosen]))
    return states / np.linalg.norm(states, axis=1, keepdims=True).clip(1e-6)


class PictureBatches:
    """Perturbed pictures of a gallery, those that the model still mistakes drawn more often.

    A picture is drawn with odds proportional to its last loss plus a share of the mean, as in prioritised replay
    (Schaul et al. 2016): of a few thousand pictures most are soon known, the lookalikes take long.
    """

    def __init__(self, backbone: Backbone, gallery: Gallery, training: Training):
        self.backbone, self.size = backbone, min(training.pictures, len(gallery))
        self.choice, self.draws = np.random.default_rng(training.seed), random.Random(training.seed)
        self.losses = np.full(len(gallery), np.log(max(len(gallery), 2)))
        self.pictures = []
        for image in range(len(gallery)):
            picture = gallery.open(image)
            picture.thumbnail((PICTURE_SIDE, PICTURE_SIDE), Image.Resampling.LANCZOS)
            self.pictures.append(picture)

    def draw(self) -> "Batch":
        odds = self.losses + REVISED * self.losses.mean()
        chosen = self.choice.choice(len(self.pictures), self.size, replace=False, p=odds / odds.sum())
        inputs = self.backbone.image_inputs([perturb(self.pictures[image], self.draws) for image in chosen])
        images = torch.from_numpy(chosen).to(self.backbone.device)[:, None]
        return inputs, images, torch.ones_like(images, dtype=torch.float32)

    def learnt(self, images: torch.Tensor, losses: torch.Tensor) -> None:
        """What `draw` is to know of the model's losses (b,) on images (b, 1)."""
        self.losses[images[:, 0].cpu().numpy()] = losses.detach().cpu().numpy().clip(min=1e-3)


def text_inputs(backbone: Backbone, texts: list[str]) -> dict[str, Any]:
    """What `Backbone.hidden` takes for text queries."""
    ids, mask = backbone.pad(backbone.query_prompts(texts))
    return {"input_ids": ids, "attention_mask": mask}


def perturb(picture: Image.Image, draws: random.Random) -> Image.Image:
    """The picture cropped, shrunk and compressed at random, so that the memory is of it and not of its file."""
    width, height = picture.size
    share = draws.uniform(0.78, 1.0)
    left, top = draws.uniform(0, width * (1 - share)), draws.uniform(0, height * (1 - share))
    side = draws.randrange(40, 97)
    picture = picture.resize(
        (side, side), Image.Resampling.BILINEAR, (left, top, left + width * share, top + height * share)
    )
    if draws.random() < 0.5:
        written = io.BytesIO()
        picture.save(written, "JPEG", quality=draws.randrange(30, 95))
        picture = Image.open(written)
    return picture


def misspell(text: str, draws: random.Random) -> str:
    """The text with one slip: a letter left out, doubled, or swapped with the next, or a space lost."""
    if len(text) < 5:
        return text
    at = draws.randrange(1, len(text) - 1)
    left_out = text[:at] + text[at + 1 :]
    doubled = text[:at] + text[at] + text[at:]
    swapped = text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    return draws.choice((left_out, doubled, swapped, text.replace(" ", "", 1)))


def _states(backbone: Backbone, inputs: dict[str, Any]) -> np.ndarray:
    states = backbone.hidden(**inputs)[0][:, -1]
    return torch.nn.functional.normalize(states.float(), dim=-1).cpu().numpy()


Batch = tuple[dict[str, Any], torch.Tensor, torch.Tensor]


def _query_batches(backbone: Backbone, pairs: Pairs, training: Training) -> Iterator[Batch]:
    draws = random.Random(training.seed)
    choice = np.random.default_rng(training.seed)
    while True:
        drawn = choice.choice(len(pairs.texts), training.queries * DRAWN_AT_ONCE, p=pairs.odds)
        drawn = drawn[np.argsort([len(pairs.texts[row]) for row in drawn], kind="stable")]
        for rows in choice.permutation(drawn.reshape(DRAWN_AT_ONCE, -1)):
            texts = [pairs.texts[row] for row in rows]
            texts = [misspell(text, draws) if draws.random() < SLIPS else text for text in texts]
            inputs = text_inputs(backbone, texts)
            images = torch.from_numpy(pairs.images[rows]).long().to(backbone.device)
            yield inputs, images, torch.from_numpy(pairs.weights[rows]).to(backbone.device)

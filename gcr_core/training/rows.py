"""Rows: gcr-mini, frozen, memorises a gallery by the rows of its identifiers' codes alone, all of them new tokens.

The row of an image starts as what its captions say and what its picture shows, and is then tuned by softmax regression
on cached states. A caption is asked for while it is left out of its own image's row, so that the row learns to answer
other words as well; rows are held near where they started. A picture teaches its row only what no text has: pictures
that are alike are told apart, and what the row says of words stays as it is. An image without captions has what its
picture shows, and a little of its album's name, on the scale of those with captions: as likely as these, by the mean
and spread of everyday phrases' scores. A CLIP with other eyes says more of it (`Spread`): its vectors of phrases are
told from their states by ridge regression, and by the same map a picture's vector becomes a row. The start alone
answers unseen captions as well as the mean of sentence vectors does.

Of identifiers of several tokens each code is told from the same state, among those below the same place of the tree;
the row of one that many images begin with starts as the mean of theirs. All of it takes a joint space.
"""

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import normalize, pad

from gcr_core.data.gallery import Gallery
from gcr_core.models.backbone import Backbone
from gcr_core.models.device import does_bfloat16, seed_random
from gcr_core.models.distributed import share, state, trainee
from gcr_core.retrieval.beam_search import log_softmax_among
from gcr_core.retrieval.identifiers import Identifiers
from gcr_core.retrieval.trie import IdentifierTrie
from gcr_core.training.batches import KNOWN_LOSS, Pairs
from gcr_core.training.config import MOST_QUERIES, Step, Training
from gcr_core.training.learner import Learner
from gcr_core.training.levels import Level, levels_of
from gcr_core.training.spread import Spread
from gcr_core.training.states import States

LOGIT = 10.0
"""The logit, in nats, of a query that is just what a row says: the length of rows."""
RATE = 5e-3
"""The learning rate of rows, as a share of their length."""
HOLD = 1.0
"""How much a row's distance from its start costs: nats for its own length."""
HUBNESS = 1.0
"""What is taken from the scores of an image without captions, in spreads of everyday phrases' scores over their mean:
a picture that is like every phrase is nobody's answer (Dinu et al. 2015)."""
CLASS_NAMES = 0.25
"""How much the names of a picture's classes count in the row of an image without captions, beside the classes: as a
query for many of them is like the names of others."""
ALBUM = 0.03
"""How much the words of its album's name say of an image without captions, as a share of what a caption would: enough
that they find it, while a name that says nothing of the picture hardly moves it."""
RIDGE = 0.3
"""What the map from states to a CLIP's vectors pays, as a share of the mean variance of a number of the states."""
TAUGHT = 4.0
"""How much what a CLIP says of a picture counts beside what gcr-mini's own eyes see: they know less, but other things.
"""
FOREIGN = 2.0
"""How many spreads over the mean of the scores of other images' pictures count, where an image without captions may
answer these no more than the others do."""
COMPARED, SCORES = 4_096, 2**22
"""How many pictures that is told by, evenly over all; how many scores of pictures are computed together."""
QUERIES = 1_024
"""How many states are compared with all rows together."""
NEVER = -1e4
"""The logit of what no query asks for; a finite one, whose gradient is a number."""
USUAL_SPREAD = 0.1
"""The spread of everyday phrases' scores for a row of captions."""


@dataclass(eq=False)
class Start:
    """Where rows start, at the scale 1, and what they were made of."""

    rows: torch.Tensor
    """(images, state)."""
    seen: torch.Tensor
    """(images, state): what is in them of the pictures; of images without captions also what a CLIP says of them, and
    the names of their albums."""
    sums: torch.Tensor
    """(images, state): the sum of the states of each image's captions, without the constant."""
    counts: torch.Tensor
    """(images,) float32: the captions of each."""

    @classmethod
    def of(cls, backbone: Backbone, states: States, captions: list[list[str]], spread: Spread | None = None) -> "Start":
        """`captions` of all images, any of which may have none; `spread`: what a CLIP with other eyes says of them."""
        owners = torch.tensor([image for image, texts in enumerate(captions) for _ in texts], dtype=torch.long)
        texts = states.of_texts[states.rows([text for of_image in captions for text in of_image])]
        seen = _unbiased(states.of_pictures.mean(0))
        sums = torch.zeros_like(seen).index_add(0, owners.to(seen.device), _unbiased(texts))
        counts = torch.bincount(owners, minlength=len(captions)).float().to(seen.device)
        rows = normalize(sums, dim=-1) + seen
        bare = counts == 0
        if spread is None:
            shown = seen.clone()
            shown[:, : backbone.hidden_size] *= CLASS_NAMES
        else:
            shown = _as_taught(backbone, states, spread, seen)
        seen = torch.where(bare[:, None], shown, seen)
        if states.of_albums is not None:
            seen = seen + ALBUM * bare[:, None] * normalize(_unbiased(states.of_albums), dim=-1)
        if bare.any():
            rows[bare] = _levelled(backbone, seen[bare], rows[~bare])
        return cls(rows, seen, sums, counts)

    def without(self, images: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
        """(b, k): the score that a text (b, state) loses for an image (b, k), when it is left out of its row.

        A text that is its image's only caption stays.
        """
        sums, alone = self.sums[images], self.counts[images] < 2
        rest = sums - _unbiased(texts)[:, None]
        left_out = normalize(rest, dim=-1) - normalize(sums, dim=-1)
        return torch.einsum("bkd,bd->bk", left_out, texts).masked_fill(alone, 0.0)


def _unbiased(states: torch.Tensor) -> torch.Tensor:
    """(..., state): states without their constant, which is for the biases of rows."""
    return pad(states[..., :-1], (0, 1))


def _levelled(backbone: Backbone, rows: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """(n, state): rows (n, state) without a bias on the scale of other rows (m, state), of which there may be none."""
    mean, covariance = (of.to(rows.device) for of in (backbone.phrase_mean, backbone.phrase_covariance))
    words = len(mean)

    def level(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The mean score of everyday phrases, and its spread."""
        said = rows[:, :words]
        spread = torch.einsum("nd,de,ne->n", said, covariance, said).clamp(min=1e-12).sqrt()
        return said @ mean + rows[:, -1], spread

    means, spreads = level(rows)
    usual, middle = means.new_tensor(USUAL_SPREAD), means.new_zeros(())
    if len(others):
        their_means, their_spreads = level(others)
        usual, middle = their_spreads.mean(), (their_means + HUBNESS * their_spreads).mean()
    factor = usual / (spreads.mean() * spreads).sqrt()
    levelled = torch.cat([factor[:, None] * rows[:, :words], rows[:, words:]], 1)
    levelled[:, -1] = middle - factor * (means + HUBNESS * spreads)
    return levelled


def _as_taught(backbone: Backbone, states: States, spread: Spread, seen: torch.Tensor) -> torch.Tensor:
    """(images, state): what is `seen` (images, state), with what a CLIP takes the pictures for in the place of said."""
    words, said = len(backbone.phrase_mean), backbone.hidden_size
    asked = states.of_texts[states.rows(spread.phrases)][:, :words]
    asked = asked - asked.mean(0)
    answers, shown = (of.to(asked.device) for of in (spread.said, spread.shown))
    covariance, own = asked.T @ asked / len(asked), asked[:, :said]
    moments = covariance[:said, :said]
    price = RIDGE * moments.trace() / said * torch.eye(said, device=asked.device)
    taught, by_eyes = torch.zeros_like(seen), seen.clone()
    taught[:, :said] = shown @ torch.linalg.solve(moments + price, own.T @ answers / len(asked)).T
    by_eyes[:, :said] = 0.0

    def usual(rows: torch.Tensor) -> torch.Tensor:
        """The mean spread of the phrases' scores."""
        return torch.einsum("nd,de,ne->n", rows[:, :words], covariance, rows[:, :words]).clamp(min=0).sqrt().mean()

    return by_eyes + TAUGHT * usual(by_eyes) / usual(taught).clamp(min=1e-12) * taught


def memorize_rows(
    backbone: Backbone,
    gallery: Gallery,
    identifiers: Identifiers,
    pairs: Pairs | None,
    training: Training,
    on_step: Callable[[Step], None],
    last_pairs: Pairs | None,
    checkpoint: Path | None,
    states: States,
    last_captions: list[list[str]],
    spread: Spread | None = None,
) -> None:
    """As `train.memorize`, for a backbone whose identifiers are new tokens of its adapter, each of one place.

    Rows that are there already are trained on. `last_captions` are those of all images in the stage "finish"; `spread`
    as in `Start.of`.
    """
    backbone.model.to(state().device)
    before, after = (Start.of(backbone, states, texts, spread) for texts in (gallery.captions, last_captions))
    levels = levels_of(backbone, IdentifierTrie.build(identifiers.indptr, identifiers.tokens))
    model, backbone = backbone.model, copy.copy(backbone)
    backbone.model = trainee(model)
    rows = backbone.new_rows
    assert rows is not None
    count, words = sum(len(level.counts) for level in levels), len(backbone.phrase_mean)
    rows.embedded.requires_grad_(False)
    groups = [{"params": [rows.said], "lr": RATE * LOGIT, "weight_decay": 0.0}]
    losses = np.full(len(gallery), np.log(max(len(gallery), 2)))
    learner = Learner(model, backbone.model, groups, training.steps, checkpoint, losses)
    finish, together = training.steps - training.finish, max(MOST_QUERIES, SCORES // len(gallery))
    draw = _Draw(states, training, pairs, last_pairs or pairs, len(gallery))

    begun = {
        start: [(level.started(LOGIT * start.rows), level.sums(start.counts) == 0) for level in levels]
        for start in (before, after)
    }

    def loss_of(start: Start, kind: str, asked: torch.Tensor, images: torch.Tensor, weights: torch.Tensor) -> Any:
        some = images.clamp(min=0)
        left_out = LOGIT * start.without(some, asked) if kind == "queries" else None
        log_p = torch.zeros_like(weights)
        held = log_p.new_zeros(())
        for level, (rows_before, bare) in zip(levels, begun[start], strict=True):
            said, codes = _taught_part(rows.said[level.rows], kind, words), level.codes[some]
            goes_on, codes = (images >= 0) & (codes >= 0), codes.clamp(min=0)
            logits = _logits(asked, said)
            if left_out is not None:
                logits = logits.scatter_add(1, codes, left_out / level.counts[codes] * goes_on)
                logits = logits.masked_fill(bare, NEVER)
            log_p = log_p + log_softmax_among(logits, level.parents).gather(1, codes).masked_fill(~goes_on, 0.0)
            held = held + (said - rows_before).square().sum()
        return -(weights * log_p).sum(1) + HOLD * held / (count * LOGIT**2)

    with learner:
        for step in range(learner.done, training.steps):
            seed_random(backbone.device, training.seed, step)
            if step == finish:
                with torch.no_grad():
                    for level in levels:
                        rows.said[level.rows] += LOGIT * level.means(after.rows - before.rows)
            start, kind = (after if step >= finish else before), training.task(step)
            batch = draw(step, kind, losses)
            own = share(len(batch[1]))
            parts = list(zip(*(column[own].split(together) for column in batch), strict=True))
            found = learner.losses(partial(loss_of, start, kind), parts, len(batch[1]))
            learner.step()
            if kind == "pictures":
                losses[batch[1][:, 0].cpu().numpy()] = found.cpu().numpy()
            learner.keep(step + 1)
            known = float((losses < KNOWN_LOSS).mean())
            on_step(Step(training.stage(step), kind, step + 1, training.steps, found.mean().item(), known))
    rows.embedded.requires_grad_()
    _level_bare(backbone, levels, after, states.of_pictures[0])


def _taught_part(rows: torch.Tensor, kind: str, words: int) -> torch.Tensor:
    """(n, state): rows (n, state) that a batch of "pictures" or "queries" changes in its own part alone. The part of
    pictures, which no text has, stands behind the first `words` numbers and before the bias."""
    by_pictures = torch.zeros_like(rows[0], dtype=torch.bool)
    by_pictures[words:-1] = True
    return torch.where(by_pictures == (kind == "pictures"), rows, rows.detach())


def _logits(asked: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """(b, n) float32: what rows (n, state) say to states (b, state), in bfloat16 where the device is faster with it."""
    with torch.autocast(asked.device.type, torch.bfloat16, enabled=does_bfloat16(asked.device)):
        return (asked @ rows.T).float()


@torch.no_grad()
def _level_bare(backbone: Backbone, levels: list[Level], start: Start, pictures: torch.Tensor) -> None:
    """Images without captions have what their pictures show, on the scale that the others have come to.

    What makes them answer words as the others do would have them answer other images' `pictures` (images, state) too.
    So their rows lose some of what all looks have in common, which no text has. Codes of several images stay as they
    are.
    """
    said = backbone.new_rows.said  # type: ignore[union-attr]
    for level in levels:
        single = level.counts == 1
        bare = (level.sums(start.counts) == 0) & single
        if bare.any():
            captioned = said[level.rows[~bare]] / LOGIT
            said[level.rows[bare]] = LOGIT * _levelled(backbone, level.means(start.seen)[bare], captioned)
        if bare.any() and (others := single & ~bare).any():
            rows = level.rows[bare], level.rows[others]
            said[rows[0]] = _as_reticent(backbone, said[rows[0]], said[rows[1]], pictures)


def _as_reticent(backbone: Backbone, rows: torch.Tensor, others: torch.Tensor, pictures: torch.Tensor) -> torch.Tensor:
    """(n, state): rows (n, state) that answer other images' pictures (k, state) no more than other rows (m, state) do:
    without some of what all looks have in common, which no text has."""
    look = slice(len(backbone.phrase_mean), -1)
    common = pictures[:, look].mean(0)
    excess = _high_scores(rows, pictures) - _high_scores(_evenly(others, QUERIES), pictures).mean()
    rows = rows.clone()
    rows[:, look] -= excess.clamp(min=0)[:, None] * common / common.square().sum().clamp(min=1e-6)
    return rows


def _high_scores(rows: torch.Tensor, pictures: torch.Tensor) -> torch.Tensor:
    """(n,): how high rows (n, state) score for other images' pictures (k, state): each row's own is its highest."""
    pictures = _evenly(pictures, COMPARED)
    own = rows.new_full((len(rows),), -torch.inf)
    sums, squares = rows.new_zeros(len(rows)), rows.new_zeros(len(rows))
    for some in pictures.split(max(1, SCORES // len(rows))):
        scores = _logits(some, rows)
        own, sums, squares = torch.maximum(own, scores.amax(0)), sums + scores.sum(0), squares + scores.square().sum(0)
    count = max(len(pictures) - 1, 1)
    mean = (sums - own) / count
    return mean + FOREIGN * ((squares - own.square()) / count - mean.square()).clamp(min=0).sqrt()


def another_row(
    backbone: Backbone, captions: torch.Tensor, picture: torch.Tensor, rows: torch.Tensor, asked: torch.Tensor
) -> torch.Tensor:
    """(state,): the row that an image starts with which joins the images of `rows` (n, state), with a joint space.

    By its captions' states (m, state), of which there may be none, and its picture's (state,). It is on their scale,
    and answers the pictures among their own queries `asked` (k, state) no more than they do.
    """
    row = normalize(_unbiased(captions.sum(0)), dim=0) + _unbiased(picture)
    started = LOGIT * _levelled(backbone, row[None], rows / LOGIT)[0]
    shown = torch.cat([asked[asked[:, len(backbone.phrase_mean) : -1].any(1)], picture[None]])
    return _as_reticent(backbone, started[None], rows, shown)[0]


def _evenly(rows: torch.Tensor, most: int) -> torch.Tensor:
    """At most so many rows, evenly over all."""
    return rows[:: max(1, -(-len(rows) // most))]


def begin_rows(
    backbone: Backbone,
    states: States,
    identifiers: Identifiers,
    captions: list[list[str]],
    spread: Spread | None = None,
) -> None:
    """Adds the identifiers' new tokens; their rows start as `start_of` has it, or as the mean of several images'."""
    backbone.add_tokens(identifiers.new_tokens)
    rows = start_of(backbone, states, captions, spread)
    for level in levels_of(backbone, IdentifierTrie.build(identifiers.indptr, identifiers.tokens)):
        backbone.set_rows(identifiers.vocabulary + level.rows, level.started(rows))


@torch.inference_mode()
def likeliest(backbone: Backbone, trie: IdentifierTrie, states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(b,) int64 and (b,) float32, on the CPU: the image that each state (b, state) recalls first, and its log p."""
    levels = levels_of(backbone, trie)
    images, best = [torch.zeros(0, dtype=torch.long)], [torch.zeros(0)]
    for some in states.split(QUERIES):
        log_p = some.new_zeros(len(some), len(trie))
        for level in levels:
            rows, _ = backbone.head_rows(backbone.own_vocabulary + level.rows)
            of_codes = log_softmax_among(some @ rows.T, level.parents)
            log_p += of_codes[:, level.codes].masked_fill(level.codes < 0, 0.0)
        first = log_p.max(1)
        images.append(first.indices.cpu())
        best.append(first.values.cpu())
    return torch.cat(images), torch.cat(best)


def start_of(
    backbone: Backbone, states: States, captions: list[list[str]], spread: Spread | None = None
) -> torch.Tensor:
    """(images, state) float32: the rows that images start with."""
    return LOGIT * Start.of(backbone, states, captions, spread).rows


def seconds_a_row_step(images: int, state_size: int, queries: int, device: torch.device) -> float:
    """The seconds that a step takes, told from two on rows that are all zero."""
    rows = torch.zeros(images, state_size, device=device, requires_grad=True)
    optimizer, asked = torch.optim.AdamW([rows], fused=True), torch.ones(queries, state_size, device=device)
    for _ in range(2):
        begun = time.monotonic()
        _logits(asked, rows).logsumexp(1).mean().backward()
        optimizer.step()
        seconds = time.monotonic() - begun
    return seconds


class _Draw:
    """The batches of a training on states: (states (b, state), images (b, k), weights (b, k)).

    Every caption is asked once an epoch, in another order, whatever its odds.
    """

    def __init__(self, states: States, training: Training, pairs: Pairs | None, last: Pairs | None, images: int):
        self.states, self.training, self.images = states, training, images
        self.pairs, self.last = pairs, last
        self.numbers = np.cumsum([training.task(step) == "queries" for step in range(training.steps)]) - 1

    def __call__(self, step: int, kind: str, losses: np.ndarray) -> tuple[torch.Tensor, ...]:
        choice, device = np.random.default_rng((self.training.seed, step)), self.states.of_texts.device
        if kind == "pictures":
            drawn = choice.choice(self.images, min(self.training.pictures, self.images), replace=False)
            views = choice.integers(len(self.states.of_pictures), size=len(drawn))
            images = torch.from_numpy(drawn).to(device)
            asked = self.states.of_pictures[torch.from_numpy(views).to(device), images]
            return asked, images[:, None], torch.ones(len(drawn), 1, device=device)
        pairs = self.last if self.training.stage(step) == "finish" else self.pairs
        assert pairs is not None
        batches = -(-len(pairs.texts) // self.training.queries)
        epoch, batch = divmod(int(self.numbers[step]), batches)
        order = np.random.default_rng((self.training.seed, epoch)).permutation(len(pairs.texts))
        chosen = np.array_split(order, batches)[batch]
        asked = self.states.of_texts[self.states.rows([pairs.texts[row] for row in chosen])]
        images, weights = (torch.from_numpy(of[chosen]).to(device) for of in (pairs.images, pairs.weights))
        return asked, images.long(), weights

"""Incremental memorising: a new image gets a token of its own whose row is solved for, not trained.

After IncDSI (Kishore et al., ICML 2023). The row w of a new image is found such that for the image's own queries (its
captions, its picture and augmented views of it) the logit w·h passes those of all first codes, and that for the queries
of the other images it stays below what they recall now, each by a margin: a convex problem in as many unknowns as the
hidden size. No other weight changes, so the scores of the other images change by their common normalisation alone. The
new identifier is that one token, whatever the identifier type. Consolidation later trains all weights on what was
added, with replay of the rest (DSI++, Mehta et al., 2023).
"""

import copy
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from gcr_core.data.gallery import Gallery
from gcr_core.errors import MemoryFormatError
from gcr_core.models.backbone import Backbone
from gcr_core.models.mini import MiniClip
from gcr_core.retrieval.beam_search import recall
from gcr_core.retrieval.dense import DenseIndex
from gcr_core.retrieval.identifiers import Identifiers
from gcr_core.retrieval.trie import IdentifierTrie
from gcr_core.training.augment import augment, input_side
from gcr_core.training.batches import Pairs, text_inputs
from gcr_core.training.config import PHRASE_ODDS, Recipe, Step, Training, plan
from gcr_core.training.everyday import bank
from gcr_core.training.features import VISION_BATCH, Features
from gcr_core.training.preflight import HELD_OUT_CHEAPLY, HELD_OUT_ODDS, hold_out
from gcr_core.training.pseudo_queries import without_tags
from gcr_core.training.rows import another_row, begin_rows, likeliest, memorize_rows
from gcr_core.training.solve import memorize_solved
from gcr_core.training.spread import Spread
from gcr_core.training.states import States, state_of
from gcr_core.training.train import memorize

AUGMENTED_VIEWS = 8
"""How many augmented views of a new picture there are, each of them a query of its own."""
OWN_MARGIN, OLD_MARGIN = 1.5, 2.0
"""By how many nats a new row has to win its own queries, and to lose those of other images. The margins leave room for
queries in new words, which lie between the two."""
OWN_WEIGHT, OLD_WEIGHT, STAY_WEIGHT = 5.0, 1.0, 10.0
"""Weights of the squared errors that a new row minimises: how far it misses the margin, on average over the image's
captions and again over its views; how far on each query of another image; how far it is from where it starts."""
NEWTON_ROUNDS = 30
"""The most rounds of Newton's method."""
QUERY_BATCH = 64
"""How many queries pass the backbone together."""
MAX_KNOWN = 50_000
"""The most queries that are kept; of larger galleries they are those of a sample of the images."""
MAX_KNOWN_CAPTIONS = 8
"""The most captions of an image that are kept as queries."""
NEW_SHARE = 0.3
"""The least share of the queries in consolidation that are of new images."""
REPLAY_PASSES, MIN_REPLAY_STEPS = 6, 20
"""Epochs over the captions that consolidation trains for, and its fewest steps."""
REPLAY_QUERIES, REPLAY_PICTURES = 128, 64
"""Queries, and pictures or descriptions, of a batch in consolidation."""
REPLAY_RATE = 3e-4
"""The learning rate of consolidation."""


@dataclass
class KnownQueries:
    """Queries of the gallery's images, as the backbone's states: a new row must not win them."""

    states: torch.Tensor
    """(n, hidden) float32, on the CPU: the state behind each prompt."""
    bars: torch.Tensor
    """(n,) float32: the logit with which a first code would outscore what the query recalls."""
    owners: torch.Tensor
    """(n,) int64: the image that each query is of."""

    @classmethod
    def read(
        cls,
        backbone: Backbone,
        trie: IdentifierTrie,
        gallery: Gallery,
        features: Features | None = None,
        states: States | None = None,
    ) -> Self:
        """Captions of a gallery's images, their pictures (or `features`), and one augmented view of each.

        `states` of the gallery, where rows alone were trained on them, spare all reading; there may be no augmented
        views.
        """
        draws, side = random.Random(0), input_side(backbone.processor.image_processor)
        queries = 2 * len(gallery) + sum(min(len(texts), MAX_KNOWN_CAPTIONS) for texts in gallery.captions)
        images = sorted(draws.sample(range(len(gallery)), min(len(gallery), len(gallery) * MAX_KNOWN // queries)))
        texts = [(text, image) for image in images for text in gallery.captions[image][:MAX_KNOWN_CAPTIONS]]
        texts.sort(key=lambda asked: len(asked[0]))
        parts = [cls.empty(backbone)]
        if states:
            of_texts = states.of_texts[states.rows([text for text, _ in texts])]
            parts.append(cls._asked(backbone, trie, of_texts, [image for _, image in texts]))
            parts += [cls._asked(backbone, trie, view[images], images) for view in states.of_pictures[:2]]
            return cls.joined(parts)
        seen: list[torch.Tensor] = []
        owners: list[int] = []
        for start in range(0, len(texts), QUERY_BATCH):
            asked, asked_for = zip(*texts[start : start + QUERY_BATCH], strict=True)
            if not backbone.has_joint_space:
                parts.append(cls._of(backbone, trie, text_inputs(backbone, list(asked)), asked_for))
                continue
            seen.append(_states(backbone, text_inputs(backbone, list(asked))))
            owners += asked_for
        for start in range(0, len(images), VISION_BATCH):
            chosen = images[start : start + VISION_BATCH]
            if features:
                inputs = [features.read(chosen, [view] * len(chosen)) for view in range(min(2, features.views))]
                parts += [cls._of(backbone, trie, backbone.feature_inputs(view), chosen) for view in inputs]
                continue
            pictures = [gallery.open(image) for image in chosen]
            for views in (pictures, [augment(picture, side, draws) for picture in pictures]):
                if not backbone.has_joint_space:
                    parts.append(cls._of(backbone, trie, backbone.image_inputs(views), chosen))
                    continue
                seen.append(_states(backbone, backbone.image_inputs(views)))
                owners += chosen
        if seen:  # compared with all rows at once: copies of these in between would split up the memory
            parts.append(cls._asked(backbone, trie, torch.cat(seen), owners))
        return cls.joined(parts)

    @classmethod
    def empty(cls, backbone: Backbone) -> Self:
        return cls(torch.zeros(0, backbone.state_size), torch.zeros(0), torch.zeros(0, dtype=torch.long))

    @classmethod
    def joined(cls, parts: list[Self]) -> Self:
        columns = zip(*((part.states, part.bars, part.owners) for part in parts), strict=True)
        return cls(*map(torch.cat, columns))

    @classmethod
    @torch.inference_mode()
    def _of(cls, backbone: Backbone, trie: IdentifierTrie, inputs: dict[str, Any], owners: Iterable[int]) -> Self:
        known = cls._asked(backbone, trie, _states(backbone, inputs), owners)
        if trie.depth > 1 and not backbone.has_joint_space:
            logits = known.states @ _first_rows(backbone, trie).T
            known.bars = recall(backbone, trie, inputs, QUERY_BATCH, 1).scores[:, 0] + logits.logsumexp(1)
        return known

    @classmethod
    @torch.inference_mode()
    def _asked(cls, backbone: Backbone, trie: IdentifierTrie, states: torch.Tensor, owners: Iterable[int]) -> Self:
        """Queries by their states, which tell the bars of identifiers of one token, or of all with a joint space."""
        known, rows = states.float().cpu(), _first_rows(backbone, trie)
        several = trie.depth > 1 and backbone.has_joint_space
        over = torch.logsumexp if several else torch.amax
        bars = torch.cat([torch.zeros(0), *(over(some @ rows.T, 1) for some in known.split(QUERY_BATCH))])
        if several:
            bars += likeliest(backbone, trie, states)[1]
        return cls(known, bars, torch.tensor(list(owners), dtype=torch.long))

    def without(self, images: Iterable[int]) -> Self:
        """Without the queries of images that have left the gallery; those behind them move up."""
        left = torch.tensor(sorted(set(images)), dtype=torch.long)
        kept = self.but(left)
        return type(self)(kept.states, kept.bars, kept.owners - torch.searchsorted(left, kept.owners))

    def but(self, images: torch.Tensor | list[int]) -> Self:
        """Without the queries of images that stay in the gallery."""
        kept = ~torch.isin(self.owners, torch.as_tensor(images, dtype=torch.long))
        return type(self)(self.states[kept], self.bars[kept], self.owners[kept])

    def extended(self, new: "NewImage", row: torch.Tensor, image: int) -> Self:
        """With the queries of a new image behind the others, once its token has its row."""
        states = new.states[: new.kept]
        more = type(self)(states, states @ row, torch.full((len(states),), image))
        return self.joined([type(self)(self.states, torch.maximum(self.bars, self.states @ row), self.owners), more])

    def save(self, path: Path) -> None:
        """Writes `queries.safetensors`, the states at half precision."""
        save_file({"states": self.states.half(), "bars": self.bars, "owners": self.owners}, path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """What `save` wrote. Raises MemoryFormatError when it is something else."""
        try:
            arrays = load_file(path)
            known = cls(arrays["states"].float(), arrays["bars"].float(), arrays["owners"].long())
        except (OSError, SafetensorError, KeyError) as error:
            raise MemoryFormatError(f"{path} holds no queries ({error}): delete it, adding makes it anew") from None
        if not (known.states.ndim == 2 and known.bars.shape == known.owners.shape == known.states.shape[:1]):
            raise MemoryFormatError(f"{path} holds queries of uneven counts: delete it, adding makes it anew")
        return known


@dataclass
class NewImage:
    """A new image's own queries, as the backbone's states."""

    states: torch.Tensor
    """(n, hidden) float32: of its captions, then of its picture, then of augmented views."""
    weights: torch.Tensor
    """(n,) float32: the weight of each query's error."""
    kept: int
    """How many of the first queries become known ones once the image is added."""

    @classmethod
    def read(cls, backbone: Backbone, picture: Image.Image, captions: list[str]) -> Self:
        draws, side = random.Random(0), input_side(backbone.processor.image_processor)
        views = [picture, *(augment(picture, side, draws) for _ in range(AUGMENTED_VIEWS))]
        states = [_states(backbone, backbone.image_inputs(views))]
        weights = torch.full((len(views),), OWN_WEIGHT / len(views))
        if captions:
            states.insert(0, _states(backbone, text_inputs(backbone, captions)))
            weights = torch.cat([torch.full((len(captions),), OWN_WEIGHT / len(captions)), weights])
        return cls(torch.cat(states), weights, len(captions) + 2)


def solve_row(backbone: Backbone, trie: IdentifierTrie, new: NewImage, known: KnownQueries) -> torch.Tensor:
    """(hidden,) float32: the row of a new image's token."""
    rows = _first_rows(backbone, trie)
    if backbone.has_joint_space:
        own = new.states[: new.kept - 2], new.states[new.kept - 2]
        start = another_row(backbone, *own, rows, known.states)
    else:
        directions = torch.nn.functional.normalize(new.states, dim=1)
        mean = torch.nn.functional.normalize((new.weights[:, None] * directions).sum(0), dim=0)
        start = mean * rows.norm(dim=1).mean()
    return _solve(start, new, (new.states @ rows.T).amax(1), known)


def replay(captions: list[list[str]], added: int, phrases: Pairs | None = None) -> tuple[Pairs, Training]:
    """What consolidation trains on: all captions, those of the last `added` images more often, and phrases.

    Raises GcrError where there is neither.
    """
    pairs, texts = phrases, PHRASE_ODDS * len(phrases.texts) if phrases else 0.0
    if pairs is None or any(captions):
        pairs = Pairs.from_captions(captions)
        texts += len(pairs.texts)
        new = pairs.images.max(axis=1) >= len(captions) - added
        share = max(new.mean(), NEW_SHARE) if 0 < new.mean() < 1 else new.mean()
        odds = np.where(new, share / max(new.sum(), 1), (1 - share) / max((~new).sum(), 1))
        pairs = replace(pairs, odds=odds / odds.sum())
        pairs = Pairs.joined(pairs, phrases) if phrases else pairs
    queries, pictures = min(REPLAY_QUERIES, len(pairs.texts)), min(REPLAY_PICTURES, len(captions))
    training = Training(
        memorise=0,
        describe=0,
        retrieve=max(MIN_REPLAY_STEPS, int(REPLAY_PASSES * texts / queries)),
        pictures=pictures,
        descriptions=pictures,
        descriptions_every=Training.descriptions_every if any(captions) else 0,
        queries=queries,
        learning_rate=REPLAY_RATE,
    )
    return pairs, training


def retrain(
    backbone: Backbone,
    gallery: Gallery,
    identifiers: Identifiers,
    dense: DenseIndex,
    added: int,
    on_step: Callable[[Step], None],
    on_kept: Callable[[States, list[list[str]], dict[str, int]], None] = lambda states, kept, held_out: None,
) -> States | None:
    """Consolidates a memory whose last `added` images were not trained on: with `replay`, from the present weights.

    Where nothing but rows was trained, these begin anew, or are solved for; then the states that they were made of are
    returned. Of images without captions the CLIP of `dense` says what everyday phrases they answer, as in a first
    training. Where rows begin anew, captions are held out as in a first training: `on_kept` hears of these, with the
    others, before the rows have learnt them.
    """
    recipe = Recipe(identifiers=identifiers.type, preset="quick")
    other_eyes = not isinstance(dense.model, MiniClip)
    training = plan(gallery, recipe, small=False, joint=backbone.has_joint_space, other_eyes=other_eyes)
    phrases, spread = bank(training.phrases), None
    if phrases:
        pictures = partial(dense.embed_images, map(gallery.open, range(len(gallery))))
        spread = Spread.of(dense, phrases, pictures, gallery.bare)
    if backbone.new_rows is None or backbone.has_lora:
        pairs, training = replay(gallery.captions, added, spread.pairs() if spread else None)
        memorize(backbone, gallery, identifiers, pairs, training, on_step)
        return None
    states = States.read(backbone, gallery, phrases=phrases)
    taught = without_tags(gallery.captions, gallery, backbone.tagger)
    said = Pairs.from_captions(taught) if any(taught) else None
    if training.trained == "solved":
        states = states.with_worn(backbone, gallery, training.seed)
        memorize_solved(backbone, identifiers, said, training, on_step, None, states, spread)
        return states
    kept, held_out = hold_out(gallery, training.seed, HELD_OUT_CHEAPLY)
    kept = without_tags(kept, gallery, backbone.tagger)
    last = said.oftener(held_out, HELD_OUT_ODDS) if said else None
    said = Pairs.from_captions(kept) if any(kept) else None

    def on_row_step(step: Step) -> None:
        if held_out and step.step == training.steps - training.finish:
            on_kept(states, kept, held_out)
        on_step(step)

    begin_rows(backbone, states, identifiers, kept, spread)
    gallery = copy.copy(gallery)
    gallery.captions = kept
    memorize_rows(backbone, gallery, identifiers, said, training, on_row_step, last, None, states, taught, spread)
    return states


def _solve(start: torch.Tensor, own: NewImage, own_bars: torch.Tensor, known: KnownQueries) -> torch.Tensor:
    """The row that costs least, by Newton's method: the cost is quadratic wherever the same margins are missed."""
    states = torch.cat([own.states, known.states])
    wanted = torch.cat([own_bars + OWN_MARGIN, known.bars - OLD_MARGIN])
    above = torch.arange(len(states)) < len(own.states)
    costs = torch.cat([own.weights, torch.full((len(known.bars),), OLD_WEIGHT)])
    identity = STAY_WEIGHT * torch.eye(states.shape[1], dtype=torch.float64)
    row, missed = start, torch.zeros_like(above)
    for _ in range(NEWTON_ROUNDS):
        logits = states @ row
        now_missed = torch.where(above, logits < wanted, logits > wanted)
        if (now_missed == missed).all():
            break
        missed = now_missed
        those, weighed = states[missed].double(), (states[missed] * costs[missed, None]).double()
        right = STAY_WEIGHT * start.double() + weighed.T @ wanted[missed].double()
        row = torch.linalg.solve(identity + weighed.T @ those, right).float()
    return row


def _first_rows(backbone: Backbone, trie: IdentifierTrie) -> torch.Tensor:
    """(codes, hidden) float32, on the CPU: the head's rows of the first codes."""
    codes = torch.from_numpy(trie.depth_tokens[0].astype(np.int64)).to(backbone.device)
    rows = backbone.head_rows(codes)[0].detach().float().cpu()
    return torch.nn.functional.pad(rows, (0, backbone.state_size - rows.shape[1]))  # those of words may be narrower


@torch.inference_mode()
def _states(backbone: Backbone, inputs: dict[str, Any]) -> torch.Tensor:
    return state_of(backbone, inputs).cpu()

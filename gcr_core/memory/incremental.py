"""Incremental memorising: a new image gets a token of its own whose row is solved for, not trained.

After IncDSI (Kishore et al., ICML 2023). The row w of a new image is found such that for the image's own queries (its
captions, its picture and augmented views of it) the logit w·h passes those of all first codes, and that for the queries
of the other images it stays below what they recall now, each by a margin: a convex problem in as many unknowns as the
hidden size. No other weight changes, so the scores of the other images change by their common normalisation alone. The
new identifier is that one token, whatever the identifier type. Consolidation later trains all weights on what was
added, with replay of the rest (DSI++, Mehta et al., 2023).
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass, replace
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
from gcr_core.retrieval.beam_search import recall
from gcr_core.retrieval.trie import IdentifierTrie
from gcr_core.training.augment import augment, input_side
from gcr_core.training.batches import Pairs, text_inputs
from gcr_core.training.config import Training
from gcr_core.training.features import Features

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
    def read(cls, backbone: Backbone, trie: IdentifierTrie, gallery: Gallery, features: Features | None = None) -> Self:
        """Captions of a gallery's images, their pictures (or `features`), and one augmented view of each."""
        draws, side = random.Random(0), input_side(backbone.processor.image_processor)
        queries = 2 * len(gallery) + sum(min(len(texts), MAX_KNOWN_CAPTIONS) for texts in gallery.captions)
        images = sorted(draws.sample(range(len(gallery)), min(len(gallery), len(gallery) * MAX_KNOWN // queries)))
        texts = [(text, image) for image in images for text in gallery.captions[image][:MAX_KNOWN_CAPTIONS]]
        texts.sort(key=lambda asked: len(asked[0]))
        parts = [cls.empty(backbone)]
        for start in range(0, len(texts), QUERY_BATCH):
            asked, owners = zip(*texts[start : start + QUERY_BATCH], strict=True)
            parts.append(cls._of(backbone, trie, text_inputs(backbone, list(asked)), owners))
        for start in range(0, len(images), QUERY_BATCH):
            chosen = images[start : start + QUERY_BATCH]
            if features:
                inputs = [features.read(chosen, [view] * len(chosen)) for view in range(min(2, features.views))]
                parts += [cls._of(backbone, trie, backbone.feature_inputs(view), chosen) for view in inputs]
                continue
            pictures = [gallery.open(image) for image in chosen]
            for views in (pictures, [augment(picture, side, draws) for picture in pictures]):
                parts.append(cls._of(backbone, trie, backbone.image_inputs(views), chosen))
        return cls.joined(parts)

    @classmethod
    def empty(cls, backbone: Backbone) -> Self:
        return cls(torch.zeros(0, backbone.hidden_size), torch.zeros(0), torch.zeros(0, dtype=torch.long))

    @classmethod
    def joined(cls, parts: list[Self]) -> Self:
        columns = zip(*((part.states, part.bars, part.owners) for part in parts), strict=True)
        return cls(*map(torch.cat, columns))

    @classmethod
    @torch.inference_mode()
    def _of(cls, backbone: Backbone, trie: IdentifierTrie, inputs: dict[str, Any], owners: Iterable[int]) -> Self:
        states = _states(backbone, inputs)
        logits = states @ _first_rows(backbone, trie).T
        bars = logits.amax(1)
        if trie.depth > 1:
            bars = recall(backbone, trie, inputs, QUERY_BATCH, 1).scores[:, 0] + logits.logsumexp(1)
        return cls(states, bars, torch.tensor(list(owners)))

    def without(self, images: Iterable[int]) -> Self:
        """Without the queries of images that have left the gallery; those behind them move up."""
        left = torch.tensor(sorted(set(images)), dtype=torch.long)
        kept = ~torch.isin(self.owners, left)
        owners = self.owners[kept]
        return type(self)(self.states[kept], self.bars[kept], owners - torch.searchsorted(left, owners))

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
    directions = torch.nn.functional.normalize(new.states, dim=1)
    mean = torch.nn.functional.normalize((new.weights[:, None] * directions).sum(0), dim=0)
    return _solve(mean * rows.norm(dim=1).mean(), new, (new.states @ rows.T).amax(1), known)


def replay(captions: list[list[str]], added: int) -> tuple[Pairs, Training]:
    """What consolidation trains on: all captions, those of the last `added` images more often. Raises GcrError."""
    pairs = Pairs.from_captions(captions)
    new = pairs.images.max(axis=1) >= len(captions) - added
    share = max(new.mean(), NEW_SHARE) if 0 < new.mean() < 1 else new.mean()
    odds = np.where(new, share / max(new.sum(), 1), (1 - share) / max((~new).sum(), 1))
    queries, pictures = min(REPLAY_QUERIES, len(pairs.texts)), min(REPLAY_PICTURES, len(captions))
    training = Training(
        memorise=0,
        describe=0,
        retrieve=max(MIN_REPLAY_STEPS, REPLAY_PASSES * len(pairs.texts) // queries),
        pictures=pictures,
        descriptions=pictures,
        queries=queries,
        learning_rate=REPLAY_RATE,
    )
    return replace(pairs, odds=odds / odds.sum()), training


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
    return backbone.head_rows(codes)[0].detach().float().cpu()


@torch.inference_mode()
def _states(backbone: Backbone, inputs: dict[str, Any]) -> torch.Tensor:
    return backbone.hidden(**inputs)[0][:, -1].float().cpu()

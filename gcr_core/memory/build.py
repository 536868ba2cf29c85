"""Build: from a gallery and a recipe to a folder that `Memory.from_pretrained` loads.

First the dense baseline is trained on the gallery's captions, then the backbone memorises: both on the same pairs. Of
images with several captions a few are held out until both have been measured with them; the last steps then train on
them too. Every stage can be interrupted and goes on from its checkpoint. Of several processes the first one writes.
Knows nothing about jobs or pages.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from accelerate.utils import broadcast_object_list

from gcr_core.data.gallery import Gallery
from gcr_core.files.atomic import new_folder, sweep
from gcr_core.memory.memory import Memory
from gcr_core.models.backbone import Backbone, is_small
from gcr_core.models.clip import load_clip
from gcr_core.models.distributed import is_first, mapped, state
from gcr_core.retrieval.dense import DenseIndex
from gcr_core.retrieval.identifiers import Identifiers
from gcr_core.training.batches import Pairs
from gcr_core.training.config import Recipe, Step, plan
from gcr_core.training.estimate import seconds_a_step
from gcr_core.training.features import FeatureCache, Features
from gcr_core.training.preflight import hold_out, remarks
from gcr_core.training.progress import Clock, Listener, Notes, Progress
from gcr_core.training.train import memorize, start_rows
from gcr_core.training.train_clip import tune

HELD_OUT_ODDS = 4.0
"""How often a caption that was held out is drawn in the last steps, in relation to another one."""
PICTURE_BATCH = 64
"""How many pictures are opened together when both engines are asked for them."""


def make_memory(
    gallery: Gallery, recipe: Recipe, out: str | Path, on_progress: Listener, checkpoint: Path | None = None
) -> dict[str, Any]:
    """Memorises a gallery and saves the memory at `out`; returns the report, which is its `facts["training"]`.

    The report: "images", "captions", "pseudo_queries" (those of them that the model wrote), "seconds", "dense_seconds",
    "memorized" (share recalled at rank 1 from their own picture), "trained_captions" (share of people's captions with
    an image of theirs at rank 1; None where there is none), "trained_pseudo_queries" (the same of the model's),
    "held_out" (people's captions held out until the engines were measured with them), "retrieved" (share of those at
    rank 1; None where there is none), "dense": {"memorized", "trained_captions", "trained_pseudo_queries",
    "retrieved"}, "preset", "seed", "remarks". An exception of `on_progress` stops it; called again with the same
    `checkpoint` folder, in which nothing else writes, it goes on from there. Raises GalleryError, GcrError.
    """
    if checkpoint and is_first():
        for folder in (checkpoint, *checkpoint.glob("*/")):
            sweep(folder, alone=True)
    build = _Build(gallery, recipe, on_progress, checkpoint)
    dense = build.train_dense()
    backbone = build.load_backbone()
    features = build.compute_features(backbone)
    memory = build.build_memory(backbone, dense, features)
    build.train_backbone(memory, features)
    build.measure(memory, features)
    build.save(memory, features, out)
    return build.report


class _Build:
    """The stages of making a memory; each takes what those before it made, and fills in its part of the report."""

    report: dict[str, Any]
    """What `make_memory` returns; None stands for what is not known yet."""

    def __init__(self, gallery: Gallery, recipe: Recipe, on_progress: Listener, checkpoint: Path | None) -> None:
        """What is known before any model is loaded. Raises as `remarks`."""
        self.gallery, self.recipe, self.on_progress, self.checkpoint = gallery, recipe, on_progress, checkpoint
        told = remarks(gallery, recipe)
        small = is_small(recipe.backbone)
        self.training, *dense_steps = plan(gallery, recipe.preset, recipe.seed, small)
        self.dense_steps, self.last_dense_steps = dense_steps
        self.steps = sum(dense_steps) + self.training.steps
        on_progress(Progress("prepare", 0, self.steps))
        kept, self.held_out = hold_out(gallery, recipe.seed)
        self.taught = Gallery(gallery.root, gallery.file_names, kept)
        self.pairs = Pairs.from_captions(kept)
        self.last_pairs = _with_odds(Pairs.from_captions(gallery.captions), self.held_out)
        self.notes = Notes(checkpoint if is_first() else None)
        self.clock = Clock(self.training, sum(dense_steps), self.notes, on_progress, small)
        self.report = {
            "images": len(gallery),
            "captions": sum(map(len, gallery.captions)),
            "pseudo_queries": sum(map(len, gallery.pseudo_queries)),
            "seconds": None,
            "dense_seconds": None,
            "memorized": None,
            "trained_captions": None,
            "trained_pseudo_queries": None,
            "dense": None,
            "held_out": len(self.held_out),
            "retrieved": None,
            "preset": recipe.preset,
            "seed": recipe.seed,
            "remarks": told,
        }

    def train_dense(self) -> DenseIndex:
        """The dense baseline, trained without the captions held out, measured with these, then trained with them."""
        folder = self._folder("dense")
        if folder and folder.is_dir():
            return DenseIndex.load(folder)
        clip = load_clip(self.recipe.clip)
        self._tune(clip, self.pairs, 0, self.dense_steps)
        self._note_right("dense_retrieved", partial(_nearest, DenseIndex.build(self.gallery, clip)))
        self._tune(clip, self.last_pairs, self.dense_steps, self.last_dense_steps)
        dense = DenseIndex.build(self.gallery, clip)
        if folder and is_first():
            with new_folder(folder) as building:
                dense.save(building)
        return dense

    def load_backbone(self) -> Backbone:
        """The backbone; one that is not small gets its adapter, and the clock is told how long its steps will take."""
        backbone = Backbone.from_pretrained(self.recipe.backbone)
        if not backbone.is_small:
            backbone.adapt(self.recipe.seed)
            # All processes take the steps that are timed together, or none does.
            (noted,) = broadcast_object_list([self.notes.get("seconds_a_step")])
            self.notes["seconds_a_step"] = noted or seconds_a_step(backbone, self.gallery, self.training)
            self.clock.expect(self.notes["seconds_a_step"])
        return backbone

    def compute_features(self, backbone: Backbone) -> Features | None:
        """What the frozen vision tower makes of the pictures, where the backbone takes that in their place."""
        if backbone.is_small or not backbone.takes_features:
            return None
        folder, seed = self._folder("features"), self.recipe.seed
        return FeatureCache.compute(backbone, self.gallery, self.training.views, seed, folder, self.clock.looked)

    def build_memory(self, backbone: Backbone, dense: DenseIndex, features: Features | None) -> Memory:
        """The memory as its training finds it: the identifiers' new tokens have rows, and nothing is learnt yet."""
        type, seed = self.recipe.identifiers, self.recipe.seed
        identifiers = Identifiers.build(type, self.gallery, backbone.tokenizer, dense.vectors, seed)
        start_rows(backbone, self.taught, identifiers, features)
        facts = {
            "backbone": {"name": self.recipe.backbone, "revision": backbone.revision},
            "training": self.report,
        }
        return Memory(backbone, identifiers, self.gallery, dense, facts)

    def train_backbone(self, memory: Memory, features: Features | None) -> None:
        """The backbone memorises; it is measured with the captions held out before the last steps train on them."""

        def on_step(step: Step) -> None:
            if step.step == self.training.steps - self.training.finish:
                memory.backbone.model.eval()
                self._note_right("retrieved", partial(_recalled, memory))
                memory.backbone.model.train()
            self.clock.backbone(step)

        memorize(
            memory.backbone,
            self.taught,
            memory.identifiers,
            self.pairs,
            self.training,
            on_step,
            self.last_pairs,
            self._folder("backbone"),
            features,
        )
        self.report |= {
            "seconds": round(self.clock.spent["backbone"], 1),
            "dense_seconds": round(self.clock.spent["dense"], 1),
            "retrieved": self.notes.get("retrieved"),
        }

    def measure(self, memory: Memory, features: Features | None) -> None:
        """Both engines are asked for what they were trained on."""
        self.on_progress(Progress("measure", self.steps, self.steps, 0.0))
        self.report |= _measured(memory, features)
        self.report["dense"]["retrieved"] = self.notes.get("dense_retrieved")

    def save(self, memory: Memory, features: Features | None, out: str | Path) -> None:
        """The first process writes the memory, and all wait for it."""
        self.on_progress(Progress("save", self.steps, self.steps, 0.0, memorized=self.report["memorized"]))
        if is_first():
            memory.rehearse(features)
            memory.save(out)
        state().wait_for_everyone()

    def _folder(self, name: str) -> Path | None:
        return self.checkpoint / name if self.checkpoint else None

    def _tune(self, clip: tuple[Any, Any], pairs: Pairs, done: int, steps: int) -> None:
        """Trains CLIP for so many steps, after as many as are `done`."""
        folder, size, seed = self._folder(f"clip-{done}"), self.training.queries, self.recipe.seed
        tune(*clip, self.gallery, pairs, steps, size, seed, self.clock.dense(done), folder)

    def _note_right(self, name: str, ask: Callable[[list[Any]], list[int]]) -> None:
        """Notes the share of the captions held out that are answered with their image."""
        self.notes[name] = _share_right(mapped(ask, list(self.held_out)), self.held_out.values())


def _with_odds(pairs: Pairs, held_out: dict[str, int]) -> Pairs:
    odds = np.array([HELD_OUT_ODDS if text in held_out else 1.0 for text in pairs.texts])
    return replace(pairs, odds=odds / odds.sum())


def _recalled(memory: Memory, queries: list[Any]) -> list[int]:
    ask = memory.recall if queries and isinstance(queries[0], str) else memory.recall_images
    return [hits[0].index for hits in ask(queries, top=1)]


def _nearest(dense: DenseIndex, queries: list[Any]) -> list[int]:
    ask = dense.search if queries and isinstance(queries[0], str) else dense.search_images
    return [hits[0][0] for hits in ask(queries, 1)] if queries else []


def _share_right(answers: list[int], images: Iterable[int]) -> float | None:
    right = [answer == image for answer, image in zip(answers, images, strict=True)]
    return round(sum(right) / len(right), 4) if right else None


def _share_found(ask: Callable[[list[Any]], list[int]], captions: list[list[str]]) -> float | None:
    """The share of the captions with an image of theirs at rank 1."""
    owners: dict[str, set[int]] = {}
    for image, texts in enumerate(captions):
        for text in texts:
            owners.setdefault(text, set()).add(image)
    if not owners:
        return None
    answers = mapped(ask, list(owners))
    return round(float(np.mean([answer in owned for answer, owned in zip(answers, owners.values(), strict=True)])), 4)


def _measured(memory: Memory, features: Features | None) -> dict[str, Any]:
    """ "memorized", "trained_captions" and "trained_pseudo_queries" of both engines."""
    gallery = memory.gallery

    def own_found(images: Sequence[int]) -> list[tuple[bool, bool]]:
        found: list[tuple[bool, bool]] = []
        for start in range(0, len(images), PICTURE_BATCH):
            some = images[start : start + PICTURE_BATCH]
            shown = [gallery.open(image) for image in some]
            seen = list(features.pictures(some)) if features else shown
            answers = zip(some, _recalled(memory, seen), _nearest(memory.dense, shown), strict=True)
            found += [(image == recalled, image == nearest) for image, recalled, nearest in answers]
        return found

    right = np.mean(mapped(own_found, range(len(gallery))), axis=0)
    shares: dict[str, dict[str, Any]] = {
        engine: {"memorized": round(float(share), 4)}
        for engine, share in zip(("generative", "dense"), right, strict=True)
    }
    both = zip(gallery.captions, gallery.pseudo_queries, strict=True)
    people = [[text for text in texts if text not in written] for texts, written in both]
    for name, captions in (("trained_captions", people), ("trained_pseudo_queries", gallery.pseudo_queries)):
        for engine, ask in (("generative", partial(_recalled, memory)), ("dense", partial(_nearest, memory.dense))):
            shares[engine][name] = _share_found(ask, captions)
    return {**shares["generative"], "dense": shares["dense"]}

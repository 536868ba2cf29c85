"""Making a memory: from a gallery and a recipe to a folder that `Memory.from_pretrained` loads.

First the dense baseline is trained on the gallery's captions, then the backbone memorises: both on the same pairs. Of
images with several captions a few are kept out until both have been measured with them; the last steps then train on
them too. Every part can be interrupted and goes on from its checkpoint. Of several processes the first one writes.
Knows nothing about jobs or pages.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .atomic import new_folder
from .backbone import Backbone, is_small
from .contrast import tune
from .dense import DenseIndex, load_clip
from .features import Features
from .gallery import Gallery
from .identifiers import Identifiers
from .memorize import Step, memorize
from .memory import Memory
from .pace import seconds_a_step
from .pairs import Pairs
from .planning import plan
from .progress import Clock, Listener, Notes, Progress
from .prospects import hold_out, remarks
from .recipe import Recipe
from .together import is_first, mapped, state

HELD_OUT_ODDS = 4.0
"""How often a caption that was kept out is drawn in the last steps, for once that another is."""
AT_ONCE = 64


def make_memory(
    gallery: Gallery, recipe: Recipe, out: str | Path, on_progress: Listener, checkpoint: Path | None = None
) -> dict[str, Any]:
    """Memorise a gallery and save the memory at `out`; returns the report, which is its `facts["training"]`.

    The report: "images", "captions", "pseudo_queries" (those of them that the model wrote), "seconds", "dense_seconds",
    "memorized" (share recalled at rank 1 from their own picture), "trained_captions" (share of people's captions with
    an image of theirs at rank 1; None where there is none), "trained_pseudo_queries" (the same of the model's),
    "held_out" (people's captions kept out until the engines were measured with them), "retrieved" (share of those at
    rank 1; None where there is none), "dense": {"memorized", "trained_captions", "trained_pseudo_queries",
    "retrieved"}, "preset", "seed", "remarks". An exception of `on_progress` stops it; called again with the same
    `checkpoint` folder it goes on from there. Raises GalleryError, GcrError.
    """
    told = remarks(gallery, recipe)
    small = is_small(recipe.backbone)
    training, dense_steps, last_dense_steps = plan(gallery, recipe.preset, recipe.seed, small)
    steps = dense_steps + last_dense_steps + training.steps
    on_progress(Progress("prepare", 0, steps))
    kept, held_out = hold_out(gallery, recipe.seed)
    pairs, last_pairs = Pairs.from_captions(kept), _with_odds(Pairs.from_captions(gallery.captions), held_out)
    notes = Notes(checkpoint if is_first() else None)
    clock = Clock(training, dense_steps + last_dense_steps, notes, on_progress, small)

    dense_folder = checkpoint / "dense" if checkpoint else None
    if dense_folder and dense_folder.is_dir():
        dense = DenseIndex.load(dense_folder)
    else:
        model, processor = load_clip(recipe.clip)
        for done, count, asked in ((0, dense_steps, pairs), (dense_steps, last_dense_steps, last_pairs)):
            folder = checkpoint / f"clip-{done}" if checkpoint else None
            tune(model, processor, gallery, asked, count, training.queries, recipe.seed, clock.dense(done), folder)
            dense = DenseIndex.build(gallery, (model, processor))
            if not done:
                answers = mapped(partial(_nearest, dense), list(held_out))
                notes["dense_retrieved"] = _share_right(answers, held_out.values())
        if dense_folder and is_first():
            with new_folder(dense_folder) as building:
                dense.save(building)

    backbone = Backbone.from_pretrained(recipe.backbone)
    features = None
    if not backbone.is_small:
        clock.expect(seconds_a_step(backbone, gallery, training))
    if backbone.takes_features and not backbone.is_small:
        folder = checkpoint / "features" if checkpoint else None
        features = Features.compute(backbone, gallery, training.views, recipe.seed, folder, clock.looked)
    identifiers = Identifiers.build(recipe.identifiers, gallery, backbone.tokenizer, dense.vectors, recipe.seed)

    def on_step(step: Step) -> None:
        if step.step == training.steps - training.finish:
            backbone.model.eval()
            recalled = partial(_recalled, Memory(backbone, identifiers, gallery, dense))
            answers = mapped(recalled, list(held_out))
            notes["retrieved"] = _share_right(answers, held_out.values())
            backbone.model.train()
        clock.backbone(step)

    taught = Gallery(gallery.root, gallery.file_names, kept)
    folder = checkpoint / "backbone" if checkpoint else None
    memorize(backbone, taught, identifiers, pairs, training, on_step, last_pairs, folder, features)
    on_progress(Progress("measure", steps, steps, 0.0))
    facts = {"backbone": {"name": recipe.backbone, "revision": backbone.revision}}
    memory = Memory(backbone, identifiers, gallery, dense, facts)
    report = memory.facts["training"] = {
        "images": len(gallery),
        "captions": sum(map(len, gallery.captions)),
        "pseudo_queries": sum(map(len, gallery.pseudo_queries)),
        "seconds": round(clock.spent["backbone"], 1),
        "dense_seconds": round(clock.spent["dense"], 1),
        **_measured(memory, features),
        "held_out": len(held_out),
        "retrieved": notes.get("retrieved"),
        "preset": recipe.preset,
        "seed": recipe.seed,
        "remarks": told,
    }
    report["dense"]["retrieved"] = notes.get("dense_retrieved")
    on_progress(Progress("save", steps, steps, 0.0, memorized=report["memorized"]))
    facts = {
        "backbone": {"name": recipe.backbone, "revision": backbone.revision},
        "training": report,
    }
    memory = Memory(backbone, identifiers, gallery, dense, facts)
    if is_first():
        memory.rehearse(features)
        memory.save(out)
    state().wait_for_everyone()
    return report


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
        for start in range(0, len(images), AT_ONCE):
            some = images[start : start + AT_ONCE]
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

"""Making a memory: from a gallery and a recipe to a folder that `Memory.from_pretrained` loads.

First the dense baseline is trained on the gallery's captions, then the backbone memorises: both on the same pairs. Of
images with several captions a few are kept out until both have been measured with them; the last steps then train on
them too. Every part can be interrupted and goes on from its checkpoint. Knows nothing about jobs or pages.
"""

import json
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from .atomic import new_folder
from .backbone import Backbone
from .contrast import tune
from .dense import DenseIndex, load_clip
from .errors import GalleryError
from .gallery import Gallery
from .identifiers import Identifiers
from .memorize import Step, Training, memorize
from .memory import Memory
from .pairs import Pairs
from .recipe import PRESETS, Recipe

PASSES = {"quick": 12, "balanced": 30, "thorough": 90}
"""How often each caption is trained on."""
PICTURE_PASSES = 0.8
"""How often each picture is trained on, as a share of PASSES, before descriptions and queries begin."""
DESCRIPTION_PASSES = 0.25
FINISH = 0.15
"""The last part of learning to retrieve, on all captions."""
MIN_STEPS = 6
"""Steps of each kind that a pass must have, where a gallery is small, on the mean of all passes."""
HELD_OUT_FROM = 3
"""Captions of an image of which one can be kept out."""
HELD_OUT_SHARE, HELD_OUT_FEWEST = 0.1, 20
HELD_OUT_ODDS = 4.0
"""How often a caption that was kept out is drawn in the last steps, for once that another is."""
AT_ONCE = 64
TIMED_STEPS = 4
SURE_AFTER_STEPS = 5
NOTED_EVERY_SECONDS = 10.0


@dataclass(frozen=True)
class Progress:
    """Where making a memory stands."""

    stage: str
    """"prepare", "dense", "memorise", "describe", "retrieve", "measure" or "save"."""
    step: int
    """training steps done, of both engines"""
    steps: int
    """training steps in all"""
    seconds_left: float | None = None
    """of the training; None before it can be told"""
    loss: float | None = None
    """of the step's batch, in nats"""
    memorized: float | None = None
    """share of the pictures known when they were last trained on, in [0, 1]"""


Listener = Callable[[Progress], None]


def remarks(gallery: Gallery, recipe: Recipe) -> list[str]:
    """What should be known before the gallery is memorised: what will be found by words and what will not.

    Raises GalleryError where no image has a caption.
    """
    bare = sum(not captions for captions in gallery.captions)
    name = Path(recipe.backbone).name
    if bare == len(gallery):
        raise GalleryError(
            f"0 of {len(gallery):,} images have a caption, and {name} cannot describe pictures by itself: "
            "type at least one caption in"
        )
    told = []
    if bare:
        told.append(
            f"{bare:,} of {len(gallery):,} images have no caption, and {name} cannot describe pictures by itself: "
            "these will be recalled from their own picture, not from words. Type captions in to find them by words."
        )
    if not _eligible(gallery.captions):
        told.append(
            f"No image has {HELD_OUT_FROM} captions or more, so none can be kept out of training: the report will not "
            "say how well words that were never trained on are answered."
        )
    return told


def plan(gallery: Gallery, preset: str, seed: int = 0) -> tuple[Training, int, int]:
    """The backbone's training, and the dense baseline's steps before and after its captions are complete."""
    captions = sum(map(len, gallery.captions))
    queries, pictures = _batch(captions / 6, 256), _batch(len(gallery) / 3, 96)
    passes = PASSES[preset]
    asked = passes * max(MIN_STEPS, captions / queries)
    shown = passes * max(MIN_STEPS, len(gallery) / pictures)
    said = passes * max(MIN_STEPS, len(gallery) / pictures) * DESCRIPTION_PASSES
    finish = math.ceil(FINISH * asked * 1.5)
    training = Training(
        memorise=math.ceil(PICTURE_PASSES * shown),
        describe=math.ceil(said),
        retrieve=math.ceil((1 - FINISH) * asked * 1.5),
        finish=finish,
        pictures=pictures,
        descriptions=pictures,
        queries=queries,
        seed=seed,
    )
    return training, math.ceil((1 - FINISH) * asked), math.ceil(FINISH * asked)


def estimate(gallery: Gallery, recipe: Recipe) -> dict[str, float]:
    """Preset → seconds on this machine, from a few steps of each kind that are taken and timed. Raises as `remarks`."""
    remarks(gallery, recipe)
    started = time.monotonic()
    backbone, clip = Backbone.from_pretrained(recipe.backbone), load_clip(recipe.clip)
    loading = time.monotonic() - started
    seconds = {}
    timed: dict[tuple[int, int], dict[str, float]] = {}
    for preset in PRESETS:
        training, dense_steps, last_dense_steps = plan(gallery, preset, recipe.seed)
        sizes = training.queries, training.pictures
        if sizes not in timed:
            timed[sizes] = _seconds_a_step(backbone, clip, gallery, training)
        per = timed[sizes]
        tasks = Counter(training.task(step) for step in range(training.steps))
        spent = sum(per[task] * count for task, count in tasks.items()) + per["dense"] * (
            dense_steps + last_dense_steps
        )
        asked = len(gallery) + sum(map(len, gallery.captions))
        seconds[preset] = loading + spent + per["queries"] * asked / training.queries
    return seconds


def make_memory(
    gallery: Gallery, recipe: Recipe, out: str | Path, on_progress: Listener, checkpoint: Path | None = None
) -> dict[str, Any]:
    """Memorise a gallery and save the memory at `out`; returns the report, which is its `facts["training"]`.

    The report: "images", "captions", "seconds", "dense_seconds", "memorized" (share recalled at rank 1 from their own
    picture), "trained_captions" (share of the captions with an image of theirs at rank 1), "held_out" (captions kept
    out until the engines were measured with them), "retrieved" (share of those at rank 1; None where there is none),
    "dense": {"memorized", "trained_captions", "retrieved"}, "preset", "seed", "remarks". An exception of `on_progress`
    stops it; called again with the same `checkpoint` folder it goes on from there. Raises GalleryError, GcrError.
    """
    told = remarks(gallery, recipe)
    training, dense_steps, last_dense_steps = plan(gallery, recipe.preset, recipe.seed)
    steps = dense_steps + last_dense_steps + training.steps
    on_progress(Progress("prepare", 0, steps))
    kept, held_out = hold_out(gallery.captions, recipe.seed)
    pairs, last_pairs = Pairs.from_captions(kept), _with_odds(Pairs.from_captions(gallery.captions), held_out)
    notes = _Notes(checkpoint)
    clock = _Clock(training, dense_steps + last_dense_steps, notes, on_progress)

    dense_folder = checkpoint / "dense" if checkpoint else None
    if dense_folder and dense_folder.is_dir():
        dense = DenseIndex.load(dense_folder)
    else:
        model, processor = load_clip(recipe.clip)
        for done, count, taught in ((0, dense_steps, pairs), (dense_steps, last_dense_steps, last_pairs)):
            folder = checkpoint / f"clip-{done}" if checkpoint else None
            tune(model, processor, gallery, taught, count, training.queries, recipe.seed, clock.dense(done), folder)
            dense = DenseIndex.build(gallery, (model, processor))
            if not done:
                notes["dense_retrieved"] = _share_right(_nearest(dense, list(held_out)), held_out.values())
        if dense_folder:
            with new_folder(dense_folder) as building:
                dense.save(building)

    backbone = Backbone.from_pretrained(recipe.backbone)
    identifiers = Identifiers.build(recipe.identifiers, gallery, backbone.tokenizer, dense.vectors, recipe.seed)

    def on_step(step: Step) -> None:
        clock.backbone(step)
        if step.step == training.steps - training.finish:
            backbone.model.eval()
            answers = _recalled(Memory(backbone, identifiers, gallery, dense), list(held_out))
            notes["retrieved"] = _share_right(answers, held_out.values())
            backbone.model.train()

    taught = Gallery(gallery.root, gallery.file_names, kept)
    folder = checkpoint / "backbone" if checkpoint else None
    memorize(backbone, taught, identifiers, pairs, training, on_step, last_pairs, folder)
    on_progress(Progress("measure", steps, steps, 0.0))
    memory = Memory(backbone, identifiers, gallery, dense)
    report = {
        "images": len(gallery),
        "captions": sum(map(len, gallery.captions)),
        "seconds": round(clock.spent["backbone"], 1),
        "dense_seconds": round(clock.spent["dense"], 1),
        **_measured(memory),
        "held_out": len(held_out),
        "retrieved": notes.get("retrieved"),
        "preset": recipe.preset,
        "seed": recipe.seed,
        "remarks": told,
    }
    report["dense"]["retrieved"] = notes.get("dense_retrieved")
    on_progress(Progress("save", steps, steps, 0.0, memorized=report["memorized"]))
    facts = {
        "backbone": {"name": recipe.backbone, "revision": None},
        "training": report,
    }
    Memory(backbone, identifiers, gallery, dense, facts).save(out)
    return report


def hold_out(captions: list[list[str]], seed: int) -> tuple[list[list[str]], dict[str, int]]:
    """The captions to train on, and those kept out with their image; an image keeps its first caption."""
    eligible = _eligible(captions)
    count = min(len(eligible), max(HELD_OUT_FEWEST, math.ceil(HELD_OUT_SHARE * len(eligible))))
    choice = np.random.default_rng(seed)
    chosen = sorted(choice.choice(len(eligible), count, replace=False)) if count else []
    held_out = {str(choice.choice(eligible[row][1])): eligible[row][0] for row in chosen}
    return [[text for text in texts if held_out.get(text) != image] for image, texts in enumerate(captions)], held_out


def _eligible(captions: list[list[str]]) -> list[tuple[int, list[str]]]:
    """Images of whose captions one may be kept out, and which: no other image has it."""
    owners = Counter(text for texts in captions for text in set(texts))
    found = [
        (image, [text for text in texts[1:] if owners[text] == 1])
        for image, texts in enumerate(captions)
        if len(texts) >= HELD_OUT_FROM
    ]
    return [(image, texts) for image, texts in found if texts]


def _with_odds(pairs: Pairs, held_out: dict[str, int]) -> Pairs:
    odds = np.array([HELD_OUT_ODDS if text in held_out else 1.0 for text in pairs.texts])
    return replace(pairs, odds=odds / odds.sum())


def _batch(wanted: float, largest: int) -> int:
    """The power of two (or three halves of one) next below, from 8 to `largest`."""
    sizes = [size for power in range(3, 10) for size in (2**power, 3 * 2 ** (power - 1)) if size <= largest]
    return max([size for size in sizes if size <= wanted], default=sizes[0])


def _recalled(memory: Memory, queries: list[Any]) -> list[int]:
    ask = memory.recall if queries and isinstance(queries[0], str) else memory.recall_images
    return [hits[0].index for hits in ask(queries, top=1)]


def _nearest(dense: DenseIndex, queries: list[Any]) -> list[int]:
    ask = dense.search if queries and isinstance(queries[0], str) else dense.search_images
    return [hits[0][0] for hits in ask(queries, 1)] if queries else []


def _share_right(answers: list[int], images: Iterable[int]) -> float | None:
    right = [answer == image for answer, image in zip(answers, images, strict=True)]
    return round(sum(right) / len(right), 4) if right else None


def _measured(memory: Memory) -> dict[str, Any]:
    """ "memorized" and "trained_captions" of both engines."""
    gallery, pictures = memory.gallery, Counter[str]()
    for start in range(0, len(gallery), AT_ONCE):
        images = range(start, min(start + AT_ONCE, len(gallery)))
        shown = [gallery.open(image) for image in images]
        pictures["generative"] += sum(map(int.__eq__, _recalled(memory, shown), images))
        pictures["dense"] += sum(map(int.__eq__, _nearest(memory.dense, shown), images))
    texts = Pairs.from_captions(gallery.captions)
    found = {"generative": _recalled(memory, texts.texts), "dense": _nearest(memory.dense, texts.texts)}
    shares = {
        engine: {
            "memorized": round(pictures[engine] / len(gallery), 4),
            "trained_captions": round(float((texts.images == np.array(images)[:, None]).any(1).mean()), 4),
        }
        for engine, images in found.items()
    }
    return {**shares["generative"], "dense": shares["dense"]}


def _seconds_a_step(
    backbone: Backbone, clip: tuple[Any, Any], gallery: Gallery, training: Training
) -> dict[str, float]:
    """Task → seconds: the fastest of a few steps of each, on the gallery's first images."""
    few = Gallery(gallery.root, gallery.file_names[: training.pictures], gallery.captions[: training.pictures])
    if not any(few.captions):
        few.captions[0] = [next(texts[0] for texts in gallery.captions if texts)]
    pairs = Pairs.from_captions(few.captions)
    best: dict[str, float] = {}
    last = time.monotonic()

    def lap(task: str) -> None:
        nonlocal last
        now = time.monotonic()
        best[task] = min(best.get(task, math.inf), now - last)
        last = now

    tune(*clip, few, pairs, TIMED_STEPS, training.queries, on_step=lambda step, loss: lap("dense"))
    identifiers = Identifiers.build("atomic", few, backbone.tokenizer)
    trial = replace(training, memorise=0, describe=0, retrieve=4 * TIMED_STEPS, finish=0, descriptions_every=2)
    memorize(backbone, few, identifiers, pairs, trial, lambda step: lap(step.task))
    return best


class _Notes(dict[str, Any]):
    """Figures that outlive an interruption, in a JSON file where there is a checkpoint."""

    def __init__(self, checkpoint: Path | None):
        self._path = checkpoint / "notes.json" if checkpoint else None
        super().__init__(json.loads(self._path.read_text()) if self._path and self._path.exists() else {})

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, value)
        if self._path:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            building = self._path.with_suffix(".new")
            building.write_text(json.dumps(self))
            building.replace(self._path)


class _Clock:
    """Turns the steps of both engines into Progress: counts them, times each kind, tells what is left."""

    def __init__(self, training: Training, dense_steps: int, notes: _Notes, on_progress: Listener):
        self.dense_steps = dense_steps
        self.order = ["dense"] * dense_steps + [training.task(step) for step in range(training.steps)]
        self.spent = {"dense": 0.0, "backbone": 0.0, **notes.get("spent", {})}
        self._timed: dict[str, list[float]] = {}
        self._notes, self._on_progress = notes, on_progress
        self._last = self._noted = time.monotonic()

    def dense(self, done: int) -> Callable[[int, float], None]:
        """What `tune` is to call, where `done` steps of the dense baseline came before."""
        return lambda step, loss: self._step("dense", "dense", done + step, loss, None)

    def backbone(self, step: Step) -> None:
        self._step("backbone", step.stage, self.dense_steps + step.step, step.loss, step.memorized)

    def _step(self, engine: str, stage: str, done: int, loss: float, memorized: float | None) -> None:
        now = time.monotonic()
        self.spent[engine] += now - self._last
        self._timed.setdefault(self.order[done - 1], []).append(now - self._last)
        self._last = now
        if now - self._noted > NOTED_EVERY_SECONDS:
            self._notes["spent"], self._noted = self.spent, now
        stage = "retrieve" if stage == "finish" else stage
        self._on_progress(Progress(stage, done, len(self.order), self._seconds_left(done), loss, memorized))

    def _seconds_left(self, done: int) -> float | None:
        """By the median time of each kind of step, the mean of them for kinds that have not come yet."""
        if done < SURE_AFTER_STEPS:
            return None
        medians = {kind: float(np.median(seconds[-50:])) for kind, seconds in self._timed.items()}
        unknown = float(np.mean([*medians.values()]))
        return sum(medians.get(kind, unknown) * count for kind, count in Counter(self.order[done:]).items())

"""Configuration: the recipe that a person chooses for a memory, and the training that follows from it.

The stages, how many steps each has and what each step's batch is of are all known here, before a model is loaded.
Imports no model library.
"""

import math
from dataclasses import dataclass

import numpy as np

from gcr_core.data.gallery import Gallery
from gcr_core.errors import GcrError
from gcr_core.retrieval.identifiers import IDENTIFIER_TYPES
from gcr_core.settings import Settings

PRESET_WORDS = {
    "quick": "For a first look: few passes over the pictures and their captions.",
    "balanced": "The usual choice: as many passes as most galleries need.",
    "thorough": "When time does not matter: three to four times as many passes as usual.",
}
"""The presets, with what the page says of each."""
PRESETS = tuple(PRESET_WORDS)
SEEDS = 2**32
"""A seed is less than this, and 0 at least."""

CAPTIONER = "HuggingFaceTB/SmolVLM-256M-Instruct"
"""A small backbone that can describe pictures, recommended where the chosen one cannot."""
DEFAULT_WRITTEN = 5
"""How many captions a backbone writes for an image, unless another number is asked for."""
MAX_WRITTEN = 20
"""The most captions that a backbone can be asked to write for an image."""

STAGES = ("memorise", "describe", "retrieve", "finish")
"""The stages of a backbone's training, in their order."""

TRAINED = ("whole", "adapter", "rows", "solved")
"""What is trained of a backbone: all weights, LoRA and the identifiers' rows, these rows alone, or these without
steps: they are solved for on its frozen states."""
PASSES: dict[str, float] = {"quick": 6, "balanced": 12, "thorough": 50}
"""Epochs over the captions that each preset trains for."""
ADAPTER_PASSES = 1 / 2
"""The share of these epochs that an adapter trains for: on gcr-mini, with 60 emoji, more of them taught it no more."""
PHRASES = {"quick": 500, "balanced": 2_000, "thorough": 4_000}
"""How many everyday phrases a dense encoder answers, for a backbone to learn, where images have no captions."""
VIEWS = {"quick": 2, "balanced": 4, "thorough": 8}
"""How many views of a picture a frozen vision tower encodes: the picture as it is, and augmented ones."""
PICTURE_PASSES = 1.2
"""Epochs over the pictures in the stage "memorise", as a share of PASSES."""
DESCRIPTION_PASSES = 0.5
"""Epochs over the pictures in the stage "describe", whose batches are of descriptions for the most part."""
FINISH = 0.15
"""The share of learning to retrieve that the stage "finish" takes, which trains on the held-out captions as well."""
PHRASE_ODDS = 0.25
"""How often a phrase is asked, in relation to a caption: what a person says counts more."""
MIN_BATCHES = 6
"""The fewest batches of an epoch, which makes the batches of a small gallery small."""
MOST_QUERIES, MOST_PICTURES = 256, 96
"""The most queries, and the most pictures or descriptions, of a batch."""

ROW_PASSES = {"quick": 6, "balanced": 15, "thorough": 40}
"""Epochs over the captions where rows alone are trained, on cached states."""
ROW_PICTURES, ROW_PICTURES_TOGETHER = 100, 1_024
"""The batches of pictures before that, from which rows learn to tell pictures apart that are alike, and their size."""
SEVERAL = 3
"""How many times as long rows are trained where identifiers have several tokens: a code of many images has no row that
answers for all of them from the start."""
ROW_FINISH = 0.5
"""The share of these steps, which are cheap, that the stage "finish" takes."""
MIN_ROW_BATCHES = 16
"""The fewest batches of an epoch of them: a small gallery is taught by as many steps as a larger one."""
SOLVE_ROUNDS = 5
"""The most rounds in which rows are solved for, once before and once after held-out captions are taught."""


@dataclass(frozen=True)
class Recipe:
    """What a memory is made with. Raises GcrError for a preset, an identifier type or a seed that there is not."""

    backbone: str = Settings.backbone
    clip: str = Settings.clip
    identifiers: str = "atomic"
    preset: str = "balanced"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value, known in (
            ("preset", self.preset, PRESETS),
            ("identifier type", self.identifiers, IDENTIFIER_TYPES),
        ):
            if value not in known:
                raise GcrError(f"unknown {name} {value!r}; choose one of {', '.join(known)}")
        if not 0 <= self.seed < SEEDS:
            raise GcrError(f"seed is {self.seed}: choose one from 0 to {SEEDS - 1:,}")


@dataclass(frozen=True)
class Training:
    """How long and how strongly to train. Stages are counted in steps, one batch each."""

    memorise: int
    """The steps of learning to memorise, on pictures only."""
    describe: int
    """The steps of learning to describe."""
    retrieve: int
    """The steps of learning to retrieve."""
    finish: int = 0
    """The last steps of learning to retrieve, on the pairs that were kept for the end."""
    pictures_every: int = 3
    """After the first stage, one batch in so many is of pictures."""
    descriptions_every: int = 16
    """After the second stage, one batch in so many is of descriptions; 0 for none."""
    pictures: int = 96
    """The pictures of a batch."""
    descriptions: int = 96
    """The captions of a batch of descriptions."""
    queries: int = 256
    """The queries of a batch."""
    phrases: int = 0
    """How many everyday phrases are asked too, whose answers a dense encoder teaches."""
    trained: str = "whole"
    """One of TRAINED."""
    views: int = 4
    """How many views of a picture a frozen vision tower encodes once: the picture as it is, and augmented ones."""
    learning_rate: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.memorise, self.describe, self.retrieve, self.finish) < 0 or not self.steps:
            raise GcrError(f"{self.steps} training steps were asked for; give at least 1, and no stage less than 0")

    @property
    def steps(self) -> int:
        return self.memorise + self.describe + self.retrieve + self.finish

    def stage(self, step: int) -> str:
        """The stage that a step belongs to, one of STAGES."""
        ends = np.cumsum([self.memorise, self.describe, self.retrieve, self.finish])
        return STAGES[int(np.searchsorted(ends, step, side="right"))]

    def task(self, step: int) -> str:
        """What the step's batch is of: "pictures", "descriptions" or "queries"."""
        stage = self.stage(step)
        if stage == "memorise" or step % self.pictures_every == 0:
            return "pictures"
        rehearsed = self.descriptions_every and step % self.descriptions_every == 1
        return "descriptions" if stage == "describe" or rehearsed else "queries"


@dataclass(frozen=True)
class Step:
    """Where training stands after a step."""

    stage: str
    """One of STAGES."""
    task: str
    """What the batch was of: "pictures", "descriptions" or "queries"."""
    step: int
    """The steps that are done."""
    steps: int
    """The steps in all."""
    loss: float
    """The mean -log p of an identifier, or of a caption's token, in the batch, in nats."""
    memorized: float
    """The share of the pictures whose identifier was the likeliest when they were last trained on, in [0, 1]."""


def trained(recipe: Recipe, small: bool, joint: bool, captioned: bool = True) -> str:
    """What is trained of a backbone, one of TRAINED; `small` and `joint`: as `Backbone` has it.

    `captioned`: whether the gallery has any caption. Without, only a dense encoder's answers are to be learnt, and rows
    learn those.
    Where words and pictures have joint states, more than rows was measured to teach nothing and to cost what was known.
    Elsewhere the state behind a code depends on the code, so that frozen states tell identifiers of one token alone.
    """
    if small:
        return "whole"
    if joint:
        return "rows"
    quick = recipe.preset == "quick" or not captioned
    return "solved" if quick and recipe.identifiers == "atomic" else "adapter"


def plan(
    gallery: Gallery, recipe: Recipe, small: bool = True, joint: bool = False, other_eyes: bool = False
) -> Training:
    """The backbone's training; `small` and `joint`: as `trained` takes them; `other_eyes`: whether the CLIP has others
    than a backbone with a joint space."""
    captions = sum(map(len, gallery.captions))
    what = trained(recipe, small, joint, captioned=captions > 0)
    if what == "rows":
        return _plan_rows(captions, len(gallery), recipe, _phrases(gallery, recipe) if other_eyes else 0)
    if what == "solved":
        phrases = _phrases(gallery, recipe)
        return Training(
            memorise=0,
            describe=0,
            retrieve=SOLVE_ROUNDS,
            finish=SOLVE_ROUNDS if captions else 0,
            descriptions_every=0,
            pictures=len(gallery),
            queries=captions + phrases,
            phrases=phrases,
            trained="solved",
            views=1,
            seed=recipe.seed,
        )
    return plan_tuning(gallery, recipe, small)


def plan_tuning(gallery: Gallery, recipe: Recipe, small: bool) -> Training:
    """A training of all weights, or of an adapter where the backbone is not `small`."""
    preset, captions, phrases = recipe.preset, sum(map(len, gallery.captions)), _phrases(gallery, recipe)
    texts = captions + (PHRASE_ODDS if captions else 1) * phrases
    queries = _batch(texts / MIN_BATCHES, MOST_QUERIES)
    pictures = _batch(len(gallery) / MIN_BATCHES, MOST_PICTURES)
    epoch, picture_epoch = max(MIN_BATCHES, texts / queries), max(MIN_BATCHES, len(gallery) / pictures)
    passes = PASSES[preset] * (1 if small else ADAPTER_PASSES)
    asked, shown = passes * epoch, passes * picture_epoch
    # While it learns to retrieve, one batch in `pictures_every` is of pictures.
    steps_a_query_batch = Training.pictures_every / (Training.pictures_every - 1)
    return Training(
        memorise=math.ceil(PICTURE_PASSES * shown),
        describe=math.ceil(DESCRIPTION_PASSES * shown) if captions else 0,
        retrieve=math.ceil((1 - FINISH) * asked * steps_a_query_batch),
        finish=math.ceil(FINISH * asked * steps_a_query_batch),
        pictures=pictures,
        descriptions=pictures,
        descriptions_every=8 if captions else 0,
        queries=queries,
        phrases=phrases,
        trained="whole" if small else "adapter",
        views=VIEWS[preset],
        seed=recipe.seed,
    )


def _plan_rows(captions: int, images: int, recipe: Recipe, phrases: int) -> Training:
    several = recipe.identifiers != "atomic"
    passes = ROW_PASSES[recipe.preset] * (SEVERAL if several else 1)
    pictures_every = 3 if several else 16  # from the start a row knows its picture, a code of several images does not
    epoch = max(MIN_ROW_BATCHES, math.ceil(captions / MOST_QUERIES)) if captions else 0
    asked = passes * epoch * pictures_every / (pictures_every - 1)
    return Training(
        memorise=math.ceil(passes) if several else ROW_PICTURES,
        describe=0,
        retrieve=math.ceil((1 - ROW_FINISH) * asked),
        finish=math.ceil(ROW_FINISH * asked),
        pictures_every=pictures_every,
        descriptions_every=0,
        pictures=min(ROW_PICTURES_TOGETHER, images),
        queries=MOST_QUERIES,
        phrases=phrases,
        trained="rows",
        views=1,
        seed=recipe.seed,
    )


def _phrases(gallery: Gallery, recipe: Recipe) -> int:
    """How many everyday phrases a dense encoder answers, where it sees pictures with other eyes than the backbone."""
    return PHRASES[recipe.preset] if gallery.bare else 0


def _batch(wanted: float, largest: int) -> int:
    """The size of a batch: the largest power of two, or three halves of one, within both numbers, 8 at least."""
    sizes = [size for power in range(3, 10) for size in (2**power, 3 * 2 ** (power - 1)) if size <= largest]
    return max([size for size in sizes if size <= wanted], default=sizes[0])

"""Preflight: what will come of a gallery, told from its captions and its backbone's files. Imports no model library."""

import json
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from gcr_core.data.gallery import Gallery
from gcr_core.errors import GcrError
from gcr_core.files.hub import here
from gcr_core.files.layout import TAGS_FILE
from gcr_core.training.config import CAPTIONER, MAX_WRITTEN, Recipe

HELD_OUT_FROM = 3
"""An image with at least so many captions may have one of them held out."""
HELD_OUT_SHARE, HELD_OUT_FEWEST, HELD_OUT_CHEAPLY = 0.1, 20, 100
"""The share of such images that have a caption held out, and the fewest of them, where there are as many; the fewest
where it costs nothing, as rows alone know them just as well once they are taught them in the end."""
HELD_OUT_ODDS = 4.0
"""How often a caption that was held out is drawn in the last steps, in relation to another one."""
TEMPLATES = ("chat_template.jinja", "chat_template.json")
"""The files that hold a chat template; in some checkpoints `processor_config.json` holds it instead."""


def remarks(gallery: Gallery, recipe: Recipe) -> list[str]:
    """What should be known before the gallery is memorised: what will be found by words and what will not.

    Raises HubError for a backbone that is neither a folder nor a hub id.
    """
    bare, told = len(gallery.bare), []
    if bare:
        sees = "the model" if has_eyes(recipe.backbone) else Path(recipe.clip).name
        told.append(
            f"{bare:,} of {len(gallery):,} images have no caption, and need none: they will be found by what {sees} "
            "sees in them. Only names of people and places it cannot know: type in those that you will search for."
        )
    alone = sum(0 < len(texts) == len(written) for texts, written in _both(gallery))
    if alone:
        told.append(
            f"{alone:,} of {len(gallery):,} images have only the model’s own words. Wrong ones are learnt too: correct "
            "those."
        )
    return told


def unmeasured(gallery: Gallery) -> list[str]:
    """Why a memory will not be asked with words that are new to it, where it will not: for its report."""
    people = any(set(texts) - set(written) for texts, written in _both(gallery))
    if not people or _eligible(gallery):
        return []
    return [
        f"No image has {HELD_OUT_FROM} captions or more{', two of them a person’s' * any(gallery.pseudo_queries)}, "
        "so no caption is kept out of training to measure how well new words are answered."
    ]


def has_eyes(backbone: str) -> bool:
    """Whether a backbone has words of its own for what it sees. Raises HubError for what is neither a folder nor a hub
    id."""
    folder = here(backbone, instead="checkpoints/gcr-mini")
    return folder is not None and (folder / TAGS_FILE).is_file()


def can_describe_pictures(backbone: str) -> bool:
    """Whether a backbone can write captions, as one with eyes or with a chat template can; one of the hub that is not
    here yet is taken to have one. Raises HubError for what is neither a folder nor a hub id."""
    folder = here(backbone, instead="checkpoints/gcr-mini")
    if folder is None:
        return True
    if any((folder / name).is_file() for name in (TAGS_FILE, *TEMPLATES)):
        return True
    try:
        return bool(json.loads((folder / "processor_config.json").read_text(encoding="utf-8")).get("chat_template"))
    except (OSError, ValueError):
        return False


def check_written(count: int, backbone: str) -> None:
    """Raises GcrError for a number of captions that a backbone cannot be asked to write for an image, or for a backbone
    that cannot write any."""
    if not 1 <= count <= MAX_WRITTEN:
        raise GcrError(f"{count} captions were asked for each image: choose 1 to {MAX_WRITTEN}")
    if not can_describe_pictures(backbone):
        raise GcrError(
            f"{Path(backbone).name} cannot describe pictures, it has no eyes and no chat template: choose a backbone "
            f"that has, such as {CAPTIONER}"
        )


def hold_out(gallery: Gallery, seed: int, fewest: int = HELD_OUT_FEWEST) -> tuple[list[list[str]], dict[str, int]]:
    """The captions to train on, and those kept out with their image: a person's, never an image's first.

    `fewest` of them, or HELD_OUT_SHARE, where there are as many.
    """
    captions, eligible = gallery.captions, _eligible(gallery)
    count = min(len(eligible), max(fewest, math.ceil(HELD_OUT_SHARE * len(eligible))))
    choice = np.random.default_rng(seed)
    chosen = sorted(choice.choice(len(eligible), count, replace=False)) if count else []
    held_out = {str(choice.choice(eligible[row][1])): eligible[row][0] for row in chosen}
    return [[text for text in texts if held_out.get(text) != image] for image, texts in enumerate(captions)], held_out


def _eligible(gallery: Gallery) -> list[tuple[int, list[str]]]:
    """Images of whose captions one may be kept out, and which: a person wrote it and no other image has it."""
    owners = Counter(text for texts in gallery.captions for text in set(texts))
    found = [
        (image, [text for text in texts[1:] if owners[text] == 1 and text not in written])
        for image, (texts, written) in enumerate(_both(gallery))
        if len(texts) >= HELD_OUT_FROM
    ]
    return [(image, texts) for image, texts in found if texts]


def _both(gallery: Gallery) -> Iterator[tuple[list[str], list[str]]]:
    """For each image its captions, and those of them that the model wrote."""
    return zip(gallery.captions, gallery.pseudo_queries, strict=True)

"""Half of a gallery has captions: worn copies of all its pictures are recalled, with the gcr-mini that ships."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from gcr_core.data.gallery import Gallery
from gcr_core.memory.build import make_memory
from gcr_core.memory.memory import Memory
from gcr_core.training.config import Recipe

pytestmark = pytest.mark.slow

IMAGES = 40
WORDS = ("red", "boat", "dog", "hill", "house", "tree", "river", "man", "kite", "car")


def scene(seed: int) -> Image.Image:
    draws = random.Random(seed)
    picture = Image.new("RGB", (160, 120), colour(draws))
    pen = ImageDraw.Draw(picture)
    for _ in range(6):
        x, y = draws.randrange(130), draws.randrange(90)
        box = (x, y, x + draws.randrange(20, 80), y + draws.randrange(20, 60))
        draws.choice([pen.ellipse, pen.rectangle])(box, colour(draws))
    return picture


def colour(draws: random.Random) -> tuple[int, int, int]:
    return draws.randrange(256), draws.randrange(256), draws.randrange(256)


def worn(picture: Image.Image) -> Image.Image:
    return picture.crop((12, 9, 148, 111)).resize((68, 51), Image.Resampling.BICUBIC)


def made(folder: Path, images: int, captioned: int) -> Memory:
    """A memory of so many scenes, the first of which have captions."""
    draws, pictures = random.Random(0), folder / "gallery"
    pictures.mkdir()
    for image in range(images):
        scene(image).save(pictures / f"{image:02d}.png")
    captions = [[" ".join(draws.sample(WORDS, 4)) for _ in range(3)] for _ in range(captioned)]
    rows = [json.dumps({"file_name": f"{image:02d}.png", "text": texts}) for image, texts in enumerate(captions)]
    (pictures / "metadata.jsonl").write_text("\n".join(rows))
    make_memory(Gallery.from_folder(pictures), Recipe(preset="quick"), folder / "memory", lambda told: None)
    return Memory.from_pretrained(folder / "memory")


def check_own_come_first(memory: Memory) -> None:
    """For the pictures and for worn copies, of the half with captions and of the other one."""
    for change in (lambda picture: picture, worn):
        asked = [change(scene(image)) for image in range(IMAGES)]
        first = np.array([hits[0].index for hits in memory.recall_images(asked, top=1)]) == np.arange(IMAGES)
        assert first[: IMAGES // 2].mean() >= 0.9
        assert first[IMAGES // 2 :].mean() >= 0.9


def test_pictures_without_captions_do_not_answer_copies_of_those_that_have_some(tmp_path: Path) -> None:
    check_own_come_first(made(tmp_path, IMAGES, IMAGES // 2))


def test_neither_do_those_that_are_added_later(tmp_path: Path) -> None:
    memory = made(tmp_path, IMAGES // 2, IMAGES // 2)
    later = range(IMAGES // 2, IMAGES)
    memory.add([(f"{image:02d}.png", scene(image)) for image in later], [[] for _ in later])
    check_own_come_first(memory)

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


def test_pictures_without_captions_do_not_answer_copies_of_those_that_have_some(tmp_path: Path) -> None:
    draws, folder = random.Random(0), tmp_path / "gallery"
    folder.mkdir()
    for image in range(IMAGES):
        scene(image).save(folder / f"{image:02d}.png")
    captions = [[" ".join(draws.sample(WORDS, 4)) for _ in range(3)] for _ in range(IMAGES // 2)]
    rows = [json.dumps({"file_name": f"{image:02d}.png", "text": texts}) for image, texts in enumerate(captions)]
    (folder / "metadata.jsonl").write_text("\n".join(rows))
    gallery = Gallery.from_folder(folder)
    make_memory(gallery, Recipe(preset="quick"), tmp_path / "memory", lambda told: None)
    memory = Memory.from_pretrained(tmp_path / "memory")
    for change in (lambda picture: picture, worn):
        asked = [change(memory.gallery.open(image)) for image in range(IMAGES)]
        first = np.array([hits[0].index for hits in memory.recall_images(asked, top=1)]) == np.arange(IMAGES)
        assert first[: IMAGES // 2].mean() >= 0.9
        assert first[IMAGES // 2 :].mean() >= 0.9

"""Pictures that are much alike are told apart, with the gcr-mini that ships: clock faces among other emoji."""

import json
from pathlib import Path

import pytest

from gcr_core.data.gallery import Gallery
from gcr_core.memory.build import make_memory
from gcr_core.memory.memory import Memory
from gcr_core.settings import ROOT
from gcr_core.training.config import Recipe

CLOCKS = ("o\N{RIGHT SINGLE QUOTATION MARK}clock", "thirty")
OTHERS = 10
"""One emoji in so many is there too."""


@pytest.mark.slow
def test_each_clock_face_comes_first_for_its_own_picture(tmp_path: Path) -> None:
    shipped, pictures, rows = Memory.from_pretrained(ROOT / "checkpoints" / "emoji").gallery, tmp_path / "gallery", []
    pictures.mkdir()
    for image, texts in enumerate(shipped.captions):
        is_clock = any(word in text for text in texts for word in CLOCKS)
        if is_clock or image % OTHERS == 0:
            name = f"{'clock-' if is_clock else ''}{image}.png"
            shipped.open(image).save(pictures / name)
            rows.append(json.dumps({"file_name": name, "text": texts}))
    (pictures / "metadata.jsonl").write_text("\n".join(rows))
    gallery = Gallery.from_folder(pictures)
    assert sum(name.startswith("clock-") for name in gallery.file_names) >= 24
    report = make_memory(gallery, Recipe(preset="quick"), tmp_path / "memory", lambda told: None)
    assert report["memorized"] > 0.98

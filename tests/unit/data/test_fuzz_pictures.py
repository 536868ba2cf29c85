"""A small run of the script that fuzzes the loader."""

import io
import random
import sys
from pathlib import Path

import pytest
from PIL import Image

from gcr_core.data.formats import NAMES

sys.path.append(str(Path(__file__).resolve().parents[3] / "scripts"))

fuzz_pictures = pytest.importorskip("fuzz_pictures", reason="limits of processes are Linux's", exc_type=ImportError)


def test_mutated_pictures_of_every_format_end_in_a_picture_or_one_line(tmp_path: Path) -> None:
    ends, faults = fuzz_pictures.fuzz(60 * len(NAMES), seed=0, formats=list(NAMES), keep=tmp_path)
    assert faults == []
    assert ends["picture"] > 50 < ends["line"]


def test_a_picture_that_takes_too_long_or_too_much_or_the_process_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz_pictures, "PATIENCE_SECONDS", 0.0)
    opener = fuzz_pictures.Opener()
    assert opener(b"") == "no answer in 0.0 s"
    monkeypatch.setattr(fuzz_pictures, "PATIENCE_SECONDS", 60)
    assert opener(b"") == "line"
    opener._process.kill()
    opener._process.join()
    assert opener(b"") == "the process ended with -9"
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    assert opener(buffer.getvalue()) == "picture"
    opener.end()


def test_the_same_seed_mutates_alike() -> None:
    data = fuzz_pictures.samples("PNG")
    made = [fuzz_pictures.mutated(data[0], data, random.Random(3)) for _ in range(2)]
    assert made[0] == made[1] != data[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "side", "file_format", "options"),
    [
        ("RGB", 8000, "JPEG", {"progressive": True, "subsampling": 0}),
        ("CMYK", 8000, "JPEG", {}),
        ("RGBA", 8000, "PNG", {"compress_level": 1}),
        ("P", 8000, "GIF", {}),
        ("RGB", 5400, "WEBP", {"method": 0}),
    ],
)
def test_the_largest_pictures_are_opened_within_half_a_gigabyte(
    mode: str, side: int, file_format: str, options: dict
) -> None:
    buffer = io.BytesIO()
    Image.new(mode, (side, side)).save(buffer, file_format, **options)
    opener = fuzz_pictures.Opener()
    assert opener(buffer.getvalue()).endswith("picture")
    opener.end()

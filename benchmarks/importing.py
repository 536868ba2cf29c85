"""Seconds and memory that the import of many pictures takes: python benchmarks/importing.py [--pictures N] [--json]

Pictures are generated: photographs' sizes (JPEG of 500 x 375, every tenth of 4000 x 3000), half of them loose with a
metadata.csv, half in a zip; one in fifty is there twice.
"""

import argparse
import json
import resource
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from gcr_core import Gallery

SMALL, LARGE = (500, 375), (4000, 3000)
LARGE_EVERY = 10
TWICE_EVERY = 50
PIXELS_A_DETAIL = 12
BOUNDS = {"peak_rss_mb": 3000}


def make_pictures(folder: Path, count: int) -> list[Path]:
    """Writes the pictures below `folder`; what to hand over."""
    loose = folder / "loose"
    loose.mkdir(parents=True)
    archive = folder / "photos.zip"
    with zipfile.ZipFile(archive, "w") as members:
        for number in tqdm(range(count), "pictures", disable=None, leave=False):
            path = loose / f"photo-{number:05}.jpg"
            write_picture(path, number - 1 if number % TWICE_EVERY == 1 else number)
            if number % 2:
                members.write(path, path.name)
                path.unlink()
    rows = (f"{path.name},a picture called {path.stem}\n" for path in sorted(loose.iterdir()))
    (loose / "metadata.csv").write_text("file_name,text\n" + "".join(rows))
    return [*sorted(loose.iterdir()), archive]


def write_picture(path: Path, seed: int) -> None:
    width, height = LARGE if seed % LARGE_EVERY == 0 else SMALL
    details = (height // PIXELS_A_DETAIL, width // PIXELS_A_DETAIL, 3)
    noise = np.random.default_rng(seed).integers(0, 255, details, np.uint8)
    Image.fromarray(noise).resize((width, height), Image.Resampling.BILINEAR).save(path, quality=85)


def measure(count: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        sources = make_pictures(Path(folder) / "given", count)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began, worked = time.monotonic(), time.process_time()
        gallery = Gallery.collect(sources, Path(folder) / "gallery")
        return {
            "pictures": count,
            "images": len(gallery),
            "seconds": round(time.monotonic() - began, 1),
            "cpu_seconds": round(time.process_time() - worked, 1),
            "rss_before_mb": before // 1024,
            "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=5_000, help="how many (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    options = parser.parse_args()
    figures = measure(options.pictures)
    if options.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        bound = f"   (at most {BOUNDS[name]:,})" if name in BOUNDS else ""
        print(f"{name:20} {value:>10,}{bound}")


if __name__ == "__main__":
    main()

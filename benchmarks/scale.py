"""What the paper's scale takes: python benchmarks/scale.py [--entries N] [--vectors N] [--json]

Memory: a Karpathy split of N entries with generated pictures (JPEG of 500 x 375) is read, its features computed with
gcr-mini's vision tower and cached, then trained on, from the features and from the pictures. Processes: fifty steps of
gcr-mini on a hundred emoji in one process and in two. Search: an inverted file against the exact search.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import psutil
from PIL import Image
from tqdm import tqdm

from gcr_core import Backbone, Gallery, Identifiers, Settings
from gcr_core.data.karpathy import read_gallery
from gcr_core.models.distributed import is_first
from gcr_core.retrieval.dense import _make_index
from gcr_core.training import augment
from gcr_core.training.batches import Pairs
from gcr_core.training.config import Step, Training
from gcr_core.training.features import FeatureCache
from gcr_core.training.train import memorize

ROOT = Path(__file__).resolve().parent.parent
COLOURS, THINGS = ("red", "blue", "green", "golden"), ("dog", "boat", "child", "street", "tree")
PICTURE, DETAILS = (500, 375), (31, 42, 3)
STEPS, OF_PICTURES = 96, 96
DIMENSIONS, QUERIES, TOP = 512, 200, 100
HELD_BYTES = 2**24
"""of pictures that are held while they are trained on, instead of 1 GiB, so that the limit is soon reached"""
BOUNDS = {"growth_mb": 100.0, "largest_difference": 1e-3}


class Memory:
    """The megabytes that this process holds, sampled on the way."""

    def __init__(self) -> None:
        self.process, self.sampled = psutil.Process(), list[float]()

    def sample(self) -> None:
        self.sampled.append(self.process.memory_info().rss / 2**20)

    @property
    def growth(self) -> float:
        """From the first quarter of the samples to the last, highest against highest."""
        quarter = max(1, len(self.sampled) // 4)
        return max(self.sampled[-quarter:]) - max(self.sampled[:quarter])


def write_split(folder: Path, entries: int) -> Path:
    """A Karpathy split of that many entries, its pictures in `images/`."""
    (folder / "images").mkdir()
    draws, rows = np.random.default_rng(0), []
    for number in tqdm(range(entries), "pictures", disable=None, leave=False):
        name = f"{number:06}.jpg"
        Image.fromarray(draws.integers(0, 255, DETAILS, np.uint8)).resize(PICTURE).save(folder / "images" / name)
        said = [
            f"a {draws.choice(COLOURS)} {draws.choice(THINGS)}, number {number}, {view}" for view in ("near", "far")
        ]
        sentences = [{"raw": text, "tokens": text.split(), "imgid": number, "sentid": 0} for text in said]
        rows.append({"filename": name, "split": "train", "imgid": number, "sentids": [0], "sentences": sentences})
    (folder / "dataset.json").write_text(json.dumps({"dataset": "generated", "images": rows}))
    return folder / "dataset.json"


def streaming(entries: int) -> dict[str, float]:
    augment.HELD_BYTES = HELD_BYTES
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        gallery = read_gallery(write_split(folder, entries), folder / "images")
        backbone = Backbone.from_pretrained(Settings.backbone)
        identifiers = Identifiers.build("atomic", gallery, backbone.tokenizer)
        pairs = Pairs.from_captions(gallery.captions)
        memories = {stage: Memory() for stage in ("features", "on_features", "on_pictures")}

        def on_progress(done: int, total: int) -> None:
            if done % 256 == 0 or done == total:
                memories["features"].sample()

        began = time.monotonic()
        features = FeatureCache.compute(backbone, gallery, 1, folder=folder / "features", on_progress=on_progress)
        spent = time.monotonic() - began
        training = Training(memorise=0, describe=0, retrieve=STEPS, pictures_every=2, pictures=OF_PICTURES)
        for stage, given in (("on_features", features), ("on_pictures", None)):

            def on_step(step: Step, memory: Memory = memories[stage]) -> None:
                memory.sample()

            memorize(backbone, gallery, identifiers, pairs, training, on_step, features=given)
        cached = sum(file.stat().st_size for file in (folder / "features").iterdir())
    return {
        "entries": entries,
        "features_pictures_per_s": round(entries / spent, 1),
        "features_mb_on_disk": round(cached / 2**20),
        **{f"{stage}_peak_mb": round(max(memory.sampled)) for stage, memory in memories.items()},
        **{f"{stage}_growth_mb": round(memory.growth, 1) for stage, memory in memories.items()},
    }


def write_curve(path: Path) -> None:
    """The losses and seconds a step of fifty steps on a hundred emoji, by the first process."""
    whole = Gallery.load(Path(Settings.memory) / "gallery")
    gallery = Gallery(whole.root, whole.file_names[:100], whole.captions[:100])
    backbone = Backbone.from_pretrained(Settings.backbone)
    identifiers = Identifiers.build("atomic", gallery, backbone.tokenizer)
    training = Training(memorise=15, describe=10, retrieve=25, descriptions_every=8)
    losses, began = list[float](), list[float]()

    def on_step(step: Step) -> None:
        losses.append(step.loss)
        began.append(time.monotonic())

    memorize(backbone, gallery, identifiers, Pairs.from_captions(gallery.captions), training, on_step)
    if is_first():
        path.write_text(json.dumps([losses, (began[-1] - began[0]) / (len(began) - 1)]))


def processes() -> dict[str, float]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    curves = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "curve.json"
        for start in ([sys.executable], launch):
            subprocess.run([*start, __file__, "--curve", str(path)], env=environment, check=True, capture_output=True)
            curves.append(json.loads(path.read_text()))
    (alone, alone_seconds), (shared, shared_seconds) = curves
    return {
        "steps": len(alone),
        "largest_difference": max(abs(one - two) for one, two in zip(alone, shared, strict=True)),
        "step_s_in_one_process": round(alone_seconds, 2),
        "step_s_in_two": round(shared_seconds, 2),
    }


def search(count: int) -> dict[str, float]:
    """Vectors scattered about a thousand topics; texts lie beside the images that they ask for, as CLIP's do."""
    draws = np.random.default_rng(0)
    topics = draws.normal(size=(1_000, DIMENSIONS)).astype(np.float32)
    gap = draws.normal(size=DIMENSIONS).astype(np.float32)

    def unit(vectors: np.ndarray) -> np.ndarray:
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def near(vectors: np.ndarray, by: float) -> np.ndarray:
        return vectors + by * draws.standard_normal(vectors.shape, np.float32)

    vectors = unit(near(topics[draws.integers(len(topics), size=count)], 1.0))
    texts = unit(near(vectors[draws.integers(count, size=2 * QUERIES)] * DIMENSIONS**0.5, 1.0) + gap)
    began = time.monotonic()
    cells: Any = _make_index(vectors, texts[:QUERIES])
    built = time.monotonic() - began
    exact = faiss.IndexFlatIP(DIMENSIONS)
    exact.add(vectors)
    milliseconds, found = [], []
    for index in (exact, cells):
        began = time.monotonic()
        found.append([index.search(text[None], TOP)[1][0] for text in texts[QUERIES:]])
        milliseconds.append(1000 * (time.monotonic() - began) / QUERIES)
    rows = list(zip(*found, strict=True))
    return {
        "vectors": count,
        "build_s": round(built, 1),
        "cells": cells.nlist,
        "cells_read": cells.nprobe,
        "recall@10": round(float(np.mean([np.isin(one[:10], two[:10]).mean() for one, two in rows])), 4),
        "recall@100": round(float(np.mean([np.isin(one, two).mean() for one, two in rows])), 4),
        "exact_ms": round(milliseconds[0], 2),
        "inverted_file_ms": round(milliseconds[1], 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=31_000, help="of the split (default: %(default)s)")
    parser.add_argument("--vectors", type=int, default=200_000, help="to search (default: %(default)s)")
    parser.add_argument("--curve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    options = parser.parse_args()
    if options.curve:
        write_curve(options.curve)
        return
    figures = {
        "streaming": streaming(options.entries),
        "processes": processes(),
        "search": search(options.vectors),
    }
    figures["cpu"] = {"seconds": round(sum(os.times()[:4]))}
    if options.json:
        print(json.dumps(figures))
        return
    for part, values in figures.items():
        print(part)
        for name, value in values.items():
            bounds = [bound for end, bound in BOUNDS.items() if name.endswith(end)]
            print(f"  {name:24} {value:>14,.6g}" + (f"   (at most {bounds[0]:g})" if bounds else ""))


if __name__ == "__main__":
    main()

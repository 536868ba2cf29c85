"""The five identifier types on the sample gallery: each memorised by gcr-mini from the same captions, by one preset.

    python benchmarks/identifiers.py [--preset balanced] [--json]

Prints, for each type: tokens of the longest identifier, R@1/5/10 on `assets/emoji_queries.jsonl` (10 beams), the share
of images that come first for their own picture, the median latency of a text query, and the seconds of the backbone's
training, seeing and reading included.
"""

import argparse
import json
import tempfile
from pathlib import Path

from gcr_core import IDENTIFIER_TYPES, Gallery, Memory
from gcr_core.data.queries import load_queries
from gcr_core.evaluation.evaluate import evaluate
from gcr_core.memory.build import make_memory
from gcr_core.training.config import PRESETS, Recipe

ROOT = Path(__file__).parent.parent


def measure(kind: str, preset: str, gallery: Gallery, out: Path) -> dict[str, float]:
    report = make_memory(gallery, Recipe(identifiers=kind, preset=preset), out, lambda progress: None)
    memory = Memory.from_pretrained(out)
    figures = evaluate(memory, load_queries(ROOT / "assets" / "emoji_queries.jsonl", gallery))["generative"]
    return {
        "tokens": memory.trie.depth,
        **{f"recall@{k}": figures[f"recall@{k}"] for k in (1, 5, 10)},
        "own_picture": report["memorized"],
        "latency_ms_p50": figures["latency_ms_p50"],
        "training_seconds": report["seconds"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, default="balanced")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        gallery = Gallery.from_zip(ROOT / "assets" / "emoji.zip", Path(folder) / "emoji")
        rows = {}
        if not arguments.json:
            print("type         tokens     R@1     R@5    R@10   own picture   ms (median)   training s")
        for kind in IDENTIFIER_TYPES:
            row = rows[kind] = measure(kind, arguments.preset, gallery, Path(folder) / kind)
            if not arguments.json:
                recalls = "".join(f"{row[f'recall@{k}']:8.3f}" for k in (1, 5, 10))
                print(
                    f"{kind:<12}{row['tokens']:>7}{recalls}{row['own_picture']:14.3f}"
                    f"{row['latency_ms_p50']:14.1f}{row['training_seconds']:13.0f}",
                    flush=True,
                )
    if arguments.json:
        print(json.dumps({"images": len(gallery), "types": rows}))


if __name__ == "__main__":
    main()

"""The five identifier types on the sample gallery: each memorised by gcr-mini from the same captions, as long.

    python benchmarks/identifiers.py [--steps 400] [--json]

Prints, for each type: tokens of the longest identifier, R@1/5/10 on `assets/emoji_queries.jsonl` (10 beams), the share
of images that come first for their own picture, the median latency of a text query, and the training seconds.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

from gcr_core import IDENTIFIER_TYPES, Backbone, DenseIndex, Gallery, Identifiers, Memory
from gcr_core.data.queries import load_queries
from gcr_core.evaluation.evaluate import evaluate
from gcr_core.training.batches import Pairs
from gcr_core.training.config import Training
from gcr_core.training.train import memorize

ROOT = Path(__file__).parent.parent
CHECKPOINTS = ROOT / "checkpoints"
BATCH = 64


def measure(kind: str, gallery: Gallery, dense: DenseIndex, training: Training) -> dict[str, float]:
    backbone = Backbone.from_pretrained(CHECKPOINTS / "gcr-mini")
    identifiers = Identifiers.build(kind, gallery, backbone.tokenizer, dense.vectors, training.seed)
    began = time.monotonic()
    memorize(backbone, gallery, identifiers, Pairs.from_captions(gallery.captions), training)
    seconds = time.monotonic() - began
    memory = Memory(backbone, identifiers, gallery, dense)
    figures = evaluate(memory, load_queries(ROOT / "assets" / "emoji_queries.jsonl", gallery))["generative"]
    own = 0
    for start in range(0, len(gallery), BATCH):
        images = range(start, min(start + BATCH, len(gallery)))
        found = memory.recall_images([gallery.open(image) for image in images], top=1)
        own += sum(hits[0].index == image for hits, image in zip(found, images, strict=True))
    return {
        "tokens": memory.trie.depth,
        **{f"recall@{k}": figures[f"recall@{k}"] for k in (1, 5, 10)},
        "own_picture": own / len(gallery),
        "latency_ms_p50": figures["latency_ms_p50"],
        "training_seconds": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400, help="training steps of each type, half of them pictures")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    memorise = arguments.steps // 4
    training = Training(
        memorise, describe=0, retrieve=arguments.steps - memorise, pictures_every=3, descriptions_every=0
    )
    with tempfile.TemporaryDirectory() as folder:
        gallery = Gallery.from_zip(ROOT / "assets" / "emoji.zip", Path(folder) / "emoji")
        dense = DenseIndex.build(gallery, str(CHECKPOINTS / "gcr-mini-clip"))
        rows = {}
        if not arguments.json:
            print("type         tokens     R@1     R@5    R@10   own picture   ms (median)   training s")
        for kind in IDENTIFIER_TYPES:
            row = rows[kind] = measure(kind, gallery, dense, training)
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

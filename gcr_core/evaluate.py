"""Evaluation: both engines on the same queries, one query at a time.

A hit is any relevant image among the first k. A query that fails counts as a miss, it never leaves the
denominator. Several processes share the queries out.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from .dense import DenseIndex
from .errors import GalleryError, InputError
from .gallery import Gallery
from .images import open_image
from .karpathy import read_entries
from .memory import Memory
from .query import DEFAULT_BEAMS, SearchRequest, check_limits
from .together import is_first, mapped

ENGINES = ("generative", "dense")
CUTOFFS = (1, 5, 10)
DEPTH = 10


@dataclass(frozen=True)
class Query:
    """What to ask, as text or as the path of a picture, and the gallery's file names of the images that answer it."""

    text: str | None
    image: Path | None
    relevant: frozenset[str]


def load_queries(path: str | Path, gallery: Gallery) -> list[Query]:
    """The queries of a JSON Lines file.

    A line is {"query": text} or {"image": path}, each with "relevant": [file_name, ...]. An image's path is
    relative to the file's folder. A name that was merged into an image stands for it. Raises GalleryError naming file
    and line.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise GalleryError(f"query file {str(path)!r} cannot be read ({error}): check the path") from error
    queries = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            queries.append(_checked(json.loads(line), path.parent, gallery))
        except (ValueError, RecursionError, GalleryError) as error:
            reason = "is not JSON" if isinstance(error, json.JSONDecodeError) else str(error)
            raise GalleryError(
                f'{path}:{number}: {reason}; write {{"query": "...", "relevant": ["file_name", ...]}}'
            ) from error
    if not queries:
        raise GalleryError(f'{path} has no query: write a line {{"query": "...", "relevant": ["file_name"]}}')
    return queries


def karpathy_queries(path: str | Path, split: str, gallery: Gallery) -> list[Query]:
    """The captions of a Karpathy split, each asking for its image. Raises GalleryError for images the gallery lacks."""
    entries = read_entries(path, [split])
    known = set(gallery.file_names)
    lost = [entry.file_name for entry in entries if entry.file_name not in known]
    if lost:
        raise GalleryError(
            f"the memory lacks {len(lost):,} of the {len(entries):,} images of split {split!r}, such as {lost[0]!r}: "
            f"memorise them too, with --pictures-only {split}"
        )
    queries = [Query(text, None, frozenset([entry.file_name])) for entry in entries for text in entry.captions]
    if not queries:
        raise GalleryError(f"split {split!r} of {str(path)!r} has 0 captions to ask: name another")
    return queries


def among(memory: Memory, file_names: Iterable[str]) -> Memory:
    """The same memory, recalling these images only. Raises GalleryError for a name that it lacks."""
    kept = [memory.gallery.index(name) for name in file_names]
    others = np.setdiff1d(np.arange(len(memory.gallery)), kept).tolist()
    dense = DenseIndex(memory.dense.model, memory.dense.processor, memory.dense.index)
    dense.remove(others)
    return Memory(
        memory.backbone, memory.identifiers.without(others), memory.gallery.without(others), dense, memory.facts
    )


def evaluate(memory: Memory, queries: list[Query], beams: int = DEFAULT_BEAMS) -> dict[str, Any]:
    """Recall@1, @5, @10 and MRR@10 as shares in [0, 1], latency in milliseconds (median, 95th percentile).

    {"queries", "images", "generative": {"recall@1", "recall@5", "recall@10", "mrr@10", "latency_ms_p50",
    "latency_ms_p95"}, "dense": {the same}}. Latency is None where every query failed. Shows a progress bar on
    stderr when that is a terminal. Raises InputError for `beams` outside its limits.
    """
    check_limits(DEPTH, beams)
    _answer(memory, queries[0], beams)  # the first is slower than the rest: it is not counted

    def answers(asked: list[Query]) -> list[dict[str, tuple[int, float | None]]]:
        bar = tqdm(asked, "queries", disable=None if is_first() else True, leave=False)
        return [_answer(memory, query, beams) for query in bar]

    answered = mapped(answers, queries)
    scores = {engine: _scores([answer[engine] for answer in answered]) for engine in ENGINES}
    return {"queries": len(queries), "images": len(memory.gallery), **scores}


def _checked(row: Any, folder: Path, gallery: Gallery) -> Query:
    """The query in a parsed line. Raises ValueError or GalleryError saying what is wrong with it."""
    if not isinstance(row, dict):
        raise ValueError("is no JSON object")
    text, image, relevant = row.get("query"), row.get("image"), row.get("relevant")
    if isinstance(text, str) == isinstance(image, str):
        raise ValueError('needs a string as "query" or as "image", one of the two')
    if not isinstance(relevant, list) or not relevant or not all(isinstance(name, str) for name in relevant):
        raise ValueError('needs "relevant", a list of at least one file name')
    stored = frozenset(gallery.file_names[gallery.index(name)] for name in relevant)
    return Query(text, folder / image if isinstance(image, str) else None, stored)


def _answer(memory: Memory, query: Query, beams: int) -> dict[str, tuple[int, float | None]]:
    """Of each engine the rank of the first relevant result, 0 where there is none, and the milliseconds it took."""
    try:
        asked = open_image(query.image) if query.image is not None else query.text or ""
        answer = memory.answer(SearchRequest(asked, DEPTH, beams))
    except InputError:
        return dict.fromkeys(ENGINES, (0, None))
    return {engine: (_first_hit(answer[engine], query.relevant), answer["latency_ms"][engine]) for engine in ENGINES}


def _first_hit(results: list[dict[str, Any]], relevant: frozenset[str]) -> int:
    return next((result["rank"] for result in results if result["file_name"] in relevant), 0)


def _scores(answers: list[tuple[int, float | None]]) -> dict[str, float | None]:
    latencies = [latency for _, latency in answers if latency is not None]
    rank = np.array([rank for rank, _ in answers])
    scores: dict[str, float | None] = {
        f"recall@{k}": round(float(np.mean((rank > 0) & (rank <= k))), 4) for k in CUTOFFS
    }
    reciprocal = np.divide(1.0, rank, out=np.zeros(len(rank)), where=rank > 0)
    scores["mrr@10"] = round(float(reciprocal.mean()), 4)
    for percent in (50, 95):
        found = round(float(np.percentile(latencies, percent)), 2) if latencies else None
        scores[f"latency_ms_p{percent}"] = found
    return scores

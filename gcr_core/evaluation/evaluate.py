"""Evaluation: both engines on the same queries, one query at a time.

A hit is any relevant image among the first k. A query that fails counts as a miss, it never leaves the
denominator. Several processes share the queries out.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from gcr_core.data.images import open_image
from gcr_core.data.queries import Query
from gcr_core.errors import InputError
from gcr_core.memory.memory import Memory
from gcr_core.models.distributed import is_first, mapped
from gcr_core.retrieval.dense import DenseIndex
from gcr_core.retrieval.query import DEFAULT_BEAMS, SearchRequest, check_limits

ENGINES = ("generative", "dense")
CUTOFFS = (1, 5, 10)
DEPTH = 10
"""How many images each engine is asked for."""


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

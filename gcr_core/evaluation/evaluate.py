"""Evaluation: both engines on the same queries, one query at a time.

A hit is any relevant image among the first k. A query that fails counts as a miss, it never leaves the denominator; one
of which nothing is relevant counts in no recall. Several processes share the queries out. Torch is imported by what
needs it alone, as whoever asks a memory of another process needs none.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from tqdm.auto import tqdm

from gcr_core.data.images import open_image
from gcr_core.data.pictures import MODEL_SIDE
from gcr_core.data.queries import Query
from gcr_core.errors import InputError
from gcr_core.evaluation import statistics
from gcr_core.retrieval.query import DEFAULT_BEAMS, SearchRequest, check_limits
from gcr_core.retrieval.reliability import reliability

if TYPE_CHECKING:
    from gcr_core.memory.memory import Memory

ENGINES = ("generative", "dense")
ORDERS = ("reranked", "together")
"""The new orders of what is recalled, where a memory has them: as good as "generative" is where it has none."""
LISTS = (*ENGINES, *ORDERS)
"""All lists of images that an answer may have."""
CUTOFFS = (1, 5, 10)
DEPTH = 10
"""How many images each engine is asked for."""

SIDE = np.dtype([("rank", "u1"), ("latency_ms", "f8"), ("score", "f8"), ("match", "f8")])
OUTCOME = np.dtype([("absent", "?"), ("failed", "?"), ("reordered", "?"), *((side, SIDE) for side in LISTS)])
"""What counts of a query: whether nothing is relevant to it, whether it failed, whether it has new orders; of each side
and order the rank of the first relevant image, 0 for none, milliseconds, and the score and match of its first image;
NaN for what there is not."""


class Answers(Protocol):
    """What can be asked as a `Memory` can: one, or one of another process."""

    def answer(self, request: SearchRequest) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Asked:
    """One query, and what came of it."""

    outcome: np.void
    """Of OUTCOME."""
    first: dict[str, str] = field(default_factory=dict)
    """Side → the file name of its first image; nothing for a query that failed."""
    mistake: str = ""
    """Why a query failed."""


def among(memory: "Memory", file_names: Iterable[str]) -> "Memory":
    """The same memory, recalling these images only. Raises GalleryError for a name that it lacks."""
    from gcr_core.retrieval.dense import DenseIndex

    kept = [memory.gallery.index(name) for name in file_names]
    others = np.setdiff1d(np.arange(len(memory.gallery)), kept).tolist()
    dense = DenseIndex(memory.dense.model, memory.dense.processor, memory.dense.index)
    dense.remove(others)
    return type(memory)(
        memory.backbone, memory.identifiers.without(others), memory.gallery.without(others), dense, memory.facts
    )


def evaluate(
    memory: "Memory",
    queries: Collection[Query],
    beams: int = DEFAULT_BEAMS,
    on_asked: Callable[[Query, Asked], None] = lambda query, asked: None,
) -> dict[str, Any]:
    """As `figures`, of a memory. `queries` are gone through one by one, and may be read from a file meanwhile.

    `on_asked` hears of each query that this process asks. Shows a progress bar on stderr when that is a terminal.
    Raises InputError for `beams` outside its limits.
    """
    from gcr_core.models.distributed import is_first, mapped

    check_limits(DEPTH, beams)
    ask(memory, next(iter(queries)), beams)  # the first is slower than the rest: it is not counted

    def answers(own: list[int]) -> list[np.ndarray]:
        outcomes = np.zeros(len(own), OUTCOME)
        share = islice(queries, own[0], own[-1] + 1) if own else iter(())
        bar = tqdm(share, "queries", len(own), disable=None if is_first() else True, leave=False)
        for place, query in enumerate(bar):
            asked = ask(memory, query, beams)
            outcomes[place] = asked.outcome
            on_asked(query, asked)
        return [outcomes]

    return figures(np.concatenate(mapped(answers, range(len(queries)))), len(memory.gallery))


def ask(memory: Answers, query: Query, beams: int = DEFAULT_BEAMS) -> Asked:
    """Asks one query. A mistake in it is told, not raised."""
    outcome = np.zeros(1, OUTCOME)
    outcome["absent"] = not query.relevant
    for side in LISTS:
        outcome[side] = (0, np.nan, np.nan, np.nan)
    try:
        asked = open_image(query.image, MODEL_SIDE) if query.image is not None else query.text or ""
        answer = memory.answer(SearchRequest(asked, DEPTH, beams))
    except InputError as mistake:
        outcome["failed"] = True
        return Asked(outcome[0], mistake=str(mistake))
    outcome["reordered"] = ORDERS[0] in answer
    for side in LISTS:
        as_found = side if side in answer else ENGINES[0]
        hits, match = answer[as_found], answer.get("match", {}).get(side)
        score = hits[0]["score"] if hits else np.nan
        sure = np.nan if match is None else match
        outcome[side] = (_first_hit(hits, query.relevant), answer["latency_ms"][as_found], score, sure)
    return Asked(outcome[0], {engine: answer[engine][0]["file_name"] for engine in ENGINES if answer[engine]})


def figures(outcomes: np.ndarray, images: int) -> dict[str, Any]:
    """Recall@1, @5, @10 and MRR@10 as shares in [0, 1], latency in milliseconds (median, 95th percentile), JSON-ready.

    {"queries", "images", "generative": {"recall@1", "recall@5", "recall@10", "mrr@10", "latency_ms_p50",
    "latency_ms_p95"}, "dense": {the same}, "reranked" and "together": {the same} where the memory has these orders of
    what is recalled, "no_match": {side: as `reliability`} where some queries have nothing
    relevant and others have, "intervals": {side: {figure: [low, high]}}, "paired": as `statistics.mcnemar` of recall@1,
    "curves": {side: {"recall", "confidence", "risk_coverage", "reliability"}}}. A share of no queries, and the latency
    where every query failed, is None. `outcomes`: (n,) of OUTCOME, of a gallery of so many images.
    """
    present, absent = outcomes[~outcomes["absent"]], outcomes["absent"]
    both = len(present) and absent.any()
    sides = LISTS if outcomes["reordered"].any() else ENGINES
    first = {engine: present[engine]["rank"] == 1 for engine in ENGINES}
    return {
        "queries": len(outcomes),
        "images": images,
        **{side: _scores(present[side]["rank"], outcomes[side]["latency_ms"]) for side in sides},
        **({"no_match": {engine: _no_match(outcomes, engine) for engine in ENGINES}} if both else {}),
        "intervals": {side: _intervals(present[side]["rank"]) for side in sides},
        "paired": statistics.mcnemar(first["generative"], first["dense"]),
        "curves": {engine: _curves(outcomes, engine) for engine in ENGINES},
    }


def _first_hit(results: list[dict[str, Any]], relevant: frozenset[str]) -> int:
    return next((result["rank"] for result in results if result["file_name"] in relevant), 0)


def _scores(ranks: np.ndarray, latencies: np.ndarray) -> dict[str, float | None]:
    latencies = latencies[~np.isnan(latencies)]
    scores: dict[str, float | None] = {f"recall@{k}": _share((ranks > 0) & (ranks <= k)) for k in CUTOFFS}
    scores["mrr@10"] = _share(statistics.reciprocal(ranks))
    for percent in (50, 95):
        found = round(float(np.percentile(latencies, percent)), 2) if len(latencies) else None
        scores[f"latency_ms_p{percent}"] = found
    return scores


def _share(values: np.ndarray) -> float | None:
    return round(float(values.mean()), 4) if len(values) else None


def _intervals(ranks: np.ndarray) -> dict[str, list[float]]:
    shares = {f"recall@{k}": statistics.wilson(int(((ranks > 0) & (ranks <= k)).sum()), len(ranks)) for k in CUTOFFS}
    return shares | {"mrr@10": statistics.bootstrap(statistics.reciprocal(ranks))}


def _no_match(outcomes: np.ndarray, engine: str) -> dict[str, float | None]:
    """As `reliability`; no calibration error of a score that is no probability."""
    kind, sure = _confidence(outcomes, engine)
    sure = np.where(np.isnan(sure), np.nanmin(sure, initial=0.0), sure)
    found = reliability(~outcomes["absent"], outcomes[engine]["rank"] == 1, sure)
    return found | ({"ece": None} if kind == "score" else {})


def _curves(outcomes: np.ndarray, engine: str) -> dict[str, Any]:
    """Of a side: recall at 1 to DEPTH, and how well its "confidence" tells right answers from wrong ones. A query that
    failed is the least sure; one of which nothing is relevant has no right answer."""
    kind, sure = _confidence(outcomes, engine)
    known, right = ~np.isnan(sure), outcomes[engine]["rank"] == 1
    return {
        "recall": statistics.recall_curve(outcomes[engine]["rank"][~outcomes["absent"]], DEPTH),
        "confidence": kind,
        "risk_coverage": statistics.risk_coverage(right, np.where(known, sure, -np.inf)),
        "reliability": statistics.reliability_diagram(right[known], sure[known]) if kind != "score" else None,
    }


def _confidence(outcomes: np.ndarray, engine: str) -> tuple[str, np.ndarray]:
    """How sure a side is of its first images, NaN for a query that failed, and what that is: "match" where the memory
    has it, else the generative side's "probability" or the dense one's "score"."""
    side = outcomes[engine]
    if not np.isnan(side["match"][~outcomes["failed"]]).any():
        return "match", side["match"]
    if engine == "generative":
        return "probability", np.exp(np.minimum(side["score"], 0))
    return "score", side["score"]

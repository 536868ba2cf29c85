"""Answering: what both engines of a memory answer to queries, JSON-ready."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from gcr_core.errors import GcrError
from gcr_core.retrieval.match import DEPTH, nearest_evidence, recalled_evidence
from gcr_core.retrieval.query import SearchRequest

if TYPE_CHECKING:
    from gcr_core.memory.memory import Memory


def answer_all(memory: "Memory", requests: list[SearchRequest]) -> list[dict[str, Any] | GcrError]:
    """For each request {"query": the text, None for a picture, "match": how probable it is that each side's first image
    is right, of a text and where the memory was calibrated for it, "generative": [{"rank", "file_name", "score",
    "identifier"}], "dense": [{"rank", "file_name", "score"}], "latency_ms": {"generative", "dense"}, of all that were
    answered in one batch}; with `trace` also "trace": for each step the beams as [{"identifier", "tokens",
    "probability", "images"}]. In the place of a request's answer its mistake, as `Memory.answer` raises it."""
    answers: dict[int, dict[str, Any] | GcrError] = {}
    alike: dict[Any, list[int]] = {}
    for number, request in enumerate(requests):
        try:
            if isinstance(request.query, str):
                memory._readable(request.query)
            alike.setdefault(request.alike, []).append(number)
        except GcrError as mistake:
            answers[number] = mistake
    for numbers in alike.values():
        try:
            answers |= zip(numbers, _answers(memory, [requests[number] for number in numbers]), strict=True)
        except GcrError as mistake:
            answers |= dict.fromkeys(numbers, mistake)
    return [answers[number] for number in range(len(requests))]


def _answers(memory: "Memory", requests: list[SearchRequest]) -> list[dict[str, Any]]:
    """The answers to requests that are alike."""
    queries, first = [request.query for request in requests], requests[0]
    in_words = isinstance(first.query, str)
    read: Any = memory.backbone.query_prompts if in_words else memory._picture_prompts
    embed: Callable[[list[Any]], np.ndarray] = memory.dense.embed_texts if in_words else memory.dense.embed_images
    top = max(DEPTH, *(request.top for request in requests))
    started = time.perf_counter()
    found = memory._recall(read, queries, top, first.beams, first.album, first.trace)
    scores = np.full((len(queries), top), -np.inf)
    for number, hits in enumerate(found.hits):
        scores[number, : len(hits)] = [hit.score for hit in hits]
    matches: list[dict[str, float]] = [{} for _ in requests]
    rows = np.flatnonzero(np.isfinite(scores[:, 0]))
    if in_words and (calibration := memory._calibrations.get("generative")):
        evidence = recalled_evidence(scores[rows], np.array(found.levels)[rows], len(memory.gallery))
        for row, sure in zip(rows, calibration.match(evidence), strict=True):
            matches[row]["generative"] = round(float(sure), 4)
    recalled = time.perf_counter()
    with memory._lock:
        vectors = embed(queries)
        nearest = memory.dense.nearest(vectors, top, memory._images(first.album))
        if in_words and nearest[0] and (calibration := memory._calibrations.get("dense")):
            best = np.array([images[0][1] for images in nearest])
            whole = memory.dense.nearest(vectors, DEPTH) if first.album else nearest
            cosines = np.array([[score for _, score in images] for images in whole])
            evidence = nearest_evidence(best, cosines, *memory.dense.around(vectors))
            for match, sure in zip(matches, calibration.match(evidence), strict=True):
                match["dense"] = round(float(sure), 4)
        names = memory.gallery.file_names
        named = [[(names[image], score) for image, score in images] for images in nearest]
        traces = [[[memory._line(beam) for beam in step] for step in steps] for steps in found.traces]
    ended = time.perf_counter()
    latency = {
        "generative": round(1000 * (recalled - started), 2),
        "dense": round(1000 * (ended - recalled), 2),
    }
    return [
        {
            "query": request.query if in_words else None,
            **({"match": match} if match else {}),
            "generative": [
                {"rank": rank, "file_name": hit.file_name, "score": hit.score, "identifier": hit.identifier}
                for rank, hit in enumerate(hits[: request.top], start=1)
            ],
            "dense": [
                {"rank": rank, "file_name": file_name, "score": score}
                for rank, (file_name, score) in enumerate(looked_up[: request.top], start=1)
            ],
            "latency_ms": latency,
            **({"trace": traces[number]} if request.trace else {}),
        }
        for number, (request, match, hits, looked_up) in enumerate(
            zip(requests, matches, found.hits, named, strict=True)
        )
    ]

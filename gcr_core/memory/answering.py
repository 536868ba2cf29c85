"""Answering: what both engines of a memory answer to one query, JSON-ready."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from gcr_core.retrieval.match import DEPTH, nearest_evidence, recalled_evidence
from gcr_core.retrieval.query import SearchRequest

if TYPE_CHECKING:
    from gcr_core.memory.memory import Memory


def answer(memory: "Memory", request: SearchRequest) -> dict[str, Any]:
    """{"query": the text, None for a picture, "match": how probable it is that each side's first image is right, of a
    text and where the memory was calibrated for it, "generative": [{"rank", "file_name", "score", "identifier"}],
    "dense": [{"rank", "file_name", "score"}], "latency_ms": {"generative", "dense"}}; with `trace` also "trace": for
    each step the beams as [{"identifier", "tokens", "probability", "images"}]. Raises as `Memory.answer`."""
    text = None
    read: Any = memory._picture_prompts
    embed: Callable[[list[Any]], np.ndarray] = memory.dense.embed_images
    if isinstance(request.query, str):
        text = memory._readable(request.query)
        read, embed = memory.backbone.query_prompts, memory.dense.embed_texts
    top, match = max(request.top, DEPTH), {}
    started = time.perf_counter()
    found = memory._recall(read, [request.query], top, request.beams, request.album, request.trace)
    hits = found.hits[0]
    if text is not None and hits and (calibration := memory._calibrations.get("generative")):
        scores = np.array([[hit.score for hit in hits]])
        evidence = recalled_evidence(scores, np.array(found.levels), len(memory.gallery))
        match["generative"] = round(float(calibration.match(evidence)[0]), 4)
    recalled = time.perf_counter()
    with memory._lock:
        vectors = embed([request.query])
        nearest = memory.dense.nearest(vectors, top, memory._images(request.album))[0]
        if text is not None and nearest and (calibration := memory._calibrations.get("dense")):
            evidence = nearest_evidence(np.array([[score for _, score in nearest]]), *memory.dense.around(vectors))
            match["dense"] = round(float(calibration.match(evidence)[0]), 4)
        named = [(memory.gallery.file_names[image], score) for image, score in nearest[: request.top]]
    ended = time.perf_counter()
    answered: dict[str, Any] = {
        "query": text,
        **({"match": match} if match else {}),
        "generative": [
            {"rank": rank, "file_name": hit.file_name, "score": hit.score, "identifier": hit.identifier}
            for rank, hit in enumerate(hits[: request.top], start=1)
        ],
        "dense": [
            {"rank": rank, "file_name": file_name, "score": score}
            for rank, (file_name, score) in enumerate(named, start=1)
        ],
        "latency_ms": {
            "generative": round(1000 * (recalled - started), 2),
            "dense": round(1000 * (ended - recalled), 2),
        },
    }
    if request.trace:
        with memory._lock:
            answered["trace"] = [[memory._line(beam) for beam in step] for step in found.traces[0]]
    return answered

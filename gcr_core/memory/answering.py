"""Answering: what both engines of a memory answer to queries, JSON-ready."""

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.functional import normalize

from gcr_core.errors import GcrError
from gcr_core.memory.hits import Hit
from gcr_core.retrieval.match import DEPTH, nearest_evidence, recalled_evidence
from gcr_core.retrieval.query import SearchRequest
from gcr_core.retrieval.rerank import RERANKED
from gcr_core.training.states import states_of_texts

if TYPE_CHECKING:
    from gcr_core.memory.memory import Memory


def answer_all(memory: "Memory", requests: list[SearchRequest]) -> list[dict[str, Any] | GcrError]:
    """For each request {"query": the text, None for a picture, "match": how probable it is that each side's first image
    is right, of a text and where the memory was calibrated for it, "generative": [{"rank", "file_name", "score",
    "identifier"}], "dense": [{"rank", "file_name", "score"}], "latency_ms": {"generative", "dense"}, of all that were
    answered in one batch, a reading that serves both sides counting for each}. To a text, where the memory has weights
    for it, also two new orders of what was recalled, as `Rerank` has them: "reranked", by the words of the captions,
    and "together", by these and the dense scores, both like "generative", the score being log p after that;
    "latency_ms" has what each takes from the query on. With `trace` also "trace": for each step the beams as
    [{"identifier", "tokens", "probability", "images"}]. In the place of a request's answer its mistake, as
    `Memory.answer` raises it."""
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
    queries: list[Any] = [request.query for request in requests]
    first = requests[0]
    in_words = isinstance(first.query, str)
    read: Any = memory.backbone.query_prompts if in_words else memory._picture_prompts
    embed: Callable[[list[Any]], np.ndarray] = memory.dense.embed_texts if in_words else memory.dense.embed_images
    reranks = in_words and memory._reranking is not None
    top, beams = max(DEPTH, *(request.top for request in requests)), first.beams
    if reranks:
        top = max(top, RERANKED)
        if memory.trie.depth == 1:  # one step: more beams take no longer, and the likeliest stay what they are
            beams = max(beams, RERANKED)
    started = time.perf_counter()
    asked, reading, vectors = queries, 0.0, None
    if in_words and memory._reads_once:
        with memory._lock:
            states = states_of_texts(memory.backbone, queries)
        read, asked, vectors = torch.stack, list(states), normalize(states[:, :-1], dim=-1).cpu().numpy()
        reading = time.perf_counter() - started
    found = memory._recall(read, asked, top, beams, first.album, first.trace)
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
    reordered: list[dict[str, list[Hit]]] = [{}] * len(queries)
    with memory._lock:
        vectors = embed(queries) if vectors is None else vectors
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
        traces = [[list(map(memory._line, step[: first.beams])) for step in steps] for steps in found.traces]
        ended = time.perf_counter()
        if reranks and (reranking := memory._reranking):
            depths = (max(RERANKED, request.top) for request in requests)
            firsts = [hits[:depth] for hits, depth in zip(found.hits, depths, strict=True)]
            reordered = reranking.orders(queries, vectors, firsts)
    seconds = {"generative": recalled - started, "dense": reading + ended - recalled}
    if reordered[0]:
        more = time.perf_counter() - ended
        seconds |= {"reranked": seconds["generative"] + more, "together": ended - started + more}
    latency = {side: round(1000 * took, 2) for side, took in seconds.items()}
    return [
        {
            "query": request.query if in_words else None,
            **({"match": match} if match else {}),
            "generative": _listed(hits[: min(request.top, first.beams)]),
            "dense": [
                {"rank": rank, "file_name": file_name, "score": score}
                for rank, (file_name, score) in enumerate(looked_up[: request.top], start=1)
            ],
            **{order: _listed(again[: request.top]) for order, again in orders.items()},
            "latency_ms": latency,
            **({"trace": traces[number]} if request.trace else {}),
        }
        for number, (request, match, hits, looked_up, orders) in enumerate(
            zip(requests, matches, found.hits, named, reordered, strict=True)
        )
    ]


def _listed(hits: Iterable[Hit]) -> list[dict[str, Any]]:
    return [
        {"rank": rank, "file_name": hit.file_name, "score": hit.score, "identifier": hit.identifier}
        for rank, hit in enumerate(hits, start=1)
    ]

"""Memory: a backbone that has memorised one gallery, with identifiers, trie, gallery and dense index.

A memory is a folder (or a hub repository) of safetensors and JSON: `memory.json`, `identifiers.safetensors`,
`model/`, `gallery/`, `dense/`, `README.md`. It answers one query at a time or a batch, from any thread.
"""

import threading
import time
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from PIL import Image

from . import decoding
from .atomic import new_folder
from .backbone import Backbone
from .dense import DenseIndex
from .errors import InputError, MemoryFormatError
from .facts import FORMAT_VERSION, check_target, read_facts, write_facts
from .gallery import Gallery
from .hub import fetch
from .identifiers import Identifiers
from .trie import IdentifierTrie

MAX_QUERY_CHARACTERS = 1_000
MAX_TOP = 100
MAX_BEAMS = 1_000
ROWS_AT_ONCE = 2_048
"""Beams of all queries that are decoded together."""
DEFAULT_TOP = 10
DEFAULT_BEAMS = 10


@dataclass(frozen=True)
class Hit:
    """One recalled image."""

    index: int
    file_name: str
    score: float
    """sum of log-probabilities over the identifier's tokens, each normalised over its step's codes"""
    identifier: str


class Memory:
    """What recalls images. `facts` is the content of `memory.json`."""

    def __init__(
        self,
        backbone: Backbone,
        identifiers: Identifiers,
        gallery: Gallery,
        dense: DenseIndex,
        facts: dict[str, Any] | None = None,
    ) -> None:
        """`facts` may hold what only the maker knows: backbone and revision, identifier parameters, training.

        Raises MemoryFormatError where the parts are not of one gallery.
        """
        counts = {"gallery": len(gallery), "identifiers": len(identifiers), "dense": dense.index.ntotal}
        if len(set(counts.values())) > 1:
            raise MemoryFormatError(f"the memory's parts count different images ({counts}): memorise it anew")
        backbone.add_tokens(identifiers.new_tokens)
        if identifiers.new_tokens and backbone.first_new_id != identifiers.vocabulary:
            raise MemoryFormatError(
                f"the identifiers' first token has id {identifiers.vocabulary}, the backbone's "
                f"{backbone.first_new_id}: memorise the gallery anew"
            )
        self.backbone, self.identifiers, self.gallery, self.dense = backbone, identifiers, gallery, dense
        self.trie = IdentifierTrie.build(identifiers.indptr, identifiers.tokens)
        given = facts or {}
        self.facts = {
            "backbone": {"name": None, "revision": None},
            **given,
            "format_version": FORMAT_VERSION,
            "images": len(gallery),
            "captions": sum(map(len, gallery.captions)),
            "identifiers": {
                **given.get("identifiers", {}),
                "type": identifiers.type,
                "new_tokens": len(identifiers.new_tokens),
                "longest": self.trie.depth,
            },
        }
        self._lock = threading.Lock()

    @classmethod
    def from_pretrained(cls, path_or_id: str | Path, device: str | None = None, revision: str | None = None) -> Self:
        """The memory in a folder, or of a hub id at a revision, ready to recall.

        Raises HubError where there is none, MemoryFormatError where it cannot be read.
        """
        folder = fetch(path_or_id, instead="checkpoints/emoji", revision=revision)
        facts = read_facts(folder)
        return cls(
            Backbone.from_pretrained(folder / "model", device=device),
            Identifiers.load(folder / "identifiers.safetensors"),
            Gallery.load(folder / "gallery"),
            DenseIndex.load(folder / "dense", device=device),
            facts,
        )

    def save(self, path: str | Path) -> None:
        """Writes the memory; a reader of `path` sees the old one or the new one, never half of one.

        Raises MemoryFormatError for a folder that holds something else.
        """
        path = Path(path)
        check_target(path)
        with new_folder(path) as folder:
            self.backbone.save_pretrained(folder / "model")
            self.identifiers.save(folder / "identifiers.safetensors")
            self.gallery.save(folder / "gallery")
            self.dense.save(folder / "dense")
            write_facts(folder, self.facts)

    def recall(self, queries: list[str], top: int = DEFAULT_TOP, beams: int = DEFAULT_BEAMS) -> list[list[Hit]]:
        """For each text query at most `top` images, best first; all queries are decoded together.

        Raises InputError for a query, `top` or `beams` that cannot be used.
        """
        check_limits(top, beams)
        return self._recall([self.clean(query) for query in queries], top, beams)[0]

    def recall_images(
        self, images: list[Image.Image], top: int = DEFAULT_TOP, beams: int = DEFAULT_BEAMS
    ) -> list[list[Hit]]:
        """For each picture at most `top` images of the gallery, best first: has the memory seen it?"""
        check_limits(top, beams)
        return self._recall(images, top, beams)[0]

    def search(
        self, query: str, top: int = DEFAULT_TOP, beams: int = DEFAULT_BEAMS, trace: bool = False
    ) -> dict[str, Any]:
        """What both engines answer to one text query, JSON-ready.

        {"query": the cleaned query, "generative": [{"rank", "file_name", "score", "identifier"}],
        "dense": [{"rank", "file_name", "score"}], "latency_ms": {"generative", "dense"}}; with `trace` also
        "trace": for each step the beams as [{"identifier", "probability", "images"}]. Raises InputError.
        """
        check_limits(top, beams)
        query = self.clean(query)
        return {"query": query} | self._both([query], self.dense.search, top, beams, trace)

    def search_image(
        self,
        image: Image.Image,
        top: int = DEFAULT_TOP,
        beams: int = DEFAULT_BEAMS,
        trace: bool = False,
    ) -> dict[str, Any]:
        """What both engines answer to a picture: as `search`, "query" is None."""
        check_limits(top, beams)
        return {"query": None} | self._both([image], self.dense.search_images, top, beams, trace)

    def clean(self, query: str) -> str:
        """The query with every run of white space and control characters as one space.

        Raises InputError for one that is too long, blank, or in a script that the tokenizer cannot read.
        """
        if not isinstance(query, str):
            raise InputError(f"the query is {type(query).__name__}, not text: give a string")
        if len(query) > MAX_QUERY_CHARACTERS:
            raise InputError(
                f"the query has {len(query):,} characters, the limit is {MAX_QUERY_CHARACTERS:,}: shorten it"
            )
        query = " ".join("".join(" " if _is_control(c) else c for c in query).split())
        if all(unicodedata.category(c) == "Cf" for c in query):
            raise InputError("the query is blank: type what the picture shows, in at least one character")
        with self._lock:
            readable = self.backbone.readable(query)
        if not readable:
            raise InputError(
                f"the query {query[:40]!r} is in characters that this memory's tokenizer cannot read: "
                "ask in words, in the language of the captions"
            )
        return query

    def _both(self, query: list[Any], dense: Callable[..., Any], top: int, beams: int, trace: bool) -> dict[str, Any]:
        started = time.perf_counter()
        hits, traces = self._recall(query, top, beams, trace)
        recalled = time.perf_counter()
        nearest = dense(query, top)
        found = time.perf_counter()
        answer: dict[str, Any] = {
            "generative": [
                {"rank": rank, "file_name": hit.file_name, "score": hit.score, "identifier": hit.identifier}
                for rank, hit in enumerate(hits[0], start=1)
            ],
            "dense": [
                {"rank": rank, "file_name": self.gallery.file_names[index], "score": score}
                for rank, (index, score) in enumerate(nearest[0], start=1)
            ],
            "latency_ms": {
                "generative": round(1000 * (recalled - started), 2),
                "dense": round(1000 * (found - recalled), 2),
            },
        }
        if trace:
            with self._lock:
                answer["trace"] = [[self._line(beam) for beam in step] for step in traces[0]]
        return answer

    def _recall(
        self, queries: list[Any], top: int, beams: int, trace: bool = False
    ) -> tuple[list[list[Hit]], list[list[list[decoding.Beam]]]]:
        """Hits and traces of clean texts or of pictures, as many at a time as ROWS_AT_ONCE beams allow."""
        hits: list[list[Hit]] = []
        traces: list[list[list[decoding.Beam]]] = []
        at_once = max(1, ROWS_AT_ONCE // beams)
        for start in range(0, len(queries), at_once):
            with self._lock:
                prompts = self._prompts(queries[start : start + at_once])
                recalled = decoding.recall(self.backbone, self.trie, prompts, beams, top, trace)
                hits.extend(map(self._hits, recalled.images.tolist(), recalled.scores.tolist()))
                traces.extend(recalled.trace)
        return hits, traces

    def _prompts(self, queries: list[Any]) -> decoding.Prompts:
        if isinstance(queries[0], str):
            return self.backbone.query_prompts(queries)
        return self.backbone.image_inputs(queries)

    def _hits(self, images: list[int], scores: list[float]) -> list[Hit]:
        return [
            Hit(image, self.gallery.file_names[image], score, self._text(self.identifiers.sequence(image)))
            for image, score in zip(images, scores, strict=True)
            if image >= 0
        ]

    def _line(self, beam: decoding.Beam) -> dict[str, Any]:
        return {"identifier": self._text(beam.tokens), "probability": beam.probability, "images": beam.images}

    def _text(self, tokens: Any) -> str:
        return self.identifiers.token_text(tokens, self.backbone.tokenizer)


def check_limits(top: int, beams: int) -> None:
    """Raises InputError for a `top` or `beams` outside its limits."""
    for name, value, limit in (("top", top, MAX_TOP), ("beams", beams, MAX_BEAMS)):
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= limit:
            raise InputError(f"{name} is {value!r}, the limits are 1 and {limit:,}: choose a whole number between")


def _is_control(character: str) -> bool:
    """Control characters, line and paragraph separators, and halves of a surrogate pair."""
    return unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")

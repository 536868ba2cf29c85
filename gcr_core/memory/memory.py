"""Memory: a backbone that has memorised one gallery, with identifiers, trie, gallery and dense index.

A memory is a folder (or a hub repository) of safetensors and JSON: `memory.json`, `identifiers.safetensors`,
`model/` (whole, or an adapter of the backbone that `memory.json` names), `gallery/`, `dense/`, `README.md`, and
`queries.safetensors` once something was added. It answers one query at a time or a batch, from any thread. What is
added or forgotten is so at once in this process, on disk after `save`.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import torch
from PIL import Image

from gcr_core.data.gallery import Gallery
from gcr_core.data.metadata import checked_album, checked_captions
from gcr_core.errors import GcrError, InputError, MemoryFormatError
from gcr_core.files.atomic import new_folder
from gcr_core.files.hub import fetch
from gcr_core.files.layout import FORMAT_VERSION
from gcr_core.memory.addition import add_picture
from gcr_core.memory.answering import answer_all
from gcr_core.memory.damage import told
from gcr_core.memory.descriptions import Descriptions
from gcr_core.memory.forgetting import Forgotten, consolidations, forget, restore
from gcr_core.memory.hits import Found, Hit
from gcr_core.memory.incremental import KnownQueries, retrain
from gcr_core.memory.manifest import changes, check_target, read_manifest, repository_of
from gcr_core.memory.refit import Refit
from gcr_core.memory.reranking import Reranking
from gcr_core.memory.storage import Parts
from gcr_core.models.backbone import Backbone
from gcr_core.retrieval import beam_search
from gcr_core.retrieval.dense import DenseIndex
from gcr_core.retrieval.identifiers import Identifiers
from gcr_core.retrieval.match import calibrations
from gcr_core.retrieval.query import (
    DEFAULT_BEAMS,
    DEFAULT_TOP,
    MAX_BEAMS_TOGETHER,
    SearchRequest,
    check_limits,
    cleaned,
    foreign,
)
from gcr_core.retrieval.rerank import Rerank
from gcr_core.retrieval.trie import IdentifierTrie
from gcr_core.training.config import Step
from gcr_core.training.features import Features
from gcr_core.training.states import States

Reader = Callable[[list[Any]], beam_search.Prompts]


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
        """`facts` may hold what only the maker knows: backbone and revision, identifier parameters, training, with the
        "characters" beyond ASCII that its texts had, where they were more than the captions.

        Raises MemoryFormatError where the parts are not of one gallery.
        """
        counts = {"gallery": len(gallery), "identifiers": len(identifiers), "dense": dense.index.ntotal}
        if len(set(counts.values())) > 1:
            raise MemoryFormatError(
                f"the memory's parts count different images ({counts}): copy it again, or memorise it anew"
            )
        backbone.add_tokens(identifiers.new_tokens)
        if identifiers.new_tokens and backbone.first_new_id != identifiers.vocabulary:
            raise MemoryFormatError(
                f"the identifiers' first token has id {identifiers.vocabulary}, the backbone's "
                f"{backbone.first_new_id}: memorise the gallery anew"
            )
        tokens = backbone.own_vocabulary + len(identifiers.new_tokens)
        if not 0 <= identifiers.tokens.min() <= identifiers.tokens.max() < tokens:
            raise MemoryFormatError(
                f"the identifiers have tokens from {identifiers.tokens.min()} to {identifiers.tokens.max()}, the "
                f"backbone knows {tokens:,}: memorise the gallery anew"
            )
        self.backbone, self.dense = backbone, dense
        self.facts = {"backbone": {"name": None, "revision": None}, **(facts or {})}
        if backbone.new_rows is not None:
            self.facts["backbone"] = {"name": backbone.name, "revision": backbone.revision}
        self._known: KnownQueries | None = None
        self._lock = threading.Lock()
        self._take(identifiers, gallery)

    @classmethod
    def from_pretrained(cls, path_or_id: str | Path, device: str | None = None, revision: str | None = None) -> Self:
        """The memory in a folder, or of a hub id at a revision, ready to recall.

        Raises HubError where there is none or its backbone cannot be had, MemoryFormatError where it cannot be read.
        """
        return cls.load(fetch(path_or_id, instead="checkpoints/emoji", revision=revision), device)

    @classmethod
    def load(cls, folder: Path, device: str | None = None) -> Self:
        """As `from_pretrained`, of a folder that is there."""
        before = folder.stat().st_ino
        try:
            memory = cls._read(folder, device)
        except (GcrError, FileNotFoundError):
            if folder.stat().st_ino == before:
                raise
        else:
            if folder.stat().st_ino == before:
                return memory
        return cls._read(folder, device)  # A save has put another folder there.

    @classmethod
    def _read(cls, folder: Path, device: str | None) -> Self:
        with told(folder):
            parts = Parts.read(folder, device)
            memory = cls(parts.backbone, parts.identifiers, parts.gallery, parts.dense, parts.facts)
        memory._known = parts.known
        return memory

    def save(self, path: str | Path) -> None:
        """Writes the memory; a reader of `path` sees the old one or the new one, never half of one.

        The repository of the hub that the old one was pushed to is the new one's. Raises MemoryFormatError for a folder
        that holds something else.
        """
        path = Path(path)
        check_target(path)
        with suppress(MemoryFormatError):
            if repository_of(there := read_manifest(path)):
                self.facts["hub"] = there["hub"]
        with self._lock, new_folder(path) as folder:
            Parts(self.backbone, self.identifiers, self.gallery, self.dense, self.facts, self._known).write(folder)
        if self.gallery.root.absolute() == path.absolute() / "gallery":
            self.gallery.unsaved = {}

    def recall(
        self, queries: list[str], top: int = DEFAULT_TOP, beams: int = DEFAULT_BEAMS, album: str = ""
    ) -> list[list[Hit]]:
        """For each text query at most `top` images, best first; only of an `album` where one is named.

        Raises InputError for a query, `top`, `beams` or `album` that cannot be used.
        """
        check_limits(top, beams)
        texts = [self._readable(cleaned(query)) for query in queries]
        return self._recall(self.backbone.query_prompts, texts, top, beams, album).hits

    def recall_images(
        self,
        images: list[Image.Image] | list[torch.Tensor],
        top: int = DEFAULT_TOP,
        beams: int = DEFAULT_BEAMS,
        album: str = "",
    ) -> list[list[Hit]]:
        """For each picture at most `top` images of the gallery or of an `album`, best first: has the memory seen it?

        A picture may come as its features (tokens, hidden). Raises InputError as `recall`.
        """
        check_limits(top, beams)
        return self._recall(self._picture_prompts, images, top, beams, album).hits

    def search(
        self, query: str, top: int = DEFAULT_TOP, beams: int = DEFAULT_BEAMS, trace: bool = False, album: str = ""
    ) -> dict[str, Any]:
        """What both engines answer to a text query, as `answer`. Raises InputError."""
        return self.answer(SearchRequest(query, top, beams, trace, album))

    def search_image(
        self,
        image: Image.Image,
        top: int = DEFAULT_TOP,
        beams: int = DEFAULT_BEAMS,
        trace: bool = False,
        album: str = "",
    ) -> dict[str, Any]:
        """What both engines answer to a picture, as `answer`. Raises InputError."""
        return self.answer(SearchRequest(image, top, beams, trace, album))

    def answer(self, request: SearchRequest) -> dict[str, Any]:
        """What both engines answer to one query, JSON-ready, as in `answering.answer_all`. Raises InputError for a text
        in a script that the tokenizer cannot read, and for an album that there is not."""
        [answered] = self.answer_all([request])
        if isinstance(answered, GcrError):
            raise answered
        return answered

    def answer_all(self, requests: list[SearchRequest]) -> list[dict[str, Any] | GcrError]:
        """What `answer` returns or raises for each. Those that are alike (`SearchRequest.alike`) are one batch: their
        scores may differ from those of one alone as sums in another order do, and the time that they took is one."""
        return answer_all(self, requests)

    def calibrate(self, found: dict[str, dict[str, Any] | None], rerank: Rerank | None = None) -> None:
        """Takes how each engine's answers tell whether they are right, as `calibration` fits it, None for one of which
        too little is known; and how answers to words are reranked, where that is known."""
        facts = {engine: each for engine, each in found.items() if each is not None}
        self.facts["match"] = {"images": len(self.gallery), **facts}
        self.facts |= {"rerank": rerank.facts()} if rerank else {}
        self._take_fitted()

    def describe(self, file_names: list[str]) -> list[str]:
        """What `Descriptions` says of each image, by its identifier alone. Raises GalleryError for an unknown name."""
        return self._descriptions.of(file_names)

    def add(self, pictures: list[tuple[str, Image.Image]], captions: list[list[str]]) -> list[str]:
        """Takes in new pictures, recallable at once: each gets a token of its own, nothing is trained.

        Returns the names that they are stored under. A picture that the gallery has already is not stored again: its
        captions go to the one that is there, and are learnt when the memory is consolidated. A picture without captions
        is recalled from itself, hardly from words. Raises InputError for captions that metadata could not hold.
        """
        try:
            checked = [checked_captions(texts) for texts in captions]
            named = list(zip(pictures, checked, strict=True))
        except ValueError as error:
            raise InputError(f"{len(pictures)} pictures cannot be added: a list of captions {error}") from error
        with self._lock:
            return [add_picture(self, name, picture, texts) for (name, picture), texts in named]

    def rehearse(self, features: Features | None = None, states: States | None = None) -> None:
        """Computes the states of the gallery's own queries, which new images must not win, unless it has them already.

        `features` of the gallery spare the vision tower, `states` all reading.
        """
        with self._lock:
            self._rehearse(features, states)

    def forget(self, file_names: list[str]) -> Forgotten:
        """Never returns these images again, with either engine; the tokens that only they had lose their rows.

        Any name of an image names it. Their files are gone from the disk after `save`. What it returns brings them back
        (`restore`), with their pictures where it was saved before the memory is. Raises GalleryError for a name that
        there is not, InputError where no image would be left.
        """
        with self._lock:
            return forget(self, file_names)

    def restore(self, forgotten: Forgotten) -> None:
        """Brings images back that were forgotten, as they were, among what was added and forgotten since.

        Raises InputError, and changes nothing, where another image has the name of one now, or where the memory was
        consolidated since.
        """
        with self._lock:
            restore(self, forgotten)

    def move(self, file_names: list[str], album: str) -> None:
        """Puts images, by any of their names, into an album, "" for none.

        Of those without captions its name says something from the next consolidation on.

        Raises GalleryError for a name that there is not, InputError for one that no album can have.
        """
        try:
            name = checked_album(album)
        except ValueError as error:
            raise InputError(f"the change {error}") from error
        with self._lock:
            images = {self.gallery.index(file_name) for file_name in file_names}
            albums = self.gallery.albums
            self.gallery.albums = [name if image in images else other for image, other in enumerate(albums)]
            said = images.intersection(self.gallery.bare, range(self._trained))
            self._note(captions=sum(albums[image] != name for image in said))

    @property
    def changes(self) -> dict[str, int]:
        """The images "added" and "forgotten" and the "captions" of others that changed since it was last trained."""
        return changes(self.facts)

    def consolidate(self, on_step: Callable[[Step], None] = lambda step: None) -> None:
        """Trains what was added into the weights, and what was forgotten out of them, with replay of all the rest.

        A short training on the gallery's thumbnails and captions; the dense index is made anew of the same, and the
        match of both is fitted anew, as in `refit`. Stopped by an exception of `on_step`, it leaves the weights in
        between. Raises GcrError where there is nothing to train on.
        """
        self.gallery.check_pictures()
        with self._lock:
            refit, added = Refit(self), self.changes["added"]
            states = retrain(
                self.backbone, self.gallery, self.identifiers, self.dense, added, on_step, refit.ask_memory
            )
            if self.dense.caption is not None:
                self.dense = refit.dense_anew()
            refit.finish()
            self._known = None
            self._rehearse(states=states)
            self.facts |= {"changes": changes({}), "consolidations": consolidations(self) + 1}

    def _readable(self, text: str) -> str:
        """The text. Raises InputError for a script that the tokenizer cannot read, and that no text it learnt had."""
        with self._lock:
            readable = self.backbone.readable(text) or not self._characters.isdisjoint(text)
        if not readable:
            raise InputError(
                f"the query {text[:40]!r} is in characters that this memory's tokenizer cannot read: "
                "ask in words, in the language of the captions"
            )
        return text

    def _take(self, identifiers: Identifiers, gallery: Gallery) -> None:
        """Puts identifiers and gallery in place, and what follows from them."""
        self.identifiers, self.gallery = identifiers, gallery
        self.trie = IdentifierTrie.build(identifiers.indptr, identifiers.tokens)
        self._take_fitted()
        learnt = (text for texts in gallery.captions for text in texts)
        self._characters = set(self.facts.get("training", {}).get("characters", "")).union(*map(foreign, learnt))
        self.facts |= {
            "format_version": FORMAT_VERSION,
            "images": len(gallery),
            "captions": sum(map(len, gallery.captions)),
            "pseudo_queries": sum(map(len, gallery.pseudo_queries)),
            "identifiers": {
                **self.facts.get("identifiers", {}),
                "type": identifiers.type,
                "new_tokens": len(identifiers.new_tokens),
                "longest": self.trie.depth,
            },
        }

    def _take_fitted(self) -> None:
        """Puts in place what the manifest says of how sure answers are, and how they are reranked."""
        self._calibrations = calibrations(self.facts, len(self.gallery))
        rerank = self.facts.get("rerank")
        said = rerank is not None and any(self.gallery.captions)
        self._reranking = Reranking(self, Rerank.of(rerank)) if said else None
        self._descriptions = Descriptions(self.backbone, self.identifiers, self.gallery, self._lock)

    @property
    def _reads_once(self) -> bool:
        """Whether the dense baseline's CLIP is the backbone with another face, whose states are its vectors too."""
        origin = getattr(self.dense.model, "origin", None)
        return bool(origin and self.backbone.has_joint_space and origin.revision == self.backbone.revision)

    @property
    def _trained(self) -> int:
        """How many images were in the gallery when the memory was last trained, of those that are left."""
        return len(self.gallery) - self.changes["added"]

    def _note(self, **more: int) -> None:
        self.facts["changes"] = {what: count + more.get(what, 0) for what, count in self.changes.items()}

    def _rehearse(self, features: Features | None = None, states: States | None = None) -> KnownQueries:
        if self._known is None:
            self._known = KnownQueries.read(self.backbone, self.trie, self.gallery, features, states)
        return self._known

    def _images(self, album: str) -> list[int] | None:
        """The images of an album; None for all. Raises InputError for an album that there is not."""
        return self.gallery.in_album(album) if album else None

    def _recall(self, read: Reader, queries: list[Any], top: int, beams: int, album: str, trace: bool = False) -> Found:
        """What queries recall, which `read` makes prompts of, as many at a time as MAX_BEAMS_TOGETHER allows."""
        found = Found([], [], [])
        batch = max(1, MAX_BEAMS_TOGETHER // beams)
        for start in range(0, len(queries), batch):
            with self._lock, self.trie.only(self._images(album)):
                prompts = read(queries[start : start + batch])
                recalled = beam_search.recall(self.backbone, self.trie, prompts, beams, top, trace)
                found.hits.extend(map(self._hits, recalled.images.tolist(), recalled.scores.tolist()))
                found.traces.extend(recalled.trace)
                found.levels.extend(recalled.levels.tolist())
        return found

    def _picture_prompts(self, pictures: list[Any]) -> beam_search.Prompts:
        """Prompts of pictures, or of their features."""
        if isinstance(pictures[0], torch.Tensor):
            return self.backbone.feature_inputs(torch.stack(pictures))
        return self.backbone.image_inputs(pictures)

    def _hits(self, images: list[int], scores: list[float]) -> list[Hit]:
        return [
            Hit(image, self.gallery.file_names[image], score, self._text(self.identifiers.sequence(image)))
            for image, score in zip(images, scores, strict=True)
            if image >= 0
        ]

    def _line(self, beam: beam_search.Beam) -> dict[str, Any]:
        return {"identifier": self._text(beam.tokens), **vars(beam)}

    def _text(self, tokens: Any) -> str:
        return self.identifiers.token_text(tokens, self.backbone.tokenizer)

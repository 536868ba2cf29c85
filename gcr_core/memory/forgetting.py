"""Forgetting: images leave a memory at once, and come back as they were for as long as what they left is kept.

What is kept of an image is its identifier, the rows of that identifier's tokens, its vector, its own queries, captions,
album and pictures. It can be brought back among whatever the memory has taken in since, but not once the memory has
been consolidated: its weights have unlearnt the image then.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from gcr_core.data.gallery import Gallery
from gcr_core.errors import InputError, MemoryFormatError
from gcr_core.files.atomic import write_text
from gcr_core.files.layout import IDENTIFIERS_FILE, ORIGINALS, QUERIES_FILE
from gcr_core.memory.incremental import KnownQueries
from gcr_core.models.backbone import Backbone
from gcr_core.retrieval.identifiers import Identifiers
from gcr_core.settings import Settings

if TYPE_CHECKING:
    from gcr_core.memory.memory import Memory

FACTS_FILE, ARRAYS_FILE = "forgotten.json", "forgotten.safetensors"


@dataclass(frozen=True)
class Forgotten:
    """What is kept of k images that left a memory together."""

    gallery: Gallery
    identifiers: Identifiers
    vectors: np.ndarray
    """(k, d) float32: of the dense index."""
    tokens: torch.Tensor
    """(t,) int64: the new tokens of their identifiers."""
    rows: list[torch.Tensor]
    """(t, hidden) and (t, state): the rows of these in the embedding and in the head."""
    known: KnownQueries | None
    """Their queries, where the memory had any computed."""
    added: list[bool]
    """For each whether it came in after the memory was trained."""
    order: list[str]
    """The file names of all images that the memory had, in their order."""
    consolidations: int
    """How often the memory had been consolidated."""

    def only(self, file_names: Iterable[str]) -> Self:
        """What is kept of those of the images, by any of their names. Raises GalleryError for another name."""
        wanted = sorted({self.gallery.index(name) for name in file_names})
        others = [image for image in range(len(self.gallery)) if image not in wanted]
        return type(self)(
            self.gallery.joined(wanted),
            self.identifiers.without(others),
            self.vectors[wanted],
            self.tokens,
            self.rows,
            None if self.known is None else self.known.without(others),
            [self.added[image] for image in wanted],
            self.order,
            self.consolidations,
        )

    def save(self, folder: Path) -> None:
        """Into an empty folder, before the memory is saved, with which the files of the pictures go."""
        self.gallery.save(folder / "gallery", folder / ORIGINALS, Settings.from_env().max_picture_side)
        self.identifiers.save(folder / IDENTIFIERS_FILE)
        if self.known is not None:
            self.known.save(folder / QUERIES_FILE)
        embedded, said = (rows.contiguous() for rows in self.rows)
        arrays = {"vectors": torch.from_numpy(self.vectors), "tokens": self.tokens, "embedded": embedded, "said": said}
        save_file(arrays, folder / ARRAYS_FILE)
        facts = {"added": self.added, "order": self.order, "consolidations": self.consolidations}
        write_text(folder / FACTS_FILE, json.dumps(facts))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """What `save` wrote; the pictures' files stay there until a memory that took them in is saved.

        Raises MemoryFormatError where it cannot be read.
        """
        try:
            facts = json.loads((folder / FACTS_FILE).read_text(encoding="utf-8"))
            arrays = load_file(folder / ARRAYS_FILE)
        except (OSError, ValueError, SafetensorError) as error:
            raise MemoryFormatError(f"{folder} holds nothing that was forgotten ({error}): add it anew") from None
        gallery, queries = Gallery.load(folder / "gallery", folder / ORIGINALS), folder / QUERIES_FILE
        return cls(
            gallery,
            Identifiers.load(folder / IDENTIFIERS_FILE),
            arrays["vectors"].numpy(),
            arrays["tokens"],
            [arrays["embedded"], arrays["said"]],
            KnownQueries.load(queries) if queries.is_file() else None,
            **facts,
        )


def forget(memory: "Memory", file_names: list[str]) -> Forgotten:
    """Takes images out of a memory whose lock is held. Raises as `Memory.forget`."""
    images = sorted({memory.gallery.index(name) for name in file_names})
    if len(images) == len(memory.gallery):
        raise InputError(f"a memory keeps at least 1 of its {len(images):,} images: delete the memory instead")
    kept = _kept(memory, images)
    identifiers = memory.identifiers.without(images)
    freed = kept.tokens[~torch.isin(kept.tokens, torch.from_numpy(identifiers.tokens.astype(np.int64)))]
    memory.backbone.set_rows(freed, torch.zeros(len(freed), memory.backbone.state_size))
    memory.dense.remove(images)
    memory._note(added=-sum(kept.added), forgotten=len(images) - sum(kept.added))
    if memory._known is not None:
        memory._known = memory._known.without(images)
    memory._take(identifiers, memory.gallery.without(images))
    return kept


def restore(memory: "Memory", kept: Forgotten) -> None:
    """Brings images back into a memory whose lock is held. Raises as `Memory.restore`, and changes nothing then."""
    if kept.consolidations != consolidations(memory):
        raise InputError(
            "the memory was consolidated since these images were forgotten, and its weights have unlearnt them: add "
            "them anew"
        )
    names = (name for i, also in enumerate(kept.gallery.also) for name in (kept.gallery.file_names[i], *also))
    if (taken := next(filter(memory.gallery.__contains__, names), None)) is not None:
        raise InputError(f"there is an image {taken!r} in the memory: forget that one before this is brought back")
    before, back = len(memory.gallery), _places(memory.gallery.file_names, kept)
    stayed = np.setdiff1d(np.arange(before + len(back)), back)
    order = np.empty(before + len(back), np.int64)
    order[stayed], order[back] = np.arange(before), np.arange(before, before + len(back))
    present = torch.from_numpy(memory.identifiers.tokens.astype(np.int64))
    freed = ~torch.isin(kept.tokens, present)
    identifiers = memory.identifiers.joined(kept.identifiers, order)
    gallery = memory.gallery.joined(order.tolist(), _with_files(kept.gallery, memory.gallery))
    _set_rows(memory.backbone, kept.tokens[freed], [rows[freed] for rows in kept.rows])
    memory.dense.insert(back, kept.vectors)
    _rejoin_queries(memory, kept, stayed, back)
    memory._note(added=sum(kept.added), forgotten=sum(kept.added) - len(back))
    memory._take(identifiers, gallery)


def consolidations(memory: "Memory") -> int:
    """How often the memory was consolidated."""
    return int(memory.facts.get("consolidations", 0))


def _kept(memory: "Memory", images: list[int]) -> Forgotten:
    others = np.setdiff1d(np.arange(len(memory.gallery)), images)
    identifiers = memory.identifiers.without(others)
    new = identifiers.tokens[identifiers.tokens >= identifiers.vocabulary]
    tokens = torch.from_numpy(np.unique(new).astype(np.int64))
    tables, first = _tables(memory.backbone)
    return Forgotten(
        memory.gallery.joined(images),
        identifiers,
        memory.dense.vectors[images],
        tokens,
        [table.detach()[tokens.to(table.device) - first].cpu().clone() for table in tables],
        None if memory._known is None else memory._known.without(others.tolist()),
        [image >= memory._trained for image in images],
        list(memory.gallery.file_names),
        consolidations(memory),
    )


def _places(names: list[str], kept: Forgotten) -> list[int]:
    """Where the images come back: each behind the nearest of those that stood before it and that are there."""
    whole, there = list(names), set(names)
    rank = {name: place for place, name in enumerate(kept.order)}
    for name in kept.gallery.file_names:
        before = next((other for other in reversed(kept.order[: rank[name]]) if other in there), None)
        whole.insert(0 if before is None else whole.index(before) + 1, name)
        there.add(name)
    return [whole.index(name) for name in kept.gallery.file_names]


def _with_files(gallery: Gallery, target: Gallery) -> Gallery:
    """The same images, with the files of their pictures on their way into another gallery, unless they are there."""
    if gallery.root == target.root:
        return gallery
    longest = Settings.from_env().max_picture_side
    images = list(range(len(gallery)))
    moved = gallery.joined(images)
    moved.unsaved = {
        gallery.file_names[image]: gallery.files(image, longest) for image in images if gallery.has_picture(image)
    }
    return moved


def _rejoin_queries(memory: "Memory", kept: Forgotten, stayed: np.ndarray, back: list[int]) -> None:
    """Puts the images' own queries back beside those of the others; rows that came in since may be ahead of theirs."""
    if memory._known is None or kept.known is None:
        memory._known = None
        return
    known, own = memory._known, kept.known
    new = [memory.identifiers.sequence(image) for image in range(memory._trained, len(memory.gallery))]
    if new:
        rows = memory.backbone.head_rows(torch.from_numpy(np.concatenate(new)).long().to(memory.backbone.device))[0]
        ahead = (own.states @ rows.detach().float().cpu().T).amax(1)
        own = KnownQueries(own.states, torch.maximum(own.bars, ahead), own.owners)
    places = torch.from_numpy(stayed), torch.tensor(back)
    memory._known = KnownQueries.joined(
        [KnownQueries(part.states, part.bars, at[part.owners]) for part, at in zip((known, own), places, strict=True)]
    )


def _tables(backbone: Backbone) -> tuple[list[torch.Tensor], int]:
    """The embedding and the head that hold the rows of new tokens, and the token id of their first row."""
    if (new := backbone.new_rows) is not None:
        return [new.embedded, new.said], new.first
    return [backbone._input_rows(), backbone.head()[0]], 0


@torch.no_grad()
def _set_rows(backbone: Backbone, tokens: torch.Tensor, rows: list[torch.Tensor]) -> None:
    """Sets the rows of tokens in the embedding and in the head, which may be different ones."""
    tables, first = _tables(backbone)
    for table, values in zip(tables, rows, strict=True):
        table[tokens.to(table.device) - first] = values.to(table)

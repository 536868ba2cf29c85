"""Storage: the parts of a memory, read from its folder and written into one."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from gcr_core.data.gallery import Gallery
from gcr_core.errors import HubError, MemoryFormatError
from gcr_core.files.layout import IDENTIFIERS_FILE, ORIGINALS, QUERIES_FILE, holds_adapter
from gcr_core.memory.incremental import KnownQueries
from gcr_core.memory.manifest import read_manifest, write_manifest
from gcr_core.models.backbone import Backbone
from gcr_core.retrieval.dense import DenseIndex
from gcr_core.retrieval.identifiers import Identifiers
from gcr_core.settings import Settings


@dataclass
class Parts:
    """What a memory consists of."""

    backbone: Backbone
    identifiers: Identifiers
    gallery: Gallery
    dense: DenseIndex
    facts: dict[str, Any]
    """The manifest, the content of `memory.json`."""
    known: KnownQueries | None
    """The gallery's own queries, where their states were computed."""

    @classmethod
    def read(cls, folder: Path, device: str | None) -> Self:
        """Raises MemoryFormatError where a part cannot be read, HubError where its backbone cannot be had."""
        facts = read_manifest(folder)
        return cls(
            _backbone(folder, facts, device),
            Identifiers.load(folder / IDENTIFIERS_FILE),
            Gallery.load(folder / "gallery", folder / ORIGINALS),
            DenseIndex.load(folder / "dense", device=device),
            facts,
            KnownQueries.load(folder / QUERIES_FILE) if (folder / QUERIES_FILE).is_file() else None,
        )

    def write(self, folder: Path) -> None:
        """Into an empty folder."""
        self.backbone.save_pretrained(folder / "model")
        self.identifiers.save(folder / IDENTIFIERS_FILE)
        self.gallery.save(folder / "gallery", folder / ORIGINALS, Settings.from_env().max_picture_side)
        self.dense.save(folder / "dense")
        if self.known is not None:
            self.known.save(folder / QUERIES_FILE)
        write_manifest(folder, self.facts)


def _backbone(folder: Path, facts: dict[str, Any], device: str | None) -> Backbone:
    """The whole model in a memory's folder, or the adapter there on the backbone that the memory names."""
    model = folder / "model"
    if not holds_adapter(folder):
        return Backbone.from_pretrained(model, device=device)
    base = facts["backbone"]
    try:
        backbone = Backbone.from_pretrained(base["name"], device=device, revision=base["revision"], adapter=model)
    except HubError as error:
        at = f" at revision {base['revision']}" if base["revision"] else ""
        raise HubError(
            f"the memory {str(folder)!r} needs its backbone {base['name']!r}{at}, which cannot be had: connect to the "
            f"hub, or write the folder that holds it as backbone.name into {folder / 'memory.json'}"
        ) from error
    if None not in (base["revision"], backbone.revision) and base["revision"] != backbone.revision:
        raise MemoryFormatError(
            f"{str(folder)!r} is a memory of another {base['name']} than the one here: use the gcr_core that wrote it, "
            "or memorise the gallery anew"
        )
    return backbone

"""Generative cross-modal retrieval: a multimodal model memorises a gallery and recalls its images.

The public names are imported when they are first used, so that `import gcr_core` loads no model library.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

# OpenMP reads these once, when torch is first imported. Threads that spin while they wait make a recall of 12 ms last
# 480 ms where other programs use the cores too; threads that sleep at once make a training half as long again. So GNU's
# OpenMP, which torch brings on Linux, spins for a moment first; others sleep.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

if TYPE_CHECKING:
    from gcr_core.data.gallery import Gallery
    from gcr_core.data.images import open_image
    from gcr_core.errors import GalleryError, GcrError, HubError, InputError, MemoryFormatError
    from gcr_core.memory.memory import Hit, Memory
    from gcr_core.memory.publish import pull, push
    from gcr_core.models.backbone import Backbone
    from gcr_core.retrieval.dense import DenseIndex
    from gcr_core.retrieval.identifiers import IDENTIFIER_TYPES, Identifiers
    from gcr_core.retrieval.trie import IdentifierTrie
    from gcr_core.settings import Settings

__all__ = [
    "IDENTIFIER_TYPES",
    "Backbone",
    "DenseIndex",
    "Gallery",
    "GalleryError",
    "GcrError",
    "Hit",
    "HubError",
    "IdentifierTrie",
    "Identifiers",
    "InputError",
    "Memory",
    "MemoryFormatError",
    "Settings",
    "open_image",
    "pull",
    "push",
]

_MODULES = {
    "Backbone": "models.backbone",
    "DenseIndex": "retrieval.dense",
    "GalleryError": "errors",
    "GcrError": "errors",
    "HubError": "errors",
    "InputError": "errors",
    "MemoryFormatError": "errors",
    "Gallery": "data.gallery",
    "IDENTIFIER_TYPES": "retrieval.identifiers",
    "Identifiers": "retrieval.identifiers",
    "open_image": "data.images",
    "Hit": "memory.memory",
    "Memory": "memory.memory",
    "pull": "memory.publish",
    "push": "memory.publish",
    "Settings": "settings",
    "IdentifierTrie": "retrieval.trie",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)

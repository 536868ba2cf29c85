"""Layout: the files of a memory's folder, by their names, and the version of their format. Opens none but indexes."""

import json
from pathlib import Path

FORMAT_VERSION = 1
MANIFEST_FILE = "memory.json"
IDENTIFIERS_FILE = "identifiers.safetensors"
QUERIES_FILE = "queries.safetensors"
ORIGINALS = "originals"
"""The folder of the pictures that are larger than their thumbnails, which are in `gallery/`."""
CARD_FILE = "README.md"
CLIP_FILE = "dense/clip.json"
"""Is there where a memory names its CLIP instead of holding it."""
ADAPTER_FILES = ("model/rows.safetensors", "model/adapter_config.json")
"""One of them is there where a memory holds an adapter of its backbone instead of a whole model."""
TAGS_FILE = "tags.json"
"""Is there where a backbone's checkpoint holds the words that its eyes have."""


WEIGHTS_FILE, WEIGHTS_INDEX = "model.safetensors", "model.safetensors.index.json"
"""Of a checkpoint; transformers' index says in which file each weight is, beside it or in another's folder."""


def weight_files(checkpoint: Path) -> list[Path]:
    """The files that hold a checkpoint's weights, in the order of their names. Raises OSError and ValueError."""
    index = checkpoint / WEIGHTS_INDEX
    if not index.is_file():
        return sorted(checkpoint.glob("*.safetensors"))
    names = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
    return [checkpoint / name for name in sorted(set(names))]


def holds_adapter(memory: Path) -> bool:
    """Whether the folder of a memory holds an adapter of its backbone."""
    return any((memory / name).is_file() for name in ADAPTER_FILES)


def undo_folder(memory: Path) -> Path:
    """Where what was forgotten is kept beside the folder of a memory, as long as the server runs."""
    return memory.parent / f".{memory.name}.forgotten"

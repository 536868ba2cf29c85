"""Damage: which file of a memory is not there, or cut off, as after a copy that broke off. Loads no model."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gcr_core.errors import MEMORY_SIGNS, GcrError, MemoryFormatError, first_line, one_line
from gcr_core.files.layout import CLIP_FILE, IDENTIFIERS_FILE, WEIGHTS_FILE, WEIGHTS_INDEX, holds_adapter, weight_files
from gcr_core.memory.manifest import check_memory
from gcr_core.retrieval.faiss_file import check_index

REQUIRED = (IDENTIFIERS_FILE, "gallery/metadata.jsonl", "dense/index.faiss")
"""The files that every memory has, beside its manifest."""
OF_A_MODEL = ("config.json", "tokenizer_config.json")
"""Those that the folder of every model has: without the second, transformers makes up another tokenizer."""
ANY_OF_A_MODEL = (
    (WEIGHTS_FILE, WEIGHTS_INDEX),
    ("processor_config.json", "preprocessor_config.json"),
    ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model"),
)
"""Of these it has one each."""
REMEDY = "copy or pull it again"


@contextmanager
def told(folder: Path) -> Iterator[None]:
    """Around the loading of the memory in a folder: what comes of damage is a MemoryFormatError that names the file."""
    check_memory(folder)
    if lacking := _lacking(folder):
        raise _damaged(folder, f"{lacking} is not there")
    try:
        yield
    except Exception as error:
        if MEMORY_SIGNS.search(f"{type(error).__name__}: {error}"):
            raise
        if found := _cut_off(folder):
            raise _damaged(folder, found) from error
        if isinstance(error, GcrError) or one_line(error):
            raise
        raise _damaged(folder, f"it cannot be loaded: {first_line(error)}") from error


def _damaged(folder: Path, what: str) -> MemoryFormatError:
    return MemoryFormatError(f"the memory {str(folder)!r} is damaged or copied in part ({what}): {REMEDY}")


def _lacking(folder: Path) -> str | None:
    """The first file that should be there and is not."""
    wanted = [*REQUIRED, *(f"{model}/{name}" for model in _models(folder) for name in OF_A_MODEL)]
    return next((name for name in wanted if not (folder / name).is_file()), None)


def _models(folder: Path) -> list[str]:
    """The folders of the models that a memory holds in whole."""
    models = [] if holds_adapter(folder) else ["model"]
    return models if (folder / CLIP_FILE).is_file() else [*models, "dense/clip"]


def _cut_off(folder: Path) -> str | None:
    """What is wrong with the first file that is not whole, or is not there though a model cannot do without."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            match path.suffix:
                case ".json":
                    json.loads(path.read_bytes())
                case ".jsonl":
                    for line in filter(None, path.read_bytes().split(b"\n")):
                        json.loads(line)
                case ".safetensors":
                    _check_tensors(path)
                case ".faiss":
                    check_index(path)
        except (OSError, ValueError, LookupError, TypeError, RecursionError, MemoryFormatError):
            return f"{path.relative_to(folder).as_posix()} is cut off or damaged"
    for model in _models(folder):
        for names in ANY_OF_A_MODEL:
            if not any((folder / model / name).is_file() for name in names):
                return f"{model}/{names[0]} is not there"
        for file in weight_files(folder / model):
            if not file.is_file():
                return f"{file.relative_to(folder).as_posix()} is not there"
    return None


def _check_tensors(path: Path) -> None:
    """Raises ValueError and the like for a file of tensors that does not have all that its header says."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        whole = path.stat().st_size
        if 8 + size > whole:
            raise ValueError("no header")
        header = json.loads(file.read(size))
    ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
    if 8 + size + max(ends, default=0) != whole:
        raise ValueError("another size")

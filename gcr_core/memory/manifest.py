"""Manifest: `memory.json`, what a memory says about itself, and what that means. Loads no model."""

import json
from pathlib import Path
from typing import Any

from gcr_core.errors import MemoryFormatError
from gcr_core.files.atomic import write_text
from gcr_core.files.layout import CARD_FILE, FORMAT_VERSION, MANIFEST_FILE, holds_adapter
from gcr_core.memory.card import model_card


def check_memory(folder: str | Path) -> None:
    """Raises MemoryFormatError for a folder that is no memory. Reads no file."""
    if not (Path(folder) / MANIFEST_FILE).is_file():
        raise MemoryFormatError(
            f"{str(folder)!r} is no memory, it has no {MANIFEST_FILE}: name a memory, such as checkpoints/emoji"
        )


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """The manifest of the memory in a folder. Raises MemoryFormatError for none, or another format version."""
    check_memory(folder)
    path = Path(folder) / MANIFEST_FILE
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise MemoryFormatError(
            f"{path} is damaged or copied in part ({error}): copy or pull the memory again"
        ) from error
    version = manifest.get("format_version") if isinstance(manifest, dict) else None
    if version != FORMAT_VERSION:
        raise MemoryFormatError(
            f"{str(folder)!r} has memory format {version!r}, this version reads {FORMAT_VERSION}: "
            "use the gcr_core that wrote it, or memorise the gallery anew"
        )
    return manifest


def repository_of(manifest: dict[str, Any]) -> str | None:
    """The hub's repository that the memory was pushed to or pulled from."""
    hub = manifest.get("hub")
    return str(hub["repository"]) if isinstance(hub, dict) and "repository" in hub else None


def check_target(path: Path) -> None:
    """Raises MemoryFormatError for a path that holds something other than a memory, where none may be written."""
    if path.exists() and not (path / MANIFEST_FILE).is_file() and (path.is_file() or any(path.iterdir())):
        raise MemoryFormatError(f"{str(path)!r} holds something other than a memory: name another folder")


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Writes `memory.json` and the model card `README.md` into a folder."""
    write_text(folder / MANIFEST_FILE, manifest_text(manifest))
    write_text(folder / CARD_FILE, model_card(manifest, adapter=holds_adapter(folder)))


def manifest_text(manifest: dict[str, Any]) -> str:
    """The content of `memory.json`."""
    return json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"


def changes(manifest: dict[str, Any]) -> dict[str, int]:
    """The images "added" and "forgotten" and the "captions" of others that changed since a memory was last trained: of
    those without any, the names of their albums."""
    noted = manifest.get("changes")
    counts = {what: noted.get(what) if isinstance(noted, dict) else 0 for what in ("added", "forgotten", "captions")}
    return {what: count if isinstance(count, int) else 0 for what, count in counts.items()}

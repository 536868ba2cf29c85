"""Undo: what forgetting took from the memory in a folder, kept on the disk beside it as long as the server runs.

Each call of forget has a folder of its own there. None is part of the memory: neither its export nor a push has it, and
what consolidation has unlearnt is removed.
"""

import shutil
from pathlib import Path

from gcr_core.data.gallery import Gallery
from gcr_core.errors import NotFoundError
from gcr_core.files import atomic
from gcr_core.files.layout import undo_folder
from gcr_core.memory.forgetting import FACTS_FILE, Forgotten
from gcr_core.memory.memory import Memory

MAX_KEPT = 100
"""The most calls of forget that can be undone."""


class Undo:
    """The calls of forget on the memory in a folder, that can be undone."""

    def __init__(self, memory: Path) -> None:
        self._folder = undo_folder(memory)

    def keep(self, forgotten: Forgotten) -> None:
        """Keeps what a call of forget took, before the memory is saved without it."""
        kept = self._kept()
        with atomic.new_folder(self._folder / str(int(kept[-1].name) + 1 if kept else 1)) as building:
            forgotten.save(building)
        for folder in kept[: max(0, len(kept) + 1 - MAX_KEPT)]:
            atomic.remove(folder)

    def restore(self, memory: Memory, file_names: list[str]) -> None:
        """Brings images back, by any of their names, each from the last of these calls that took it.

        Raises NotFoundError for one that none of them took, and what `Memory.restore` raises; `memory` may have some of
        the images then.
        """
        wanted = set(file_names)
        for folder in reversed(self._kept()):
            gallery = _gallery(folder)
            if here := {name for name in wanted if name in gallery}:
                memory.restore(Forgotten.load(folder).only(here))
                wanted -= here
        if wanted:
            raise NotFoundError(
                f"{min(wanted)!r} cannot be brought back: the last {MAX_KEPT} times since the server began are kept, "
                "and it was forgotten in none of them; add it anew"
            )

    def clear(self, memory: Memory) -> None:
        """Removes what the memory, once saved, has in whole again."""
        for folder in self._kept():
            if all(name in memory.gallery for name in _gallery(folder).file_names):
                atomic.remove(folder)

    def drop(self) -> None:
        """Removes all of it."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _kept(self) -> list[Path]:
        """A folder for each call, the last one last."""
        folders = self._folder.iterdir() if self._folder.is_dir() else ()
        return sorted(
            (folder for folder in folders if folder.name.isdigit() and (folder / FACTS_FILE).is_file()),
            key=lambda folder: int(folder.name),
        )


def _gallery(folder: Path) -> Gallery:
    """The images that a call took."""
    return Gallery.load(folder / "gallery")

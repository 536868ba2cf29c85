"""Model hosts: the objects that live in the web app's model processes.

`MemoryHost` answers for the few memories used last and saves at once what is added or forgotten; `GuestHost` does so
for one memory from elsewhere; `TaskHost` does what takes long. Imports torch: only the children of `model_process` make
them.
"""

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from gcr_core.data.gallery import Gallery
from gcr_core.errors import GcrError
from gcr_core.files import atomic
from gcr_core.files.atomic import changing
from gcr_core.files.hub import fetch
from gcr_core.files.layout import MANIFEST_FILE
from gcr_core.memory.archive import room
from gcr_core.memory.captions import recaption
from gcr_core.memory.memory import Memory
from gcr_core.models.backbone import Backbone
from gcr_core.retrieval.query import SearchRequest
from gcr_core.runtime import confine, narrow, step_back
from gcr_core.serving.memory_budget import CHANGE_ROOM
from gcr_core.serving.undo import Undo
from gcr_core.training.config import Recipe

MAX_LOADED = 3
"""The most memories that are loaded at once; the one used longest ago leaves first."""


class MemoryHost:
    """Memories by folder; one whose folder was written anew is loaded anew."""

    def __init__(self, say: Callable[[Any], None]) -> None:
        self._kept: OrderedDict[Path, tuple[int, Memory]] = OrderedDict()

    def load(self, path_or_id: str | Path) -> Path:
        """The folder of the memory in a folder or of a hub id, which is then in the process."""
        folder = fetch(path_or_id, instead="checkpoints/emoji")
        self._memory(folder)
        return folder

    def answer(self, folder: Path, request: SearchRequest) -> dict[str, Any]:
        return self._memory(folder).answer(request)

    def answer_all(self, folder: Path, requests: list[SearchRequest]) -> list[dict[str, Any] | GcrError]:
        return self._memory(folder).answer_all(requests)

    def describe(self, folder: Path, file_names: list[str]) -> list[str]:
        return self._memory(folder).describe(file_names)

    def identifiers(self, folder: Path, file_names: list[str]) -> list[str]:
        memory = self._memory(folder)
        images = map(memory.gallery.index, file_names)
        return [memory.identifiers.text(image, memory.backbone.tokenizer) for image in images]

    def add(self, folder: Path, pictures: list[tuple[str, Image.Image]], captions: list[list[str]]) -> list[str]:
        return self._change(folder, lambda memory: memory.add(pictures, captions))

    def forget(self, folder: Path, file_names: list[str]) -> None:
        self._change(folder, lambda memory: Undo(folder).keep(memory.forget(file_names)))

    def restore(self, folder: Path, file_names: list[str]) -> None:
        undo = Undo(folder)

        def bring_back(memory: Memory) -> Memory:
            undo.restore(memory, file_names)
            return memory

        undo.clear(self._change(folder, bring_back))

    def move(self, folder: Path, file_names: list[str], album: str) -> None:
        self._change(folder, lambda memory: memory.move(file_names, album))

    def recaption(self, folder: Path, captions: dict[str, list[str]]) -> int:
        return self._change(folder, lambda memory: recaption(memory, captions))

    def _memory(self, folder: Path) -> Memory:
        stamp = (folder / MANIFEST_FILE).stat().st_mtime_ns if (folder / MANIFEST_FILE).exists() else 0
        known = self._kept.pop(folder, None)
        memory = known[1] if known and known[0] == stamp else Memory.from_pretrained(folder)
        self._kept[folder] = stamp, memory
        while len(self._kept) > MAX_LOADED:
            self._kept.popitem(last=False)
        return memory

    def _change(self, folder: Path, change: Callable[[Memory], Any]) -> Any:
        """What a change returns, once the changed memory is on the disk; one that failed leaves no trace."""
        with changing(folder, wait=False):
            memory = self._memory(folder)
            del self._kept[folder]
            result = change(memory)
            memory.save(folder)
            self._kept[folder] = (folder / MANIFEST_FILE).stat().st_mtime_ns, memory
        return result


class GuestHost(MemoryHost):
    """The same for one memory, with limits of memory and open files, behind everybody else's searches. It has more
    memory from its first change on, which whoever asks for one has lent it."""

    _confined = False

    def _memory(self, folder: Path) -> Memory:
        if not self._confined:
            step_back()
            asking = room(folder)
            confine(None if asking is None else asking + CHANGE_ROOM)
            narrow(CHANGE_ROOM)
            atomic.FLUSHES_AT_ONCE = 2  # the stack of a thread counts as memory, whether it is used or not
            self._confined = True
        return super()._memory(folder)

    def _change(self, folder: Path, change: Callable[[Memory], Any]) -> Any:
        self._memory(folder)
        narrow(0)
        return super()._change(folder, change)


class TaskHost:
    """Work of seconds to minutes that no search should wait for."""

    def __init__(self, say: Callable[[Any], None]) -> None:
        self._say = say
        self._backbone: tuple[str, Backbone] | None = None

    def write_captions(self, gallery: Path, images: list[int], backbone: str, count: int) -> None:
        """Says image → captions, batch after batch; the backbone stays for the next images."""
        from gcr_core.training.pseudo_queries import write_captions

        if self._backbone is None or self._backbone[0] != backbone:
            self._backbone = backbone, Backbone.from_pretrained(backbone)
        for written in write_captions(self._backbone[1], Gallery.load(gallery), images, count):
            self._say(written)

    def estimate(self, gallery: Path, recipe: Recipe) -> dict[str, float]:
        from gcr_core.training.estimate import estimate

        return estimate(Gallery.load(gallery), recipe)

    def consolidate(self, folder: Path) -> None:
        with changing(folder):
            memory = Memory.from_pretrained(folder)
            memory.consolidate(lambda step: self._say(f"step {step.step:,} of {step.steps:,}"))
            memory.save(folder)
            Undo(folder).drop()

"""Remote memory: one that the `MemoryHost` of another process holds; its gallery and manifest are read in this one.

`memory_host` and `task_host` make what such a process hosts. Loads no model in this process.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from gcr_core.data.gallery import Gallery
from gcr_core.files.layout import MANIFEST_FILE, ORIGINALS
from gcr_core.memory.manifest import read_manifest
from gcr_core.retrieval.query import MAX_BEAMS_TOGETHER, SearchRequest
from gcr_core.serving.guests import MARK, Guest, Guests
from gcr_core.serving.model_process import ModelProcess

MAX_TOGETHER = 16
"""The most queries in one batch: whoever comes next waits for all of them."""


class RemoteMemory:
    """The `Memory` in a folder, kept by the `MemoryHost` of a process; its gallery and manifest are read here."""

    def __init__(self, folder: Path, memory_host: "ModelProcess | Guest") -> None:
        """Raises MemoryFormatError for a folder that is no memory."""
        self.folder, self._memory_host = folder, memory_host
        self._said: dict[str, str] = {}
        self._stamp, self._gallery, self._facts = self._read()

    @classmethod
    def fetch(cls, path_or_id: str, memory_host: ModelProcess) -> "RemoteMemory":
        """The memory in a folder or of a hub id, loaded, and anew whenever the process dies. Raises what
        `Memory.from_pretrained` raises."""
        folder = memory_host.ask("load", path_or_id)
        memory_host.begin_with("load", folder)
        return cls(folder, memory_host)

    @classmethod
    def apart(cls, folder: Path, memory_host: ModelProcess, guests: Guests | None) -> "RemoteMemory":
        """As the constructor; with `guests`, one from elsewhere is kept by a process of its own."""
        return cls(folder, guests.of(folder) if guests and read_manifest(folder).get(MARK) else memory_host)

    @property
    def gallery(self) -> Gallery:
        return self._fresh()[1]

    @property
    def facts(self) -> dict[str, Any]:
        return self._fresh()[2]

    @property
    def version(self) -> str:
        """Another one once the memory has been written anew."""
        return f"{self._fresh()[0]:x}"

    @property
    def state(self) -> Literal["ready", "waking", "hung"]:
        """As `ModelProcess.state`."""
        return self._memory_host.state

    def answer(self, request: SearchRequest) -> dict[str, Any]:
        """As `Memory.answer`. Requests in words that wait for the process at the same time, and are alike, are answered
        in one batch; those with pictures, which take longer, each alone."""
        if not isinstance(request.query, str):
            return self._memory_host.ask("answer", self.folder, request)
        most = min(MAX_TOGETHER, max(1, MAX_BEAMS_TOGETHER // request.beams))
        return self._memory_host.ask_together("answer", self.folder, request, request.alike, most)

    def describe(self, file_names: list[str]) -> list[str]:
        """As `Memory.describe`; each caption is asked for once."""
        self._fresh()
        unsaid = [name for name in file_names if name not in self._said]
        self._said |= zip(unsaid, self._memory_host.ask("describe", self.folder, unsaid), strict=True) if unsaid else ()
        return [self._said[name] for name in file_names]

    def identifiers(self, file_names: list[str]) -> list[str]:
        """The images' identifiers as a person reads them. Raises GalleryError for an unknown name."""
        return self._memory_host.ask("identifiers", self.folder, file_names)

    def add(self, pictures: list[tuple[str, Image.Image]], captions: list[list[str]]) -> list[str]:
        """As `Memory.add`, saved."""
        return self._memory_host.ask("add", self.folder, pictures, captions)

    def forget(self, file_names: list[str]) -> None:
        """As `Memory.forget`, saved; `restore` undoes it."""
        self._memory_host.ask("forget", self.folder, file_names)

    def restore(self, file_names: list[str]) -> None:
        """Brings images back, by any of their names, that `forget` took since the server began, of its last calls: as
        they were, at the place where they were, whatever was added, forgotten, captioned or moved since. Saved.

        Raises NotFoundError for a name that was not forgotten, or too many calls ago, and InputError, one line to show,
        where another image has the name now or the memory was consolidated since; nothing is changed then.
        """
        self._memory_host.ask("restore", self.folder, file_names)

    def move(self, file_names: list[str], album: str) -> None:
        """As `Memory.move`, saved."""
        self._memory_host.ask("move", self.folder, file_names, album)

    def recaption(self, captions: dict[str, list[str]]) -> int:
        """As `captions.recaption`, saved."""
        return self._memory_host.ask("recaption", self.folder, captions)

    def _fresh(self) -> tuple[int, Gallery, dict[str, Any]]:
        if (self.folder / MANIFEST_FILE).stat().st_mtime_ns != self._stamp:
            self._stamp, self._gallery, self._facts = self._read()
            self._said.clear()
        return self._stamp, self._gallery, self._facts

    def _read(self) -> tuple[int, Gallery, dict[str, Any]]:
        facts = read_manifest(self.folder)
        stamp = (self.folder / MANIFEST_FILE).stat().st_mtime_ns
        return stamp, Gallery.load(self.folder / "gallery", self.folder / ORIGINALS), facts


def memory_host(say: Callable[[Any], None]) -> Any:
    """A MemoryHost, made in the child: importing it imports torch."""
    from gcr_core.serving.model_host import MemoryHost

    return MemoryHost(say)


def task_host(say: Callable[[Any], None]) -> Any:
    """A TaskHost, made in the child."""
    from gcr_core.serving.model_host import TaskHost

    return TaskHost(say)

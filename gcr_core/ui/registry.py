"""Registry: the memories that one visitor may ask, the shipped one and their own, by id; checked at every call."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from gcr_core.data.gallery import Gallery
from gcr_core.data.images import open_image
from gcr_core.errors import InputError
from gcr_core.memory.manifest import changes
from gcr_core.serving.decoder import Decoder
from gcr_core.serving.guests import Guests
from gcr_core.serving.loading import LoadingMemory
from gcr_core.serving.model_process import ModelProcess
from gcr_core.serving.remote_memory import RemoteMemory
from gcr_core.ui import zerogpu
from gcr_core.ui.auth import Visitors
from gcr_core.ui.html import ShownGallery

SHIPPED = "shipped"
"""The id of the memory that the app was started with; no memory of one's own has so short a one."""
CACHED = 64
"""The most memories and galleries that are kept open."""


class Registry:
    """Memories by id, for whoever asks. "" is the shipped one too."""

    def __init__(self, loading: LoadingMemory, memory_host: ModelProcess, visitors: Visitors) -> None:
        self.loading, self.visitors, self._memory_host = loading, visitors, memory_host
        self._guests = None if zerogpu.is_here() else Guests(visitors.settings)
        self.open_picture: Callable[[Path, int], Image.Image]
        self.open_picture = Decoder(visitors.settings).open if visitors.settings.visitors else open_image
        self.doing: dict[str, str] = {}
        """id of a memory that is being worked on → with what, in words"""
        self._own: dict[Path, RemoteMemory] = {}
        self._galleries: dict[Path, tuple[tuple[int, int], Gallery]] = {}

    def memory(self, request: Any, id: str) -> RemoteMemory:
        """The memory, loaded on its first question. Raises NotFoundError for an id that is not the asker's."""
        if not isinstance(id, str):
            raise InputError(f"memory is {type(id).__name__}, not text: give its id, or nothing for the shipped one")
        if id in ("", SHIPPED):
            return self.loading.wait()
        folder = self.visitors.workspace(request).memory(id)
        if folder not in self._own:
            self._forget_some(self._own)
            self._own[folder] = RemoteMemory.apart(folder, self._memory_host, self._guests)
        return self._own[folder]

    def own_memory(self, request: Any, id: str) -> RemoteMemory:
        """One of the asker's memories, to be changed. Raises InputError for the shipped one, and for one that is
        being worked on, which would undo the change."""
        memory = self.memory(request, id)
        if id in ("", SHIPPED):
            raise InputError("this page's own memory is everybody's: memorise a gallery of your own to change that")
        if id in self.doing:
            raise InputError("this memory is being worked on: wait until that is done")
        return memory

    def shown(self, request: Any, id: str) -> ShownGallery:
        """The memory's gallery, to be shown."""
        id = id or SHIPPED
        memory = self.memory(request, id)
        return ShownGallery(memory.gallery, id, id != SHIPPED, changes(memory.facts))

    def own(self, request: Any) -> list[dict[str, Any]]:
        """As `Workspace.memories`; nothing for someone without a secret."""
        try:
            return self.visitors.workspace(request).memories()
        except InputError:
            return []

    def gallery(self, request: Any, id: str) -> Gallery:
        """A gallery on its way to a memory. Raises NotFoundError."""
        folder = self.visitors.workspace(request).gallery(id)
        file = (folder / "metadata.jsonl").stat()
        stamp = file.st_mtime_ns, file.st_ino  # of two files written in one tick of the clock, too
        if folder not in self._galleries or self._galleries[folder][0] != stamp:
            self._forget_some(self._galleries)
            self._galleries[folder] = stamp, Gallery.load(folder)
        return self._galleries[folder][1]

    @staticmethod
    def _forget_some(cache: dict[Path, Any]) -> None:
        while len(cache) >= CACHED:
            cache.pop(next(iter(cache)), None)

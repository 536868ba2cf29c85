"""MemoryApart: a memory in a process of its own, asked through a pipe.

Importing torch and importing Gradio each keep Python's one lock for seconds: in one process either would wait for
the other. The child ends when the pipe does, however its parent ended.
"""

import multiprocessing
import signal
import threading
import traceback
from multiprocessing.connection import Connection
from typing import Any

from PIL import Image

from gcr_core.errors import GcrError
from gcr_core.gallery import Gallery


class MemoryApart:
    """`search`, `search_image`, `gallery` and `facts` of the `Memory` in a folder or of a hub id."""

    gallery: Gallery
    facts: dict[str, Any]

    def __init__(self, path_or_id: str) -> None:
        """Returns when the memory is ready. Raises what `Memory.from_pretrained` raises."""
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._lock = threading.Lock()
        context.Process(target=_live, args=(theirs, path_or_id), name="memory", daemon=True).start()
        theirs.close()
        self.gallery, self.facts = self._receive()

    def search(self, query: str, top: int, beams: int, trace: bool = False) -> dict[str, Any]:
        """As `Memory.search`."""
        return self._ask("search", query, top, beams, trace)

    def search_image(self, image: Image.Image, top: int, beams: int, trace: bool = False) -> dict[str, Any]:
        """As `Memory.search_image`."""
        return self._ask("search_image", image, top, beams, trace)

    def _ask(self, *question: Any) -> Any:
        with self._lock:
            try:
                self._pipe.send(question)
            except OSError as error:
                raise GcrError("the memory's process has ended: start the app again") from error
            return self._receive()

    def _receive(self) -> Any:
        try:
            answer = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise GcrError("the memory's process has ended: start the app again") from error
        if isinstance(answer, Exception):
            raise answer
        return answer


def _live(pipe: Connection, path_or_id: str) -> None:
    """The child: loads the memory, says so, answers until the pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        from gcr_core.memory import Memory

        memory = Memory.from_pretrained(path_or_id)
        pipe.send((memory.gallery, memory.facts))
    except Exception as failure:
        pipe.send(_portable(failure))
        return
    while True:
        try:
            method, *arguments = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send(getattr(memory, method)(*arguments))
        except Exception as mistake:
            pipe.send(_portable(mistake))


def _portable(error: Exception) -> Exception:
    """A mistake of the user's as it is; anything else as text, with its traceback in the log."""
    if isinstance(error, GcrError):
        return error
    traceback.print_exception(error)
    return RuntimeError(repr(error))

"""Apart: a process of its own that hosts one object, asked through a pipe. MemoryApart: a memory asked that way.

Importing torch and importing Gradio each keep Python's one lock for seconds: in one process either would wait for
the other. The child ends when the pipe does, however its parent ended; a child that ended is started again for the
next question.
"""

import multiprocessing
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from PIL import Image

from gcr_core.errors import GcrError
from gcr_core.facts import FACTS_FILE, read_facts
from gcr_core.gallery import Gallery
from gcr_core.query import SearchRequest


class EndedError(GcrError):
    """The process ended over a question."""


class Apart:
    """The methods of an object in a process of its own, one question at a time."""

    def __init__(self, host: Callable[[Callable[[Any], None]], Any], name: str) -> None:
        """`host` is called in the child with a function that tells the asker how far a long answer is."""
        self._host, self._name = host, name
        self._lock = threading.Lock()
        self._pipe: Connection | None = None
        self._process: Any = None

    def ask(self, method: str, *arguments: Any, on_word: Callable[[Any], None] = lambda word: None) -> Any:
        """What the method returns; `on_word` gets what it tells on the way. Raises what it raises, and EndedError
        where the process ended over the question."""
        with self._lock:
            if self._process is None or not self._process.is_alive():
                self._put_away()
                self._start()
            assert self._pipe is not None
            try:
                self._pipe.send((method, arguments))
                while True:
                    kind, value = self._pipe.recv()
                    if kind != "word":
                        break
                    on_word(value)
            except (EOFError, OSError) as error:
                self._put_away()
                raise EndedError(
                    f"the {self._name}'s process ended over this, perhaps for want of memory: ask again"
                ) from error
        if kind == "error":
            raise value
        return value

    @property
    def pid(self) -> int | None:
        return self._process and self._process.pid

    def end(self) -> None:
        """Ends the process, whatever it is asked, and frees its memory; the next question starts it again."""
        if process := self._process:
            process.terminate()
            process.join()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_live, args=(theirs, self._host), name=self._name, daemon=True)
        self._process.start()
        theirs.close()

    def _put_away(self) -> None:
        if self._pipe:
            self._pipe.close()
        if self._process:
            self._process.terminate()
            self._process.join()
        self._pipe = self._process = None


class MemoryApart:
    """The `Memory` in a folder, kept by the `Keeper` of a process; its gallery and facts are read here."""

    def __init__(self, folder: Path, keeper: Apart) -> None:
        """Raises MemoryFormatError for a folder that is no memory."""
        self.folder, self._keeper = folder, keeper
        self._said: dict[str, str] = {}
        self._stamp, self._gallery, self._facts = self._read()

    @classmethod
    def fetch(cls, path_or_id: str, keeper: Apart) -> "MemoryApart":
        """The memory in a folder or of a hub id, loaded. Raises what `Memory.from_pretrained` raises."""
        return cls(keeper.ask("load", path_or_id), keeper)

    @property
    def gallery(self) -> Gallery:
        return self._fresh()[1]

    @property
    def facts(self) -> dict[str, Any]:
        return self._fresh()[2]

    def answer(self, request: SearchRequest) -> dict[str, Any]:
        """As `Memory.answer`."""
        return self._keeper.ask("answer", self.folder, request)

    def describe(self, file_names: list[str]) -> list[str]:
        """As `Memory.describe`; what it said once is not asked for again."""
        self._fresh()
        unsaid = [name for name in file_names if name not in self._said]
        self._said |= zip(unsaid, self._keeper.ask("describe", self.folder, unsaid), strict=True) if unsaid else ()
        return [self._said[name] for name in file_names]

    def add(self, pictures: list[tuple[str, Image.Image]], captions: list[list[str]]) -> list[str]:
        """As `Memory.add`, saved."""
        return self._keeper.ask("add", self.folder, pictures, captions)

    def forget(self, file_names: list[str]) -> None:
        """As `Memory.forget`, saved."""
        self._keeper.ask("forget", self.folder, file_names)

    def _fresh(self) -> tuple[int, Gallery, dict[str, Any]]:
        if (self.folder / FACTS_FILE).stat().st_mtime_ns != self._stamp:
            self._stamp, self._gallery, self._facts = self._read()
            self._said.clear()
        return self._stamp, self._gallery, self._facts

    def _read(self) -> tuple[int, Gallery, dict[str, Any]]:
        facts = read_facts(self.folder)
        stamp = (self.folder / FACTS_FILE).stat().st_mtime_ns
        return stamp, Gallery.load(self.folder / "gallery"), facts


def keeper(say: Callable[[Any], None]) -> Any:
    """A Keeper, made in the child: importing it imports torch."""
    from gcr_core.ui.keeper import Keeper

    return Keeper(say)


def workshop(say: Callable[[Any], None]) -> Any:
    """A Workshop, made in the child."""
    from gcr_core.ui.keeper import Workshop

    return Workshop(say)


def _live(pipe: Connection, host: Callable[[Callable[[Any], None]], Any]) -> None:
    """The child: answers until the pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    hosted = None
    while True:
        try:
            method, arguments = pipe.recv()
        except EOFError:
            return

        def hosted_here() -> Any:
            nonlocal hosted
            hosted = hosted or host(lambda word: pipe.send(("word", word)))
            return hosted

        kind, answer = answered(hosted_here, method, arguments)
        try:
            pipe.send((kind, answer))
        except OSError:
            return
        if kind == "error" and not isinstance(answer, GcrError) and _uses_cuda():
            return  # An error on a GPU may leave it useless to this process.


def _uses_cuda() -> bool:
    return "torch" in sys.modules and sys.modules["torch"].cuda.is_initialized()


def answered(hosted: Callable[[], Any], method: str, arguments: tuple[Any, ...]) -> tuple[str, Any]:
    """("answer", what the method of an object returns), or ("error", what it raises), to be sent to another process."""
    try:
        return "answer", getattr(hosted(), method)(*arguments)
    except Exception as mistake:
        return "error", _portable(mistake)


def _portable(error: Exception) -> Exception:
    """A mistake of the user's as it is; anything else as text, with its traceback in the log."""
    if isinstance(error, GcrError):
        return error
    traceback.print_exception(error)
    return RuntimeError(repr(error))

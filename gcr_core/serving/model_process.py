"""Model process: a child process that hosts an object, whose methods are called through a pipe.

Importing torch and importing Gradio each hold Python's interpreter lock for seconds: in one process either would wait
for the other. The child ends when the pipe does, however its parent ended; one that has ended is started again for the
next call. Imports no model library itself.
"""

import multiprocessing
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from gcr_core.errors import GcrError


class EndedError(GcrError):
    """The process ended over a question."""


class ModelProcess:
    """The methods of an object in a process of its own, one call at a time."""

    def __init__(self, host: Callable[[Callable[[Any], None]], Any], name: str) -> None:
        """`host` is called in the child with a function that tells the asker how far a long answer is."""
        self._host, self._name = host, name
        self._lock = threading.Lock()
        self._pipe: Connection | None = None
        self._process: Any = None

    def ask(self, method: str, *arguments: Any, on_word: Callable[[Any], None] = lambda word: None) -> Any:
        """What the method returns; `on_word` gets what it tells on the way. Raises what the method raises, and
        EndedError where the process ended over the call."""
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
        """Ends the process, whatever it does, and frees its memory; the next call starts it again."""
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

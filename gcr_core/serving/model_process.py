"""Model process: a child process that hosts an object, whose methods are called through a pipe.

Importing torch and importing Gradio each hold Python's interpreter lock for seconds: in one process either would wait
for the other. The child ends when the pipe does, however its parent ended. A thread of its own lets it beat; one whose
heart stands still is named so, ended and started again, as is one that died over a question. Imports no model library
itself.
"""

import atexit
import math
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, Literal

from gcr_core.errors import GcrError, one_line
from gcr_core.files.locks import is_suspended
from gcr_core.runtime import unheard_interrupts
from gcr_core.serving.turns import Place, Turns

BEAT_SECONDS = 0.5
"""How often the child's heart beats."""
LOOK_SECONDS = 1.0
"""How long one look for a beat is. Looks are counted: a parent that was suspended itself has seen none stand still."""
NAMED_SECONDS = 5.0
"""A child whose heart has not beaten for so long is said to hang."""
SUSPENDED_SECONDS = 10.0
"""After so long it is ended where the system says that it is suspended."""
SILENT_SECONDS = 90.0
"""After so long it is ended in any case: a library may hold the interpreter's lock for a while."""
START_SECONDS = 300.0
"""After so long one that never beat is ended: it starts slowly beside other work."""

_leaving = threading.Event()
atexit.register(_leaving.set)


class EndedError(GcrError):
    """The process ended over a question."""


@dataclass(frozen=True)
class Deadlines:
    """How many seconds answers, or the wait for the next word of one, may take."""

    answer: float
    first: float = 0.0
    """So much more the first answer of a process may take."""
    of: Mapping[str, float] = field(default_factory=dict)
    """A method → how long its answers may take instead."""


@dataclass
class Child:
    """One process, as its parent knows it."""

    process: Any
    pipe: Connection
    beats: Connection
    again: bool
    """Whether it was started because the one before it died."""
    silence: float = 0.0
    """For how many seconds its heart has not beaten."""
    begun: bool = False
    answered: bool = False
    dismissed: bool = False
    """Whether it was ended on purpose."""
    hung: bool = False

    def end(self) -> None:
        """At once, even where it is suspended."""
        self.process.kill()
        self.process.join()


class ModelProcess:
    """The methods of an object in a process of its own, one call at a time, in the order in which they come."""

    def __init__(
        self,
        host: Callable[[Callable[[Any], None]], Any],
        name: str,
        deadlines: Deadlines | None = None,
    ) -> None:
        """`host` is called in the child with a function that tells the asker how far a long answer is."""
        self._host, self._name, self._deadlines = host, name, deadlines
        self._turns = Turns()
        self._child: Child | None = None
        self._first: tuple[str, tuple[Any, ...]] | None = None

    def begin_with(self, method: str, *arguments: Any) -> None:
        """Has a process that died replaced at once, by one that is asked this before anyone asks it."""
        self._first = method, arguments

    def ask(self, method: str, *arguments: Any, on_word: Callable[[Any], None] = lambda word: None) -> Any:
        """What the method returns; `on_word` gets what it tells on the way. Raises what the method raises, and
        EndedError where the process ended over the call."""
        with self._turns.turn():
            return self._ask(method, arguments, on_word)

    def ask_together(self, method: str, subject: Any, question: Any, alike: Hashable, most: int) -> Any:
        """As `ask(method, subject, question)`; but those who wait for their turn, and ask the same of the same subject
        with an equal `alike`, are answered in this one's call, `most` at a time. Nobody waits for company.

        Then `{method}_all(subject, questions)` is called, which returns their answers in this order, a mistake where
        one's answer would be. Where it fails as a whole each is asked alone, so that nobody hears of another's failure.
        """
        own = Place((method, subject, alike), question)
        if self._turns.come(own):
            try:
                self._ask_for([own, *self._turns.take_along(own, most - 1)], method, subject)
            finally:
                self._turns.go()
        assert own.answer
        value, mistake = own.answer
        if mistake:
            raise mistake
        return value

    @property
    def pid(self) -> int | None:
        return self._child.process.pid if self._child else None

    @property
    def state(self) -> Literal["ready", "waking", "hung"]:
        """Whether a question is answered at once, once a process that takes another's place has begun, or not at all
        for now. One that was never asked counts as ready."""
        child = self._child
        if child and child.silence >= NAMED_SECONDS and child.begun:
            return "hung"
        return "waking" if child and child.again and not child.answered else "ready"

    def end(self) -> None:
        """Ends the process, whatever it does, and frees its memory; the next call starts it again."""
        if child := self._child:
            child.dismissed = True
            child.end()

    def _ask_for(self, places: list[Place], method: str, subject: Any) -> None:
        """Answers callers, in the turn of the first of them."""
        if len(places) > 1:
            try:
                answers = self._ask(f"{method}_all", (subject, [place.question for place in places]))
                answered = list(zip(places, answers, strict=True))
            except Exception:
                answered = []
            for place, answer in answered:
                mistake = answer if isinstance(answer, Exception) else None
                self._turns.dismiss(place, answer, mistake)
            if answered:
                return
        for place in places:
            try:
                self._turns.dismiss(place, self._ask(method, (subject, place.question)))
            except Exception as mistake:
                self._turns.dismiss(place, None, mistake)

    def _ask(self, method: str, arguments: tuple[Any, ...], on_word: Callable[[Any], None] = lambda word: None) -> Any:
        """As `ask`, in the caller's turn."""
        child = self._living()
        try:
            kind, value = self._answer(child, method, arguments, on_word)
        except (EOFError, OSError) as error:
            self._put_away()
            raise EndedError(self._why(child)) from error
        except BaseException:  # of `on_word`: what is still to come is no answer to the next question
            child.dismissed = True
            self._put_away()
            raise
        child.answered = True
        if kind == "error":
            raise value
        return value

    def _answer(
        self, child: Child, method: str, arguments: tuple[Any, ...], on_word: Callable[[Any], None]
    ) -> tuple[str, Any]:
        """Raises EOFError or OSError where the process ends."""
        child.pipe.send((method, arguments))
        limit = self._deadlines.of.get(method, self._deadlines.answer) if self._deadlines else math.inf
        while True:
            more = self._deadlines.first if self._deadlines and not child.answered else 0.0
            if not child.pipe.poll(limit + more if self._deadlines else None):
                child.dismissed = True
                self._put_away()
                raise EndedError(
                    f"the {self._name}'s process took longer than {limit:.0f} s, the limit, and was ended: ask for "
                    "something else"
                )
            kind, value = child.pipe.recv()
            child.begun = True
            if kind != "word":
                return kind, value
            child.answered = True
            on_word(value)

    def _why(self, child: Child) -> str:
        if child.hung:
            return f"the {self._name}'s process hung and was ended, another one starts: ask again in a moment"
        return f"the {self._name}'s process ended over this, perhaps for want of memory: ask again"

    def _living(self) -> Child:
        # One that was ended may still count as alive: it is waited for in the thread that watches it, too.
        if self._child is None or self._child.dismissed or not self._child.process.is_alive():
            self._put_away()
            self._child = self._start()
        return self._child

    def _start(self, again: bool = False) -> Child:
        context = multiprocessing.get_context("spawn")
        pipe, theirs = context.Pipe()
        beats, heart = context.Pipe(duplex=False)
        process = context.Process(target=_live, args=(theirs, heart, self._host), name=self._name, daemon=True)
        with unheard_interrupts():
            process.start()
        theirs.close()
        heart.close()
        child = Child(process, pipe, beats, again)
        threading.Thread(target=self._watch, args=(child,), name=f"watch-{self._name}", daemon=True).start()
        return child

    def _watch(self, child: Child) -> None:
        """Ends it once it hangs; where it ends by itself, starts another."""
        try:
            while not self._hangs(child):
                if child.beats.poll(LOOK_SECONDS):
                    child.beats.recv_bytes()
                    child.silence, child.begun = 0.0, True
                else:
                    child.silence += LOOK_SECONDS
            child.hung = True
            print(f"gcr_core: the {self._name}'s process hung for {child.silence:.0f} s: ended", file=sys.stderr)
            child.process.kill()
        except (EOFError, OSError):
            pass
        child.beats.close()
        child.process.join()
        if self._first and child.answered and not child.dismissed and not _leaving.is_set():
            self._come_back(child, *self._first)

    def _hangs(self, child: Child) -> bool:
        if child.silence >= SUSPENDED_SECONDS and is_suspended(child.process.pid):
            return True
        return child.silence >= (SILENT_SECONDS if child.begun else START_SECONDS)

    def _come_back(self, dead: Child, method: str, arguments: tuple[Any, ...]) -> None:
        """Starts a process in the place of one that died, unless somebody who asked has done so."""
        with self._turns.turn():
            if self._child not in (dead, None):
                return
            self._put_away()
            self._child = child = self._start(again=True)
            try:
                self._answer(child, method, arguments, lambda word: None)
                child.answered = True
            except (EOFError, OSError, EndedError):
                self._put_away()

    def _put_away(self) -> None:
        if child := self._child:
            child.pipe.close()
            child.end()
        self._child = None


def _live(pipe: Connection, heart: Connection, host: Callable[[Callable[[Any], None]], Any]) -> None:
    """The child: answers until the pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_beat, args=(heart,), name="heart", daemon=True).start()
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


def _beat(heart: Connection) -> None:
    """Beats until the parent is gone, and ends with it, whatever the child does."""
    try:
        while True:
            heart.send_bytes(b".")
            time.sleep(BEAT_SECONDS)
    except OSError:
        os._exit(1)


def _uses_cuda() -> bool:
    return "torch" in sys.modules and sys.modules["torch"].cuda.is_initialized()


def answered(hosted: Callable[[], Any], method: str, arguments: tuple[Any, ...]) -> tuple[str, Any]:
    """("answer", what the method of an object returns), or ("error", what it raises), to be sent to another process."""
    try:
        return "answer", getattr(hosted(), method)(*arguments)
    except BaseException as mistake:  # a panic in a library's Rust is no Exception
        return "error", _portable(mistake)


def _portable(error: BaseException) -> Exception:
    """A mistake of the user's as it is, or a disk or memory that is full in one line; anything else as text, with its
    traceback in the log."""
    if isinstance(error, GcrError):
        return error
    if words := one_line(error):
        return GcrError(words)
    traceback.print_exception(error)
    return RuntimeError(repr(error))

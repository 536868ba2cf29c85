"""A process that others wait for: its mistakes stay mistakes, and one that hangs or dies is replaced."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from gcr_core.errors import GcrError, InputError
from gcr_core.serving import model_process
from gcr_core.serving.loading import LoadingMemory
from gcr_core.serving.model_process import Deadlines, EndedError, ModelProcess
from tests.patience import until


class Host:
    """What lives in the child."""

    def __init__(self, say: Callable[[Any], None]) -> None:
        self.say, self.loaded = say, ""

    def load(self, name: str) -> str:
        self.loaded = name
        return name

    def which(self) -> str:
        return self.loaded

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def count(self, most: int, seconds: float) -> int:
        for number in range(most):
            time.sleep(seconds)
            self.say(number)
        return most

    def wait(self, file: Path) -> None:
        self.say("waiting")
        while not file.exists():
            time.sleep(0.02)

    def tell(self, subject: str, question: str) -> str:
        return f"{self.tell_all(subject, [question])[0]} alone"

    def tell_all(self, subject: str, questions: list[str]) -> list[str | Exception]:
        if "kill" in questions:
            os._exit(1)
        if "fail" in questions:
            raise ValueError("all of it")
        asked = f"of {subject} with {', '.join(questions)}"
        return [InputError(f"no {asked}") if question == "no" else f"{question} {asked}" for question in questions]

    def refuse(self) -> None:
        raise InputError("no: choose another")

    def panic(self) -> None:
        raise type("PanicException", (BaseException,), {})("a library's own")

    def hold(self, seconds: float) -> bool:
        """Holds the interpreter's lock, so that no other thread of the process runs."""
        before = sys.getswitchinterval()
        sys.setswitchinterval(1000)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            re.match("(a*)*b", "a" * 18)
        sys.setswitchinterval(before)
        return True


@pytest.fixture
def process() -> Iterator[ModelProcess]:
    process = ModelProcess(Host, "host", Deadlines(60))
    yield process
    process.end()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("LOOK", 0.6), ("NAMED", 1.2), ("SUSPENDED", 1.8)):
        monkeypatch.setattr(model_process, f"{name}_SECONDS", seconds)


def test_mistakes_come_back_and_the_process_lives_on(process: ModelProcess) -> None:
    with pytest.raises(InputError, match="no: choose another"):
        process.ask("refuse")
    pid = process.pid
    with pytest.raises(RuntimeError, match="a library's own"):
        process.ask("panic")
    assert process.ask("load", "x") == "x"
    assert process.pid == pid


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_a_suspended_process_is_said_to_hang_ended_and_replaced_before_anyone_asks(process: ModelProcess) -> None:
    process.ask("load", "a memory")
    process.begin_with("load", "a memory")
    assert process.state == "ready"
    pid = process.pid
    os.kill(pid or 0, signal.SIGSTOP)
    until(lambda: process.state == "hung")
    until(lambda: process.pid not in (pid, None) and process.state == "ready")
    assert process.ask("which") == "a memory"
    assert not psutil.pid_exists(pid or 0)


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_who_asks_a_suspended_process_is_told(process: ModelProcess) -> None:
    process.ask("load", "x")
    os.kill(process.pid or 0, signal.SIGSTOP)
    with pytest.raises(EndedError, match="hung and was ended, another one starts"):
        process.ask("load", b"x" * 2**20)  # more than fits into the pipe
    assert process.ask("load", "y") == "y"


def test_a_process_that_died_is_replaced_before_anyone_asks(process: ModelProcess) -> None:
    process.ask("load", "a memory")
    process.begin_with("load", "a memory")
    pid = process.pid
    os.kill(pid or 0, signal.SIGKILL)
    until(lambda: process.pid not in (pid, None) and process.state == "ready")
    assert process.ask("which") == "a memory"


@pytest.mark.slow
def test_one_that_was_ended_on_purpose_stays_away(process: ModelProcess) -> None:
    process.ask("load", "x")
    process.begin_with("load", "x")
    process.end()
    time.sleep(1)
    assert not psutil.pid_exists(process.pid or 0)
    assert process.ask("which") == ""


class Crowd:
    """Those who ask while the process is busy, each in a thread of its own, and come in this order."""

    def __init__(self, process: ModelProcess, file: Path, *asked: tuple[str, str, str], most: int = 9) -> None:
        """`asked`: the subject, the question, and what it has in common with others; without that it is asked alone."""
        self.answers: list[str] = []
        with ThreadPoolExecutor(len(asked) + 1) as threads:
            begun = threading.Event()
            busy = threads.submit(process.ask, "wait", file, on_word=lambda word: begun.set())
            begun.wait()
            futures = []
            for subject, question, alike in asked:
                call = (process.ask_together, "tell", subject, question, alike, most)
                before = len(process._turns._line)
                futures.append(threads.submit(*(call if alike else (process.ask, *call[1:4]))))
                until(lambda before=before: len(process._turns._line) == before + 1)  # type: ignore[misc]
            file.touch()
            for future in futures:
                mistake = future.exception()
                self.answers.append(f"{type(mistake).__name__}: {mistake}" if mistake else future.result())
            busy.result()


def test_those_who_wait_alike_are_answered_in_one_call_each_with_its_own_mistake(
    process: ModelProcess, tmp_path: Path
) -> None:
    asked = [("dogs", "a", "x"), ("dogs", "no", "x"), ("dogs", "b", "x"), ("dogs", "c", "y"), ("cats", "d", "x")]
    assert Crowd(process, tmp_path / "on", *asked, ("dogs", "picture", "")).answers == [
        "a of dogs with a, no, b",
        "InputError: no of dogs with a, no, b",
        "b of dogs with a, no, b",
        "c of dogs with c alone",
        "d of cats with d alone",
        "picture of dogs with picture alone",
    ]
    assert process.ask_together("tell", "dogs", "a", "x", 9) == "a of dogs with a alone", "nobody waits for company"


def test_no_more_are_taken_together_than_may_be(process: ModelProcess, tmp_path: Path) -> None:
    asked = [("dogs", letter, "x") for letter in "abcde"]
    answers = Crowd(process, tmp_path / "on", *asked, most=2).answers
    assert [answer.partition("with ")[2] for answer in answers] == ["a, b", "a, b", "c, d", "c, d", "e alone"]


@pytest.mark.parametrize(("word", "words"), [("kill", "EndedError: the host's process ended over this"), ("fail", "")])
def test_over_whose_question_all_fail_fails_alone(process: ModelProcess, tmp_path: Path, word: str, words: str) -> None:
    asked = [("dogs", question, "x") for question in ("a", word, "b")]
    first, mistaken, last = Crowd(process, tmp_path / "on", *asked).answers
    assert (first, last) == ("a of dogs with a alone", "b of dogs with b alone")
    assert mistaken.startswith(words or "RuntimeError: ValueError('all of it')")


def test_a_suspended_process_is_ended_at_once_on_purpose(process: ModelProcess) -> None:
    process.ask("load", "x")
    os.kill(process.pid or 0, signal.SIGSTOP)
    process.end()
    assert process.ask("load", "y") == "y"


def test_one_that_was_ended_is_not_asked_while_it_still_counts_as_alive(
    process: ModelProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    process.ask("load", "x")
    assert process._child
    monkeypatch.setattr(process._child.process, "is_alive", lambda: True)
    process.end()
    assert process.ask("load", "y") == "y"


@pytest.mark.slow
def test_an_answer_that_takes_too_long_is_ended_and_the_next_question_answered() -> None:
    process = ModelProcess(Host, "host", Deadlines(1, 60, {"count": 5}))
    try:
        assert process.ask("load", "x") == "x"
        assert process.ask("count", 2, 2) == 2, "its own limit, and for each word"
        with pytest.raises(EndedError, match="the host's process took longer than 1 s, the limit, and was ended"):
            process.ask("sleep", 60)
        assert process.ask("load", "x") == "x"
    finally:
        process.end()


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_a_library_that_holds_the_interpreter_is_waited_for(process: ModelProcess) -> None:
    process.ask("load", "x")
    pid = process.pid
    assert process.ask("hold", 3)
    assert process.pid == pid


def test_words_after_a_refusal_are_no_answer_to_the_next_question(process: ModelProcess) -> None:
    def refuse(word: int) -> None:
        raise GcrError("stop")

    with pytest.raises(GcrError, match="stop"):
        process.ask("count", 3, 0.1, on_word=refuse)
    assert process.ask("load", "x") == "x"


PARENT = """
import sys, time
from gcr_core.serving.model_process import ModelProcess
from tests.unit.serving.test_model_process import Host
if __name__ == "__main__":
    process = ModelProcess(Host, "host")
    process.ask("load", "x")
    print(process.pid, flush=True)
    process.ask("sleep", 600)
"""


@pytest.mark.slow
def test_a_child_ends_with_a_killed_parent_whatever_it_does(tmp_path: Path) -> None:
    (tmp_path / "parent.py").write_text(PARENT)
    command = [sys.executable, str(tmp_path / "parent.py")]
    root = str(Path(__file__).parents[3])
    environment = {**os.environ, "PYTHONPATH": root}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        parent.kill()
    until(lambda: not psutil.pid_exists(pid))


@pytest.mark.parametrize(("fails", "state"), [(2, "ready"), (3, "failed")])
def test_a_memory_whose_process_ends_over_loading_is_loaded_again(fails: int, state: str) -> None:
    attempts: list[int] = []

    def load() -> Any:
        attempts.append(1)
        if len(attempts) <= fails:
            raise EndedError("ended: ask again")
        return "memory"

    loading = LoadingMemory(load)
    loading.load()
    assert loading.state == state
    assert len(attempts) == 3

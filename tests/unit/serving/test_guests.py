"""Memories from elsewhere: each in a process of its own, few at a time, none for long without a question."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from gcr_core.errors import GcrError
from gcr_core.serving import guests as guests_module
from gcr_core.serving.guests import MARK, MAX_ASKED, Guests
from gcr_core.serving.remote_memory import RemoteMemory
from gcr_core.serving.workspace import Workspace
from gcr_core.settings import Settings
from tests.patience import until
from tests.unit.serving.test_workspace import opened_here, put  # noqa: F401

HERE, THERE, ELSEWHERE = (Path(name) for name in ("here", "there", "elsewhere"))


class Process:
    """In the place of a ModelProcess."""

    made: list["Process"]

    def __init__(self) -> None:
        self.ended = False
        self.gate = threading.Event()
        self.gate.set()
        Process.made.append(self)

    def ask(self, method: str, *arguments: Any, on_word: Callable[[Any], None]) -> Any:
        self.gate.wait()
        if method == "fails":
            raise GcrError("no: ask for something else")
        return method, arguments

    def end(self) -> None:
        self.ended = True


@pytest.fixture
def guests() -> Guests:
    Process.made = []
    return Guests(Settings(), Process)


def test_each_has_a_process_of_its_own_which_stays_for_the_next_question(guests: Guests) -> None:
    assert guests.of(HERE).ask("answer", 1) == ("answer", (1,))
    with pytest.raises(GcrError, match="no: ask"):
        guests.of(HERE).ask("fails")
    guests.of(THERE).ask("answer")
    assert [process.ended for process in Process.made] == [False, False]


def test_the_one_asked_the_longest_ago_makes_room(guests: Guests) -> None:
    for folder in (HERE, THERE, HERE, ELSEWHERE):
        guests.of(folder).ask("answer")
    assert [process.ended for process in Process.made] == [False, True, False]


def test_those_that_are_being_asked_stay_and_others_are_told(guests: Guests) -> None:
    asking = []
    for folder in (HERE, THERE):
        guests.of(folder).ask("answer")
        Process.made[-1].gate.clear()
        asking += [threading.Thread(target=guests.of(folder).ask, args=("answer",)) for _ in range(MAX_ASKED)]
    for thread in asking:
        thread.start()
    until(lambda: guests._asked == {HERE: MAX_ASKED, THERE: MAX_ASKED})
    with pytest.raises(GcrError, match="2 questions of this memory, which was opened from a zip, are under way"):
        guests.of(HERE).ask("answer")
    with pytest.raises(GcrError, match=r"2 other memories that were opened from zips are asked .* the limit is 2"):
        guests.of(ELSEWHERE).ask("answer")
    for process in Process.made:
        process.gate.set()
    for thread in asking:
        thread.join()
    guests.of(ELSEWHERE).ask("answer")


def test_one_that_nobody_asks_is_ended(guests: Guests, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guests_module, "IDLE_SECONDS", 0.3)
    guests.of(HERE).ask("answer")
    until(lambda: Process.made[0].ended)
    guests.of(HERE).ask("answer")
    assert len(Process.made) == 2


@pytest.mark.slow
@pytest.mark.usefixtures("opened_here")
def test_what_came_in_a_zip_is_marked_and_asked_apart_for_good(tmp_path: Path, tiny_memory_dir: Path) -> None:
    shelf = Workspace.of(tmp_path / "home", None)
    own = put(shelf, tiny_memory_dir)
    opened = shelf.open_memory(shelf.export(own))
    asked: list[str] = []

    class Host:
        def __init__(self, name: str) -> None:
            self.name = name

        def ask(self, *question: Any, on_word: Callable[[Any], None] = lambda word: None) -> None:
            asked.append(self.name)

    guests = Guests(Settings(), lambda: cast(Any, Host("guest")))
    for id in (own, opened):
        RemoteMemory.apart(shelf.memory(id), Host("own"), guests).forget(["red-bar.png"])
    assert asked == ["own", "guest"]
    shelf.rename(opened, "mine now")
    memory = RemoteMemory.apart(shelf.memory(opened), Host("own"), None)
    assert memory.facts[MARK] is True

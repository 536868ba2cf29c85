"""The line before something that does one thing at a time."""

import threading

from gcr_core.serving.turns import Place, Turns
from tests.patience import until


class Caller:
    """Comes to the line in a thread of its own, and notes when it has its turn or its answer."""

    def __init__(self, turns: Turns, name: str, noted: list[str], kind: str | None = None) -> None:
        self.turns, self.name, self.noted = turns, name, noted
        self.place = Place(kind, name)
        before = len(turns._line)
        self.thread = threading.Thread(target=self.come)
        self.thread.start()
        until(lambda: len(turns._line) == before + 1)

    def come(self) -> None:
        if self.turns.come(self.place):
            self.noted.append(self.name)
            self.turns.go()
        else:
            self.noted.append(f"{self.name}: {self.place.answer}")


def test_callers_have_their_turns_in_the_order_in_which_they_came() -> None:
    turns, noted = Turns(), []
    with turns.turn():
        callers = [Caller(turns, name, noted) for name in "abcdef"]
    for caller in callers:
        caller.thread.join()
    assert noted == list("abcdef")
    with turns.turn():
        pass


def test_those_of_a_kind_are_taken_along_the_first_first_and_others_keep_their_places() -> None:
    turns, noted = Turns(), []
    own = Place("words")
    assert turns.come(own)
    callers = [
        Caller(turns, name, noted, kind) for name, kind in zip("abcd", ("words", None, "words", "words"), strict=True)
    ]
    taken = turns.take_along(own, 2)
    assert [place.question for place in taken] == ["a", "c"]
    for place in taken:
        turns.dismiss(place, place.question.upper())
    callers[0].thread.join()
    callers[2].thread.join()
    assert sorted(noted) == ["a: ('A', None)", "c: ('C', None)"], "before the turn ends"
    turns.go()
    for caller in callers:
        caller.thread.join()
    assert noted[2:] == ["b", "d"]

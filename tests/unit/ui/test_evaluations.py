"""Evaluations in the background: they take turns, can be stopped, fail in words, and leave room for others."""

import itertools
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from gcr_core.data.queries import Query
from gcr_core.errors import GcrError, InputError
from gcr_core.evaluation.evaluate import OUTCOME, Asked
from gcr_core.ui import evaluations
from gcr_core.ui.evaluations import Evaluations, Subject
from tests.patience import until

QUERIES = [Query(f"query {number}", None, frozenset(["a"])) for number in range(6)]
ME, OTHER = Path("me"), Path("other")


class Slow:
    """A memory that answers as often as it is let to."""

    lent_to = None

    def __init__(self, lets=10_000):
        self.lets, self.gallery, self.order = threading.Semaphore(lets), ["a"], []

    def answer(self, request):
        self.lets.acquire()
        self.order.append(request.query)
        if request.query == "broken":
            raise GcrError("the memory broke")
        hits = [{"rank": 1, "file_name": "a", "score": -1.0}]
        return {"generative": hits, "dense": hits, "latency_ms": {"generative": 1.0, "dense": 1.0}}


def asks(memory, queries=QUERIES):
    return [Subject("id", "Mine", memory, list(queries))]


def ended(all_of_them, owner):
    until(lambda: all_of_them.of(owner).state != "running")
    return all_of_them.of(owner)


def test_each_query_is_asked_once_after_the_first_was_asked_to_warm_up():
    mine, memory = Evaluations(strangers=False), Slow()
    mine.begin(ME, "queries", asks(memory))
    done = ended(mine, ME)
    assert (done.state, done.done, done.total) == ("done", 6, 6)
    assert memory.order == ["query 0", *(query.text for query in QUERIES)]
    assert done.tested[0].figures["generative"]["recall@1"] == 1
    assert done.as_json()["memories"][0]["answers"][5]["query"] == "query 5"


def test_stop_ends_it_after_the_query_that_is_asked_and_keeps_what_was():
    mine, memory = Evaluations(strangers=False), Slow(lets=3)
    mine.begin(ME, "queries", asks(memory))
    until(lambda: mine.of(ME).done == 2)
    mine.stop(ME)
    memory.lets.release()
    done = ended(mine, ME)
    assert (done.state, done.done) == ("stopped", 3)
    assert done.tested[0].figures["queries"] == 3


def test_a_memory_that_breaks_ends_it_in_words_with_what_was_asked_before():
    mine = Evaluations(strangers=False)
    mine.begin(ME, "queries", asks(Slow(), [QUERIES[0], Query("broken", None, frozenset(["a"]))]))
    done = ended(mine, ME)
    assert (done.state, done.mistake, done.done) == ("failed", "the memory broke", 1)


def test_strangers_have_their_evaluations_for_so_long_and_what_was_asked_until_then_stays():
    mine, memory = Evaluations(strangers=True), Slow(lets=3)
    mine.begin(ME, "queries", asks(memory))
    until(lambda: mine.of(ME).done == 2)
    mine.of(ME).started -= evaluations.MAX_STRANGERS_SECONDS
    memory.lets.release()
    done = ended(mine, ME)
    assert (done.state, done.done) == ("failed", 3)
    assert done.mistake.startswith("it took longer than 30 minutes, the limit: ask fewer")


def test_one_owner_has_one_at_a_time_and_others_have_theirs():
    mine, memory = Evaluations(strangers=False), Slow(lets=0)
    mine.begin(ME, "queries", asks(memory))
    with pytest.raises(InputError, match=r"a test of yours goes on, at query 0 of 6: stop it first"):
        mine.begin(ME, "queries", asks(Slow()))
    mine.begin(OTHER, "queries", asks(memory))
    memory.lets.release(100)
    assert {ended(mine, ME).state, ended(mine, OTHER).state} == {"done"}


def test_two_take_turns_query_by_query():
    mine, memory = Evaluations(strangers=False), Slow(lets=0)
    many = [[Query(f"{name} {number}", None, frozenset(["a"])) for number in range(40)] for name in ("one", "two")]
    for owner, queries in zip((ME, OTHER), many, strict=True):
        mine.begin(owner, "queries", asks(memory, queries))
    memory.lets.release(100)
    ended(mine, ME), ended(mine, OTHER)
    names = [words.split()[0] for words in memory.order]
    assert sum(before != after for before, after in itertools.pairwise(names)) > 20


def lent(owner, call, memory, query):
    """As from the owner's last event."""
    memory.lent_to = owner
    return call(memory, query)


@pytest.mark.parametrize(
    ("most", "queries", "memories", "message"),
    [
        ((True, None), 2_001, 1, r"2,001 queries, the limit is 2,000"),
        ((True, None), 1_001, 2, r"1,001 queries of 2 memories are 2,002, the limit is 2,000"),
        ((True, lent), 101, 1, r"101 queries, the limit is 100"),
        (
            (False, None),
            10_001,
            1,
            r"10,001 queries, the limit is 10,000: ask fewer, or all of a file with `gcr evaluate`",
        ),
    ],
)
def test_more_queries_than_the_limit_are_refused_at_once(most, queries, memories, message):
    mine = Evaluations(*most)
    with pytest.raises(InputError, match=message):
        mine.begin(ME, "queries", asks(Slow(), QUERIES[:1] * queries) * memories)
    assert mine.of(ME) is None


def test_where_a_gpu_is_lent_each_query_is_asked_as_its_owner():
    mine, memory = Evaluations(strangers=True, lent=lent), Slow()
    mine.begin(ME, "queries", asks(memory))
    until(lambda: mine.of(ME).state == "done")
    assert memory.lent_to == ME


def test_no_more_go_on_than_the_limit_and_the_oldest_that_ended_make_room(monkeypatch):
    monkeypatch.setattr(evaluations, "MAX_RUNNING", 2)
    monkeypatch.setattr(evaluations, "MAX_KEPT", 3)
    mine, waits = Evaluations(strangers=True), Slow(lets=0)
    for owner in ("a", "b"):
        mine.begin(Path(owner), "queries", asks(waits))
    with pytest.raises(InputError, match="2 tests go on, the limit is 2"):
        mine.begin(Path("c"), "queries", asks(waits))
    waits.lets.release(100)
    for owner in ("a", "b"):
        ended(mine, Path(owner))
    for owner in ("c", "d"):
        mine.begin(Path(owner), "queries", asks(Slow()))
        ended(mine, Path(owner))
    assert [mine.of(Path(owner)) is not None for owner in "abcd"] == [False, True, True, True]


def test_time_left_is_told_by_how_fast_it_went():
    memory = SimpleNamespace(gallery=["a"])
    evaluation = evaluations.Evaluation("queries", asks(memory))
    assert evaluation.seconds_left is None
    evaluation.tested[0].asked = [Asked(np.zeros(1, OUTCOME)[0])] * 3
    evaluation.started -= 3
    assert evaluation.seconds_left == pytest.approx(3, abs=0.5)

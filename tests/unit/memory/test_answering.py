"""Requests that are answered together are answered as each is alone: their scores but for the order of sums."""

import pytest

from gcr_core.errors import InputError
from gcr_core.memory.memory import Memory
from gcr_core.retrieval import beam_search
from gcr_core.retrieval.match import EVIDENCE, Calibration
from gcr_core.retrieval.query import SearchRequest

TOLERANCE = 1e-4
"""Of log-probabilities and cosines in float32."""
WORDS = ("a red circle", "bar", "something gold that is neither long nor round, in the middle of a white picture")


def told(answer: dict) -> dict:
    """All of an answer but its scores and the time it took."""
    sides = {side: [hit["file_name"] for hit in answer[side]] for side in ("generative", "dense")}
    trace = [[(beam["tokens"], beam["images"]) for beam in step] for step in answer.get("trace", ())]
    return {"query": answer["query"], **sides, "trace": trace, "keys": list(answer)}


def numbers(answer: dict) -> list[float]:
    scores = [hit["score"] for side in ("generative", "dense") for hit in answer[side]]
    odds = [beam["probability"] for step in answer.get("trace", ()) for beam in step]
    return [*scores, *odds, *answer.get("match", {}).values()]


def check_same(together: dict, alone: dict) -> None:
    assert told(together) == told(alone)
    assert numbers(together) == pytest.approx(numbers(alone), abs=TOLERANCE)


@pytest.fixture
def calibrated(atomic: Memory) -> Memory:
    """The memory, sure of what has a high score."""
    found = {
        engine: Calibration(names, (1.0, *[0.0] * (len(names) - 1)), 0.5, 0.1, 0.3, {}).facts()
        for engine, names in EVIDENCE.items()
    }
    atomic.calibrate(found)
    return atomic


def test_whatever_is_asked_together_is_answered_as_alone(memory: Memory) -> None:
    """Identifiers of one token and of several, of one length and of many; albums, tops, beams, traces, pictures."""
    requests = [
        *(SearchRequest(words, top, 10, album=album) for words in WORDS for top in (1, 4) for album in ("", "bars")),
        *(SearchRequest(words, 10, beams, trace=True) for words in WORDS for beams in (1, 3, 100)),
        *(SearchRequest(memory.gallery.open(image), 3, 4) for image in (0, 7)),
    ]
    for together, request in zip(memory.answer_all(requests), requests, strict=True):
        assert isinstance(together, dict)
        check_same(together, memory.answer(request))


def test_those_that_are_alike_are_one_batch(atomic: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    recall = beam_search.recall
    monkeypatch.setattr(
        beam_search, "recall", lambda *given, **more: sizes.append(len(given[2])) or recall(*given, **more)
    )
    requests = [SearchRequest(words, top) for words in WORDS for top in (1, 20)]
    assert len({request.alike for request in requests}) == 1
    atomic.answer_all([*requests, SearchRequest("bar", album="bars"), SearchRequest("bar", beams=3)])
    assert sizes == [6, 1, 1]


def test_each_has_its_own_mistake_and_the_others_their_answers(atomic: Memory) -> None:
    requests = [SearchRequest(words) for words in ("bar", "ბედნიერი ძაღლი", "gold")]
    asked = [*requests, SearchRequest("bar", album="of nobody")]
    bar, unreadable, gold, elsewhere = atomic.answer_all(asked)
    assert isinstance(unreadable, InputError) and "cannot read" in str(unreadable)
    assert isinstance(elsewhere, InputError) and "of nobody" in str(elsewhere)
    for together, request in ((bar, asked[0]), (gold, asked[2])):
        assert isinstance(together, dict)
        check_same(together, atomic.answer(request))
    assert atomic.answer_all([]) == []


def test_each_is_as_probable_as_alone(calibrated: Memory) -> None:
    requests = [SearchRequest(words) for words in WORDS]
    for together, request in zip(calibrated.answer_all(requests), requests, strict=True):
        assert isinstance(together, dict)
        assert list(together["match"]) == list(EVIDENCE)
        check_same(together, calibrated.answer(request))


def test_an_album_of_forgotten_images_answers_nothing(calibrated: Memory) -> None:
    calibrated.trie.forget([image for image, album in enumerate(calibrated.gallery.albums) if album])
    first, second = calibrated.answer_all([SearchRequest("bar", album="bars"), SearchRequest("red", album="bars")])
    for answer in (first, second):
        assert isinstance(answer, dict)
        assert answer["generative"] == [] and "generative" not in answer["match"]

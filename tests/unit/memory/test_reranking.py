"""Reranking: what is recalled comes in new orders beside its own, which stays; a memory learns its weight."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gcr_core.data.gallery import Gallery
from gcr_core.errors import MemoryFormatError
from gcr_core.memory import answering, calibration
from gcr_core.memory.build import make_memory
from gcr_core.memory.captions import recaption
from gcr_core.memory.manifest import manifest_text
from gcr_core.memory.memory import Memory
from gcr_core.retrieval import beam_search
from gcr_core.retrieval.query import SearchRequest
from gcr_core.retrieval.rerank import RERANKED, WORDS, CaptionWords, Rerank
from gcr_core.training.config import Recipe

ORDERS = ("reranked", "together")
STRONG = Rerank(1.0, 100)


def names(answer: dict, side: str) -> list[str]:
    return [hit["file_name"] for hit in answer[side]]


def test_what_is_recalled_stays_as_it_is(memory: Memory) -> None:
    """Of identifiers of one token and of several, with fewer beams than images and more."""
    requests = [SearchRequest("a red cirlce", top, beams, trace=True) for top in (1, 5, 20) for beams in (1, 4, 100)]
    before = [memory.answer(request) for request in requests]
    assert not any(order in answer for answer in before for order in ORDERS)
    memory.calibrate({}, STRONG)
    for request, old in zip(requests, before, strict=True):
        new = memory.answer(request)
        for side in ("generative", "dense"):
            assert names(new, side) == names(old, side)
            assert [hit["score"] for hit in new[side]] == pytest.approx([hit["score"] for hit in old[side]], abs=1e-4)
        assert [list(map(len, new["trace"]))] == [list(map(len, old["trace"]))]
        assert list(new["latency_ms"]) == ["generative", "dense", *ORDERS]


def test_new_orders_have_what_was_recalled_and_their_own_scores(memory: Memory) -> None:
    memory.calibrate({}, STRONG)
    answer = memory.answer(SearchRequest("a red cirlce", 100, 100))
    for order in ORDERS:
        assert sorted(names(answer, order)) == sorted(names(answer, "generative"))
        scores = [hit["score"] for hit in answer[order]]
        assert scores == sorted(scores, reverse=True)
        assert [hit["rank"] for hit in answer[order]] == list(range(1, len(scores) + 1))
        whole = np.exp([hit["score"] for hit in answer["generative"]]).sum()
        assert np.exp(scores).sum() == pytest.approx(whole, rel=1e-4)
        identifiers = {hit["file_name"]: hit["identifier"] for hit in answer["generative"]}
        assert {hit["file_name"]: hit["identifier"] for hit in answer[order]} == identifiers
    log_p = np.array([hit["score"] for hit in answer["generative"]])
    images = np.array([memory.gallery.index(name) for name in names(answer, "generative")])
    places, _ = STRONG.reranked(log_p, CaptionWords(memory.gallery.captions).score("a red cirlce", images))
    assert names(answer, "reranked") == [names(answer, "generative")[place] for place in places]
    assert places.tolist() != sorted(places)


def test_one_step_looks_at_more_images_than_are_asked_for(atomic: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    atomic.calibrate({}, STRONG)
    monkeypatch.setattr(CaptionWords, "score", lambda words, query, images: 1000.0 * (images == 3))
    for top, beams in ((1, 1), (2, 3), (12, 100)):
        answer = atomic.answer(SearchRequest("anything", top, beams))
        assert len(answer["generative"]) == min(top, beams)
        assert names(answer, "reranked")[0] == names(answer, "together")[0] == atomic.gallery.file_names[3]


def test_both_together_follow_the_dense_side(atomic: Memory) -> None:
    """Where the words say nothing and all images are as likely."""
    atomic.calibrate({}, Rerank(0.0, 0))
    answer = atomic.answer(SearchRequest("a red circle", 12, 12))
    assert names(answer, "reranked") == names(answer, "generative")
    gained = {hit["file_name"]: hit["score"] for hit in answer["together"]}
    log_p = {hit["file_name"]: hit["score"] for hit in answer["generative"]}
    by_gain = sorted(gained, key=lambda name: log_p[name] - gained[name])
    assert by_gain == names(answer, "dense")


def test_one_that_is_answered_together_with_a_longer_answer_stays_as_it_is(
    atomic: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    atomic.calibrate({}, STRONG)
    monkeypatch.setattr(answering, "RERANKED", 4)
    short, long = SearchRequest("a red circle", 3, 100), SearchRequest("a red circle", 12, 100)
    together, _ = atomic.answer_all([short, long])
    alone = atomic.answer(short)
    for order in ORDERS:
        assert names(together, order) == names(alone, order)
        assert [h["score"] for h in together[order]] == pytest.approx([h["score"] for h in alone[order]], abs=1e-4)


@pytest.mark.parametrize("gone", [0, 11])
def test_what_is_forgotten_while_a_query_is_answered_is_in_no_new_order(
    gone: int, atomic: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what moves up has its own words."""
    atomic.calibrate({}, STRONG)
    name, recall = atomic.gallery.file_names[gone], Memory._recall

    def meanwhile(memory: Memory, *given: Any) -> Any:
        found = recall(memory, *given)
        memory.forget([name])
        return found

    monkeypatch.setattr(Memory, "_recall", meanwhile)
    answer = atomic.answer(SearchRequest("a gold square", 12, 12))
    monkeypatch.undo()
    after = atomic.answer(SearchRequest("a gold square", 12, 12))
    for order in ORDERS:
        assert name not in names(answer, order)
        assert names(answer, order) == names(after, order)


def test_a_vector_that_is_no_number_stops_no_answer(atomic: Memory) -> None:
    atomic.calibrate({}, STRONG)
    vectors = atomic.dense.vectors
    atomic.dense.replace([3], np.full((1, vectors.shape[1]), np.nan, np.float32))
    answer = atomic.answer(SearchRequest("a red circle", 12, 12))
    assert len(answer["together"]) == 12
    assert all(np.isfinite(hit["score"]) for order in ORDERS for hit in answer[order])


def test_captions_that_are_gone_leave_no_new_order(atomic: Memory) -> None:
    atomic.calibrate({}, STRONG)
    recaption(atomic, {name: [] for name in atomic.gallery.file_names})
    assert not any(order in atomic.answer(SearchRequest("a red circle")) for order in ORDERS)


def test_a_weight_is_chosen_on_captions_from_all_of_the_gallery(
    atomic: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted = []
    monkeypatch.setattr(calibration, "MOST_RERANKED", 3)
    monkeypatch.setattr(Rerank, "fit", lambda *arrays: fitted.append(arrays) or Rerank())
    queries = {texts[0]: image for image, texts in enumerate(atomic.gallery.captions)}
    prompts = atomic.backbone.query_prompts(list(queries))
    calibration.reranked(atomic.backbone, atomic.trie, prompts, queries, atomic.gallery.captions)
    [(log_p, _, right)] = fitted
    some = [prompts[row] for row in (0, 5, 11)]
    found = beam_search.recall(atomic.backbone, atomic.trie, some, 12, 12)
    assert log_p[:, :12] == pytest.approx(found.scores.numpy(), abs=1e-4)
    assert [found.images[row][right[row, :12]].tolist() for row in range(3)] == [[0], [5], [11]]


def test_an_album_and_a_picture_are_asked_too(atomic: Memory) -> None:
    atomic.calibrate({}, STRONG)
    answer = atomic.answer(SearchRequest("a red circle", album="bars"))
    for order in ORDERS:
        assert names(answer, order) and all("bar" in name for name in names(answer, order))
    assert not any(order in atomic.answer(SearchRequest(atomic.gallery.open(0))) for order in ORDERS)
    atomic.trie.forget([image for image, album in enumerate(atomic.gallery.albums) if album])
    emptied = atomic.answer(SearchRequest("a red circle", album="bars"))
    assert [emptied[order] for order in ORDERS] == [[], []]


@pytest.mark.parametrize(
    "change",
    [
        lambda memory: recaption(memory, {"blue-bar.png": ["a zebra"]}),
        lambda memory: memory.add([("zebra.png", memory.gallery.open(0).rotate(45))], [["a zebra"]]),
    ],
    ids=["edited", "added"],
)
def test_words_are_those_of_the_captions_as_they_are(atomic: Memory, change: Callable[[Memory], object]) -> None:
    atomic.calibrate({}, STRONG)
    before = atomic.answer(SearchRequest("zebra", 20, 20))
    change(atomic)
    after = atomic.answer(SearchRequest("zebra", 20, 20))
    [named] = [name for name in ("blue-bar.png", "zebra.png") if "a zebra" in captions_of(atomic, name)]
    assert names(after, "reranked").index(named) == 0
    assert names(before, "reranked") == names(before, "generative")


def captions_of(memory: Memory, name: str) -> list[str]:
    return memory.gallery.captions[memory.gallery.index(name)] if name in memory.gallery else []


def test_a_saved_memory_reranks_and_one_of_before_does_not(atomic: Memory, tmp_path: Path) -> None:
    atomic.calibrate({}, Rerank(0.2, 33))
    atomic.save(tmp_path / "memory")
    loaded = Memory.load(tmp_path / "memory", "cpu")
    assert loaded.facts["rerank"] == {"words": 0.2, "asked": 33}
    assert names(loaded.answer(SearchRequest("bar")), "reranked") == names(
        atomic.answer(SearchRequest("bar")), "reranked"
    )
    loaded.facts["rerank"] = "much"
    (tmp_path / "memory" / "memory.json").write_text(manifest_text(loaded.facts))
    with pytest.raises(MemoryFormatError, match="rerank"):
        Memory.load(tmp_path / "memory", "cpu")


@pytest.mark.slow
@pytest.mark.parametrize("texts", [0, 1, 3])
def test_a_memory_chooses_its_weight_by_captions_that_it_does_not_know(
    texts: int,
    tiny_gallery: Gallery,
    mini_folder: Path,
    tiny_clip_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    captions = [[f"{text} number {n}" for n in range(texts) for text in own[:1]] for own in tiny_gallery.captions]
    gallery = Gallery(tiny_gallery.root, tiny_gallery.file_names, captions)
    asked = []
    reranked = calibration.reranked

    def noted(backbone, trie, prompts, queries, known):
        asked.append((list(queries), known))
        return reranked(backbone, trie, prompts, queries, known)

    monkeypatch.setattr(calibration, "reranked", noted)
    make_memory(
        gallery, Recipe(str(mini_folder), str(tiny_clip_dir), preset="quick"), tmp_path / "m", lambda told: None
    )
    facts = Memory.load(tmp_path / "m", "cpu").facts
    assert facts.get("rerank") == ({"words": WORDS, "asked": 0} if texts else None)  # twelve are too few
    for queries, known in asked:
        assert queries and not set(queries) & {text for own in known for text in own}
    assert bool(asked) == (texts == 3)


def test_queries_are_weighed_by_what_comes_first(atomic: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = []
    monkeypatch.setattr(Rerank, "fit", lambda *arrays: fitted.append(arrays) or Rerank())
    queries = {"a red thing": 0, "bar of gold": 11}
    prompts = atomic.backbone.query_prompts(list(queries))
    calibration.reranked(atomic.backbone, atomic.trie, prompts, queries, atomic.gallery.captions)
    [(log_p, words, right)] = fitted
    assert log_p.shape == words.shape == right.shape == (2, RERANKED)
    found = beam_search.recall(atomic.backbone, atomic.trie, prompts, 12, 12)
    assert np.isneginf(log_p[:, 12:]).all() and (words[:, 12:] == 0).all()
    for row, image in enumerate(queries.values()):
        assert log_p[row, :12] == pytest.approx(found.scores[row].tolist(), abs=1e-4)
        assert np.flatnonzero(right[row]).tolist() == [found.images[row].tolist().index(image)]

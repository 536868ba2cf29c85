"""A search in an album: both engines answer with its images alone, whatever the identifiers and the backbone."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gcr_core.errors import InputError
from gcr_core.memory.memory import Memory
from gcr_core.retrieval import beam_search

BARS = ["red-bar.png", "green-bar.png", "blue-bar.png", "gold-bar.png"]


def test_both_engines_answer_with_an_albums_images_in_the_order_of_all(memory: Memory) -> None:
    everything = memory.search("a red circle", 12, 100)
    for query, ask in (("a red circle", memory.search), (memory.gallery.open(0), memory.search_image)):
        for top, beams in ((1, 1), (3, 4), (10, 10), (100, 1000)):
            answer = ask(query, top, beams, album="bars")
            for side in ("generative", "dense"):
                assert {hit["file_name"] for hit in answer[side]} <= set(BARS)
            assert len(answer["generative"]) == min(top, beams, 4)
            assert len(answer["dense"]) == min(top, 4)
    answer = memory.search("a red circle", 12, 100, album="bars")
    for side in ("generative", "dense"):
        expected = [hit for hit in everything[side] if hit["file_name"] in BARS]
        assert [hit["file_name"] for hit in answer[side]] == [hit["file_name"] for hit in expected]
        assert [hit["score"] for hit in answer[side]] == pytest.approx([hit["score"] for hit in expected], abs=1e-5)


def test_all_images_are_found_again_afterwards(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    before = memory.recall(["a red circle"], 12, 100)
    memory.search("a red circle", album="bars", trace=True)
    assert memory.recall(["a red circle"], 12, 100) == before
    with monkeypatch.context() as patched:
        patched.setattr(beam_search, "code_logits", None)
        with pytest.raises(TypeError):
            memory.search("a red circle", album="bars")
    assert memory.recall(["a red circle"], 12, 100) == before


def test_an_album_that_there_is_not_is_a_named_error(atomic: Memory) -> None:
    for ask in (atomic.search, lambda query, album: atomic.recall([query], album=album)):
        with pytest.raises(InputError, match="no album 'circles': name one of 1, such as 'bars'"):
            ask("gold", album="circles")
    atomic.forget(BARS)
    with pytest.raises(InputError, match="no album 'bars': this gallery has no albums"):
        atomic.search("gold", album="bars")


def test_queries_in_a_batch_are_restricted_alike(atomic: Memory) -> None:
    queries = ["a red circle", "gold", "a happy dog"] * 80
    hits = atomic.recall(queries, 12, 12, album="bars")
    assert all(sorted(hit.file_name for hit in found) == sorted(BARS) for found in hits)
    assert len(atomic.recall_images([atomic.gallery.open(0)] * 2, 12, 12, album="bars")[1]) == 4


def test_a_trace_counts_the_images_of_the_album(atomic: Memory) -> None:
    (step,) = atomic.search("gold", 12, 12, trace=True, album="bars")["trace"]
    assert [line["images"] for line in step] == [1] * 4


def test_questions_at_once_do_not_restrict_each_other(atomic: Memory) -> None:
    def found(album: str) -> int:
        return len(atomic.search("a red circle", 12, 12, album=album)["generative"])

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(found, ["bars", ""] * 20)) == [4, 12] * 20


def test_albums_are_saved_with_the_memory(atomic: Memory, tmp_path: Path) -> None:
    atomic.save(tmp_path / "memory")
    again = Memory.from_pretrained(tmp_path / "memory", device="cpu")
    assert [hit["file_name"] for hit in again.search("gold", album="bars")["dense"]] == [
        hit["file_name"] for hit in atomic.search("gold", album="bars")["dense"]
    ]


def test_another_album_of_images_without_captions_is_something_to_consolidate(atomic: Memory) -> None:
    atomic.gallery.captions = [[], [], *atomic.gallery.captions[2:]]
    names = atomic.gallery.file_names
    atomic.move(names[1:3], "elsewhere")
    assert atomic.changes == {"added": 0, "forgotten": 0, "captions": 1}
    atomic.move(names[1:3], "elsewhere")
    assert atomic.changes["captions"] == 1, "it is there already"

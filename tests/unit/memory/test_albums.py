"""A search in an album: both engines answer with its images alone, whatever the identifiers and the backbone."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from gcr_core.data.gallery import Gallery
from gcr_core.errors import InputError
from gcr_core.memory.memory import Memory
from gcr_core.models.backbone import Backbone
from gcr_core.retrieval import beam_search
from gcr_core.retrieval.dense import DenseIndex
from gcr_core.retrieval.identifiers import IDENTIFIER_TYPES, Identifiers
from tests import tiny_mini

BARS = ["red-bar.png", "green-bar.png", "blue-bar.png", "gold-bar.png"]


def in_albums(gallery: Gallery) -> Gallery:
    albums = ["bars" if "bar" in name else "" for name in gallery.file_names]
    return Gallery(gallery.root, gallery.file_names, gallery.captions, albums=albums)


@pytest.fixture(scope="session")
def mini_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_mini.save_mini(tmp_path_factory.mktemp("mini"))


@pytest.fixture(params=[f"{kind} {model}" for model in ("llava", "mini") for kind in IDENTIFIER_TYPES])
def memory(
    request: pytest.FixtureRequest, llava_folder: Path, mini_folder: Path, tiny_gallery: Gallery, tiny_clip_dir: Path
) -> Memory:
    """With random weights; of a backbone that generates, and of one with a joint space."""
    kind, model = request.param.split()
    backbone = Backbone.from_pretrained(llava_folder if model == "llava" else mini_folder, device="cpu")
    dense = DenseIndex.build(tiny_gallery, tiny_clip_dir, device="cpu")
    identifiers = Identifiers.build(kind, tiny_gallery, backbone.tokenizer, dense.vectors)
    if backbone.has_joint_space:
        identifiers = identifiers.by_place(backbone.tokenizer)
    memory = Memory(backbone, identifiers, in_albums(tiny_gallery), dense)
    tokens = torch.arange(identifiers.vocabulary, identifiers.vocabulary + len(identifiers.new_tokens))
    backbone.set_rows(tokens, torch.randn(len(tokens), backbone.state_size))  # those of an untrained model are alike
    return memory


@pytest.fixture
def atomic(tiny_memory_dir: Path) -> Memory:
    memory = Memory.from_pretrained(tiny_memory_dir, device="cpu")
    memory.gallery = in_albums(memory.gallery)
    return memory


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

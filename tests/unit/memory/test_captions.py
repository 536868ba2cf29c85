"""Captions given anew after the training: the image answers to them at once, and all others as before."""

import copy
import shutil
from pathlib import Path

import pytest

from gcr_core.data.gallery import Gallery
from gcr_core.errors import GalleryError, InputError
from gcr_core.memory.captions import MOVED_AT_ONCE, recaption
from gcr_core.memory.memory import Memory
from gcr_core.models.backbone import Backbone
from gcr_core.retrieval.dense import DenseIndex
from gcr_core.retrieval.identifiers import Identifiers
from tests import tiny

BAR, OTHERS = "red-bar.png", ["blue-bar.png", "gold-circle.png"]


@pytest.fixture
def folder(tiny_memory_dir: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_memory_dir, tmp_path / "memory")


@pytest.fixture
def memory(folder: Path) -> Memory:
    return Memory.from_pretrained(folder, device="cpu")


def first(memory: Memory, query: str) -> str:
    return memory.recall([query], 1, 12)[0][0].file_name


def captions(memory: Memory, name: str) -> list[str]:
    return memory.gallery.captions[memory.gallery.index(name)]


def test_an_image_is_recalled_at_once_by_the_caption_that_it_got(memory, folder):
    assert recaption(memory, {BAR: ["quick lazy fox"]}) == 0
    assert first(memory, "quick lazy fox") == BAR
    memory.save(folder)
    again = Memory.from_pretrained(folder, device="cpu")
    assert captions(again, BAR) == ["quick lazy fox"]
    assert first(again, "quick lazy fox") == BAR


def test_what_other_images_were_asked_for_is_answered_as_before(memory):
    bar = memory.gallery.index(BAR)
    queries = [text for image, texts in enumerate(memory.gallery.captions) for text in texts if image != bar]
    before = {query: name for query in queries if (name := first(memory, query)) != BAR}
    recaption(memory, {BAR: ["quick lazy fox"]})
    assert {query: first(memory, query) for query in before} == before


def test_the_dense_index_holds_the_image_by_its_new_captions_in_its_place(memory):
    before, bar = memory.dense.vectors, memory.gallery.index(BAR)
    recaption(memory, {BAR: ["quick lazy fox"]})
    expected = memory.dense.fused(memory.dense.embed_images([memory.gallery.open(bar)]), [["quick lazy fox"]])
    after = memory.dense.vectors
    assert after[bar] == pytest.approx(expected[0], abs=1e-6)
    assert abs(after[bar] - before[bar]).max() > 1e-3
    before[bar] = after[bar]
    assert (after == before).all()


def test_changed_captions_of_trained_images_are_counted_until_they_are_trained_in(memory):
    old = captions(memory, BAR)
    recaption(memory, {BAR: [old[0], "corrected"], OTHERS[0]: [*captions(memory, OTHERS[0]), "one", "two"]})
    assert memory.changes == {"added": 0, "forgotten": 0, "captions": 3}
    recaption(memory, {BAR: [old[0], "corrected"]})
    assert memory.changes["captions"] == 3, "the same captions are no change"
    recaption(memory, {BAR: []})
    assert memory.changes["captions"] == 5
    memory.consolidate()
    assert memory.changes == {"added": 0, "forgotten": 0, "captions": 0}


def test_those_of_an_added_image_are_part_of_what_was_added(memory):
    (name,) = memory.add([("new.png", memory.gallery.open(0).rotate(45))], [["crooked"]])
    recaption(memory, {name: ["tilted"]})
    assert memory.changes == {"added": 1, "forgotten": 0, "captions": 0}
    assert first(memory, "tilted") == name


def test_a_caption_of_the_models_that_a_person_takes_away_is_the_models_no_more(memory):
    memory.gallery.pseudo_queries[0] = list(memory.gallery.captions[0])
    kept = memory.gallery.captions[0][1]
    recaption(memory, {memory.gallery.file_names[0]: [kept, "a person's"]})
    assert memory.gallery.pseudo_queries[0] == [kept]
    assert memory.facts["captions"] == sum(map(len, memory.gallery.captions))


def test_an_image_whose_picture_is_not_there_changes_its_words_only(memory, folder):
    (folder / "gallery" / BAR).unlink()
    before = memory.dense.vectors
    assert recaption(memory, {BAR: ["quick lazy fox"]}) == 1
    assert captions(memory, BAR) == ["quick lazy fox"]
    assert (memory.dense.vectors == before).all()


def test_many_at_once_wait_for_consolidation(folder, monkeypatch):
    monkeypatch.setattr("gcr_core.memory.captions.MOVED_AT_ONCE", 1)
    memory = Memory.from_pretrained(folder, device="cpu")
    before = memory.dense.vectors
    assert recaption(memory, {name: ["many"] for name in OTHERS}) == 2
    assert [captions(memory, name) for name in OTHERS] == [["many"], ["many"]]
    assert (memory.dense.vectors == before).all()
    assert MOVED_AT_ONCE > 1


def test_identifiers_that_images_share_tokens_of_are_left_to_consolidation(tiny_gallery, tiny_clip_dir, tmp_path):
    backbone = Backbone.from_pretrained(tiny.save_llava(tmp_path / "llava"), device="cpu")
    dense = DenseIndex.build(tiny_gallery, tiny_clip_dir, device="cpu")
    memory = Memory(
        backbone, Identifiers.build("numeric", tiny_gallery, backbone.tokenizer), copy.deepcopy(tiny_gallery), dense
    )
    before, bar = memory.dense.vectors, memory.gallery.index(BAR)
    recalled = [hit.score for hit in memory.recall(["a red bar"], 12, 12)[0]]
    assert recaption(memory, {BAR: ["quick lazy fox"]}) == 1
    assert [hit.score for hit in memory.recall(["a red bar"], 12, 12)[0]] == recalled
    assert abs(memory.dense.vectors[bar] - before[bar]).max() > 1e-3


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"nothing.png": ["x"]}, GalleryError, "nothing.png"),
        ({BAR: ["x" * 1_001]}, InputError, "1,001 characters, the limit is 1,000"),
    ],
)
def test_what_cannot_be_changes_nothing(memory, given, error, message):
    before = [list(texts) for texts in memory.gallery.captions]
    with pytest.raises(error, match=message):
        recaption(memory, {OTHERS[0]: ["other"]} | given)
    assert memory.gallery.captions == before
    assert memory.changes["captions"] == 0


def test_a_name_that_an_image_was_merged_from_names_it(memory, folder):
    gallery = memory.gallery
    memory.gallery = Gallery(gallery.root, gallery.file_names, gallery.captions, also=[["twin.png"], *[[]] * 11])
    recaption(memory, {"twin.png": ["seen twice"]})
    assert memory.gallery.captions[0] == ["seen twice"]

"""What was forgotten comes back as it was, among what has changed since, for as long as it is kept."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gcr_core.data.gallery import Gallery
from gcr_core.errors import GalleryError, InputError, MemoryFormatError
from gcr_core.memory.forgetting import Forgotten
from gcr_core.memory.memory import Memory
from gcr_core.retrieval.dense import DenseIndex
from gcr_core.retrieval.identifiers import IDENTIFIER_TYPES, Identifiers
from tests import tiny
from tests.unit.memory.test_incremental import picture

GONE = ["red-bar.png", "gold-circle.png", "gold-bar.png"]


@pytest.fixture
def memory(tiny_memory_dir: Path, tmp_path: Path) -> Memory:
    return Memory.from_pretrained(shutil.copytree(tiny_memory_dir, tmp_path / "memory"), device="cpu")


def made(kind: str, folder: Path, gallery: Gallery, clip: Path) -> Memory:
    """With random rows in its embedding and its head, which differ where the two are not tied."""
    backbone = tiny.backbone(folder)
    dense = DenseIndex.build(gallery, clip, device="cpu")
    identifiers = Identifiers.build(kind, gallery, backbone.tokenizer, dense.vectors)
    if backbone.has_joint_space:
        identifiers = identifiers.by_place(backbone.tokenizer)
    albums = [name.split("-")[1] for name in gallery.file_names]
    labelled = Gallery(gallery.root, gallery.file_names, gallery.captions, albums=albums)
    memory = Memory(backbone, identifiers, labelled, dense)
    tokens = torch.arange(identifiers.vocabulary, identifiers.vocabulary + len(identifiers.new_tokens))
    backbone.set_rows(tokens, torch.randn(len(tokens), backbone.state_size))
    if backbone.new_rows is None:
        with torch.no_grad():
            backbone._input_rows()[tokens] += 1
    return memory


def everything(memory: Memory) -> dict[str, object]:
    gallery = memory.gallery
    weights = {name: value.clone() for name, value in memory.backbone.model.state_dict().items()}
    return {
        "rows": list(zip(gallery.file_names, map(str, gallery.captions), gallery.albums, strict=True)),
        "identifiers": [memory.identifiers.sequence(image).tolist() for image in range(len(gallery))],
        "vectors": memory.dense.vectors.tolist(),
        "changes": memory.changes,
        "weights": {name: value.tolist() for name, value in weights.items()},
        "answer": [memory.search("a red circle", 20, 20)[side] for side in ("generative", "dense")],
        "pictures": [gallery.open(image).tobytes() for image in range(len(gallery))],
    }


@pytest.mark.parametrize("model", ["llava", "mini"])
@pytest.mark.parametrize("kind", IDENTIFIER_TYPES)
def test_what_was_forgotten_comes_back_as_it_was(
    kind: str, model: str, llava_folder: Path, mini_folder: Path, tiny_gallery: Gallery, tiny_clip_dir: Path
) -> None:
    memory = made(kind, llava_folder if model == "llava" else mini_folder, tiny_gallery, tiny_clip_dir)
    before = everything(memory)
    forgotten = memory.forget(GONE)
    assert len(memory.gallery) == 9
    assert everything(memory) != before
    memory.restore(forgotten)
    assert everything(memory) == before


def test_single_images_come_back_in_any_order(memory: Memory) -> None:
    memory.rehearse()
    before = everything(memory)
    kept = {name: memory.forget([name]) for name in GONE}
    assert memory.changes["forgotten"] == 3
    for name in (GONE[1], GONE[2], GONE[0]):
        memory.restore(kept[name])
    assert everything(memory) == before
    together = memory.forget(GONE)
    for name in GONE:
        memory.restore(together.only([name]))
    assert everything(memory) == before


def test_they_come_back_among_what_was_added_moved_and_captioned_since(memory: Memory) -> None:
    memory.add([("early.png", picture(1))], [["quick lazy fox"]])
    before = memory.search("quick lazy fox", 20, 20)
    forgotten = memory.forget(["early.png", "blue-bar.png"])
    assert memory.changes == {"added": 0, "forgotten": 1, "captions": 0}
    memory.add([("late.png", picture(2))], [["sleeping over the blocks"]])
    memory.move(["red-bar.png"], "bars")
    memory.restore(forgotten)
    names = memory.gallery.file_names
    assert (names[0], names[-2:]) == ("blue-bar.png", ["early.png", "late.png"])
    assert memory.gallery.albums[memory.gallery.index("red-bar.png")] == "bars"
    assert memory.changes == {"added": 2, "forgotten": 0, "captions": 0}
    assert memory.recall(["sleeping over the blocks"], 1, 20)[0][0].file_name == "late.png"
    assert memory.recall_images([picture(1)], 1, 20)[0][0].file_name == "early.png"
    again = memory.search("quick lazy fox", 20, 20)
    assert [hit["file_name"] for hit in again["generative"] if hit["file_name"] != "late.png"] == [
        hit["file_name"] for hit in before["generative"]
    ]
    known = memory._known
    assert known is not None
    assert sorted(set(known.owners.tolist())) == list(range(14))
    late = memory.backbone.head_rows(torch.from_numpy(memory.identifiers.sequence(13)).long())[0].float()
    assert (known.bars >= (known.states @ late.detach().T)[:, 0] - 1e-4).all(), "the next new row loses these too"


def test_what_cannot_be_brought_back_changes_nothing(memory: Memory) -> None:
    forgotten = memory.forget(["red-bar.png"])
    with pytest.raises(GalleryError, match=r"'gold-bar.png' is not in the gallery of 1 images"):
        forgotten.only(["gold-bar.png"])
    memory.add([("red-bar.png", picture(3))], [[]])
    before = everything(memory)
    with pytest.raises(InputError, match=r"there is an image 'red-bar.png' in the memory: forget that one before"):
        memory.restore(forgotten)
    assert everything(memory) == before
    memory.forget(["red-bar.png"])
    memory.consolidate()
    before = everything(memory)
    with pytest.raises(InputError, match=r"the memory was consolidated since.*add them anew"):
        memory.restore(forgotten)
    assert everything(memory) == before


def test_forgetting_nothing_is_undone_by_bringing_back_nothing(memory: Memory, tmp_path: Path) -> None:
    before = everything(memory)
    memory.forget([]).save(tmp_path / "nothing")
    memory.restore(Forgotten.load(tmp_path / "nothing"))
    assert everything(memory) == before


def test_an_image_is_brought_back_once(memory: Memory) -> None:
    forgotten = memory.forget(["red-bar.png"])
    memory.restore(forgotten)
    with pytest.raises(InputError, match=r"there is an image 'red-bar.png' in the memory"):
        memory.restore(forgotten)


def test_what_was_kept_on_the_disk_comes_back_with_its_pictures(memory: Memory, tmp_path: Path) -> None:
    large = picture(4, 900)
    memory.add([("large.png", large)], [["quick lazy fox"]])
    memory.save(tmp_path / "memory")
    memory = Memory.from_pretrained(tmp_path / "memory", device="cpu")
    before = everything(memory)
    original = memory.gallery.original(12).read_bytes()
    memory.forget(["large.png", "red-bar.png"]).save(tmp_path / "kept")
    memory.save(tmp_path / "memory")
    assert not (tmp_path / "memory" / "originals").exists()
    memory.restore(Forgotten.load(tmp_path / "kept"))
    memory.save(tmp_path / "memory")
    shutil.rmtree(tmp_path / "kept")
    again = Memory.from_pretrained(tmp_path / "memory", device="cpu")
    assert everything(again) == everything(memory) == before
    assert again.gallery.original(12).read_bytes() == original
    assert Image.open(again.gallery.original(12)).size == (900, 900)
    memory.save(tmp_path / "memory")
    with pytest.raises(MemoryFormatError, match=r"holds nothing that was forgotten"):
        Forgotten.load(tmp_path / "kept")


def test_a_picture_that_a_memory_lacks_comes_back_without_it(memory: Memory, tmp_path: Path) -> None:
    memory.gallery.path(0).unlink()
    name = memory.gallery.file_names[0]
    memory.forget([name]).save(tmp_path / "kept")
    memory.save(tmp_path / "memory")
    memory.restore(Forgotten.load(tmp_path / "kept"))
    memory.save(tmp_path / "memory")
    assert [memory.gallery.has_picture(image) for image in (0, 1)] == [False, True]


def test_images_are_moved_to_an_album_and_out_of_it(memory: Memory, tmp_path: Path) -> None:
    memory.move(["red-bar.png", "gold-bar.png"], " my \n bars")
    assert [hit["file_name"] for hit in memory.search("gold", 1, 1, album="my bars")["dense"]]
    memory.move(["red-bar.png"], "")
    memory.save(tmp_path / "memory")
    again = Memory.from_pretrained(tmp_path / "memory", device="cpu")
    assert again.gallery.album_sizes == {"my bars": 1}
    with pytest.raises(InputError, match=r"an album of 201 characters"):
        memory.move(["red-bar.png"], "x" * 201)
    with pytest.raises(GalleryError, match=r"'dog.png' is not in the gallery"):
        memory.move(["red-bar.png", "dog.png"], "bars")


def test_vectors_come_back_into_an_inverted_file_without_a_new_training(monkeypatch: pytest.MonkeyPatch) -> None:
    from gcr_core.retrieval import dense as dense_module

    drawn = np.random.default_rng(0).normal(size=(2_000, 16)).astype(np.float32)
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    monkeypatch.setattr(dense_module, "EXACT_IMAGES", 1_000)
    dense = DenseIndex(None, None, dense_module._make_index(drawn))
    monkeypatch.setattr(dense_module, "_make_index", None)
    gone = [0, 5, 700, 1_999]
    dense.remove(gone)
    dense.insert(gone, drawn[gone])
    assert (dense.vectors == drawn).all()
    assert [hits[0][0] for hits in dense.nearest(drawn, 1)] == list(range(2_000))

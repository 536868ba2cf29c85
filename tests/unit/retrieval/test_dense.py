"""The dense baseline: CLIP vectors and their index."""

import shutil
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
import torch
from transformers import CLIPImageProcessorPil, CLIPModel

from gcr_core.data.gallery import Gallery
from gcr_core.errors import HubError, InputError, MemoryFormatError
from gcr_core.models import clip as clip_module
from gcr_core.models.clip import load_clip
from gcr_core.retrieval import dense as dense_module
from gcr_core.retrieval.dense import DenseIndex
from gcr_core.training.batches import Pairs
from gcr_core.training.train_clip import tune
from tests import tiny


@pytest.fixture(scope="module")
def index(tiny_gallery: Gallery, tiny_clip_dir: Path) -> DenseIndex:
    return DenseIndex.build(tiny_gallery, tiny_clip_dir, device="cpu")


def test_vectors_are_float32_of_length_one(index: DenseIndex) -> None:
    texts = index.embed_texts(["a red circle", "gold"])
    for vectors, count in ((index.vectors, 12), (texts, 2)):
        assert vectors.shape == (count, 16)
        assert vectors.dtype == np.float32
        assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_scores_are_exact_cosines_best_first(index: DenseIndex) -> None:
    (found,) = index.search(["a red circle"], 12)
    cosines = index.vectors @ index.embed_texts(["a red circle"])[0]
    assert [image for image, _ in found] == np.argsort(-cosines).tolist()
    assert np.allclose([score for _, score in found], np.sort(cosines)[::-1], atol=1e-5)


def test_each_picture_finds_itself(index: DenseIndex, tiny_gallery: Gallery) -> None:
    pictures = [tiny_gallery.open(i) for i in range(12)]
    assert [found[0][0] for found in index.search_images(pictures, 1)] == list(range(12))


def test_a_text_has_the_same_vector_alone_and_in_a_batch(index: DenseIndex) -> None:
    texts = ["dog", "a much longer text about a quick brown fox", "cat"]
    together = index.embed_texts(texts)
    alone = np.concatenate([index.embed_texts([text]) for text in texts])
    assert np.allclose(together, alone, atol=1e-5)


def test_more_items_than_a_batch_keep_their_order(index: DenseIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"image {i}" for i in range(7)]
    whole = index.embed_texts(texts)
    monkeypatch.setattr(dense_module, "BATCH", 2)
    assert np.allclose(index.embed_texts(texts), whole, atol=1e-5)


def test_a_text_longer_than_the_tower_is_cut(index: DenseIndex) -> None:
    assert index.embed_texts(["dog " * 500]).shape == (1, 16)


def test_no_query_has_no_result_and_more_top_than_images_gives_all(index: DenseIndex) -> None:
    assert index.search([], 5) == []
    assert len(index.search(["dog"], 500)[0]) == 12


def test_saved_index_loads_the_same(index: DenseIndex, tmp_path: Path) -> None:
    index.save(tmp_path)
    loaded = DenseIndex.load(tmp_path, device="cpu")
    assert (loaded.vectors == index.vectors).all()
    assert loaded.search(["a gold bar"], 5) == index.search(["a gold bar"], 5)


def test_removed_images_are_never_found_again_nor_their_vectors_saved(index: DenseIndex, tmp_path: Path) -> None:
    index.save(tmp_path / "whole")
    dense = DenseIndex.load(tmp_path / "whole", device="cpu")
    expected = [(image, score) for image, score in dense.search(["dog"], 12)[0] if image not in (0, 7)]
    dense.remove([7, 0])
    dense.save(tmp_path / "less")
    for searched in (dense, DenseIndex.load(tmp_path / "less", device="cpu")):
        moved_up = [(image - (image > 0) - (image > 7), score) for image, score in expected]
        assert searched.search(["dog"], 100)[0] == moved_up
        assert (searched.vectors == np.delete(index.vectors, [0, 7], axis=0)).all()


def test_added_images_stand_behind_the_others(index: DenseIndex, tiny_gallery: Gallery, tmp_path: Path) -> None:
    index.save(tmp_path)
    dense = DenseIndex.load(tmp_path, device="cpu")
    dense.add(dense.embed_images([tiny_gallery.open(4).rotate(30)]))
    assert dense.search_images([tiny_gallery.open(4).rotate(30)], 1)[0][0][0] == 12
    assert (dense.vectors[:12] == index.vectors).all()


def test_a_large_gallery_is_searched_through_an_inverted_file(
    index: DenseIndex, tiny_gallery: Gallery, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(dense_module, "EXACT_IMAGES", 5)
    monkeypatch.setattr(dense_module, "CELLS_A_ROOT", 1)
    large = DenseIndex.build(tiny_gallery, (index.model, index.processor))
    assert isinstance(large.index, faiss.IndexIVF)
    exact = [image for image, _ in index.search(["dog"], 5)[0]]
    assert [image for image, _ in large.search(["dog"], 5)[0]] == exact
    large.remove(exact[:2])
    left = [image - sum(gone < image for gone in exact[:2]) for image in exact[2:]]
    assert [image for image, _ in large.search(["dog"], 3)[0]] == left
    large.save(tmp_path)
    assert [image for image, _ in DenseIndex.load(tmp_path, device="cpu").search(["dog"], 3)[0]] == left


@pytest.fixture(scope="module")
def scattered() -> tuple[np.ndarray, np.ndarray]:
    """2,000 vectors and 200 queries with nothing in common: the hardest case for cells."""
    drawn = np.random.default_rng(0).normal(size=(2_200, 16)).astype(np.float32)
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    return drawn[:2_000], drawn[2_000:]


def found(dense: DenseIndex, queries: np.ndarray, top: int) -> np.ndarray:
    return np.array([[image for image, _ in row] for row in dense.nearest(queries, top)])


def test_as_many_cells_are_read_as_find_what_the_exact_search_finds(
    scattered: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    vectors, queries = scattered
    monkeypatch.setattr(dense_module, "EXACT_IMAGES", 1_000)
    index: Any = dense_module._make_index(vectors, queries[:100])
    assert 1 < index.nprobe < index.nlist
    exact = np.argsort(-(queries @ vectors.T), axis=1)[:, :100]
    rows = zip(exact, found(DenseIndex(None, None, index), queries, 100), strict=True)
    assert np.mean([np.isin(*row).mean() for row in rows]) >= 0.95
    faiss.write_index(index, str(tmp_path / "index.faiss"))
    read: Any = faiss.read_index(str(tmp_path / "index.faiss"))
    assert read.nprobe == index.nprobe


def test_every_image_asked_for_is_given_however_few_cells_are_read(
    scattered: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dense_module, "EXACT_IMAGES", 1_000)
    index: Any = dense_module._make_index(scattered[0])
    index.nprobe = 1
    dense = DenseIndex(None, None, index)
    assert sorted(found(dense, scattered[1][:1], 2_000)[0]) == list(range(2_000))


def test_an_inverted_file_takes_in_and_drops_vectors_without_a_new_training(
    scattered: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors, queries = scattered
    monkeypatch.setattr(dense_module, "EXACT_IMAGES", 1_000)
    dense = DenseIndex(None, None, dense_module._make_index(vectors))
    monkeypatch.setattr(dense_module, "_make_index", None)
    dense.add(queries)
    gone = [0, 5, 700, 1_999, 2_100]
    dense.remove(gone[::-1])
    left = np.delete(np.concatenate([vectors, queries]), gone, axis=0)
    assert (dense.vectors == left).all()
    asked = np.delete(np.arange(2_195), slice(5, 2_100))
    assert found(dense, left[asked], 1)[:, 0].tolist() == asked.tolist()


def test_an_inverted_file_that_shrinks_is_searched_exactly_again(
    scattered: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dense_module, "EXACT_IMAGES", 1_000)
    dense = DenseIndex(None, None, dense_module._make_index(scattered[0]))
    dense.remove(range(1_000))
    assert isinstance(dense.index, faiss.IndexFlat)
    assert (dense.vectors == scattered[0][1_000:]).all()


def test_a_siglip_is_trained_saved_and_asked_as_a_clip_is(
    tiny_gallery: Gallery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gcr_core.training.train_clip.SMALL_RATE", 3e-3)
    model, processor = load_clip(tiny.save_siglip(tmp_path / "siglip"), "cpu")
    losses: list[float] = []
    pairs = Pairs.from_captions(tiny_gallery.captions)
    tune(model, processor, tiny_gallery, pairs, 60, 16, on_step=lambda step, loss: losses.append(loss))
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])
    dense = DenseIndex.build(tiny_gallery, (model, processor))
    dense.save(tmp_path / "dense")
    loaded = DenseIndex.load(tmp_path / "dense", device="cpu")
    shown = [tiny_gallery.open(image) for image in range(12)]
    assert [found[0][0] for found in loaded.search_images(shown, 1)] == list(range(12))
    assert loaded.search(["a red circle"], 5) == dense.search(["a red circle"], 5)


def test_siglip_reads_a_text_padded_to_its_whole_length(tmp_path: Path) -> None:
    model, processor = load_clip(tiny.save_siglip(tmp_path / "siglip"), "cpu")
    inputs = processor(text=["a red circle"], padding="max_length", max_length=16, return_tensors="pt")
    with torch.inference_mode():
        vector = model.get_text_features(**inputs).pooler_output[0]
        embedded = DenseIndex(model, processor, faiss.IndexFlatIP(32)).embed_texts(["a red circle"])[0]
    assert inputs["input_ids"].shape == (1, 16)
    assert np.allclose(embedded, vector / vector.norm(), atol=1e-5)


def test_image_processor_needs_no_torchvision(index: DenseIndex) -> None:
    assert isinstance(index.processor.image_processor, CLIPImageProcessorPil)


@pytest.mark.parametrize("clip", ["nowhere", "/nowhere/clip", "a/b/c"])
def test_a_clip_that_is_not_there_is_a_named_error(clip: str) -> None:
    with pytest.raises(HubError, match="checkpoints/gcr-mini-clip"):
        load_clip(clip)


def test_a_folder_without_a_clip_is_a_named_error(tmp_path: Path) -> None:
    with pytest.raises(HubError, match="holds no CLIP"):
        load_clip(tmp_path)


def test_a_clip_that_transformers_would_pool_at_the_wrong_token_is_refused(tiny_clip_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_clip_dir, tmp_path / "clip")
    model, processor = load_clip(tiny_clip_dir, "cpu")
    model.config.text_config.eos_token_id = clip_module.LEGACY_EOS
    processor.tokenizer.eos_token = processor.tokenizer.convert_ids_to_tokens(clip_module.LEGACY_EOS)
    model.save_pretrained(tmp_path / "clip")
    processor.save_pretrained(tmp_path / "clip")
    with pytest.raises(HubError, match="another eos_token_id"):
        load_clip(tmp_path / "clip")


def test_weights_kept_in_half_precision_run_in_float32(tiny_clip_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_clip_dir, tmp_path / "clip")
    CLIPModel.from_pretrained(tiny_clip_dir).half().save_pretrained(tmp_path / "clip")
    assert load_clip(tmp_path / "clip", "cpu")[0].dtype.itemsize == 4


def test_an_index_that_is_missing_damaged_or_of_another_clip_is_a_named_error(
    index: DenseIndex, tmp_path: Path
) -> None:
    with pytest.raises(MemoryFormatError, match=r"no index\.faiss"):
        DenseIndex.load(tmp_path)
    index.save(tmp_path)
    faiss.write_index(faiss.IndexFlatIP(8), str(tmp_path / "index.faiss"))
    with pytest.raises(MemoryFormatError, match="8 numbers"):
        DenseIndex.load(tmp_path)
    for content, complaint in (
        (b"nonsense", "holds no dense index"),
        (b"IwFl" + bytes(99), "is damaged"),
        (b"IxPT" + bytes(99), "no plain list of vectors"),
    ):
        (tmp_path / "index.faiss").write_bytes(content)
        with pytest.raises(MemoryFormatError, match=complaint):
            DenseIndex.load(tmp_path)


def test_an_image_that_cannot_be_opened_is_a_named_error(index: DenseIndex, tmp_path: Path) -> None:
    gallery = Gallery(tmp_path, ["gone.png"], [[]])
    with pytest.raises(InputError, match=r"gone\.png"):
        DenseIndex.build(gallery, (index.model, index.processor))

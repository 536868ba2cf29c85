"""The dense baseline: CLIP vectors and their index."""

import json
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
from gcr_core.files import hub
from gcr_core.models import clip as clip_module
from gcr_core.models.clip import load_clip
from gcr_core.retrieval import dense as dense_module
from gcr_core.retrieval.dense import DenseIndex, Embeddings
from tests import tiny


@pytest.fixture(scope="module")
def index(tiny_gallery: Gallery, tiny_clip_dir: Path) -> DenseIndex:
    return DenseIndex.build(tiny_gallery, tiny_clip_dir, device="cpu")


@pytest.fixture(scope="module")
def pictures(index: DenseIndex, tiny_gallery: Gallery) -> DenseIndex:
    """Without captions."""
    bare = Gallery(tiny_gallery.root, tiny_gallery.file_names, [[]] * 12)
    return DenseIndex.build(bare, (index.model, index.processor))


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


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def test_an_image_is_found_by_its_picture_and_its_captions_alike(index: DenseIndex, tiny_gallery: Gallery) -> None:
    pictures = index.embed_images(tiny_gallery.open(image) for image in range(12))
    texts = np.stack([unit(index.embed_texts(texts).mean(0)) for texts in tiny_gallery.captions])
    assert np.allclose(index.vectors, unit(pictures + texts), atol=1e-5)
    assert np.allclose(index.fused(pictures, tiny_gallery.captions), index.vectors, atol=1e-5)


def test_the_mean_of_all_captions_stands_in_for_those_of_an_image_without_any(
    index: DenseIndex, tiny_gallery: Gallery
) -> None:
    captions = [[], *tiny_gallery.captions[1:]]
    gallery = Gallery(tiny_gallery.root, tiny_gallery.file_names, captions)
    few = DenseIndex.build(gallery, (index.model, index.processor))
    mean = unit(index.embed_texts(text for texts in captions for text in texts).mean(0))
    picture = index.embed_images([tiny_gallery.open(0)])
    assert np.allclose(few.vectors[:1], unit(picture + mean), atol=1e-5)
    assert np.allclose(few.vectors[1:], index.vectors[1:], atol=1e-5)
    assert np.allclose(few.fused(picture, [[]]), few.vectors[:1], atol=1e-5)


def test_without_any_caption_the_index_is_of_pictures_alone(pictures: DenseIndex, tiny_gallery: Gallery) -> None:
    alone = pictures.embed_images(tiny_gallery.open(image) for image in range(12))
    assert np.allclose(pictures.vectors, alone, atol=1e-5)
    assert pictures.fused(alone, tiny_gallery.captions) is alone


def test_each_caption_is_embedded_once_whatever_indexes_are_made_of_it(
    index: DenseIndex, tiny_gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def text_features(model: Any, processor: Any, texts: list[str]) -> torch.Tensor:
        asked.extend(texts)
        return clip_module.text_features(model, processor, texts)

    monkeypatch.setattr(dense_module, "text_features", text_features)
    shared = [[*texts, "a shape"] for texts in tiny_gallery.captions]
    told: list[tuple[int, int]] = []
    gallery = Gallery(tiny_gallery.root, tiny_gallery.file_names, shared)
    clip = index.model, index.processor
    vectors = Embeddings.read(gallery, clip, on_progress=lambda done, total: told.append((done, total)))
    assert np.allclose(vectors.index(tiny_gallery.captions).vectors, index.vectors, atol=1e-5)
    assert not np.allclose(vectors.index(shared).vectors, index.vectors, atol=1e-3)
    assert sorted(asked) == sorted({text for texts in shared for text in texts})
    assert asked == sorted(asked, key=len)
    assert told == [(0, 37), (12, 37), (37, 37)]


def test_each_picture_finds_itself(pictures: DenseIndex, tiny_gallery: Gallery) -> None:
    shown = [tiny_gallery.open(i) for i in range(12)]
    assert [found[0][0] for found in pictures.search_images(shown, 1)] == list(range(12))


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


def test_a_clip_that_others_can_have_is_named_and_any_other_copied(
    index: DenseIndex, tiny_gallery: Gallery, tiny_clip_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "ROOT", tmp_path / "project")
    shipped = tmp_path / "project" / "checkpoints" / "clip"
    shutil.copytree(tiny_clip_dir, shipped)
    snapshot = tmp_path / "models--owner--clip" / "snapshots" / "0123abc"
    snapshot.parent.mkdir(parents=True)
    snapshot.symlink_to(tiny_clip_dir)
    asked: list[str | None] = []

    def download(name: str, revision: str | None = None, **options: Any) -> str:
        asked.append(revision)
        return str(snapshot)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    for clip, name in ((str(shipped), "checkpoints/clip"), ("owner/clip", "owner/clip")):
        folder = tmp_path / name
        DenseIndex.build(tiny_gallery, clip, device="cpu").save(folder)
        assert {path.name for path in folder.iterdir()} == {"index.faiss", "captions.safetensors", "clip.json"}
        named = json.loads((folder / "clip.json").read_text())
        assert named["name"] == name and named["revision"]
        loaded = DenseIndex.load(folder, device="cpu")
        assert loaded.search(["a gold bar"], 5) == index.search(["a gold bar"], 5)
        loaded.save(tmp_path / "again" / name)
        assert json.loads((tmp_path / "again" / name / "clip.json").read_text()) == named
    assert asked == [None, "0123abc"]
    index.save(tmp_path / "whole")
    DenseIndex.load(tmp_path / "whole", device="cpu").save(tmp_path / "whole again")
    for folder in (tmp_path / "whole", tmp_path / "whole again"):
        assert (folder / "clip" / "model.safetensors").is_file() and not (folder / "clip.json").exists()


def test_a_named_clip_that_is_missing_or_another_one_by_now_is_a_named_error(
    tiny_gallery: Gallery, tiny_clip_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "ROOT", tmp_path)
    shipped = tmp_path / "checkpoints" / "clip"
    shutil.copytree(tiny_clip_dir, shipped)
    DenseIndex.build(tiny_gallery, shipped, device="cpu").save(tmp_path / "dense")
    model, _ = load_clip(shipped, "cpu")
    torch.nn.init.zeros_(model.text_projection.weight)
    model.save_pretrained(shipped)
    with pytest.raises(MemoryFormatError, match="of another checkpoints/clip than the one here"):
        DenseIndex.load(tmp_path / "dense", device="cpu")
    shutil.rmtree(shipped)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(HubError, match=r"needs its CLIP 'checkpoints/clip' at revision .* folder that holds it"):
        DenseIndex.load(tmp_path / "dense", device="cpu")
    file = tmp_path / "dense" / "clip.json"
    file.write_text(json.dumps({"name": str(tiny_clip_dir)}))
    assert DenseIndex.load(tmp_path / "dense", device="cpu").index.ntotal == 12
    for text in ("[]", "{}", '{"name": 3}', "nonsense"):
        file.write_text(text)
        with pytest.raises(MemoryFormatError, match="names no model"):
            DenseIndex.load(tmp_path / "dense", device="cpu")


def test_an_index_of_an_earlier_version_takes_in_images_by_their_pictures_alone(
    pictures: DenseIndex, tmp_path: Path
) -> None:
    pictures.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"index.faiss", "clip"}
    assert DenseIndex.load(tmp_path, device="cpu").caption is None


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


def test_a_siglip_is_saved_and_asked_as_a_clip_is(tiny_gallery: Gallery, tmp_path: Path) -> None:
    dense = DenseIndex.build(tiny_gallery, tiny.save_siglip(tmp_path / "siglip"), device="cpu")
    dense.save(tmp_path / "dense")
    loaded = DenseIndex.load(tmp_path / "dense", device="cpu")
    assert np.allclose(np.linalg.norm(loaded.vectors, axis=1), 1, atol=1e-5)
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
    index.save(tmp_path)
    (tmp_path / "captions.safetensors").write_bytes(b"nothing")
    with pytest.raises(MemoryFormatError, match="holds no mean of captions"):
        DenseIndex.load(tmp_path)


def test_an_image_that_cannot_be_opened_is_a_named_error(index: DenseIndex, tmp_path: Path) -> None:
    gallery = Gallery(tmp_path, ["gone.png"], [[]])
    with pytest.raises(InputError, match=r"gone\.png"):
        DenseIndex.build(gallery, (index.model, index.processor))


@pytest.mark.parametrize("exact_images", [5_000, 1_000])
def test_a_search_among_some_images_finds_what_the_exact_search_of_them_finds(
    exact_images: int, scattered: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors, queries = scattered
    monkeypatch.setattr(dense_module, "EXACT_IMAGES", exact_images)
    dense = DenseIndex(None, None, dense_module._make_index(vectors))
    assert isinstance(dense.index, faiss.IndexIVF) == (exact_images < 2_000)
    among = [3, 1_999, *range(40, 60)]
    answers = dense.nearest(queries, 10, among)
    for query, found in zip(queries, answers, strict=True):
        cosines = vectors[among] @ query
        best = cosines.argsort()[::-1][:10]
        assert [image for image, _ in found] == [among[place] for place in best]
        assert [score for _, score in found] == pytest.approx(cosines[best].tolist(), abs=1e-6)
    assert {len(found) for found in dense.nearest(queries, 100, among)} == {22}
    assert {len(found) for found in dense.nearest(queries, 100)} == {100}


def test_an_image_without_captions_is_a_little_like_the_words_of_its_albums_name(
    index: DenseIndex, tiny_gallery: Gallery
) -> None:
    vectors = Embeddings.read(tiny_gallery, (index.model, index.processor))
    half = [[] if image % 2 else texts for image, texts in enumerate(tiny_gallery.captions)]
    albums = ["night city" if image in (1, 2) else "DCIM" for image in range(12)]
    for captions in (half, [[] for _ in half]):
        plain, named = vectors.index(captions), vectors.index(captions, albums)
        asked = index.embed_texts(["night city"])[0]
        gained = (named.vectors - plain.vectors) @ asked
        moved = [image for image in (1, 2) if not captions[image]]
        assert (gained[moved] > 1e-4).all()
        others = [image for image in range(12) if image not in moved]
        assert (named.vectors[others] == plain.vectors[others]).all()

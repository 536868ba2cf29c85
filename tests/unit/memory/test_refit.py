"""Refit: what a memory is asked while it is consolidated, and that its match is of the gallery that it has then."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gcr_core.data.gallery import Gallery
from gcr_core.memory import calibration
from gcr_core.memory.memory import Memory
from gcr_core.models.backbone import Backbone
from gcr_core.retrieval import match
from gcr_core.retrieval.dense import DenseIndex
from gcr_core.retrieval.identifiers import Identifiers

COLOURS = ("red", "green", "blue", "gold")


def facts(engine: str) -> dict[str, Any]:
    """Of a calibration that finds everything as probable as not."""
    names = match.EVIDENCE[engine]
    return match.Calibration(names, (0.0,) * len(names), 0.0, 0.1, 0.3, {}).facts()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What each engine was fitted on: (itself as it was then, what it was asked, of which images)."""
    seen: dict[str, Any] = {}

    def recalled(backbone: Backbone, trie: Any, prompts: Any, owners: list[set[int]]) -> dict[str, Any]:
        rows = backbone.head_rows(backbone.own_vocabulary + first_numbers(len(trie)))[0].detach().clone()
        seen["generative"] = rows, prompts, owners
        return facts("generative")

    def nearest(dense: DenseIndex, vectors: np.ndarray, owners: list[set[int]]) -> dict[str, Any]:
        seen["dense"] = dense.vectors, vectors, owners
        return facts("dense")

    monkeypatch.setattr(calibration, "recalled", recalled)
    monkeypatch.setattr(calibration, "nearest", nearest)
    return seen


def first_numbers(count: int) -> torch.Tensor:
    return torch.arange(count)


def memory_of(gallery: Gallery, backbone_folder: Path, clip: Path) -> Memory:
    backbone = Backbone.from_pretrained(backbone_folder, device="cpu")
    dense = DenseIndex.build(gallery, clip, device="cpu")
    identifiers = Identifiers.build("atomic", gallery, backbone.tokenizer, dense.vectors)
    if backbone.has_joint_space:
        identifiers = identifiers.by_place(backbone.tokenizer)
    return Memory(backbone, identifiers, gallery, dense)


@pytest.fixture
def rows_alone(tiny_gallery: Gallery, mini_folder: Path, tiny_clip_dir: Path) -> Memory:
    """Of a frozen backbone; three captions an image."""
    captions = [
        [f"a {colour} thing", f"{colour} blocks of {image}", f"the {colour} cat {image}"]
        for image, colour in enumerate(COLOURS * 3)
    ]
    gallery = Gallery(tiny_gallery.root, tiny_gallery.file_names, captions)
    return memory_of(gallery, mini_folder, tiny_clip_dir)


def test_captions_are_asked_before_the_rows_and_the_index_have_learnt_them(
    rows_alone: Memory, asked: dict[str, Any]
) -> None:
    memory = rows_alone
    memory.forget(memory.gallery.file_names[-3:])
    memory.consolidate()
    count, images = len(memory.gallery), set(range(len(memory.gallery)))
    for engine in ("generative", "dense"):
        queries, owners = asked[engine][1:]
        assert set().union(*owners[:count]) == images, "one caption of each image, then words"
        assert all(len(own) > 1 for own in owners[count:])
        assert len(queries) > len(owners), "and what is not there"
    rows, vectors = asked["generative"][0], asked["dense"][0]
    after = memory.backbone.head_rows(memory.backbone.own_vocabulary + first_numbers(count))[0]
    assert (rows - after).abs().amax(1).min() > 1e-3
    assert np.abs(vectors - memory.dense.vectors).max(1).min() > 1e-3
    assert len(memory.gallery.captions[0]) == 3
    assert memory.facts["match"] == {"images": count, "generative": facts("generative"), "dense": facts("dense")}
    assert memory.search("a red thing")["match"] == {"generative": 0.5, "dense": 0.5}


def test_where_no_caption_can_be_kept_out_what_was_fitted_holds_on(
    tiny_gallery: Gallery, llava_folder: Path, tiny_clip_dir: Path, asked: dict[str, Any]
) -> None:
    memory = memory_of(tiny_gallery, llava_folder, tiny_clip_dir)
    memory.calibrate({"generative": facts("generative") | {"intercept": 1.0}, "dense": None})
    fitted = dict(memory.facts["match"])
    memory.forget(memory.gallery.file_names[:2])
    memory.consolidate()
    assert memory.facts["match"] == fitted and not asked
    memory.forget(memory.gallery.file_names[:2])
    assert "match" not in memory.search("a red circle"), "8 of 12 images"
    memory.consolidate()
    assert memory.facts["match"]["images"] == len(memory.gallery) == 8
    assert set(memory.search("a red circle")["match"]) == {"generative", "dense"}
    prompts, owners = asked["generative"][1:]
    assert len(prompts) > len(owners) > 0, "parts of captions, and what is not there"

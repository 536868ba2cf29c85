"""Memories with random weights for every type of identifiers and both kinds of backbones, with an album."""

from pathlib import Path

import pytest
import torch

from gcr_core.data.gallery import Gallery
from gcr_core.memory.memory import Memory
from gcr_core.retrieval.dense import DenseIndex
from gcr_core.retrieval.identifiers import IDENTIFIER_TYPES, Identifiers
from tests import tiny


def in_albums(gallery: Gallery) -> Gallery:
    """The tiny gallery, the bars of which are an album."""
    albums = ["bars" if "bar" in name else "" for name in gallery.file_names]
    return Gallery(gallery.root, gallery.file_names, gallery.captions, albums=albums)


@pytest.fixture(params=[f"{kind} {model}" for model in ("llava", "mini") for kind in IDENTIFIER_TYPES])
def memory(
    request: pytest.FixtureRequest, llava_folder: Path, mini_folder: Path, tiny_gallery: Gallery, tiny_clip_dir: Path
) -> Memory:
    """With random weights; of a backbone that generates, and of one with a joint space."""
    kind, model = request.param.split()
    backbone = tiny.backbone(llava_folder if model == "llava" else mini_folder)
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

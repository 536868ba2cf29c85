"""The checkpoints as committed: they load as hub models do, stay small, and the emoji memory answers."""

import random
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import AutoModel, AutoModelForImageTextToText, AutoProcessor

from gcr_core.errors import InputError
from gcr_core.files.layout import WEIGHTS_FILE, weight_files
from gcr_core.memory.memory import Memory
from gcr_core.models import mini  # noqa: F401 - makes gcr-mini known to transformers

ROOT = Path(__file__).parents[2]
CHECKPOINTS = ROOT / "checkpoints"
MAX_BYTES = 120_000_000


@pytest.fixture(scope="module")
def memory():
    return Memory.from_pretrained(CHECKPOINTS / "emoji", device="cpu")


def test_gcr_mini_loads_as_any_hub_model_and_runs_on_text_and_picture():
    processor = AutoProcessor.from_pretrained(CHECKPOINTS / "gcr-mini", backend="pil")
    model = AutoModelForImageTextToText.from_pretrained(CHECKPOINTS / "gcr-mini", dtype=torch.float32)
    assert model.config.model_type == "gcr_mini"
    assert sum(weight.numel() for weight in model.parameters()) < 32_000_000
    inputs = processor(text="<image>", images=Image.new("RGB", (80, 60), "red"), return_tensors="pt")
    assert model(**inputs).logits.isfinite().all()


def test_gcr_mini_clip_loads_as_any_hub_model_and_embeds_both_sides_alike():
    processor = AutoProcessor.from_pretrained(CHECKPOINTS / "gcr-mini-clip", backend="pil")
    model = AutoModel.from_pretrained(CHECKPOINTS / "gcr-mini-clip", dtype=torch.float32)
    assert model.config.model_type == "gcr_mini_clip"
    inputs = processor(text=["a dog"], images=Image.new("RGB", (80, 60)), return_tensors="pt")
    output = model(inputs["input_ids"], inputs["attention_mask"], inputs["pixel_values"])
    assert output.text_embeds.shape == output.image_embeds.shape


def test_gcr_mini_clip_is_gcr_mini_with_another_face_and_shares_its_weights():
    whole, clip = CHECKPOINTS / "gcr-mini", CHECKPOINTS / "gcr-mini-clip"
    assert [file.resolve() for file in weight_files(clip)] == weight_files(whole) == [whole / WEIGHTS_FILE]
    model, loading = AutoModel.from_pretrained(clip, dtype=torch.float32, output_loading_info=True)
    assert not any(loading.values())
    said = AutoModelForImageTextToText.from_pretrained(whole, dtype=torch.float32).state_dict()
    assert model.state_dict().keys() == said.keys()
    assert all(torch.equal(weight, said[name]) for name, weight in model.state_dict().items())


def test_assets_and_checkpoints_stay_under_120_megabytes():
    files = [path for folder in ("assets", "checkpoints") for path in (ROOT / folder).rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < MAX_BYTES


def test_no_checkpoint_holds_a_pickle():
    names = [path.name for path in CHECKPOINTS.rglob("*") if path.is_file()]
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pth", ".pkl"))]


@pytest.mark.parametrize(
    ("query", "relevant"),
    [
        ("a happy dog", {"1f436.png", "1f415.png"}),
        ("Norway", {"1f1f3-1f1f4.png"}),
        ("pizza", {"1f355.png"}),
        ("unicorns", {"1f984.png"}),
    ],
)
def test_the_emoji_memory_recalls_what_a_person_asks_for(memory, query, relevant):
    assert memory.recall([query], top=3)[0][0].file_name in relevant


def test_emoji_ask_for_their_pictures_and_scripts_that_cannot_be_read_find_nothing_that_matches(memory):
    assert memory.gallery.index("1f436.png") in [hit.index for hit in memory.recall(["🐶"], top=3)[0]]
    assert memory.recall(["🇫🇷"])[0][0].file_name == "1f1eb-1f1f7.png"
    assert max(memory.search("ბედნიერი ძაღლი")["match"].values()) < 0.05
    with pytest.raises(InputError, match="ask in words"):
        memory.recall(["ᏣᎳᎩ ᎦᏬᏂᎯᏍᏗ"])


def test_a_query_is_read_once_for_both_sides_of_a_memory_of_gcr_mini(memory, monkeypatch):
    def orders(answer):
        return [[hit["file_name"] for hit in answer[side]] for side in ("generative", "dense", "reranked", "together")]

    once = memory.search("a happy dog")
    monkeypatch.setattr(Memory, "_reads_once", False)
    twice = memory.search("a happy dog")
    assert orders(once) == orders(twice)
    assert once["match"] == pytest.approx(twice["match"], abs=1e-3)
    monkeypatch.undo()
    monkeypatch.setattr(memory.dense, "embed_texts", None)  # nothing is read by it
    assert orders(memory.search("a happy dog")) == orders(once)


def test_a_flag_is_found_under_every_name_that_it_stands_for(memory):
    assert memory.gallery.index("1f1fa-1f1f2.png") == memory.gallery.index("1f1fa-1f1f8.png")
    assert memory.recall(["flag of Spain"])[0][0].index == memory.gallery.index("1f1ea-1f1e6.png")


def test_pictures_of_the_gallery_are_recognised(memory):
    images = random.Random(0).sample(range(len(memory.gallery)), 50)
    found = memory.recall_images([memory.gallery.open(image) for image in images], top=1)
    assert sum(hits[0].index == image for hits, image in zip(found, images, strict=True)) >= 48


def test_a_picture_is_described_from_its_identifier_alone(memory):
    said = memory.describe(["1f355.png", "1f436.png", "1f680.png"])
    assert said == ["pizza", "dog face", "rocket"]

"""gcr-mini and galleries without captions, where the CLIP beside it has other eyes: it learns what that CLIP sees."""

import math

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.nn.functional import normalize
from torch.testing import assert_close

from gcr_core.data.gallery import Gallery
from gcr_core.errors import HubError
from gcr_core.files.layout import WEIGHTS_FILE
from gcr_core.memory.build import make_memory
from gcr_core.memory.memory import Memory
from gcr_core.models.inspection import has_other_eyes
from gcr_core.training.config import PHRASES, PRESETS, Recipe, plan
from gcr_core.training.everyday import bank
from gcr_core.training.rows import Start, start_of
from gcr_core.training.spread import Spread
from gcr_core.training.states import States
from tests import tiny, tiny_mini

pytestmark = pytest.mark.usefixtures("large")

COUNT, CAPTIONED = 300, 6
"""How many phrases are asked; how many images of `half` have captions."""
SCALE = 5_000.0
"""Of a teacher with random weights, whose cosines say little."""


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    saved = tiny.save_siglip(tmp_path_factory.mktemp("teacher"))
    weights = load_file(saved / WEIGHTS_FILE)
    weights["logit_scale"] = torch.full_like(weights["logit_scale"], math.log(SCALE))
    save_file(weights, saved / WEIGHTS_FILE, metadata={"format": "pt"})
    return saved


@pytest.fixture(scope="module")
def bare(tiny_gallery):
    return Gallery(tiny_gallery.root, tiny_gallery.file_names, [[] for _ in tiny_gallery.captions])


@pytest.fixture(scope="module")
def half(tiny_gallery):
    captions = [texts if image < CAPTIONED else [] for image, texts in enumerate(tiny_gallery.captions)]
    return Gallery(tiny_gallery.root, tiny_gallery.file_names, captions)


@pytest.fixture(scope="module")
def states(mini, half):
    return States.read(mini, half, phrases=bank(COUNT))


@pytest.fixture
def few(monkeypatch):
    """Few phrases, which are read in no time."""
    monkeypatch.setattr("gcr_core.training.config.PHRASES", dict.fromkeys(PRESETS, COUNT))


def spread_by(states, mini, images, shift=0.0):
    """A teacher whose vectors of texts are a linear map of what they say, as the best one's are about, and one that is
    none of it by `shift`."""
    draw = torch.Generator().manual_seed(0)
    said = states.of_texts[states.rows(bank(COUNT))][:, : mini.hidden_size]
    vectors = said @ torch.randn(mini.hidden_size, 24, generator=draw)
    vectors = vectors + shift * torch.randn(vectors.shape, generator=draw)
    shown = normalize(torch.randn(images, 24, generator=draw), dim=-1)
    return Spread(bank(COUNT), vectors - vectors.mean(0), shown, torch.zeros(images))


def likeness(scores, others):
    """The mean correlation of images' scores by phrases, (phrases, images) both, without each image's mean."""
    one, two = (normalize(of - of.mean(0), dim=0) for of in (scores, others))
    return (one * two).sum(0).mean().item()


def test_only_gcr_mini_s_own_clip_has_no_other_eyes(teacher, tmp_path, half):
    assert has_other_eyes(teacher) and not has_other_eyes(tiny_mini.save_mini_clip(tmp_path / "clip"))
    (tmp_path / "config.json").write_text("no JSON", encoding="utf-8")
    with pytest.raises(HubError, match="cannot be read"):
        has_other_eyes(tmp_path)
    for preset in PRESETS:
        counts = [plan(half, Recipe(preset=preset), False, True, other).phrases for other in (False, True)]
        assert counts == [0, PHRASES[preset]]


def test_images_without_captions_answer_phrases_as_the_teacher_does(mini, half, states):
    spread = spread_by(states, mini, len(half))
    said = states.of_texts[states.rows(spread.phrases)]
    taught, alone = (said @ start_of(mini, states, half.captions, given).T for given in (spread, None))
    answers, images = spread.said @ spread.shown.T, slice(CAPTIONED, None)
    assert likeness(taught[:, images], answers[:, images]) > 0.9 > 0.5 > likeness(alone[:, images], answers[:, images])
    assert_close(taught[:, :CAPTIONED], alone[:, :CAPTIONED], msg="a caption says more")


def test_what_the_eyes_see_stays_in_a_row_that_a_teacher_says_more_of(mini, half, states):
    spread, images = spread_by(states, mini, len(half), shift=1.0), slice(CAPTIONED, None)
    taught, alone = (Start.of(mini, states, half.captions, given) for given in (spread, None))
    said, words = mini.hidden_size, len(mini.phrase_mean)
    seen = [normalize(start.seen[images, said:words], dim=-1) for start in (taught, alone)]
    assert_close(*seen)
    assert_close(taught.rows[images, words:-1], alone.rows[images, words:-1])
    assert taught.rows.isfinite().all()


def test_a_teacher_that_says_the_same_of_all_leaves_numbers(mini, half, states):
    spread = spread_by(states, mini, len(half))
    mute = Spread(spread.phrases, torch.zeros_like(spread.said), spread.shown, spread.asked)
    assert Start.of(mini, states, half.captions, mute).rows.isfinite().all()


def made(gallery, folder, clip, out, kind="atomic"):
    recipe = Recipe(backbone=str(folder), clip=str(clip), preset="quick", identifiers=kind)
    report = make_memory(gallery, recipe, out, lambda progress: None)
    return report, Memory.from_pretrained(out, device="cpu")


def recalled(memory):
    """(phrases, images): log p."""
    scores = torch.zeros(COUNT, len(memory.gallery))
    for row, hits in enumerate(memory.recall(bank(COUNT), top=len(memory.gallery), beams=len(memory.gallery))):
        for hit in hits:
            scores[row, hit.index] = hit.score
    return scores


def answered(memory):
    """(phrases, images): the logits of the CLIP beside it."""
    spread = Spread.of(memory.dense, bank(COUNT), lambda: memory.dense.vectors, memory.gallery.bare)
    return spread.said @ spread.shown.T


@pytest.mark.slow
@pytest.mark.usefixtures("few")
def test_a_memory_of_a_gallery_without_captions_has_learnt_from_the_clip_that_was_chosen(
    mini_folder, bare, teacher, tmp_path
):
    report, taught = made(bare, mini_folder, teacher, tmp_path / "taught")
    by_itself, alone = made(bare, mini_folder, tiny_mini.save_mini_clip(tmp_path / "clip"), tmp_path / "alone")
    assert (report["phrases"], by_itself["phrases"]) == (COUNT, 0)
    answers = answered(taught)
    assert likeness(recalled(taught), answers) > likeness(recalled(alone), answers) + 0.2

    fractal = Image.effect_mandelbrot((48, 48), (-2, -1, 1, 1), 20).convert("RGB")
    taught.add([("fractal.png", fractal)], [[]])
    taught.consolidate()
    assert likeness(recalled(taught), answered(taught)) > likeness(recalled(alone), answers) + 0.2


@pytest.mark.slow
@pytest.mark.usefixtures("few")
def test_identifiers_of_several_tokens_are_taught_too(mini_folder, half, teacher, tmp_path):
    report, memory = made(half, mini_folder, teacher, tmp_path / "memory", "numeric")
    assert report["phrases"] == COUNT and report["trained_captions"] > 0.8
    assert recalled(memory).isfinite().all()

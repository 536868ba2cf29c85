"""Galleries without captions on backbones of the hub: a backbone learns what a dense encoder says of phrases."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from gcr_core.data.gallery import Gallery
from gcr_core.files.layout import WEIGHTS_FILE
from gcr_core.memory.build import make_memory
from gcr_core.memory.memory import Memory
from gcr_core.models.clip import USUAL_SCALE, load_clip, logit_scale
from gcr_core.retrieval.dense import DenseIndex
from gcr_core.training import spread as spread_module
from gcr_core.training.batches import Pairs
from gcr_core.training.config import PHRASE_ODDS, PHRASES, PRESETS, SOLVE_ROUNDS, Recipe, plan
from gcr_core.training.estimate import estimate
from gcr_core.training.everyday import absent_phrases, bank
from gcr_core.training.spread import DRAWN, GAIN, LIKELIEST, Spread
from tests import tiny, tiny_mini

FAMILIES = {
    "llava": lambda folder: tiny.save_llava(folder, chat=True, hidden=128),
    "interleave": tiny.save_llava_interleave,
    "idefics3": tiny.save_idefics3,
}
SHARP = 500.0
"""The scale of a teacher with random weights, whose cosines say little."""
COUNT = 300
LEARNT = 0.85
"""The share of the KL from even odds to the teacher's that is left, at most, once these were learnt."""


class StopError(Exception):
    """Somebody pressed Stop."""


def made_up(phrases=100, images=40, bare=None, scale=20.0, seed=0):
    draw = torch.Generator().manual_seed(seed)
    said, shown = torch.randn(phrases, 8, generator=draw), torch.randn(images, 8, generator=draw)
    said = scale * torch.nn.functional.normalize(said, dim=-1)
    names = [f"phrase {number}" for number in range(phrases)]
    asked = spread_module._asked(images, range(images) if bare is None else bare)
    return Spread(names, said, torch.nn.functional.normalize(shown, dim=-1), asked)


def odds_of(spread):
    return torch.cat(list(spread.odds()))


@pytest.fixture(scope="module")
def wide():
    patch = pytest.MonkeyPatch()
    patch.setitem(tiny.DECODER, "hidden_size", 64)
    yield
    patch.undo()


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request, wide, tmp_path_factory):
    return FAMILIES[request.param](tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def one_folder(wide, tmp_path_factory):
    return tiny.save_idefics3(tmp_path_factory.mktemp("one"))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A SigLIP whose answers are anything but even."""
    saved = tiny.save_siglip(tmp_path_factory.mktemp("teacher"))
    weights = load_file(saved / WEIGHTS_FILE)
    weights["logit_scale"] = torch.full_like(weights["logit_scale"], math.log(10 * SHARP))
    save_file(weights, saved / WEIGHTS_FILE, metadata={"format": "pt"})
    return saved


@pytest.fixture
def few(monkeypatch):
    """Few phrases, which tiny models read in no time."""
    monkeypatch.setattr("gcr_core.training.config.PHRASES", dict.fromkeys(PRESETS, COUNT))


@pytest.fixture
def bare(tiny_gallery):
    return Gallery(tiny_gallery.root, tiny_gallery.file_names, [[] for _ in tiny_gallery.captions])


def made(gallery, folder, clip, out, preset="quick", on_progress=lambda progress: None, checkpoint=None):
    recipe = Recipe(backbone=str(folder), clip=str(clip), preset=preset)
    return make_memory(gallery, recipe, out, on_progress, checkpoint)


def distances(memory, spread, rows):
    """Mean KL from what is recalled, and from even odds, to what the teacher says of phrases."""
    likely, count = odds_of(spread).double(), len(memory.gallery)
    recalled = torch.zeros(len(rows), count, dtype=torch.double)
    for place, hits in enumerate(memory.recall([spread.phrases[row] for row in rows], top=count, beams=count)):
        for hit in hits:
            recalled[place, hit.index] = hit.score
    said = likely[list(rows)]
    return [float((said * (said.log() - other)).nansum(1).mean()) for other in (recalled, -math.log(count))]


def spread_of(memory, phrases=COUNT):
    pictures = memory.dense.embed_images(map(memory.gallery.open, range(len(memory.gallery))))
    return Spread.of(memory.dense, bank(phrases), lambda: pictures, memory.gallery.bare)


def own_first(memory):
    pictures = list(map(memory.gallery.open, range(len(memory.gallery))))
    return np.mean([hits[0].index == image for image, hits in enumerate(memory.recall_images(pictures, top=1))])


def test_the_bank_has_phrases_and_words_none_of_which_is_asked_as_absent():
    whole = bank(max(PHRASES.values()))
    assert len(whole) == len(set(whole)) == max(PHRASES.values())
    assert not [phrase for phrase in whole if phrase.startswith("#") or not phrase.strip()]
    assert {"dog", "beach"} <= set(whole) and sum(" " in phrase for phrase in whole) == 0.8 * len(whole)
    assert set(bank(100)) <= set(whole) and bank(100) == bank(100) and bank(0) == []
    assert set(absent_phrases([])).isdisjoint(whole)


def test_a_phrase_asks_for_pictures_by_the_softmax_of_cosines_without_their_means(tiny_gallery, tiny_clip_dir):
    dense = DenseIndex.build(tiny_gallery, tiny_clip_dir, device="cpu")
    pictures, phrases = dense.embed_images(map(tiny_gallery.open, range(12))), bank(50)
    cosines = torch.from_numpy(dense.embed_texts(phrases) @ pictures.T)
    expected = (dense.model.logit_scale.exp().item() * (cosines - cosines.mean(0))).softmax(1)
    counted = []
    found = Spread.of(dense, phrases, lambda: pictures, range(12), None, lambda *done: counted.append(done))
    assert_close(odds_of(found), expected)
    assert counted[-1] == (50, 50)


def test_a_clip_that_was_not_trained_on_pairs_has_a_scale_too(tiny_clip_dir, tmp_path):
    learnt, _ = load_clip(tiny_clip_dir)
    assert logit_scale(learnt) == pytest.approx(learnt.logit_scale.exp().item())
    assert logit_scale(load_clip(tiny_mini.save_mini_clip(tmp_path))[0]) == USUAL_SCALE


def test_what_the_teacher_said_is_kept_and_not_asked_again(tiny_gallery, tiny_clip_dir, tmp_path):
    dense = DenseIndex.build(tiny_gallery, tiny_clip_dir, device="cpu")
    pictures, kept = dense.embed_images(map(tiny_gallery.open, range(12))), tmp_path / "checkpoint" / "phrases"
    first = Spread.of(dense, bank(20), lambda: pictures, [3], kept)
    again = Spread.of(dense, bank(20), lambda: pytest.fail("pictures were embedded again"), [3], kept)
    assert_close(odds_of(again), odds_of(first))


def test_phrases_ask_for_bare_images_more_but_a_few_of_these_do_not_answer_everything():
    for count in (1, 12, 30, 39):
        some = odds_of(made_up(bare=range(count), scale=0.0))[0]
        times = some[0] * 40
        assert 1 < times <= GAIN + 1e-4 and some[-1] > 0
        assert_close(some[:count], some[:1].expand(count))
    assert_close(odds_of(made_up(bare=[], scale=0.0))[0], odds_of(made_up(scale=0.0))[0])


def test_pairs_of_a_small_gallery_are_the_spread_and_of_a_large_one_the_same_in_the_mean():
    small = made_up()
    pairs = small.pairs()
    assert_close(
        torch.zeros(100, 40).scatter(1, torch.tensor(pairs.images).long(), torch.tensor(pairs.weights)), odds_of(small)
    )
    large = made_up(phrases=400, images=3 * (LIKELIEST + DRAWN), scale=2.0)
    pairs, odds = large.pairs(), odds_of(large)
    assert pairs.images.shape == (400, LIKELIEST + DRAWN)
    assert np.allclose(pairs.weights.sum(1), 1, atol=1e-5)
    drawn = torch.zeros_like(odds).scatter_add(1, torch.tensor(pairs.images).long(), torch.tensor(pairs.weights))
    rest = odds.sort(1, descending=True).indices[:, LIKELIEST:]
    mean, expected = (of.gather(1, rest).sort(1).values.mean(0).sum() for of in (drawn, odds))
    assert mean == pytest.approx(expected, rel=1e-3)
    about = torch.randn(odds.shape[1], generator=torch.Generator().manual_seed(1))
    assert_close(drawn @ about, odds @ about, atol=0.15, rtol=0)
    assert (drawn @ about).mean() == pytest.approx((odds @ about).mean(), abs=0.01)


def test_a_caption_is_asked_more_often_than_a_phrase():
    captions = Pairs.from_captions([["a", "b"], ["b"], []]).oftener({"b"}, 4.0)
    both = Pairs.joined(captions, made_up(phrases=30, images=3).pairs())
    assert both.texts == ["a", "b", *(f"phrase {number}" for number in range(30))]
    assert both.odds[1] / both.odds[0] == pytest.approx(4)
    assert both.odds[:2].mean() / both.odds[2] == pytest.approx(1 / PHRASE_ODDS)
    assert both.odds.sum() == pytest.approx(1)
    assert both.images[0].tolist() == [0, -1, -1] and both.weights[1].tolist() == [0.5, 0.5, 0]
    alone = made_up(phrases=30, images=3).pairs()
    assert Pairs.joined(None, alone) is alone


def test_phrases_are_asked_only_where_an_image_has_no_caption_and_words_do_not_meet_pictures(tiny_gallery, bare):
    half = replaced(tiny_gallery, range(6))
    for preset in PRESETS:
        recipe = Recipe(preset=preset)
        counts = [plan(gallery, recipe, small=False).phrases for gallery in (bare, half, tiny_gallery)]
        assert counts == [PHRASES[preset], PHRASES[preset], 0]
        assert plan(bare, recipe, small=False, joint=True).phrases == 0
        assert plan(bare, recipe, small=False).trained == "solved", "rows learn all that is said"
        assert plan(bare, replace(recipe, identifiers="numeric"), small=False).retrieve > 0
    assert plan(half, Recipe(preset="balanced"), small=False).trained == "adapter"


def replaced(gallery, captionless):
    captions = [[] if image in captionless else texts for image, texts in enumerate(gallery.captions)]
    return Gallery(gallery.root, gallery.file_names, captions)


@pytest.mark.slow
@pytest.mark.usefixtures("large", "few")
def test_a_gallery_without_captions_is_memorised_and_words_are_answered_as_the_teacher_answers(
    folder, bare, teacher, tmp_path
):
    told = []
    report = made(bare, folder, teacher, tmp_path / "memory", on_progress=told.append)
    memory = Memory.from_pretrained(tmp_path / "memory", device="cpu")
    assert report["memorized"] == 1.0 and own_first(memory) == 1.0
    assert (report["phrases"], report["captions"], report["trained_captions"], report["retrieved"]) == (
        COUNT,
        0,
        None,
        None,
    )
    assert [line for line in report["remarks"] if f"found by what {teacher.name} sees in them" in line]
    assert {"dense", "read", "retrieve"} <= {progress.stage for progress in told}
    learnt, even = distances(memory, spread_of(memory), range(0, COUNT, 3))
    assert learnt < LEARNT * even
    hits = memory.recall(["a dog on the beach"], top=12, beams=12)[0]
    assert len(hits) == 12 and hits[0].score > hits[-1].score


@pytest.mark.usefixtures("large", "few")
def test_gcr_mini_clip_teaches_too(one_folder, bare, tmp_path, monkeypatch):
    monkeypatch.setattr("gcr_core.models.clip.USUAL_SCALE", SHARP)
    clip = tiny_mini.save_mini_clip(tmp_path / "clip")
    report = made(bare, one_folder, clip, tmp_path / "memory")
    memory = Memory.from_pretrained(tmp_path / "memory", device="cpu")
    learnt, even = distances(memory, spread_of(memory), range(0, COUNT, 3))
    assert report["memorized"] == 1.0 and learnt < LEARNT * even


@pytest.mark.slow
@pytest.mark.usefixtures("large", "few")
@pytest.mark.parametrize("preset", ["quick", "balanced"])
def test_captions_of_some_images_are_known_and_the_others_answer_phrases(
    preset, one_folder, tiny_gallery, teacher, tmp_path
):
    half = replaced(tiny_gallery, range(6))
    report = made(half, one_folder, teacher, tmp_path / "memory", preset)
    memory = Memory.from_pretrained(tmp_path / "memory", device="cpu")
    assert memory.backbone.has_lora == (preset == "balanced")
    assert (report["memorized"], report["trained_captions"]) == (1.0, 1.0)
    texts = [(text, image) for image, texts in enumerate(half.captions) for text in texts]
    assert [hits[0].index for hits in memory.recall([text for text, _ in texts], top=1)] == [own for _, own in texts]
    learnt, even = distances(memory, spread_of(memory), range(0, COUNT, 3))
    assert learnt < LEARNT * even


@pytest.mark.usefixtures("large", "few")
def test_a_memory_without_captions_that_was_stopped_goes_on_without_asking_the_teacher_again(
    one_folder, bare, teacher, tmp_path, monkeypatch
):
    def stop(progress):
        if progress.stage == "retrieve":
            raise StopError

    arguments = bare, one_folder, teacher, tmp_path / "memory", "quick"
    with pytest.raises(StopError):
        made(*arguments, stop, tmp_path / "checkpoint")
    monkeypatch.setattr(spread_module, "logit_scale", lambda model: pytest.fail("the teacher was asked again"))
    report = made(*arguments, checkpoint=tmp_path / "checkpoint")
    assert report["memorized"] == 1.0 and report["phrases"] == COUNT


@pytest.mark.slow
@pytest.mark.usefixtures("large", "few")
def test_consolidation_keeps_what_the_teacher_said_and_asks_it_about_what_came_in(one_folder, bare, teacher, tmp_path):
    made(bare, one_folder, teacher, tmp_path / "memory")
    memory = Memory.from_pretrained(tmp_path / "memory", device="cpu")
    fractal = Image.effect_mandelbrot((48, 48), (-2, -1, 1, 1), 20).convert("RGB")
    memory.add([("fractal.png", fractal)], [[]])
    steps = []
    memory.consolidate(steps.append)
    assert steps[-1].step == SOLVE_ROUNDS and own_first(memory) == 1.0
    learnt, even = distances(memory, spread_of(memory), range(0, COUNT, 3))
    assert learnt < LEARNT * even


@pytest.mark.slow
@pytest.mark.usefixtures("large", "few")
def test_an_adapter_of_a_gallery_without_captions_is_consolidated(one_folder, bare, teacher, tmp_path):
    recipe = Recipe(backbone=str(one_folder), clip=str(teacher), identifiers="numeric", preset="quick")
    make_memory(bare, recipe, tmp_path / "memory", lambda progress: None)
    memory = Memory.from_pretrained(tmp_path / "memory", device="cpu")
    assert memory.backbone.has_lora
    steps = []
    memory.forget(["gold-bar.png"])
    memory.consolidate(steps.append)
    assert {step.task for step in steps} == {"queries", "pictures"}, "there is nothing to describe"


@pytest.mark.usefixtures("large", "few")
def test_an_estimate_of_a_gallery_without_captions_counts_phrases(one_folder, bare, tiny_clip_dir, monkeypatch):
    recipe = Recipe(backbone=str(one_folder), clip=str(tiny_clip_dir))
    seconds = {"read": 10.0, "caption": 1.0, "look": 0.0, "image": 0.0, "queries": 0.0, "pictures": 0.0}
    monkeypatch.setattr("gcr_core.training.estimate.seconds_a_step", lambda *_: seconds)
    monkeypatch.setattr("gcr_core.training.estimate._seconds_a_vector", lambda *_: seconds)
    counted = estimate(bare, recipe)["quick"]
    assert counted - (COUNT + 16) * 10 - COUNT == pytest.approx(0, abs=COUNT), "models are loaded in less"


def test_an_estimate_of_a_gallery_without_captions_is_measured(one_folder, bare, tiny_clip_dir, large):
    seconds = estimate(bare, Recipe(backbone=str(one_folder), clip=str(tiny_clip_dir)))
    assert 0 < seconds["quick"] < seconds["balanced"] < seconds["thorough"]

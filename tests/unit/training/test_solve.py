"""Rows solved for on frozen states: what they know, what they pay for, and memories made so."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gcr_core.data.gallery import Gallery
from gcr_core.memory.build import make_memory
from gcr_core.memory.memory import Memory
from gcr_core.models import backbone as backbone_module
from gcr_core.models import inspection as inspection_module
from gcr_core.models.backbone import Backbone
from gcr_core.retrieval.identifiers import Identifiers
from gcr_core.training import solve
from gcr_core.training import states as states_module
from gcr_core.training.batches import Pairs, text_inputs
from gcr_core.training.config import PRESETS, SOLVE_ROUNDS, Recipe, Training, plan
from gcr_core.training.estimate import estimate
from gcr_core.training.solve import memorize_solved
from gcr_core.training.states import States
from tests import tiny

pytestmark = pytest.mark.usefixtures("large")

FAMILIES = {
    "llava": lambda folder: tiny.save_llava(folder, chat=True),
    "interleave": tiny.save_llava_interleave,
    "idefics3": tiny.save_idefics3,
}
FEATURES = 24
"""The numbers of a made-up state."""


class StopError(Exception):
    """Somebody pressed Stop."""


@pytest.fixture(scope="session", params=FAMILIES)
def folder(request, tmp_path_factory):
    return FAMILIES[request.param](tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="session")
def one_folder(tmp_path_factory):
    return tiny.save_idefics3(tmp_path_factory.mktemp("one"))


def prepared(folder, gallery):
    backbone = Backbone.from_pretrained(folder, device="cpu", dtype=torch.float32)
    backbone.adapt(lora=False)
    identifiers = Identifiers.build("atomic", gallery, backbone.tokenizer)
    backbone.add_tokens(identifiers.new_tokens)
    return backbone, identifiers


def made_up(images, captions, apart, seed=0):
    """States of `images` pictures, seen twice, and of so many captions each, and the captions' names.

    All of an image agree in half of the numbers; in the others, which vary `apart` times as much, they are random.
    """
    draw = np.random.default_rng(seed)
    means = draw.normal(size=(images, FEATURES // 2))

    def of_image(image, scale):
        return np.concatenate([means[image], apart * draw.normal(size=FEATURES // 2)]) * scale + 3.0

    texts = [[f"{image} {caption}" for caption in range(captions)] for image in range(images)]
    said = [of_image(image, 1.0) for image in range(images) for _ in range(captions)]
    seen = [[of_image(image, 0.2) for image in range(images)] for _ in range(2)]
    names = {text: row for row, text in enumerate(text for of_one in texts for text in of_one)}
    of_texts, of_pictures = (torch.tensor(np.array(of), dtype=torch.float32) for of in (said, seen))
    return States(names, of_texts.view(-1, FEATURES), of_pictures, torch.zeros(0, FEATURES)), texts


class Rows:
    """As much of a backbone as is solved for."""

    def set_rows(self, tokens, rows):
        self.rows = rows


def solved(states, pairs, training, images, on_step=lambda step: None, last=None):
    backbone = Rows()
    tokens = np.arange(images, dtype=np.int32)
    identifiers = Identifiers("atomic", np.arange(images + 1), tokens, [], 0)
    known = memorize_solved(backbone, identifiers, pairs, training, on_step, last, states)
    return backbone.rows, known


def training_of(images, captions):
    gallery = Gallery(Path("nowhere"), [f"{image}.png" for image in range(images)], [["word"] * captions] * images)
    return plan(gallery, Recipe(preset="quick"), small=False)


def share(states, rows, owners):
    return ((states @ rows.T).argmax(1) == owners).float().mean().item()


def test_a_gallery_whose_states_were_solved_for_is_known_by_real_recall(folder, tiny_gallery, tiny_memory):
    backbone, identifiers = prepared(folder, tiny_gallery)
    states = States.read(backbone, tiny_gallery).with_worn(backbone, tiny_gallery, 0)
    steps = []
    training = plan(tiny_gallery, Recipe(preset="quick"), small=False)
    before = {name: weight.clone() for name, weight in backbone.model.named_parameters() if "new" not in name}
    known = memorize_solved(
        backbone, identifiers, Pairs.from_captions(tiny_gallery.captions), training, steps.append, None, states
    )
    assert known and steps[-1].memorized == 1.0 and steps[-1].step == training.steps == 2 * SOLVE_ROUNDS
    memory = Memory(backbone, identifiers, tiny_gallery, tiny_memory.dense)
    asked = [text for texts in tiny_gallery.captions for text in texts]
    assert [hits[0].index for hits in memory.recall(asked, top=1)] == [image for image in range(12) for _ in range(2)]
    pictures = list(map(tiny_gallery.open, range(12)))
    assert [hits[0].index for hits in memory.recall_images(pictures, top=1)] == list(range(12))
    now = dict(backbone.model.named_parameters())
    frozen = [name for name in before if not name.endswith((".embedded", ".said"))]
    assert frozen and all(torch.equal(before[name], now[name]) for name in frozen)


def test_texts_are_read_behind_a_shared_prefix_as_alone(folder, tiny_gallery):
    backbone = Backbone.from_pretrained(folder, device="cpu", dtype=torch.float32)
    uneven = Gallery(tiny_gallery.root, tiny_gallery.file_names, [["gold"], ["a happy dog runs over the red boat"]] * 6)
    states = States.read(backbone, uneven)
    with torch.inference_mode():
        for text, row in states.texts.items():
            alone = backbone.hidden(**text_inputs(backbone, [text]))[0][0, -1]
            torch.testing.assert_close(states.of_texts[row], alone, atol=1e-4, rtol=0)


def test_what_pictures_show_in_a_small_part_of_their_states_is_learnt_beside_words():
    states, texts = made_up(30, 4, apart=1.0)
    rows, known = solved(states, Pairs.from_captions(texts), training_of(30, 4), 30)
    assert known
    assert share(states.of_pictures[0], rows, torch.arange(30)) == 1.0
    assert share(states.of_texts, rows, torch.arange(30).repeat_interleave(4)) == 1.0


def test_unseen_captions_and_views_are_answered_by_what_the_seen_ones_of_an_image_agree_in(monkeypatch):
    states, texts = made_up(30, 6, apart=2.0)
    taught = Pairs.from_captions([of_one[:4] for of_one in texts])
    unseen = states.of_texts[states.rows([text for of_one in texts for text in of_one[4:]])]
    owners = torch.arange(30).repeat_interleave(2)
    rows, _ = solved(states, taught, training_of(30, 4), 30)
    monkeypatch.setattr(solve, "PRICE", 1e-9)
    free, known = solved(states, taught, training_of(30, 4), 30)
    assert known
    assert share(unseen, rows, owners) > max(0.9, share(unseen, free, owners))


def test_worn_copies_teach_what_tells_nothing_where_each_image_is_seen_once():
    states, texts = made_up(30, 1, apart=2.0)
    once = replace(states, of_pictures=states.of_pictures[:1])
    unseen, owners = states.of_pictures[1], torch.arange(30)
    noise = np.concatenate(
        [np.zeros((40, FEATURES // 2)), np.random.default_rng(1).normal(size=(40, FEATURES // 2))], 1
    )
    worn = replace(once, worn=torch.tensor(0.4 * noise, dtype=torch.float32))
    pairs, training = Pairs.from_captions(texts), training_of(30, 1)
    with_worn, without = (solved(some, pairs, training, 30)[0] for some in (worn, once))
    assert share(unseen, with_worn, owners) > share(unseen, without, owners)


def test_a_caption_of_several_images_is_known_by_any_of_them():
    states, texts = made_up(6, 2, apart=0.5)
    texts[1][0] = texts[4][0] = texts[0][0]
    rows, known = solved(states, Pairs.from_captions(texts), training_of(6, 2), 6)
    log_p = (states.of_texts[states.rows([texts[0][0]])] @ rows.T).log_softmax(1)[0]
    assert known
    assert set(log_p.topk(3).indices.tolist()) == {0, 1, 4}


@pytest.mark.parametrize("images", [1, 5])
def test_a_gallery_without_captions_knows_its_pictures(images):
    states, _ = made_up(images, 0, apart=0.5)
    steps = []
    training = Training(SOLVE_ROUNDS, describe=0, retrieve=0, trained="solved")
    rows, known = solved(states, None, training, images, steps.append)
    assert known and rows.isfinite().all() and rows.shape == (images, FEATURES)
    assert {(step.stage, step.task) for step in steps} == {("memorise", "pictures")}
    assert steps[-1].step == training.steps == SOLVE_ROUNDS


def test_held_out_captions_are_asked_before_they_are_taught():
    states, texts = made_up(12, 3, apart=30.0)
    kept, last = Pairs.from_captions([of_one[:2] for of_one in texts]), Pairs.from_captions(texts)
    training, unseen = training_of(12, 3), states.of_texts[states.rows([of_one[2] for of_one in texts])]
    shares, backbone = [], Rows()

    def on_step(step):
        if step.step in (training.steps - training.finish, training.steps):
            shares.append((step.stage, share(unseen, backbone.rows, torch.arange(12))))

    identifiers = Identifiers("atomic", np.arange(13), np.arange(12, dtype=np.int32), [], 0)
    memorize_solved(backbone, identifiers, kept, training, on_step, last, states)
    (before, first), (after, second) = shares
    assert (before, after) == ("retrieve", "finish") and first < 0.5 and second == 1.0


def test_states_that_are_the_same_are_said_not_to_be_known():
    states, texts = made_up(10, 2, apart=0.5)
    states.of_pictures[:, :5] = states.of_pictures[:, :1]
    rows, known = solved(states, Pairs.from_captions(texts), training_of(10, 2), 10)
    assert not known and rows.isfinite().all()


def test_a_listener_that_raises_stops_the_solving():
    def stop(step):
        raise StopError

    states, texts = made_up(6, 2, apart=0.5)
    with pytest.raises(StopError):
        solved(states, Pairs.from_captions(texts), training_of(6, 2), 6, stop)


def test_a_reading_that_was_stopped_goes_on_with_what_is_left(one_folder, tiny_gallery, tmp_path, monkeypatch):
    backbone = Backbone.from_pretrained(one_folder, device="cpu", dtype=torch.float32)
    backbone.takes_features = False
    whole = States.read(backbone, tiny_gallery)
    monkeypatch.setattr(states_module, "READ_TOGETHER", 8)
    read = []

    def counted(backbone, inputs):
        read.append(len(inputs["input_ids"]))
        return state_of(backbone, inputs)

    def stop(done, total):
        if done > 6:
            raise StopError

    state_of = states_module.state_of
    monkeypatch.setattr(states_module, "state_of", counted)
    with pytest.raises(StopError):
        States.read(backbone, tiny_gallery, on_look=stop, folder=tmp_path)
    assert read == [8, 8, 8, 8], "all texts and the first pictures"
    again = States.read(backbone, tiny_gallery, folder=tmp_path)
    assert read == [8, 8, 8, 8, 4]
    torch.testing.assert_close(again.of_texts, whole.of_texts, atol=1e-4, rtol=0)
    torch.testing.assert_close(again.of_pictures, whole.of_pictures, atol=1e-4, rtol=0)


def test_a_few_worn_copies_are_read_the_same_ones_for_a_seed(one_folder, tiny_gallery, monkeypatch):
    monkeypatch.setattr(states_module, "WORN", 5)
    backbone = Backbone.from_pretrained(one_folder, device="cpu", dtype=torch.float32)
    states = States.read(backbone, tiny_gallery)
    worn, same, other = (states.with_worn(backbone, tiny_gallery, seed).worn for seed in (0, 0, 1))
    assert worn.shape == (10, 32) and torch.equal(worn, same) and not torch.equal(worn, other)
    assert worn[:5].norm(dim=1).min() > 0, "no picture is as it was"
    assert worn.norm(dim=1).max() < states.of_texts.norm(dim=1).mean()


def test_only_quick_with_one_token_an_image_is_solved_for(tiny_gallery):
    kinds = {
        (preset, type): plan(tiny_gallery, Recipe(preset=preset, identifiers=type), small=False).trained
        for preset in PRESETS
        for type in ("atomic", "structured", "numeric")
    }
    assert [kind for kind, trained in kinds.items() if trained == "solved"] == [("quick", "atomic")]
    assert set(kinds.values()) == {"solved", "adapter"}
    assert plan(tiny_gallery, Recipe(preset="quick"), small=False, joint=True).trained == "rows"


def test_an_estimate_has_seconds_for_every_preset(one_folder, tiny_gallery, tiny_clip_dir, monkeypatch):
    for takes_features in (True, False):
        monkeypatch.setattr(Backbone, "takes_features", takes_features)
        seconds = estimate(tiny_gallery, Recipe(backbone=str(one_folder), clip=str(tiny_clip_dir)))
        assert min(seconds.values()) > 0 and seconds["balanced"] < seconds["thorough"]


@pytest.fixture(scope="module")
def memory_dir(one_folder, tiny_gallery, tiny_clip_dir, tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setattr(backbone_module, "SMALL_PARAMETERS", 0)
    patch.setattr(inspection_module, "SMALL_PARAMETERS", 0)
    out = tmp_path_factory.mktemp("solved") / "memory"
    recipe = Recipe(backbone=str(one_folder), clip=str(tiny_clip_dir), preset="quick")
    make_memory(tiny_gallery, recipe, out, lambda progress: None)
    patch.undo()
    return out


@pytest.fixture
def memory(memory_dir):
    return Memory.from_pretrained(memory_dir, device="cpu")


def test_a_memory_holds_its_rows_and_says_what_it_knows(memory, memory_dir):
    assert {path.name for path in (memory_dir / "model").iterdir()} == {"rows.safetensors"}
    told = json.loads((memory_dir / "memory.json").read_text())["training"]
    assert (told["memorized"], told["trained_captions"]) == (1.0, 1.0)
    assert not memory.backbone.has_lora and not memory.backbone.model.training


def test_a_memory_of_rows_describes_nothing(memory):
    assert memory.describe(memory.gallery.file_names[:2]) == ["", ""]


def test_a_memory_takes_in_images_forgets_and_is_consolidated(memory, tmp_path):
    fractal = Image.effect_mandelbrot((48, 48), (-2, -1, 1, 1), 20).convert("RGB")
    memory.add([("fractal.png", fractal)], [["a fractal of the brown fox"]])
    everything = [(text, image) for image, texts in enumerate(memory.gallery.captions) for text in texts]

    def right():
        hits = memory.recall([text for text, _ in everything], top=1)
        return [one[0].index == image for one, (_, image) in zip(hits, everything, strict=True)]

    assert right()[-1] and sum(right()) >= len(everything) - 2, "numbers are few in a tiny state"
    memory.save(tmp_path / "memory")
    memory = Memory.from_pretrained(tmp_path / "memory", device="cpu")
    steps = []
    memory.consolidate(steps.append)
    assert all(right()) and steps[-1].step == 2 * SOLVE_ROUNDS
    memory.forget(["red-circle.png"])
    assert len(memory.recall(["a red circle"], top=100, beams=20)[0]) == 12


@pytest.mark.slow
def test_what_frozen_states_cannot_tell_an_adapter_learns_from_the_rows_on_and_after_a_stop_too(
    one_folder, tiny_gallery, tiny_clip_dir, tmp_path, monkeypatch
):
    monkeypatch.setattr("gcr_core.training.solve.ENOUGH", 1.1)
    recipe = Recipe(backbone=str(one_folder), clip=str(tiny_clip_dir), preset="quick")
    told = []

    def stop(progress):
        told.append(progress)
        if progress.steps > 2 * SOLVE_ROUNDS and progress.stage == "describe":
            raise StopError

    with pytest.raises(StopError):
        make_memory(tiny_gallery, recipe, tmp_path / "memory", stop, tmp_path / "checkpoint")
    done = told[-1].step
    told.clear()
    report = make_memory(tiny_gallery, recipe, tmp_path / "memory", told.append, tmp_path / "checkpoint")
    tuned = [progress for progress in told if progress.steps > 2 * SOLVE_ROUNDS and progress.step]
    assert tuned[0].step == done + 1 and tuned[0].stage == "describe", "it goes on from the checkpoint"
    assert (tmp_path / "memory" / "model" / "adapter_model.safetensors").is_file()
    assert min(report["memorized"], report["trained_captions"]) > 0.7, "what the rows knew is not lost"


@pytest.mark.slow
def test_an_adapter_begins_with_rows_that_know_the_gallery(one_folder, tiny_gallery, tiny_clip_dir, tmp_path):
    first = []

    def stop(progress):
        if progress.step:
            first.append(progress.loss)
            raise StopError

    for identifiers in ("atomic", "numeric"):
        recipe = Recipe(backbone=str(one_folder), clip=str(tiny_clip_dir), identifiers=identifiers)
        with pytest.raises(StopError):
            make_memory(tiny_gallery, recipe, tmp_path / "memory", stop)
    solved, unsolved = first
    assert solved < 0.7 < unsolved

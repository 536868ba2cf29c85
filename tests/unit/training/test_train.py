"""Memorising: the training loss is the decoder's score; targets divide over a step's codes; a gallery is learnt."""

import contextlib
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageChops

from gcr_core.errors import GcrError
from gcr_core.memory.memory import Memory
from gcr_core.models.backbone import Backbone
from gcr_core.retrieval.beam_search import score_all
from gcr_core.retrieval.identifiers import IDENTIFIER_TYPES, Identifiers
from gcr_core.retrieval.trie import IdentifierTrie
from gcr_core.training.augment import augment, misspell, vary
from gcr_core.training.batches import Pairs, PictureBatches, QueryBatches, TextBatches, text_inputs
from gcr_core.training.config import STAGES, Training
from gcr_core.training.train import IdentifierLoss, image_states, memorize


def untrained(folder, gallery, kind):
    backbone = Backbone.from_pretrained(folder, device="cpu")
    vectors = np.random.default_rng(0).normal(size=(len(gallery), 4)).astype(np.float32)
    return backbone, Identifiers.build(kind, gallery, backbone.tokenizer, vectors)


def prepared(folder, gallery, kind):
    backbone, identifiers = untrained(folder, gallery, kind)
    backbone.add_tokens(identifiers.new_tokens)
    return backbone, identifiers, IdentifierTrie.build(identifiers.indptr, identifiers.tokens)


@pytest.fixture(scope="module")
def tokenizer(llava_folder):
    return Backbone.from_pretrained(llava_folder, device="cpu").tokenizer


@pytest.mark.parametrize("kind", IDENTIFIER_TYPES)
def test_loss_of_one_image_is_minus_the_score_that_decoding_gives_it(kind, llava_folder, tiny_gallery):
    backbone, _, trie = prepared(llava_folder, tiny_gallery, kind)
    queries = ["a red circle", "gold", "the bar in blue, or a square"]
    images = torch.tensor([[0], [7], [11]])
    with torch.inference_mode():
        loss = IdentifierLoss(backbone, trie)(text_inputs(backbone, queries), images, torch.ones(3, 1))
    scores = [
        score_all(backbone, trie, prompt)[image].item()
        for prompt, image in zip(backbone.query_prompts(queries), (0, 7, 11), strict=True)
    ]
    assert loss.tolist() == pytest.approx([-score for score in scores], abs=1e-4)


def test_soft_targets_of_atomic_identifiers_are_weighted_scores(llava_folder, tiny_gallery):
    backbone, _, trie = prepared(llava_folder, tiny_gallery, "atomic")
    weights = torch.tensor([[0.5, 0.3, 0.2]])
    with torch.inference_mode():
        loss = IdentifierLoss(backbone, trie)(
            text_inputs(backbone, ["blue"]), torch.tensor([[4, 9, -1]]), weights * torch.tensor([1, 1, 0])
        )
    scores = score_all(backbone, trie, backbone.query_prompts(["blue"])[0])
    assert loss.item() == pytest.approx(-(0.5 * scores[4] + 0.3 * scores[9]).item() / 0.8, abs=1e-4)


def test_captions_ask_for_all_their_images_alike():
    pairs = Pairs.from_captions([["cat", "pet"], ["dog", "pet"], []])
    asked = {
        text: {int(image): float(weight) for image, weight in zip(images, weights, strict=True) if image >= 0}
        for text, images, weights in zip(pairs.texts, pairs.images, pairs.weights, strict=True)
    }
    assert asked == {"cat": {0: 1.0}, "pet": {0: 0.5, 1: 0.5}, "dog": {1: 1.0}}
    assert pairs.odds.sum() == pytest.approx(1)


def test_a_gallery_without_captions_cannot_be_retrieved_and_says_so():
    with pytest.raises(GcrError, match="0 captions"):
        Pairs.from_captions([[], []])


def test_a_training_has_a_step_at_least():
    with pytest.raises(GcrError, match="at least 1"):
        Training(memorise=0, describe=0, retrieve=0)


def test_stages_follow_each_other_and_later_ones_go_on_with_the_earlier_tasks():
    training = Training(memorise=4, describe=6, retrieve=40, finish=10, pictures_every=3, descriptions_every=8)
    stages = [training.stage(step) for step in range(training.steps)]
    assert [stages.count(stage) for stage in STAGES] == [4, 6, 40, 10]
    assert sorted(stages, key=STAGES.index) == stages
    tasks = {stage: {training.task(step) for step in range(60) if stages[step] == stage} for stage in STAGES}
    assert tasks["memorise"] == {"pictures"}
    assert tasks["describe"] == {"pictures", "descriptions"}
    assert tasks["retrieve"] == {"pictures", "descriptions", "queries"}


def test_states_of_images_have_length_one_with_and_without_captions(llava_folder, tiny_gallery):
    backbone = Backbone.from_pretrained(llava_folder, device="cpu")
    bare = type(tiny_gallery)(tiny_gallery.root, tiny_gallery.file_names, [[], *tiny_gallery.captions[1:]])
    states = image_states(backbone, bare)
    assert states.shape == (12, backbone.hidden_size)
    assert np.linalg.norm(states, axis=1) == pytest.approx(np.ones(12), abs=1e-4)
    with_captions = image_states(backbone, tiny_gallery)
    assert states[1:] == pytest.approx(with_captions[1:], abs=1e-4)
    assert not np.allclose(states[0], with_captions[0], atol=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["atomic", "structured"])
def test_a_small_gallery_is_recalled_from_its_pictures_and_captions(kind, llava_folder, tiny_gallery, tiny_memory):
    backbone, identifiers = untrained(llava_folder, tiny_gallery, kind)
    pairs = Pairs.from_captions(tiny_gallery.captions)
    training = Training(memorise=15, describe=10, retrieve=200, pictures_every=2, queries=24, pictures=12)
    seen = []
    memorize(backbone, tiny_gallery, identifiers, pairs, training, seen.append)
    assert [step.step for step in seen] == list(range(1, 226))
    assert seen[-1].memorized == 1.0
    memory = Memory(backbone, identifiers, tiny_gallery, tiny_memory.dense)
    shown = memory.recall_images([tiny_gallery.open(image) for image in range(12)])
    asked = memory.recall([texts[0] for texts in tiny_gallery.captions])
    assert [hits[0].index for hits in shown + asked] == [*range(12), *range(12)]


class StopError(Exception):
    """Stands for whatever ends a training before its end."""


@pytest.mark.slow
def test_a_training_that_was_stopped_goes_on_as_if_it_had_not_been(llava_folder, tiny_gallery, tmp_path):
    pairs = Pairs.from_captions(tiny_gallery.captions)
    training = Training(memorise=4, describe=4, retrieve=12, finish=4, queries=8, pictures=6, descriptions_every=4)

    def losses(until=24, checkpoint=None):
        backbone, identifiers = untrained(llava_folder, tiny_gallery, "atomic")
        seen = []

        def on_step(step):
            seen.append(step.loss)
            if step.step == until:
                raise StopError

        with contextlib.suppress(StopError):
            memorize(backbone, tiny_gallery, identifiers, pairs, training, on_step, checkpoint=checkpoint)
        return seen

    whole = losses()
    assert losses() == whole
    assert losses(until=9, checkpoint=tmp_path) + losses(checkpoint=tmp_path) == pytest.approx(whole, rel=1e-5)


def test_the_last_pairs_are_trained_on_in_the_last_stage_only(llava_folder, tiny_gallery, monkeypatch):
    backbone, identifiers = untrained(llava_folder, tiny_gallery, "atomic")
    kept = Pairs.from_captions([texts[:1] for texts in tiny_gallery.captions])
    read: dict[str, set[str]] = {"retrieve": set(), "finish": set()}
    stage = ["retrieve"]
    draw = QueryBatches.draw

    def watched(self, number):
        read[stage[0]].update(self.pairs.texts)
        return draw(self, number)

    monkeypatch.setattr(QueryBatches, "draw", watched)
    training = Training(memorise=0, describe=0, retrieve=6, finish=6, queries=8, pictures=6)

    def on_step(step):
        stage[0] = "finish" if step.step >= 6 else "retrieve"

    memorize(backbone, tiny_gallery, identifiers, kept, training, on_step, Pairs.from_captions(tiny_gallery.captions))
    assert read["retrieve"] == {texts[0] for texts in tiny_gallery.captions}
    assert read["finish"] == {text for texts in tiny_gallery.captions for text in texts}


def test_pictures_that_are_mistaken_are_drawn_more_often(llava_folder, tiny_gallery):
    backbone = Backbone.from_pretrained(llava_folder, device="cpu")
    batches = PictureBatches(backbone, tiny_gallery, size=3, seed=0)
    batches.learnt(np.arange(12), torch.tensor([2.0, *[0.0] * 11]))
    drawn = torch.cat([batches.draw(step)[1] for step in range(20)])[:, 0].tolist()
    assert drawn.count(0) >= 15
    assert len(set(drawn)) > 6
    assert batches.known == pytest.approx(11 / 12)


def test_a_batch_depends_on_the_seed_and_its_number_alone(tokenizer, tiny_gallery):
    pairs = Pairs.from_captions(tiny_gallery.captions)

    def drawn(seed, numbers):
        batches = TextBatches(tokenizer, pairs, 4, seed)
        return {number: (batches.draw(number)[0], batches.draw(number)[1].tolist()) for number in numbers}

    forth, back = drawn(0, range(40)), drawn(0, reversed(range(40)))
    assert forth == back
    assert forth != drawn(1, range(40))


def test_texts_are_drawn_as_often_as_their_odds_say(tokenizer, tiny_gallery):
    pairs = Pairs.from_captions(tiny_gallery.captions)
    odds = np.arange(1.0, len(pairs.odds) + 1)
    batches = TextBatches(tokenizer, replace(pairs, odds=odds / odds.sum()), 5, seed=0)
    counts = np.bincount(np.concatenate([batches.draw(number)[1] for number in range(4)]), minlength=len(odds))
    assert counts.sum() == 4 * 5
    assert np.abs(counts - 4 * 5 * batches.pairs.odds).max() < 1


def test_a_batch_holds_a_text_once_where_there_are_enough(tokenizer, tiny_gallery):
    pairs = Pairs.from_captions(tiny_gallery.captions)
    batches = TextBatches(tokenizer, pairs, 5, seed=0)
    for number in range(40):
        assert len(set(batches.draw(number)[1])) == 5


def test_texts_of_a_batch_have_about_equally_many_tokens(tokenizer, tiny_gallery):
    texts = ["gold", "👩‍👩‍👧‍👦", "red", "👨‍👩‍👧", "bar", "🏴‍☠️"]
    pairs = Pairs(texts, np.zeros((6, 1), np.int32), np.ones((6, 1), np.float32), np.full(6, 1 / 6))
    batches = TextBatches(tokenizer, pairs, 3, seed=0)
    assert {frozenset(batches.draw(number)[1]) for number in range(2)} == {frozenset({0, 2, 4}), frozenset({1, 3, 5})}


def test_a_slip_changes_a_text_by_at_most_one_letter_and_leaves_a_short_one():
    draws = random.Random(0)
    all_slipped = [misspell("happy dog", draws) for _ in range(200)]
    assert len(set(all_slipped)) > 10
    for slipped in all_slipped:
        assert abs(len(slipped) - len("happy dog")) <= 1
        assert sorted(set(slipped) - set("happy dog")) == []
    assert misspell("cat", draws) == "cat"


def test_a_long_query_may_lose_words_but_never_all_of_them():
    draws, caption = random.Random(0), "two small children in red shirts playing"
    varied = {vary(caption, draws) for _ in range(300)}
    shorter = [text for text in varied if len(text.split()) < 7]
    assert shorter and all(text for text in varied)
    assert caption in varied


def test_a_perturbed_picture_is_rgb_another_one_and_as_large_as_asked_for():
    picture = Image.effect_mandelbrot((64, 64), (-2, -1, 1, 1), 20).convert("RGB")
    changed = augment(picture, 64, random.Random(1))
    assert changed.mode == "RGB"
    assert 40 <= changed.width == changed.height <= 96
    assert ImageChops.difference(changed.resize((64, 64)), picture).getbbox() is not None

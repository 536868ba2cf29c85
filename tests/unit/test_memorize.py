"""Memorising: the training loss is the decoder's score; targets divide over a step's codes; a gallery is learnt."""

import random

import numpy as np
import pytest
import torch
from PIL import Image, ImageChops

from gcr_core.backbone import Backbone
from gcr_core.decoding import score_all
from gcr_core.errors import GcrError
from gcr_core.identifiers import IDENTIFIER_TYPES, Identifiers
from gcr_core.memorize import (
    IdentifierLoss,
    Pairs,
    PictureBatches,
    Training,
    image_states,
    memorize,
    misspell,
    perturb,
    text_inputs,
)
from gcr_core.memory import Memory
from gcr_core.trie import IdentifierTrie


def prepared(folder, gallery, kind):
    backbone = Backbone.from_pretrained(folder, device="cpu")
    vectors = np.random.default_rng(0).normal(size=(len(gallery), 4)).astype(np.float32)
    identifiers = Identifiers.build(kind, gallery, backbone.tokenizer, vectors)
    backbone.add_tokens(identifiers.new_tokens)
    return backbone, identifiers, IdentifierTrie.build(identifiers.indptr, identifiers.tokens)


@pytest.mark.parametrize("kind", IDENTIFIER_TYPES)
def test_loss_of_one_image_is_minus_the_score_that_decoding_gives_it(kind, llava_folder, tiny_gallery):
    backbone, _, trie = prepared(llava_folder, tiny_gallery, kind)
    queries = ["a red circle", "gold", "the bar in blue, or a square"]
    images = torch.tensor([[0], [7], [11]])
    with torch.inference_mode():
        loss = IdentifierLoss(backbone, trie)(text_inputs(backbone, queries), images, torch.ones(3, 1))
    scores = [
        score_all(backbone, trie, backbone.query_prompt(query))[image].item()
        for query, image in zip(queries, (0, 7, 11), strict=True)
    ]
    assert loss.tolist() == pytest.approx([-score for score in scores], abs=1e-4)


def test_soft_targets_of_atomic_identifiers_are_weighted_scores(llava_folder, tiny_gallery):
    backbone, _, trie = prepared(llava_folder, tiny_gallery, "atomic")
    weights = torch.tensor([[0.5, 0.3, 0.2]])
    with torch.inference_mode():
        loss = IdentifierLoss(backbone, trie)(
            text_inputs(backbone, ["blue"]), torch.tensor([[4, 9, -1]]), weights * torch.tensor([1, 1, 0])
        )
    scores = score_all(backbone, trie, backbone.query_prompt("blue"))
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


def test_training_time_must_be_positive():
    with pytest.raises(GcrError, match="above 0"):
        Training(0)


def test_states_of_images_have_length_one_with_and_without_captions(llava_folder, tiny_gallery):
    backbone = Backbone.from_pretrained(llava_folder, device="cpu")
    bare = type(tiny_gallery)(tiny_gallery.root, tiny_gallery.file_names, [[], *tiny_gallery.captions[1:]])
    states = image_states(backbone, bare)
    assert states.shape == (12, backbone.hidden_size)
    assert np.linalg.norm(states, axis=1) == pytest.approx(np.ones(12), abs=1e-4)
    with_captions = image_states(backbone, tiny_gallery)
    assert states[1:] == pytest.approx(with_captions[1:], abs=1e-4)
    assert not np.allclose(states[0], with_captions[0], atol=1e-2)


@pytest.mark.parametrize("kind", ["atomic", "structured"])
def test_a_small_gallery_is_recalled_from_its_pictures_and_captions(kind, llava_folder, tiny_gallery, tiny_memory):
    backbone, identifiers, _ = prepared(llava_folder, tiny_gallery, kind)
    pairs = Pairs.from_captions(tiny_gallery.captions)
    stages = []

    class LearntError(Exception):
        pass

    def until_learnt(progress):
        stages.append(progress.stage)
        if progress.step % 25 == 0 and progress.step >= 150:
            backbone.model.eval()
            memory = Memory(backbone, identifiers, tiny_gallery, tiny_memory.dense)
            shown = memory.recall_images([tiny_gallery.open(image) for image in range(12)])
            asked = memory.recall([texts[0] for texts in tiny_gallery.captions])
            if [hits[0].index for hits in shown + asked] == [*range(12), *range(12)]:
                raise LearntError
            backbone.model.train()

    training = Training(seconds=90, memorising=0.1, pictures_every=1, queries=24, pictures=12)
    with pytest.raises(LearntError):
        memorize(backbone, tiny_gallery, identifiers, pairs, training, until_learnt)
    assert stages[0] == "memorise"


def test_pictures_that_are_mistaken_are_drawn_more_often(llava_folder, tiny_gallery):
    backbone = Backbone.from_pretrained(llava_folder, device="cpu")
    batches = PictureBatches(backbone, tiny_gallery, Training(1, pictures=3))
    batches.learnt(torch.arange(12)[:, None], torch.tensor([2.0, *[0.0] * 11]))
    drawn = torch.cat([batches.draw()[1] for _ in range(20)])[:, 0].tolist()
    assert drawn.count(0) >= 15
    assert len(set(drawn)) > 6


def test_a_slip_changes_a_long_text_by_at_most_one_letter_and_leaves_a_short_one():
    draws = random.Random(0)
    for _ in range(200):
        slipped = misspell("happy dog", draws)
        assert abs(len(slipped) - len("happy dog")) <= 1
        assert sorted(set(slipped) - set("happy dog")) == []
    assert misspell("cat", draws) == "cat"


def test_a_perturbed_picture_is_rgb_and_another_one():
    picture = Image.effect_mandelbrot((64, 64), (-2, -1, 1, 1), 20).convert("RGB")
    changed = perturb(picture, random.Random(1))
    assert changed.mode == "RGB"
    assert ImageChops.difference(changed.resize((64, 64)), picture).getbbox() is not None

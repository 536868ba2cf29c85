"""Beam search against brute force, on tiny models with random weights."""

import copy
import math
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from PIL import Image

from gcr_core.models.backbone import Backbone
from gcr_core.retrieval.beam_search import code_log_probabilities, log_softmax_among, recall, score_all
from gcr_core.retrieval.identifiers import IDENTIFIER_TYPES, Identifiers
from gcr_core.retrieval.trie import IdentifierTrie
from tests import tiny

IMAGES = 60
CAPTIONS = [["dog"], ["a happy dog"], ["red boat"], ["dog"], ["a sleeping cat in bed"]]
QUERIES = ["a dog", "a happy dog runs over the red boat with a slice of pizza", "x", "🐶 in bed"]


class FakeGallery:
    captions = CAPTIONS * (IMAGES // len(CAPTIONS))

    def __len__(self):
        return IMAGES


def memorised(folder, kind):
    """A backbone with random rows for new tokens, and the trie of 60 images."""
    return copy.deepcopy(_memorised(folder, kind))


@cache
def _memorised(folder, kind):
    torch.manual_seed(2)
    backbone = Backbone.from_pretrained(folder)
    vectors = np.random.default_rng(0).normal(size=(IMAGES, 8)).astype(np.float32)
    identifiers = Identifiers.build(kind, FakeGallery(), backbone.tokenizer, vectors)
    backbone.add_tokens(identifiers.new_tokens)
    new = range(identifiers.vocabulary, identifiers.vocabulary + len(identifiers.new_tokens))
    backbone.set_rows(new, torch.randn(len(new), backbone.hidden_size))
    return backbone, IdentifierTrie.build(identifiers.indptr, identifiers.tokens)


@pytest.fixture(params=IDENTIFIER_TYPES)
def llava(request, llava_folder):
    return memorised(llava_folder, request.param)


@pytest.fixture
def structured(llava_folder):
    return memorised(llava_folder, "structured")


@pytest.fixture
def semantic(llava_folder):
    return memorised(llava_folder, "semantic")


def prompts(backbone, queries=QUERIES):
    return backbone.query_prompts(queries)


def pictures(backbone):
    return backbone.image_inputs([Image.new("RGB", (32, 32), "red"), Image.new("RGB", (40, 64), "teal")])


def check_ranking(images, scores, brute_force):
    """The same scores in the same order, each image's own."""
    expected = brute_force.sort(descending=True).values[: len(scores)]
    torch.testing.assert_close(scores, expected, rtol=0, atol=1e-3)
    torch.testing.assert_close(scores, brute_force[images], rtol=0, atol=1e-3)
    assert len(set(images.tolist())) == len(images)


def test_as_many_beams_as_images_is_brute_force_for_a_batch_of_unequal_queries(llava):
    backbone, trie = llava
    recalled = recall(backbone, trie, prompts(backbone), beams=IMAGES, top=IMAGES)
    for row, prompt in enumerate(prompts(backbone)):
        check_ranking(recalled.images[row], recalled.scores[row], score_all(backbone, trie, prompt))


def test_as_many_beams_as_images_is_brute_force_for_pictures(llava):
    backbone, trie = llava
    inputs = pictures(backbone)
    recalled = recall(backbone, trie, inputs, beams=IMAGES, top=IMAGES)
    for row in range(2):
        one = {name: value[row : row + 1] for name, value in inputs.items()}
        check_ranking(recalled.images[row], recalled.scores[row], score_all(backbone, trie, one))


@pytest.mark.parametrize("kind", IDENTIFIER_TYPES)
def test_as_many_beams_as_images_is_brute_force_behind_a_chat_template(kind, idefics3_folder):
    backbone, trie = memorised(idefics3_folder, kind)
    recalled = recall(backbone, trie, prompts(backbone), beams=IMAGES, top=IMAGES)
    for row, prompt in enumerate(prompts(backbone)):
        check_ranking(recalled.images[row], recalled.scores[row], score_all(backbone, trie, prompt))
    inputs = backbone.image_inputs([Image.new("RGB", (32, 32), "red")])
    recalled = recall(backbone, trie, inputs, beams=IMAGES, top=IMAGES)
    check_ranking(recalled.images[0], recalled.scores[0], score_all(backbone, trie, inputs))


@pytest.mark.parametrize("beams", [1, 3, 10])
def test_a_batch_recalls_what_each_query_recalls_alone(llava, beams):
    backbone, trie = llava
    together = recall(backbone, trie, prompts(backbone), beams, top=beams)
    for row, prompt in enumerate(prompts(backbone)):
        alone = recall(backbone, trie, [prompt], beams, top=beams)
        assert together.images[row].tolist() == alone.images[0].tolist()
        torch.testing.assert_close(together.scores[row], alone.scores[0], rtol=0, atol=1e-3)


def test_scores_are_the_sum_of_log_p_over_the_codes_of_each_step(structured):
    backbone, trie = structured
    (prompt,) = backbone.query_prompts(["a dog"])
    recalled = recall(backbone, trie, [prompt], beams=5, top=1)
    sequence = trie.paths()[recalled.images[0, 0]]
    total = 0.0
    for depth, token in enumerate(sequence[sequence >= 0].tolist()):
        ids = torch.tensor([prompt + sequence[:depth].tolist()])
        logits = backbone.model(input_ids=ids).logits[0, -1]
        codes = trie.depth_tokens[depth].tolist()
        total += logits[codes].log_softmax(0)[codes.index(token)].item()
    assert recalled.scores[0, 0].item() == pytest.approx(total, abs=1e-3)


def test_code_log_probabilities_carry_gradients_to_head_and_states(structured):
    backbone, trie = structured
    recall(backbone, trie, prompts(backbone), beams=2, top=2)
    states = torch.randn(2, backbone.hidden_size, requires_grad=True)
    codes = trie.to("cpu").head_rows[0]
    code_log_probabilities(backbone, states, codes)[:, 0].sum().backward()
    assert states.grad.abs().sum() > 0
    assert backbone.head()[0].grad[codes].abs().sum() > 0


def test_scattered_and_consecutive_codes_score_alike(structured):
    backbone, _ = structured
    states = torch.randn(2, backbone.hidden_size)
    together = code_log_probabilities(backbone, states, slice(400, 410))
    scattered = code_log_probabilities(backbone, states, torch.arange(400, 410))
    torch.testing.assert_close(together, scattered)


def test_images_come_best_first_and_once(llava):
    backbone, trie = llava
    recalled = recall(backbone, trie, prompts(backbone), beams=10, top=10)
    assert recalled.images.dtype == torch.int64 and recalled.scores.dtype == torch.float32
    for images, scores in zip(recalled.images, recalled.scores, strict=True):
        found = images[images >= 0].tolist()
        assert found and len(set(found)) == len(found)
        assert (scores[: len(found)].diff() <= 0).all()


def test_no_more_images_than_beams(llava):
    backbone, trie = llava
    recalled = recall(backbone, trie, prompts(backbone), beams=3, top=10)
    assert recalled.images.shape == recalled.scores.shape == (len(QUERIES), 10)
    assert (recalled.images[:, 3:] == -1).all()
    assert (recalled.scores[:, 3:] == -torch.inf).all()


def test_more_beams_than_images_recall_every_image(llava):
    backbone, trie = llava
    recalled = recall(backbone, trie, prompts(backbone), beams=1000, top=100)
    assert recalled.images.shape == (len(QUERIES), 100)
    for row in recalled.images:
        assert sorted(row[:IMAGES].tolist()) == list(range(IMAGES))
        assert (row[IMAGES:] == -1).all()


def test_one_image_is_recalled_for_certain(llava_folder):
    backbone = tiny.backbone(llava_folder)
    trie = IdentifierTrie.build(np.array([0, 2]), np.array([20, 21]))
    recalled = recall(backbone, trie, prompts(backbone), beams=10, top=2)
    assert recalled.images.tolist() == [[0, -1]] * len(QUERIES)
    torch.testing.assert_close(recalled.scores[:, 0], torch.zeros(len(QUERIES)))


def test_forgotten_images_are_never_recalled(llava):
    backbone, trie = llava
    best = recall(backbone, trie, prompts(backbone), beams=IMAGES, top=10).images[0].tolist()
    trie.forget(best[:5])
    recalled = recall(backbone, trie, prompts(backbone), beams=IMAGES, top=IMAGES)
    for row, prompt in enumerate(prompts(backbone)):
        found = recalled.images[row]
        assert sorted(found[found >= 0].tolist()) == sorted(set(range(IMAGES)) - set(best[:5]))
        brute_force = score_all(backbone, trie, prompt)
        assert (brute_force[best[:5]] == -torch.inf).all()
        check_ranking(found[found >= 0], recalled.scores[row][found >= 0], brute_force)


def test_a_restriction_recalls_its_images_with_few_beams(llava):
    backbone, trie = llava
    trie.restrict([7, 31, 44])
    recalled = recall(backbone, trie, prompts(backbone), beams=3, top=10)
    assert [sorted(row[:3].tolist()) for row in recalled.images] == [[7, 31, 44]] * len(QUERIES)
    assert (recalled.images[:, 3:] == -1).all()
    trie.restrict(None)
    assert (recall(backbone, trie, prompts(backbone), beams=IMAGES, top=IMAGES).images >= 0).all()


def test_nothing_live_recalls_nothing(llava):
    backbone, trie = llava
    trie.restrict([])
    recalled = recall(backbone, trie, prompts(backbone), beams=3, top=4, trace=True)
    assert (recalled.images == -1).all() and recalled.images.shape == (len(QUERIES), 4)
    assert (recalled.scores == -torch.inf).all()
    assert recalled.trace == [[]] * len(QUERIES)


def test_no_prompts_recall_nothing(structured):
    backbone, trie = structured
    assert recall(backbone, trie, [], beams=3, top=4).images.shape == (0, 4)


def test_a_finished_identifier_competes_with_unfinished_ones(llava_folder):
    backbone = tiny.backbone(llava_folder)
    sequences = [[20], [21, 30], [21, 31, 40], [22, 30, 41, 50], [22, 32]]
    indptr = np.cumsum([0] + [len(sequence) for sequence in sequences])
    trie = IdentifierTrie.build(indptr, np.concatenate(sequences))
    recalled = recall(backbone, trie, prompts(backbone), beams=5, top=5)
    for row, prompt in enumerate(prompts(backbone)):
        check_ranking(recalled.images[row], recalled.scores[row], score_all(backbone, trie, prompt))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(
    st.lists(
        st.lists(st.integers(20, 26), max_size=4).map(lambda word: [*word, 2]),
        min_size=1,
        max_size=12,
        unique_by=tuple,
    ),
    st.integers(1, 15),
)
def test_any_tree_is_searched_without_repeats_and_exactly_with_enough_beams(one_llava, sequences, beams):
    indptr = np.cumsum([0] + [len(sequence) for sequence in sequences])
    trie = IdentifierTrie.build(indptr, np.concatenate(sequences))
    (prompt,) = one_llava.query_prompts(["a dog"])
    recalled = recall(one_llava, trie, [prompt], beams, top=15)
    found = recalled.images[0][recalled.images[0] >= 0]
    brute_force = score_all(one_llava, trie, prompt)
    assert 1 <= len(found) <= min(beams, len(sequences))
    assert len(set(found.tolist())) == len(found)
    torch.testing.assert_close(recalled.scores[0][: len(found)], brute_force[found], rtol=0, atol=1e-3)
    if beams >= len(sequences):
        check_ranking(found, recalled.scores[0][: len(found)], brute_force)
        assert len(found) == len(sequences)


@pytest.fixture(scope="module")
def one_llava(llava_folder):
    return Backbone.from_pretrained(llava_folder)


def test_the_trace_tells_each_step_s_beams(semantic):
    backbone, trie = semantic
    recalled = recall(backbone, trie, prompts(backbone), beams=4, top=4, trace=True)
    assert len(recalled.trace) == len(QUERIES)
    for steps, images, scores in zip(recalled.trace, recalled.images, recalled.scores, strict=True):
        for step, beams in enumerate(steps, start=1):
            assert 1 <= len(beams) <= 4
            assert all(len(beam.tokens) <= step for beam in beams)
            assert [beam.probability for beam in beams] == sorted((beam.probability for beam in beams), reverse=True)
            for beam in beams:
                begins = (trie.paths()[:, : len(beam.tokens)] == beam.tokens).all(axis=1)
                assert beam.images == begins.sum()
        assert [trie.find(beam.tokens) for beam in steps[-1]] == images[images >= 0].tolist()
        last = [math.log(beam.probability) for beam in steps[-1]]
        assert last == pytest.approx(scores[images >= 0].tolist(), abs=1e-4)


def test_no_trace_unless_asked_for(structured):
    backbone, trie = structured
    assert recall(backbone, trie, prompts(backbone), beams=4, top=4).trace == []


def test_the_prefix_is_read_once_and_again_when_weights_change(structured):
    backbone, trie = structured
    lengths = []
    backbone.inner.language_model.register_forward_pre_hook(
        lambda _, __, inputs: lengths.append(inputs["inputs_embeds"].shape[1]), with_kwargs=True
    )
    (prompt,) = backbone.query_prompts(["a dog"])
    recall(backbone, trie, [prompt], beams=2, top=2)
    first = len(lengths)
    recall(backbone, trie, [prompt], beams=2, top=2)
    assert lengths == [1, len(prompt) - 1, *lengths[2:first], *lengths[1:first]]
    with torch.no_grad():
        next(backbone.inner.language_model.parameters()).mul_(1.5)
    changed = recall(backbone, trie, [prompt], beams=IMAGES, top=IMAGES)
    check_ranking(changed.images[0], changed.scores[0], score_all(backbone, trie, prompt))


def test_an_adapter_is_part_of_the_model(structured):
    backbone, trie = structured
    (prompt,) = backbone.query_prompts(["a dog"])
    before = recall(backbone, trie, [prompt], beams=IMAGES, top=IMAGES)
    backbone.model = get_peft_model(backbone.model, LoraConfig(target_modules=["q_proj", "v_proj"], r=4))
    with torch.no_grad():
        for name, weight in backbone.model.named_parameters():
            if "lora_B" in name:
                weight.normal_()
    after = recall(backbone, trie, [prompt], beams=IMAGES, top=IMAGES)
    check_ranking(after.images[0], after.scores[0], score_all(backbone, trie, prompt))
    assert not torch.allclose(before.scores, after.scores, atol=1e-3)


def test_the_model_does_not_run_after_the_last_step(structured):
    backbone, trie = structured
    runs = []
    backbone.inner.language_model.register_forward_hook(lambda *_: runs.append(1))
    backbone.prefix_cache(1)
    runs.clear()
    recall(backbone, trie, prompts(backbone), beams=3, top=3)
    assert len(runs) == trie.depth


def test_a_prompt_of_one_s_own_needs_no_prefix(structured):
    backbone, trie = structured
    own = [[5, 6, 7], [9]]
    recalled = recall(backbone, trie, own, beams=IMAGES, top=IMAGES)
    for row, prompt in enumerate(own):
        check_ranking(recalled.images[row], recalled.scores[row], score_all(backbone, trie, prompt))


def test_log_p_among_groups_is_that_of_each_group_alone():
    logits, groups = 50 * torch.randn(2, 3, 6), torch.tensor([0, 2, 0, 1, 2, 2])
    found = log_softmax_among(logits, groups)
    for group in range(3):
        own = groups == group
        torch.testing.assert_close(found[..., own], logits[..., own].log_softmax(-1))
    torch.testing.assert_close(log_softmax_among(logits, None), logits.log_softmax(-1))
    assert log_softmax_among(logits[:0], groups).shape == (0, 3, 6)


def test_log_p_among_groups_has_the_gradients_of_each_group_alone():
    logits, groups = torch.randn(4, 5, requires_grad=True), torch.tensor([1, 0, 1, 0, 0])
    weights = torch.randn(4, 5)
    (found,) = torch.autograd.grad((weights * log_softmax_among(logits, groups)).sum(), logits)
    both = sum((weights[:, groups == g] * logits[:, groups == g].log_softmax(-1)).sum() for g in (0, 1))
    (expected,) = torch.autograd.grad(both, logits)
    torch.testing.assert_close(found, expected)

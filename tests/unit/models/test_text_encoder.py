"""The text encoder against transformers' BERT with the same random weights, and its mask."""

import pytest
import torch
from transformers import BertConfig, BertModel

from gcr_core.models.text_encoder import Int8Embedding, TextEncoder, convert, pooled

WIDTH, WORDS = 32, 50
CONFIG = BertConfig(
    vocab_size=WORDS,
    hidden_size=WIDTH,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=64,
    max_position_embeddings=40,
    initializer_range=0.3,
    pad_token_id=0,
)


@pytest.fixture(scope="session")
def encoder():
    """A BERT whose token rows are whole numbers from -127 to 127 with a scale each."""
    torch.manual_seed(0)
    model = BertModel(CONFIG, add_pooling_layer=False).eval()
    for name, weight in model.named_parameters():
        if name.endswith(("LayerNorm.weight", "bias")):
            torch.nn.init.normal_(weight, 1.0 if "LayerNorm.weight" in name else 0.0, 0.1)
    rounded = Int8Embedding(WORDS, WIDTH)
    rounded.set_weight(model.embeddings.word_embeddings.weight.detach())
    model.embeddings.word_embeddings.weight.data = rounded.weight
    return model


@pytest.fixture(scope="session")
def language(encoder):
    model = TextEncoder(CONFIG).eval()
    weights = encoder.state_dict()
    missing, unknown = model.load_state_dict(convert(weights, CONFIG), strict=False)
    assert (missing, unknown) == (["tokens.codes", "tokens.scales"], [])
    model.tokens.set_weight(weights["embeddings.word_embeddings.weight"])
    return model.requires_grad_(False)


def states(language, ids, mask=None):
    return language(language.tokens(ids), torch.ones_like(ids, dtype=torch.bool) if mask is None else mask.bool())


def words(batch, length):
    return torch.randint(1, WORDS, (batch, length))


def assert_close(found, expected):
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_a_prompt_is_read_as_the_encoder_reads_it(language, encoder):
    ids = words(3, 9)
    assert_close(states(language, ids), encoder(ids).last_hidden_state)


def test_prompts_of_uneven_lengths_are_read_as_the_encoder_reads_them_padded_right(language, encoder):
    ids, mask = words(2, 7), torch.tensor([[1] * 7, [1] * 4 + [0] * 3])
    expected = encoder(ids, attention_mask=mask).last_hidden_state
    left = torch.stack([ids[0], torch.cat([torch.zeros(3, dtype=torch.long), ids[1, :4]])])
    found = states(language, left, mask.flip(1))
    assert_close(found[0], expected[0])
    assert_close(found[1, 3:], expected[1, :4])
    assert_close(states(language, ids, mask)[1, :4], expected[1, :4])


def test_padding_has_states_that_are_numbers(language):
    mask = torch.tensor([[0, 0, 0, 1, 1], [0, 0, 0, 0, 0]])
    assert states(language, words(2, 5), mask).isfinite().all()


def test_all_of_a_prompt_sees_all_of_it_and_nothing_behind(language):
    ids, mask = words(1, 6), torch.tensor([[1, 1, 1, 1, 0, 0]])
    before = states(language, ids, mask)[0, :4]

    def moved(place):
        changed = ids.clone()
        changed[0, place] = ids[0, place] % (WORDS - 1) + 1
        return (states(language, changed, mask)[0, :4] - before).abs().amax(1)

    assert (moved(1) > 1e-3).all() and (moved(3) > 1e-3).all()
    assert not moved(4).any() and not moved(5).any()


def test_rounded_rows_are_at_most_half_a_step_of_their_scale_off():
    weight = torch.randn(20, 16) * torch.logspace(-3, 1, 20)[:, None]
    weight[7] = 0.0
    rounded = Int8Embedding(20, 16)
    rounded.set_weight(weight)
    step = weight.abs().amax(1, keepdim=True) / 127
    assert rounded.codes.dtype == torch.int8
    assert ((rounded.weight - weight).abs() <= 0.501 * step).all()
    again = Int8Embedding(20, 16)
    again.set_weight(rounded.weight)
    assert torch.equal(again.codes, rounded.codes), "what is rounded already stays as it is"


def test_some_rounded_rows_are_those_of_the_whole():
    rounded = Int8Embedding(20, 16)
    rounded.set_weight(torch.randn(20, 16))
    some = torch.tensor([3, 0, 19, 3])
    assert torch.equal(rounded.rows(some), rounded.weight[some])
    assert torch.equal(rounded.rows(slice(4, 9)), rounded.weight[4:9])
    assert torch.equal(rounded(some.view(2, 2)), rounded.weight[some.view(2, 2)])


def test_rounded_rows_are_frozen_and_keep_their_whole_numbers_in_another_dtype():
    rounded = Int8Embedding(20, 16)
    rounded.set_weight(torch.randn(20, 16))
    codes = rounded.codes.clone()
    rounded.to(torch.bfloat16)
    assert torch.equal(rounded.codes, codes) and rounded.codes.dtype == torch.int8
    assert rounded.weight.dtype == torch.bfloat16
    assert not any(weight.requires_grad for weight in rounded.parameters())


def test_the_pooled_state_is_the_mean_of_what_is_no_padding_at_length_one():
    some, mask = torch.randn(2, 4, WIDTH), torch.tensor([[False, True, True, False], [True] * 4])
    found = pooled(some, mask)
    assert_close(found[0], torch.nn.functional.normalize(some[0, 1:3].mean(0), dim=0))
    assert_close(found.norm(dim=1), torch.ones(2))
    assert not pooled(some, torch.zeros(2, 4, dtype=torch.bool)).any(), "of nothing there is no direction"

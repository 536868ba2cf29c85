"""Describing: the loss is the model's own log p of the caption; a caption is learnt and said from its identifier."""

import pytest
import torch

from gcr_core.models.prompts import DESCRIBE_INSTRUCTION
from gcr_core.retrieval.describe import MAX_CAPTION_TOKENS, _beam_search, describe, describe_loss
from tests import tiny

NEW = [f"<img_{image}>" for image in range(5)]
CAPTIONS = ["a happy dog", "the red boat and a sleeping cat in bed", "pizza"]


@pytest.fixture(params=["llava_folder", "idefics3_folder"])
def backbone(request):
    backbone = tiny.backbone(request.getfixturevalue(request.param))
    backbone.add_tokens(NEW)
    return backbone


def identifiers(backbone, images):
    return [[backbone.first_new_id + image] for image in images]


def brute_force(backbone, identifier, caption):
    """Mean -log p of a token, from the whole model's logits of one unpadded sequence."""
    (prompt,) = backbone.describe_prompts([identifier])
    said = [*backbone.encode_queries([caption])[0], backbone.tokenizer.eos_token_id]
    with torch.inference_mode():
        logits = backbone.model(input_ids=torch.tensor([prompt + said])).logits[0, len(prompt) - 1 : -1]
    log_p = logits[:, : backbone.first_new_id].log_softmax(-1)
    return -log_p[range(len(said)), said].mean().item()


def test_loss_is_the_models_mean_log_p_over_its_own_vocabulary(backbone):
    asked = identifiers(backbone, [0, 3, 4])
    with torch.inference_mode():
        loss = describe_loss(backbone, asked, CAPTIONS)
    expected = [brute_force(backbone, *pair) for pair in zip(asked, CAPTIONS, strict=True)]
    assert loss.dtype == torch.float32
    assert loss.tolist() == pytest.approx(expected, abs=1e-4)


def test_identifiers_of_different_lengths_may_come_padded(backbone):
    first = backbone.first_new_id
    lists, padded = [[first], [first + 1, first + 2]], torch.tensor([[first, -1], [first + 1, first + 2]])
    with torch.inference_mode():
        assert torch.equal(describe_loss(backbone, lists, CAPTIONS[:2]), describe_loss(backbone, padded, CAPTIONS[:2]))


def test_a_vector_stands_where_the_embedding_of_an_identifier_would(backbone):
    asked = identifiers(backbone, [2, 0, 1])
    rows = backbone.embed(torch.tensor(asked))[:, 0].detach().requires_grad_()
    loss = describe_loss(backbone, None, CAPTIONS, vectors=rows)
    assert loss.tolist() == pytest.approx(describe_loss(backbone, asked, CAPTIONS).tolist(), abs=1e-5)
    loss.sum().backward()
    assert (rows.grad.norm(dim=1) > 0).all()


def test_the_loss_teaches_identifiers_and_weights(backbone):
    before = backbone.embed(torch.tensor([backbone.first_new_id])).detach().clone()
    learn(backbone, identifiers(backbone, [0]), CAPTIONS[:1], steps=1)
    assert not torch.equal(before, backbone.embed(torch.tensor([backbone.first_new_id])))


def test_learnt_captions_are_said_from_their_identifiers_alone(backbone):
    asked = identifiers(backbone, [0, 3, 4])
    learn(backbone, asked, CAPTIONS, steps=60)
    assert describe(backbone, asked) == CAPTIONS
    assert describe(backbone, asked[::-1]) == CAPTIONS[::-1]
    assert describe(backbone, asked[1:2], max_tokens=2) != CAPTIONS[1:2]


def test_no_description_goes_round_in_circles_or_holds_special_tokens(backbone):
    end, special = backbone.tokenizer.eos_token_id, set(backbone.tokenizer.added_tokens_decoder)
    for text in describe(backbone, identifiers(backbone, range(5))):
        said = backbone.tokenizer(text, add_special_tokens=False)["input_ids"]
        assert not special & {token for token in said if token != end}
        assert not any(token in text for token in ("<image>", "<img_", "<s>", "<|im_"))
    prompts = backbone.describe_prompts(identifiers(backbone, range(5)))
    for tokens in _beam_search(backbone, prompts, MAX_CAPTION_TOKENS).tolist():
        tokens = tokens[: tokens.index(end)] if end in tokens else tokens
        triples = list(zip(tokens, tokens[1:], tokens[2:], strict=False))
        assert len(triples) == len(set(triples))
        assert not set(tokens) & set(backbone.unsayable)
        assert max(tokens, default=0) < backbone.first_new_id


def test_a_batch_says_what_each_identifier_says_alone(backbone):
    asked = [*identifiers(backbone, [0, 1]), [backbone.first_new_id + 2, backbone.first_new_id + 3]]
    learn(backbone, asked, CAPTIONS, steps=30)
    assert describe(backbone, asked) == [describe(backbone, [identifier])[0] for identifier in asked]
    assert describe(backbone, []) == []


def test_an_instruction_stands_inside_the_chat_template_and_nowhere_else(llava_folder, idefics3_folder):
    llava, idefics3 = (tiny.backbone(folder) for folder in (llava_folder, idefics3_folder))
    (prompt,) = llava.describe_prompts([[7, 8]])
    assert prompt == [*llava.prefix_ids, 7, 8, *llava.suffix_ids]
    text = idefics3.tokenizer.decode(idefics3.describe_prompts([[]])[0])
    assert DESCRIBE_INSTRUCTION in text and text.endswith("Assistant:")


def learn(backbone, asked, captions, steps):
    optimizer = torch.optim.Adam(backbone.model.parameters(), lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        describe_loss(backbone, asked, captions).mean().backward()
        optimizer.step()

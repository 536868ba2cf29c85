"""Backbone on tiny LLaVA and Idefics3 checkpoints with random weights."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from gcr_core.errors import GcrError, HubError
from gcr_core.models.backbone import Backbone
from gcr_core.models.prompts import MAX_QUERY_TOKENS
from tests import tiny

NEW = [f"<c0_{code}>" for code in range(40)]


@pytest.fixture(params=["llava", "tied_llava", "idefics3"])
def folder(request):
    return request.getfixturevalue(f"{request.param}_folder")


@pytest.fixture
def backbone(folder):
    return tiny.backbone(folder)


@pytest.fixture
def llava(llava_folder):
    return tiny.backbone(llava_folder)


@pytest.fixture
def idefics3(idefics3_folder):
    return tiny.backbone(idefics3_folder)


def pieces(backbone, ids):
    return backbone.tokenizer.convert_ids_to_tokens(ids)


def test_a_model_without_chat_template_gets_bos_query_line_break(llava):
    assert pieces(llava, llava.query_prompts(["A Happy  dog"])[0]) == ["<s>", "▁a", "▁happy", "▁dog", "\n"]


def test_a_model_with_chat_template_gets_the_instruction_inside_it(idefics3):
    text = idefics3.tokenizer.decode(idefics3.query_prompts(["a dog"])[0])
    assert text == ("<|im_start|>User:Which image of the gallery is this about? a dog<end_of_utterance>\nAssistant:")


def test_a_prompt_is_prefix_query_suffix(backbone):
    queries = ["a dog", "", "a slice of pizza in bed"]
    for prompt, ids in zip(backbone.query_prompts(queries), backbone.encode_queries(queries), strict=True):
        assert prompt == backbone.prefix_ids + ids + backbone.suffix_ids
    assert backbone.prefix_ids and backbone.suffix_ids
    assert backbone.encode_queries([]) == []


def test_special_tokens_in_a_query_are_text(backbone):
    backbone.add_tokens(NEW)
    special = {
        *backbone.tokenizer.all_special_ids,
        *backbone.tokenizer.convert_tokens_to_ids(["<image>", *NEW]),
    }
    ids = backbone.encode_queries([f"<image> </s> <s> {backbone.tokenizer.eos_token} <c0_5>\n<c0_6>"])[0]
    assert not special & set(ids)


def test_a_long_query_is_cut_at_the_limit(backbone):
    assert len(backbone.encode_queries(["a happy dog " * 5000])[0]) == MAX_QUERY_TOKENS


def test_an_image_prompt_holds_the_image_tokens(llava, idefics3):
    assert pieces(llava, llava.image_prompt()) == ["<s>", *["<image>"] * 4, "\n"]
    text = idefics3.tokenizer.decode(idefics3.image_prompt())
    assert text.startswith("<|im_start|>User:<fake_token_around_image><global-img><image><image><image><image>")
    assert text.endswith("Which image of the gallery is this?<end_of_utterance>\nAssistant:")


def test_image_inputs_go_through_the_model(backbone):
    images = [Image.new("RGB", (90, 40), "red"), Image.new("RGB", (32, 32), "blue")]
    inputs = backbone.image_inputs(images)
    states, cache = backbone.hidden(**inputs)
    assert states.shape == (*inputs["input_ids"].shape, backbone.hidden_size)
    assert cache is None
    assert not torch.allclose(states[0, -1], states[1, -1])
    assert (inputs["attention_mask"] == 1).all()


def test_hidden_never_computes_the_vocabulary_head(backbone):
    def fail(*_):
        raise AssertionError("the head ran")

    backbone.model.get_output_embeddings().register_forward_hook(fail)
    states, cache = backbone.hidden(input_ids=torch.tensor(backbone.query_prompts(["a dog"])), use_cache=True)
    assert states.shape[-1] == backbone.hidden_size
    assert cache.get_seq_length() == states.shape[1]


def test_hidden_and_head_are_the_model_s_own_logits(backbone):
    ids = torch.tensor(backbone.query_prompts(["a dog"]))
    weight, bias = backbone.head()
    states, _ = backbone.hidden(inputs_embeds=backbone.embed(ids))
    logits = torch.nn.functional.linear(states, weight, bias)
    torch.testing.assert_close(logits, backbone.model(input_ids=ids).logits)


@pytest.mark.parametrize("last", [1, 3, 100])
def test_the_last_states_alone_are_the_same_with_the_same_gradients(backbone, last):
    inputs = backbone.image_inputs([Image.new("RGB", (32, 32), "red"), Image.new("RGB", (32, 32), "blue")])
    read = []
    backbone.inner.get_decoder().layers[-1].mlp.register_forward_hook(
        lambda _, args, out: read.append(args[0].shape[1])
    )

    def trained(**wanted):
        backbone.model.zero_grad()
        states = backbone.hidden(**inputs, **wanted)[0][:, -last:]
        states.square().sum().backward()
        return states, {name: w.grad.clone() for name, w in backbone.model.named_parameters() if w.grad is not None}

    expected, got = trained(), trained(last=last)
    torch.testing.assert_close(got, expected)
    length = inputs["input_ids"].shape[1]
    assert read == [length, min(last, length)]


def test_states_under_activation_checkpointing_are_right_when_only_the_last_are_wanted(backbone):
    inputs = backbone.image_inputs([Image.new("RGB", (32, 32), "red")])
    expected = backbone.hidden(**inputs)[0][:, -1:]
    backbone.model.activation_checkpointing_enable()
    backbone.model.train()
    states = backbone.hidden(**inputs, last=1)[0]
    states.sum().backward()
    torch.testing.assert_close(states, expected)


def test_hidden_carries_gradients_to_embeddings_and_vision_tower(backbone):
    states, _ = backbone.hidden(**backbone.image_inputs([Image.new("RGB", (32, 32), "red")]))
    states[:, -1].sum().backward()
    gradients = {name for name, value in backbone.model.named_parameters() if value.grad is not None}
    assert any("vision" in name for name in gradients)
    assert any("embed_tokens" in name for name in gradients)


def test_new_tokens_get_consecutive_ids_and_rows_in_embedding_and_head(backbone):
    before = len(backbone.tokenizer)
    backbone.add_tokens(NEW)
    backbone.add_tokens(NEW)
    assert backbone.first_new_id == before
    assert backbone.tokenizer.convert_tokens_to_ids(NEW) == list(range(before, before + len(NEW)))
    assert len(backbone.head()[0]) >= before + len(NEW)
    rows = np.arange(len(NEW) * backbone.hidden_size, dtype=np.float32).reshape(len(NEW), -1)
    backbone.set_rows(range(before, before + len(NEW)), rows)
    ids = torch.arange(before, before + len(NEW))
    assert backbone.embed(ids).tolist() == backbone.head()[0][ids].tolist() == rows.tolist()


def test_new_tokens_leave_old_rows_and_prompts_alone(backbone):
    rows, prompts = backbone.head()[0].clone(), backbone.query_prompts(["a happy dog, 12"])
    old = len(backbone.tokenizer)
    backbone.add_tokens(NEW)
    assert torch.equal(backbone.head()[0][:old], rows[:old])
    assert backbone.query_prompts(["a happy dog, 12"]) == prompts


def test_a_list_that_goes_on_from_the_added_one_adds_the_rest(backbone):
    backbone.add_tokens(NEW)
    first, rows = backbone.first_new_id, backbone.head()[0].detach().clone()
    backbone.add_tokens([*NEW, "<c0_40>"])
    assert backbone.first_new_id == first
    assert backbone.tokenizer.convert_tokens_to_ids("<c0_40>") == first + 40
    assert torch.equal(backbone.head()[0][: first + 40], rows[: first + 40])
    assert len(backbone.head()[0]) >= first + 41


def test_another_list_with_known_tokens_is_refused(backbone, tmp_path):
    backbone.add_tokens(NEW)
    backbone.save_pretrained(tmp_path)
    with pytest.raises(GcrError, match="already has 40 of 41"):
        Backbone.from_pretrained(tmp_path).add_tokens([*NEW, "<c0_40>"])
    with pytest.raises(GcrError, match="already has 40 of 40"):
        backbone.add_tokens(NEW[::-1])


def test_saving_keeps_new_tokens_rows_and_prompts(backbone, tmp_path):
    backbone.add_tokens(NEW)
    backbone.set_rows(range(backbone.first_new_id, backbone.first_new_id + 40), torch.randn(40, backbone.hidden_size))
    backbone.save_pretrained(tmp_path)
    loaded = Backbone.from_pretrained(tmp_path)
    loaded.add_tokens(NEW)
    assert loaded.first_new_id == backbone.first_new_id
    assert torch.equal(loaded.head()[0], backbone.head()[0])
    assert loaded.prefix_ids == backbone.prefix_ids and loaded.suffix_ids == backbone.suffix_ids
    assert loaded.query_prompts(["A happy dog <c0_1> 12"]) == backbone.query_prompts(["A happy dog <c0_1> 12"])
    assert loaded.tokenizer.decode([loaded.first_new_id + 3]) == "<c0_3>"
    assert loaded.image_prompt() == backbone.image_prompt()


def test_a_query_in_an_unknown_script_is_unreadable(llava):
    assert llava.readable("a happy dog")
    assert llava.readable("快乐 dog")
    assert not llava.readable("счастливая собака")
    assert not llava.readable("快乐的狗")


def test_a_number_is_readable_and_an_emoji_only_beside_words(llava):
    assert llava.readable("happy 🐶")
    assert not llava.readable("🐶")
    assert llava.readable("12 !")


def test_a_byte_level_tokenizer_reads_every_script(idefics3):
    assert idefics3.readable("счастливая собака")


def test_a_missing_model_names_the_one_that_ships(tmp_path):
    with pytest.raises(HubError, match="checkpoints/gcr-mini"):
        Backbone.from_pretrained(tmp_path / "nothing here")


def test_weights_that_are_pickled_are_refused(llava, tmp_path):
    llava.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(llava.model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(HubError):
        Backbone.from_pretrained(tmp_path)


def test_code_in_a_checkpoint_is_not_run(llava, tmp_path):
    llava.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"model_type": "theirs", "auto_map": {"AutoConfig": "theirs.Config"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "theirs.py").write_text("raise SystemExit('their code ran')")
    with pytest.raises(HubError):
        Backbone.from_pretrained(tmp_path)

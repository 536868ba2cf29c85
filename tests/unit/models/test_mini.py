"""gcr-mini and gcr-mini-clip on tiny random checkpoints in the format of `checkpoints/`."""

import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize
from transformers import AutoModel, AutoModelForImageTextToText, AutoProcessor

from gcr_core.errors import MemoryFormatError
from gcr_core.models import backbone as backbone_module
from gcr_core.models import clip as clip_module
from gcr_core.models.backbone import Backbone
from gcr_core.models.inspection import has_joint_space
from gcr_core.models.mini import MiniClip, MiniConfig, MiniForImageTextToText
from gcr_core.models.prompts import MAX_QUERY_TOKENS
from gcr_core.retrieval.beam_search import recall, score_all
from gcr_core.retrieval.describe import describe
from gcr_core.retrieval.identifiers import Identifiers
from gcr_core.retrieval.trie import IdentifierTrie
from gcr_core.training.batches import text_inputs
from gcr_core.training.train import image_states
from tests import tiny_mini

SAID, SEEN, LOOK = slice(0, 32), slice(32, 40), slice(40, 55)
QUERIES = ["a happy dog runs over the boat", "", "red", "xyz in a sleeping cat"]
NEW = [f"<img_{image}>" for image in range(6)]


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tiny_mini.save_mini(tmp_path_factory.mktemp("mini"))


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory):
    return tiny_mini.save_mini_clip(tmp_path_factory.mktemp("mini_clip"))


@pytest.fixture(scope="session")
def shared(folder):
    """For reading only."""
    backbone = Backbone.from_pretrained(folder, device="cpu")
    backbone.model.requires_grad_(False)
    return backbone


@pytest.fixture
def backbone(folder, monkeypatch):
    """One that counts as large, as gcr-mini does."""
    monkeypatch.setattr(backbone_module, "SMALL_PARAMETERS", 0)
    return Backbone.from_pretrained(folder, device="cpu", dtype=torch.float32)


@pytest.fixture(scope="session")
def pictures():
    fractal = Image.effect_mandelbrot((60, 40), (-2, -1, 1, 1), 20).convert("RGB")
    return [fractal, Image.new("RGB", (32, 64), "red"), Image.linear_gradient("L").convert("RGB")]


def asked(backbone, queries):
    return backbone.hidden(**text_inputs(backbone, queries), last=1)[0][:, 0]


def assert_close(found, expected, atol=1e-5):
    torch.testing.assert_close(found, expected, atol=atol, rtol=0)


def give_rows(backbone):
    """Random rows for new tokens."""
    backbone.add_tokens(NEW)
    first = backbone.first_new_id
    backbone.set_rows(range(first, first + len(NEW)), 3 * torch.randn(len(NEW), backbone.state_size))
    return [first + image for image in range(len(NEW))]


def test_a_checkpoint_loads_as_any_model_of_pictures_and_texts(folder, shared):
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    assert isinstance(model, MiniForImageTextToText) and isinstance(AutoModel.from_pretrained(folder), torch.nn.Module)
    weights = shared.model.state_dict()
    assert all(torch.equal(weight, weights[name]) for name, weight in model.state_dict().items())
    torch.manual_seed(0)
    made = MiniForImageTextToText(model.config)
    assert made.state_dict().keys() == weights.keys()
    tokens = weights["model.language_model.tokens.codes"]
    assert tokens.dtype == torch.int8 and tokens.unique().numel() > 100
    assert shared.has_joint_space and has_joint_space(folder)
    assert (shared.state_size, shared.feature_size, shared.hidden_size) == (56, 56, 32)
    assert shared.takes_features and shared.tagger is not None and shared.dtype == torch.float32


def test_what_a_checkpoint_says_is_what_was_saved(folder):
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    assert model.config.text_config.num_hidden_layers == 3 and model.config.vision_config.num_labels == 10
    assert model.config.state_size == 56


def test_a_query_stands_between_cls_and_sep_and_what_looks_special_is_text(shared):
    cls, sep = shared.tokenizer.cls_token_id, shared.tokenizer.sep_token_id
    (prompt,) = shared.query_prompts(["A Happy  dog"])
    assert shared.tokenizer.convert_ids_to_tokens(prompt) == ["[CLS]", "a", "happy", "dog", "[SEP]"]
    special = {cls, sep, shared.image_token_id}
    assert not special & set(shared.encode_queries(["[SEP] <image> [CLS] dog"])[0])
    assert shared.image_prompt() == [cls, shared.image_token_id, sep]


def test_the_state_of_a_text_is_what_it_says_what_one_would_see_no_look_and_one(shared):
    states = asked(shared, QUERIES)
    assert states.shape == (4, 56) and states.dtype == torch.float32
    assert_close(states[:, SAID].norm(dim=1), torch.full((4,), MiniConfig.text_scales[0]))
    assert_close(states[:, SEEN].norm(dim=1), torch.full((4,), MiniConfig.text_scales[1]))
    assert not states[:, LOOK].any()
    assert (states[:, 55] == 1).all()
    assert torch.linalg.matrix_rank(states[:, SAID]) == 4


def test_what_a_text_says_is_the_mean_of_what_the_encoder_makes_of_its_tokens(shared):
    ids = torch.tensor(shared.query_prompts(QUERIES[:1]))
    language = shared.inner.language_model
    tokens = language(language.tokens(ids), torch.ones_like(ids, dtype=torch.bool))[0]
    assert_close(asked(shared, QUERIES[:1])[0, SAID], normalize(tokens.mean(0), dim=0))


def test_a_query_in_a_batch_of_padded_ones_has_the_state_that_it_has_alone(shared):
    assert_close(asked(shared, QUERIES), torch.cat([asked(shared, [query]) for query in QUERIES]))


def test_a_query_too_long_is_cut_and_still_ends(shared):
    (prompt,) = shared.query_prompts(["dog " * 500])
    assert len(prompt) == MAX_QUERY_TOKENS + 2 and prompt[-1] == shared.tokenizer.sep_token_id
    assert_close(asked(shared, ["dog " * 500]), asked(shared, ["dog " * MAX_QUERY_TOKENS]))


@pytest.mark.parametrize("more", [[7, 8], [3, 7], [8]])
def test_the_state_behind_the_prompt_stands_behind_whatever_follows(shared, more):
    (prompt,) = shared.query_prompts(["red"])
    states = shared.hidden(input_ids=torch.tensor([[*prompt, *more]]))[0][0]
    assert_close(states, asked(shared, ["red"]).expand_as(states))


def test_the_state_of_a_picture_is_its_feature(shared, pictures):
    features = shared.image_features(pictures)
    assert features.shape == (3, 1, 56)
    states = shared.hidden(**shared.image_inputs(pictures), last=1)[0]
    assert_close(states, features)
    for part, scale in zip((SAID, SEEN, LOOK), MiniConfig.picture_scales, strict=True):
        assert_close(states[:, 0, part].norm(dim=1), torch.full((3,), scale))
    assert (states[..., 55] == 1).all()
    assert not torch.allclose(states[0], states[1], atol=1e-2)


def test_pictures_and_padded_texts_in_one_batch_have_the_states_that_they_have_alone(shared, pictures):
    image = shared.image_inputs(pictures[:2])
    prompts = [shared.query_prompts([QUERIES[0]])[0], image["input_ids"][0].tolist()]
    prompts += [shared.query_prompts(["red"])[0], image["input_ids"][1].tolist()]
    ids, mask = shared.pad(prompts)
    mixed = shared.hidden(input_ids=ids, attention_mask=mask, pixel_values=image["pixel_values"], last=1)[0][:, 0]
    assert_close(mixed[[0, 2]], asked(shared, [QUERIES[0], "red"]))
    assert_close(mixed[[1, 3]], shared.image_features(pictures[:2])[:, 0])


def test_features_stand_in_for_pictures_behind_the_prompt_too(shared, pictures):
    more = torch.tensor([[7, 8]]).expand(3, -1)

    def states(inputs):
        inputs["input_ids"] = torch.cat([inputs["input_ids"], more], 1)
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        return shared.hidden(**inputs)[0]

    features = shared.image_features(pictures)
    for inputs in (shared.image_inputs(pictures), shared.feature_inputs(features)):
        assert_close(states(inputs), features.expand(-1, 5, -1))


def test_the_rows_of_captions_and_pictures_are_as_wide_as_states(shared, tiny_gallery):
    states = image_states(shared, tiny_gallery)
    assert states.shape == (12, 56)


def adapted(backbone, lora):
    backbone.adapt(lora=lora)
    tokens = give_rows(backbone)
    for name, weight in backbone.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.2)
    return tokens


def trie_of(sequences):
    indptr = [0]
    for sequence in sequences:
        indptr.append(indptr[-1] + len(sequence))
    return IdentifierTrie.build(indptr, [token for sequence in sequences for token in sequence])


@pytest.mark.parametrize("lora", [False, True])
def test_an_adapter_is_all_that_is_saved_and_recalls_the_same_once_loaded(backbone, folder, pictures, tmp_path, lora):
    before = asked(backbone, QUERIES)
    tokens = adapted(backbone, lora)
    trained = {
        name.split(".lora_")[0].split(".")[-1] for name, w in backbone.model.named_parameters() if w.requires_grad
    }
    linear = {"query", "key", "value", "output", "up", "down"} if lora else set()
    assert trained == {"embedded", "said"} | linear
    assert torch.allclose(asked(backbone, QUERIES), before) is not lora
    backbone.save_pretrained(tmp_path)
    names = {"adapter_config.json", "adapter_model.safetensors"} if lora else set()
    assert {path.name for path in tmp_path.iterdir()} == {"rows.safetensors", *names}
    loaded = Backbone.from_pretrained(folder, device="cpu", dtype=torch.float32, adapter=tmp_path)
    loaded.add_tokens(NEW)
    assert loaded.has_lora is backbone.has_lora is lora
    trie = trie_of([[tokens[0], tokens[1]], [tokens[2]], [tokens[3], tokens[0]], [tokens[4]], [tokens[5], tokens[5]]])
    for prompts in (backbone.query_prompts(QUERIES), backbone.image_inputs(pictures)):
        ours, theirs = (recall(some, trie, prompts, beams=5, top=5) for some in (backbone, loaded))
        assert torch.equal(ours.images, theirs.images) and torch.equal(ours.scores, theirs.scores)


def test_rows_of_another_width_are_refused_with_the_remedy(backbone, folder, tmp_path):
    adapted(backbone, lora=True)
    backbone.save_pretrained(tmp_path)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"damaged")
    with pytest.raises(MemoryFormatError, match=r"no adapter of this backbone.*memorise the gallery anew"):
        Backbone.from_pretrained(folder, adapter=tmp_path)


def test_rows_of_words_and_of_new_tokens_come_from_where_they_are(backbone):
    words = backbone.head()[0].clone()
    backbone.adapt(lora=False)
    first = give_rows(backbone)[0]
    rows = backbone.new_rows
    assert torch.equal(backbone.head_rows(slice(0, first))[0], words)
    assert torch.equal(backbone.head_rows(slice(first, first + 6))[0], rows.said)
    mixed = backbone.head_rows(torch.tensor([3, first + 1]))[0]
    assert torch.equal(mixed[0], torch.nn.functional.pad(words[3], (0, 24))) and torch.equal(mixed[1], rows.said[1])
    assert torch.equal(rows.embedded, rows.said[:, :32])
    assert torch.equal(backbone.embed(torch.tensor([3, first + 1])), torch.stack([words[3], rows.embedded[1]]))


@pytest.mark.parametrize("kind", ["atomic", "structured", "numeric", "string", "semantic"])
def test_as_many_beams_as_images_rank_as_brute_force_does(kind, backbone, tiny_gallery, pictures, monkeypatch):
    vectors = torch.nn.functional.normalize(torch.randn(12, 8), dim=1).numpy()
    monkeypatch.setattr("gcr_core.retrieval.identifiers.BRANCHES", 3)
    identifiers = Identifiers.build(kind, tiny_gallery, backbone.tokenizer, vectors).by_place(backbone.tokenizer)
    backbone.adapt(lora=False)
    backbone.add_tokens(identifiers.new_tokens)
    new = len(identifiers.new_tokens)
    rows = 3 * torch.randn(new, backbone.state_size)
    backbone.set_rows(range(backbone.first_new_id, backbone.first_new_id + new), rows)
    trie = IdentifierTrie.build(identifiers.indptr, identifiers.tokens)
    prompts = backbone.query_prompts(QUERIES)
    inputs = backbone.image_inputs(pictures)
    pairs = [(prompts, prompts), (inputs, [{name: value[[row]] for name, value in inputs.items()} for row in range(3)])]
    for together, alone in pairs:
        found = recall(backbone, trie, together, beams=12, top=12)
        scores = torch.stack([score_all(backbone, trie, prompt) for prompt in alone])
        assert (found.images.sort(1).values == torch.arange(12)).all()
        assert_close(found.scores, scores.gather(1, found.images), atol=1e-4)
        assert_close(found.scores, scores.sort(1, descending=True).values, atol=1e-4)
        assert_close(scores.exp().sum(1), torch.ones(len(scores)), atol=1e-4)


def test_searching_with_an_adapter_in_its_layers_is_brute_force_too(backbone):
    tokens = adapted(backbone, lora=True)
    trie = trie_of([[tokens[0], tokens[1]], [tokens[0], tokens[2]], [tokens[3], tokens[1]], [tokens[4]]])
    for prompt in backbone.query_prompts(QUERIES):
        found, scores = recall(backbone, trie, [prompt], beams=4, top=4), score_all(backbone, trie, prompt)
        assert_close(found.scores[0], scores.sort(descending=True).values, atol=1e-4)


def test_a_description_is_what_the_row_says_that_is_seen_or_nothing(backbone):
    backbone.adapt(lora=False)
    tokens = give_rows(backbone)
    axes = backbone.inner.space.class_axes
    row = torch.zeros(len(NEW), backbone.state_size)
    row[0, SEEN] = axes[4]
    backbone.set_rows(tokens, row)
    assert describe(backbone, [[tokens[0]]]) == ["word 4"]
    assert describe(backbone, [[tokens[1]], [7]]) == ["", ""], "of a row of zeros, and of an identifier of words"


def test_it_loads_in_bfloat16_and_says_about_the_same(folder, shared, pictures):
    half = Backbone.from_pretrained(folder, device="cpu", dtype=torch.bfloat16)
    assert half.dtype == torch.bfloat16
    tokens = half.inner.language_model.tokens
    assert tokens.codes.dtype == torch.int8 and tokens.scales.dtype == torch.bfloat16
    states = asked(half, QUERIES)
    assert states.dtype == torch.float32
    assert (torch.cosine_similarity(states, asked(shared, QUERIES)) > 0.99).all()
    seen = half.hidden(**half.image_inputs(pictures), last=1)[0][:, 0]
    assert (torch.cosine_similarity(seen, shared.image_features(pictures)[:, 0]) > 0.98).all()
    assert_close(half.hidden(**half.feature_inputs(half.image_features(pictures)), last=1)[0][:, 0], seen, atol=0.02)


def test_a_checkpoint_saved_in_bfloat16_keeps_its_whole_numbers(folder, shared, tmp_path):
    AutoModelForImageTextToText.from_pretrained(folder).to(torch.bfloat16).save_pretrained(tmp_path)
    again = AutoModelForImageTextToText.from_pretrained(tmp_path, dtype=torch.float32)
    assert torch.equal(again.model.language_model.tokens.codes, shared.inner.language_model.tokens.codes)
    assert again.model.language_model.tokens.scales.dtype == torch.float32


def test_gcr_mini_clip_loads_as_a_clip_and_its_vectors_have_length_one(clip_folder, pictures):
    model, processor = clip_module.load_clip(clip_folder, "cpu")
    assert isinstance(model, MiniClip) and clip_module.dimensions(model) == 55
    texts = clip_module.text_features(model, processor, QUERIES).detach()
    shown = clip_module.image_features(model, processor, pictures).detach()
    assert texts.shape == (4, 55) and shown.shape == (3, 55)
    assert_close(texts.norm(dim=1), torch.ones(4))
    assert_close(shown.norm(dim=1), torch.ones(3))
    assert not texts[:, LOOK].any() and shown[:, LOOK].any(1).all()
    alone = torch.cat([clip_module.text_features(model, processor, [query]) for query in QUERIES])
    assert_close(texts, alone.detach())
    long = clip_module.text_features(model, processor, ["dog " * 1000]).detach()
    assert long.isfinite().all()


def test_gcr_mini_clip_reads_and_sees_as_gcr_mini_does(folder, clip_folder, shared, pictures):
    model = AutoModel.from_pretrained(clip_folder)
    processor = AutoProcessor.from_pretrained(clip_folder, backend="pil")
    model.model.load_state_dict(shared.inner.state_dict())
    said = normalize(clip_module.text_features(model, processor, QUERIES).detach()[:, SAID], dim=1)
    assert_close(said, asked(shared, QUERIES)[:, SAID])
    shown = clip_module.image_features(model, processor, pictures).detach()
    features = shared.image_features(pictures)[:, 0]
    for part in (SAID, SEEN, LOOK):
        assert_close(normalize(shown[:, part], dim=1), normalize(features[:, part], dim=1))

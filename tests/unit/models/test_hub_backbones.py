"""Each family of the hub's backbones, from a checkpoint in its file format to a memory that another process loads.

An adapter leaves the backbone's weights alone, and a memory holds nothing else; features stand in for pictures.
"""

import contextlib
import json
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from gcr_core.data.gallery import Gallery
from gcr_core.errors import HubError, MemoryFormatError
from gcr_core.files.hub import commit as commit_of
from gcr_core.files.hub import fetch
from gcr_core.memory.build import make_memory
from gcr_core.memory.memory import Memory
from gcr_core.models import adapter, inspection
from gcr_core.models import backbone as backbone_module
from gcr_core.models import device as device_module
from gcr_core.models.adapter import RANK
from gcr_core.models.backbone import Backbone
from gcr_core.retrieval.beam_search import recall, score_all
from gcr_core.retrieval.identifiers import Identifiers
from gcr_core.retrieval.trie import IdentifierTrie
from gcr_core.training.batches import Pairs, text_inputs
from gcr_core.training.config import Recipe, Training
from gcr_core.training.estimate import seconds_a_step
from gcr_core.training.features import FeatureCache, RepeatedFeatures
from gcr_core.training.microbatch import MicroBatcher
from gcr_core.training.train import IdentifierLoss, memorize, start_rows
from tests import tiny

NEW = [f"<img_{image}>" for image in range(6)]
FAMILIES = ["chat_llava", "tied_llava", "interleave", "idefics3"]


@pytest.fixture(scope="session")
def chat_llava_folder(tmp_path_factory):
    return tiny.save_llava(tmp_path_factory.mktemp("chat_llava"), chat=True)


@pytest.fixture(scope="session")
def interleave_folder(tmp_path_factory):
    return tiny.save_llava_interleave(tmp_path_factory.mktemp("interleave"))


@pytest.fixture(params=FAMILIES)
def folder(request):
    return request.getfixturevalue(f"{request.param}_folder")


@pytest.fixture(autouse=True)
def large(monkeypatch):
    """Every backbone counts as a large one."""
    for module in (backbone_module, inspection):
        monkeypatch.setattr(module, "SMALL_PARAMETERS", 0)


@pytest.fixture
def backbone(folder):
    return tiny.backbone(folder, torch.float32)


@pytest.fixture
def adapted(backbone):
    backbone.adapt()
    backbone.add_tokens(NEW)
    torch.manual_seed(1)
    backbone.set_rows(range(backbone.first_new_id, backbone.first_new_id + 6), torch.randn(6, backbone.hidden_size))
    for name, weight in backbone.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.2)
    return backbone


def states(backbone, extra=()):
    return backbone.hidden(input_ids=torch.tensor([[*backbone.query_prompts(["a happy dog"])[0], *extra]]))[0]


def test_an_adapter_changes_nothing_before_it_is_trained_and_freezes_all_else(backbone):
    before = states(backbone)
    backbone.adapt()
    backbone.add_tokens(NEW)
    assert torch.equal(states(backbone), before)
    trained = {name for name, weight in backbone.model.named_parameters() if weight.requires_grad}
    assert trained and all("lora_" in name or name.endswith((".embedded", ".said")) for name in trained)
    assert not [name for name in trained if "vision" in name or "projector" in name or "connector" in name]
    linear = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert {name.split(".lora_")[0].rpartition(".")[2] for name in trained if "lora_" in name} == linear


def test_nothing_is_trained_back_through_the_layers_below_an_adapter(backbone, monkeypatch):
    monkeypatch.setattr(adapter, "LEFT_OUT", 0.5)
    backbone.adapt()
    backbone.add_tokens(NEW)
    trained = [name for name, weight in backbone.model.named_parameters() if weight.requires_grad and "lora_" in name]
    assert trained and all(".layers.1." in name for name in trained)
    needed = []
    backbone.inner.get_decoder().layers[1].register_forward_pre_hook(
        lambda layer, given: needed.append(given[0].requires_grad)
    )
    states(backbone)
    states(backbone, [backbone.first_new_id])
    assert needed == [False, True]


def test_an_adapter_is_all_that_is_saved_and_comes_back_as_it_was(adapted, folder, tmp_path):
    last = adapted.first_new_id + 5
    adapted.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "rows.safetensors",
    ]
    kept = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (kept["peft_type"], kept["r"], kept["base_model_name_or_path"]) == ("LORA", RANK, str(folder))
    loaded = Backbone.from_pretrained(folder, device="cpu", dtype=torch.float32, adapter=tmp_path)
    loaded.add_tokens(NEW)
    assert torch.equal(states(loaded, [last]), states(adapted, [last]))
    assert not torch.equal(states(adapted), states(Backbone.from_pretrained(folder, dtype=torch.float32)))
    codes = slice(adapted.first_new_id, last + 1)
    assert torch.equal(loaded.head_rows(codes)[0], adapted.head_rows(codes)[0])


def test_rows_of_old_and_new_tokens_come_from_where_they_are(adapted):
    first, (weight, _) = adapted.first_new_id, adapted.head()
    codes = torch.tensor([3, first + 1, first - 1, first + 5])
    rows, _ = adapted.head_rows(codes)
    assert torch.equal(rows[[0, 2]], weight[[3, first - 1]])
    assert torch.equal(rows[[1, 3]], adapted.head_rows(slice(first, first + 6))[0][[1, 5]])
    assert torch.equal(
        adapted.head_rows(slice(first - 2, first + 2))[0][2:], adapted.head_rows(slice(first, first + 2))[0]
    )
    assert torch.equal(adapted.head_rows(slice(0, first))[0], weight[:first])


def test_decoding_with_an_adapter_is_brute_force_with_it(adapted):
    first = adapted.first_new_id
    sequences = [[first, first + 1], [first, first + 2], [first + 3, first + 1], [first + 4, first + 5]]
    trie = IdentifierTrie.build([0, 2, 4, 6, 8], [token for sequence in sequences for token in sequence])
    (prompt,) = adapted.query_prompts(["a happy dog"])
    found = recall(adapted, trie, [prompt], beams=4, top=4)
    scores = score_all(adapted, trie, prompt)
    assert found.images[0].tolist() == scores.argsort(descending=True).tolist()
    torch.testing.assert_close(found.scores[0], scores.sort(descending=True).values, atol=1e-4, rtol=0)


def test_an_adapter_of_another_backbone_is_refused_with_the_remedy(adapted, tmp_path, tmp_path_factory):
    adapted.save_pretrained(tmp_path)
    other = tiny.save_llava(tmp_path_factory.mktemp("other"), hidden=16)
    with pytest.raises(MemoryFormatError, match=r"no adapter of this backbone.*memorise the gallery anew"):
        Backbone.from_pretrained(other, adapter=tmp_path)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"damaged")
    with pytest.raises(MemoryFormatError, match="no adapter of this backbone"):
        Backbone.from_pretrained(other, adapter=tmp_path)


def test_settings_of_an_adapter_name_no_code_to_import(adapted, folder, tmp_path, monkeypatch):
    (tmp_path / "theirs.py").write_text("raise SystemExit('their code ran')")
    monkeypatch.syspath_prepend(tmp_path)
    adapted.save_pretrained(tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_config.json"
    theirs = {"megatron_core": "theirs", "megatron_config": {"a": 1}, "auto_mapping": {"parent_library": "theirs"}}
    path.write_text(json.dumps(json.loads(path.read_text()) | theirs))
    Backbone.from_pretrained(folder, adapter=tmp_path / "adapter")
    assert "theirs" not in sys.modules


def test_features_stand_in_for_pictures(backbone):
    assert backbone.takes_features
    pictures = [Image.effect_mandelbrot((60, 40), (-2, -1, 1, 1), 20).convert("RGB"), Image.new("RGB", (32, 64), "red")]
    seen = backbone.hidden(**backbone.image_inputs(pictures))[0][:, -1]
    given = backbone.hidden(**backbone.feature_inputs(backbone.image_features(pictures)))[0][:, -1]
    torch.testing.assert_close(given, seen, atol=1e-5, rtol=1e-5)


class StopError(Exception):
    """Ends a computation before its end."""


def test_features_are_computed_once_and_an_interrupted_computation_goes_on(
    idefics3_folder, tiny_gallery, tmp_path, monkeypatch
):
    monkeypatch.setattr("gcr_core.training.features.PICTURES_A_SHARD", 8)
    backbone = Backbone.from_pretrained(idefics3_folder, device="cpu")
    seen = []

    def stop(done, total):
        seen.append((done, total))
        if done == 16:
            raise StopError

    with pytest.raises(StopError):
        FeatureCache.compute(backbone, tiny_gallery, 2, 0, tmp_path, stop)
    assert seen == [(8, 24), (16, 24)]
    FeatureCache.compute(backbone, tiny_gallery, 2, 0, tmp_path, lambda done, total: seen.append((done, total)))
    assert seen[2:] == [(16, 24), (24, 24)], "what was interrupted is done again, what was written is not"
    again = []
    features = FeatureCache.compute(backbone, tiny_gallery, 2, 0, tmp_path, lambda done, total: again.append(done))
    assert not again
    own = backbone.image_features([tiny_gallery.open(image) for image in (11, 3)])
    torch.testing.assert_close(features.pictures([11, 3]), own.bfloat16())
    augmented = features.read([11, 3], [1, 1])
    assert not torch.equal(augmented, features.pictures([11, 3]))
    whole = FeatureCache.compute(backbone, tiny_gallery, 2, 0, tmp_path / "whole")
    assert torch.equal(whole.read(range(12), [1] * 12), features.read(range(12), [1] * 12))


def test_features_of_fewer_images_or_another_seed_are_not_taken_for_these(idefics3_folder, tiny_gallery, tmp_path):
    backbone = Backbone.from_pretrained(idefics3_folder, device="cpu")
    FeatureCache.compute(backbone, tiny_gallery, 1, 0, tmp_path)
    few = Gallery(tiny_gallery.root, tiny_gallery.file_names[6:], tiny_gallery.captions[6:])
    features = FeatureCache.compute(backbone, few, 1, 0, tmp_path)
    torch.testing.assert_close(features.pictures([0]), backbone.image_features([few.open(0)]).bfloat16())
    views = [FeatureCache.compute(backbone, few, 2, seed, tmp_path).read([0], [1]) for seed in (1, 2)]
    assert not torch.equal(*views)


def test_features_that_the_disk_has_no_room_for_have_fewer_views_or_none(
    idefics3_folder, tiny_gallery, tmp_path, monkeypatch
):
    backbone = Backbone.from_pretrained(idefics3_folder, device="cpu")
    a_view = 12 * 4 * backbone.hidden_size * 2
    for room, views in ((2.5, 2), (0.5, None)):
        usage = type("Usage", (), {"free": room * a_view / 0.5})
        monkeypatch.setattr("gcr_core.training.features.shutil.disk_usage", lambda path, usage=usage: usage)
        features = FeatureCache.compute(backbone, tiny_gallery, 4, 0, tmp_path / str(room))
        assert (features and features.views) == views


RECALL_ELSEWHERE = """
    import sys
    from pathlib import Path
    from gcr_core import Memory
    from gcr_core.data.images import open_image

    gallery, *memories = sys.argv[1:]
    for folder in memories:
        memory = Memory.from_pretrained(folder, device="cpu")
        pictures = [open_image(Path(gallery, name)) for name in memory.gallery.file_names]
        shown = [hits[0].index for hits in memory.recall_images(pictures, top=1)]
        texts = [text for captions in memory.gallery.captions for text in captions]
        asked = [hits[0].index for hits in memory.recall(texts, top=1)]
        assert shown == list(range(12)), (folder, shown)
        assert asked == [image for image in range(12) for _ in range(2)], (folder, asked)
        assert memory.backbone.new_rows is not None
"""


@pytest.mark.slow
@pytest.mark.parametrize(("preset", "views", "adapter"), [("quick", 1, False), ("balanced", 4, True)])
def test_a_memory_of_each_family_recalls_all_its_images_in_a_new_process(
    preset,
    views,
    adapter,
    chat_llava_folder,
    interleave_folder,
    idefics3_folder,
    tiny_gallery,
    tiny_clip_dir,
    tmp_path,
    monkeypatch,
):
    monkeypatch.setattr("gcr_core.training.config.ADAPTER_PASSES", 1.5)  # weights that are random take longer
    memories = []
    for folder in (chat_llava_folder, interleave_folder, idefics3_folder):
        memories.append(tmp_path / folder.name)
        told = []
        recipe = Recipe(backbone=str(folder), clip=str(tiny_clip_dir), preset=preset)
        report = make_memory(tiny_gallery, recipe, memories[-1], told.append)
        looks = [progress for progress in told if progress.stage == "look"]
        assert looks[-1].looked == looks[-1].looks == 12 * views
        assert looks[-1].seconds_left > 0, "the training comes after it"
        assert (report["memorized"], report["trained_captions"]) == (1.0, 1.0), folder
        kept = {"rows.safetensors"} | ({"adapter_config.json", "adapter_model.safetensors"} if adapter else set())
        assert {path.name for path in (memories[-1] / "model").iterdir()} == kept
    code = [sys.executable, "-c", textwrap.dedent(RECALL_ELSEWHERE), tiny_gallery.root, *memories]
    done = subprocess.run(code, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def memory_dir(idefics3_folder, tiny_gallery, tiny_memory, tmp_path):
    """A memory of an adapted Idefics3, untrained."""
    backbone = Backbone.from_pretrained(idefics3_folder, device="cpu")
    backbone.adapt()
    identifiers = Identifiers.build("atomic", tiny_gallery, backbone.tokenizer)
    start_rows(backbone, tiny_gallery, identifiers)
    Memory(backbone, identifiers, tiny_gallery, tiny_memory.dense).save(tmp_path / "memory")
    return tmp_path / "memory"


def test_a_memory_whose_backbone_is_gone_says_how_to_go_on(memory_dir, idefics3_folder):
    facts = json.loads((memory_dir / "memory.json").read_text())
    assert facts["backbone"] == {"name": str(idefics3_folder), "revision": None}
    facts["backbone"] = {"name": "somebody/gone", "revision": "0123abc"}
    (memory_dir / "memory.json").write_text(json.dumps(facts))
    with pytest.raises(
        HubError, match=r"needs its backbone 'somebody/gone' at revision 0123abc.*backbone\.name"
    ) as told:
        Memory.from_pretrained(memory_dir)
    assert "\n" not in str(told.value)
    facts["backbone"]["name"] = str(idefics3_folder)
    (memory_dir / "memory.json").write_text(json.dumps(facts))
    assert len(Memory.from_pretrained(memory_dir).gallery) == 12


def test_an_adapted_memory_takes_in_images_and_forgets_them(memory_dir):
    memory, picture = Memory.from_pretrained(memory_dir), Image.effect_mandelbrot((48, 48), (-2, -1, 1, 1), 20)
    memory.add([("fractal.png", picture.convert("RGB"))], [["a fractal of the brown fox"]])
    assert memory.recall(["a fractal of the brown fox"])[0][0].file_name == "fractal.png"
    memory.save(memory_dir)
    memory = Memory.from_pretrained(memory_dir)
    assert memory.recall(["a fractal of the brown fox"])[0][0].file_name == "fractal.png"
    token = memory.identifiers.sequence(12)
    memory.forget(["fractal.png"])
    assert not memory.backbone.head_rows(torch.from_numpy(token).long())[0].any()
    assert len(memory.recall(["a fractal of the brown fox"], top=100, beams=20)[0]) == 12


def test_the_commit_that_the_hub_gave_is_written_down_and_asked_for_again(
    memory_dir, idefics3_folder, tiny_gallery, tiny_memory, tmp_path, monkeypatch
):
    snapshot = tmp_path / "hub" / "models--somebody--smol" / "snapshots" / "0123abc"
    snapshot.parent.mkdir(parents=True)
    snapshot.symlink_to(idefics3_folder)
    asked = []

    def download(name, revision=None, **options):
        asked.append((name, revision))
        return str(snapshot)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    backbone = Backbone.from_pretrained("somebody/smol", device="cpu")
    backbone.adapt()
    identifiers = Identifiers.build("atomic", tiny_gallery, backbone.tokenizer)
    Memory(backbone, identifiers, tiny_gallery, tiny_memory.dense).save(tmp_path / "pinned")
    memory = Memory.from_pretrained(tmp_path / "pinned")
    assert memory.facts["backbone"] == {"name": "somebody/smol", "revision": "0123abc"}
    assert asked == [("somebody/smol", None), ("somebody/smol", "0123abc")]


@pytest.mark.parametrize("free, twice", [(2**22, False), (2**20, True), (2**18, True)])
def test_batches_that_do_not_fit_the_memory_are_learnt_in_parts_to_the_same_weights(
    free, twice, idefics3_folder, tiny_gallery, monkeypatch
):
    training = Training(memorise=3, describe=3, retrieve=6, queries=8, pictures=6, descriptions=6, descriptions_every=4)

    def losses(free):
        monkeypatch.setattr("gcr_core.training.microbatch.free_bytes", lambda device: free)
        backbone, seen = Backbone.from_pretrained(idefics3_folder, device="cpu", dtype=torch.float32), []
        identifiers = Identifiers.build("atomic", tiny_gallery, backbone.tokenizer)
        pairs = Pairs.from_captions(tiny_gallery.captions)
        memorize(backbone, tiny_gallery, identifiers, pairs, training, lambda step: seen.append(step.loss))
        return seen, backbone._checkpointed

    passes = []

    class Watched(MicroBatcher):
        def size(self, length, captions=False):
            passes.append(super().size(length, captions))
            return passes[-1]

    monkeypatch.setattr("gcr_core.training.train.MicroBatcher", Watched)
    plenty, checkpointed = losses(2**34)
    assert min(passes) >= 8 and not checkpointed
    little, checkpointed = losses(free)
    assert min(passes) < 8 and checkpointed == twice
    assert little == pytest.approx(plenty, rel=1e-3)


def test_a_prefix_that_is_read_once_for_all_queries_changes_neither_loss_nor_gradients(adapted, monkeypatch):
    first = adapted.first_new_id
    trie = IdentifierTrie.build([0, 2, 4, 5], [first, first + 1, first, first + 2, first + 3])
    inputs = text_inputs(adapted, ["a happy dog", "the quick brown fox jumps over it", "cat"])
    asked = inputs, torch.tensor([[0], [1], [2]]), torch.ones(3, 1)

    def learnt(shortest):
        monkeypatch.setattr(backbone_module, "SHARED_PREFIX", shortest)
        assert ("cache" in adapted.with_shared_prefix(inputs)) == (shortest == 1)
        adapted.model.zero_grad()
        losses = IdentifierLoss(adapted, trie)(*asked)
        losses.sum().backward()
        return losses.detach(), [weight.grad for weight in adapted.model.parameters() if weight.requires_grad]

    (shared, ours), (alone, theirs) = learnt(1), learnt(1_000)
    torch.testing.assert_close(shared, alone, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("converted", [True, False])
def test_weights_in_pickles_are_had_as_the_hub_s_own_bot_converted_them(converted, tmp_path, monkeypatch):
    """The stand-in answers as huggingface_hub does, for a repository like openai/clip-vit-base-patch32."""
    for commit, files in (("aaa", ["config.json"]), ("bbb", ["config.json", "model.safetensors"])):
        (tmp_path / "snapshots" / commit).mkdir(parents=True)
        for file in files:
            (tmp_path / "snapshots" / commit / file).touch()
    asked = {}

    def discussions(api, name, **filters):
        asked.update(filters)
        titles = {65: "Add a widget", 66: "Adding `safetensors` variant of this model"} if converted else {}
        return (SimpleNamespace(num=num, title=title) for num, title in titles.items())

    def download(name, revision=None, **options):
        return str(tmp_path / "snapshots" / {None: "aaa", "refs/pr/66": "bbb"}[revision])

    monkeypatch.setattr("huggingface_hub.HfApi.get_repo_discussions", discussions)
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    folder = fetch("openai/clip-vit-base-patch32", "checkpoints/gcr-mini-clip")
    assert commit_of(folder) == ("bbb" if converted else "aaa")
    assert asked["author"] == "SFconvertbot", "anybody may open a pull request"


@pytest.mark.parametrize(
    "fast, free, dtype", [(True, 2**40, torch.bfloat16), (False, 2**40, torch.float32), (False, 1_000, torch.bfloat16)]
)
def test_a_large_model_is_bfloat16_where_that_is_fast_or_all_that_fits(fast, free, dtype, idefics3_folder, monkeypatch):
    monkeypatch.setattr(inspection, "does_bfloat16", lambda device: fast)
    monkeypatch.setattr(inspection, "free_bytes", lambda device: free)
    assert Backbone.from_pretrained(idefics3_folder, device="cpu").dtype == dtype
    monkeypatch.setattr(inspection, "SMALL_PARAMETERS", 10**9)
    assert Backbone.from_pretrained(idefics3_folder, device="cpu").dtype == torch.float32


@pytest.mark.slow
def test_what_is_learnt_beside_a_bfloat16_model_is_float32(idefics3_folder, tiny_gallery):
    backbone = Backbone.from_pretrained(idefics3_folder, device="cpu", dtype=torch.bfloat16)
    frozen = {name: weight.clone() for name, weight in backbone.inner_with_head.named_parameters()}
    identifiers = Identifiers.build("atomic", tiny_gallery, backbone.tokenizer)
    training, seen = Training(memorise=0, describe=0, retrieve=40, pictures_every=40, queries=24, pictures=6), []
    pairs = Pairs.from_captions(tiny_gallery.captions)
    memorize(backbone, tiny_gallery, identifiers, pairs, training, lambda step: seen.append(step.loss))
    assert np.mean(seen[-5:]) < 0.7 * np.mean(seen[1:6])
    weights = dict(backbone.model.get_base_model().named_parameters())
    assert {weight.dtype for weight in weights.values() if weight.requires_grad} == {torch.float32}
    for name, weight in weights.items():
        if not weight.requires_grad:
            assert torch.equal(weight, frozen[name.replace(".base_layer", "").replace("tokens.embedding", "tokens")])


def test_a_container_s_limit_is_the_memory_that_is_free(tmp_path, monkeypatch):
    monkeypatch.setattr(device_module, "CGROUP", tmp_path)
    everything = device_module.free_bytes(torch.device("cpu"))
    for name, text in (("max", "1000000"), ("current", "600000"), ("stat", "anon 5\ninactive_file 100000\n")):
        (tmp_path / f"memory.{name}").write_text(text)
    assert device_module.free_bytes(torch.device("cpu")) == 500_000 < everything
    (tmp_path / "memory.max").write_text("max")
    assert device_module.free_bytes(torch.device("cpu")) > 500_000


def test_an_adapter_s_training_that_was_stopped_goes_on_as_if_it_had_not_been(idefics3_folder, tiny_gallery, tmp_path):
    pairs = Pairs.from_captions(tiny_gallery.captions)
    training = Training(memorise=4, describe=4, retrieve=8, queries=8, pictures=6, descriptions_every=4, views=2)

    def losses(until=16, checkpoint=None):
        backbone, seen = Backbone.from_pretrained(idefics3_folder, device="cpu"), []
        identifiers = Identifiers.build("structured", tiny_gallery, backbone.tokenizer, vectors)
        features = FeatureCache.compute(backbone, tiny_gallery, 2, 0, tmp_path / "features")

        def on_step(step):
            seen.append(step.loss)
            if step.step == until:
                raise StopError

        with contextlib.suppress(StopError):
            memorize(
                backbone, tiny_gallery, identifiers, pairs, training, on_step, checkpoint=checkpoint, features=features
            )
        return seen

    vectors = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
    whole, folder = losses(), tmp_path / "checkpoint"
    assert losses(until=9, checkpoint=folder) + losses(checkpoint=folder) == pytest.approx(whole, rel=1e-4)


@pytest.mark.parametrize("takes_features", [True, False])
def test_how_long_a_step_of_each_kind_takes_is_told_and_the_model_stays_as_it_is(
    takes_features, idefics3_folder, tiny_gallery
):
    backbone = Backbone.from_pretrained(idefics3_folder, device="cpu")
    backbone.takes_features = takes_features
    backbone.adapt(seed=3)
    before = {name: weight.clone() for name, weight in backbone.model.named_parameters()}
    vocabulary = len(backbone.tokenizer)
    training = Training(memorise=1, describe=1, retrieve=1, queries=8, pictures=6, descriptions=6, seed=3)
    seconds = seconds_a_step(backbone, tiny_gallery, training)
    assert seconds.keys() == {"pictures", "queries", "descriptions"} | ({"look"} if takes_features else set())
    assert min(seconds.values()) > 0
    weights = dict(backbone.model.named_parameters())
    assert all(torch.equal(weight, weights[name]) for name, weight in before.items()) and len(before) == len(weights)
    assert (backbone.new_tokens, len(backbone.tokenizer)) == ([], vocabulary)


def test_a_single_caption_is_enough_to_tell_how_long_a_step_takes(idefics3_folder, tiny_gallery):
    backbone = Backbone.from_pretrained(idefics3_folder, device="cpu")
    gallery = Gallery(tiny_gallery.root, tiny_gallery.file_names, [*[[]] * 11, ["the last one"]])
    seconds = seconds_a_step(backbone, gallery, Training(memorise=1, describe=1, retrieve=1, queries=8, pictures=6))
    assert seconds.keys() == {"look", "pictures", "queries", "descriptions"}


def test_steps_are_not_timed_again_when_a_training_goes_on(
    idefics3_folder, tiny_clip_dir, tiny_gallery, tmp_path, monkeypatch
):
    recipe = Recipe(backbone=str(idefics3_folder), clip=str(tiny_clip_dir), preset="quick")
    told = []

    def stop(progress):
        told.append(progress)
        if progress.stage == "look":
            raise StopError

    with pytest.raises(StopError):
        make_memory(tiny_gallery, recipe, tmp_path / "memory", stop, tmp_path / "checkpoint")
    assert told[-1].seconds_left > 0, "how long views and steps take is known before the first"
    monkeypatch.setattr("gcr_core.memory.build.seconds_a_step", lambda *_: pytest.fail("steps were timed again"))
    with pytest.raises(StopError):
        make_memory(tiny_gallery, recipe, tmp_path / "memory", stop, tmp_path / "checkpoint")
    assert told[-1].seconds_left > 0


def test_the_features_of_one_picture_can_stand_for_all(idefics3_folder, tiny_gallery):
    backbone = Backbone.from_pretrained(idefics3_folder, device="cpu")
    own = backbone.image_features([tiny_gallery.open(3)])
    features = RepeatedFeatures(own)
    assert features.views == 1
    for read in (features.pictures([0, 7]), features.read([0, 7], [0, 0])):
        assert torch.equal(read, torch.cat([own, own]))


def test_a_backbone_that_a_memory_is_made_of_in_mid_training_is_trained_on(idefics3_folder, tiny_gallery, tiny_memory):
    backbone = Backbone.from_pretrained(idefics3_folder, device="cpu")
    backbone.adapt()
    identifiers = Identifiers.build("atomic", tiny_gallery, backbone.tokenizer)
    start_rows(backbone, tiny_gallery, identifiers)
    trained = [weight for weight in backbone.model.parameters() if weight.requires_grad]
    Memory(backbone, identifiers, tiny_gallery, tiny_memory.dense)
    still = [weight for weight in backbone.model.parameters() if weight.requires_grad]
    assert list(map(id, still)) == list(map(id, trained)), "an optimizer trains the weights that it was given"

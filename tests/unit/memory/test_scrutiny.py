"""What a stranger may write into a memory: nothing that grows, hangs or reaches out of its folder."""

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gcr_core.errors import MemoryFormatError
from gcr_core.memory.scrutiny import MAX_LAYERS, PARTS, check_filled, scrutinise
from tests import tiny, tiny_mini

CHECKPOINTS = Path(__file__).parents[3] / "checkpoints"
Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def memory(tmp_path: Path, tiny_memory_dir: Path) -> Path:
    return shutil.copytree(tiny_memory_dir, tmp_path / "memory")


def rewrite(path: Path, change: Change) -> None:
    value = json.loads(path.read_text(encoding="utf-8"))
    change(value)
    path.write_text(json.dumps(value), encoding="utf-8")


def normalizer(*parts: dict[str, Any]) -> Change:
    return lambda tokenizer: tokenizer.update(normalizer={"type": "Sequence", "normalizers": list(parts)})


def replaces(pattern: str, content: str, kind: str = "String") -> dict[str, Any]:
    return {"type": "Replace", "pattern": {kind: pattern}, "content": content}


def test_what_is_made_here_passes(memory: Path) -> None:
    for folder in (memory, CHECKPOINTS / "emoji"):
        scrutinise(folder)
        check_filled(folder)


@pytest.mark.parametrize("backbone", [tiny.save_llava_interleave, tiny.save_idefics3, tiny_mini.save_mini])
@pytest.mark.parametrize("clip", [tiny.save_siglip, tiny_mini.save_mini_clip])
def test_each_family_passes(memory: Path, backbone: Callable[[Path], Path], clip: Callable[[Path], Path]) -> None:
    shutil.rmtree(memory / "model")
    shutil.rmtree(memory / "dense" / "clip")
    backbone(memory / "model")
    clip(memory / "dense" / "clip")
    scrutinise(memory)
    check_filled(memory)


CONFIGURATIONS: dict[str, tuple[str, Change, str]] = {
    "an architecture that is not known": ("model", lambda c: c.update(model_type="fuyu"), "of the kind 'fuyu', known"),
    "no architecture": ("model", lambda c: c.pop("model_type"), "is of the kind None, known are"),
    "a CLIP as a backbone": ("model", lambda c: c.update(model_type="clip"), "is of the kind 'clip', known are"),
    "a part that is not known": ("model", lambda c: c["text_config"].update(model_type="mamba"), "part of the kind"),
    "layers without end": ("model", lambda c: c["text_config"].update(num_hidden_layers=10**9), f"is {MAX_LAYERS}"),
    "layers that are no number": ("model", lambda c: c["vision_config"].update(num_hidden_layers=[4]), "limit is 128"),
    "code of its own": ("model", lambda c: c.update(auto_map={"AutoConfig": "x.Y"}), "has auto_map, which no memory"),
    "quantisation": ("dense/clip", lambda c: c.update(quantization_config={"x": 1}), "has quantization_config, which"),
    "no CLIP": ("dense/clip", lambda c: c.update(model_type="llava"), "is of the kind 'llava', known are clip"),
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_configuration_of_something_else_is_refused(memory: Path, name: str) -> None:
    folder, change, complaint = CONFIGURATIONS[name]
    rewrite(memory / folder / "config.json", change)
    refused(memory, complaint)


@pytest.mark.parametrize(
    ("key", "value"), [("num_hidden_layers", 3), ("hidden_size", 64), ("intermediate_size", 100_000), ("vocab_size", 9)]
)
def test_weights_that_do_not_fill_a_model_are_refused(memory: Path, key: str, value: int) -> None:
    rewrite(memory / "model" / "config.json", lambda config: config["text_config"].update({key: value}))
    scrutinise(memory)
    with pytest.raises(MemoryFormatError, match=r"model (asks for [\d,]+ weights and holds 89,056|holds no model)"):
        check_filled(memory)


def test_weights_of_nothing_are_refused(memory: Path) -> None:
    header = json.dumps({"x": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}}).encode()
    (memory / "model" / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(MemoryFormatError, match="holds no model that can be made"):
        check_filled(memory)


@pytest.mark.parametrize("named", ["../../../../etc/passwd", "/etc/passwd", "gone.safetensors", "../model.safetensors"])
def test_an_index_of_files_elsewhere_is_refused(memory: Path, named: str) -> None:
    index = {"metadata": {}, "weight_map": {"x": named}}
    (memory / "model" / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(memory, "names weights outside of its folder")


TOKENIZERS: dict[str, tuple[Change, str]] = {
    "an expression that explodes": (normalizer(replaces("(a*)*b", "", "Regex")), "regular expression '(a*)*b', which"),
    "one that splits": (
        lambda t: t.update(pre_tokenizer={"type": "Split", "pattern": {"Regex": "(x+x+)+y"}, "behavior": "Isolated"}),
        "regular expression '(x+x+)+y', which is not known",
    ),
    "a chain that grows": (normalizer(*[replaces("a", "aa")] * 20), "makes a text 1048576.0 times as long, the limit"),
    "one that grows by spaces": (normalizer(replaces(" {2,}", "x" * 99, "Regex")), "99.0 times as long, the limit is"),
    "one for nothing": (normalizer(replaces("", "x")), "replaces {'String': ''} with 'x'"),
    "a nested one": (normalizer({"type": "Sequence", "normalizers": [replaces("a", "a" * 65)]}), "65.0 times as long"),
    "a part that is not known": (normalizer({"type": "Script"}), "has the normalizer 'Script', which is not known"),
    "long padding": (
        lambda t: t.update(padding={"strategy": {"Fixed": 10**9}, "direction": "Left"}),
        "pads texts to 1000000000 tokens, the limit is 4,096",
    ),
    "padding to a multiple": (lambda t: t.update(padding={"pad_to_multiple_of": 10**9}), "pads texts to 1000000000"),
    "a model that is not known": (lambda t: t["model"].update(type="Other"), "has the model 'Other', which is not"),
    "long words": (lambda t: t["model"].update(max_input_chars_per_word=10**9), "the limit is 64"),
}


@pytest.mark.parametrize("folder", ["model", "dense/clip"])
@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_tokenizer_that_grows_or_hangs_is_refused(memory: Path, name: str, folder: str) -> None:
    change, complaint = TOKENIZERS[name]
    rewrite(memory / folder / "tokenizer.json", change)
    refused(memory, complaint)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda p: p["image_processor"].update(size={"height": 8000, "width": 8000}), "the limit is 5,000,000 in all"),
        (lambda p: p["image_processor"].update(size=8000), "brings pictures to 8000 pixels"),
        (lambda p: p["image_processor"].update(size={"longest_edge": 10**5}), "brings pictures to"),
        (lambda p: p["image_processor"].update(crop_size={"height": 10**9, "width": 1}), "brings pictures to"),
        (lambda p: p["image_processor"].update(size={"height": "8000"}), "brings pictures to"),
        (lambda p: p["image_processor"].update(size={"shortest_edge": -1}), "brings pictures to"),
        (lambda p: p["image_processor"].update(image_processor_type="FuyuImageProcessor"), "which is not known"),
        (lambda p: p.update(processor_class="FuyuProcessor"), "processor_class 'FuyuProcessor', which is not known"),
        (lambda p: p.update(auto_map={"AutoProcessor": "x.Y"}), "auto_map"),
    ],
)
def test_pictures_without_bound_are_refused(memory: Path, change: Change, complaint: str) -> None:
    rewrite(memory / "model" / "processor_config.json", change)
    refused(memory, complaint)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("model/config.json", b"[]"),
        ("model/config.json", b"{"),
        ("model/config.json", b"[" * 100_000),
        ("model/tokenizer_config.json", b'"x"'),
        ("model/tokenizer_config.json", b'{"tokenizer_class": "EvilTokenizer"}'),
        ("model/tokenizer_config.json", b'{"pad_to_multiple_of": 1000000000}'),
        ("model/adapter_config.json", b"{}"),
        ("model/adapter_config.json", b'{"r": 100000}'),
        ("memory.json", b'{"x": "' + b"x" * 2**22 + b'"}'),
    ],
)
def test_what_is_no_object_or_too_large_is_refused_in_one_line(memory: Path, name: str, data: bytes) -> None:
    (memory / name).write_bytes(data)
    unreadable = data in (b"{", b"[" * 100_000)
    refused(memory, "download it anew" if unreadable else "choose a memory of a backbone that this project knows")


def test_every_part_of_a_tokenizer_is_looked_at() -> None:
    tokenizer = json.loads((CHECKPOINTS / "gcr-mini" / "tokenizer.json").read_text(encoding="utf-8"))
    assert tokenizer.keys() - PARTS.keys() == {"version", "truncation", "padding", "added_tokens"}


def refused(memory: Path, complaint: str) -> None:
    with pytest.raises(MemoryFormatError) as refusal:
        scrutinise(memory)
    assert complaint in str(refusal.value)
    assert "\n" not in str(refusal.value)

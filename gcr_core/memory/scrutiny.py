"""Scrutiny: a strict reading of a memory from elsewhere, before any library opens what a stranger wrote.

Models of known kinds only, whose weights fill them exactly, so that nothing is made afresh; tokenizers of known parts
and known regular expressions, that make little more of a text than it is; pictures of bounded size; weights that stand
in their own folder. To be called in a process that may fail. Imports no model library unless weights are counted.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gcr_core.errors import MemoryFormatError
from gcr_core.files.layout import CLIP_FILE, MANIFEST_FILE, WEIGHTS_INDEX, holds_adapter

MAX_JSON_BYTES = 64 * 2**20
"""The most bytes of a JSON file; a vocabulary of a quarter of a million words has 35 MB."""
MAX_MANIFEST_BYTES = 4 * 2**20
MAX_LAYERS = 128
MAX_RANK = 256
"""LoRA's, of an adapter."""
MAX_SIDE = 32_768
"""The most pixels of a side that pictures are brought to."""
MAX_AREA = 5_000_000
"""The most pixels that pictures are brought to."""
MAX_GROWTH = 64
"""How many times longer a tokenizer's replacements may make a text."""
MAX_PADDING = 4_096
"""The tokens to which texts may be padded."""
MAX_WORD = 1_000
"""The characters of a word that WordPiece looks at."""

MODELS = frozenset(("gcr_mini", "llava", "idefics3", "smolvlm"))
CLIPS = frozenset(("gcr_mini_clip", "clip", "siglip", "siglip2"))
TOWERS = frozenset(
    [
        "llama",
        "mistral",
        "qwen2",
        "bert",
        "efficientnet_lite",
        "idefics3_vision",
        "smolvlm_vision",
        "clip_vision_model",
        "clip_text_model",
        "siglip_vision_model",
        "siglip_text_model",
        "siglip2_vision_model",
        "siglip2_text_model",
    ]
)
"""The kinds of a model's parts."""
FOREIGN = frozenset(("auto_map", "quantization_config", "custom_pipelines", "text_model_path"))
"""What a configuration may not hold."""
LAYERS = frozenset(("num_hidden_layers", "n_layers", "n_layer", "num_layers"))

TOKENIZERS = frozenset(
    [
        "TokenizersBackend",
        "PreTrainedTokenizerFast",
        "LlamaTokenizer",
        "LlamaTokenizerFast",
        "GPT2Tokenizer",
        "GPT2TokenizerFast",
        "Qwen2Tokenizer",
        "Qwen2TokenizerFast",
        "BertTokenizer",
        "BertTokenizerFast",
        "CLIPTokenizer",
        "CLIPTokenizerFast",
        "SiglipTokenizer",
        "Siglip2Tokenizer",
        "GemmaTokenizer",
        "GemmaTokenizerFast",
    ]
)
PROCESSORS = frozenset(
    ("LlavaProcessor", "Idefics3Processor", "SmolVLMProcessor", "CLIPProcessor", "SiglipProcessor", "Siglip2Processor")
)
IMAGE_PROCESSORS = tuple(f"{family}ImageProcessor" for family in ("CLIP", "Siglip", "Siglip2", "Idefics3", "SmolVLM"))
"""How the names of image processors begin: there are fast ones and PIL's of each."""
PARTS = {
    "normalizer": "Sequence NFC NFD NFKC NFKD Nmt Lowercase Strip StripAccents Replace Prepend BertNormalizer "
    "Precompiled",
    "pre_tokenizer": "Sequence Split ByteLevel Metaspace BertPreTokenizer Whitespace WhitespaceSplit Digits "
    "Punctuation",
    "post_processor": "Sequence TemplateProcessing ByteLevel BertProcessing RobertaProcessing",
    "decoder": "Sequence Replace ByteFallback Fuse Strip ByteLevel WordPiece Metaspace BPEDecoder",
    "model": "BPE Unigram WordPiece WordLevel",
}
"""The parts of a tokenizer.json that are known to do little with a text."""
REGEXES = frozenset(
    (
        " {2,}",
        r"\s+",
        r"\A +| +\z",
        r"\A▁",
        "[🏻-🏿]",
        r"(?<=\w)[_-](?=\w)",
        r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
        r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    )
)
"""The regular expressions of the tokenizers of the families above; each is quick whatever text it is given."""


def scrutinise(folder: Path) -> None:
    """Reads what a memory's folder says of its models. Raises MemoryFormatError, in one line, for what it may not."""
    _json(folder / MANIFEST_FILE, MAX_MANIFEST_BYTES)
    for checkpoint, kinds in _checkpoints(folder):
        _check_config(checkpoint, kinds)
        _check_weights(checkpoint)
        _check_processor(checkpoint)
        _check_tokenizer(checkpoint)
    if (folder / "model" / "adapter_config.json").is_file():
        adapter = _json(folder / "model" / "adapter_config.json")
        rank = adapter.get("r")
        if not (isinstance(rank, int) and 1 <= rank <= MAX_RANK):
            raise _refusal("model/adapter_config.json", f"has the rank {_short(rank)}, the limit is {MAX_RANK}")


def check_filled(folder: Path) -> None:
    """Raises MemoryFormatError where a model's weights are not as many numbers as its configuration asks for."""
    from gcr_core.models.inspection import asked_parameters, parameters

    for checkpoint, kinds in _checkpoints(folder):
        name = checkpoint.relative_to(folder).as_posix()
        try:
            asked, given = asked_parameters(checkpoint, is_clip=kinds is CLIPS), parameters(checkpoint)
        except Exception as error:
            raise _refusal(name, f"holds no model that can be made ({_short(error)})") from error
        if asked != given:
            raise _refusal(name, f"asks for {asked:,} weights and holds {given:,}")


def _checkpoints(folder: Path) -> Iterator[tuple[Path, frozenset[str]]]:
    """The folders of models that a memory holds as a whole, with the kinds that they may be of."""
    if not holds_adapter(folder):
        yield folder / "model", MODELS
    if not (folder / CLIP_FILE).is_file():
        yield folder / "dense" / "clip", CLIPS


def _check_config(checkpoint: Path, kinds: frozenset[str]) -> None:
    config = _json(checkpoint / "config.json")
    kind = config.get("model_type")
    if kind not in kinds:
        raise _refusal(_name(checkpoint, "config.json"), f"is of the kind {_short(kind)}, known are {_listed(kinds)}")
    for key, value, below in _values(config):
        if key in FOREIGN and value is not None:
            raise _refusal(_name(checkpoint, "config.json"), f"has {key}, which no memory needs")
        if key == "model_type" and below and value not in (*TOWERS, kind):
            raise _refusal(_name(checkpoint, "config.json"), f"has a part of the kind {_short(value)}, not known")
        if key in LAYERS and not (isinstance(value, int) and 0 < value <= MAX_LAYERS):
            raise _refusal(_name(checkpoint, "config.json"), f"has {key} {_short(value)}, the limit is {MAX_LAYERS}")


def _check_weights(checkpoint: Path) -> None:
    """An index may name files beside it only."""
    for index in checkpoint.glob("*.index.json"):
        names = _json(index).get("weight_map")
        files = set(map(str, names.values())) if isinstance(names, dict) else {""}
        if index.name != WEIGHTS_INDEX or any(not (checkpoint / name).is_file() or "/" in name for name in files):
            raise _refusal(_name(checkpoint, index.name), "names weights outside of its folder, or that are not there")


def _check_processor(checkpoint: Path) -> None:
    for path in checkpoint.glob("*processor_config.json"):
        name = _name(checkpoint, path.name)
        for key, value, _ in _values(_json(path)):
            known: tuple[bool, ...] = (
                key != "processor_class" or value in (None, *PROCESSORS),
                key not in ("image_processor_type", "feature_extractor_type")
                or (isinstance(value, str) and value.startswith(IMAGE_PROCESSORS)),
                key not in FOREIGN or value is None,
            )
            if not all(known):
                raise _refusal(name, f"has {key} {_short(value)}, which is not known")
            if key.endswith("size") and isinstance(value, (int, dict)) and _area(value) > MAX_AREA:
                raise _refusal(name, f"brings pictures to {_short(value)} pixels, the limit is {MAX_AREA:,} in all")


def _area(size: int | dict[str, Any]) -> float:
    """The pixels that a size stands for; without end where that cannot be told."""
    if isinstance(size, int):
        return size**2
    sides = [value for value in size.values() if value is not None]
    if not all(isinstance(side, int) and 0 < side <= MAX_SIDE for side in sides):
        return math.inf
    return sides[0] ** 2 if len(sides) == 1 else math.prod(sorted(sides)[:2])


def _check_tokenizer(checkpoint: Path) -> None:
    config = checkpoint / "tokenizer_config.json"
    for key, value, _ in _values(_json(config)) if config.exists() else ():
        if key == "tokenizer_class" and value not in TOKENIZERS:
            raise _refusal(_name(checkpoint, config.name), f"is of the class {_short(value)}, which is not known")
        if (key in FOREIGN and value is not None) or (key == "pad_to_multiple_of" and not _is_padding(value)):
            raise _refusal(_name(checkpoint, config.name), f"has {key} {_short(value)}, which no memory needs")
    path = checkpoint / "tokenizer.json"
    if not path.exists():
        return
    name, tokenizer, growth = _name(checkpoint, path.name), _json(path), 1.0
    for section, kinds in PARTS.items():
        for part in _parts(tokenizer.get(section)):
            if part["type"] not in kinds.split():
                raise _refusal(name, f"has the {section} {_short(part['type'])}, which is not known")
            growth *= _growth(part, name)
    word = tokenizer["model"].get("max_input_chars_per_word") if isinstance(tokenizer.get("model"), dict) else 0
    if growth > MAX_GROWTH or (isinstance(word, int) and word > MAX_WORD):
        raise _refusal(name, f"makes a text {_short(growth)} times as long, the limit is {MAX_GROWTH}")
    padding = tokenizer.get("padding")
    for key, value, _ in _values(padding) if isinstance(padding, dict) else ():
        if key in ("Fixed", "pad_to_multiple_of") and not _is_padding(value):
            raise _refusal(name, f"pads texts to {_short(value)} tokens, the limit is {MAX_PADDING:,}")


def _is_padding(tokens: Any) -> bool:
    return tokens is None or (isinstance(tokens, int) and 0 <= tokens <= MAX_PADDING)


def _parts(section: Any) -> Iterator[dict[str, Any]]:
    """A section of a tokenizer and what it is made of, vocabularies left out."""
    if isinstance(section, list):
        for part in section:
            yield from _parts(part)
    elif isinstance(section, dict):
        if isinstance(section.get("type"), str):
            yield section
        for key, value in section.items():
            if key not in ("vocab", "merges", "special_tokens"):
                yield from _parts(value)


def _growth(part: dict[str, Any], name: str) -> float:
    """How many times longer a part makes a text. Raises MemoryFormatError for an expression that is not known."""
    pattern = part.get("pattern")
    if not isinstance(pattern, dict):
        return 1.0
    expression, plain = pattern.get("Regex"), pattern.get("String")
    if expression is not None and expression not in REGEXES:
        raise _refusal(name, f"has the regular expression {_short(expression)}, which is not known")
    content = part.get("content", "")
    if not isinstance(content, str) or (expression is None and not (isinstance(plain, str) and plain)):
        raise _refusal(name, f"replaces {_short(pattern)} with {_short(content)}")
    return max(1.0, len(content) / len(plain or "x"))


def _values(config: Any, below: bool = False) -> Iterator[tuple[str, Any, bool]]:
    """(key, value, whether it stands below the top) of all objects in a JSON value."""
    for key, value in config.items() if isinstance(config, dict) else ():
        yield key, value, below
        yield from _values(value, True)
    for value in config if isinstance(config, list) else ():
        yield from _values(value, True)


def _json(path: Path, most: int = MAX_JSON_BYTES) -> dict[str, Any]:
    name = _name(path.parent, path.name)
    try:
        if (size := path.stat().st_size) > most:
            raise _refusal(name, f"has {size:,} bytes, the limit is {most:,}")
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise MemoryFormatError(f"{name} cannot be read ({_short(error)}): download it anew") from error
    if not isinstance(value, dict):
        raise _refusal(name, "holds no JSON object")
    return value


def _name(folder: Path, file: str) -> str:
    return file if file == MANIFEST_FILE else f"{folder.name}/{file}"


def _listed(kinds: frozenset[str]) -> str:
    return ", ".join(sorted(kinds))


def _short(value: Any) -> str:
    return " ".join(f"{value!r}".split())[:80]


def _refusal(name: str, reason: str) -> MemoryFormatError:
    return MemoryFormatError(
        f"{name} {reason}: choose a memory of a backbone that this project knows or, if you trust whoever made it, "
        "unpack the zip on your own machine and open its folder with --memory"
    )

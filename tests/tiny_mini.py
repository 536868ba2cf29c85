"""Tiny random checkpoints of gcr-mini and gcr-mini-clip, in the format of `checkpoints/`."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import AddedToken, BertConfig, BertTokenizer, CLIPProcessor, LlavaProcessor

from gcr_core.files.layout import TAGS_FILE, WEIGHTS_FILE, WEIGHTS_INDEX
from gcr_core.models.eyes import EyesConfig, image_processor
from gcr_core.models.mini import MiniClip, MiniClipConfig, MiniConfig, MiniForImageTextToText

SIDE, CLASSES = 32, 10
WORDS = "a in of red green blue gold circle square bar happy dog runs over the boat sleeping cat image blocks colour"
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
BERT: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 160,
    "initializer_range": 0.1,
    "pad_token_id": 0,
}
EYES: dict[str, Any] = {
    "image_size": SIDE,
    "hidden_size": 24,
    "num_labels": CLASSES,
    "stem_channels": 8,
    "stages": [[1, 8, 3, 1, 1], [1, 12, 5, 2, 3], [1, 16, 3, 2, 3]],
    "middle": 2,
}
SPACE: dict[str, Any] = {"seen_size": 8, "look_size": 15}


def tokenizer() -> BertTokenizer:
    """BERT's WordPiece, with a few words and all letters."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS.split(), ",", ".", "-"]
    pieces += [letter for letter in LETTERS if letter not in pieces] + [f"##{letter}" for letter in LETTERS]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    made = BertTokenizer(vocabulary, bos_token="[CLS]", eos_token="[SEP]", model_max_length=160)
    made.add_tokens([AddedToken("<image>", normalized=False, special=True)], special_tokens=True)
    return made


def save_mini(folder: Path, seed: int = 0) -> Path:
    """Write a gcr-mini whose states have 32 + 8 + 15 + 1 numbers, with a word for each of ten classes."""
    torch.manual_seed(seed)
    text = tokenizer()
    ids = {"image_token_id": text.convert_tokens_to_ids("<image>"), "end_token_id": text.sep_token_id}
    model = MiniForImageTextToText(MiniConfig(**_shared(text), **ids)).eval()
    _randomise(model.model.space)
    spread = torch.randn(40, 40) / 20
    model.model.phrase_mean.data = torch.randn(40) / 20
    model.model.phrase_covariance.data = spread @ spread.T + 0.001 * torch.eye(40)
    processor = LlavaProcessor(
        image_processor(SIDE),
        text,
        patch_size=SIDE,
        num_additional_image_tokens=0,
        vision_feature_select_strategy="full",
    )
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    tags = [{"word": f"word {number}", "classes": [number]} for number in range(CLASSES)]
    (folder / TAGS_FILE).write_text(json.dumps(tags), encoding="utf-8")
    return folder


def save_mini_clip(folder: Path) -> Path:
    """Write a gcr-mini-clip whose vectors have 32 + 8 + 15 numbers."""
    torch.manual_seed(0)
    text = tokenizer()
    model = MiniClip(MiniClipConfig(**_shared(text))).eval()
    _randomise(model.model.space)
    model.save_pretrained(folder)
    CLIPProcessor(image_processor(SIDE), text).save_pretrained(folder)
    return folder


def save_sharing_clip(folder: Path, mini: Path) -> Path:
    """Write a gcr-mini-clip whose index names the weights of a gcr-mini in the folder beside it."""
    text = tokenizer()
    MiniClipConfig(**_shared(text), architectures=[MiniClip.__name__]).save_pretrained(folder)
    CLIPProcessor(image_processor(SIDE), text).save_pretrained(folder)
    names = load_file(mini / WEIGHTS_FILE).keys()
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, f"../{mini.name}/{WEIGHTS_FILE}")}
    (folder / WEIGHTS_INDEX).write_text(json.dumps(index), encoding="utf-8")
    return folder


def _shared(text: BertTokenizer) -> dict[str, Any]:
    return {
        "text_config": BertConfig(**BERT, vocab_size=len(text)),
        "vision_config": EyesConfig(**EYES),
        **SPACE,
    }


def _randomise(space: torch.nn.Module) -> None:
    """Projections of which every text and every picture gets something else."""
    for name, weight in space.named_parameters():
        weight.data = (
            torch.nn.functional.normalize(torch.randn_like(weight), dim=-1) if weight.ndim == 2 else weight.data
        )
        if name == "look_scale":
            weight.data = torch.ones_like(weight)

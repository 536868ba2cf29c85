"""Tiny random checkpoints in the hub's file format, made on the spot: nothing is downloaded.

`save_llava` is what gcr-mini is: CLIP ViT + Llama, sentencepiece tokenizer with byte fallback, no chat
template. `save_idefics3` is what SmolVLM is: SigLIP + Llama, byte-level BPE, a chat template. `save_llava_interleave`
is SigLIP + Qwen2 as a LLaVA, with Qwen's tokenizer and turns. `save_siglip` is a SigLIP, for the dense baseline.
"""

import copy
import io
import json
from functools import cache
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessorPil,
    Idefics3Processor,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2Tokenizer,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
    SiglipProcessor,
    SiglipTokenizer,
    SiglipVisionConfig,
)

from gcr_core.models.backbone import Backbone

SENTENCES = [
    "a happy dog runs over the red boat and a sleeping cat in bed",
    "which image of the gallery is this about? a slice of pizza, 0 1 2 3 4 5 6 7 8 9 of it",
    "the quick brown fox jumps over the lazy dogs; image 12, image 345, image 6789",
]
CHAT_TEMPLATE = (
    "<|im_start|>{% for message in messages %}{{ message['role'] | capitalize }}:"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)
LLAVA_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] | upper }}: "
    "{% for part in message['content'] if part['type'] == 'image' %}<image>\n{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }} {% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
INTERLEAVE_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + ' ' }}"
    "{% for part in message['content'] if part['type'] == 'image' %}<image>{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ '\n' + part['text'] }}{% endfor %}"
    "<|im_end|>{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

TOWER: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
}
DECODER: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.3,
}


def sentencepiece_tokenizer() -> PreTrainedTokenizerFast:
    """A sentencepiece BPE model with byte fallback, NFKC and lower case, as a tokenizer.json keeps it."""
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 20),
        model_writer=written,
        model_type="bpe",
        vocab_size=400,
        hard_vocab_limit=False,
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name="nmt_nfkc_cf",
        user_defined_symbols=["\n", "<image>"],
        pad_id=3,
        minloglevel=2,
    )
    processor = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())
    pieces = [processor.id_to_piece(index) for index in range(processor.vocab_size())]
    ids = {piece: index for index, piece in enumerate(pieces)}
    ranked = sorted((piece for piece in pieces if len(piece) > 1), key=processor.piece_to_id)
    merges = [
        (piece[:cut], piece[cut:])
        for piece in ranked
        for cut in range(1, len(piece))
        if piece[:cut] in ids and piece[cut:] in ids
    ]
    backend = Tokenizer(models.BPE(ids, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    spaces = [normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
    backend.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase(), *spaces])
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1)]
    )
    backend.add_tokens([AddedToken("\n", normalized=False)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        extra_special_tokens={"image_token": "<image>"},
        padding_side="left",
        add_bos_token=True,
    )


def backbone(folder: Path, dtype: torch.dtype | None = None) -> Backbone:
    """A backbone from a folder that no test changes: loaded once, and a copy for each test, which is there sooner."""
    return copy.deepcopy(_backbone(folder, dtype))


@cache
def _backbone(folder: Path, dtype: torch.dtype | None) -> Backbone:
    return Backbone.from_pretrained(folder, device="cpu", dtype=dtype)


def save_llava(folder: Path, tied: bool = False, hidden: int = 32, layers: int = 2, chat: bool = False) -> Path:
    """Write a LLaVA with random weights: 32 px, 16 px patches, so 4 image tokens.

    With `chat` it has the template of llava-hf/llava-1.5-7b-hf, and like there pictures are cropped to a square.
    """
    torch.manual_seed(0)
    tokenizer = sentencepiece_tokenizer()
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            **TOWER,
            patch_size=16,
        ),
        text_config=LlamaConfig(
            vocab_size=len(tokenizer),
            **DECODER | {"hidden_size": hidden, "num_hidden_layers": layers},
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=3,
        ),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=4,
        tie_word_embeddings=tied,
    )
    side = {"height": 32, "width": 32}
    processor = LlavaProcessor(
        CLIPImageProcessorPil(size={"shortest_edge": 32} if chat else side, crop_size=side, do_center_crop=chat),
        tokenizer,
        patch_size=16,
        num_additional_image_tokens=1,
        vision_feature_select_strategy="default",
        chat_template=LLAVA_TEMPLATE if chat else None,
    )
    LlavaForConditionalGeneration(config).eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def save_llava_interleave(folder: Path) -> Path:
    """Write what llava-hf/llava-interleave-qwen-0.5b-hf is, with random weights: SigLIP + Qwen2, byte-level BPE."""
    torch.manual_seed(0)
    tokenizer = qwen_tokenizer()
    config = LlavaConfig(
        vision_config=SiglipVisionConfig(
            **TOWER,
            patch_size=16,
            vision_use_head=False,
        ),
        text_config=Qwen2Config(
            vocab_size=len(tokenizer) + 8,
            **DECODER,
            bos_token_id=tokenizer.convert_tokens_to_ids("<|endoftext|>"),
            eos_token_id=tokenizer.eos_token_id,
            tie_word_embeddings=True,
        ),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=4,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        tie_word_embeddings=True,
    )
    processor = LlavaProcessor(
        SiglipImageProcessorPil(size={"height": 32, "width": 32}),
        tokenizer,
        patch_size=16,
        vision_feature_select_strategy="full",
        chat_template=INTERLEAVE_TEMPLATE,
    )
    LlavaForConditionalGeneration(config).eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def save_siglip(folder: Path) -> Path:
    """Write a SigLIP with random weights: 32 px, 32 dimensions, texts of 16 tokens, a sentencepiece model."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 20),
        model_prefix=str(folder / "spiece"),
        vocab_size=200,
        hard_vocab_limit=False,
        bos_id=-1,
        pad_id=-1,
        eos_id=1,
        unk_id=2,
        minloglevel=2,
    )
    tokenizer = SiglipTokenizer(
        str(folder / "spiece.model"), model_max_length=16, model_input_names=["input_ids"], padding_side="right"
    )
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {"vocab_size": len(tokenizer), "max_position_embeddings": 16, "projection_size": 32}
    ends = {"bos_token_id": None, "eos_token_id": 1, "pad_token_id": 1}
    config = SiglipConfig(text_config=tower | text | ends, vision_config=tower | {"image_size": 32, "patch_size": 16})
    SiglipModel(config).save_pretrained(folder)
    image_processor = SiglipImageProcessorPil(size={"height": 32, "width": 32})
    SiglipProcessor(image_processor, tokenizer).save_pretrained(folder)
    return folder


def byte_level_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with Idefics3's special tokens."""
    special = ["<|im_start|>", "<|im_end|>", "<end_of_utterance>"]
    special += ["<image>", "<fake_token_around_image>", "<global-img>"]
    special += [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    return PreTrainedTokenizerFast(
        tokenizer_object=_byte_level(special),
        bos_token="<|im_start|>",
        eos_token="<end_of_utterance>",
        pad_token="<|im_end|>",
        padding_side="left",
    )


def qwen_tokenizer() -> Qwen2Tokenizer:
    """Qwen2's byte-level BPE with LLaVA-Interleave's special tokens, no BOS among them."""
    bpe = json.loads(_byte_level([]).to_str())["model"]
    tokenizer = Qwen2Tokenizer(
        bpe["vocab"],
        [tuple(merge) for merge in bpe["merges"]],  # type: ignore[misc]
        eos_token="<|im_end|>",
        pad_token="<pad>",
        extra_special_tokens={"image_token": "<image>"},
    )
    tokenizer.add_tokens([AddedToken("<|im_start|>", special=True)])
    return tokenizer


def _byte_level(special: list[str]) -> Tokenizer:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(SENTENCES * 20, trainer)
    return backend


def save_idefics3(folder: Path) -> Path:
    """Write an Idefics3 with random weights and a tied head: 32 px, 8 px patches, so 4 image tokens."""
    torch.manual_seed(0)
    tokenizer = byte_level_tokenizer()
    config = Idefics3Config(
        vision_config=TOWER | {"patch_size": 8},
        text_config=LlamaConfig(
            vocab_size=len(tokenizer) + 8,
            **DECODER,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            tie_word_embeddings=True,
        ),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        tie_word_embeddings=True,
    )
    sides = {"size": {"longest_edge": 64}, "max_image_size": {"longest_edge": 32}}
    image_processor = Idefics3ImageProcessorPil(**sides)
    processor = Idefics3Processor(image_processor, tokenizer, image_seq_len=4, chat_template=CHAT_TEMPLATE)
    Idefics3ForConditionalGeneration(config).eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder

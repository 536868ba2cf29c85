"""Prompts: what a multimodal model is asked, as token ids, by its processor.

A query becomes `prefix_ids + tokens of the query + suffix_ids`; what stands before and after the query never changes.
With a chat template that is an instruction inside the template; without one it is BOS, query, line break, or as a
sentence encoder reads it, CLS, query, SEP. Knows the tokenizer and the image processor, no weights.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from PIL import Image

MAX_QUERY_TOKENS = 128
"""The most tokens of a query that reach the model; the rest is cut off."""
QUERY_INSTRUCTION = "Which image of the gallery is this about?"
IMAGE_INSTRUCTION = "Which image of the gallery is this?"
DESCRIBE_INSTRUCTION = "Describe this image of the gallery:"
QUERY_MARK = "\x1a"
"""Stands for the query in a rendered chat template; no template has it."""
BYTE_PIECE = re.compile(r"<0x[0-9A-F]{2}>")
"""A token of a byte, with which SentencePiece writes characters that it does not know."""


class Prompts(ABC):
    """The prompts of a model, made by its processor."""

    processor: Any
    tokenizer: Any
    prefix_ids: list[int]
    """The token ids before every query; never empty."""
    suffix_ids: list[int]
    """The token ids behind every query."""
    new_tokens: list[str]
    """The tokens that `add_tokens` added."""

    def __init__(self, processor: Any):
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.tokenizer.padding_side = "left"
        if hasattr(processor.image_processor, "do_image_splitting"):
            processor.image_processor.do_image_splitting = False
            processor.image_processor.size = processor.image_processor.max_image_size
        self.new_tokens = []
        self.has_template = bool(getattr(processor, "chat_template", None))
        if self.has_template:
            self.prefix_ids, self.suffix_ids = self._around(QUERY_INSTRUCTION)
        elif self.tokenizer.cls_token_id is not None and self.tokenizer.sep_token_id is not None:
            self.prefix_ids, self.suffix_ids = [self.tokenizer.cls_token_id], [self.tokenizer.sep_token_id]
        else:
            start = self.tokenizer.bos_token_id
            self.prefix_ids = [self.tokenizer.eos_token_id if start is None else start]
            self.suffix_ids = self._ids("a\n")[len(self._ids("a")) :]

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """The device of the tensors that prompts become."""

    @property
    @abstractmethod
    def dtype(self) -> torch.dtype:
        """The dtype of pixel values."""

    @property
    def first_new_id(self) -> int:
        """The id of `new_tokens[0]`."""
        return self.tokenizer.convert_tokens_to_ids(self.new_tokens[0])

    def query_prompts(self, queries: list[str]) -> list[list[int]]:
        """The token ids of the whole prompt for each query."""
        return [self.prefix_ids + ids + self.suffix_ids for ids in self.encode_queries(queries)]

    def encode_queries(self, queries: list[str]) -> list[list[int]]:
        """The token ids of each query alone, at most MAX_QUERY_TOKENS.

        Runs of white space count as one space; what looks like a special token is text.
        """
        space = " " if self.has_template else ""
        texts = [space + " ".join(query.split()) for query in queries]
        if not texts:
            return []
        encoded = self.tokenizer(texts, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return [ids[:MAX_QUERY_TOKENS] for ids in encoded]

    def describe_prompts(self, identifiers: Sequence[Sequence[int]]) -> list[list[int]]:
        """The token ids of the prompt for the caption of each identifier; the caption's tokens follow."""
        before, after = self.describe_ids
        return [[*before, *identifier, *after] for identifier in identifiers]

    @cached_property
    def describe_ids(self) -> tuple[list[int], list[int]]:
        """What stands before and behind an identifier in the prompt for its caption."""
        return self._around(DESCRIBE_INSTRUCTION) if self.has_template else (self.prefix_ids, self.suffix_ids)

    @cached_property
    def unsayable(self) -> list[int]:
        """The ids of the tokenizer's own special tokens (images, turns, padding) but EOS: never to be generated."""
        added = self.tokenizer.added_tokens_decoder.items()
        special = {token for token, piece in added if piece.special} | set(self.tokenizer.all_special_ids)
        return sorted(token for token in special - {self.tokenizer.eos_token_id} if token < self.own_vocabulary)

    @property
    def own_vocabulary(self) -> int:
        """How many tokens the tokenizer had before `add_tokens`: their ids are those below."""
        return self.first_new_id if self.new_tokens else len(self.tokenizer)

    def image_prompt(self, instruction: str = IMAGE_INSTRUCTION) -> list[int]:
        """The token ids of the prompt for a square image, with the image's placeholder tokens."""
        return self.image_inputs([Image.new("RGB", (64, 64))], instruction)["input_ids"][0].tolist()

    def image_inputs(
        self, images: list[Image.Image], instruction: str | Sequence[str] = IMAGE_INSTRUCTION
    ) -> dict[str, torch.Tensor]:
        """What `hidden` takes for image queries: input_ids and attention_mask (b, t), pixel_values, ...

        `instruction`: what is asked of all images, or of each.
        """
        if self.has_template:
            asked = [instruction] * len(images) if isinstance(instruction, str) else instruction
            texts = [self._render([{"type": "image"}, {"type": "text", "text": words}]) for words in asked]
            start = self._start(self._ids(texts[0]))
            end: list[int] = []
        else:
            texts, start, end = [self.processor.image_token] * len(images), self.prefix_ids, self.suffix_ids
        inputs = dict(
            self.processor(
                text=texts,
                images=[[image] for image in images],
                add_special_tokens=False,
                padding=True,
                max_length=None,
                padding_side="left",
                return_tensors="pt",
            )
        )
        prompts = [
            start + ids[mask.bool()].tolist() + end
            for ids, mask in zip(inputs["input_ids"], inputs["attention_mask"], strict=True)
        ]
        inputs["input_ids"], inputs["attention_mask"] = self.pad(prompts)
        return {
            name: value.to(self.device, self.dtype if value.is_floating_point() else None)
            for name, value in inputs.items()
        }

    @cached_property
    def _image_prompt(self) -> list[int]:
        return self.image_prompt()

    def pad(self, prompts: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Prompts as input_ids and attention_mask, both (b, longest) int64, padded left."""
        longest = max(map(len, prompts))
        padding = self.tokenizer.pad_token_id or 0
        ids = [[padding] * (longest - len(prompt)) + prompt for prompt in prompts]
        mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
        return torch.tensor(ids, device=self.device), torch.tensor(mask, device=self.device)

    def readable(self, query: str) -> bool:
        """Whether the tokenizer knows more of the query than its bytes."""
        unknown = {self.tokenizer.unk_token, "▁"}
        return any(
            piece not in unknown and not BYTE_PIECE.fullmatch(piece)
            for ids in self.encode_queries(query.split())
            for piece in self.tokenizer.convert_ids_to_tokens(ids)
        )

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def _around(self, instruction: str) -> tuple[list[int], list[int]]:
        """The ids before and behind what stands after an instruction inside the chat template."""
        before, after = self._render([{"type": "text", "text": f"{instruction} {QUERY_MARK}"}]).split(QUERY_MARK)
        ids = self._ids(before.removesuffix(" "))
        return self._start(ids) + ids, self._ids(after)

    def _start(self, ids: list[int]) -> list[int]:
        """BOS where the tokenizer sets one and the rendered template does not begin with it, else nothing."""
        bos = self.tokenizer.bos_token_id
        wanted = bos is not None and self.tokenizer("a")["input_ids"][:1] == [bos]
        return [bos] if wanted and ids[:1] != [bos] else []

    def _render(self, content: list[dict[str, str]]) -> str:
        messages = [{"role": "user", "content": content}]
        return self.processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)

"""Backbone: any model that `AutoModelForImageTextToText` loads, behind one small interface.

Token ids in, hidden states out: the vocabulary head is never computed here, its rows are handed out instead. The ids
are those of `Prompts`. Knows nothing about identifiers or galleries.
"""

import copy
import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from transformers import AddedToken, AutoModelForImageTextToText, AutoProcessor, DynamicCache
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutputWithPooling

from gcr_core.errors import GcrError, HubError, first_line
from gcr_core.files.hub import fetch
from gcr_core.files.origin import Origin
from gcr_core.models import mini
from gcr_core.models.adapter import (
    SMALL_PARAMETERS,
    NewRows,
    add_lora,
    add_rows,
    has_lora,
    load_adapter,
    rows_of,
    save_adapter,
)
from gcr_core.models.eyes import Eyes
from gcr_core.models.inspection import usual_dtype
from gcr_core.models.prompts import Prompts
from gcr_core.models.tags import Tagger

SPARE_ROWS = 64
"""How many rows are made ahead where tokens are added one by one, since making more copies them all."""
SHARED_PREFIX = 8
"""The fewest tokens of a prefix that a training step passes once for all its queries."""


class Backbone(Prompts):
    """A multimodal language model with its processor."""

    model: Any
    """The model, perhaps wrapped by PEFT; in evaluation mode once it is loaded."""
    name: str | None
    """The hub id or the folder that it was loaded from."""
    revision: str | None
    """As in `Origin`; None for a folder that nobody else has."""
    tagger: Tagger | None
    """What has words for what the eyes see, where the backbone has eyes that know classes."""

    def __init__(self, model: Any, processor: Any):
        self.model = model
        self.name = self.revision = self.tagger = None
        if self.inner is self.inner_with_head:
            raise HubError(f"{type(model).__name__} has no part without a vocabulary head; choose another")
        super().__init__(processor)
        self._prefix_cache: Any = None
        self._prefix_state: Any = None

    @classmethod
    def from_pretrained(
        cls,
        path_or_id: str | Path,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        revision: str | None = None,
        adapter: Path | None = None,
    ) -> Self:
        """Loads a folder or a hub id: safetensors only, no code from the hub, PIL image processors.

        By default `device` is the GPU where there is one; `dtype` is bfloat16 for a model of SMALL_PARAMETERS or more
        where the device is fast with it or lacks the memory for float32, else float32. `adapter`: a folder that
        `save_pretrained` wrote after `adapt`. Raises HubError when there is no such model or the hub cannot be
        reached, MemoryFormatError for an adapter of another model.
        """
        device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        folder = fetch(path_or_id, instead="checkpoints/gcr-mini", revision=revision)
        try:
            dtype = dtype or usual_dtype(folder, device)
            processor = AutoProcessor.from_pretrained(folder, trust_remote_code=False, backend="pil")
            model: Any = AutoModelForImageTextToText.from_pretrained(
                folder, trust_remote_code=False, use_safetensors=True, dtype=dtype
            )
        except (OSError, ValueError, ImportError, SafetensorError) as error:
            raise HubError(
                f"{str(path_or_id)!r} holds no image-text-to-text model in safetensors ({first_line(error)}): "
                "choose another, such as checkpoints/gcr-mini"
            ) from error
        backbone = cls(model.to(device).eval(), processor)
        origin = Origin.of(str(path_or_id), folder)
        backbone.name, backbone.revision = (origin.name, origin.revision) if origin else (str(folder), None)
        backbone.tagger = Tagger.from_folder(folder)
        if adapter is not None:
            backbone.model = load_adapter(model, adapter, len(backbone.tokenizer)).eval()
        return backbone

    @property
    def inner_with_head(self) -> Any:
        """The model below PEFT's wrapper, if it has one."""
        return self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model

    @property
    def inner(self) -> Any:
        """The model without its vocabulary head."""
        return self.inner_with_head.base_model

    @cached_property
    def is_small(self) -> bool:
        """Whether memorising trains all of its weights."""
        return sum(weight.numel() for weight in self.model.parameters()) < SMALL_PARAMETERS

    @property
    def new_rows(self) -> NewRows | None:
        """The new tokens' rows, once the model has an adapter."""
        rows = self.inner.get_input_embeddings()
        return rows if isinstance(rows, NewRows) else None

    def adapt(self, seed: int = 0, lora: bool = True) -> None:
        """Freezes the weights; from now on an adapter is trained and saved. To be called before `add_tokens`.

        `lora`: whether it is more than the new tokens' rows.
        """
        if self.new_rows is None:
            self.model = add_rows(self.model, len(self.tokenizer))
        if lora and not self.has_lora:
            self.model = add_lora(self.model, seed)

    @property
    def has_lora(self) -> bool:
        """Whether the adapter is more than rows."""
        return has_lora(self.model)

    @property
    def feature_size(self) -> int:
        """The numbers of a feature of a picture."""
        return self.state_size if self.has_joint_space else self.hidden_size

    @property
    def has_joint_space(self) -> bool:
        """Whether a picture has the state of a text that describes it, as in gcr-mini."""
        return isinstance(self.inner_with_head, mini.MiniForImageTextToText)

    @property
    def phrase_mean(self) -> torch.Tensor:
        """(words,) float32: the mean of the states of everyday phrases, but for what only pictures have; with a joint
        space."""
        return self.inner.phrase_mean.float()

    @property
    def phrase_covariance(self) -> torch.Tensor:
        """(words, words) float32: their covariance."""
        return self.inner.phrase_covariance.float()

    @property
    def state_size(self) -> int:
        """The numbers of a state."""
        return getattr(self.inner_with_head.config, "state_size", None) or self.hidden_size

    @property
    def device(self) -> torch.device:
        return next(self.inner.get_input_embeddings().parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return self.inner_with_head.dtype

    @property
    def hidden_size(self) -> int:
        """The numbers of an embedding row."""
        return int(self.inner_with_head.config.get_text_config().hidden_size)

    def add_tokens(self, new_tokens: list[str]) -> None:
        """Adds tokens to the tokenizer, with a row each in the embedding and in the head, tied or not.

        They get consecutive ids, the first of which is `first_new_id`. Of a list that begins with `new_tokens` the rest
        is added; the same list again changes nothing. Raises GcrError when the tokenizer has some of them with other
        ids.
        """
        if not new_tokens:
            return
        vocabulary = self.tokenizer.get_vocab()
        known = [token for token in new_tokens if token in vocabulary]
        ids = [vocabulary[token] for token in known]
        whole = known == new_tokens and ids == list(range(ids[0], ids[0] + len(ids)))
        if known and not whole and not (self.new_tokens == known == new_tokens[: len(known)]):
            raise GcrError(
                f"the tokenizer already has {len(known)} of {len(new_tokens)} new tokens, as {known[0]}; "
                "start from a backbone that has not memorised another gallery"
            )
        if self.has_joint_space:
            self.adapt(lora=False)
        added = [AddedToken(token, normalized=False, special=True) for token in new_tokens[len(known) :]]
        self.tokenizer.add_tokens(added, special_tokens=True)
        if self.new_rows is not None:
            self.new_rows.grow(len(new_tokens))
        elif len(self.tokenizer) > len(self._input_rows()):
            rows = len(self.tokenizer) + (SPARE_ROWS if known else 0)
            self.inner_with_head.resize_token_embeddings(rows, mean_resizing=False)
        self.new_tokens = list(new_tokens)

    @torch.no_grad()
    def set_rows(self, token_ids: Sequence[int] | torch.Tensor, rows: torch.Tensor | np.ndarray) -> None:
        """Sets the rows (n, hidden) of these tokens in the embedding and in the head."""
        where = torch.as_tensor(token_ids, dtype=torch.long, device=self.device)
        if self.new_rows is not None:
            self.new_rows.set(where, torch.as_tensor(rows))
            return
        values = torch.as_tensor(rows).to(self.device, self.dtype)
        self._input_rows()[where] = values
        self.head()[0][where] = values

    @property
    def image_token_id(self) -> int:
        """The placeholder token that stands in a prompt once for each feature of a picture."""
        return self.model.config.image_token_id

    @cached_property
    def takes_features(self) -> bool:
        """Whether the model takes features in the place of pictures, as many for every picture."""
        if "mm_encoder_outputs" not in inspect.signature(self.inner.forward).parameters:
            return False
        wide = self.image_inputs([Image.new("RGB", (128, 64))])["input_ids"][0].tolist()
        return wide == self.image_prompt()

    @torch.inference_mode()
    def image_features(self, images: list[Image.Image]) -> torch.Tensor:
        """(b, tokens, feature_size): what the vision tower and the projector make of pictures."""
        inputs = self.image_inputs(images)
        pixels = {name: value for name, value in inputs.items() if name not in ("input_ids", "attention_mask")}
        return torch.stack(list(self.inner.get_image_features(**pixels, return_dict=True).pooler_output))

    @torch.inference_mode()
    def seen_logits(self, images: list[Image.Image]) -> torch.Tensor:
        """(b, classes) float32: what the eyes take pictures for. Of a backbone with a `tagger`."""
        eyes: Eyes = self.inner.vision_tower
        pixels = self.processor.image_processor(images, return_tensors="pt")["pixel_values"]
        logits = eyes(pixels.to(self.device)).logits
        assert logits is not None
        return logits.float()

    @torch.inference_mode()
    def tags(self, tokens: Sequence[int]) -> list[list[str]]:
        """Words for what new tokens' rows, (state,) each, say that is seen. Of a backbone with a `tagger`."""
        assert self.tagger is not None
        width, seen = self.hidden_size, self.inner_with_head.config.seen_size
        rows, _ = self.head_rows(torch.as_tensor(tokens, device=self.device))
        return self.tagger.tags(self.inner.space.logits(rows[:, width : width + seen]))

    def feature_inputs(self, features: torch.Tensor) -> dict[str, torch.Tensor]:
        """As `image_inputs`, with features (b, tokens, hidden) in the place of pictures."""
        ids, mask = self.pad([self._image_prompt] * len(features))
        return {"input_ids": ids, "attention_mask": mask, "image_features": features.to(self.device, self.dtype)}

    def embed(self, token_ids: torch.Tensor) -> torch.Tensor:
        """(..., hidden): the embedding rows of token ids (...)."""
        return self.inner.get_input_embeddings()(token_ids)

    def hidden(
        self,
        *,
        cache: Cache | None = None,
        use_cache: bool = False,
        image_features: torch.Tensor | None = None,
        last: int | None = None,
        **inputs: Any,
    ) -> tuple[torch.Tensor, Cache | None]:
        """(b, t, hidden) states after the final norm, and the cache; differentiable.

        `inputs`: input_ids or inputs_embeds, attention_mask, position_ids, and what `image_inputs` gives. `last`: only
        so many states from the end are wanted, (b, last, hidden), for which a small model computes less; not to be
        called from two threads at once.
        """
        if image_features is not None:
            pooled: Any = list(image_features)
            inputs["mm_encoder_outputs"] = {"image": BaseModelOutputWithPooling(pooler_output=pooled)}
        with self._sparing(last):
            output = self.inner(cache=cache, use_cache=use_cache, return_dict=True, **inputs)
        states = output.last_hidden_state
        return states if last is None else states[:, -last:], output.cache

    @contextmanager
    def _sparing(self, last: int | None) -> Iterator[None]:
        """In the block, the last layer's MLP computes the `last` states alone, which spares a third of two layers.

        Not under activation checkpointing, which computes layers again after the block has ended.
        """
        mlp = getattr(self.inner.get_decoder().layers[-1], "mlp", None)
        if last is None or mlp is None or self._checkpointed or not self.is_small:
            yield
            return
        left_out = 0

        def shorten(mlp: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor]:
            nonlocal left_out
            left_out = max(0, inputs[0].shape[1] - last)
            return (inputs[0][:, left_out:],)

        def lengthen(mlp: torch.nn.Module, inputs: tuple[torch.Tensor, ...], states: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.pad(states, (0, 0, left_out, 0))

        hooks = mlp.register_forward_pre_hook(shorten), mlp.register_forward_hook(lengthen)
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    @torch.inference_mode()
    def prefix_cache(self, batch: int) -> Cache:
        """A new key-value cache of `prefix_ids`, for `batch` prompts.

        The prefix passes the model once, and again only when the weights have changed.
        """
        state = (self.device, self.dtype, _changes(self.model))
        if self._prefix_state != state:
            ids, _ = self.pad([self.prefix_ids])
            self._prefix_cache = DynamicCache()
            self.hidden(input_ids=ids, cache=self._prefix_cache, use_cache=True)
            self._prefix_state = state
        cache = copy.copy(self._prefix_cache)
        cache.layers = [copy.copy(layer) for layer in cache.layers]
        if batch > 1:
            cache.batch_repeat_interleave(batch)
        return cache

    def with_shared_prefix(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Inputs of text queries that go on from a cache of their `shared_prefix`, computed once; differentiable."""
        prefix, (batch, length) = self.shared_prefix(inputs), inputs["input_ids"].shape
        if not prefix:
            return inputs
        ids, _ = self.pad([self.prefix_ids])
        cache = DynamicCache()
        self.hidden(input_ids=ids, cache=cache, use_cache=True)
        cache.batch_repeat_interleave(batch)
        # Prompts are padded left; now the padding that stood before the prefix stands behind it.
        mask = torch.cat([torch.ones_like(ids).expand(batch, -1), inputs["attention_mask"][:, : length - prefix]], 1)
        rest = inputs["input_ids"][:, prefix:]
        return {"input_ids": rest, "attention_mask": mask, "cache": cache, "use_cache": True}

    def shared_prefix(self, inputs: dict[str, Any]) -> int:
        """How many tokens `with_shared_prefix` computes once.

        0 for pictures and short prefixes, where that spares nothing, and under activation checkpointing, where layers
        cannot go on from a cache.
        """
        text = inputs.keys() == {"input_ids", "attention_mask"}
        prefix = len(self.prefix_ids)
        return prefix if text and prefix >= SHARED_PREFIX and not self._checkpointed else 0

    @property
    def _checkpointed(self) -> bool:
        """Whether activations are recomputed in the backward pass (activation checkpointing)."""
        return bool(getattr(self.inner.get_decoder(), "gradient_checkpointing", False))

    def head(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The vocabulary head's weight (V, hidden) and bias (V,) or None, without the rows of an adapter."""
        head = self.model.get_output_embeddings()
        return head.weight, getattr(head, "bias", None)

    def head_rows(self, codes: slice | torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """(codes, hidden) and (codes,) or None: the head's rows and biases for these token ids; differentiable."""
        head = self.model.get_output_embeddings()
        if self.new_rows is not None:
            return self.new_rows.head_rows(codes, head), None
        bias = getattr(head, "bias", None)
        return rows_of(head, codes), None if bias is None else bias[codes]

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes weights, configuration, tokenizer and processor as the hub holds them; once adapted, the adapter."""
        if self.new_rows is not None:
            save_adapter(self.model, folder, str(self.name), self.revision)
            return
        self.model.save_pretrained(folder)
        self.processor.save_pretrained(folder)

    def _input_rows(self) -> torch.Tensor:
        return self.inner.get_input_embeddings().weight


def _changes(model: torch.nn.Module) -> int:
    """How often the weights were written to. (`model.parameters()` would take as long as the rest of a step.)"""
    modules: list[Any] = [model]
    changes = 0
    for module in modules:
        for weight in module._parameters.values():
            if weight is not None:
                changes += weight._version
        if module._modules:
            modules.extend(module._modules.values())
    return changes

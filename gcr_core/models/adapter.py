"""Adapter: what a memory adds to a large backbone, whose own weights stay as they are.

Rows for the new tokens, in the embedding and in the vocabulary head, in `rows.safetensors`; where more is trained than
these, LoRA (Hu et al., 2021, through PEFT) in the linear layers of the language model but its lowest, beside them as
PEFT writes it, `adapter_config.json` and `adapter_model.safetensors`. Vision tower, projector and vocabulary are
frozen. Knows modules and files, no tokenizer.
"""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from gcr_core.errors import MemoryFormatError, first_line

if TYPE_CHECKING:
    from peft import PeftModel

SMALL_PARAMETERS = 20_000_000
"""A backbone with fewer parameters is trained whole."""
RANK = 16
"""LoRA's rank."""
ALPHA = 2
"""LoRA's scale, the factor of the low-rank product: its alpha divided by its rank."""
LEFT_OUT = 1 / 3
"""The share of the layers, the lowest, that get no LoRA, so that no gradients are computed through them (AdapterDrop,
Rücklé et al. 2021). On a gcr-mini of four layers an adapter without the lowest learnt as many captions as one in all
layers, and 0.84 of the pictures after `quick` instead of 0.87."""
CONFIG_FILE, LORA_FILE, ROWS_FILE = "adapter_config.json", "adapter_model.safetensors", "rows.safetensors"


class NewRows(torch.nn.Module):
    """An embedding with trained rows behind its frozen ones, from the token id `first` on, and the head's new rows."""

    embedded: torch.nn.Parameter
    """(n, hidden) float32: the embedding's new rows."""
    said: torch.nn.Parameter
    """(n, state) float32: the head's new rows; the same parameter where the model ties the two."""

    def __init__(self, embedding: Any, first: int, tied: bool, state_size: int):
        """`state_size`: the width of what the head reads; the first numbers of a wider row are the embedding's."""
        super().__init__()
        self.embedding, self.first, self.tied = embedding, first, tied
        width = embedding.embedding_dim
        self._put(torch.zeros(0, width), torch.zeros(0, state_size))

    @property
    def weight(self) -> torch.Tensor:
        """(V, hidden): the frozen rows."""
        return self.embedding.weight

    @property
    def device(self) -> torch.device:
        return next(self.embedding.parameters()).device

    def rows(self, codes: slice | torch.Tensor) -> torch.Tensor:
        """(codes, hidden): frozen rows."""
        return rows_of(self.embedding, codes)

    def __len__(self) -> int:
        return len(self.embedded)

    def forward(self, token_ids: torch.Tensor) -> torch.Tensor:
        old = self.embedding(token_ids.clamp(max=self.first - 1))
        if not len(self) or not (token_ids >= self.first).any():
            return old
        new = torch.nn.functional.embedding((token_ids - self.first).clamp(min=0), self.embedded)
        return torch.where((token_ids >= self.first)[..., None], new.to(old.dtype), old)

    def head_rows(self, codes: slice | torch.Tensor, head: Any) -> torch.Tensor:
        """(codes, state), or (codes, hidden) of frozen rows alone: rows of the head, whose frozen ones are `head`'s."""
        if isinstance(codes, slice):
            if codes.start >= self.first:
                return self.said[codes.start - self.first : codes.stop - self.first]
            if codes.stop <= self.first:
                return rows_of(head, codes)
            codes = torch.arange(codes.start, codes.stop, device=self.device)
        old = rows_of(head, codes.clamp(max=self.first - 1))
        if not len(self):
            return old
        new = self.said[(codes - self.first).clamp(min=0)]
        old = torch.nn.functional.pad(old, (0, new.shape[1] - old.shape[1]))
        return torch.where((codes >= self.first)[:, None], new, old)

    def grow(self, count: int) -> None:
        """Makes it `count` rows; the added ones are zero.

        More rows are new parameters, which an optimizer of the old ones does not train; as many are the same ones.
        """
        if count == len(self):
            return
        grown = (
            torch.nn.functional.pad(rows.detach(), (0, 0, 0, count - len(self))) for rows in (self.embedded, self.said)
        )
        self._put(*grown)

    @torch.no_grad()
    def set(self, token_ids: torch.Tensor, rows: torch.Tensor) -> None:
        self.embedded[token_ids - self.first] = rows[:, : self.embedded.shape[1]].to(self.embedded)
        self.said[token_ids - self.first] = rows.to(self.said)

    def save(self, path: Path) -> None:
        kept = {"embedded": self.embedded} if self.tied else {"embedded": self.embedded, "said": self.said}
        save_file({name: rows.detach().cpu().contiguous() for name, rows in kept.items()}, path)

    def load(self, path: Path) -> None:
        kept = load_file(path, str(self.device))
        self._put(kept["embedded"], kept["embedded" if self.tied else "said"])

    def _put(self, embedded: torch.Tensor, said: torch.Tensor) -> None:
        self.embedded = torch.nn.Parameter(embedded.to(self.device))
        self.said = self.embedded if self.tied else torch.nn.Parameter(said.to(self.device))


def rows_of(head: Any, codes: slice | torch.Tensor) -> torch.Tensor:
    """(codes, hidden): some rows of an embedding or a head, which need not have them all at hand."""
    return head.rows(codes) if hasattr(head, "rows") else head.weight[codes]


def add_rows(model: Any, first: int) -> Any:
    """The model, frozen, with rows that can be added from the token id `first` on. It computes the same as before."""
    model.requires_grad_(False)
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    state_size = getattr(model.config, "state_size", embedding.embedding_dim)
    tied = state_size == embedding.embedding_dim and head.weight is embedding.weight
    model.set_input_embeddings(NewRows(embedding, first, tied, state_size))
    return model


def add_lora(model: Any, seed: int = 0, rank: int = RANK) -> "PeftModel":
    """The model that `add_rows` gave, with LoRA in its language model as well.

    It computes the same as before: of each low-rank product the first factor is drawn from the seed, the second is
    zero.
    """
    from peft import LoraConfig, get_peft_model

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = LoraConfig(r=rank, lora_alpha=ALPHA * rank, lora_dropout=0.0, target_modules=_language_layers(model))
        adapted = get_peft_model(model, config)
    for rows in new_rows(adapted).parameters(recurse=False):
        rows.requires_grad_()
    return adapted


def has_lora(model: Any) -> bool:
    return hasattr(model, "peft_config")


def new_rows(model: Any) -> NewRows:
    """The new rows of a model that `add_rows` gave, perhaps with LoRA."""
    return (model.get_base_model() if has_lora(model) else model).get_input_embeddings()


def save_adapter(adapted: Any, folder: str | Path, name: str, revision: str | None) -> None:
    """Writes an adapter into a folder; `name` and `revision` are the backbone's."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    new_rows(adapted).save(folder / ROWS_FILE)
    if not has_lora(adapted):
        return
    from peft import get_peft_model_state_dict

    config = adapted.peft_config["default"]
    config.base_model_name_or_path, config.revision = name, revision
    config.save_pretrained(str(folder))
    weights = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    save_file({name: weight.detach().cpu().contiguous() for name, weight in weights.items()}, folder / LORA_FILE)


def load_adapter(model: Any, folder: str | Path, first: int) -> Any:
    """`model` with the adapter that `save_adapter` wrote.

    Of the adapter's settings only the rank is read, as others could name code to import. Raises MemoryFormatError when
    it is damaged or of another model.
    """
    folder = Path(folder)
    adapted = add_rows(model, first)
    try:
        if (folder / CONFIG_FILE).is_file():
            adapted = _load_lora(adapted, folder)
        new_rows(adapted).load(folder / ROWS_FILE)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise MemoryFormatError(
            f"{folder} holds no adapter of this backbone ({first_line(error)}): memorise the gallery anew"
        ) from error
    return adapted


def _load_lora(model: Any, folder: Path) -> "PeftModel":
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    rank = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))["r"]
    weights = load_file(folder / LORA_FILE)
    adapted = add_lora(model, rank=rank)
    unknown = set(weights) ^ set(get_peft_model_state_dict(adapted, save_embedding_layers=False))
    if unknown:
        raise KeyError(f"{len(unknown)} layers differ, such as {min(unknown)}")
    set_peft_model_state_dict(adapted, weights)
    return adapted


def _language_layers(model: Any) -> str:
    """The names of the language model's upper linear layers, as the regular expression that PEFT matches names with."""
    layers = model.get_decoder().layers
    prefix = next(name for name, module in model.named_modules() if module is layers)
    upper = "|".join(map(str, range(int(LEFT_OUT * len(layers)), len(layers))))
    linear = (name for name, module in layers.named_modules() if isinstance(module, torch.nn.Linear))
    kinds = "|".join(sorted({re.escape(name.rpartition(".")[2]) for name in linear}))
    return rf"{re.escape(prefix)}\.({upper})\.(.*\.)?({kinds})"

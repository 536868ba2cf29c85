"""Adapter: what a memory adds to a large backbone, whose own weights stay as they are.

LoRA (Hu et al., 2021, through PEFT) in the linear layers of the language model but its lowest, and rows for the new
tokens, in the embedding and in the vocabulary head. Vision tower, projector and vocabulary are frozen. A folder holds
it as PEFT does, `adapter_config.json` and `adapter_model.safetensors`, with `rows.safetensors` beside them. Knows
modules and files, no tokenizer.
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

SMALL_PARAMETERS = 50_000_000
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
    """(n, hidden) float32: the head's new rows; the same parameter where the model ties the two."""

    def __init__(self, embedding: torch.nn.Embedding, first: int, tied: bool):
        super().__init__()
        self.embedding, self.first, self.tied = embedding, first, tied
        self._put(*(2 * [torch.zeros(0, embedding.weight.shape[1])]))

    @property
    def weight(self) -> torch.Tensor:
        """(V, hidden): the frozen rows."""
        return self.embedding.weight

    def __len__(self) -> int:
        return len(self.embedded)

    def forward(self, token_ids: torch.Tensor) -> torch.Tensor:
        old = self.embedding(token_ids.clamp(max=self.first - 1))
        if not len(self) or not (token_ids >= self.first).any():
            return old
        new = torch.nn.functional.embedding((token_ids - self.first).clamp(min=0), self.embedded)
        return torch.where((token_ids >= self.first)[..., None], new.to(old.dtype), old)

    def head_rows(self, codes: slice | torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """(codes, hidden): rows of the head, whose frozen ones are `weight` (V, hidden)."""
        if isinstance(codes, slice):
            if codes.start >= self.first:
                return self.said[codes.start - self.first : codes.stop - self.first]
            if codes.stop <= self.first:
                return weight[codes]
            codes = torch.arange(codes.start, codes.stop, device=weight.device)
        old = weight[codes.clamp(max=self.first - 1)]
        if not len(self):
            return old
        return torch.where((codes >= self.first)[:, None], self.said[(codes - self.first).clamp(min=0)], old)

    def grow(self, count: int) -> None:
        """Makes it `count` rows; the added ones are zero.

        More rows are new parameters, which an optimizer of the old ones does not train; as many are the same ones.
        """
        if count == len(self):
            return
        more = torch.zeros(count - len(self), self.embedded.shape[1], device=self.embedded.device)
        self._put(torch.cat([self.embedded.detach(), more]), torch.cat([self.said.detach(), more]))

    @torch.no_grad()
    def set(self, token_ids: torch.Tensor, rows: torch.Tensor) -> None:
        self.embedded[token_ids - self.first] = rows.to(self.embedded)
        self.said[token_ids - self.first] = rows.to(self.said)

    def save(self, path: Path) -> None:
        kept = {"embedded": self.embedded} if self.tied else {"embedded": self.embedded, "said": self.said}
        save_file({name: rows.detach().cpu().contiguous() for name, rows in kept.items()}, path)

    def load(self, path: Path) -> None:
        kept = load_file(path, str(self.weight.device))
        self._put(kept["embedded"], kept["embedded" if self.tied else "said"])

    def _put(self, embedded: torch.Tensor, said: torch.Tensor) -> None:
        self.embedded = torch.nn.Parameter(embedded.to(self.weight.device))
        self.said = self.embedded if self.tied else torch.nn.Parameter(said.to(self.weight.device))


def adapt(model: Any, first: int, seed: int = 0, rank: int = RANK) -> "PeftModel":
    """Freezes a model, puts LoRA into its language model, and lets rows be added from the token id `first` on.

    The model computes the same as before: of each low-rank product the first factor is drawn from the seed, the second
    is zero.
    """
    from peft import LoraConfig, get_peft_model

    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = LoraConfig(r=rank, lora_alpha=ALPHA * rank, lora_dropout=0.0, target_modules=_language_layers(model))
        adapted = get_peft_model(model, config)
    model.set_input_embeddings(NewRows(model.get_input_embeddings(), first, tied))
    return adapted


def is_adapter(folder: str | Path) -> bool:
    return (Path(folder) / CONFIG_FILE).is_file()


def save_adapter(adapted: "PeftModel", folder: str | Path, name: str, revision: str | None) -> None:
    """Writes an adapter into a folder; `name` and `revision` are the backbone's."""
    from peft import get_peft_model_state_dict

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = adapted.peft_config["default"]
    config.base_model_name_or_path, config.revision = name, revision
    config.save_pretrained(str(folder))
    weights = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    save_file({name: weight.detach().cpu().contiguous() for name, weight in weights.items()}, folder / LORA_FILE)
    _rows(adapted).save(folder / ROWS_FILE)


def load_adapter(model: Any, folder: str | Path, first: int) -> "PeftModel":
    """`model` with the adapter that `save_adapter` wrote.

    Of the adapter's settings only the rank is read, as others could name code to import. Raises MemoryFormatError when
    it is damaged or of another model.
    """
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    folder = Path(folder)
    try:
        rank = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))["r"]
        weights = load_file(folder / LORA_FILE)
        adapted = adapt(model, first, rank=rank)
        unknown = set(weights) ^ set(get_peft_model_state_dict(adapted, save_embedding_layers=False))
        if unknown:
            raise KeyError(f"{len(unknown)} layers differ, such as {min(unknown)}")
        set_peft_model_state_dict(adapted, weights)
        _rows(adapted).load(folder / ROWS_FILE)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise MemoryFormatError(
            f"{folder} holds no adapter of this backbone ({first_line(error)}): memorise the gallery anew"
        ) from error
    return adapted


def _rows(adapted: Any) -> NewRows:
    return adapted.get_base_model().get_input_embeddings()


def _language_layers(model: Any) -> str:
    """The names of the language model's upper linear layers, as the regular expression that PEFT matches names with."""
    layers = model.get_decoder().layers
    prefix = next(name for name, module in model.named_modules() if module is layers)
    upper = "|".join(map(str, range(int(LEFT_OUT * len(layers)), len(layers))))
    linear = (name for name, module in layers.named_modules() if isinstance(module, torch.nn.Linear))
    kinds = "|".join(sorted({re.escape(name.rpartition(".")[2]) for name in linear}))
    return rf"{re.escape(prefix)}\.({upper})\..*\.({kinds})"

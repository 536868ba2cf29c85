"""Text encoder: BERT's layers (Devlin et al. 2019), as sentence encoders have them, over frozen rows of int8.

Knows token ids, no tokenizer.
"""

import math
from typing import Any

import torch
from torch import nn
from torch.nn.functional import gelu, scaled_dot_product_attention
from transformers import BertConfig


class Int8Embedding(nn.Module):
    """Embedding rows as whole numbers from -127 to 127 with a scale each: half of the size of 16-bit rows.

    The rows are frozen. `weight` is made anew whenever it is asked for.
    """

    def __init__(self, rows: int, width: int):
        super().__init__()
        self.embedding_dim = width
        self.codes = nn.Parameter(torch.zeros(rows, width, dtype=torch.int8), requires_grad=False)
        self.scales = nn.Parameter(torch.ones(rows, 1), requires_grad=False)

    @property
    def weight(self) -> torch.Tensor:
        """(rows, width)."""
        return self.codes * self.scales

    def rows(self, codes: slice | torch.Tensor) -> torch.Tensor:
        """(codes, width): some rows."""
        return self.codes[codes] * self.scales[codes]

    def set_weight(self, weight: torch.Tensor) -> None:
        """Takes rows (rows, width), rounded to the nearest whole number."""
        scales = weight.abs().amax(1, keepdim=True).clamp(min=1e-8) / 127
        self.codes.data, self.scales.data = (weight / scales).round().to(torch.int8), scales.to(self.scales.dtype)

    def forward(self, token_ids: torch.Tensor) -> torch.Tensor:
        """(..., width)."""
        return self.rows(token_ids)


class Layer(nn.Module):
    """Attention and MLP, each normalised after it was added."""

    def __init__(self, config: BertConfig):
        super().__init__()
        width, eps = config.hidden_size, config.layer_norm_eps
        self.heads = config.num_attention_heads
        self.query, self.key, self.value, self.output = (nn.Linear(width, width) for _ in range(4))
        self.attention_norm = nn.LayerNorm(width, eps=eps)
        self.up, self.down = nn.Linear(width, config.intermediate_size), nn.Linear(config.intermediate_size, width)
        self.mlp_norm = nn.LayerNorm(width, eps=eps)

    def forward(self, states: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        """`states` (b, t, width); `seen` (b, 1, t, t) bool: what each token attends to."""
        query, key, value = (
            project(states).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for project in (self.query, self.key, self.value)
        )
        attended = scaled_dot_product_attention(query, key, value, seen).transpose(1, 2).flatten(2)
        states = self.attention_norm(states + self.output(attended))
        return self.mlp_norm(states + self.down(gelu(self.up(states))))


class TextEncoder(nn.Module):
    """Embeddings and layers."""

    def __init__(self, config: BertConfig):
        super().__init__()
        width = config.hidden_size
        self.tokens = Int8Embedding(config.vocab_size, width)
        self.positions = nn.Embedding(config.max_position_embeddings, width)
        self.norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))

    def forward(self, embedded: torch.Tensor, prompt: torch.Tensor) -> torch.Tensor:
        """(b, t, width) states of `embedded` (b, t, width); `prompt` (b, t) bool: which of these are no padding."""
        # Padding sees itself: a token that sees nothing has no state.
        itself = torch.eye(embedded.shape[1], dtype=torch.bool, device=embedded.device)
        seen = (prompt[:, None] | itself)[:, None]
        positions = self.positions((prompt.cumsum(1) - 1).clamp(min=0))
        states = self.norm(embedded + positions.to(embedded.dtype))
        for layer in self.layers:
            states = layer(states, seen)
        return states


def convert(weights: dict[str, torch.Tensor], config: BertConfig) -> dict[str, torch.Tensor]:
    """A BERT encoder's state dict as one of `TextEncoder`, but for the token rows, which `set_weight` takes.

    The row of the only token type is added to the positions'.
    """
    ours = {
        "positions.weight": weights["embeddings.position_embeddings.weight"]
        + weights["embeddings.token_type_embeddings.weight"][0],
    }
    names = {"embeddings.LayerNorm": "norm"}
    parts = {
        "attention.self.query": "query",
        "attention.self.key": "key",
        "attention.self.value": "value",
        "attention.output.dense": "output",
        "attention.output.LayerNorm": "attention_norm",
        "intermediate.dense": "up",
        "output.dense": "down",
        "output.LayerNorm": "mlp_norm",
    }
    for index in range(config.num_hidden_layers):
        names |= {f"encoder.layer.{index}.{theirs}": f"layers.{index}.{part}" for theirs, part in parts.items()}
    for theirs, name in names.items():
        ours |= {f"{name}.{kind}": weights[f"{theirs}.{kind}"] for kind in ("weight", "bias")}
    return ours


def initialise(module: nn.Module, spread: float) -> None:
    """Random weights for a module of this file, where a checkpoint has none."""
    if isinstance(module, Int8Embedding):
        module.codes.data.random_(-127, 128)
        module.scales.data.fill_(spread * math.sqrt(3) / 127)


def pooled(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """(b, width) float32, of length one: the mean of the states (b, t, width) where `mask` (b, t) holds."""
    kept = mask[..., None].float()
    mean: Any = (states.float() * kept).sum(1) / kept.sum(1).clamp(min=1)
    return nn.functional.normalize(mean, dim=-1)

"""Room: how many tokens may pass a backbone with gradients at a time, so that they fit the free memory."""

import warnings
from typing import Any

from .backbone import Backbone
from .machine import free_bytes

SHARE = 0.5
"""of the free memory that a pass may take"""
HIDDEN_KEPT, INNER_KEPT = 14, 6
"""numbers that a layer keeps of a token for the way back, in units of its hidden and of its inner size"""
LOGITS_KEPT = 3
"""numbers that the loss of a caption's token keeps, in units of the vocabulary"""


class Room:
    """Divides batches into passes. Where a batch does not fit, layers are computed twice rather than kept."""

    def __init__(self, backbone: Backbone, largest: int):
        """`largest`: the tokens of the largest batch."""
        text: Any = backbone.model.config.get_text_config()
        kept = (HIDDEN_KEPT * text.hidden_size + INNER_KEPT * text.intermediate_size) * backbone.dtype.itemsize
        self.token = text.num_hidden_layers * kept
        self.logits = LOGITS_KEPT * backbone.own_vocabulary * 4
        self.free = SHARE * free_bytes(backbone.device)
        self.short = largest * self.token > self.free
        if self.short:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # its new name is not in all of transformers 5
                backbone.inner_with_head.gradient_checkpointing_enable({"use_reentrant": False})
            self.token = text.num_hidden_layers * text.hidden_size * backbone.dtype.itemsize + kept

    def rows(self, length: int, said: bool = False) -> int:
        """How many sequences of that length may pass together, at least one; `said`: as captions that are learnt."""
        return max(1, int(self.free / (length * (self.token + said * self.logits))))

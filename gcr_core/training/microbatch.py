"""Microbatch: how many tokens pass a backbone with gradients at a time, so that what is kept for the way back fits."""

from typing import Any

from gcr_core.models.backbone import Backbone
from gcr_core.models.device import free_bytes

SHARE = 0.5
"""of the free memory that a pass may take"""
CPU_BYTES = 2**30
"""that a pass takes at most on a CPU, where larger ones are slower"""
FEWEST = 4
"""sequences that pass together; where the memory has no room for them, layers are computed twice rather than kept"""
HIDDEN_KEPT, INNER_KEPT = 14, 6
"""numbers that a layer keeps of a token for the way back, in units of its hidden and of its inner size"""
LOGITS_KEPT = 3
"""numbers in float32 that the loss of a caption's token keeps, in units of the vocabulary"""


class MicroBatcher:
    """Divides batches into passes."""

    checkpointed: bool
    """whether layers are, from now on"""

    def __init__(self, backbone: Backbone, longest: int):
        """`longest`: the tokens of the longest sequence."""
        text: Any = backbone.model.config.get_text_config()
        layer = (HIDDEN_KEPT * text.hidden_size + INNER_KEPT * text.intermediate_size) * backbone.dtype.itemsize
        self.token = text.num_hidden_layers * layer
        self.logits = LOGITS_KEPT * backbone.own_vocabulary * 4
        self.free = SHARE * free_bytes(backbone.device)
        self.checkpointed = FEWEST * longest * self.token > self.free
        if self.checkpointed:
            backbone.inner_with_head.activation_checkpointing_enable()
            self.token = text.num_hidden_layers * text.hidden_size * backbone.dtype.itemsize + layer
        if backbone.device.type == "cpu":
            self.free = min(self.free, max(CPU_BYTES, FEWEST * longest * self.token))

    def rows(self, length: int, said: bool = False) -> int:
        """How many sequences of that length may pass together, at least one; `said`: as captions that are learnt."""
        return max(1, int(self.free / (length * (self.token + said * self.logits))))

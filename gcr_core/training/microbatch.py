"""Micro-batches: how many sequences pass a backbone at a time while gradients are kept, so that they fit the memory.

Where even a few of the longest do not fit, activation checkpointing is turned on. Knows sizes, not what is learnt.
"""

from typing import Any

from gcr_core.models.backbone import Backbone
from gcr_core.models.device import free_bytes

MEMORY_SHARE = 0.5
"""The share of the free memory that a micro-batch may take."""
CPU_BYTES = 2**30
"""The most memory that a micro-batch takes on a CPU, where larger ones are slower."""
MIN_SEQUENCES = 4
"""Where the memory has no room for the activations of so many of the longest sequences, they are checkpointed."""
HIDDEN_KEPT, INNER_KEPT = 14, 6
"""How many numbers a layer keeps of a token for the backward pass: so many times its hidden size, and so many times its
intermediate size."""
LOGITS_KEPT = 3
"""How many float32 numbers the loss of a caption's token keeps, as a multiple of the vocabulary."""


class MicroBatcher:
    """Divides the batches of a training into micro-batches."""

    checkpointed: bool
    """Whether the backbone recomputes its activations in the backward pass from now on (activation checkpointing)."""

    def __init__(self, backbone: Backbone, longest: int):
        """`longest`: the tokens of the longest sequence."""
        text: Any = backbone.model.config.get_text_config()
        layer = (HIDDEN_KEPT * text.hidden_size + INNER_KEPT * text.intermediate_size) * backbone.dtype.itemsize
        self.token_bytes = text.num_hidden_layers * layer
        self.logit_bytes = LOGITS_KEPT * backbone.own_vocabulary * 4
        self.max_bytes = MEMORY_SHARE * free_bytes(backbone.device)
        self.checkpointed = MIN_SEQUENCES * longest * self.token_bytes > self.max_bytes
        if self.checkpointed:
            backbone.inner_with_head.activation_checkpointing_enable()
            self.token_bytes = text.num_hidden_layers * text.hidden_size * backbone.dtype.itemsize + layer
        if backbone.device.type == "cpu":
            self.max_bytes = min(self.max_bytes, max(CPU_BYTES, MIN_SEQUENCES * longest * self.token_bytes))

    def size(self, length: int, captions: bool = False) -> int:
        """The most sequences of `length` tokens that a micro-batch may have, at least one.

        `captions`: they are captions to be learnt, so that each token has a loss over the vocabulary.
        """
        return max(1, int(self.max_bytes / (length * (self.token_bytes + captions * self.logit_bytes))))

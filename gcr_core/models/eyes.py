"""Eyes: EfficientNet-Lite as a tower of transformers, for pictures of `image_size` pixels a side.

The published batch norms are folded into the convolutions (`convert`): a tower to be kept frozen, without running
statistics. Importing this module makes it known to AutoConfig and AutoModel. Knows neither galleries nor queries.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import nn
from torch.nn.functional import adaptive_avg_pool2d, conv2d, pad, relu6
from torch.nn.utils.fusion import fuse_conv_bn_weights
from transformers import AutoConfig, AutoModel, CLIPImageProcessorPil, PreTrainedConfig, PreTrainedModel, initialization
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils.generic import can_return_tuple

from gcr_core.errors import GcrError

LITE2 = (
    (1, 16, 3, 1, 1),
    (3, 24, 3, 2, 6),
    (3, 48, 5, 2, 6),
    (4, 88, 3, 2, 6),
    (4, 120, 5, 1, 6),
    (5, 208, 5, 2, 6),
    (1, 352, 3, 1, 6),
)
"""EfficientNet-Lite2's stages: (repeats, channels, kernel, stride, expansion)."""
MAX_ASPECT = 64
"""A picture longer than this many times its shorter side is shrunk further, with black beside it: memory is bounded."""
GRID = 3
"""The cells of a side that the middle layer is averaged over."""
MAX_NAMED = 3
"""How many keys a message names."""


class EyesConfig(PreTrainedConfig):
    """The shape of a tower; that of EfficientNet-Lite2 by default."""

    model_type = "efficientnet_lite"

    image_size: int = 260
    """The side in pixels of the pictures that the weights were trained on."""
    hidden_size: int = 1280
    """The channels of the pooled feature."""
    stem_channels: int = 32
    stages: list[list[int]] | tuple[tuple[int, ...], ...] = LITE2
    """[repeats, channels, kernel, stride, expansion] each; the stride is that of the first repeat."""
    batch_norm_eps: float = 1e-3
    """What `convert` takes the published batch norms' epsilon for."""
    middle: int = 5
    """How many stages lie before the middle layer, which is given as a grid."""

    def __post_init__(self, **kwargs: Any) -> None:
        self.stages = [list(stage) for stage in self.stages]
        if self.id2label is None:
            kwargs.setdefault("num_labels", 1000)
        super().__post_init__(**kwargs)

    @property
    def grid_channels(self) -> int:
        """The channels of the middle layer."""
        return self.stages[self.middle - 1][1]

    def blocks(self) -> Iterator[tuple[int, int, int, int, int]]:
        """(channels in, channels out, kernel, stride, expansion) of each block."""
        before = self.stem_channels
        for repeats, channels, kernel, stride, expansion in self.stages:
            for i in range(repeats):
                yield before, channels, kernel, 1 if i else stride, expansion
                before = channels


@dataclass
class EyesOutput(BaseModelOutputWithPooling):
    """What the eyes see: also the classes."""

    logits: torch.Tensor | None = None
    """(b, num_labels)"""
    grid: torch.Tensor | None = None
    """(b, channels, GRID, GRID): a middle layer, averaged over each cell of a grid."""


class SameConv2d(nn.Conv2d):
    """A convolution padded as TensorFlow's "same": ceil(side / stride) cells, an odd padding's rest right and below."""

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """(b, c, h, w) → (b, c', ceil(h / stride), ceil(w / stride))."""
        (top, bottom), (left, right) = (
            _same(side, kernel, stride)
            for side, kernel, stride in zip(states.shape[2:], self.kernel_size, self.stride, strict=True)
        )
        if top != bottom or left != right:
            states = pad(states, (0, right - left, 0, bottom - top))
        return conv2d(states, self.weight, self.bias, self.stride, (top, left), groups=self.groups)


class InvertedResidual(nn.Module):
    """A block: 1 x 1 out to `expansion` times the channels (unless that is 1), depthwise, 1 x 1 back."""

    def __init__(self, before: int, channels: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        inside = before * expansion
        self.expand = SameConv2d(before, inside, 1) if expansion != 1 else None
        self.depthwise = SameConv2d(inside, inside, kernel, stride, groups=inside)
        self.project = SameConv2d(inside, channels, 1)
        self.skips = stride == 1 and before == channels

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """(b, c, h, w) → (b, c', ceil(h / stride), ceil(w / stride))."""
        inside = states if self.expand is None else relu6(self.expand(states), inplace=True)
        inside = self.project(relu6(self.depthwise(inside), inplace=True))
        return states + inside if self.skips else inside


class Eyes(PreTrainedModel):
    """EfficientNet-Lite with its classifier."""

    config: EyesConfig
    config_class = EyesConfig
    main_input_name = "pixel_values"
    input_modalities = "image"
    _no_split_modules = ["InvertedResidual"]  # noqa: RUF012 -- as transformers has it

    def __init__(self, config: EyesConfig):
        super().__init__(config)
        self.stem = SameConv2d(3, config.stem_channels, 3, 2)
        self.blocks = nn.ModuleList(InvertedResidual(*block) for block in config.blocks())
        self.head = SameConv2d(config.stages[-1][1], config.hidden_size, 1)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels or 0)
        self.middle_block = sum(repeats for repeats, *_ in config.stages[: config.middle]) - 1
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Variance kept from layer to layer: without batch norms a fixed one would die out."""
        super()._init_weights(module)
        if isinstance(module, nn.Conv2d):
            initialization.kaiming_normal_(module.weight)

    @can_return_tuple
    def forward(self, pixel_values: torch.Tensor, **kwargs: Any) -> EyesOutput:
        """`pixel_values` (b, 3, h, w), as `image_processor` gives them, in any dtype; differentiable.

        In the tower's dtype: `last_hidden_state` (b, cells, hidden), row by row, also as the only one of
        `hidden_states`; `pooler_output` (b, hidden), its mean; `logits` (b, num_labels); `grid` (b, channels, 3, 3).
        """
        states = pixel_values.to(self.stem.weight.dtype, memory_format=torch.channels_last)
        states = relu6(self.stem(states), inplace=True)
        for index, block in enumerate(self.blocks):
            states = block(states)
            if index == self.middle_block:
                grid = adaptive_avg_pool2d(states, GRID)
        cells = relu6(self.head(states), inplace=True).flatten(2).transpose(1, 2)
        pooled = cells.mean(1)
        return EyesOutput(
            last_hidden_state=cells,
            pooler_output=pooled,
            hidden_states=(cells,),
            logits=self.classifier(pooled),
            grid=grid,
        )


def image_processor(side: int = 260) -> CLIPImageProcessorPil:
    """Makes of pictures their middle square, `side` pixels a side, as values (x - 127) / 128."""
    return CLIPImageProcessorPil(
        size={"shortest_edge": side, "longest_edge": MAX_ASPECT * side},
        crop_size={"height": side, "width": side},
        resample=Image.Resampling.BICUBIC,
        image_mean=[127 / 255] * 3,
        image_std=[128 / 255] * 3,
    )


def convert(weights: Mapping[str, torch.Tensor], config: EyesConfig | None = None) -> dict[str, torch.Tensor]:
    """A published checkpoint's state dict as one of `Eyes`, with its batch norms folded into the convolutions.

    `config`: what the checkpoint is one of, by default EfficientNet-Lite2. Raises GcrError for keys that are missing
    or unknown.
    """
    config = config or EyesConfig()
    names = [("_conv_stem", "_bn0", "stem"), ("_conv_head", "_bn1", "head")]
    for i, (*_, expansion) in enumerate(config.blocks()):
        parts = [("_depthwise_conv", "_bn1", "depthwise"), ("_project_conv", "_bn2", "project")]
        parts += [("_expand_conv", "_bn0", "expand")] if expansion != 1 else []
        names += [(f"_blocks.{i}.{conv}", f"_blocks.{i}.{norm}", f"blocks.{i}.{ours}") for conv, norm, ours in parts]
    norm_keys = ("running_mean", "running_var", "weight", "bias")
    expected = {f"{conv}.weight" for conv, *_ in names} | {f"{norm}.{key}" for _, norm, _ in names for key in norm_keys}
    expected |= {"_fc.weight", "_fc.bias"}
    given = {key for key in weights if not key.endswith(".num_batches_tracked")}
    if given != expected:
        raise GcrError(
            f"the checkpoint is no EfficientNet-Lite of these stages: {_named(expected - given)} missing, "
            f"{_named(given - expected)} unknown; convert one with the configuration that it has"
        )
    ours = {"classifier.weight": weights["_fc.weight"], "classifier.bias": weights["_fc.bias"]}
    for conv, norm, name in names:
        mean, variance, scale, shift = (weights[f"{norm}.{key}"] for key in norm_keys)
        folded = fuse_conv_bn_weights(
            weights[f"{conv}.weight"], None, mean, variance, config.batch_norm_eps, scale, shift
        )
        ours[f"{name}.weight"], ours[f"{name}.bias"] = (weight.detach() for weight in folded)
    return ours


def _same(side: int, kernel: int, stride: int) -> tuple[int, int]:
    """The padding before and behind a side."""
    padding = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    return padding // 2, padding - padding // 2


def _named(keys: set[str]) -> str:
    """How many keys these are, and the first of them."""
    return f"{len(keys)} keys ({', '.join(sorted(keys)[:MAX_NAMED])})" if keys else "none"


AutoConfig.register(EyesConfig.model_type, EyesConfig, exist_ok=True)
AutoModel.register(EyesConfig, Eyes, exist_ok=True)

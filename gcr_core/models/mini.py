"""gcr-mini and gcr-mini-clip: the same eyes and the same sentence encoder, as an MLLM and as a CLIP.

gcr-mini's states are what its vocabulary head reads: `said | seen | look | 1`, the joint space and a constant. A prompt
of words has what the words say, one with a picture what the picture shows. That state stands behind all of its tokens
and behind whatever follows: each code of an identifier is told from the prompt alone, so that all are learnt on one
cached state. Importing this module makes both known to transformers. Knows token ids and pixels, no processor.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.functional import normalize, pad
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForImageTextToText,
    BertConfig,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.clip.modeling_clip import CLIPOutput
from transformers.utils.generic import ModelOutput

from gcr_core.models.eyes import GRID, Eyes, EyesConfig, EyesOutput
from gcr_core.models.joint_space import JointSpace
from gcr_core.models.text_encoder import TextEncoder, initialise, pooled


class _Config(PreTrainedConfig):
    """What both models have; `text_config` and `vision_config` may be dictionaries."""

    sub_configs = {"text_config": BertConfig, "vision_config": EyesConfig}  # noqa: RUF012 -- as transformers has it
    text_config: Any = None
    vision_config: Any = None
    seen_size: int = 256
    """The principal directions of the classifier that are kept."""
    look_size: int = 255
    """The random directions of the middle layer."""
    by_words: float = 0.08
    """The temperature of classes by their likeness to words."""
    by_logits: float = 0.05
    """The temperature of classes by a picture's logits, of length one."""
    text_scales: tuple[float, ...] | list[float] = (1.0, 0.35, 0.0)
    """How long said, seen and look are in the vector of a text."""
    picture_scales: tuple[float, ...] | list[float] = (0.05, 0.35, 1.5)
    """The same of a picture, of which the look counts most: a picture that is asked for is mostly itself."""

    def __post_init__(self, **kwargs: Any) -> None:
        for name, kind in self.sub_configs.items():
            given = getattr(self, name)
            if given is None or isinstance(given, dict):
                setattr(self, name, kind(**(given or {})))
        super().__post_init__(**kwargs)

    @property
    def state_size(self) -> int:
        """The numbers of a vector of the joint space, and one."""
        return self.text_config.hidden_size + self.seen_size + self.look_size + 1


class MiniConfig(_Config):
    """gcr-mini's."""

    model_type = "gcr_mini"
    image_token_id: int = 0
    end_token_id: int = 0
    """The separator token, which ends a prompt."""


class MiniClipConfig(_Config):
    """gcr-mini-clip's."""

    model_type = "gcr_mini_clip"

    @property
    def projection_dim(self) -> int:
        return self.state_size - 1


@dataclass
class MiniOutput(ModelOutput):
    """What gcr-mini makes of tokens."""

    last_hidden_state: torch.Tensor | None = None
    """(b, t, state_size) float32, the same for all t."""
    cache: Cache | None = None
    logits: torch.Tensor | None = None
    """(b, t, vocab_size), of the model with its head."""


class _PreTrained(PreTrainedModel):
    base_model_prefix = "model"
    main_input_name = "input_ids"
    input_modalities = ["image", "text"]  # noqa: RUF012 -- as transformers has it
    supports_gradient_checkpointing = False
    _supports_sdpa = True

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        initialise(module, self.config.text_config.initializer_range)
        if isinstance(module, JointSpace):
            for weight in module.parameters():
                nn.init.normal_(weight, std=self.config.text_config.initializer_range)
            nn.init.ones_(module.look_scale)


def _space(config: Any) -> JointSpace:
    text, vision = config.text_config, config.vision_config
    widths = text.hidden_size, config.seen_size, config.look_size
    grid = vision.grid_channels * GRID**2
    return JointSpace(vision.num_labels, *widths, grid, (config.by_words, config.by_logits))


def _scaled(parts: tuple[torch.Tensor, ...], scales: Sequence[float]) -> torch.Tensor:
    return torch.cat([scale * part for scale, part in zip(scales, parts, strict=True)], -1)


class MiniModel(_PreTrained):
    """gcr-mini without its vocabulary head, which is its embedding.

    `phrase_mean` and `phrase_covariance` are those of the words' part, said and seen, of the states of everyday
    phrases: what scores a row gives to texts that have nothing to do with it.
    """

    config: Any
    config_class = MiniConfig

    def __init__(self, config: MiniConfig | MiniClipConfig):
        super().__init__(config)
        self.vision_tower = Eyes(config.vision_config)
        self.language_model = TextEncoder(config.text_config)
        self.space = _space(config)
        words = config.text_config.hidden_size + config.seen_size
        self.phrase_mean = nn.Parameter(torch.zeros(words), requires_grad=False)
        self.phrase_covariance = nn.Parameter(torch.eye(words), requires_grad=False)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.language_model.tokens

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.language_model.tokens = value  # type: ignore[assignment]

    def get_decoder(self) -> nn.Module:
        return self.language_model

    def get_image_features(self, pixel_values: torch.Tensor, **kwargs: Any) -> BaseModelOutputWithPooling:
        """`pooler_output` (b, 1, state_size): the state of each picture."""
        return BaseModelOutputWithPooling(pooler_output=pad(self.seen(pixel_values), (0, 1), value=1.0)[:, None])

    def seen(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """(b, state_size - 1): what each picture is in the joint space."""
        shown: EyesOutput = self.vision_tower(pixel_values)
        return _scaled(self.space.picture(shown), self.config.picture_scales)

    def read(self, input_ids: torch.Tensor, prompt: torch.Tensor) -> torch.Tensor:
        """(b, state_size - 1): what each text is there, whose tokens are those where `prompt` (b, t) is true."""
        states = self.language_model(self.language_model.tokens(input_ids), prompt)
        return _scaled(self.space.text(pooled(states, prompt)), self.config.text_scales)

    def forward(
        self,
        input_ids: torch.Tensor,
        pixel_values: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        mm_encoder_outputs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> MiniOutput:
        """`input_ids` (b, t); `attention_mask` (b, t), 0 for padding; `mm_encoder_outputs` as in Llava."""
        is_end = (input_ids == self.config.end_token_id).int()
        prompt = is_end.cumsum(1) == is_end
        if attention_mask is not None:
            prompt = prompt & attention_mask.bool()
        state = pad(self.read(input_ids, prompt), (0, 1), value=1.0)
        if mm_encoder_outputs is not None or pixel_values is not None:
            given: Any = mm_encoder_outputs["image"] if mm_encoder_outputs else self.get_image_features(pixel_values)  # type: ignore[arg-type]
            pictures = torch.cat([picture.float() for picture in given.pooler_output])
            shows = (input_ids == self.config.image_token_id).any(1)
            state = state.masked_scatter(shows[:, None], pictures)
        return MiniOutput(last_hidden_state=state[:, None].expand(-1, input_ids.shape[1], -1))


class MiniForImageTextToText(_PreTrained):
    """gcr-mini, whose head is its embedding: it reads what stands in the place of `said`."""

    config: MiniConfig
    config_class = MiniConfig

    def __init__(self, config: MiniConfig):
        super().__init__(config)
        self.model = MiniModel(config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.model.set_input_embeddings(value)

    def get_output_embeddings(self) -> Any:
        return self.model.get_input_embeddings()

    def get_decoder(self) -> nn.Module:
        return self.model.language_model

    def get_image_features(self, pixel_values: torch.Tensor, **kwargs: Any) -> BaseModelOutputWithPooling:
        """As `MiniModel.get_image_features`."""
        return self.model.get_image_features(pixel_values)

    def forward(self, input_ids: torch.Tensor, **inputs: Any) -> MiniOutput:
        """As `MiniModel.forward`, with logits."""
        output = self.model(input_ids, **inputs)
        rows = self.get_output_embeddings().weight
        output.logits = output.last_hidden_state[..., : rows.shape[1]] @ rows.float().T
        return output


class MiniClip(_PreTrained):
    """gcr-mini-clip: pictures and texts as vectors of the joint space.

    It is gcr-mini with another face: its weights have the same names, so that both can share one file.
    """

    config: MiniClipConfig
    config_class = MiniClipConfig

    def __init__(self, config: MiniClipConfig):
        super().__init__(config)
        self.model = MiniModel(config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.model.get_input_embeddings()

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, pixel_values: torch.Tensor) -> CLIPOutput:
        """`text_embeds` and `image_embeds` (b, projection_dim), of length one."""
        return CLIPOutput(
            text_embeds=normalize(self.get_text_features(input_ids, attention_mask), dim=-1),
            image_embeds=normalize(self.get_image_features(pixel_values), dim=-1),
        )

    def get_image_features(self, pixel_values: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """(b, projection_dim)."""
        return self.model.seen(pixel_values)

    def get_text_features(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """(b, projection_dim), of whole texts with their first and last token."""
        return self.model.read(input_ids, attention_mask.bool())


for _config, _model in ((MiniConfig, MiniModel), (MiniClipConfig, MiniClip)):
    AutoConfig.register(_config.model_type, _config, exist_ok=True)
    AutoModel.register(_config, _model, exist_ok=True)
AutoModelForImageTextToText.register(MiniConfig, MiniForImageTextToText, exist_ok=True)

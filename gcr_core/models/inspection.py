"""Inspection: what is known of a backbone's checkpoint from its files, without loading it."""

import json
import math
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from gcr_core.errors import HubError
from gcr_core.files.hub import fetch
from gcr_core.files.layout import weight_files
from gcr_core.models.adapter import SMALL_PARAMETERS
from gcr_core.models.device import does_bfloat16, free_bytes
from gcr_core.models.mini import MiniClipConfig, MiniConfig


def has_joint_space(path_or_id: str | Path) -> bool:
    """`Backbone.has_joint_space`, told without loading it. Raises HubError."""
    return _model_type(path_or_id, instead="checkpoints/gcr-mini") == MiniConfig.model_type


def has_other_eyes(clip: str | Path) -> bool:
    """Whether a CLIP is none of gcr-mini's, so that gcr-mini can learn from it what pictures show. Raises HubError."""
    return _model_type(clip, instead="checkpoints/gcr-mini-clip") != MiniClipConfig.model_type


def _model_type(path_or_id: str | Path, instead: str) -> str | None:
    try:
        config = json.loads((fetch(path_or_id, instead=instead) / "config.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise HubError(f"the configuration at {str(path_or_id)!r} cannot be read ({error}): fetch it anew") from error
    return config.get("model_type")


def shares_weights(clip: str | Path, backbone: str | Path) -> bool:
    """Whether a CLIP is a backbone with a joint space, whose states are its vectors and a constant. Raises HubError."""
    folders = (fetch(name, instead="checkpoints/gcr-mini") for name in (clip, backbone))
    of_clip, of_backbone = ([file.resolve() for file in weight_files(folder)] for folder in folders)
    return of_clip == of_backbone and has_joint_space(backbone)


def is_small(path_or_id: str | Path) -> bool:
    """Whether memorising will train all weights of a backbone, told without loading it. Raises HubError."""
    try:
        return parameters(fetch(path_or_id, instead="checkpoints/gcr-mini")) < SMALL_PARAMETERS
    except (OSError, ValueError, LookupError, SafetensorError) as error:
        raise HubError(f"the weights at {str(path_or_id)!r} cannot be read ({error}): fetch them anew") from error


def parameters(folder: Path) -> int:
    """The numbers in a checkpoint's files. Raises OSError, ValueError, LookupError and SafetensorError."""
    weights = 0
    for file in weight_files(folder):
        with safe_open(file, "pt") as tensors:
            weights += sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
    return weights


def asked_parameters(folder: Path, is_clip: bool) -> int:
    """The numbers that a checkpoint's configuration asks for, those of tied weights once; no memory is taken for them.

    `is_clip`: whether it is a CLIP or a backbone. Raises whatever transformers raises for what makes no model.
    """
    from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText

    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    with torch.device("meta"):
        kind = AutoModel if is_clip else AutoModelForImageTextToText
        model = kind.from_config(config, trust_remote_code=False)
        model.tie_weights()
    return sum({id(weight): weight.numel() for weight in model.state_dict(keep_vars=True).values()}.values())


def usual_dtype(folder: Path, device: torch.device) -> torch.dtype:
    """The dtype that `Backbone.from_pretrained` loads a checkpoint in unless told another."""
    weights = parameters(folder)
    if weights < SMALL_PARAMETERS:
        return torch.float32
    fits = weights * torch.float32.itemsize < free_bytes(device)
    return torch.bfloat16 if does_bfloat16(device) or not fits else torch.float32

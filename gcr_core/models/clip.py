"""CLIP: a tower for pictures and one for texts, from a folder or the hub, and the vectors that they make.

SigLIP counts as a CLIP. Vectors are of length one, so their products are cosines. Knows neither galleries nor indexes.
"""

from pathlib import Path
from typing import Any

import torch
from PIL import Image

from gcr_core.errors import HubError, first_line
from gcr_core.files.hub import fetch
from gcr_core.files.origin import Origin
from gcr_core.models.inspection import usual_dtype

LEGACY_EOS = 2
"""An EOS id by which transformers takes a CLIP for one of the first, whose text vector is that of the highest id."""
USUAL_SCALE = 200.0
"""It stands for the scale of a CLIP that was not trained on pairs: gcr-mini-clip's cosines vary a third as much as
those of CLIPs that have learnt 100."""
PADDED_TO_THE_END = ("siglip", "siglip2")
"""The model types whose text tower was trained on texts padded to its whole length."""


def image_features(model: Any, processor: Any, images: list[Image.Image]) -> torch.Tensor:
    """(n, d) float32 vectors of pictures, length one; differentiable."""
    if not images:
        return torch.zeros(0, dimensions(model), device=model.device)
    inputs = processor.image_processor(images, return_tensors="pt").to(model.device, model.dtype)
    return _unit(model.get_image_features(**inputs))


def text_features(model: Any, processor: Any, texts: list[str]) -> torch.Tensor:
    """(n, d) float32 vectors of texts, length one; differentiable."""
    if not texts:
        return torch.zeros(0, dimensions(model), device=model.device)
    inputs = processor.tokenizer(
        texts,
        padding="max_length" if model.config.model_type in PADDED_TO_THE_END else True,
        padding_side="right",
        truncation=True,
        max_length=model.config.text_config.max_position_embeddings,
        return_token_type_ids=False,
        return_tensors="pt",
    )
    return _unit(model.get_text_features(**inputs.to(model.device)))


def dimensions(model: Any) -> int:
    """The dimension d of this CLIP's vectors."""
    return getattr(model.config, "projection_dim", None) or model.config.text_config.projection_size


def logit_scale(model: Any) -> float:
    """By what a CLIP's cosines are multiplied before the softmax over pictures that says which one a text is of."""
    learnt = getattr(model, "logit_scale", None)
    return USUAL_SCALE if learnt is None else learnt.exp().item()


def load_clip(clip: str | Path, device: str | None = None, revision: str | None = None) -> tuple[Any, Any]:
    """(model, processor) of a CLIP in a folder or on the hub, at a revision, ready to embed, in its `usual_dtype`.

    `model.origin` is the CLIP's Origin, None where nobody else has it. Raises HubError.
    """
    from transformers import AutoModel, AutoProcessor

    folder = fetch(clip, instead="checkpoints/gcr-mini-clip", revision=revision)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        dtype = usual_dtype(folder, torch.device(device))
        model = AutoModel.from_pretrained(folder, dtype=dtype, use_safetensors=True, trust_remote_code=False)
        processor = AutoProcessor.from_pretrained(folder, backend="pil", trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise HubError(
            f"{str(clip)!r} holds no CLIP ({first_line(error)}): name one, such as checkpoints/gcr-mini-clip"
        ) from error
    if not (hasattr(model, "get_text_features") and hasattr(model, "get_image_features")):
        raise HubError(
            f"{str(clip)!r} holds no CLIP but a {type(model).__name__}: name one, such as checkpoints/gcr-mini-clip"
        )
    if LEGACY_EOS == model.config.text_config.eos_token_id == processor.tokenizer.eos_token_id:
        raise HubError(
            f"the CLIP at {str(clip)!r} ends texts with token {LEGACY_EOS}, which transformers does not pool "
            "at: give its tokenizer and text_config another eos_token_id"
        )
    model.origin = Origin.of(str(clip), folder)
    return model.eval().to(device), processor


def _unit(output: Any) -> torch.Tensor:
    """A tower's vectors at length one; transformers 5 gives them inside an object."""
    return torch.nn.functional.normalize(getattr(output, "pooler_output", output).float(), dim=-1)

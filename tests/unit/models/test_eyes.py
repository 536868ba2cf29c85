"""The eyes against a reference that pads explicitly and keeps its batch norms."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional
from transformers import AutoImageProcessor, AutoModel, LlamaConfig, LlavaConfig, LlavaModel

from gcr_core.errors import GcrError
from gcr_core.models.eyes import LITE2, Eyes, EyesConfig, convert, image_processor

STAGES = [[1, 8, 3, 1, 1], [2, 12, 5, 2, 6], [2, 16, 3, 2, 3], [1, 16, 5, 1, 2]]
SMALL = dict(image_size=32, hidden_size=24, num_labels=10, stem_channels=8, stages=STAGES)


def blocks():
    """(number, channels in, channels out, kernel, stride, expansion) of each block."""
    number, before = 0, SMALL["stem_channels"]
    for repeats, channels, kernel, first_stride, expansion in STAGES:
        for repeat in range(repeats):
            yield number, before, channels, kernel, first_stride if repeat == 0 else 1, expansion
            number, before = number + 1, channels


def published():
    """A checkpoint as the published ones are, with random weights and statistics."""
    weights = {}

    def layer(conv, norm, channels, before, kernel):
        weights[f"{conv}.weight"] = torch.randn(channels, before, kernel, kernel) / math.sqrt(before * kernel**2)
        weights[f"{norm}.weight"] = 0.5 + torch.rand(channels)
        weights[f"{norm}.bias"] = torch.randn(channels)
        weights[f"{norm}.running_mean"] = torch.randn(channels) / 2
        weights[f"{norm}.running_var"] = 0.2 + torch.rand(channels)
        weights[f"{norm}.num_batches_tracked"] = torch.tensor(7)

    layer("_conv_stem", "_bn0", 8, 3, 3)
    for i, before, channels, kernel, _, expansion in blocks():
        inside = before * expansion
        if expansion > 1:
            layer(f"_blocks.{i}._expand_conv", f"_blocks.{i}._bn0", inside, before, 1)
        layer(f"_blocks.{i}._depthwise_conv", f"_blocks.{i}._bn1", inside, 1, kernel)
        layer(f"_blocks.{i}._project_conv", f"_blocks.{i}._bn2", channels, inside, 1)
    layer("_conv_head", "_bn1", 24, 16, 1)
    return weights | {"_fc.weight": torch.randn(10, 24) / 5, "_fc.bias": torch.randn(10)}


def reference(weights, pixels):
    """(features (b, 24, h, w), logits (b, 10)) of a published checkpoint."""

    def layer(conv, norm, states, stride=1, groups=1):
        weight = weights[f"{conv}.weight"]
        kernel = weight.shape[-1]
        paddings = []
        for side in (states.shape[3], states.shape[2]):
            padding = max((math.ceil(side / stride) - 1) * stride + kernel - side, 0)
            paddings += [padding // 2, padding - padding // 2]
        states = functional.conv2d(functional.pad(states, paddings), weight, stride=stride, groups=groups)
        mean, variance, scale, shift = (
            weights[f"{norm}.{name}"][:, None, None] for name in ("running_mean", "running_var", "weight", "bias")
        )
        return (states - mean) / torch.sqrt(variance + 1e-3) * scale + shift

    states = layer("_conv_stem", "_bn0", pixels, 2).clamp(0, 6)
    for i, before, channels, _, stride, expansion in blocks():
        skipped = states
        if expansion > 1:
            states = layer(f"_blocks.{i}._expand_conv", f"_blocks.{i}._bn0", states).clamp(0, 6)
        states = layer(f"_blocks.{i}._depthwise_conv", f"_blocks.{i}._bn1", states, stride, states.shape[1])
        states = layer(f"_blocks.{i}._project_conv", f"_blocks.{i}._bn2", states.clamp(0, 6))
        if stride == 1 and before == channels:
            states = states + skipped
    features = layer("_conv_head", "_bn1", states).clamp(0, 6)
    return features, features.mean((2, 3)) @ weights["_fc.weight"].T + weights["_fc.bias"]


def drawn(width, height):
    """A picture of colours that run across it, with a disc."""
    y, x = np.mgrid[:height, :width]
    disc = (x - width / 3) ** 2 + (y - height / 2) ** 2 < (min(width, height) / 4) ** 2
    channels = [255 * x / width, 255 * y / height, np.where(disc, 230, 20)]
    return Image.fromarray(np.stack(channels, -1).astype(np.uint8))


@pytest.fixture
def weights():
    return published()


@pytest.fixture
def eyes(weights):
    model = Eyes(EyesConfig(**SMALL)).eval()
    model.load_state_dict(convert(weights, model.config))
    return model


@pytest.mark.parametrize("side", [32, 33, 35, 38, 47, 64])
@torch.no_grad()
def test_logits_and_features_are_those_of_the_published_network(weights, eyes, side):
    pixels = image_processor(side)([drawn(90, 70), drawn(50, 64)], return_tensors="pt").pixel_values
    features, logits = reference(weights, pixels)
    output = eyes(pixels)
    cells = math.ceil(side / 8) ** 2
    assert output.logits.shape == (2, 10) and output.last_hidden_state.shape == (2, cells, 24)
    assert logits.std() > 0.1 and (logits[0] - logits[1]).abs().max() > 0.01
    torch.testing.assert_close(output.logits, logits, atol=1e-4, rtol=0)
    torch.testing.assert_close(output.last_hidden_state, features.flatten(2).transpose(1, 2), atol=1e-4, rtol=0)
    torch.testing.assert_close(output.pooler_output, features.mean((2, 3)), atol=1e-4, rtol=0)


@torch.no_grad()
def test_a_picture_with_one_even_and_one_odd_side_is_padded_for_each(weights, eyes):
    pixels = torch.randn(1, 3, 34, 45)
    torch.testing.assert_close(eyes(pixels).logits, reference(weights, pixels)[1], atol=1e-4, rtol=0)


@torch.no_grad()
def test_what_was_saved_loads_through_automodel_and_sees_the_same(eyes, tmp_path):
    eyes.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors"}
    again = AutoModel.from_pretrained(tmp_path, use_safetensors=True)
    assert type(again) is Eyes and again.config.stages == STAGES and again.config.num_labels == 10
    pixels = torch.randn(2, 3, 32, 32)
    assert torch.equal(again(pixels).logits, eyes(pixels).logits)


@torch.no_grad()
def test_in_bfloat16_it_takes_the_same_pixels_and_agrees_roughly(eyes):
    pixels = image_processor(64)(drawn(80, 80), return_tensors="pt").pixel_values
    whole = eyes(pixels).logits
    half = eyes.to(torch.bfloat16)(pixels).logits
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), whole, atol=0.1, rtol=0)


def test_a_new_tower_tells_pictures_apart_and_passes_gradients():
    eyes = Eyes(EyesConfig(**SMALL))
    pixels = torch.randn(2, 3, 32, 32)
    output = eyes(pixels)
    assert output.pooler_output.std(0).mean() > 1e-3
    output.logits.sum().backward()
    assert all(weight.grad is not None for weight in eyes.parameters())


def test_the_tower_is_lite2_by_default():
    with torch.device("meta"):
        eyes = Eyes(EyesConfig())
    assert eyes.config.stages == [list(stage) for stage in LITE2]
    assert len(eyes.blocks) == 21 and sum(weight.numel() for weight in eyes.parameters()) == 6_063_024
    assert eyes.classifier.weight.shape == (1000, 1280)


@torch.no_grad()
def test_llava_takes_its_cells(eyes):
    text = LlamaConfig(vocab_size=50, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
    llava = LlavaModel(LlavaConfig(vision_config=eyes.config, text_config=text))
    inputs = {"pixel_values": torch.randn(1, 3, 32, 32), "vision_feature_layer": -1}
    (features,) = llava.get_image_features(**inputs, vision_feature_select_strategy="full").pooler_output
    assert features.shape == (16, 16)


@pytest.mark.parametrize("size", [(48, 48), (70, 48), (48, 120), (96, 96), (130, 64)])
def test_a_picture_becomes_its_middle_square(size):
    picture = drawn(*size)
    pixels = image_processor(48)(picture, return_tensors="pt").pixel_values[0]
    side, (width, height) = min(size), size
    left, top = (width - side) // 2, (height - side) // 2
    square = picture.crop((left, top, left + side, top + side)).resize((48, 48), Image.Resampling.BICUBIC)
    expected = (torch.from_numpy(np.array(square)).permute(2, 0, 1).float() - 127) / 128
    # Where the picture shrinks too, half a pixel of place and the crop's edges: the disc's rim alone.
    assert (pixels - expected).abs().mean() < (1e-6 if side == 48 else 0.02)


def test_a_very_long_picture_is_shrunk_to_bound_the_memory_that_it_takes():
    pixels = image_processor(32)(Image.new("RGB", (3_000, 2), "white"), return_tensors="pt").pixel_values[0]
    assert pixels.shape == (3, 32, 32)
    assert pixels[:, 16].min() > 0.99 and pixels[:, 0].max() < -0.99


def test_the_image_processor_loads_without_torchvision(tmp_path):
    image_processor(48).save_pretrained(tmp_path)
    again = AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
    picture = drawn(70, 48)
    pixels = (made(picture, return_tensors="pt").pixel_values for made in (again, image_processor(48)))
    assert torch.equal(*pixels)


def test_convert_refuses_a_checkpoint_with_other_keys(weights):
    config = EyesConfig(**SMALL)
    other = dict(weights)
    del other["_blocks.2._bn1.bias"]
    with pytest.raises(GcrError, match=r"1 keys \(_blocks.2._bn1.bias\) missing, none unknown"):
        convert(other, config)
    with pytest.raises(GcrError, match=r"none missing, 1 keys \(_blocks.0._se_reduce.weight\) unknown"):
        convert(weights | {"_blocks.0._se_reduce.weight": torch.zeros(1)}, config)
    with pytest.raises(GcrError, match=r"missing, none unknown"):
        convert(weights)

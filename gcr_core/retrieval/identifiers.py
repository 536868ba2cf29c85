"""Identifiers: the token sequence that names each image of a gallery, in five types.

`atomic`: one new token an image. `structured`: the path in a tree of recursive k-means over image vectors,
new tokens per level. `numeric`: the running number, a token a digit. `string`: the running number as the
tokenizer cuts it. `semantic`: words of a caption. No two are equal and none is the beginning of another.
Token ids below `vocabulary` are the tokenizer's; `vocabulary + k` is `new_tokens[k]`. `by_place` gives each place in
the tree of any type a new token of its own. Knows nothing about models.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, Self

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from gcr_core.data.gallery import Gallery
from gcr_core.errors import GalleryError, GcrError, MemoryFormatError

IDENTIFIER_TYPES = ("atomic", "structured", "numeric", "string", "semantic")
BRANCHES = 32
"""The codes of a level of structured identifiers: a cluster that holds more images is divided further."""
MAX_WORDS = 8
"""The most words of a caption in a semantic identifier."""
MAX_WORD_TOKENS = 24
"""The most tokens of these words."""
KMEANS_ROUNDS = 20
PLACE = re.compile(r"<\d+ (.*)>", re.DOTALL)
"""The new token of a place in the tree: its number and the text of what leads there."""

Tokenizer = Any


class Identifiers:
    """The identifiers of all images: image i's tokens are `tokens[indptr[i]:indptr[i + 1]]`."""

    type: str
    """One of IDENTIFIER_TYPES."""
    indptr: np.ndarray
    """(images + 1,) int64."""
    tokens: np.ndarray
    """(indptr[-1],) int32."""
    new_tokens: list[str]
    """The tokens that the tokenizer lacks, in the order of their ids."""
    vocabulary: int
    """The id of `new_tokens[0]`: how many tokens the tokenizer had."""

    def __init__(self, type: str, indptr: np.ndarray, tokens: np.ndarray, new_tokens: list[str], vocabulary: int):
        self.type = type
        self.indptr = indptr
        self.tokens = tokens
        self.new_tokens = new_tokens
        self.vocabulary = vocabulary
        self._by_text: dict[str, int] | None = None

    @classmethod
    def build(
        cls,
        type: str,
        gallery: Gallery,
        tokenizer: Tokenizer,
        vectors: np.ndarray | None = None,
        seed: int = 0,
    ) -> Self:
        """Identifiers of one type for all images of a gallery; the same arguments give the same identifiers.

        `vectors` (images, dimensions) float32 are what `structured` divides; no other type reads them.
        """
        vocabulary = len(tokenizer)
        new_tokens: list[str] = []
        images = len(gallery)
        if not images:
            raise GalleryError("the gallery has 0 images; identifiers need at least 1")
        match type:
            case "atomic":
                new_tokens = [f"<img_{image}>" for image in range(images)]
                sequences = [[vocabulary + image] for image in range(images)]
            case "structured":
                if vectors is None or len(vectors) != images:
                    have = "none" if vectors is None else len(vectors)
                    raise GcrError(f"structured identifiers need a vector for each of {images} images, not {have}")
                paths = _cluster_paths(np.asarray(vectors, np.float32), seed)
                levels = max(map(len, paths))
                new_tokens = [f"<c{level}_{code}>" for level in range(levels) for code in range(BRANCHES)]
                sequences = [
                    [vocabulary + BRANCHES * level + code for level, code in enumerate(path)] for path in paths
                ]
            case "numeric":
                digits = [tokenizer.convert_tokens_to_ids(str(digit)) for digit in range(10)]
                if None in digits or tokenizer.unk_token_id in digits:
                    raise GcrError("numeric identifiers need a token for each digit, which this tokenizer lacks")
                sequences = [
                    [*(digits[int(digit)] for digit in str(image)), tokenizer.eos_token_id] for image in range(images)
                ]
            case "string":
                numbers = tokenizer([str(image) for image in range(images)], add_special_tokens=False)
                sequences = [[*ids, tokenizer.eos_token_id] for ids in numbers["input_ids"]]
            case "semantic":
                sequences = _word_sequences(gallery, tokenizer)
            case _:
                raise GcrError(f"unknown identifier type {type!r}; choose one of {', '.join(IDENTIFIER_TYPES)}")
        indptr = np.concatenate([[0], np.cumsum([len(sequence) for sequence in sequences])]).astype(np.int64)
        tokens = np.array([token for sequence in sequences for token in sequence], np.int32)
        return cls(type, indptr, tokens, new_tokens, vocabulary)

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def sequence(self, image: int) -> np.ndarray:
        """(tokens,) int32: the identifier of one image."""
        return self.tokens[self.indptr[image] : self.indptr[image + 1]]

    def extended(self, count: int) -> Self:
        """These and, behind them, `count` identifiers of one new token each, whatever the type."""
        taken = {int(name[5:-1]) for name in self.new_tokens if name.startswith("<img_")}
        first = max(taken, default=len(self) - 1) + 1
        start = self.vocabulary + len(self.new_tokens)
        return type(self)(
            self.type,
            np.concatenate([self.indptr, self.indptr[-1] + np.arange(1, count + 1)]),
            np.concatenate([self.tokens, np.arange(start, start + count, dtype=np.int32)]),
            self.new_tokens + [f"<img_{number}>" for number in range(first, first + count)],
            self.vocabulary,
        )

    def by_place(self, tokenizer: Tokenizer) -> Self:
        """The same tree, but atomic, with a new token for each place where it branches or an image is reached.

        Tokens that nothing branches between become one (a radix tree, Morrison 1968), so that there are fewer than two
        new tokens an image. Their ids ascend with the depth.
        """
        if self.type == "atomic":
            return self
        sequences = [tuple(self.sequence(image).tolist()) for image in range(len(self))]
        nexts = defaultdict(set)
        for sequence in sequences:
            for end, token in enumerate(sequence):
                nexts[sequence[:end]].add(token)
        beginnings = ([sequence[:end] for end in range(1, len(sequence) + 1)] for sequence in sequences)
        paths = [[place for place in places if len(nexts[place]) != 1] for places in beginnings]
        places = [place for place in dict.fromkeys(chain.from_iterable(zip_longest(*paths))) if place]
        ids = {place: len(tokenizer) + number for number, place in enumerate(places)}
        names = [f"<{number} {self.token_text(list(place), tokenizer)}>" for number, place in enumerate(places)]
        tokens = np.array([ids[place] for path in paths for place in path], np.int32)
        indptr = np.cumsum([0, *map(len, paths)]).astype(np.int64)
        return type(self)(self.type, indptr, tokens, names, len(tokenizer))

    def without(self, images: Iterable[int]) -> Self:
        """The identifiers of the other images, in their order; the tokens stay in the list."""
        lengths = np.diff(self.indptr)
        kept = np.isin(np.arange(len(self)), list(images), invert=True)
        indptr = np.concatenate([[0], np.cumsum(lengths[kept])]).astype(np.int64)
        return type(self)(self.type, indptr, self.tokens[np.repeat(kept, lengths)], self.new_tokens, self.vocabulary)

    def joined(self, more: Self, order: Iterable[int]) -> Self:
        """These and those of `more`, which are of the same tokens, in this order, counted through both."""
        sequences = [part.sequence(image) for part in (self, more) for image in range(len(part))]
        sequences = [sequences[image] for image in order]
        indptr = np.concatenate([[0], np.cumsum([len(sequence) for sequence in sequences])]).astype(np.int64)
        return type(self)(self.type, indptr, np.concatenate(sequences), self.new_tokens, self.vocabulary)

    def text(self, image: int, tokenizer: Tokenizer) -> str:
        """An image's identifier as a person reads it: `<c0_5><c1_7>`, `17`, `happy dog`."""
        return self.token_text(self.sequence(image), tokenizer)

    def token_text(self, tokens: np.ndarray | list[int], tokenizer: Tokenizer) -> str:
        """The same for any part of an identifier."""
        if len(tokens) and min(tokens) >= self.vocabulary:
            names = [self.new_tokens[token - self.vocabulary] for token in tokens]
            place = PLACE.fullmatch(names[-1])
            return place[1] if place else "".join(names)
        return _decode(tokenizer, [int(token) for token in tokens])

    def parse(self, text: str, tokenizer: Tokenizer) -> int:
        """The image whose identifier reads so: the inverse of `text`. Raises GcrError when there is none."""
        if self._by_text is None:
            self._by_text = {self.text(image, tokenizer): image for image in range(len(self))}
        if text not in self._by_text:
            raise GcrError(f"no image of {len(self)} has the identifier {text!r}")
        return self._by_text[text]

    def seed_vectors(self, vectors: np.ndarray) -> np.ndarray:
        """(new tokens, dimensions) float32: each new token's mean vector of the images that it stands for.

        `vectors`: (images, dimensions). A code that no image has gets the mean of all images.
        """
        images = np.repeat(np.arange(len(self)), np.diff(self.indptr))
        rows = self.tokens - self.vocabulary
        new = rows >= 0
        order = np.argsort(rows[new], kind="stable")
        used, starts, counts = np.unique(rows[new][order], return_index=True, return_counts=True)
        means = np.tile(vectors.mean(axis=0).astype(np.float32), (len(self.new_tokens), 1))
        if len(used):
            sums = np.add.reduceat(vectors[images[new][order]].astype(np.float32), starts)
            means[used] = sums / counts[:, None]
        return means

    def save(self, path: Path) -> None:
        """Write `identifiers.safetensors`: the two arrays, the rest as JSON in its header."""
        facts = {"type": self.type, "new_tokens": self.new_tokens, "vocabulary": self.vocabulary}
        arrays = {"indptr": self.indptr, "tokens": self.tokens}
        save_file(arrays, path, metadata={"identifiers": json.dumps(facts)})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote. Raises MemoryFormatError when it is something else."""
        try:
            with safe_open(path, "numpy") as file:
                facts = json.loads(file.metadata()["identifiers"])
                indptr, tokens = file.get_tensor("indptr"), file.get_tensor("tokens")
            return cls(facts["type"], indptr, tokens, facts["new_tokens"], facts["vocabulary"])
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise MemoryFormatError(f"{path} holds no identifiers ({error}); memorise the gallery again") from None


def _decode(tokenizer: Tokenizer, tokens: list[int]) -> str:
    return tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False).strip()


def _word_sequences(gallery: Gallery, tokenizer: Tokenizer) -> list[list[int]]:
    """The first caption's words as tokens, and a running number where an earlier image has the same."""
    captions = [
        " ".join(captions[0].split()[:MAX_WORDS]) if captions and captions[0].strip() else "image"
        for captions in gallery.captions
    ]

    def encode(texts: list[str]) -> list[list[int]]:
        return tokenizer(texts, add_special_tokens=False, split_special_tokens=True)["input_ids"]

    if not all(_decode(tokenizer, ids) for ids in encode(list("0123456789"))):
        raise GcrError("semantic identifiers need a token for each digit, which this tokenizer lacks")
    bodies = [ids[:MAX_WORD_TOKENS] for ids in encode(captions)]
    taken: set[str] = set()
    times: Counter[str] = Counter()
    sequences = []
    for body in bodies:
        words, tokens = _decode(tokenizer, body), body
        text = words
        while text in taken or not text:
            times[words] += 1
            tokens = encode([f"{words} {times[words] + 1}"])[0]
            text = _decode(tokenizer, tokens)
        taken.add(text)
        sequences.append([*tokens, tokenizer.eos_token_id])
    return sequences


def _cluster_paths(vectors: np.ndarray, seed: int) -> list[list[int]]:
    """Each image's path in a tree of k-means; in a cluster of at most BRANCHES each has its own code."""
    random = np.random.default_rng(seed)
    paths: list[list[int]] = [[] for _ in vectors]
    pending = [np.arange(len(vectors))]
    while pending:
        members = pending.pop()
        if len(members) <= BRANCHES:
            codes = np.arange(len(members))
        else:
            codes = _kmeans(vectors[members], int(random.integers(2**31)))
            clusters = [members[codes == code] for code in range(BRANCHES)]
            if max(map(len, clusters)) == len(members):
                codes = np.arange(len(members)) * BRANCHES // len(members)
                clusters = [members[codes == code] for code in range(BRANCHES)]
            pending.extend(cluster for cluster in clusters if len(cluster) > 1)
        for image, code in zip(members, codes, strict=True):
            paths[image].append(int(code))
    return paths


def _kmeans(vectors: np.ndarray, seed: int) -> np.ndarray:
    """(n,) int64: the cluster of each vector, 0 to BRANCHES - 1."""
    import faiss

    kmeans = faiss.Kmeans(
        vectors.shape[1],
        BRANCHES,
        niter=KMEANS_ROUNDS,
        seed=seed,
        init_method=faiss.ClusteringInitMethod_KMEANS_PLUS_PLUS,
        min_points_per_centroid=1,
        max_points_per_centroid=len(vectors),
    )
    kmeans.train(vectors)
    return kmeans.assign(vectors)[1]

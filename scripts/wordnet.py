"""Reads WordNet's database files (Debian: wordnet-base): words, senses, glosses, examples.

Format: wndb(5WN), https://wordnet.princeton.edu/documentation/wndb5wn.
"""

import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

FOLDER = Path("/usr/share/wordnet")
PARTS = {"noun": "n", "verb": "v", "adj": "a", "adv": "r"}
ENDINGS = (
    ("ies", "y"),
    ("ves", "f"),
    ("es", ""),
    ("s", ""),
    ("ing", ""),
    ("ing", "e"),
    ("ed", ""),
    ("ed", "e"),
)


@dataclass
class Synset:
    """A sense: the words that share it, its definition and its example phrases."""

    part: str
    lemmas: list[str]
    gloss: str
    examples: list[str]
    pointers: list[tuple[str, tuple[str, str]]] = field(default_factory=list)


class WordNet:
    """All synsets, and for each lemma (lower case, words apart) its synsets, the commonest first."""

    def __init__(self, folder: Path = FOLDER):
        self.synsets: dict[tuple[str, str], Synset] = {}
        self.senses: dict[str, list[tuple[str, str]]] = defaultdict(list)
        self.uses: Counter[str] = Counter()
        for name, part in PARTS.items():
            for line in _rows(folder / f"data.{name}"):
                fields, _, text = line.partition(" | ")
                self.synsets[part, line.split()[0]] = _parse(part, fields.split(), text)
            for line in _rows(folder / f"index.{name}"):
                lemma, _, senses, *rest = line.split()
                self.senses[lemma.replace("_", " ")] += [(part, offset) for offset in rest[-int(senses) :]]
        for line in _rows(folder / "cntlist.rev"):
            key, _, count = line.split()
            self.uses[key.split("%")[0].replace("_", " ")] += int(count)

    def base(self, word: str) -> str | None:
        """The lemma that a word is a form of, or None."""
        if word in self.senses:
            return word
        for ending, instead in ENDINGS:
            if word.endswith(ending) and (lemma := word.removesuffix(ending) + instead) in self.senses:
                return lemma
        return None

    def first(self, lemma: str, senses: int) -> list[Synset]:
        return [self.synsets[key] for key in self.senses.get(lemma, [])[:senses]]


def _rows(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="latin-1").splitlines() if not line.startswith("  ")]


def _parse(part: str, fields: list[str], text: str) -> Synset:
    words = int(fields[3], 16)
    lemmas = [re.sub(r"\(.*\)", "", word).replace("_", " ") for word in fields[4 : 4 + 2 * words : 2]]
    start = 5 + 2 * words
    pointers = [
        (fields[at], (fields[at + 2].replace("s", "a"), fields[at + 1]))
        for at in range(start, start + 4 * int(fields[start - 1]), 4)
    ]
    gloss = re.sub(r'"[^"]*"', "", text).split(";")[0].strip()
    return Synset(part, lemmas, gloss, re.findall(r'"([^"]+)"', text), pointers)

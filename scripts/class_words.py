"""Make `tags.json`: the words that the eyes have, those of ImageNet's 1,000 classes and of the kinds above them.

    apt-get install wordnet-base
    pip download --no-deps timm
    python scripts/class_words.py captions_val2017.json --timm timm-*.whl --out tags.json

A class is a sense of WordNet's. The word of a sense is the one that COCO's captions have most often, of those that mean
it before anything else. A kind has a word only where people write it of photographs (nobody writes "chordate") and
where it tells how something looks (not VAGUE). BETTER and ALSO mend the rest by hand.
"""

import argparse
import json
import re
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

from wordnet import WordNet

from gcr_core.files.atomic import write_text

FOLDER = "timm/data/_info"
KINDS = ("@", "@i")
"""WordNet's pointers from a sense to those that it is a kind of, or an instance of"""
LONGEST = 3
"""The most words of a lemma that are counted in captions"""
WRITTEN, USED = 2, 3
"""How often an everyday word is met in COCO's captions, or else, a single word, in the texts that WordNet counts"""
VAGUE = """
    PC, accessory, alcohol, animal, artifact, associate, attire, audio system, automatic, baked goods, barrier,
    baseball equipment, berry, blower, brace, brake, bun, citrus, clothes, commodity, communication system,
    container, contestant, cover, decoration, device, dispenser, domestic animal, drug, drygoods, dwelling, eating
    utensil, electronic device, electronic equipment, emblem, entity, entree, equipment, explorer, farm building,
    fastening, feed, filter, firearm, fluid, game, game bird, garment, grating, hose, hound, house, household
    appliance, housing, implement, instrument, instrumentation, kitchen appliance, kitchen utensil, lens, lever,
    liquid, loaf, location, machine, mammal, material, medium, mixed drink, motor vehicle, object, obstruction,
    organism, outlet, parcel, part, participant, passenger train, peer, peripheral, piece, pistol, place of
    business, plant, plant part, platform, player, pool, produce, publication, railway car, receptacle, reflector,
    relation, ridge, rig, rod, satellite, sea bird, seasoning, seed, setup, sheath, shelter, shield, signal, small
    boat, solid, stick, structure, stuff, substance, surface, system, terrier, timer, transducer, transport, trap,
    upright, vertebrate, wagon, ware, warmer, wheel, wheeled vehicle, whole, wrapping
"""
"""Words of kinds whose members look nothing alike, that nobody looks for a photograph with, or that stand in the way
of a better one"""
BETTER = {
    "01514668": "rooster",
    "01662784": "turtle",
    "02062744": "whale",
    "02096177": "cairn terrier",
    "02402425": "cattle",
    "02778669": "ball",
    "02808440": "bathtub",
    "02892201": "plaque",
    "03089624": "candy store",
    "03216828": "dock",
    "03461385": "grocery store",
    "03513137": "helmet",
    "03594734": "jeans",
    "03854065": "pipe organ",
    "03895866": "passenger car",
    "03929660": "plectrum",
    "03954731": "carpenter's plane",
    "04243546": "slot machine",
    "04355933": "sunglasses",
    "04379243": "table",
    "04404412": "television",
    "07697537": "hot dog",
    "07881800": "drink",
    "12620546": "rose hip",
    "13133613": "ear of corn",
}
"""The words of senses that are rarely meant by theirs"""
ALSO = {
    "beach": ("09428293", "09421951"),
    "corn": ("13133613",),
    "cup": ("03063599",),
    "elephant": ("01871265",),
    "flag": ("03355925",),
    "lake": ("09332890",),
    "mushroom": ("12998815", "13003061", "13037406", "13052670", "13054560"),
    "sign": ("06794110",),
    "swimsuit": ("03710637",),
}
"""What classes show besides, where WordNet does not put them under it"""


@dataclass(frozen=True)
class ImageClass:
    """A class of ImageNet."""

    offset: str
    """Of its sense, among WordNet 3.0's nouns"""
    lemmas: list[str]
    """Its words, the commonest first"""
    definition: str


def classes(timm: Path | None = None) -> list[ImageClass]:
    """ImageNet's classes, numbered as classifiers number them; `timm`: its wheel, where it is not installed."""
    ids, lemmas, definitions = (
        [line.split("\t") for line in _text(f"{FOLDER}/imagenet_{name}.txt", timm).splitlines()]
        for name in ("synsets", "synset_to_lemma", "synset_to_definition")
    )
    words, meant = dict(lemmas), dict(definitions)
    return [ImageClass(id[1:], words[id].split(", "), meant[id]) for (id,) in ids]


def _text(name: str, timm: Path | None) -> str:
    if timm:
        with zipfile.ZipFile(timm) as wheel:
            return wheel.read(name).decode()
    try:
        installed = files("timm") or []
    except PackageNotFoundError:
        raise SystemExit("a package is missing: pip install --no-deps timm, or name its wheel by --timm") from None
    return next(file for file in installed if str(file) == name).read_text(encoding="utf-8")


def coco_captions(file: Path) -> list[str]:
    """The captions of a file in COCO's format."""
    return [row["caption"] for row in json.loads(file.read_text(encoding="utf-8"))["annotations"]]


def table(known: Sequence[ImageClass], net: WordNet, captions: Iterable[str]) -> list[dict[str, Any]]:
    """{"word", "classes": [numbers]} for each word, those of the fewest classes first."""
    words = _Words(net, captions)
    owners: dict[str, set[int]] = defaultdict(set)
    for number, one in enumerate(known):
        own, *above = _upwards(("n", one.offset), net)
        found = [words.of_class(own), *filter(None, map(words.of_kind, above))]
        found += [word for word, offsets in ALSO.items() if one.offset in offsets]
        for word in found:
            owners[word].add(number)
    return [{"word": word, "classes": sorted(numbers)} for word, numbers in sorted(owners.items(), key=_breadth)]


def _breadth(row: tuple[str, set[int]]) -> tuple[int, int]:
    return len(row[1]), min(row[1])


def _upwards(key: tuple[str, str], net: WordNet) -> Iterator[tuple[str, str]]:
    """A sense and all above it, nearest first."""
    found = [key]
    for here in found:
        yield here
        found += [kind for pointer, kind in net.synsets[here].pointers if pointer in KINDS and kind not in found]


class _Words:
    """The everyday words of senses."""

    def __init__(self, net: WordNet, captions: Iterable[str]) -> None:
        self.net = net
        self.vague = set(" ".join(VAGUE.split()).split(", "))
        self.written: Counter[str] = Counter()
        for caption in captions:
            parts = _plain(caption)
            pieces = (parts[at : at + size] for size in range(1, LONGEST + 1) for at in range(len(parts) - size + 1))
            self.written.update({" ".join(piece) for piece in pieces})

    def of_class(self, key: tuple[str, str]) -> str:
        """The word of a class: where captions have none, the first of its lemmas."""
        lemmas = self.net.synsets[key].lemmas
        return BETTER.get(key[1]) or max(lemmas, key=lambda lemma: self._met(lemma) if self._means(lemma, key) else 0)

    def of_kind(self, key: tuple[str, str]) -> str | None:
        """The word of a kind, or None where it has no everyday word, or a vague one."""
        meaning = [lemma for lemma in self.net.synsets[key].lemmas if self._means(lemma, key)]
        word = BETTER.get(key[1]) or max(meaning, key=self._met, default=None)
        return word if word and word not in self.vague and (key[1] in BETTER or self._everyday(word)) else None

    def _means(self, lemma: str, key: tuple[str, str]) -> bool:
        return self.net.senses[lemma.lower()][:1] == [key]

    def _met(self, lemma: str) -> int:
        plain = " ".join(_plain(lemma))
        return self.written[plain] + self.written[f"{plain}s"]

    def _everyday(self, word: str) -> bool:
        return self._met(word) >= WRITTEN or (" " not in word and self.net.uses[word.lower()] >= USED)


def _plain(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("captions", type=Path, help="COCO's captions_val2017.json")
    parser.add_argument("--timm", type=Path, help="timm's wheel, where it is not installed")
    parser.add_argument("--out", type=Path, required=True, help="the table")
    options = parser.parse_args()
    rows = table(classes(options.timm), WordNet(), coco_captions(options.captions))
    write_text(options.out, json.dumps(rows, ensure_ascii=False))
    print(f"{len(rows):,} words")


if __name__ == "__main__":
    main()

"""The texts that the emoji memory learns from, made of the sample gallery's captions, CLDR and WordNet.

Three kinds, all without the held-out queries: the captions; phrases composed of one image's captions or defining one,
whose image is known; and English at large (misspelt captions, informal words, the teacher's vocabulary, WordNet's
words, phrases, examples and short definitions, sentences composed of them), of which only the teacher says what they
ask for.
"""

import json
import random
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from build_emoji_gallery import CLDR, read_informal, words
from counted import families, hours, in_words, keys, plural
from wordnet import Synset, WordNet

from gcr_core.training.augment import misspell

PEOPLE = {
    "person": ("someone", "somebody", "a person", "human", "people"),
    "man": ("guy", "a man", "he", "dude", "male", "gentleman", "boy"),
    "woman": ("lady", "a woman", "she", "female", "gal", "girl"),
    "people": ("two people", "friends", "folks", "group"),
}
FRAMES = (
    "a {}", "the {}", "some {}", "my {}", "{} please", "picture of a {}", "{} icon", "{} symbol", "i want {}",
    "i am {}", "feeling {}", "so {}", "very {}", "looks {}", "this is a {}", "the word {}", "{} time", "at the {}",
)  # fmt: skip
PAIRS = (
    "{} {}", "{} and {}", "{} with {}", "{} {}", "{} in {}", "{} of {}", "{} on {}", "{}, {}", "a {} for {}", "{} {}",
)  # fmt: skip
ACTIONS = (
    "someone {}",
    "person {}",
    "man {}",
    "woman {}",
    "people {}",
    "{}",
    "a guy {}",
    "i am {}",
    "she is {}",
)
SLANG = Path(__file__).parent / "slang.txt"
"""What WordNet's and the teacher's English lack, and what it means: a line each, `haha: laughing`."""
WORD_MET, DEFINITION_MET, INFORMAL_MET, MISSPELT_MET = 3.0, 1.5, 30.0, 1.0
"""How often a rare word of the vocabulary, a definition, an informal word and a misspelt caption are met for once that
another English text is."""
WORD_MISSPELT = 16
"""How many slips a caption of one word is given; longer ones are given one"""
COMMONEST = 20
"""The commonest words are met more often than the rare ones by the root of this."""
CLAUSES, CLAUSE = 6, range(2, 7)
"""Of a definition that the corpus holds at most; how far their last word is from their first"""
SENSES, FEW = 3, 2
"""Of a word that a definition is looked for in; the images that have a keyword at most, for it to be defined."""
BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
PHRASES = (BENCHMARKS / "phrases.jsonl", BENCHMARKS / "descriptions.jsonl")
REGIONAL_A = 0x1F1E6


@dataclass
class Corpus:
    names: list[list[str]]
    """`names[i]`: of image i; CLDR's first, then what a keycap shows, both with numbers as words too"""
    captions: list[list[str]]
    """`captions[i]`: of image i, its names first"""
    definitions: list[tuple[str, int]]
    """(text, image): what a dictionary says of an image"""
    composed: list[tuple[str, list[int]]]
    """(text, images it is made for)"""
    excerpts: set[str]
    """those of the composed texts that definitions are made into"""
    counted: set[str]
    """those of the composed texts that say a number, a letter or who a family are"""
    english: dict[str, float]
    """English at large, some of it composed too: how often each text is met beside the others"""
    meaning: dict[str, str]
    """what some of these texts mean: slang in plain words, a misspelt caption as it should be"""


class HeldOut:
    """The queries kept for measuring; `fits` says that a text holds no held-out keyword and is no phrase."""

    def __init__(self, keywords: Path, phrases: Iterable[Path]):
        self.phrases, *whole = (
            {words(json.loads(line)["query"]) for line in file.read_text(encoding="utf-8").splitlines()}
            for file in (keywords, *phrases)
        )
        self.whole = set().union(*whole)
        self.longest = max(map(len, self.phrases))

    def fits(self, text: str) -> bool:
        parts = words(text)
        return parts not in self.whole and not any(
            parts[start : start + length] in self.phrases
            for length in range(1, self.longest + 1)
            for start in range(len(parts) - length + 1)
        )


def emoji_of(file_name: str) -> str:
    return "".join(chr(int(code, 16)) for code in file_name.removesuffix(".png").split("-"))


def build(assets: Path, file_names: list[str], captions: list[list[str]], vocabulary: list[str], seed: int) -> Corpus:
    """The corpus of a gallery; `vocabulary`: words that people write, the commonest first (the teacher's)."""
    held_out = HeldOut(assets / "emoji_queries.jsonl", PHRASES)
    net = WordNet()
    draws = random.Random(seed)
    known = set(vocabulary)
    names = [[texts[0], *filter(held_out.fits, _other_names(texts[0], net))] for texts in captions]
    captions = [list(dict.fromkeys([*named, *texts])) for named, texts in zip(names, captions, strict=True)]
    definitions = list(_definitions(captions, net))
    composed: dict[str, set[int]] = defaultdict(set)
    made = [*_from_captions(captions, net, draws), *_flags(file_names, captions, net)]
    excerpts = list(_excerpts(definitions, net, draws))
    counted = [*keys(names), *hours(names, net), *families(captions, net)]
    for text, image in made + excerpts + counted:
        composed[_plain(text)].add(image)
    english = dict.fromkeys(_short_definitions(net, known), DEFINITION_MET)
    english |= dict.fromkeys([*_from_wordnet(net, known), *_sentences(captions, net, known, draws)], 1.0)
    size = len(vocabulary)
    english |= {
        word: WORD_MET * (size / (rank + size / COMMONEST)) ** 0.5
        for rank, word in enumerate(vocabulary)
        if len(word) > 1
    }
    misspelt = dict(_misspelt(captions, net, known, draws))
    english = dict.fromkeys(misspelt, MISSPELT_MET) | english
    slang = dict(line.split(": ", 1) for line in SLANG.read_text(encoding="utf-8").splitlines())
    english |= dict.fromkeys([*read_informal(), *slang], INFORMAL_MET)
    own = {_plain(text) for texts in captions for text in texts}
    return Corpus(
        names,
        captions,
        [(text, image) for text, image in definitions if held_out.fits(text)],
        [(t, sorted(images)) for t, images in composed.items() if t not in own and held_out.fits(t)],
        {text for text, _ in excerpts} - {_plain(text) for text, _ in made},
        {_plain(text) for text, _ in counted},
        {
            text: met
            for text, met in ((_plain(text), met) for text, met in english.items())
            if text not in own and held_out.fits(text)
        },
        misspelt | slang,
    )


def _plain(text: str) -> str:
    return " ".join(text.lower().split())


def _other_names(name: str, net: WordNet) -> list[str]:
    """What a keycap shows, and names with numbers as words: "10", "keycap: ten" and "ten" for "keycap: 10"."""
    shown = name.removeprefix("keycap: ")
    spoken = (" ".join(in_words(part, net) for part in each.split()) for each in (name, shown))
    return [other for other in dict.fromkeys([shown, *spoken]) if other != name]


def _doing(verb: str) -> str:
    if verb.endswith("e") and not verb.endswith(("ee", "ye", "oe")):
        verb = verb.removesuffix("e")
    elif re.fullmatch("[^aeiou]*[aeiou][bdgklmnprt]", verb):
        verb += verb[-1]
    return verb + "ing"


def _from_captions(captions: list[list[str]], net: WordNet, draws: random.Random) -> Iterator[tuple[str, int]]:
    """(text, image): what people might type for an image, in its captions' words and WordNet's synonyms for them."""
    for image, texts in enumerate(captions):
        texts = [_plain(text.replace(":", "")) for text in texts]
        name = texts[0]
        for text in texts:
            parts = text.split()
            yield draws.choice(FRAMES).format(text), image
            if len(parts) > 1:
                yield " ".join(draws.sample(parts, len(parts))), image
                yield "".join(parts[:3]), image
                yield (
                    " ".join(part for part in parts if part not in ("face", "with", "person", "of", "button")),
                    image,
                )
            for at, part in enumerate(parts):
                before, after = parts[:at], parts[at + 1 :]
                for other in PEOPLE.get(part, ()):
                    yield " ".join([*before, other, *after]), image
                lemma = net.base(part)
                if lemma is None:
                    continue
                for synset in net.first(lemma, 2):
                    for other in synset.lemmas[:4]:
                        if other.lower() != part:
                            yield " ".join([*before, other, *after]), image
                if _is(net, lemma, "n") and not part.endswith("s"):
                    yield " ".join([*before, plural(part), *after]), image
                if part.endswith("s") and part != lemma:
                    yield " ".join([*before, lemma, *after]), image
                if _is(net, lemma, "v"):
                    yield " ".join([*before, _doing(lemma), *after]), image
        for _ in texts:
            if len(texts) > 1:
                one, other = draws.sample(texts, 2)
                yield draws.choice(PAIRS).format(one, other), image
            if len(texts) > 2:
                yield " ".join(draws.sample(texts, 3)), image
            if name.split()[0] in PEOPLE and len(texts) > 1:
                rest = " ".join(name.split()[1:])
                who = draws.choice(PEOPLE[name.split()[0]])
                verb = draws.choice(texts[1:])
                yield f"{who} {_doing(verb) if _is(net, verb, 'v') else verb} {rest}", image


def _is(net: WordNet, lemma: str, part: str) -> bool:
    """Whether the commonest senses of a lemma hold this part of speech."""
    return any(synset.part == part for synset in net.first(lemma, 8))


def _misspelt(
    captions: list[list[str]], net: WordNet, known: set[str], draws: random.Random
) -> Iterator[tuple[str, str]]:
    """(a caption with one slip in it, the caption), where the slip makes no other English word."""
    for text in sorted({_plain(text) for texts in captions for text in texts}):
        for _ in range(1 if " " in text else WORD_MISSPELT):
            typed = misspell(text, draws)
            if typed != text and typed not in known and not net.base(typed):
                yield typed, text


def _flags(file_names: list[str], captions: list[list[str]], net: WordNet) -> Iterator[tuple[str, int]]:
    """(text, image) for flags: the region's code and other names (CLDR), its synonyms, people and capital (WordNet)."""
    territories: dict[str, list[str]] = defaultdict(list)
    for element in ElementTree.parse(CLDR / "main" / "en.xml").iter("territory"):
        territories[element.attrib["type"]].append(element.text or "")
    words_of_place: dict[str, list[str]] = defaultdict(list)
    places = {name for of_place in territories.values() for name in of_place}
    for synset in net.synsets.values():
        for place in places.intersection(synset.lemmas):
            words_of_place[place.lower()] += synset.lemmas
        if synset.part == "a":
            for kind, key in synset.pointers:
                if kind == "\\" and key in net.synsets:
                    for place in net.synsets[key].lemmas:
                        words_of_place[place.lower()] += synset.lemmas
        if capital := re.search(r"^(?:the )?capital (?:and .*)?of (?:the )?([A-Z][\w ]+)$", synset.gloss):
            words_of_place[capital[1].lower()] += synset.lemmas
    for image, file_name in enumerate(file_names):
        emoji = emoji_of(file_name)
        if not captions[image][0].startswith("flag: "):
            continue
        names = [captions[image][0].removeprefix("flag: ")]
        if len(emoji) == 2:
            code = "".join(chr(ord(letter) - REGIONAL_A + ord("a")) for letter in emoji)
            names += [*territories[code.upper()], code]
        names += [other for place in list(names) for other in words_of_place[place.lower()]]
        for other in names:
            plain = other.replace("&", "and")
            yield from ((text, image) for text in (plain, f"{plain} flag", f"flag of {plain}", f"flag {plain}"))


def _definitions(captions: list[list[str]], net: WordNet) -> Iterator[tuple[str, int]]:
    """(text, image): what a dictionary says of an image's name, or of a keyword that few images have, and the other
    words whose first sense that is.

    Of a name's commonest senses as a noun the one that shares most words with the image's captions (Lesk 1986); of a
    keyword's one that shares any.
    """
    plain = [[_plain(text) for text in texts] for texts in captions]
    owners = Counter(text for texts in plain for text in set(texts))
    for image, texts in enumerate(plain):
        for text in texts:
            others = {word for other in texts if other != text for word in _telling(other, net)} - set(words(text))
            senses = [sense for sense in net.first(net.base(text) or "", SENSES) if sense.part == "n"]
            shared = [len(others.intersection(words(f"{sense.gloss} {' '.join(sense.lemmas)}"))) for sense in senses]
            if senses and (text == texts[0] or (max(shared) and owners[text] <= FEW)):
                sense = senses[shared.index(max(shared))]
                yield " ".join(_definition(sense)), image
                for lemma in map(_plain, sense.lemmas):
                    if lemma not in texts and net.first(lemma, 1) == [sense]:
                        yield lemma, image


def _definition(synset: Synset) -> tuple[str, ...]:
    """The words of its gloss, without those in brackets."""
    return words(re.sub(r"\([^)]*\)", "", synset.gloss))


def _excerpts(definitions: list[tuple[str, int]], net: WordNet, draws: random.Random) -> Iterator[tuple[str, int]]:
    """(text, image): the definitions, and of each three telling words and some clauses, as somebody might describe the
    thing who does not think of its name: "large rotating machine with seats"."""
    for definition, image in definitions:
        yield definition, image
        telling = _telling(definition, net)
        for _ in range(min(3, len(telling) - 3)):
            yield " ".join(telling[at] for at in sorted(draws.sample(range(len(telling)), 3))), image
        parts = words(definition)
        ends = [at for at, word in enumerate(parts) if word in telling]
        clauses = [parts[start : end + 1] for start in ends for end in ends if end - start in CLAUSE]
        for clause in draws.sample(clauses, min(CLAUSES, len(clauses))):
            yield " ".join(clause), image


def _telling(text: str, net: WordNet) -> list[str]:
    """The words of a text that are more than grammar."""
    return [word for word in words(text) if len(word) > 3 and net.base(word)]


def _from_wordnet(net: WordNet, known: set[str]) -> Iterator[str]:
    """Lemmas and example phrases in words that people write, and the words that definitions and examples are of."""
    for lemma in net.senses:
        if all(part in known for part in re.split("[ -]", lemma)):
            yield lemma
    for synset in net.synsets.values():
        for example in synset.examples:
            parts = words(example)
            if 1 < len(parts) <= 8 and all(part in known for part in parts):
                yield " ".join(parts)
        for word in words(" ".join([synset.gloss, *synset.examples])):
            if len(word) > 1 and word.isalpha() and net.base(word):
                yield word


def _short_definitions(net: WordNet, known: set[str]) -> Iterator[str]:
    """Definitions as long as a query, in words that people write: phrases for things rather than their names."""
    for parts in map(_definition, net.synsets.values()):
        if 1 < len(parts) <= 7 and known.issuperset(parts):
            yield " ".join(parts)


def _sentences(
    captions: list[list[str]], net: WordNet, known: set[str], draws: random.Random, count: int = 12_000
) -> Iterator[str]:
    """Phrases of a frame and common words: someone doing something, a thing of some kind, two things."""
    common = [lemma for lemma, _ in net.uses.most_common(9000) if all(part in known for part in lemma.split())]
    nouns, verbs, adjectives = (
        [lemma for lemma in common if net.first(lemma, 1) and net.first(lemma, 1)[0].part == part] for part in "nva"
    )
    things = [_plain(text) for texts in captions for text in texts]
    for _ in range(count):
        noun, thing = draws.choice(nouns), draws.choice(things)
        match draws.randrange(6):
            case 0:
                yield f"{draws.choice(adjectives)} {draws.choice((noun, thing))}"
            case 1:
                yield draws.choice(ACTIONS).format(
                    f"{_doing(draws.choice(verbs))} {draws.choice(('', 'a', 'the'))} {thing}"
                )
            case 2:
                yield draws.choice(PAIRS).format(*draws.sample((noun, thing), 2))
            case 3:
                yield draws.choice(FRAMES).format(noun)
            case 4:
                yield draws.choice(PAIRS).format(thing, draws.choice(things))
            case 5:
                yield draws.choice(ACTIONS).format(_doing(draws.choice(verbs)))

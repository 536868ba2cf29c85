"""Counted: what people say of things that a number or a letter tells apart, keycaps, clocks and families.

A part of the corpus: each text comes with the image that it asks for.
"""

import re
from collections.abc import Iterator
from itertools import product

from wordnet import WordNet

KEYS = (
    "number {}", "the number {}", "numeral {}", "{} key", "{} button", "number {} button", "button {}",
)  # fmt: skip
LETTERS = ("letter {}", "the letter {}", "capital {}", "capital letter {}", "letter {} button")
HOURS = (
    "{} o'clock", "{} o clock", "{} oclock", "at {} o'clock", "{} am", "{} pm", "{} in the morning",
    "{} in the afternoon", "clock at {}",
)  # fmt: skip
FIGURE_HOURS = ("{}am", "{}pm")
HALVES = (
    "half past {}",
    "at half past {}",
    "half {}",
    "{} thirty",
    "{} thirty am",
    "{} thirty pm",
    "clock at {} thirty",
)
FIGURE_HALVES = ("{}:30 am", "{}:30 pm", "{}:30am", "{}:30pm", "clock at {}:30")
PARENTS = (
    {"man": "dad", "woman": "mom"},
    {"man": "dad", "woman": "mum"},
    {"man": "father", "woman": "mother"},
    {"man": "daddy", "woman": "mummy"},
)
CHILDREN = ({"girl": "daughter", "boy": "son"}, {"girl": "girl", "boy": "boy"}, {"girl": "kid", "boy": "kid"})
MEMBERS = ("{} {}", "{} and {}", "{} with {}")


def in_words(number: str, net: WordNet) -> str:
    """The word that WordNet writes a number with, if this is one."""
    senses = net.first(number, 1) if any(map(str.isdigit, number)) else []
    return senses[0].lemmas[0] if senses else number


def plural(word: str) -> str:
    if re.search("(s|x|z|ch|sh)$", word):
        return word + "es"
    return re.sub("([^aeiou])y$", r"\1ie", word) + "s"


def keys(names: list[list[str]]) -> Iterator[tuple[str, int]]:
    """(text, image) for the numbers on keycaps, in figures and words, and for buttons with one letter."""
    for image, named in enumerate(names):
        shown = [name for name in named if not name.startswith("keycap: ")]
        if shown[0].isdigit():
            yield from ((frame.format(number), image) for number in shown for frame in KEYS)
        elif letter := re.fullmatch(r"(?:circled )?([A-Z])( button.*)?", shown[0]):
            yield from ((frame.format(letter[1]), image) for frame in LETTERS)


def hours(names: list[list[str]], net: WordNet) -> Iterator[tuple[str, int]]:
    """(text, image) for the time that clocks show, in words and in figures, those of 24 hours as well."""
    figures = {in_words(str(hour), net): hour for hour in range(1, 13)}
    for image, (name, *_) in enumerate(names):
        if shown := re.fullmatch("(.+)( o’clock|-thirty)", name):
            word, hour, minutes = shown[1], figures[shown[1]], "00" if shown[2] == " o’clock" else "30"
            said, written = (HOURS, FIGURE_HOURS) if minutes == "00" else (HALVES, FIGURE_HALVES)
            yield from ((frame.format(either), image) for either in (word, hour) for frame in said)
            yield from ((frame.format(hour), image) for frame in written)
            yield f"{(hour + 12) % 24}:{minutes}", image


def families(captions: list[list[str]], net: WordNet) -> Iterator[tuple[str, int]]:
    """(text, image) for families by their members: "mom and two daughters", "family of three"."""
    for image, name in ((image, text) for image, texts in enumerate(captions) for text in texts):
        if not name.startswith("family: "):
            continue
        members = name.removeprefix("family: ").split(", ")[::-1]
        size = str(len(members))
        yield from ((f"family of {count}", image) for count in (size, in_words(size, net)))
        for parents, children, two in product(PARENTS, CHILDREN, ("two", "2")):
            grown, small = (
                _together([said[who] for who in members if who in said], two) for said in (parents, children)
            )
            yield from ((frame.format(grown, small), image) for frame in MEMBERS)


def _together(members: list[str], two: str) -> str:
    """One or two of a family: "dad", "mom and dad", "two sons"."""
    one, *other = members
    return f"{two} {plural(one)}" if other == [one] else " and ".join(members)

"""The texts of scripts/corpus.py, from a WordNet of a few words."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "scripts"))

SYNSETS = {
    "pager beeper": "an electronic device that chirps when somebody rings",
    "horn beeper": "a noisy alarm",
    "horn": "a hard outgrowth of an animal",
    "device": "something that is made for a purpose",
    "klaxon horn": 'a noisy electric alarm; "the klaxons of the city"',
}


@pytest.fixture
def net(tmp_path):
    from wordnet import PARTS, WordNet

    for part in PARTS:
        (tmp_path / f"data.{part}").touch()
        (tmp_path / f"index.{part}").touch()
    (tmp_path / "cntlist.rev").touch()
    senses: dict[str, list[str]] = {}
    rows = []
    for number, (lemmas, gloss) in enumerate(SYNSETS.items()):
        words = lemmas.split()
        rows.append(f"{number:08} 06 n {len(words):02x} {' '.join(f'{word} 0' for word in words)} 000 | {gloss}")
        for word in words:
            senses.setdefault(word, []).append(f"{number:08}")
    (tmp_path / "data.noun").write_text("\n".join(rows))
    (tmp_path / "index.noun").write_text(
        "\n".join(f"{word} n {len(found)} 0 {len(found)} 0 {' '.join(found)}" for word, found in senses.items())
    )
    return WordNet(tmp_path)


def test_an_image_is_defined_by_its_names_sense_and_by_the_other_words_for_it(net):
    from corpus import _definitions

    assert list(_definitions([["pager", "electronic"]], net)) == [
        ("an electronic device that chirps when somebody rings", 0),
        ("beeper", 0),
    ]


def test_a_word_that_means_something_else_first_is_not_asked_for(net):
    from corpus import _definitions

    assert list(_definitions([["klaxon", "alarm"]], net)) == [("a noisy electric alarm", 0)]


def test_english_holds_what_definitions_and_examples_are_written_in(net):
    from corpus import _from_wordnet

    assert {"device", "klaxons"} == set(_from_wordnet(net, set()))

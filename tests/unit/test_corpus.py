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


def test_keycaps_and_letters_are_asked_for_by_what_they_show():
    from counted import keys

    asked = dict(keys([["keycap: 7", "7", "seven"], ["keycap: #", "#"], ["A button (blood type)"], ["OK button"]]))
    assert (asked["number 7"], asked["button seven"], asked["letter A"]) == (0, 0, 2)
    assert set(asked.values()) == {0, 2}


def test_clocks_are_asked_for_by_the_time_in_figures_and_words(net, monkeypatch):
    import counted

    monkeypatch.setattr(counted, "in_words", lambda number, net: {"3": "three"}.get(number, number))
    asked = dict(counted.hours([["three o’clock"], ["three-thirty"], ["alarm clock"]], net))
    assert (asked["three pm"], asked["15:00"], asked["half past three"], asked["3:30 pm"]) == (0, 0, 1, 1)
    assert set(asked.values()) == {0, 1}


def test_families_are_asked_for_by_their_members(net):
    from counted import families

    asked = list(families([["family"], ["family: man, woman, girl"], ["family: woman, boy, boy"]], net))
    assert {("mom and two sons", 2), ("mom and dad with girl", 1), ("family of 3", 1), ("family of 3", 2)} <= {*asked}
    assert {image for _, image in asked} == {1, 2}

"""The words of scripts/class_words.py, from a WordNet of a few senses and captions that a person might write."""

import sys
import zipfile
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "scripts"))

NOUNS = (
    ("00000001", "entity", None),
    ("00000002", "animal", "00000001"),
    ("00000003", "canid canine", "00000002"),
    ("00000004", "dog Canis_familiaris", "00000003"),
    ("00000005", "Lab Labrador_retriever", "00000004"),
    ("00000006", "poodle", "00000004"),
    ("00000007", "cock", "00000001"),
    ("01514668", "cock", "00000002"),
    ("00000008", "place", "00000001"),
    ("09421951", "sandbar sand_bar", "00000008"),
)
"""Offset, words and the kind of each sense; the first sense of a word is its commonest."""
CAPTIONS = ["A labrador retriever.", "Labrador retrievers and another dog", "two dogs with a canid", "a cock", "places"]


@pytest.fixture
def net(tmp_path):
    from wordnet import PARTS, WordNet

    for part in PARTS:
        (tmp_path / f"data.{part}").touch()
        (tmp_path / f"index.{part}").touch()
    (tmp_path / "cntlist.rev").touch()
    rows, senses = [], {}
    for offset, lemmas, kind in NOUNS:
        words = lemmas.split()
        named = " ".join(f"{word} 0" for word in words)
        pointers = f"001 @ {kind} n 0000" if kind else "000"
        rows.append(f"{offset} 03 n {len(words):02x} {named} {pointers} | a thing")
        for word in words:
            senses.setdefault(word.lower(), []).append(offset)
    (tmp_path / "data.noun").write_text("\n".join(rows))
    index = [f"{word} n {len(of)} 0 {len(of)} 0 {' '.join(of)}" for word, of in senses.items()]
    (tmp_path / "index.noun").write_text("\n".join(index))
    return WordNet(tmp_path)


@pytest.fixture
def words(net):
    from class_words import ImageClass, table

    known = [ImageClass(offset, [], "") for offset in ("00000005", "00000006", "01514668", "09421951")]
    return {row["word"]: row["classes"] for row in table(known, net, CAPTIONS)}


def test_a_class_has_the_word_that_captions_have_most_often(words):
    assert words["Labrador retriever"] == [0]
    assert words["poodle"] == [1]
    assert "Lab" not in words


def test_a_kind_has_its_classes_and_stands_behind_them_unless_its_word_is_rare_or_vague(words):
    assert words["dog"] == [0, 1]
    assert list(words)[-1] == "dog"
    assert not {"canid", "canine", "animal", "entity", "place"} & set(words)


def test_words_that_mean_something_else_are_mended_by_hand(words):
    assert words["rooster"] == [2] and "cock" not in words
    assert words["beach"] == words["sandbar"] == [3]


def test_classes_are_read_from_timms_wheel_in_their_order(tmp_path):
    from class_words import FOLDER, ImageClass, classes

    with zipfile.ZipFile(tmp_path / "timm.whl", "w") as wheel:
        wheel.writestr(f"{FOLDER}/imagenet_synsets.txt", "n00000006\nn00000005\n")
        wheel.writestr(f"{FOLDER}/imagenet_synset_to_lemma.txt", "n00000005\tlabrador, Lab\nn00000006\tpoodle\n")
        wheel.writestr(
            f"{FOLDER}/imagenet_synset_to_definition.txt", "n00000005\ta dog, that swims\nn00000006\tcurly\n"
        )
    assert classes(tmp_path / "timm.whl") == [
        ImageClass("00000006", ["poodle"], "curly"),
        ImageClass("00000005", ["labrador", "Lab"], "a dog, that swims"),
    ]

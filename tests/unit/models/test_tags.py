"""Words for what the eyes see: which are given for which odds."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from gcr_core.errors import HubError
from gcr_core.models.tags import MOST, Tagger, is_noise

TABLE = [
    {"word": "dog", "classes": [0, 1, 2]},
    {"word": "retriever", "classes": [0, 1]},
    {"word": "Labrador retriever", "classes": [0]},
    {"word": "poodle", "classes": [2]},
    {"word": "boat", "classes": [3]},
    {"word": "animal", "classes": [0, 1, 2, *range(10, 40)]},
]


def tags(odds, table=TABLE, classes=100):
    """The tags for an image: `odds` of some classes, the rest evenly over the others."""
    rest = (1 - sum(odds.values())) / (classes - len(odds))
    return Tagger(table).tags(torch.tensor([[odds.get(i, rest) for i in range(classes)]]).log())[0]


def test_a_sure_class_is_named_then_what_it_is_but_no_third_word_says_the_same():
    assert tags({0: 0.9}) == ["Labrador retriever", "retriever"]
    assert tags({2: 0.9}) == ["poodle", "dog"]
    apple = [{"word": word, "classes": [0]} for word in ("Granny Smith", "apple")]
    assert tags({0: 0.9}, [*apple, {"word": "fruit", "classes": [0, 1]}]) == ["Granny Smith", "apple"]


def test_a_kind_is_named_where_its_class_is_unclear():
    assert tags({0: 0.28, 1: 0.28, 2: 0.28}) == ["retriever", "dog"]
    assert tags({0: 0.29, 2: 0.29, 3: 0.29}) == ["dog"]


def test_a_broader_word_that_is_far_likelier_is_given_too():
    assert tags({0: 0.35, 1: 0.15, 2: 0.2}) == ["Labrador retriever", "retriever", "dog"]


def test_two_things_in_a_picture_are_both_named():
    assert tags({2: 0.45, 3: 0.45}) == ["poodle", "boat", "dog"]


def test_nothing_is_said_for_flat_odds_however_many_classes_a_word_has():
    assert tags({}) == []
    assert tags({3: 0.25}) == []
    assert tags({}, [{"word": "thing", "classes": list(range(90))}]) == []


def test_no_image_gets_more_than_the_most():
    table = [{"word": str(i), "classes": [0, i + 1]} for i in range(MOST + 3)]
    assert tags({0: 0.9}, table) == [str(i) for i in range(MOST)]


def test_images_are_judged_each_by_itself_in_any_dtype():
    logits = torch.zeros(2, 100, dtype=torch.bfloat16)
    logits[1, 3] = 9.0
    assert Tagger(TABLE).tags(logits) == [[], ["boat"]]
    assert Tagger(TABLE).tags(logits[:0]) == []


def test_the_words_are_read_from_a_checkpoint_that_has_some(tmp_path):
    assert Tagger.from_folder(tmp_path) is None
    (tmp_path / "tags.json").write_text(json.dumps(TABLE))
    tagger = Tagger.from_folder(tmp_path)
    assert tagger and tagger.words[0] == "Labrador retriever"
    for broken in ("no json", '[{"word": "dog"}]', "[1]"):
        (tmp_path / "tags.json").write_text(broken)
        with pytest.raises(HubError, match=r"tags\.json holds no words.*fetch"):
            Tagger.from_folder(tmp_path)


@pytest.mark.parametrize("grain", [300, 60, 16])
def test_noise_of_any_grain_is_noise(grain):
    dots = np.random.default_rng(grain).integers(0, 256, (grain, grain, 3), dtype=np.uint8)
    assert is_noise(Image.fromarray(dots).resize((300, 200), Image.Resampling.NEAREST))


def test_pictures_are_no_noise(tiny_gallery):
    assert not any(is_noise(tiny_gallery.open(image)) for image in range(len(tiny_gallery)))
    assert not is_noise(Image.new("RGB", (40, 40), "red"))
    assert not is_noise(Image.linear_gradient("L"))

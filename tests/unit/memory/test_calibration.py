"""How a memory learns how sure it can be: whom it asks, what it makes of the answers, for how long that holds."""

import json

import faiss
import numpy as np
import pytest

from gcr_core.data.gallery import Gallery
from gcr_core.memory import calibration
from gcr_core.memory.build import make_memory
from gcr_core.memory.memory import Memory
from gcr_core.retrieval import match
from gcr_core.retrieval.dense import DenseIndex
from gcr_core.training.config import Recipe
from gcr_core.training.everyday import GIBBERISH, MOST_PHRASES, PHRASES, absent_phrases
from gcr_core.training.preflight import HELD_OUT_CHEAPLY, HELD_OUT_FEWEST, hold_out
from gcr_core.training.states import states_of_texts

ENGINES = ["generative", "dense"]


@pytest.fixture
def own_memory(tiny_memory_dir):
    """The tiny memory, to be changed."""
    return Memory.from_pretrained(tiny_memory_dir, device="cpu")


def fitted(monkeypatch):
    """The answers that calibrations are fitted on from now on."""
    seen = []
    monkeypatch.setattr(match.Calibration, "fit", lambda answers, names: seen.append(answers))
    return seen


def test_absent_phrases_share_no_word_with_any_caption_and_end_in_gibberish():
    texts = ["A red TYPEWRITER", "two wind turbines", "on the roof of an old one"]
    phrases = absent_phrases(texts)
    assert len(phrases) == MOST_PHRASES + GIBBERISH == len(set(phrases))
    said = " ".join(phrases[:MOST_PHRASES])
    assert not any(word in said.split() for word in ("typewriter", "wind", "turbine", "turbines", "roof"))
    assert absent_phrases(texts) == phrases != absent_phrases(texts, seed=1)
    everyday = {" ".join(phrase.split()) for phrase in PHRASES.split(";")}
    assert set(phrases[:MOST_PHRASES]) <= everyday and everyday.isdisjoint(phrases[MOST_PHRASES:])


def test_a_gallery_that_has_everything_leaves_gibberish():
    assert len(absent_phrases([PHRASES])) == GIBBERISH


def test_more_captions_are_kept_out_where_that_costs_nothing():
    captions = [[f"{image} {text}" for text in range(4)] for image in range(150)]
    gallery = Gallery("", [f"{image}.png" for image in range(150)], captions)
    counts = [len(hold_out(gallery, 0, fewest)[1]) for fewest in (HELD_OUT_FEWEST, HELD_OUT_CHEAPLY)]
    assert counts == [20, 100]


def index_of(vectors):
    index = DenseIndex(None, None, faiss.IndexFlatIP(vectors.shape[1]))
    index.add(vectors)
    return index


def units(draws, count, d=6):
    vectors = draws.normal(size=(count, d)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_dense_answers_are_asked_with_the_images_and_without_them(monkeypatch):
    draws, seen = np.random.default_rng(0), fitted(monkeypatch)
    vectors = units(draws, 30)
    asked = np.concatenate([vectors[[4, 9, 9]], units(draws, 5)])
    assert calibration.nearest(index_of(vectors), asked, [{4}, {9}, {3, 9}]) is None
    [answers] = seen
    assert answers.present.tolist() == [True] * 3 + [False] * 8
    assert answers.right.tolist() == [True] * 3 + [False] * 8
    cosines = asked @ vectors.T
    without = cosines[:3].copy()
    without[0, 4] = without[1, 9] = without[2, 9] = without[2, 3] = np.nan
    firsts = np.concatenate([cosines.max(1), np.nanmax(without, 1)])
    assert answers.evidence[:, 0] == pytest.approx(firsts, abs=1e-6)
    assert answers.evidence[:, 1] == pytest.approx(np.concatenate([cosines.mean(1), np.nanmean(without, 1)]), abs=1e-6)
    assert answers.evidence[:, 2] == pytest.approx(np.concatenate([cosines.std(1), np.nanstd(without, 1)]), abs=1e-6)
    share = calibration.NEAR_SHARE
    masses = [answers.weights[:3].sum(), answers.weights[3:8].sum(), answers.weights[8:].sum()]
    assert masses == pytest.approx([match.FEWEST_IMAGES, (1 - share) * calibration.OTHERS, share * calibration.OTHERS])


def test_an_image_that_stands_alone_leaves_no_answer_without_it(monkeypatch):
    seen = fitted(monkeypatch)
    vectors = units(np.random.default_rng(0), 2)
    calibration.nearest(index_of(vectors[:1]), vectors, [{0}])
    assert seen[0].present.tolist() == [True, False], "nothing is left of the first one's answer without its image"


def test_what_is_recalled_is_asked_with_the_images_and_without_them(monkeypatch, tiny_memory):
    seen, memory = fitted(monkeypatch), tiny_memory
    texts = ["a red circle", "a blue bar", "nothing of this"]
    owners = [{hits[0].index} for hits in memory.recall(texts[:2], top=1)]
    prompts = memory.backbone.query_prompts(texts)
    calibration.recalled(memory.backbone, memory.trie, prompts, owners)
    [answers] = seen
    assert answers.right.tolist() == [True, True, False, False, False]
    whole = memory.recall(texts, top=12, beams=12)
    assert answers.evidence[:3, 0] == pytest.approx([hits[0].score for hits in whole], abs=1e-5)
    for row, hits in enumerate(whole[:2]):
        left = [hit.score for hit in hits[1:]]
        expected = left[0] - np.log1p(-np.exp(hits[0].score))
        assert answers.evidence[3 + row, 0] == pytest.approx(expected, abs=1e-4)
        gap = hits[0].score - hits[1].score
        assert answers.evidence[row, 2] - answers.evidence[3 + row, 2] == pytest.approx(gap, abs=1e-4)


def test_states_tell_the_same_as_the_prompts_of_texts(monkeypatch, tiny_memory):
    seen, memory = fitted(monkeypatch), tiny_memory
    if memory.trie.depth > 1:
        pytest.skip("states tell identifiers of one token")
    texts = ["a red circle", "a bar"]
    states = states_of_texts(memory.backbone, texts)
    for prompts in (memory.backbone.query_prompts(texts), states):
        calibration.recalled(memory.backbone, memory.trie, prompts, [{0}])
    assert seen[0].evidence == pytest.approx(seen[1].evidence, abs=1e-4)


def test_where_no_caption_was_kept_out_about_half_of_its_words_are_asked(tiny_memory):
    memory = tiny_memory
    captions = [["one two three four", "same words"], ["same words"], []] + [[f"a {n} b"] for n in range(9)]
    gallery = Gallery(memory.gallery.root, memory.gallery.file_names, captions)
    asked = calibration.likely_queries(gallery, memory.backbone, memory.identifiers, 0)
    assert len(asked) >= 9
    [long] = [text for text, images in asked.items() if images == {0}]
    assert len(long.split()) == 2 and set(long.split()) < {"one", "two", "three", "four"}
    assert next(text for text, images in asked.items() if images == {0, 1}) in ("same", "words")
    assert asked == calibration.likely_queries(gallery, memory.backbone, memory.identifiers, 0)


def test_words_that_several_images_have_are_asked_for_all_of_them():
    captions = [["a red dog", "Dogs of 2"], ["the red boat"], ["dog and boat"], ["red"], [], ["x"], ["y"], ["w 2"]]
    assert calibration.shared_words(captions, 0) == {"dog": {0, 2}, "boat": {1, 2}}, "red is of too many, 2 no word"
    many = [[f"w{chr(97 + image // 2)}"] for image in range(40)]
    assert len(calibration.shared_words(many, 0)) == calibration.WORDS
    assert calibration.shared_words(many, 0) == calibration.shared_words(many, 0) != calibration.shared_words(many, 1)
    assert len(calibration.shared_words(many, 0, 3)) == 3


def calibrated(memory, images=None):
    """The memory, sure of what has a high score."""
    for engine, names in match.EVIDENCE.items():
        first = [1.0, *[0.0] * (len(names) - 1)]
        memory.facts.setdefault("match", {"images": images or len(memory.gallery)})[engine] = match.Calibration(
            names, first, 0.5, 0.1, 0.3, {}
        ).facts()
    memory._take(memory.identifiers, memory.gallery)
    return memory


def test_an_answer_in_words_says_how_probable_it_is_whatever_was_asked_for(own_memory):
    assert "match" not in own_memory.search("a red circle")
    memory = calibrated(own_memory)
    answer = memory.search("a red circle")
    odds = {"generative": answer["generative"][0]["score"], "dense": answer["dense"][0]["score"]}
    assert list(answer["match"]) == ENGINES
    for engine, score in odds.items():
        assert answer["match"][engine] == pytest.approx(1 / (1 + np.exp(-score - 0.5)), abs=1e-4)
    few = memory.search("a red circle", top=1)
    assert few["match"] == answer["match"] and len(few["generative"]) == len(few["dense"]) == 1
    json.dumps(answer)
    assert "match" not in memory.search_image(memory.gallery.open(0))


def test_the_match_of_an_album_is_told_from_the_whole_gallery(own_memory):
    memory = calibrated(own_memory)
    for facts in (memory.facts["match"][engine] for engine in ENGINES):
        facts["coefficients"] = [1.0] * len(facts["coefficients"])
    memory._take(memory.identifiers, memory.gallery)
    whole = memory.search("a red circle", top=len(memory.gallery))
    others = [hit["file_name"] for hit in whole["dense"] if hit["file_name"] != whole["generative"][0]["file_name"]]
    memory.move([hit["file_name"] for hit in whole["dense"]], "all of them")
    assert memory.search("a red circle", album="all of them")["match"] == whole["match"], "nothing is left out"
    memory.move(others[1:], "the others")
    answer = memory.search("a red circle", album="the others")
    assert len(answer["dense"]) == len(others) - 1
    for engine in ENGINES:
        assert answer["match"][engine] < whole["match"][engine], "what is right may be elsewhere"
    memory.move(others[-1:], "one of many")
    answer = memory.search("a red circle", album="one of many")
    assert [len(answer[engine]) for engine in ENGINES] == [1, 1]
    assert answer["match"]["dense"] < whole["match"]["dense"], "an image does not match for being the only one"


def test_a_calibration_is_saved_and_ends_with_a_gallery_of_another_size(own_memory, tmp_path):
    memory = calibrated(own_memory)
    memory.save(tmp_path / "memory")
    again = Memory.from_pretrained(tmp_path / "memory", device="cpu")
    assert again.search("a red circle")["match"] == memory.search("a red circle")["match"]
    again.forget(again.gallery.file_names[:2])
    assert "match" in again.search("a red circle"), "10 of 12 images are about as many"
    kept = again.forget(again.gallery.file_names[:2])
    assert "match" not in again.search("a red circle")
    again.restore(kept)
    assert "match" in again.search("a red circle")


def test_of_an_engine_of_which_too_little_is_known_nothing_is_said(own_memory):
    memory = calibrated(own_memory)
    memory.calibrate({"generative": None, "dense": memory.facts["match"]["dense"]})
    assert list(memory.search("a red circle")["match"]) == ["dense"]
    assert memory.facts["match"].keys() == {"images", "dense"}


@pytest.mark.slow
def test_a_memory_is_calibrated_while_it_is_made(tiny_gallery, llava_folder, tiny_clip_dir, tmp_path):
    recipe = Recipe(backbone=str(llava_folder), clip=str(tiny_clip_dir), preset="quick")
    make_memory(tiny_gallery, recipe, tmp_path / "memory", lambda progress: None)
    memory = Memory.from_pretrained(tmp_path / "memory", device="cpu")
    facts = memory.facts["match"]
    assert facts["images"] == len(memory.gallery)
    assert facts.keys() > {"images"}
    for engine in facts.keys() - {"images"}:
        assert 0 < facts[engine]["nothing"] < facts[engine]["unsure"] < 1
        assert facts[engine]["reliability"]["present"] > match.FEWEST
        assert 0 <= memory.search("a red circle")["match"][engine] <= 1

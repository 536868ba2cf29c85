"""The five identifier types: unique, stable, read back from their text, collisions resolved."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcr_core.errors import GalleryError, GcrError, MemoryFormatError
from gcr_core.retrieval.identifiers import BRANCHES, IDENTIFIER_TYPES, MAX_WORDS, Identifiers
from gcr_core.retrieval.trie import IdentifierTrie
from tests import tiny

TOKENIZERS = {"sentencepiece": tiny.sentencepiece_tokenizer(), "byte level": tiny.byte_level_tokenizer()}
captions = st.lists(st.lists(st.text(max_size=30), max_size=2), min_size=1, max_size=60)


@pytest.fixture(params=TOKENIZERS)
def tokenizer(request):
    return TOKENIZERS[request.param]


class FakeGallery:
    def __init__(self, captions):
        self.captions = captions

    def __len__(self):
        return len(self.captions)


def vectors(images, seed=0, dimensions=8):
    return np.random.default_rng(seed).normal(size=(images, dimensions)).astype(np.float32)


def sequences(identifiers):
    return [tuple(identifiers.sequence(image).tolist()) for image in range(len(identifiers))]


def check(identifiers, tokenizer):
    images = len(identifiers)
    trie = IdentifierTrie.build(identifiers.indptr, identifiers.tokens)
    found = [trie.find(identifiers.sequence(image)) for image in range(images)]
    assert found == list(range(images))
    texts = [identifiers.text(image, tokenizer) for image in range(images)]
    assert len(set(texts)) == images
    assert [identifiers.parse(text, tokenizer) for text in texts] == list(range(images))


@pytest.mark.parametrize("kind", IDENTIFIER_TYPES)
@pytest.mark.parametrize("name", TOKENIZERS)
@given(captions=captions)
def test_identifiers_are_unique_prefix_free_and_read_back(kind, name, captions):
    made = Identifiers.build(kind, FakeGallery(captions), TOKENIZERS[name], vectors(len(captions)))
    assert len(made) == len(captions)
    check(made, TOKENIZERS[name])
    placed = made.by_place(TOKENIZERS[name])
    check(placed, TOKENIZERS[name])
    both = ([some.text(image, TOKENIZERS[name]) for image in range(len(captions))] for some in (made, placed))
    assert next(both) == next(both)


@pytest.mark.parametrize("kind", IDENTIFIER_TYPES)
def test_the_same_seed_gives_the_same_identifiers(kind, tokenizer):
    owned = FakeGallery([["a happy dog"]] * 300)
    first, second = (Identifiers.build(kind, owned, tokenizer, vectors(300), seed=7) for _ in range(2))
    assert sequences(first) == sequences(second)
    assert first.new_tokens == second.new_tokens


@pytest.mark.parametrize("kind", IDENTIFIER_TYPES)
def test_saved_identifiers_load_as_they_were(kind, tokenizer, tmp_path):
    made = Identifiers.build(kind, FakeGallery([["a dog"], ["a cat"], []]), tokenizer, vectors(3))
    made.save(tmp_path / "identifiers.safetensors")
    loaded = Identifiers.load(tmp_path / "identifiers.safetensors")
    assert sequences(loaded) == sequences(made)
    assert (loaded.type, loaded.new_tokens, loaded.vocabulary) == (kind, made.new_tokens, made.vocabulary)
    check(loaded, tokenizer)


def test_atomic_is_one_new_token_an_image(tokenizer):
    made = Identifiers.build("atomic", FakeGallery([[]] * 3), tokenizer)
    assert made.new_tokens == ["<img_0>", "<img_1>", "<img_2>"]
    assert sequences(made) == [(len(tokenizer) + image,) for image in range(3)]
    assert made.text(1, tokenizer) == "<img_1>"


def test_structured_puts_near_images_under_one_code(tokenizer):
    centres = 100 * np.eye(BRANCHES, dtype=np.float32)
    near = np.repeat(centres, 5, axis=0) + vectors(5 * BRANCHES, dimensions=BRANCHES)
    made = Identifiers.build("structured", FakeGallery([[]] * len(near)), tokenizer, near)
    first = np.array([sequence[0] for sequence in sequences(made)]).reshape(BRANCHES, 5)
    assert (first == first[:, :1]).all()
    assert len(set(first[:, 0])) == BRANCHES
    assert made.new_tokens[:2] == ["<c0_0>", "<c0_1>"]
    assert len(made.new_tokens) == 2 * BRANCHES


def test_structured_ends_where_an_image_is_alone(tokenizer):
    apart = np.concatenate([1000 * np.eye(8, dtype=np.float32)[:1], vectors(100)])
    made = Identifiers.build("structured", FakeGallery([[]] * 101), tokenizer, apart)
    assert len(made.sequence(0)) == 1


@given(st.integers(1, 300), st.integers(1, 5))
def test_structured_tells_images_with_equal_vectors_apart(images, distinct):
    tokenizer = TOKENIZERS["sentencepiece"]
    same = vectors(distinct)[np.arange(images) % distinct]
    check(Identifiers.build("structured", FakeGallery([[]] * images), tokenizer, same), tokenizer)


def test_structured_codes_of_different_levels_are_different_tokens(tokenizer):
    made = Identifiers.build("structured", FakeGallery([[]] * 2000), tokenizer, vectors(2000))
    for level in range(3):
        codes = {sequence[level] for sequence in sequences(made) if len(sequence) > level}
        start = len(tokenizer) + BRANCHES * level
        assert codes <= set(range(start, start + BRANCHES))


def test_structured_without_vectors_is_refused(tokenizer):
    with pytest.raises(GcrError, match="a vector for each of 3 images, not none"):
        Identifiers.build("structured", FakeGallery([[]] * 3), tokenizer)


def test_numeric_is_the_running_number_a_token_a_digit(tokenizer):
    made = Identifiers.build("numeric", FakeGallery([[]] * 124), tokenizer)
    assert tokenizer.convert_ids_to_tokens(made.sequence(123).tolist()) == [
        "1",
        "2",
        "3",
        tokenizer.eos_token,
    ]
    assert made.text(123, tokenizer) == "123"
    assert made.new_tokens == []


def test_string_is_the_running_number_as_the_tokenizer_cuts_it(tokenizer):
    made = Identifiers.build("string", FakeGallery([[]] * 124), tokenizer)
    expected = tokenizer("123", add_special_tokens=False)["input_ids"]
    assert made.sequence(123).tolist() == [*expected, tokenizer.eos_token_id]
    assert made.text(123, tokenizer) == "123"


def test_semantic_is_the_first_caption_s_words(tokenizer):
    made = Identifiers.build("semantic", FakeGallery([["a happy dog", "dog"], ["red boat"]]), tokenizer)
    assert [made.text(image, tokenizer) for image in range(2)] == ["a happy dog", "red boat"]


def test_semantic_keeps_a_caption_s_first_words(tokenizer):
    made = Identifiers.build("semantic", FakeGallery([["a dog " * 20]]), tokenizer)
    assert len(made.text(0, tokenizer).split()) == MAX_WORDS


def test_semantic_numbers_the_images_that_share_words(tokenizer):
    owned = FakeGallery([["dog"], ["dog 2"], ["dog"], ["dog"], [], [""]])
    made = Identifiers.build("semantic", owned, tokenizer)
    texts = [made.text(image, tokenizer) for image in range(6)]
    assert texts == ["dog", "dog 2", "dog 3", "dog 4", "image", "image 2"]


def test_seed_vectors_are_the_mean_of_the_images_below_a_token(tokenizer):
    data = vectors(100)
    made = Identifiers.build("structured", FakeGallery([[]] * 100), tokenizer, data)
    seeds = made.seed_vectors(data)
    assert seeds.shape == (len(made.new_tokens), 8) and seeds.dtype == np.float32
    for token in range(len(made.new_tokens)):
        below = [image for image, sequence in enumerate(sequences(made)) if len(tokenizer) + token in sequence]
        mean = data[below].mean(axis=0) if below else data.mean(axis=0)
        np.testing.assert_allclose(seeds[token], mean, rtol=1e-4, atol=1e-5)


def test_atomic_seed_vectors_are_the_images_own(tokenizer):
    made = Identifiers.build("atomic", FakeGallery([[]] * 10), tokenizer)
    np.testing.assert_allclose(made.seed_vectors(vectors(10)), vectors(10))


def test_types_without_new_tokens_have_no_seed_vectors(tokenizer):
    assert Identifiers.build("string", FakeGallery([[]] * 10), tokenizer).seed_vectors(vectors(10)).shape == (
        0,
        8,
    )


def test_an_unknown_text_is_no_identifier(tokenizer):
    made = Identifiers.build("numeric", FakeGallery([[]] * 3), tokenizer)
    with pytest.raises(GcrError, match="no image of 3 has the identifier '7'"):
        made.parse("7", tokenizer)


def test_an_unknown_type_names_the_five(tokenizer):
    with pytest.raises(GcrError, match="atomic, structured, numeric, string, semantic"):
        Identifiers.build("random", FakeGallery([[]]), tokenizer)


def test_an_empty_gallery_has_no_identifiers(tokenizer):
    with pytest.raises(GalleryError, match="0 images"):
        Identifiers.build("atomic", FakeGallery([]), tokenizer)


def test_another_file_holds_no_identifiers(tmp_path):
    (tmp_path / "other").write_text("{}")
    for name in ("other", "absent"):
        with pytest.raises(MemoryFormatError, match="holds no identifiers"):
            Identifiers.load(tmp_path / name)


def test_each_place_where_a_tree_branches_or_ends_has_a_new_token(tokenizer):
    made = Identifiers.build("numeric", FakeGallery([[]] * 23), tokenizer).by_place(tokenizer)
    assert made.vocabulary == len(tokenizer)
    assert {len(sequence) for sequence in sequences(made)} == {1, 2}
    assert [len(made.sequence(image)) for image in (0, 1, 2, 3, 9, 10, 22)] == [1, 2, 2, 1, 1, 2, 2]
    assert len(made.new_tokens) == len(set(made.new_tokens)) == 23 + 2, "one for each image, one for 1… and one for 2…"
    assert made.sequence(10)[0] == made.sequence(1)[0] != made.sequence(2)[0]
    trie = IdentifierTrie.build(made.indptr, made.tokens)
    assert all(isinstance(rows, slice) for rows in trie.to("cpu").head_rows), "those of a depth are consecutive"
    assert made.token_text(made.sequence(17)[:1], tokenizer) == "1"


def test_places_keep_their_tokens_when_images_come_and_go(tokenizer, tmp_path):
    made = Identifiers.build("semantic", FakeGallery([["a dog"], ["a cat"], ["boats"]]), tokenizer).by_place(tokenizer)
    changed = made.extended(1).without([1])
    changed.save(tmp_path / "identifiers.safetensors")
    loaded = Identifiers.load(tmp_path / "identifiers.safetensors")
    assert [loaded.text(image, tokenizer) for image in range(3)] == ["a dog", "boats", "<img_3>"]
    assert sequences(loaded)[:2] == [sequences(made)[0], sequences(made)[2]]


def test_atomic_identifiers_have_a_token_of_their_place_already(tokenizer):
    made = Identifiers.build("atomic", FakeGallery([[]] * 3), tokenizer)
    assert made.by_place(tokenizer) is made

"""IdentifierTrie against the plain reading of what a prefix tree is: sets of tuples."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcr_core.errors import GcrError
from gcr_core.retrieval.trie import IdentifierTrie

END = 99
words = st.lists(st.integers(0, 6), min_size=0, max_size=5).map(lambda word: (*word, END))
galleries = st.lists(words, min_size=1, max_size=40, unique=True)


def build(sequences):
    indptr = np.cumsum([0] + [len(sequence) for sequence in sequences])
    return IdentifierTrie.build(indptr, np.concatenate([np.array(sequence, np.int64) for sequence in sequences]))


def below(trie, sequences, node):
    prefix = tuple(trie.path(node))
    return {image for image, sequence in enumerate(sequences) if sequence[: len(prefix)] == prefix}


@given(galleries)
def test_every_identifier_is_found_and_nothing_else(sequences):
    trie = build(sequences)
    assert [trie.find(sequence) for sequence in sequences] == list(range(len(sequences)))
    for sequence in sequences:
        assert trie.find(sequence[:-1]) == -1
        assert trie.find((*sequence, 0)) == -1
        assert trie.find((*sequence[:-1], 98)) == -1


@given(galleries)
def test_one_node_per_distinct_prefix_in_level_order(sequences):
    trie = build(sequences)
    prefixes = {sequence[:cut] for sequence in sequences for cut in range(len(sequence) + 1)}
    paths = [tuple(trie.path(node)) for node in range(trie.nodes)]
    assert paths == sorted(prefixes, key=lambda prefix: (len(prefix), prefix))
    assert trie.depth == max(map(len, sequences))
    assert trie.even == (len({len(sequence) for sequence in sequences}) == 1)


@given(galleries)
def test_children_are_contiguous_and_ascending(sequences):
    trie = build(sequences)
    for node in range(trie.nodes):
        edges = slice(trie.indptr[node], trie.indptr[node + 1])
        assert all(
            trie.path(child) == [*trie.path(node), token]
            for child, token in zip(trie.child[edges], trie.token[edges], strict=True)
        )
        assert (np.diff(trie.token[edges]) > 0).all()


@given(galleries)
def test_images_below_a_node_are_one_range_of_the_leaf_order(sequences):
    trie = build(sequences)
    for node in range(trie.nodes):
        leaves = trie.leaf_order[trie.first_leaf[node] : trie.last_leaf[node]]
        assert set(leaves.tolist()) == below(trie, sequences, node)


@given(galleries)
def test_depth_tokens_are_all_tokens_of_that_depth(sequences):
    trie = build(sequences)
    for depth, codes in enumerate(trie.depth_tokens):
        expected = {sequence[depth] for sequence in sequences if len(sequence) > depth}
        assert codes.tolist() == sorted(expected)
        prefixes = {sequence[: depth + 1] for sequence in sequences if len(sequence) > depth}
        assert trie.depth_width[depth] == max(Counter(prefix[:-1] for prefix in prefixes).values())


@given(galleries)
def test_paths_are_the_identifiers(sequences):
    trie = build(sequences)
    padded = [[*sequence, *[-1] * (trie.depth - len(sequence))] for sequence in sequences]
    assert trie.paths().tolist() == padded


@given(galleries, st.data())
def test_live_counts_follow_forget_and_restrict(sequences, data):
    trie = build(sequences)
    assert trie.to("cpu").live.tolist() == trie.live.tolist()
    some = st.lists(st.integers(0, len(sequences) - 1))
    forgotten, allowed = set(data.draw(some)), set(data.draw(some))
    trie.forget(sorted(forgotten))
    trie.restrict(sorted(allowed))
    restricted = [len(below(trie, sequences, node) & allowed - forgotten) for node in range(trie.nodes)]
    assert trie.live.tolist() == trie.to("cpu").live.tolist() == restricted
    trie.restrict(None)
    kept = [len(below(trie, sequences, node) - forgotten) for node in range(trie.nodes)]
    assert trie.live.tolist() == trie.to("cpu").live.tolist() == kept


@given(st.lists(st.tuples(*[st.integers(0, 2**31 - 2)] * 4), min_size=1, max_size=30, unique=True))
def test_tokens_too_wide_for_one_sort_key_are_sorted_too(sequences):
    trie = build(sequences)
    assert [trie.find(sequence) for sequence in sequences] == list(range(len(sequences)))


def test_equal_identifiers_are_refused_with_both_images():
    with pytest.raises(GcrError, match="images 0 and 2 have the same identifier"):
        build([(1, 2), (1, 3), (1, 2)])


def test_an_identifier_that_begins_another_is_refused():
    with pytest.raises(GcrError, match="identifier of image 1 is the beginning"):
        build([(1, 2, 3), (1, 2), (4,)])


def test_an_empty_identifier_is_refused():
    with pytest.raises(GcrError, match="1 of 2 identifiers are empty"):
        IdentifierTrie.build(np.array([0, 1, 1]), np.array([5]))


def test_no_identifiers_are_refused():
    with pytest.raises(GcrError, match="0 of 0"):
        IdentifierTrie.build(np.array([0]), np.array([], int))


def test_codes_of_one_place_each_know_the_node_above_them():
    trie = IdentifierTrie.build([0, 2, 4, 6, 7], [20, 33, 20, 30, 21, 31, 22])
    first, second = trie.to("cpu").parents
    assert first is None, "all are below the root"
    assert trie.depth_tokens[1].tolist() == [30, 31, 33] and second.tolist() == [0, 1, 0]
    shared = IdentifierTrie.build([0, 2, 4], [20, 30, 21, 30])
    assert shared.to("cpu").parents == (None, None), "a token that stands in two places has no node above it"


def test_a_restriction_of_a_block_ends_with_it_however_it_ends():
    trie = build([(0, 1, END), (0, 2, END), (1, 1, END)])
    trie.forget([1])
    with trie.only([1, 2]):
        assert trie.live[0] == 1
    with trie.only(None):
        assert trie.live[0] == 2
    with pytest.raises(RuntimeError), trie.only([0]):
        assert trie.live[trie.leaf].tolist() == [1, 0, 0]
        raise RuntimeError
    assert trie.live[trie.leaf].tolist() == [1, 0, 1]

"""Trie: the prefix tree of all identifiers, in flat arrays.

Nodes are numbered in level order, the root is 0, siblings stand in the order of their tokens. So the children
of a node are contiguous, and edge `e` leads to node `e + 1`: `indptr` and `token` are the whole tree. The
images below a node are the range `first_leaf[node]:last_leaf[node]` of `leaf_order`. Forgetting and
restricting only recount `live`. Knows nothing about models or text: it is purely token ids and image indices.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch

from gcr_core.errors import GcrError


@dataclass(frozen=True)
class TrieTensors:
    """The arrays that a step of beam search reads, on a device."""

    indptr: torch.Tensor
    """(nodes + 1,) int32: the edges of node v are `indptr[v]:indptr[v + 1]`."""
    token: torch.Tensor
    """(nodes - 1,) int32: the token of each edge."""
    image: torch.Tensor
    """(nodes,) int32: the image that ends here, or -1."""
    live: torch.Tensor
    """(nodes,) int32: the images below that may be recalled."""
    depth_tokens: tuple[torch.Tensor, ...]
    """For each depth, (codes,) int64: every token that stands there, ascending."""
    head_rows: tuple[slice | torch.Tensor, ...]
    """The same as an index of the vocabulary head's rows: a slice where the tokens are consecutive."""
    parents: tuple[torch.Tensor | None, ...]
    """For each depth, (codes,) int64: the node above each code, counted from the depth's first; None where all codes
    stand below one node, or one of them stands below several."""


class IdentifierTrie:
    """All identifiers of a gallery as a prefix tree; see the module's docstring for the layout."""

    indptr: np.ndarray
    """(nodes + 1,) int32."""
    token: np.ndarray
    """(nodes - 1,) int32."""
    image: np.ndarray
    """(nodes,) int32, -1 where no identifier ends."""
    live: np.ndarray
    """(nodes,) int32: images below a node that are neither forgotten nor outside the restriction."""
    leaf_order: np.ndarray
    """(images,) int32: the images in the order of their identifiers."""
    first_leaf: np.ndarray
    """(nodes,) int32: start of a node's range of `leaf_order`."""
    last_leaf: np.ndarray
    """(nodes,) int32: end of that range, exclusive."""
    leaf: np.ndarray
    """(images,) int64: the node where each image's identifier ends."""
    depth_start: np.ndarray
    """(depth + 2,) int64: the nodes d tokens below the root are `depth_start[d]:depth_start[d + 1]`."""
    depth_tokens: list[np.ndarray]
    """For each depth d, (codes,) int32: every token that stands d tokens below the root, ascending."""
    depth_width: list[int]
    """For each depth d, the most children that a node there has."""

    def __init__(self, indptr: np.ndarray, tokens: np.ndarray):
        order, matrix, lengths = _sorted_rows(indptr, tokens)
        images, depth = matrix.shape
        starts = [np.zeros(1, np.int32)]
        ends = [np.array([images], np.int32)]
        edge_tokens: list[np.ndarray] = []
        child_starts: list[np.ndarray] = []
        changed = np.zeros(images, bool)
        changed[0] = True
        for level in range(depth):
            column = matrix[:, level]
            changed[1:] |= column[1:] != column[:-1]
            borders = np.flatnonzero(changed).astype(np.int32)
            inside = lengths[borders] > level
            counted = np.concatenate([[0], np.cumsum(changed & (lengths > level))]).astype(np.int32)
            child_starts.append(counted[starts[-1]])
            starts.append(borders[inside])
            ends.append(np.append(borders[1:], np.int32(images))[inside])
            edge_tokens.append(column[starts[-1]])
        child_starts.append(np.zeros(len(starts[-1]), np.int32))

        self.depth_start = np.cumsum([0] + [len(level) for level in starts])
        edges = self.depth_start[1:] - 1
        self.indptr = np.concatenate(
            [first + base for first, base in zip(child_starts, edges, strict=True)] + [edges[-1:]]
        ).astype(np.int32)
        self.token = np.concatenate(edge_tokens)
        self.first_leaf = np.concatenate(starts)
        self.last_leaf = np.concatenate(ends)
        self.leaf_order = order
        self.depth_tokens = [_distinct(level) for level in edge_tokens]
        children = np.diff(self.indptr)
        self.depth_width = [
            int(children[begin:end].max())
            for begin, end in zip(self.depth_start[:-2], self.depth_start[1:-1], strict=True)
        ]
        leaves = np.flatnonzero(children == 0)
        shared = leaves[self.last_leaf[leaves] - self.first_leaf[leaves] > 1]
        if len(shared):
            first, second = order[self.first_leaf[shared[0]] :][:2]
            raise GcrError(f"images {first} and {second} have the same identifier; make each identifier unique")
        if len(leaves) < images:
            prefix = self._first_prefix(lengths)
            raise GcrError(
                f"the identifier of image {order[prefix]} is the beginning of another one's; end identifiers "
                "with a token that stands nowhere else"
            )
        self.image = np.full(len(children), -1, np.int32)
        self.image[leaves] = order[self.first_leaf[leaves]]
        self.leaf = np.empty(images, np.int64)
        self.leaf[self.image[leaves]] = leaves
        self._forgotten = np.zeros(images, bool)
        self._allowed = np.ones(images, bool)
        self._tensors: TrieTensors | None = None
        self._count()

    @classmethod
    def build(cls, indptr: np.ndarray, tokens: np.ndarray) -> Self:
        """The trie of images whose identifiers are `tokens[indptr[i]:indptr[i + 1]]`, token ids >= 0.

        Raises GcrError when there is no identifier, an empty one, two equal ones, or one that begins another.
        """
        return cls(np.asarray(indptr), np.asarray(tokens))

    def __len__(self) -> int:
        """Images, forgotten ones included."""
        return len(self.leaf_order)

    @property
    def nodes(self) -> int:
        return len(self.image)

    @property
    def depth(self) -> int:
        """Tokens of the longest identifier."""
        return len(self.depth_tokens)

    @property
    def child(self) -> np.ndarray:
        """(nodes - 1,) int32: the node that each edge leads to."""
        return np.arange(1, self.nodes, dtype=np.int32)

    @property
    def even(self) -> bool:
        """Whether all identifiers have the same number of tokens."""
        return len(self) == self.depth_start[-1] - self.depth_start[-2]

    def forget(self, images: Sequence[int] | np.ndarray) -> None:
        """Lets no search find these images again."""
        self._forgotten[np.asarray(images, np.int64)] = True
        self._count()

    def restrict(self, images: Sequence[int] | np.ndarray | None) -> None:
        """Lets searches find only these images (an album, a date), or all when None. Forgotten ones stay forgotten."""
        self._allowed[:] = images is None
        if images is not None:
            self._allowed[np.asarray(images, np.int64)] = True
        self._count()

    @contextmanager
    def only(self, images: Sequence[int] | np.ndarray | None) -> Iterator[None]:
        """Restricts searches for the block, and lets them find all again behind it."""
        if images is None:
            yield
            return
        self.restrict(images)
        try:
            yield
        finally:
            self.restrict(None)

    def find(self, sequence: Sequence[int] | np.ndarray) -> int:
        """The image that this token sequence identifies, or -1."""
        node = 0
        for token in sequence:
            begin, end = self.indptr[node], self.indptr[node + 1]
            edge = begin + np.searchsorted(self.token[begin:end], token)
            if edge == end or self.token[edge] != token:
                return -1
            node = edge + 1
        return int(self.image[node])

    def path(self, node: int) -> list[int]:
        """The tokens from the root to a node."""
        tokens: list[int] = []
        while node:
            tokens.append(int(self.token[node - 1]))
            node = int(np.searchsorted(self.indptr, node - 1, side="right")) - 1
        return tokens[::-1]

    def paths(self) -> np.ndarray:
        """(images, depth) int32: every image's tokens, -1 behind the end of the shorter ones."""
        tokens = np.full((len(self), self.depth), -1, np.int32)
        position = np.arange(len(self))
        for level in range(self.depth):
            nodes = slice(self.depth_start[level + 1], self.depth_start[level + 2])
            above = np.searchsorted(self.first_leaf[nodes], position, side="right") - 1
            inside = (above >= 0) & (position < self.last_leaf[nodes][above])
            edges = self.depth_start[level + 1] - 1 + above[inside]
            tokens[self.leaf_order[inside], level] = self.token[edges]
        return tokens

    @torch.inference_mode(False)
    def to(self, device: torch.device | str) -> TrieTensors:
        """The arrays as tensors on a device, kept for later calls; `live` follows `forget` and `restrict`."""
        device = torch.device(device)
        if self._tensors is None or self._tensors.live.device != device:
            codes = tuple(torch.from_numpy(codes).long().to(device) for codes in self.depth_tokens)
            self._tensors = TrieTensors(
                indptr=torch.from_numpy(self.indptr).to(device),
                token=torch.from_numpy(self.token).to(device),
                image=torch.from_numpy(self.image).to(device),
                live=torch.tensor(self.live, device=device),
                depth_tokens=codes,
                head_rows=tuple(
                    slice(int(row[0]), int(row[-1]) + 1) if row[-1] - row[0] + 1 == len(row) else tokens
                    for row, tokens in zip(self.depth_tokens, codes, strict=True)
                ),
                parents=tuple(
                    None if above is None else torch.from_numpy(above).to(device)
                    for above in map(self._parents_at, range(self.depth))
                ),
            )
        return self._tensors

    def _count(self) -> None:
        alive = (self._allowed & ~self._forgotten)[self.leaf_order]
        before = np.concatenate([[0], np.cumsum(alive)]).astype(np.int32)
        self.live = before[self.last_leaf] - before[self.first_leaf]
        if self._tensors is not None:
            self._tensors = replace(self._tensors, live=torch.tensor(self.live, device=self._tensors.live.device))

    def _parents_at(self, depth: int) -> np.ndarray | None:
        """As `TrieTensors.parents` has it."""
        nodes = slice(self.depth_start[depth], self.depth_start[depth + 1])
        above = np.repeat(np.arange(nodes.stop - nodes.start), np.diff(self.indptr)[nodes])
        if len(above) > len(self.depth_tokens[depth]) or above[0] == above[-1]:
            return None
        edges = self.depth_start[depth + 1] - 1
        return above[np.argsort(self.token[edges : edges + len(above)])]

    def _first_prefix(self, lengths: np.ndarray) -> int:
        depths = np.repeat(np.arange(self.depth + 1), np.diff(self.depth_start))
        inner = np.flatnonzero(np.diff(self.indptr) > 0)
        ends_here = lengths[self.first_leaf[inner]] == depths[inner]
        return int(self.first_leaf[inner[ends_here][0]])


def _sorted_rows(indptr: np.ndarray, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The images in the order of their identifiers, their tokens padded with -1, and their lengths."""
    lengths = np.diff(indptr)
    if not len(lengths) or lengths.min() == 0:
        raise GcrError(f"{int((lengths == 0).sum())} of {len(lengths)} identifiers are empty; each needs a token")
    depth = int(lengths.max())
    if lengths.min() == depth:
        matrix = tokens.reshape(-1, depth).astype(np.int32)
    else:
        matrix = np.full((len(lengths), depth), -1, np.int32)
        matrix[np.arange(depth) < lengths[:, None]] = tokens
    columns = [column - column.min() for column in matrix.T]
    widths = [int(column.max()).bit_length() for column in columns]
    if sum(widths) < 64:
        key = np.zeros(len(lengths), np.int64)
        for column, width in zip(columns, widths, strict=True):
            key = (key << width) | column
        order = np.argsort(key, kind="stable")
    else:
        order = np.lexsort(columns[::-1])
    return order.astype(np.int32), matrix[order], lengths[order]


def _distinct(tokens: np.ndarray) -> np.ndarray:
    """The distinct values, ascending: np.unique, without its sort where they lie close together."""
    lowest, span = int(tokens.min()), int(tokens.max()) - int(tokens.min()) + 1
    if span > 8 * len(tokens):
        return np.unique(tokens)
    seen = np.zeros(span, bool)
    seen[tokens - lowest] = True
    return (np.flatnonzero(seen) + lowest).astype(np.int32)

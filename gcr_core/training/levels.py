"""Levels: the codes of identifiers by their depth, for gcr-mini, whose codes are new tokens of one place each."""

from dataclasses import dataclass

import torch

from gcr_core.models.backbone import Backbone
from gcr_core.retrieval.trie import IdentifierTrie


@dataclass
class Level:
    """The codes at a depth of the identifiers, each a new token of its place."""

    rows: torch.Tensor
    """(codes,) int64: which of the new tokens' rows are theirs."""
    parents: torch.Tensor | None
    """As in `TrieTensors`."""
    codes: torch.Tensor
    """(images,) int64: the code of each image, -1 where its identifier has ended."""
    counts: torch.Tensor
    """(codes,) float32: the images below each."""

    def sums(self, of_images: torch.Tensor) -> torch.Tensor:
        """(codes, ...): the sum of (images, ...) below each code."""
        sums = of_images.new_zeros(len(self.counts), *of_images.shape[1:])
        below = self.codes >= 0
        return sums.index_add(0, self.codes[below], of_images[below])

    def means(self, of_images: torch.Tensor) -> torch.Tensor:
        """(codes, n): the mean of (images, n) below each code."""
        return self.sums(of_images) / self.counts[:, None]

    def started(self, rows: torch.Tensor) -> torch.Tensor:
        """(codes, state): where the codes' rows start, by their images' (images, state).

        The mean, and as a bias the log of their number: what a code says is then about the sum of what they say.
        """
        started = self.means(rows)
        started[:, -1] += self.counts.log()
        return started


def levels_of(backbone: Backbone, trie: IdentifierTrie) -> list[Level]:
    """The codes of identifiers by their depth."""
    tensors, paths = trie.to(backbone.device), torch.from_numpy(trie.paths()).long().to(backbone.device)
    levels = []
    for tokens, parents, path in zip(tensors.depth_tokens, tensors.parents, paths.T, strict=True):
        codes = torch.searchsorted(tokens, path.contiguous()).masked_fill(path < 0, -1)
        below = torch.bincount(codes[codes >= 0], minlength=len(tokens))
        levels.append(Level(tokens - backbone.own_vocabulary, parents, codes, below.float()))
    return levels

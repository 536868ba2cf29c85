"""Joint space: what a text says and what a picture shows as vectors of the same parts.

A vector is `said | seen | look`:
- said: a sentence encoder's vector of a text. Of a picture: the mean of the class words' vectors, by the classes' odds
  (ConSE, Norouzi et al. 2014).
- seen: a picture's class logits, without their mean, along the principal directions of the classifier. Of a text: the
  classes that its words are like, by softmax.
- look: a picture's middle layer, standardised and projected at random (Johnson and Lindenstrauss 1984), which tells it
  from others of the same content. A text has none.

No pair of text and picture is needed to make it. Knows vectors, neither texts nor pictures.
"""

import torch
from torch import nn
from torch.nn.functional import normalize

from gcr_core.models.eyes import EyesOutput

USUAL_LOGITS = 30.0
"""The length of a photograph's logits without their mean."""


class JointSpace(nn.Module):
    """The projections, all frozen."""

    def __init__(self, classes: int, said: int, seen: int, look: int, grid: int, temperatures: tuple[float, float]):
        """`grid`: numbers of a picture's middle layer. `temperatures`: of classes by words, and by logits."""
        super().__init__()
        self.widths = said, seen, look
        self.by_words, self.by_logits = temperatures
        self.class_vectors = _frozen(classes, said)
        self.class_axes = _frozen(classes, seen)
        self.look_mean, self.look_scale = _frozen(grid), _frozen(grid)
        self.look_axes = _frozen(grid, look)

    def text(self, said: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """said, seen and look, each (b, width) float32, of length one or zero; `said` (b, width), of length one."""
        said = said.float()
        odds = (said @ self.class_vectors.float().T / self.by_words).softmax(-1)
        seen = normalize((odds - 1 / len(self.class_axes)) @ self.class_axes.float(), dim=-1)
        return said, seen, said.new_zeros(len(said), self.widths[2])

    def picture(self, shown: EyesOutput) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The same of pictures."""
        assert shown.logits is not None and shown.grid is not None
        logits = shown.logits.float()
        logits = normalize(logits - logits.mean(-1, keepdim=True), dim=-1)
        words = self.class_vectors.float()
        said = normalize((logits / self.by_logits).softmax(-1) @ (words - words.mean(0)), dim=-1)
        seen = normalize(logits @ self.class_axes.float(), dim=-1)
        grid = (shown.grid.flatten(1).float() - self.look_mean.float()) / self.look_scale.float()
        return said, seen, normalize(grid @ self.look_axes.float(), dim=-1)

    def logits(self, seen: torch.Tensor) -> torch.Tensor:
        """(b, classes) float32: about those of a photograph that is seen so, (b, width) of any length but zero."""
        return USUAL_LOGITS * normalize(seen.float(), dim=-1) @ self.class_axes.float().T


def _frozen(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros(*shape), requires_grad=False)

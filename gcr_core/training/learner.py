"""Learner: one training of a model's weights, as Accelerate drives it in one process or several.

Every process passes its share of a batch through the model in micro-batches. The gradients are those of the mean over
the whole batch, clipped, so that AdamW's step is the same as in one process; weights that no batch touched stay as they
are. A training goes on from its checkpoint. Knows tensors and steps, not what is learnt.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from transformers.optimization import get_cosine_with_min_lr_schedule_with_warmup_lr_rate

from gcr_core.models.distributed import accelerator, gathered, state, whole
from gcr_core.training.checkpoint import Checkpoint

MAX_NORM = 1.0
"""The norm that the gradient is clipped to."""
WARMUP, MOST_WARMUP = 0.1, 100
"""The share of the steps over which the learning rate rises, and the most of them."""
LEAST_RATE = 0.02
"""What it falls to, as a share of the highest."""


class Objective(torch.nn.Module):
    """A model with all that is computed from it up to the loss, as the one `forward` that Accelerate prepares."""

    def __init__(self, model: torch.nn.Module):
        super().__init__()
        self.model = model
        layers = {type(module).__name__ for module in model.modules()}
        self._no_split_modules = sorted(layers.intersection(getattr(model, "_no_split_modules", None) or ()))

    def forward(self, losses_of: Callable[..., torch.Tensor], *batch: Any) -> torch.Tensor:
        """`losses_of` of the batch: the losses (b,) of its rows, or the batch's."""
        return losses_of(*batch)


class Learner:
    """Trains a model, as a context: the model is in training mode in it, and what was done is kept if it ends early."""

    done: int
    """The steps that the checkpoint had done."""

    def __init__(
        self,
        model: torch.nn.Module,
        trained: torch.nn.Module,
        groups: list[dict[str, Any]],
        steps: int,
        folder: Path | None,
        remembered: np.ndarray,
    ):
        """`trained`: the model's `trainee`; `groups`: what AdamW trains of it, "lr" the highest rate of each.

        Over `steps` the rates rise linearly, then fall as a cosine does (Loshchilov and Hutter 2017). `folder` and
        `remembered`: as in `Checkpoint`.
        """
        optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
        self.accelerator = accelerator()
        self.objective, self.optimizer = self.accelerator.prepare(Objective(trained), optimizer)
        self.model, self.trained = model, trained
        self.weights = {name: weight for name, weight in trained.named_parameters() if weight.requires_grad}
        self.kept = Checkpoint(folder, self.weights, optimizer, remembered)
        self.done = self.kept.load()
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
        self.rates = get_cosine_with_min_lr_schedule_with_warmup_lr_rate(
            optimizer,
            min(MOST_WARMUP, math.ceil(WARMUP * steps)),
            steps,
            last_epoch=self.done - 1,
            min_lr_rate=LEAST_RATE,
        )

    def __enter__(self) -> Self:
        self.trained.train()
        self._hand_over()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.trained.eval()
        self.model.eval()
        if kind is not None:
            self.kept.interrupted()

    def losses(
        self, losses_of: Callable[..., torch.Tensor], parts: Sequence[tuple[Any, ...]], count: int
    ) -> torch.Tensor:
        """(count,) float32: the losses of a batch's rows. Afterwards the gradients are those of their mean.

        `parts`: the rows of this process's `share(count)` in order, as micro-batches, as many in each process;
        `losses_of` gives the losses of a micro-batch.
        """
        self.optimizer.zero_grad()
        processes = state().num_processes
        own, left = [], count - state().process_index * -(-count // processes)
        for number, part in enumerate(parts, start=1):
            with nullcontext() if number == len(parts) else self.accelerator.no_sync(self.objective):
                of_part = self.objective(losses_of, *part)
                self.accelerator.backward(processes * of_part[: max(0, left)].sum() / count)
            left -= len(of_part)
            own.append(of_part.detach().float())
        return gathered(torch.cat(own), count)

    def step(self) -> None:
        """An optimizer step with the present gradients, clipped."""
        self.accelerator.clip_grad_norm_(self.weights.values(), MAX_NORM)
        self.optimizer.step()
        self.rates.step()

    def keep(self, done: int) -> None:
        """Tells that `done` steps are done: the model gets what they changed at once, the checkpoint now and then."""
        self._hand_over()
        self.kept.done(done)

    @torch.no_grad()
    def _hand_over(self) -> None:
        """Copies the trainee's weights into the model."""
        if self.trained is self.model:
            return
        theirs = dict(self.model.named_parameters())
        for name, weight in self.weights.items():
            theirs[name].copy_(whole(weight).view(theirs[name].shape))

"""Checkpoint: the state of a training on disk, so that it can be interrupted at any moment and go on as if it had not.

One safetensors file: the weights that are trained, AdamW's moments, what the batches remember, and the step in its
header. It appears whole or not at all. Of several processes the first one writes and all of them read; weights that
are sharded over them are whole in the file.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.distributed.tensor import DTensor

from gcr_core.errors import GcrError
from gcr_core.files.atomic import new_file
from gcr_core.models.distributed import agreed, is_first, kinds, laid_out, whole

SAVE_EVERY_SECONDS = 30.0
"""How often the state is saved while training goes on."""
CHECKPOINT_FILE = "training.safetensors"
MOMENTS = ("exp_avg", "exp_avg_sq")
"""What AdamW keeps of a weight, beside the "step", which counts the batches that gave the weight a gradient."""


class Checkpoint:
    """Keeps a training in a folder; without a folder, does nothing."""

    def __init__(
        self,
        folder: Path | None,
        weights: dict[str, torch.nn.Parameter],
        optimizer: torch.optim.AdamW,
        remembered: np.ndarray,
    ) -> None:
        """`remembered` (float64) is what the batches learn on the way; `load` writes into it."""
        self.folder, self.weights, self.optimizer, self.remembered = folder, weights, optimizer, remembered
        self.shared_out = any(isinstance(weight, DTensor) for weight in weights.values())
        self.step = 0
        self._saved = time.monotonic()

    @torch.no_grad()
    def load(self) -> int:
        """Put the kept state in place; returns the steps that were done, 0 where nothing is kept.

        Raises GcrError where the processes find different ones.
        """
        path = None if self.folder is None else self.folder / CHECKPOINT_FILE
        if path is not None and path.exists():
            with safe_open(path, "pt") as kept:
                self.step = int(kept.metadata()["step"])
        steps = kinds(self.step)
        if len(steps) > 1:
            raise GcrError(
                f"the processes find checkpoints of steps {min(steps):,} to {max(steps):,}: "
                "keep the memory in a folder that all machines share"
            )
        if self.step:
            with safe_open(path, "pt") as kept:
                self._read(kept)
        return self.step

    def _read(self, kept: Any) -> None:
        self.remembered[:] = kept.get_tensor("remembered").numpy()
        for name, weight in self.weights.items():
            weight.copy_(laid_out(kept.get_tensor(f"weight.{name}"), weight))
            if f"step.{name}" in kept.keys():  # noqa: SIM118 - a safetensors file is no mapping
                state = {moment: laid_out(kept.get_tensor(f"{moment}.{name}"), weight) for moment in MOMENTS}
                self.optimizer.state[weight] = state | {"step": kept.get_tensor(f"step.{name}").to(weight.device)}

    def done(self, step: int) -> None:
        """That many steps are done; they are saved every SAVE_EVERY_SECONDS."""
        self.step = step
        due = time.monotonic() - self._saved > SAVE_EVERY_SECONDS
        if self.shared_out:
            due = agreed(due)
        if due:
            self._save()

    def interrupted(self) -> None:
        """This process does no more steps. Those done are saved, unless that takes the others too."""
        if not self.shared_out:
            self._save()

    @torch.no_grad()
    def _save(self) -> None:
        if self.folder is None or not self.step or not (self.shared_out or is_first()):
            return
        tensors = {"remembered": torch.from_numpy(self.remembered.copy())}
        for name, weight in self.weights.items():
            tensors[f"weight.{name}"] = whole(weight.detach()).contiguous()
            for moment, value in self.optimizer.state.get(weight, {}).items():
                tensors[f"{moment}.{name}"] = whole(value).contiguous()
        if is_first():
            self.folder.mkdir(parents=True, exist_ok=True)
            with new_file(self.folder / CHECKPOINT_FILE) as building:
                save_file(tensors, building, metadata={"step": str(self.step)})
        self._saved = time.monotonic()

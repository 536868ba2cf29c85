"""Checkpoint: the state of a training on disk, so that it can be interrupted at any moment and go on as if it had not.

One safetensors file: the weights that are trained, AdamW's moments, what the batches remember, and the step in its
header. Written beside its place and renamed: whatever is there can be read. Of several processes the first one writes.
"""

import time
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from .together import is_first

SAVE_EVERY_SECONDS = 30.0
FILE = "training.safetensors"
MOMENTS = ("step", "exp_avg", "exp_avg_sq")
"""AdamW's state of a weight; its step counts the batches that gave the weight a gradient"""


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
        self.step = 0
        self._saved = time.monotonic()

    @torch.no_grad()
    def load(self) -> int:
        """Put the kept state in place; returns the steps that were done, 0 where nothing is kept."""
        if self.folder is None or not (self.folder / FILE).exists():
            return 0
        with safe_open(self.folder / FILE, "pt") as kept:
            self.step = int(kept.metadata()["step"])
            self.remembered[:] = kept.get_tensor("remembered").numpy()
            for name, weight in self.weights.items():
                weight.copy_(kept.get_tensor(f"weight.{name}"))
                if f"step.{name}" in kept.keys():  # noqa: SIM118 - a safetensors file is no mapping
                    self.optimizer.state[weight] = {
                        moment: kept.get_tensor(f"{moment}.{name}").to(weight.device) for moment in MOMENTS
                    }
        return self.step

    def done(self, step: int) -> None:
        """That many steps are done; they are saved every SAVE_EVERY_SECONDS."""
        self.step = step
        if time.monotonic() - self._saved > SAVE_EVERY_SECONDS:
            self.save()

    def save(self) -> None:
        if self.folder is None or not self.step or not is_first():
            return
        tensors = {"remembered": torch.from_numpy(self.remembered.copy())}
        for name, weight in self.weights.items():
            tensors[f"weight.{name}"] = weight.detach().contiguous()
            for moment, value in self.optimizer.state.get(weight, {}).items():
                tensors[f"{moment}.{name}"] = value.contiguous()
        self.folder.mkdir(parents=True, exist_ok=True)
        building = self.folder / f".{FILE}"
        save_file(tensors, building, metadata={"step": str(self.step)})
        building.replace(self.folder / FILE)
        self._saved = time.monotonic()

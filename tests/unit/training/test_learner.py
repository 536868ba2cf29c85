"""Learner: what no batch touched stays as it is; rates go on where they were; parts count as their rows do."""

from pathlib import Path

import numpy as np
import pytest
import torch

from gcr_core.training.learner import Learner


class StopError(Exception):
    """Stands for whatever ends a training before its end."""


class Two(torch.nn.Module):
    """A weight for pictures and one for texts."""

    def __init__(self) -> None:
        super().__init__()
        self.pictures, self.texts = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))


def learner(model: Two, folder: Path | None = None) -> Learner:
    groups = [{"params": list(model.parameters()), "lr": 0.1}]
    return Learner(model, model, groups, lambda step: 1 / (step + 1), folder, np.zeros(0))


def test_a_weight_that_no_batch_touched_stays_as_it_is_whatever_came_before() -> None:
    model = Two()
    with learner(model) as trained:
        for touched, other in ((model.pictures, model.texts), (model.texts, model.pictures)):
            before = other.detach().clone()
            trained.losses(lambda rows, weight=touched: (rows * weight).sum(1), [(torch.ones(4, 3),)], 4)
            trained.step()
            assert (touched != 1).all() and other.equal(before)


def test_a_batch_in_parts_has_the_gradients_of_the_whole() -> None:
    rows = torch.arange(15.0).view(5, 3)
    gradients, losses = [], []
    for sizes in ([5], [2, 2, 1]):
        model = Two()
        with learner(model) as trained:
            parts = [(part,) for part in rows.split(sizes)]
            losses.append(trained.losses(lambda part, model=model: (part * model.texts).sum(1), parts, 5))
        gradients.append(model.texts.grad)
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*gradients)
    torch.testing.assert_close(gradients[0], rows.mean(0))


def test_rates_and_moments_go_on_where_they_were_when_training_was_stopped(tmp_path: Path) -> None:
    def weights(folder: Path | None, until: int) -> list[float]:
        model = Two()
        with learner(model, folder) as trained:
            for step in range(trained.done, 6):
                if step == until:
                    raise StopError
                trained.losses(
                    lambda rows, model=model: (rows * model.texts**2).sum(1), [(torch.ones(1, 3) * step,)], 1
                )
                trained.step()
                trained.keep(step + 1)
            assert trained.optimizer.param_groups[0]["lr"] == pytest.approx(0.1 / 7)
        return model.texts.tolist()

    whole = weights(None, 6)
    with pytest.raises(StopError):
        weights(tmp_path, 3)
    assert weights(tmp_path, 6) == whole

"""Learner: what no batch touched stays as it is; rates go on where they were; parts count as their rows do."""

from pathlib import Path

import numpy as np
import pytest
import torch

from gcr_core.training.learner import Learner

STEPS = 6


class StopError(Exception):
    """Stands for whatever ends a training before its end."""


class Two(torch.nn.Module):
    """A weight for pictures and one for texts."""

    def __init__(self) -> None:
        super().__init__()
        self.pictures, self.texts = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))


def learner(model: Two, folder: Path | None = None) -> Learner:
    groups = [{"params": list(model.parameters()), "lr": 0.1}]
    return Learner(model, model, groups, STEPS, folder, np.zeros(0))


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
    def trained_to(folder: Path | None, until: int) -> tuple[list[float], list[float]]:
        """The rates of the steps that this training took, and the weights in the end."""
        model, rates = Two(), []
        with learner(model, folder) as trained:
            for step in range(trained.done, STEPS):
                if step == until:
                    raise StopError
                rates.append(trained.optimizer.param_groups[0]["lr"])
                trained.losses(
                    lambda rows, model=model: (rows * model.texts**2).sum(1), [(torch.ones(1, 3) * step,)], 1
                )
                trained.step()
                trained.keep(step + 1)
        return rates, model.texts.tolist()

    rates, weights = trained_to(None, STEPS)
    with pytest.raises(StopError):
        trained_to(tmp_path, 3)
    assert trained_to(tmp_path, STEPS) == (rates[3:], weights)


def test_rates_rise_for_a_tenth_of_the_steps_and_fall_to_a_fiftieth() -> None:
    model = Two()
    rates = []
    with Learner(model, model, [{"params": list(model.parameters()), "lr": 0.1}], 40, None, np.zeros(0)) as trained:
        for _ in range(40):
            rates.append(trained.optimizer.param_groups[0]["lr"])
            trained.losses(lambda rows: (rows * model.texts).sum(1), [(torch.ones(4, 3),)], 4)
            trained.step()
    assert rates[:4] == pytest.approx([0.025, 0.05, 0.075, 0.1])
    assert rates[3:] == sorted(rates[3:], reverse=True) and rates[-1] == pytest.approx(0.002)

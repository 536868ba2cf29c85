"""Several processes are one: the same losses, the same memory, also when one of them was killed on the way."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gcr_core import together
from gcr_core.gallery import Gallery
from tests import two_processes
from tests.two_processes import DENSE_STEPS, TRAINING

ROOT = Path(__file__).resolve().parent.parent.parent
LAUNCH = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "2"]
LAUNCH += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]


def launch(*arguments: object) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [*LAUNCH, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


def curve(folder: Path) -> list[tuple[str, int, float]]:
    return [tuple(json.loads(line)) for line in (folder / "curve.jsonl").read_text().splitlines()]


def test_two_processes_one_of_them_killed_at_a_random_step_learn_what_one_learns(
    tiny_gallery: Gallery, llava_folder: Path, tiny_clip_dir: Path, tmp_path: Path
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    made_of = (tiny_gallery.root, llava_folder, tiny_clip_dir)
    two_processes.run(*made_of, one)
    step, victim = random.randrange(2, TRAINING.steps), random.randrange(2)
    killed = launch("tests/two_processes.py", *made_of, two, step, victim)
    assert killed.returncode != 0 and not (two / "answer.json").exists()
    resumed = launch("tests/two_processes.py", *made_of, two)
    assert resumed.returncode == 0, resumed.stderr

    alone, shared = curve(one), curve(two)
    assert [line[:2] for line in shared] == [line[:2] for line in alone]
    assert len(alone) == DENSE_STEPS + TRAINING.steps
    for (name, number, loss), (_, _, same) in zip(alone, shared, strict=True):
        assert same == pytest.approx(loss, abs=1e-3), f"{name} step {number}, process {victim} killed at {step}"
    answers = [json.loads((folder / "answer.json").read_text()) for folder in (one, two)]
    assert [answer.pop("processes") for answer in answers] == [1, 2]
    assert answers[0].pop("score") == pytest.approx(answers[1].pop("score"), abs=1e-3)
    assert answers[0] == answers[1]


def test_shares_are_consecutive_and_even(monkeypatch: pytest.MonkeyPatch) -> None:
    class Process:
        num_processes = 3

    monkeypatch.setattr(together, "state", lambda: Process)
    for count in (0, 1, 2, 7, 9):
        shares = []
        for Process.process_index in range(3):
            shares.append(list(range(count))[together.share(count)])
        assert [one for share in shares for one in share] == list(range(count))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_process_that_is_alone_has_all_and_sends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together, "all_reduce", None)
    weight = torch.nn.Parameter(torch.ones(2))
    weight.grad = torch.ones(2)
    together.sum_gradients([weight])
    together.same_start([weight], 5)
    own = torch.arange(6.0).view(3, 2)
    assert together.joined(own, 3) is own
    assert together.gathered(own, 3).equal(own)
    assert together.mapped(lambda questions: [2 * question for question in questions], [1, 2]) == [2, 4]
    assert weight.grad.tolist() == [1, 1]

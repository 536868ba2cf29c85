"""Several processes are one: the same losses, the same memory, also when one of them was killed on the way."""

import json
import os
import random
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate.utils import DistributedType

from gcr_core.data.gallery import Gallery
from gcr_core.errors import GcrError
from gcr_core.models import distributed
from gcr_core.training import microbatch
from tests import two_processes
from tests.two_processes import ADAPTER, TRAINING

ROOT = Path(__file__).resolve().parent.parent.parent.parent
COMMAND = re.compile(r"^\.venv/bin/(accelerate launch .*?)--num_processes \d+ -m gcr_core memorize ", re.MULTILINE)
"""how the README starts several processes"""


SHARDED = "accelerate launch --use_fsdp --fsdp_version 2 --fsdp_auto_wrap_policy TRANSFORMER_BASED_WRAP"


def launch(*arguments: object, options: str | None = None) -> subprocess.CompletedProcess[str]:
    """Two processes by the README's command or another, at a port of their own.

    `arguments`: `-m MODULE` or a program, and what it takes.
    """
    (readme,) = set(COMMAND.findall((ROOT / "README.md").read_text(encoding="utf-8")))
    program, *words = shlex.split(options or readme)
    command = [str(Path(sys.executable).with_name(program)), *words, "--num_processes", "2", "--main_process_port", "0"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command += map(str, arguments)
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)


def curve(folder: Path) -> list[tuple[str, int, float]]:
    return [tuple(json.loads(line)) for line in (folder / "curve.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def made_of(tiny_gallery: Gallery, llava_folder: Path, tiny_clip_dir: Path) -> tuple[Path, Path, Path]:
    return tiny_gallery.root, llava_folder, tiny_clip_dir


@pytest.fixture(scope="module")
def one(made_of: tuple[Path, Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process learns."""
    folder = tmp_path_factory.mktemp("one")
    with pytest.MonkeyPatch.context() as patch:
        for name in two_processes.IN_PARTS:
            patch.setattr(microbatch, name, getattr(microbatch, name))
        two_processes.run(*made_of, folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("options", [None, SHARDED])
def test_two_processes_one_of_them_killed_at_a_random_step_learn_what_one_learns(
    options: str | None, one: Path, made_of: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    two = tmp_path
    step, victim = random.randrange(2, TRAINING.steps), random.randrange(2)
    killed = launch("tests/two_processes.py", *made_of, two, step, victim, options=options)
    assert killed.returncode != 0 and not (two / "answer.json").exists()
    resumed = launch("tests/two_processes.py", *made_of, two, options=options)
    assert resumed.returncode == 0, resumed.stderr

    alone, shared = curve(one), curve(two)
    assert [line[:2] for line in shared] == [line[:2] for line in alone]
    assert len(alone) == TRAINING.steps + ADAPTER.steps
    for (name, number, loss), (_, _, same) in zip(alone, shared, strict=True):
        assert same == pytest.approx(loss, abs=1e-3), f"{name} step {number}, process {victim} killed at {step}"
    answers = [json.loads((folder / "answer.json").read_text()) for folder in (one, two)]
    assert [answer.pop("processes") for answer in answers] == [1, 2]
    assert answers[0].pop("score") == pytest.approx(answers[1].pop("score"), abs=1e-3)
    assert answers[0] == answers[1]


@pytest.mark.parametrize("processes", [1, 3, 8])
def test_shares_are_consecutive_and_as_long_in_all_processes(processes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Process:
        num_processes, process_index = processes, 0

    monkeypatch.setattr(distributed, "state", lambda: Process)
    for count in (0, 1, 2, 7, 9):
        shares = []
        for Process.process_index in range(processes):
            shares.append(distributed.share(count).tolist())
        assert len(set(map(len, shares))) == 1
        shared = [one for share in shares for one in share]
        assert shared[:count] == list(range(count))
        assert len(shared) - count < processes and set(shared) == set(range(count))


def test_a_process_that_is_alone_has_all_and_sends_nothing() -> None:
    own = torch.arange(6.0).view(3, 2)
    assert distributed.gathered(own, 3).equal(own)
    assert distributed.mapped(lambda questions: [2 * question for question in questions], [1, 2]) == [2, 4]
    assert distributed.kinds(5) == {5} and distributed.agreed(5) == 5


@pytest.mark.parametrize("kind", [DistributedType.FSDP, DistributedType.DEEPSPEED])
def test_a_configuration_that_trains_no_memory_is_refused_with_the_remedy(
    kind: DistributedType, monkeypatch: pytest.MonkeyPatch
) -> None:
    configured = SimpleNamespace(distributed_type=kind, is_fsdp2=False)
    monkeypatch.setattr(distributed, "Accelerator", lambda **options: configured)
    with pytest.raises(
        GcrError, match=r"configured for .*: launch with --multi_gpu, or with --use_fsdp --fsdp_version 2"
    ):
        distributed.accelerator()

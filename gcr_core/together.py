"""Together: several processes that work as one, as `accelerate launch` or torchrun starts them.

Each draws the whole batch from the seed and works on its share of it; what is summed or gathered is the same in all of
them. The share of a process that is alone is the whole, and nothing is sent. Knows tensors, not what they mean.
"""

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import psutil
import torch
from accelerate import PartialState
from accelerate.commands.launch import launch_command_parser
from accelerate.utils import gather_object
from torch.distributed import all_reduce

from .errors import GcrError

LONGEST_WAIT = timedelta(hours=12)
"""For the first process, which measures and writes while the others wait."""

Answer = TypeVar("Answer")


def state() -> PartialState:
    """This process among the others, by the variables that a launcher sets; without a GPU they talk through gloo."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return PartialState()
    return PartialState(cpu=not torch.cuda.is_available(), timeout=LONGEST_WAIT)


def alone() -> bool:
    return state().num_processes == 1


def start_the_rest() -> None:
    """Begins this program anew as all the processes that `accelerate launch` was asked for.

    Without a GPU it starts one, unless it is told `--multi_gpu`. Returns where no process is missing.
    """
    launched = "ACCELERATE_MIXED_PRECISION" in os.environ and "WORLD_SIZE" not in os.environ
    if not launched or torch.cuda.is_available():
        return
    words = psutil.Process(os.getppid()).cmdline()
    named = [at for at, word in enumerate(words) if word.removesuffix(".py").endswith("launch")]
    if not named:
        return
    asked, _ = launch_command_parser().parse_known_args(words[named[0] + 1 :])
    if (asked.num_processes or 1) > 1 and (asked.num_machines or 1) == 1:
        several = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={asked.num_processes}"]
        os.execv(sys.executable, [sys.executable, *several, *sys.orig_argv[1:]])


def is_first() -> bool:
    """Whether this is the process that writes and reports."""
    return state().is_main_process


def share(count: int) -> slice:
    """Which of `count` things are this process's: the shares are consecutive, and differ in length by one at most."""
    here, all_ = state().process_index, state().num_processes
    return slice(count * here // all_, count * (here + 1) // all_)


@torch.no_grad()
def summed(own: torch.Tensor) -> torch.Tensor:
    """The sum of the processes' tensors, which have the same shape and dtype."""
    if alone():
        return own
    sent = own.detach().to(state().device, copy=True)
    all_reduce(sent)
    return sent.to(own.device)


def gathered(own: torch.Tensor, count: int) -> torch.Tensor:
    """(count, ...): the rows of all shares, from this process's (rows of `share(count)`, ...); no gradient."""
    if alone():
        return own.detach()
    whole = own.new_zeros(count, *own.shape[1:])
    whole[share(count)] = own.detach()
    return summed(whole)


def joined(own: torch.Tensor, count: int) -> torch.Tensor:
    """The same with a gradient for this process's rows: all processes' gradients together are the whole one."""
    if alone():
        return own
    whole = gathered(own, count)
    whole[share(count)] = own
    return whole


def mapped(answers: Callable[[Any], list[Answer]], questions: Sequence[Any]) -> list[Answer]:
    """An answer to each question, in order; each process answers its share."""
    own = answers(questions[share(len(questions))])
    return gather_object(own)


def kinds(value: Any) -> set[Any]:
    """The different values that the processes have."""
    return {value} if alone() else set(gather_object([value]))


@torch.no_grad()
def sum_gradients(weights: Iterable[torch.nn.Parameter]) -> None:
    """Give every weight the sum of the processes' gradients, sent as one message; none where none has one."""
    if alone():
        return
    weights = list(weights)
    pieces = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in weights]
    have = torch.tensor([weight.grad is not None for weight in weights], device=state().device)
    message = torch.cat([have.float(), *(piece.float().flatten() for piece in pieces)])
    all_reduce(message)
    have, *sums = message.split([len(weights), *(piece.numel() for piece in pieces)])
    for weight, has, gradient in zip(weights, have.tolist(), sums, strict=True):
        weight.grad = gradient.view_as(weight).to(weight.dtype) if has else None


def same_start(weights: Iterable[torch.nn.Parameter], step: int) -> None:
    """Give all processes the first one's weights. Raises GcrError where they stand at different steps."""
    if alone():
        return
    steps = kinds(step)
    if len(steps) > 1:
        raise GcrError(
            f"the processes find checkpoints of steps {min(steps):,} to {max(steps):,}: "
            "keep the memory in a folder that all machines share"
        )
    for weight in weights:
        torch.distributed.broadcast(weight.data, 0)

"""Distributed: several processes that work as one, as `accelerate launch` or torchrun starts them.

Each draws the whole batch from the seed and works on its share of it; what is gathered is the same in all of them. The
share of a process that is alone is the whole, and nothing is sent. Accelerate does the work: here is how it is set up,
and what is shared out and gathered. Knows tensors, not what they mean.
"""

import copy
import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import (
    DistributedDataParallelKwargs,
    DistributedType,
    FullyShardedDataParallelPlugin,
    broadcast_object_list,
    gather,
    gather_object,
)
from torch.distributed.tensor import DTensor, distribute_tensor

from gcr_core.errors import GcrError

LONGEST_WAIT = timedelta(hours=12)
"""How long processes wait for the first one, which measures and writes meanwhile."""

Answer = TypeVar("Answer")
Value = TypeVar("Value")


def state() -> PartialState:
    """This process among the others, by the variables that a launcher sets; without a GPU they talk through gloo."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return PartialState()
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"  # every process asks its own model, also between steps
    return PartialState(cpu=not torch.cuda.is_available(), timeout=LONGEST_WAIT)


def accelerator() -> Accelerator:
    """What a training is prepared with: a new one for each, on the processes of `state`.

    A batch of texts leaves the vision tower without gradients; buffers are the same in all processes to begin with.
    Raises GcrError where Accelerate is configured for DeepSpeed, which steps weights that have no gradient, or for what
    keeps whole weights from being asked between the steps.
    """
    several = state().num_processes > 1
    parallel = DistributedDataParallelKwargs(find_unused_parameters=True, broadcast_buffers=False)
    made = Accelerator(cpu=several and not torch.cuda.is_available(), kwargs_handlers=[parallel])
    kind = made.distributed_type
    if kind in (DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM) or (
        kind == DistributedType.FSDP and not made.is_fsdp2
    ):
        raise GcrError(
            f"Accelerate is configured for {kind.value}{' 1' if kind == DistributedType.FSDP else ''}, memories are "
            "trained with DDP or FSDP 2: launch with --multi_gpu, or with --use_fsdp --fsdp_version 2"
        )
    if made.is_fsdp2:
        made.state.fsdp_plugin = FullyShardedDataParallelPlugin()  # the last one is set to the last model's layers
        made.state.fsdp_plugin.transformer_cls_names_to_wrap = None
        if made.mixed_precision != "no":
            made.state.fsdp_plugin.set_mixed_precision(made.mixed_precision)
    return made


def trainee(model: Any) -> Any:
    """What is trained of a model: itself, or a copy where Accelerate is to share the weights out (FSDP).

    Of such a copy no process can ask anything alone; each weight is to have a dimension at least.
    """
    if not accelerator().is_fsdp2:
        return model
    model = copy.deepcopy(model)
    for module in model.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            if not weight.ndim:
                setattr(module, name, torch.nn.Parameter(weight.detach()[None], weight.requires_grad))
    return model


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor as one process alone would have it. Where it is shared out, all processes are to ask for it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def laid_out(tensor: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A whole tensor on the device of another, shared out as that one is."""
    tensor = tensor.to(like.device).view(like.shape)
    return distribute_tensor(tensor, like.device_mesh, like.placements) if isinstance(like, DTensor) else tensor


def is_first() -> bool:
    """Whether this is the process that writes and reports."""
    return state().is_main_process


def share(count: int) -> np.ndarray:
    """(n,) int64: which of `count` things are this process's, as many in each process.

    Shares follow each other; behind the last thing come the first ones again, so that the last shares are as long.
    """
    each = -(-count // state().num_processes)
    return (state().process_index * each + np.arange(each)) % max(count, 1)


def gathered(own: torch.Tensor, count: int) -> torch.Tensor:
    """(count, ...): the rows of all shares, from this process's (rows of `share(count)`, ...); no gradient."""
    own = own.detach()
    if state().num_processes == 1:
        return own
    return gather(own.to(state().device))[:count].to(own.device)


def mapped(answers: Callable[[Any], list[Answer]], questions: Sequence[Any]) -> list[Answer]:
    """An answer to each question, in order; each process answers some."""
    with state().split_between_processes(list(questions)) as own:
        return gather_object(answers(own))


def kinds(value: Value) -> set[Value]:
    """The distinct values that the processes have."""
    return {value} if state().num_processes == 1 else set(gather_object([value]))


def agreed(value: Value) -> Value:
    """The first process's value, in all of them."""
    return value if state().num_processes == 1 else broadcast_object_list([value])[0]

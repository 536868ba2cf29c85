"""Device: the dtypes that it is fast with, its free memory, and its random numbers."""

from pathlib import Path

import psutil
import torch

CGROUP = Path("/sys/fs/cgroup")
"""Where Linux says how much memory a container may use."""


def does_bfloat16(device: torch.device) -> bool:
    """Whether the device computes in bfloat16 faster than in float32.

    On a CPU only with instructions for it (AVX-512 BF16, AMX): without them it takes up to a hundred times as long.
    """
    if device.type == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return device.type == "cuda"


def free_bytes(device: torch.device) -> int:
    """Bytes of the device's memory that are free; on a CPU within what a container may use."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = psutil.virtual_memory().available
    try:
        limit = int((CGROUP / "memory.max").read_text())
        reclaimable = _inactive_file((CGROUP / "memory.stat").read_text())
        free = min(free, limit - int((CGROUP / "memory.current").read_text()) + reclaimable)
    except (OSError, ValueError):  # no container, or one without a limit ("max")
        pass
    return free


def seed_random(device: torch.device, seed: int, step: int) -> None:
    """Makes the random numbers of the CPU and of this device those of a training's step.

    `torch.manual_seed` seeds every kind of device that torch knows, also those that are not there, and a small model
    feels that in each step.
    """
    seed = seed * 1_000_003 + step
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)


def _inactive_file(statistics: str) -> int:
    return sum(int(line.split()[1]) for line in statistics.splitlines() if line.startswith("inactive_file "))

"""Uptime: seconds that are counted in a file while its machine is up; no setting of the wall clock changes them.

What the system counts since it booted is added up over boots. Time in which the machine was off, and what had passed
before a boot since somebody counted last, is left out: it runs late, never early.
"""

import json
import sys
import time
from pathlib import Path

from gcr_core.files.atomic import write_text

BOOT = Path("/proc/sys/kernel/random/boot_id")
"""Another one after each boot, on Linux."""


def uptime(path: Path) -> float:
    """The seconds counted so far; 0.0 where nobody has begun to count."""
    total, at, boot = _read(path)
    return total + (max(0.0, _since_boot() - at) if boot == _boot() else 0.0)


def count_on(path: Path) -> float:
    """Writes them down, and counts on from there; to be called by one process at a time, every now and then."""
    total = uptime(path)
    write_text(path, json.dumps({"seconds": total, "at": _since_boot(), "boot": _boot()}))
    return total


def _read(path: Path) -> tuple[float, float, str]:
    try:
        counted = json.loads(path.read_text(encoding="utf-8"))
        return float(counted["seconds"]), float(counted["at"]), str(counted["boot"])
    except (OSError, ValueError, LookupError, TypeError):
        return 0.0, 0.0, ""


def _since_boot() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME) if sys.platform == "linux" else time.monotonic()


def _boot() -> str:
    try:
        return BOOT.read_text(encoding="ascii").strip()
    except OSError:
        return "unknown"

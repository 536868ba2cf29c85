"""Waiting for what another process or thread does."""

import time
from collections.abc import Callable

SECONDS = 300


def until(true: Callable[[], object]) -> None:
    """Returns once it is true; fails where that takes too long."""
    deadline = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)

"""Waiting for what another process or thread does."""

import time
from collections.abc import Callable
from typing import Any

SECONDS = 300


def until(true: Callable[[], object]) -> None:
    """Returns once it is true; fails where that takes too long."""
    deadline = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def until_still(page: Any) -> None:
    """Returns once nothing on a page of Playwright's fades or moves; what turns without end may."""
    page.evaluate("""async () => {
      await new Promise(requestAnimationFrame);
      const ends = document.getAnimations().filter((one) => one.effect.getComputedTiming().endTime < Infinity);
      await Promise.allSettled(ends.map((one) => one.finished));
    }""")

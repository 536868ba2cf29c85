"""Runtime: a process lets others go first, collects garbage seldom, and shows no warnings of what is to change."""

import contextlib
import gc
import os
import sys
import warnings
from pathlib import Path

SELDOM = 50_000
"""After so many new objects garbage is collected."""


def step_back() -> None:
    """Lets every other process have the cores first, and this one be the first to die where memory runs out."""
    if sys.platform != "win32":
        os.nice(10)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def collect_seldom() -> None:
    """Makes Python look for garbage cycles after SELDOM new objects instead of hundreds.

    The libraries for models make hundreds of thousands that stay: looking through them again and again while they were
    imported took a quarter of the start.
    """
    gc.set_threshold(SELDOM)


def keep_quiet() -> None:
    """Keeps off stderr what libraries tell programmers: that a name they use will be another one in a later version.

    Also in the processes that this one starts. `python -W` and PYTHONWARNINGS bring the warnings back.
    """
    if not sys.warnoptions:
        warnings.simplefilter("ignore", FutureWarning)
        os.environ["PYTHONWARNINGS"] = "ignore::FutureWarning"

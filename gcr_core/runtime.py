"""Runtime: how a process behaves.

It lets others go first, keeps within limits that it has set itself, collects garbage seldom, leaves Ctrl-C to whoever
started it, prints any text, and says on one line what it was called wrongly with.
"""

import argparse
import contextlib
import gc
import io
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

USER_MISTAKE, INTERRUPTED = 2, 130
"""What a command ends with after a mistake of its user's, and after Ctrl-C."""
SELDOM = 50_000
"""How many new objects there are before garbage is collected."""


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose complaints are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(USER_MISTAKE, f"{self.prog}: {message}; {self.prog} --help lists what it takes\n")


def step_back() -> None:
    """Lets every other process have the cores first, and this one be the first to die where memory runs out."""
    if sys.platform != "win32":
        os.nice(10)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def confine(room: int | None, files: int = 256) -> None:
    """Limits this process for good: `room` more bytes of memory than it has now (None: without limit), so many open
    files, no dump of its memory. Does what the system can."""
    try:
        import resource
    except ImportError:  # Windows
        return
    wanted = {"RLIMIT_NOFILE": files, "RLIMIT_CORE": 0}
    with contextlib.suppress(OSError, StopIteration):
        status = Path("/proc/self/status").read_text().splitlines()
        has = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmData"))
        wanted |= {"RLIMIT_DATA": has + room} if room is not None else {}
    for name, limit in wanted.items():
        kind = getattr(resource, name)
        most = resource.getrlimit(kind)[1]
        if most == resource.RLIM_INFINITY or limit < most:
            resource.setrlimit(kind, (limit, limit))


def narrow(less: int) -> None:
    """Lets this process take so many bytes less than `confine` gave it room for, until this is called again."""
    with contextlib.suppress(ImportError):  # Windows
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_DATA)
        if most != resource.RLIM_INFINITY:
            resource.setrlimit(resource.RLIMIT_DATA, (most - less, most))


@contextlib.contextmanager
def unheard_interrupts() -> Iterator[None]:
    """Processes that are started in the block never hear Ctrl-C: whoever started them ends them, not the terminal."""
    if sys.platform == "win32":
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # Once it starts, it lets interrupts through again.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def interrupt_imports() -> None:
    """Has Ctrl-C end this process at once, with INTERRUPTED, while a module is imported; elsewhere it is raised.

    Raised there it may be lost in a destructor, so that the process goes on, or have a library abort it. What an import
    is part of may be left half done, as by a kill. A Ctrl-C that is ignored, or handled, stays so.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupted)


def _interrupted(number: int, frame: FrameType | None) -> None:
    while frame:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            os._exit(INTERRUPTED)
        frame = frame.f_back
    raise KeyboardInterrupt


def collect_seldom() -> None:
    """Makes Python look for garbage cycles after SELDOM new objects instead of hundreds.

    The libraries for models make hundreds of thousands that stay: looking through them again and again while they were
    imported took a quarter of the start.
    """
    gc.set_threshold(SELDOM)


def open_streams() -> None:
    """Lets stdout and stderr print any text: what their encoding lacks is escaped, and a closed one swallows it."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - open to the end
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def keep_quiet() -> None:
    """Keeps off stderr what libraries tell programmers: that a name they use will be another one in a later version.

    Also in the processes that this one starts. `python -W` and PYTHONWARNINGS bring the warnings back.
    """
    if not sys.warnoptions:
        warnings.simplefilter("ignore", FutureWarning)
        os.environ["PYTHONWARNINGS"] = "ignore::FutureWarning"

"""The app as a person starts it, `python app.py`, in a process of its own on a free port."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gcr_core.serving.job import Job
from tests.patience import SECONDS, until

ROOT = Path(__file__).resolve().parent.parent


@contextmanager
def serve(memory: Path, log: Path, **variables: object) -> Iterator[str]:
    """The address of an app with that memory, once the page answers; the process ends with the block, and so do
    the trainings that it began.

    Galleries, jobs and memories are kept in `home` beside the log; `variables` are GCR_* ones, in lower case. A hub is
    asked where HF_ENDPOINT names one.
    """
    port = free_port()
    process = start(memory, log, port, **variables)
    try:
        yield await_page(process, log, port)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
        end_trainings(log.parent / "home")


def end_trainings(home: Path) -> None:
    """Kills the trainings below a home folder, which outlive the app that began them."""
    for job in [Job(lock.parent) for lock in home.glob("**/jobs/*/lock")]:
        until(lambda job=job: not job.is_alive() or job.pid())  # type: ignore[misc]
        if job.is_alive():
            with suppress(ProcessLookupError):
                os.killpg(job.pid(), signal.SIGKILL)
        until(lambda job=job: not job.is_alive())  # type: ignore[misc]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(memory: Path, log: Path, port: int, **variables: object) -> subprocess.Popen:
    """The process of an app, perhaps not listening yet."""
    command = [sys.executable, "app.py", "--memory", str(memory), "--host", "127.0.0.1", "--port", str(port)]
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "0" if "HF_ENDPOINT" in os.environ else "1",
        "GRADIO_TEMP_DIR": str(log.parent / "uploads"),
        "GCR_HOME": str(log.parent / "home"),
        **{f"GCR_{name.upper()}": str(value) for name, value in variables.items()},
    }
    with log.open("a") as output:
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)


def await_page(process: subprocess.Popen, log: Path, port: int) -> str:
    """The app's address, once the page answers."""
    address = f"http://127.0.0.1:{port}/"
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, f"the app ended on its own:\n{log.read_text()}"
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return address
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.1)
    raise AssertionError(f"no page after {SECONDS} s:\n{log.read_text()}")

"""A stand-in for the package `spaces` where a GPU is lent: what is decorated runs in forks, on a quota.

As there: the quota is that of the visitor whose Gradio event asks, known by a header, and each loan takes from it; what
is asked with and what comes back is pickled; an exception that is not Gradio's arrives as its name only; a fork that
outlasts what it asked for is killed; one that has answered lives on, with all files that were open when it was forked.
The folder ZERO_FOLDER holds `quota`, the seconds that may be lent in all, and gets `lent.jsonl`, a line for each loan.

A slice of training is over after so many steps, so that as many slices are lent on a slow machine as on a fast one.
"""

import inspect
import json
import multiprocessing
import os
import time
import traceback
from pathlib import Path

import gradio as gr
from gradio.context import LocalContext

from gcr_core.serving import worker

FOLDER = Path(os.environ["ZERO_FOLDER"])
FORKS = multiprocessing.get_context("fork")
STEPS = 20
"""Of a slice."""
lent = []
"""The seconds of each loan."""


class Record(worker.Record):
    left = STEPS

    def __call__(self, progress):
        super().__call__(progress)
        self.left -= progress.loss is not None
        if not self.left:
            self.until = 0.0


worker.Record = Record  # type: ignore[misc]


def GPU(task=None, *, duration=60):  # noqa: N802 - the name there
    if task is None:
        return lambda task: GPU(task, duration=duration)
    idle = []

    def lend(arguments):
        request = LocalContext.request.get(None)
        token = request.headers.get("x-ip-token") if request else None
        seconds = duration(*arguments) if callable(duration) else duration
        left = float((FOLDER / "quota").read_text()) - sum(lent)
        if seconds > left:
            raise gr.Error(
                f"You have exceeded your ZeroGPU quota ({seconds}s requested vs. {left:.0f}s left). "
                "Try again in 3:20:10. ",
                print_exception=False,
            )
        lent.append(seconds)
        while idle:
            idle.pop().kill()
        ours, theirs = FORKS.Pipe()
        fork = FORKS.Process(target=_work, args=(os.getpid(), theirs, task, arguments), daemon=True)
        fork.start()
        theirs.close()
        loan = {"pid": fork.pid, "parent": os.getpid(), "seconds": seconds, "token": token, "task": task.__name__}
        with (FOLDER / "lent.jsonl").open("a") as log:
            log.write(json.dumps(loan) + "\n")
        deadline = time.monotonic() + seconds
        while True:
            try:
                kind, value = ours.recv() if ours.poll(max(0, deadline - time.monotonic())) else ("aborted", None)
            except EOFError:
                kind, value = "aborted", None
            if kind == "yield":
                yield value
                continue
            (idle.append if kind != "aborted" else lambda fork: fork.kill())(fork)
            if kind == "return":
                return value
            raise gr.Error("GPU task aborted" if kind == "aborted" else value, print_exception=False)

    def call(*arguments):
        loan = lend(arguments)
        try:
            while True:
                next(loan)
        except StopIteration as end:
            return end.value

    def iterate(*arguments):
        yield from lend(arguments)

    return iterate if inspect.isgeneratorfunction(task) else call


def _work(parent, pipe, task, arguments):
    try:
        result = task(*arguments)
        if inspect.isgenerator(result):
            for value in result:
                pipe.send(("yield", value))
            result = None
        pipe.send(("return", result))
    except Exception as error:
        traceback.print_exc()
        pipe.send(("error", error.message if isinstance(error, gr.Error) else type(error).__name__))
    while os.getppid() == parent:
        time.sleep(0.5)

"""ZeroGPU: a Space that has no GPU of its own; forks of its process are lent one, for seconds, on a visitor's quota.

What a fork finds on "cuda" was put there before the page was served, so the memory that the app opens with is loaded
in this process, where it only waits. A subprocess gets no GPU: questions are answered, and jobs trained in resumable
slices, by functions that the package `spaces` runs in forks. That package is imported nowhere else.
"""

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextvars import Context, copy_context
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Literal

from gcr_core.data.gallery import Gallery
from gcr_core.errors import GcrError
from gcr_core.files.locks import unlock
from gcr_core.serving.job import FAILED, INTERRUPTED, RUNNING, STOPPED, STOPPED_WORDS, Job, ended_with
from gcr_core.serving.model_process import EndedError, ModelProcess, answered
from gcr_core.serving.worker import beating, recorded_end, train
from gcr_core.training.config import Recipe
from gcr_core.ui.html import duration

if TYPE_CHECKING:
    from gradio import Error

START_SECONDS = 15
"""How long a fork may take before it works: to move the models to the GPU, or to load a memory of one's own."""
WORK: dict[str, Callable[..., float]] = {
    "answer": lambda folder, request: 0.02 * request.beams,
    "describe": lambda folder, file_names: 0.3 * len(file_names),
    "add": lambda folder, pictures, captions: 2 * len(pictures),
    "forget": lambda folder, file_names: 5,
    "restore": lambda folder, file_names: 5,
    "move": lambda folder, file_names, album: 5,
    "estimate": lambda gallery, recipe: 45,
    "write_captions": lambda gallery, images, backbone, count: 20 + 0.2 * len(images) * count,
}
"""What a question takes after that, in seconds, by what it is asked with."""
OTHER_SECONDS = 45
SLICE_SECONDS = 45
"""How long a slice of training is. With START_SECONDS it makes a minute, which is lent to everybody."""
MAX_OWNERS = 256
"""How many owners' last events are kept."""
GPU_SECONDS = "gpu_seconds"
"""The key in a job's status under which stands how long it takes in all, as measured."""
TOO_LARGE = (
    f"a part of this training takes longer than the {START_SECONDS + SLICE_SECONDS} s for which a GPU is lent: choose "
    "fewer pictures or a smaller backbone, or duplicate the Space to hardware of your own"
)


def is_here() -> bool:
    """Whether this is a Space whose GPU is lent."""
    wanted = os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")
    return wanted and find_spec("spaces") is not None


def host(make: Callable[[Callable[[Any], None]], Any], name: str) -> ModelProcess:
    """What asks an object that holds models: in a process of its own, on ZeroGPU in forks of this one."""
    return ZeroGpuProcess(make, name) if is_here() else ModelProcess(make, name)


class ZeroGpuProcess(ModelProcess):
    """The methods of an object in this process, run by forks that have a GPU. Only `load` runs here."""

    def __init__(self, make: Callable[[Callable[[Any], None]], Any], name: str) -> None:
        """Before the page is launched: ZeroGPU asks then what it will be asked to run."""
        super().__init__(make, name)
        import spaces

        self._words: SimpleQueue[tuple[str, Any]] = SimpleQueue()
        self._hosted: Any = None
        self._forked = spaces.GPU(duration=seconds)(self._answers)

    def ask(self, method: str, *arguments: Any, on_word: Callable[[Any], None] = lambda word: None) -> Any:
        """As `ModelProcess.ask`; EndedError also where no GPU was lent, which says why."""
        if method == "load":
            import torch

            # A fork of a process that has OpenMP threads would wait for them for ever.
            torch.set_num_threads(1)
            return getattr(self._object(), method)(*arguments)
        from gradio import Error

        try:
            for kind, value in self._forked(method, arguments):
                if kind == "word":
                    on_word(value)
        except Error as refusal:
            raise EndedError(f"no GPU was lent for this, or not for long enough: {words_of(refusal)}") from refusal
        if kind == "error":
            raise value
        return value

    def ask_together(self, method: str, subject: Any, question: Any, alike: Hashable, most: int) -> Any:
        """As `ask`: for each question a GPU is lent on the quota of whoever asks."""
        return self.ask(method, subject, question)

    @property
    def pid(self) -> int:
        return os.getpid()

    @property
    def state(self) -> Literal["ready"]:
        """What does not answer is a fork that ZeroGPU ends."""
        return "ready"

    def end(self) -> None:
        """Nothing: the forks give their GPU back by themselves."""

    def _object(self) -> Any:
        self._hosted = self._hosted or self._host(lambda word: self._words.put(("word", word)))
        return self._hosted

    def _answers(self, method: str, arguments: tuple[Any, ...]) -> Iterator[tuple[str, Any]]:
        """In a fork: words on the way, then ("answer" or "error", what came of it)."""
        work = threading.Thread(target=lambda: self._words.put(answered(self._object, method, arguments)))
        work.start()
        kind = "word"
        while kind == "word":
            kind, value = self._words.get()
            yield kind, value
        work.join()


class Requests:
    """The last Gradio event of each owner. ZeroGPU lends on the quota of the visitor whose event asks."""

    def __init__(self) -> None:
        self._last: OrderedDict[Path, Context] = OrderedDict()

    def remember(self, root: Path) -> None:
        """Keeps the event that is being handled, if one is, as the last of the owner whose workspace is at `root`."""
        from gradio.context import LocalContext

        if LocalContext.request.get(None) is None:
            return
        self._last[root] = copy_context()
        self._last.move_to_end(root)
        while len(self._last) > MAX_OWNERS:
            self._last.popitem(last=False)

    def run(self, root: Path, call: Callable[..., Any], *arguments: Any) -> Any:
        """Calls as if from the owner's last event."""
        context = self._last.get(root)
        return context.copy().run(call, *arguments) if context else call(*arguments)


class Slices:
    """Trains jobs a slice after the other, each on a GPU that is lent for it: the `start` of a `JobQueue`.

    Each is lent on the owner's last event, of which an open page sends one every few seconds. Once a GPU is refused the
    job is interrupted, and Resume goes on.
    """

    def __init__(self, requests: Requests, max_seconds: float) -> None:
        """`max_seconds`: what a training may take in all."""
        import spaces

        self._requests, self._max_seconds = requests, max_seconds
        self._forked = spaces.GPU(duration=lambda folder, seconds, most: START_SECONDS + round(seconds))(train_slice)

    def __call__(self, job: Job, own: int, machine: int) -> None:
        locks = os.dup(own), os.dup(machine)
        threading.Thread(target=self._train, args=(job, locks), name=f"slices-{job.id}", daemon=True).start()

    def _train(self, job: Job, locks: tuple[int, int]) -> None:
        from gradio import Error

        try:
            with beating(job):
                while not self._is_over(job):
                    pass
        except Error as refusal:
            job.record(INTERRUPTED, message=f"no GPU was lent ({words_of(refusal)}): Resume goes on once one is")
        except Exception as error:
            job.record(INTERRUPTED, message=ended_with(f"{type(error).__name__}: {error}"))
        finally:
            for lock in locks:
                unlock(lock)

    def _is_over(self, job: Job) -> bool:
        """Trains one slice; whether the job has ended. Raises gr.Error where no GPU was lent or it was taken away.

        One that is cut off before its first step, as the machine was slower than the last time, is tried once more, for
        as long as a slice may be.
        """
        from gradio import Error

        if job.wish.exists():
            job.record(STOPPED, message=STOPPED_WORDS)
            return True
        before = job.recorded()
        left = before["seconds_left"]
        expected = SLICE_SECONDS if left is None else min(SLICE_SECONDS, 10 + 1.5 * left)
        for seconds in (expected, SLICE_SECONDS):
            try:
                return self._requests.run(job.workspace.root, self._forked, job.folder, seconds, self._max_seconds)
            except Error as refusal:
                if "aborted" not in refusal.message or job.recorded()["step"] != before["step"]:
                    raise
        job.record(FAILED, message=TOO_LARGE)
        return True


def train_slice(folder: Path, seconds: float, max_seconds: float) -> bool:
    """In a fork: trains the job in a folder for so long; whether it has ended.

    The first slice only measures how long the training will take; one of more than `max_seconds` ends there.
    """
    job, until = Job(folder), time.monotonic() + seconds
    if GPU_SECONDS in job.recorded():
        return train(job, until)
    with recorded_end(job):
        job.record(RUNNING, **{GPU_SECONDS: _fitting(job, max_seconds)})
        return False
    return True


def _fitting(job: Job, most: float) -> float:
    """Seconds that the job will take, measured. Raises GcrError for more than `most`."""
    from gcr_core.training.estimate import estimate

    recipe = Recipe(**job.config["recipe"])
    needed = estimate(Gallery.load(job.workspace.gallery(job.config["gallery"])), recipe)[recipe.preset]
    if needed > most:
        raise GcrError(too_long(needed, most))
    return needed


def too_long(needed: float, most: float) -> str:
    """What to tell of a training that a lent GPU is not enough for."""
    return (
        f"the training takes {duration(needed)} of a GPU, {duration(most, about=False)} are lent for one: choose a "
        "quicker preset or fewer pictures, or duplicate the Space to hardware of your own"
    )


def seconds(method: str, arguments: tuple[Any, ...]) -> int:
    """For how long a GPU is asked for."""
    return round(START_SECONDS + (WORK[method](*arguments) if method in WORK else OTHER_SECONDS))


def words_of(refusal: "Error") -> str:
    """What ZeroGPU says, on one line."""
    return " ".join(str(refusal.message).split()).rstrip(".")

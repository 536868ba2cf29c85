"""Loading: a memory that loads once, in a thread of its own, while the page is already up.

Whoever asks early waits in `wait`; whoever only wants to know looks at `state`. Knows nothing about the page.
"""

import threading
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Literal

from gcr_core.errors import GcrError
from gcr_core.serving.model_process import EndedError
from gcr_core.serving.remote_memory import RemoteMemory

ATTEMPTS = 3
"""How often it is tried to load a memory whose process ends over it."""


class LoadingMemory:
    """A memory that may still be loading."""

    def __init__(self, load: Callable[[], RemoteMemory]) -> None:
        """`load` returns the memory or raises; it runs once, by `start` in a thread or by the method `load` here."""
        self._load = load
        self._memory: RemoteMemory | None = None
        self._failure: Exception | None = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self.load, name="loading-memory", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def load(self) -> None:
        """Loads it in the thread of the caller, anew where its process ends over that."""
        try:
            for attempt in range(1, ATTEMPTS + 1):
                with suppress(EndedError) if attempt < ATTEMPTS else nullcontext():
                    self._memory = self._load()
                    break
        except Exception as failure:
            self._failure = failure
        finally:
            self._done.set()

    @property
    def state(self) -> Literal["waking", "ready", "failed"]:
        if not self._done.is_set():
            return "waking"
        return "failed" if self._failure else "ready"

    @property
    def state_now(self) -> Literal["waking", "ready", "failed", "hung"]:
        """The same, but for a process that hangs, or starts again, after the memory was loaded."""
        return self._memory.state if self._memory else self.state

    def wait(self) -> RemoteMemory:
        """The memory, once it is there. Raises GcrError, with the reason, when it could not be loaded."""
        self._done.wait()
        if self._memory is None:
            reason = self._failure if isinstance(self._failure, GcrError) else repr(self._failure)
            raise GcrError(f"the memory could not be loaded: {reason}") from self._failure
        return self._memory

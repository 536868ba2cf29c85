"""Loading: a memory that loads once, in a thread of its own, while the page is already up.

Whoever asks early waits in `wait`; whoever only wants to know looks at `state`. Knows nothing about the page.
"""

import threading
from collections.abc import Callable
from typing import Literal

from gcr_core.errors import GcrError
from gcr_core.serving.remote_memory import MemoryApart


class WakingMemory:
    """A memory on its way."""

    def __init__(self, load: Callable[[], MemoryApart]) -> None:
        """`load` returns the memory or raises; it runs once, on `start` or `wake`."""
        self._load = load
        self._memory: MemoryApart | None = None
        self._failure: Exception | None = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self.wake, name="waking-memory", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Loads it in the thread of the caller."""
        try:
            self._memory = self._load()
        except Exception as failure:
            self._failure = failure
        finally:
            self._done.set()

    @property
    def state(self) -> Literal["waking", "ready", "failed"]:
        if not self._done.is_set():
            return "waking"
        return "failed" if self._failure else "ready"

    def wait(self) -> MemoryApart:
        """The memory, once it is there. Raises GcrError, with the reason, when it could not be loaded."""
        self._done.wait()
        if self._memory is None:
            reason = self._failure if isinstance(self._failure, GcrError) else repr(self._failure)
            raise GcrError(f"the memory could not be loaded: {reason}") from self._failure
        return self._memory

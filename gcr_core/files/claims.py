"""Claims: shares of something that all processes on one disk have together, each held by a file that is locked.

A claim dies with its holder, whatever killed it: whoever counts next removes the file. Counting and taking exclude each
other, in all processes. Needs a file system with locks, else raises OSError.
"""

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from gcr_core.files.locks import is_locked, locked, try_lock, unlock

LOCK = "lock"
"""The file in the folder that is locked by whoever counts."""


class Claim(NamedTuple):
    """What somebody holds at this moment."""

    owner: str
    size: int


class Held:
    """A claim of one's own, until it is given back."""

    def __init__(self, path: Path, handle: int) -> None:
        self._path, self._handle = path, handle

    def give_back(self) -> None:
        """The first time; then nothing."""
        if self._handle >= 0:
            self._path.unlink(missing_ok=True)
            unlock(self._handle)
            self._handle = -1


class Claims:
    """The claims in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def counted(self) -> Iterator[list[Claim]]:
        """All claims; nobody else counts them or takes one while the block lasts."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.folder / LOCK):
            yield list(self._held())

    def take(self, owner: str, size: int = 0) -> Held:
        """A claim more, to be called while they are `counted`. `owner`: a name without dots."""
        path = self.folder / f"{owner}.{size}.{secrets.token_hex(8)}"
        handle = try_lock(path)
        assert handle is not None  # nobody else knows the name
        return Held(path, handle)

    @contextmanager
    def claimed(self, owner: str, check: Callable[[list[Claim]], None], size: int = 0) -> Iterator[None]:
        """A claim more while the block lasts, unless `check`, which gets those that are there, raises."""
        with self.counted() as held:
            check(held)
            mine = self.take(owner, size)
        try:
            yield
        finally:
            mine.give_back()

    def _held(self) -> Iterator[Claim]:
        for path in self.folder.iterdir():
            if path.name == LOCK:
                continue
            if is_locked(path):
                owner, size, _ = path.name.split(".")
                yield Claim(owner, int(size))
            else:
                path.unlink(missing_ok=True)

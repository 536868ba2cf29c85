"""Upload budget: how many bytes visitors may have uploaded, each and all together, counted before they are written."""

import os
import shutil
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from starlette.concurrency import run_in_threadpool

from gcr_core.errors import GcrError
from gcr_core.settings import Settings
from gcr_core.ui import uploads

LEFT_FREE_BYTES = 2**28
"""Bytes of the disk that uploads leave free."""
COUNTED_EVERY_SECONDS = 30.0
"""How often uploads are counted on the disk; between, those that come are added."""
UPLOADS_KEPT_SECONDS = 3600
"""How long an uploaded file is kept."""
MIB = 2**20


class Uploads:
    """How many bytes are uploaded, by visitor and in all, on the disk and on their way to it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._bytes: Counter[str] = Counter()
        self._coming: Counter[str] = Counter()
        self._count_again = 0.0

    @asynccontextmanager
    async def coming(self, owner: str, declared: int) -> AsyncIterator["Room"]:
        """Room for one upload, of `declared` bytes as far as is known. Raises GcrError where there is none."""
        if time.monotonic() > self._count_again:
            self._count_again = time.monotonic() + COUNTED_EVERY_SECONDS
            self._bytes = await run_in_threadpool(counted)
        room = Room(self, owner)
        self.check(owner, declared)
        self._coming[owner] += 1
        try:
            yield room
        finally:
            self._coming[owner] -= 1
            if not self._coming[owner]:
                del self._coming[owner]
                remove_unfinished(uploads.folder())

    def check(self, owner: str, size: int) -> None:
        """Raises GcrError where so many bytes more are too many."""
        folder = uploads.root()
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        if free - size < LEFT_FREE_BYTES:
            raise GcrError(
                f"the disk for uploads has {free / MIB:,.0f} MiB free, {LEFT_FREE_BYTES / MIB:,.0f} stay free: send "
                "less, or try again in an hour"
            )
        if not self._settings.visitors:
            return
        for kept, limit, whose in (
            (self._bytes[owner], self._settings.max_uploaded_bytes, "you"),
            (self._bytes.total(), self._settings.max_uploaded_bytes_in_all, "all visitors"),
        ):
            if kept + size > limit:
                raise GcrError(
                    f"with this {whose} would have uploaded {(kept + size) / MIB:,.1f} MiB in an hour, the limit is "
                    f"{limit / MIB:,.1f}: send less, or try again in an hour"
                )

    def add(self, owner: str, size: int) -> None:
        self._bytes[owner] = max(0, self._bytes[owner] + size)


class Room:
    """Room for what one upload brings."""

    def __init__(self, all_uploads: Uploads, owner: str) -> None:
        self._uploads, self._owner, self._taken = all_uploads, owner, 0

    def take(self, size: int) -> None:
        """Raises GcrError where so many bytes more are too many."""
        self._uploads.check(self._owner, size)
        self._uploads.add(self._owner, size)
        self._taken += size

    def give_back(self) -> None:
        """Of an upload that was cut off nothing is kept."""
        self._uploads.add(self._owner, -self._taken)
        self._taken = 0


def counted() -> Counter[str]:
    """Removes uploads that are older than an hour; the bytes of each visitor's, also of those to other servers beside
    this one and to such as are gone."""
    left: Counter[str] = Counter()
    for folder in uploads.root().parent.glob(f"{uploads.PLACE}*"):
        left += tidied(folder)
    return left


def tidied(folder: Path) -> Counter[str]:
    """Removes files that are older than an hour, with the folders that were theirs; the bytes left, by folder."""
    left: Counter[str] = Counter()
    until = time.time() - UPLOADS_KEPT_SECONDS
    for place, _, names in os.walk(folder, topdown=False):
        parts = Path(place).relative_to(folder).parts
        for name in names:
            file = Path(place, name)
            with suppress(OSError):
                facts = file.lstat()
                if facts.st_ctime < until:
                    file.unlink()
                else:
                    left[parts[0] if parts else ""] += facts.st_size
        with suppress(OSError):
            if not names and Path(place).stat().st_mtime < until:
                Path(place).rmdir()
    return left


def remove_unfinished(folder: Path) -> None:
    """Removes what uploads that were cut off have left in their folder, beside those of whole uploads."""
    with suppress(OSError):
        for entry in folder.iterdir():
            if entry.is_file() and not entry.is_symlink():
                entry.unlink()

"""Budget: what owners may keep on the disk and import at a time, each and all strangers together.

Bytes are reserved before they are written and counted on the disk while and after they are, so that imports that run
at once cannot pass a limit that each of them keeps. Counts the imports of this process.
"""

import contextlib
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from gcr_core.errors import GcrError
from gcr_core.settings import Settings

GIB = 2**30
"""Bytes of a gibibyte, in which limits are told."""
LEFT_FREE_BYTES = 2**28
"""Bytes of the disk that are left free, so that jobs that run can be saved."""
COUNTED_EVERY_SECONDS = 30.0
"""How often what other owners keep is counted."""
CHECKED_EVERY_SECONDS = 1.0
"""How often an import looks how much it has written."""

_lock = threading.RLock()
_reserved: Counter[Path] = Counter()
_imports: Counter[Path] = Counter()
_counted: dict[Path, tuple[float, int]] = {}


@contextlib.contextmanager
def reserved(root: Path, settings: Settings, size: int) -> Iterator[Callable[[], None]]:
    """Room for `size` bytes in the workspace at `root` while the block lasts; what checks that no more is written.

    Both raise GcrError: for an upload over the limits, for what is kept with it, and for a disk that is nearly full.
    """
    with _lock:
        check(root, settings, size)
        _reserved[root] += size
    try:
        yield lambda: check(root, settings, -size)
    finally:
        with _lock:
            _reserved[root] -= size
            if not _reserved[root]:
                del _reserved[root]
            _counted.pop(root, None)


def check(root: Path, settings: Settings, size: int) -> None:
    """Raises GcrError where `size` bytes more are too many at once, for their owner, for all strangers or the disk; a
    negative size takes off what was reserved for what is on the disk now."""
    limit = settings.max_upload_bytes
    if size > limit:
        raise GcrError(f"the upload is {size / GIB:.2f} GiB, the limit is {limit / GIB:.2f}: choose fewer files")
    with _lock:
        kept, limit = bytes_below(root) + _reserved[root] + size, settings.max_kept_bytes
        if kept > limit:
            raise GcrError(
                f"with the upload you would keep {kept / GIB:.2f} GiB, the limit is {limit / GIB:.2f}: delete memories "
                "or jobs that you no longer need"
            )
        limit = settings.max_kept_bytes_in_all
        if root.parent.name == "owners" and (all_kept := kept + _kept_by_others(root)) > limit:
            raise GcrError(
                f"with the upload all visitors would keep {all_kept / GIB:.2f} GiB, the limit is {limit / GIB:.2f}: "
                "try again another day, or run the page on your own machine"
            )
        free = shutil.disk_usage(_nearest(root)).free - sum(_reserved.values()) - size
        if free < LEFT_FREE_BYTES:
            raise GcrError(
                f"the disk would have {max(free, 0) / GIB:.2f} GiB free, {LEFT_FREE_BYTES / GIB:.2f} stay free: delete "
                "memories or other files"
            )


def often(check: Callable[[], None], then: Callable[[int, int], None]) -> Callable[[int, int], None]:
    """A function for progress that checks every now and then, and calls `then`."""
    checked = time.monotonic()

    def on_progress(done: int, total: int) -> None:
        nonlocal checked
        if time.monotonic() - checked > CHECKED_EVERY_SECONDS:
            check()
            checked = time.monotonic()
        then(done, total)

    return on_progress


@contextlib.contextmanager
def importing(root: Path, settings: Settings) -> Iterator[None]:
    """One import into the workspace at `root`, while the block lasts. Raises GcrError where too many are under way."""
    with _lock:
        for count, limit, whose in (
            (_imports[root], settings.max_imports, "of yours"),
            (_imports.total(), settings.max_imports_in_all, "of all visitors"),
        ):
            if count >= limit:
                raise GcrError(f"{count} imports {whose} are under way, the limit is {limit}: wait until one is done")
        _imports[root] += 1
    try:
        yield
    finally:
        with _lock:
            _imports[root] -= 1
            if not _imports[root]:
                del _imports[root]


def bytes_below(path: Path) -> int:
    """The bytes of a file, or of all files in a folder."""
    if path.is_file():
        return path.stat().st_size
    size = 0
    for below, _, files in os.walk(path):
        for name in files:
            with contextlib.suppress(FileNotFoundError):  # A worker replaces its files all the while.
                size += Path(below, name).lstat().st_size
    return size


def _kept_by_others(root: Path) -> int:
    """What the other strangers keep and have reserved, in bytes."""
    now, total = time.monotonic(), 0
    others = [other for other in root.parent.iterdir() if other != root] if root.parent.is_dir() else []
    for other in others:
        counted, size = _counted.get(other, (-COUNTED_EVERY_SECONDS, 0))
        if now - counted > COUNTED_EVERY_SECONDS or _imports[other]:
            size = bytes_below(other)
            _counted[other] = now, size
        total += size
    for gone in _counted.keys() - set(others):
        if gone.parent == root.parent:
            del _counted[gone]
    return total + sum(size for other, size in _reserved.items() if other != root and other.parent == root.parent)


def _nearest(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(place for place in (folder, *folder.absolute().parents) if place.exists())

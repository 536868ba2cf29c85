"""Budget: what owners may keep on the disk, download, import and push at a time, each and all strangers together.

Bytes are reserved before they are written and counted on the disk while and after they are, so that imports that run
at once cannot pass a limit that each of them keeps. All is counted over the home, however many servers it has.
"""

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from gcr_core.errors import GcrError
from gcr_core.files.claims import Claim, Claims
from gcr_core.settings import Settings

GIB = 2**30
"""Bytes of a gibibyte, in which limits are told."""
LEFT_FREE_BYTES = 2**28
"""Bytes of the disk that are left free, so that jobs that run can be saved."""
COUNTED_EVERY_SECONDS = 30.0
"""How often what other owners keep is counted."""
CHECKED_EVERY_SECONDS = 1.0
"""How often an import looks how much it has written."""

_counted: dict[Path, tuple[float, int, int]] = {}
"""Another owner's folder → when it was counted, its time of change then, and its bytes."""


@contextlib.contextmanager
def reserved(root: Path, settings: Settings, size: int) -> Iterator[Callable[[], None]]:
    """Room for `size` bytes in the workspace at `root` while the block lasts; what checks that no more is written.

    Both raise GcrError: for an upload over the limits, for what is kept with it, and for a disk that is nearly full.
    """
    with claims_of(root, "bytes").claimed(root.name, lambda held: _check(root, settings, size, held), size):
        try:
            yield lambda: check(root, settings, -size)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.utime(root)  # for whoever has counted it


def check(root: Path, settings: Settings, size: int) -> None:
    """Raises GcrError where `size` bytes more are too many at once, for their owner, for all strangers or the disk; a
    negative size takes off what was reserved for what is on the disk now."""
    with claims_of(root, "bytes").counted() as held:
        _check(root, settings, size, held)


def _check(root: Path, settings: Settings, size: int, held: list[Claim]) -> None:
    limit = settings.max_upload_bytes
    if size > limit:
        raise GcrError(f"the upload is {size / GIB:.2f} GiB, the limit is {limit / GIB:.2f}: choose fewer files")
    own = sum(claim.size for claim in held if claim.owner == root.name)
    kept, limit = bytes_below(root) + own + size, settings.max_kept_bytes
    if kept > limit:
        raise GcrError(
            f"with the upload you would keep {kept / GIB:.2f} GiB, the limit is {limit / GIB:.2f}: delete memories or "
            "jobs that you no longer need"
        )
    limit = settings.max_kept_bytes_in_all
    if root.parent.name == "owners" and (all_kept := kept + _kept_by_others(root, held)) > limit:
        raise GcrError(
            f"with the upload all visitors would keep {all_kept / GIB:.2f} GiB, the limit is {limit / GIB:.2f}: try "
            "again another day, or run the page on your own machine"
        )
    _check_free(root, size, held)


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


def downloading(root: Path, settings: Settings, size: int) -> contextlib.AbstractContextManager[None]:
    """Room for a zip of `size` bytes, made for the owner of the workspace at `root`, while the block lasts, in which it
    is sent and removed. Raises GcrError where too many bytes wait to be sent, or the disk is nearly full."""

    def check(held: list[Claim]) -> None:
        own = sum(claim.size for claim in held if claim.owner == root.name)
        for waiting, limit, whose in (
            (own, settings.max_downloaded_bytes, "you"),
            (sum(claim.size for claim in held), settings.max_downloaded_bytes_in_all, "all visitors"),
        ):
            if settings.visitors and waiting + size > limit:
                raise GcrError(
                    f"with this {whose} would download {(waiting + size) / GIB:.2f} GiB at a time, the limit is "
                    f"{limit / GIB:.2f}: wait until other downloads are done"
                )
        _check_free(root, size, held)

    return claims_of(root, "downloads").claimed(root.name, check, size)


def fetching(root: Path, settings: Settings, size: int, cache: Path) -> contextlib.AbstractContextManager[None]:
    """Room in the hub's `cache` of a model for `size` bytes of a revision that a stranger's memory names, while the
    block lasts, which fetches it. Raises GcrError where that is too much of the model, or for the disk."""

    def check(held: list[Claim]) -> None:
        fetched = bytes_below(cache) + sum(claim.size for claim in held) + size
        if fetched > settings.max_fetched_bytes:
            raise GcrError(
                f"with the model that this memory names {fetched / GIB:.2f} GiB of its revisions would be kept, the "
                f"limit is {settings.max_fetched_bytes / GIB:.2f}: open it on your own machine"
            )
        _check_free(cache, size, held)

    return claims_of(root, f"fetches/{cache.name}").claimed(root.name, check, size)


def _check_free(folder: Path, size: int, held: list[Claim]) -> None:
    """Raises GcrError where so many bytes more leave too little of a disk free, once what is `held` is there too."""
    free = shutil.disk_usage(_nearest(folder)).free - sum(claim.size for claim in held) - size
    if free < LEFT_FREE_BYTES:
        raise GcrError(
            f"the disk would have {max(free, 0) / GIB:.2f} GiB free, {LEFT_FREE_BYTES / GIB:.2f} stay free: delete "
            "memories or other files"
        )


def importing(root: Path, settings: Settings) -> contextlib.AbstractContextManager[None]:
    """One import into the workspace at `root`, while the block lasts. Raises GcrError where too many are under way."""
    return _one_of(root, "imports", settings.max_imports, settings.max_imports_in_all)


def pushing(root: Path, settings: Settings) -> contextlib.AbstractContextManager[None]:
    """One push to the hub from the workspace at `root`, in the same way."""
    return _one_of(root, "pushes", settings.max_pushes, settings.max_pushes_in_all)


def _one_of(root: Path, kind: str, most: int, most_in_all: int) -> contextlib.AbstractContextManager[None]:
    def check(held: list[Claim]) -> None:
        own = sum(claim.owner == root.name for claim in held)
        for count, limit, whose in ((own, most, "of yours"), (len(held), most_in_all, "of all visitors")):
            if count >= limit:
                raise GcrError(f"{count} {kind} {whose} are under way, the limit is {limit}: wait until one is done")

    return claims_of(root, kind).claimed(root.name, check)


def claims_of(root: Path, kind: str) -> Claims:
    """The claims of one kind in the home of the workspace at `root`."""
    home = root.parents[1] if root.parent.name == "owners" else root.parent
    return Claims(home / "under-way" / kind)


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


def _kept_by_others(root: Path, held: list[Claim]) -> int:
    """What the other strangers keep and have reserved, in bytes."""
    now, total = time.monotonic(), 0
    writing = {claim.owner for claim in held}
    others = [other for other in root.parent.iterdir() if other != root] if root.parent.is_dir() else []
    for other in others:
        counted, changed, size = _counted.get(other, (-COUNTED_EVERY_SECONDS, 0, 0))
        changes = _changed(other)
        if now - counted > COUNTED_EVERY_SECONDS or changes != changed or other.name in writing:
            size = bytes_below(other)
            _counted[other] = now, changes, size
        total += size
    for gone in _counted.keys() - set(others):
        if gone.parent == root.parent:
            del _counted[gone]
    return total + sum(claim.size for claim in held if claim.owner not in (root.name, "mine"))


def _changed(folder: Path) -> int:
    with contextlib.suppress(FileNotFoundError):
        return folder.stat().st_mtime_ns
    return 0


def _nearest(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(place for place in (folder, *folder.absolute().parents) if place.exists())

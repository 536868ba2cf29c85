"""Atomic writing: folders and files appear whole or not at all, written beside their place, then put there in one step.

What is put there is on the disk before it is, so that a loss of power leaves the old one or the new one too. What a
killed writer leaves beside the place is hidden, and swept once its writer is known to be dead.
"""

import ctypes
import os
import re
import secrets
import shutil
import sys
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

from gcr_core.errors import InputError, NotFoundError
from gcr_core.files.locks import is_locked, locked, try_lock

AT_FDCWD = -100
RENAME_EXCHANGE = 2
"""Linux's numbers: a path is relative to the working directory; two paths trade places."""
FLUSHES_AT_ONCE = 32
"""How many files are flushed to the disk at a time."""
LEFTOVER = re.compile(r"\.(?P<name>.+)\.(?P<end>[0-9a-f]{8}|old)")
"""The names of what is being written, and of what is moved aside for it."""
JUST_BEGUN_SECONDS = 60
"""A writer this young may not have locked its folder yet."""
FORGOTTEN_SECONDS = 24 * 3600
"""Where nothing can be locked, a writer this old is taken for dead."""


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """An empty sibling of `target` to write into; it takes `target`'s place when the block ends well.

    What stood at `target` stays readable until that moment and is removed after it. On Linux the two trade
    places in one system call; elsewhere the old one is moved aside first.
    """
    target = target.absolute()
    target.parent.mkdir(parents=True, exist_ok=True)
    with scratch(target) as building:
        yield building
        _flush(building)
        if not target.exists():
            building.rename(target)
        elif not _exchange(building, target):
            aside = building.with_suffix(".old")
            target.rename(aside)
            building.rename(target)
            aside.rename(building)
        _flush_path(target.parent)


@contextmanager
def scratch(beside: Path) -> Iterator[Path]:
    """An empty folder to work in, hidden beside a path, removed when the block ends; `sweep` removes it otherwise."""
    folder = _sibling(beside)
    folder.mkdir()
    lock = _try_lock(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


class Temporary(TemporaryDirectory[str]):
    """A folder in the system's temporary one, removed with this object; `sweep_temporary` removes those of the dead."""

    def __init__(self, prefix: str) -> None:
        super().__init__(prefix=prefix)
        if (lock := _try_lock(Path(self.name))) is not None:
            weakref.finalize(self, os.close, lock)


def sweep_temporary(prefix: str) -> None:
    """Removes what is left of `Temporary` folders with this prefix whose processes were killed."""
    for folder in Path(gettempdir()).glob(f"{prefix}*"):
        if folder.is_dir() and not folder.is_symlink() and _is_abandoned(folder):
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def changing(folder: Path, wait: bool = True) -> Iterator[None]:
    """Lets nobody else who asks so change a folder until the block, which may put a new one in its place, has ended.

    Waits for whoever does, or raises InputError. Where nothing can be locked, nobody waits. Raises NotFoundError for a
    folder that is gone.
    """
    if not folder.is_dir():
        raise NotFoundError(f"{folder.name!r} is gone, nothing in it can be changed: reload the page")
    with ExitStack() as held:
        with suppress(OSError):
            if not wait and is_locked(folder):
                raise InputError("this memory is being worked on: wait until that is done")
            held.enter_context(locked(folder))
        yield


@contextmanager
def new_file(target: Path) -> Iterator[Path]:
    """A path beside `target` to write a file at; the file takes `target`'s place when the block ends well.

    A reader, or a kill or a loss of power at any moment, finds the old file or the new one. While the block lasts the
    file is locked, as far as it is written in place: however long that takes, or the clock jumps, nobody sweeps it.
    """
    building = _sibling(target)
    building.touch()
    lock = _try_lock(building)
    try:
        yield building
        _flush_path(building)
        building.replace(target)
        _flush_path(target.parent)
    finally:
        building.unlink(missing_ok=True)
        if lock is not None:
            os.close(lock)


def write_text(path: Path, text: str) -> None:
    """Writes a file of UTF-8 text as `new_file` does."""
    with new_file(path) as building:
        building.write_text(text, encoding="utf-8", newline="\n")


def remove(folder: Path) -> None:
    """Removes a folder: at once for those who look for it, then from the disk."""
    shutil.rmtree(put_aside(folder), ignore_errors=True)


def put_aside(folder: Path) -> Path:
    """Hides a folder in one step, to be removed from where it is then; `sweep` removes it otherwise."""
    aside = _sibling(folder)
    folder.rename(aside)
    return aside


def sweep(parent: Path, alone: bool = False) -> None:
    """Removes what killed writers left in a folder; puts back what a kill between two renames had moved aside.

    `alone`: only the caller writes there, so that what has just begun is a leftover too.
    """
    for path in list(parent.iterdir()) if parent.is_dir() else []:
        leftover = LEFTOVER.fullmatch(path.name)
        if leftover is None or not (alone or _is_abandoned(path)):
            continue
        if leftover["end"] == "old" and not (parent / leftover["name"]).exists():
            path.rename(parent / leftover["name"])
        elif path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _is_abandoned(path: Path) -> bool:
    try:
        age = time.time() - path.stat().st_mtime
        lock = try_lock(path)
    except OSError:
        return path.exists() and age > FORGOTTEN_SECONDS
    if lock is None:
        return False
    os.close(lock)
    return age > JUST_BEGUN_SECONDS


def _try_lock(path: Path) -> int | None:
    """The lock that says "my writer lives", where the file system has locks."""
    try:
        return try_lock(path)
    except OSError:
        return None


def _sibling(path: Path) -> Path:
    return path.parent / f".{path.name}.{secrets.token_hex(4)}"


def _exchange(one: Path, other: Path) -> bool:
    """Lets two folders trade places in one step; False where the system or the file system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        rename = ctypes.CDLL(None).renameat2
    except AttributeError:
        return False
    return rename(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0


def _flush(folder: Path) -> None:
    """Has everything below a folder written to the disk before anyone is shown it."""
    paths = [Path(below, name) for below, _, files in os.walk(folder) for name in (*files, ".")]
    with ThreadPoolExecutor(FLUSHES_AT_ONCE) as pool:
        list(pool.map(_flush_path, paths))


def _flush_path(path: Path) -> None:
    if os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

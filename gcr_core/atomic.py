"""Folders that appear whole or not at all: written beside their place, then put there in one step."""

import ctypes
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

AT_FDCWD = -100
RENAME_EXCHANGE = 2
FLUSHES_AT_ONCE = 32


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """An empty sibling of `target` to write into; it takes `target`'s place when the block ends well.

    What stood at `target` stays readable until that moment and is removed after it. On Linux the two trade
    places in one system call; elsewhere the old one is moved aside first.
    """
    target = target.absolute()
    target.parent.mkdir(parents=True, exist_ok=True)
    building = target.parent / f".{target.name}.{secrets.token_hex(4)}"
    building.mkdir()
    try:
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
    finally:
        shutil.rmtree(building, ignore_errors=True)


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

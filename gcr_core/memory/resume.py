"""Resumption: what a command has made so far of a memory, so that the same command goes on with it once interrupted."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from gcr_core.data.gallery import Gallery
from gcr_core.errors import GcrError
from gcr_core.files.atomic import write_text
from gcr_core.files.locks import try_lock
from gcr_core.models.distributed import is_first, kinds, state
from gcr_core.training.config import Recipe

MADE_OF, LOCK = "made-of", "lock"
"""The files that say which gallery and recipe the folder is of, and whose it is while a command works in it."""


@contextmanager
def unfinished(out: Path, gallery: Gallery, recipe: Recipe) -> Iterator[Path]:
    """The checkpoint folder of a memory that is made at `out`: hidden beside it, removed when the block ends well.

    It begins empty, unless a command for the same gallery and recipe was interrupted. Of several processes the first
    one owns it. Raises GcrError where another command is making a memory at `out`, or the processes see different
    galleries.
    """
    sizes = [gallery.path(image).stat().st_size for image in range(len(gallery))]
    made_of = [asdict(recipe), gallery.file_names, sizes, gallery.captions, gallery.albums]
    digest = hashlib.sha256(json.dumps(made_of).encode()).hexdigest()
    galleries = len(kinds(digest))
    if galleries > 1:
        raise GcrError(f"the processes see {galleries} different galleries: give all machines the same one")
    folder = out.absolute().parent / f".{out.name}.unfinished"
    if not is_first():
        state().wait_for_everyone()
        yield folder
        return
    folder.mkdir(parents=True, exist_ok=True)
    lock = _locked(folder / LOCK, out)
    stamp = folder / MADE_OF
    if not stamp.exists() or stamp.read_text() != digest:
        for path in _made(folder):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        write_text(stamp, digest)
    state().wait_for_everyone()
    try:
        yield folder
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        if folder.exists() and not _made(folder):
            shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _made(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name not in (MADE_OF, LOCK)]


def _locked(path: Path, out: Path) -> int | None:
    """The lock, where the file system has locks."""
    try:
        lock = try_lock(path)
    except OSError:
        return None
    if lock is None:
        raise GcrError(f"another command is making a memory at {str(out)!r}: wait for it, or name another folder")
    return lock

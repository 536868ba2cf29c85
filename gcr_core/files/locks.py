"""Locks: between the processes of one machine; they die with their holder.

A lock is held by whoever has the open file, and released by the system when the last of them dies. So a lock that can
be taken says that its holder is gone, whatever killed it; and a child that inherits the file keeps it when its parent
dies. Locks need Linux or macOS; elsewhere they raise OSError.
"""

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

WAIT_SECONDS = 0.01
"""How long `locked` waits between two attempts."""


def try_lock(path: Path) -> int | None:
    """The descriptor that holds the lock of a folder or a (perhaps new) file; None while another holds it."""
    if sys.platform == "win32":
        raise OSError(f"{path} cannot be locked: Windows has no such locks")
    import fcntl

    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    except OSError:
        os.close(handle)
        raise
    return handle


def lock_shared(path: Path) -> tuple[int, bool]:
    """A descriptor that shares the lock of a (perhaps new) file with all others who hold it so, as long as it is open;
    and whether nobody else held it at this moment."""
    import fcntl

    handle = os.open(path, os.O_RDONLY | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        alone = True
    except BlockingIOError:
        alone = False
    fcntl.flock(handle, fcntl.LOCK_SH)
    return handle, alone


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds the lock of a folder or a (perhaps new) file for the block, once nobody else does."""
    while (handle := try_lock(path)) is None or not _is_at(handle, path):
        if handle is not None:
            unlock(handle)
        time.sleep(WAIT_SECONDS)
    try:
        yield
    finally:
        unlock(handle)


def _is_at(handle: int, path: Path) -> bool:
    """Whether what was locked still stands there, and nothing else in its place."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(handle), path.stat())
    return False


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock of a folder or file at this moment; False where there is none."""
    if not path.exists():
        return False
    handle = try_lock(path)
    if handle is not None:
        unlock(handle)
    return handle is None


def is_suspended(pid: int | None) -> bool:
    """Whether the system says that a process is stopped, as by SIGSTOP; False where it does not say."""
    with contextlib.suppress(OSError):
        return pid is not None and Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] in (b"T", b"t")
    return False


def unlock(handle: int) -> None:
    """Gives up a lock for all who have inherited it, as processes have that were forked meanwhile."""
    import fcntl

    fcntl.flock(handle, fcntl.LOCK_UN)
    os.close(handle)

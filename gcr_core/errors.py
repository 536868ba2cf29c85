"""Errors that a user can act on. A message is one line: the value, the limit, the remedy."""

import errno
import os
import re

DISK_SIGNS = re.compile(
    r"No space left|quota exceeded|File too large|file write failed|\d+ requested and \d+ written", re.IGNORECASE
)
MEMORY_SIGNS = re.compile(r"out of ?memory|(can't|cannot|unable to) allocate|MemoryError|bad_alloc", re.IGNORECASE)
"""What libraries say, each in its own way, of a disk or a memory that is full."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
SYSTEM_ERROR = re.compile(r"\(os error (\d+)\)")
"""How libraries in Rust give the system's number of an error."""


class GcrError(Exception):
    """A mistake of the user's; commands print it as one line and exit with status 2."""


class InputError(GcrError):
    """A query, `top`, `beams` or an image file that cannot be used."""


class GalleryError(GcrError):
    """A gallery, its metadata, a zip or a query file that cannot be used."""


class MemoryFormatError(GcrError):
    """A folder that is no memory, or one of another format version."""


class HubError(GcrError):
    """A model that is neither here nor on the hub, or a hub that cannot be reached."""


class NotFoundError(GcrError):
    """A gallery, job or memory that is not there, or not the asker's; the two are not told apart."""


def one_line(error: BaseException) -> str | None:
    """What to tell a user of an exception, on one line: of a mistake, a file that cannot be used, a disk or a memory
    that is full. None for what the program is to blame for."""
    if isinstance(error, GcrError):
        return " ".join(str(error).split())
    number = _system_error(error)
    said = f"{type(error).__name__}: {error}"
    path = (error.filename2 or error.filename) if isinstance(error, OSError) else None
    where = f"{str(path)!r} cannot" if path else "a file cannot"
    if number in FULL or DISK_SIGNS.search(said):
        why = os.strerror(number or errno.ENOSPC)
        return f"{where} be written ({why}): make room on its disk, or name a folder on another"
    if MEMORY_SIGNS.search(said):
        return f"there is not enough memory for this ({first_line(error)[:200]}): close other programs, or ask for less"
    if number is not None:
        return f"{where} be used ({os.strerror(number)}): name a folder where you may write, on a disk with room"
    if isinstance(error, OSError):
        return f"{where} be used ({first_line(error)}): check the path, and that you may read and write there"
    return None


def _system_error(error: BaseException) -> int | None:
    """The system's number of an error (errno), from whatever library it comes."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = SYSTEM_ERROR.search(str(error))
    return int(found[1]) if found else None


def first_line(error: BaseException) -> str:
    """What an exception of a library says, on one line; its type where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]

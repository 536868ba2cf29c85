"""Names of files that strangers gave: which to refuse, which to pass over, what to call them here. Touches no file."""

import re
import unicodedata
from pathlib import PurePosixPath

from gcr_core.errors import InputError

MAX_NAME_BYTES = 200
"""The most bytes of a file's name here."""
MAX_SUFFIX_BYTES = 10
"""A longer suffix is taken for a part of the name."""
UNSAFE_CATEGORIES = ("Cc", "Cs", "Zl", "Zp")
"""Unicode's categories of control characters, surrogates, line and paragraph separators."""
SYSTEM_NAMES = frozenset(
    (
        *("__macosx", "icon\r", "@eadir", "#recycle", "@recycle", "#snapshot", "@recently-snapshot", "lost+found"),
        *("thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "picasa.ini", "zbthumbnail.info"),
        *("$recycle.bin", "recycler", "system volume information"),
    )
)
"""What macOS, Windows, NAS and picture managers keep beside a person's files, in lower case."""
BIDI_CONTROLS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def stays_inside(name: str) -> bool:
    """Whether a relative name, read on any system, stays below the folder it is relative to."""
    parts = re.split(r"[/\\]", name)
    on_a_drive = len(parts) > 1 and parts[0].endswith(":")
    return parts[0] != "" and ".." not in parts and "\0" not in name and not on_a_drive


def check_name(name: str) -> None:
    """Raises InputError for a name that no gallery can hold."""
    if not stays_inside(name):
        raise InputError("its name leaves the folder: name files below it")
    if any(unicodedata.category(c) == "Cs" for c in name):
        raise InputError("its name is not UTF-8: rename the file")


def is_hidden(name: str) -> bool:
    """Whether systems keep such files for themselves (`.DS_Store`, `__MACOSX/`, `@eaDir/`, `Thumbs.db`)."""
    parts = (part for part in re.split(r"[/\\]", name) if part not in (".", ".."))
    return any(part.startswith(".") or part.casefold() in SYSTEM_NAMES for part in parts)


def printable(name: str) -> str:
    """The name as text that can be shown and stored: what is not UTF-8 in it becomes `?`."""
    return name.encode(errors="replace").decode()


def base_name(name: str) -> str:
    """What stands after the last slash of either kind."""
    return re.split(r"[/\\]", name)[-1]


def folder_name(name: str) -> str:
    """What stands before the last slash of either kind, in slashes of one kind; "" where there is none."""
    return "/".join(part for part in re.split(r"[/\\]", name)[:-1] if part not in ("", "."))


def safe_name(name: str) -> str:
    """The base name, composed, with what no file system should see replaced by `_`, not hidden and not too long."""
    composed = unicodedata.normalize("NFC", base_name(name))
    safe = "".join("_" if unicodedata.category(c) in UNSAFE_CATEGORIES or c in BIDI_CONTROLS else c for c in composed)
    suffix = PurePosixPath(safe).suffix
    if len(suffix.encode()) > MAX_SUFFIX_BYTES:
        suffix = ""
    stem = safe.removesuffix(suffix).strip(" .").encode()[: MAX_NAME_BYTES - len(suffix.encode())]
    return (stem.decode(errors="ignore").rstrip() or "image") + suffix


def unique(name: str, taken: set[str]) -> str:
    """`name`, or `name` with a number, such that no taken name is the same in any case; then taken."""
    stem, suffix = PurePosixPath(name).stem, PurePosixPath(name).suffix
    number, free = 1, name
    while free.casefold() in taken:
        number += 1
        free = f"{stem}-{number}{suffix}"
    taken.add(free.casefold())
    return free

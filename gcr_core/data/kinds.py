"""Kinds: what the files beside pictures are, by their names: films, raw pictures, archives and files of other uses.

Of a live photo the picture is taken, of a raw picture beside a JPEG the JPEG. Opens no file.
"""

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from gcr_core.data.formats import SUFFIXES
from gcr_core.files.names import printable

RAW_SUFFIXES = (
    *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".gpr", ".iiq", ".kdc", ".mef", ".mos", ".mrw"),
    *(".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f"),
)
FILM_SUFFIXES = (
    *(".mov", ".mp4", ".m4v", ".mp", ".3gp", ".avi", ".mkv", ".webm", ".mts", ".m2ts", ".wmv", ".mpg", ".mpeg"),
    *(".insv", ".lrv"),
)
ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")
"""The suffixes of archives that are opened; what they are is told by their content."""
OTHER_USES = (
    *(".md", ".rst", ".html", ".htm", ".css", ".js", ".py", ".ipynb", ".sh", ".bat", ".ini", ".cfg", ".toml", ".log"),
    *(".json", ".txt", ".xml", ".yaml", ".yml", ".lock", ".url", ".lnk", ".webloc", ".nfo", ".pid"),
    *(".aae", ".thm", ".xmp", ".pp3", ".dop", ".arp", ".cos"),
)
"""The suffixes of files that stand beside pictures for uses of their own: one that is no picture is passed over."""
DATA = (
    ".faiss",
    ".safetensors",
    ".bin",
    ".model",
    ".pt",
    ".pth",
    ".ckpt",
    ".onnx",
    ".gguf",
    ".npy",
    ".npz",
    ".h5",
    ".db",
)
"""Those of what programs keep, large at times: it is passed over unread."""

LIVE = "left out as the film of a live photo, whose picture is taken"
DEVELOPED = "left out as the raw picture of one that is taken, beside it"
FILM = "is a film: save what it shows as a picture"
RAW = "is a camera's raw picture with no JPEG beside it: export it as JPEG"


def is_archive(name: str) -> bool:
    return name.lower().endswith(ARCHIVE_SUFFIXES)


def left_out(names: Iterable[str]) -> tuple[dict[str, str], dict[str, str]]:
    """By name: why films and raw pictures are not opened; those beside the picture that is taken, and the others."""
    names = list(names)
    pictures = {_shot(name) for name in names if name.lower().endswith(SUFFIXES)}
    beside, alone = {}, {}
    for suffixes, reason, otherwise in ((FILM_SUFFIXES, LIVE, FILM), (RAW_SUFFIXES, DEVELOPED, RAW)):
        for name in names:
            if name.lower().endswith(suffixes):
                if _shot(name) in pictures:
                    beside[name] = reason
                else:
                    alone[name] = otherwise
    return beside, alone


def _shot(name: str) -> str:
    """What the files of one shot have in common: folder and stem, without what phones add for each of them."""
    path = PurePosixPath(name)
    stem = path.stem
    if stem.lower().endswith(SUFFIXES + RAW_SUFFIXES):
        stem = PurePosixPath(stem).stem
    stem = re.sub(r"(?i)(\.RAW-\d+)?(\.MP)?(\.(COVER|ORIGINAL))?$", "", stem)
    return f"{path.parent}/{stem}".casefold()


def grouped(reasons: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """(the first name and how many more, reason) for each reason."""
    names: dict[str, list[str]] = {}
    for name, reason in reasons:
        names.setdefault(reason, []).append(name)
    more = {reason: f" and {len(some) - 1:,} more" if len(some) > 1 else "" for reason, some in names.items()}
    return [(printable(some[0]) + more[reason], reason) for reason, some in names.items()]

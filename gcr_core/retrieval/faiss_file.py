"""FAISS file: what FAISS may be given to read, as other kinds of index can name files of this machine to be opened.

Imports no faiss.
"""

import struct
from pathlib import Path

from gcr_core.errors import MemoryFormatError

FLAT = struct.Struct("<4siqqqBiQ")
"""The header of a file of plain vectors: kind, width, count, two unused, trained, metric, numbers that follow."""
FLAT_KIND, INVERTED_KIND = b"IxFI", b"IwFl"
"""The kinds that are read: plain vectors, and an inverted file of them, as large galleries have."""


def check_index(path: Path, flat_only: bool = False) -> None:
    """Raises MemoryFormatError for anything but an inverted file, or plain vectors of exactly the size that the file
    says."""
    try:
        with path.open("rb") as file:
            kind, width, count, _, _, _, _, numbers = FLAT.unpack(file.read(FLAT.size))
    except (OSError, struct.error) as error:
        raise MemoryFormatError("the memory holds no dense index: get it anew") from error
    if kind == INVERTED_KIND and not flat_only:
        return
    whole = FLAT.size + 4 * numbers == path.stat().st_size
    if kind != FLAT_KIND or numbers != width * count or not whole:
        raise MemoryFormatError("the memory's dense index is no plain list of vectors: get it anew")

"""Queries: what an evaluation asks, from a JSON Lines file or Karpathy's splits, with the images that answer it.

Every name of an answer is looked up in the gallery. Opens no picture, loads no model.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gcr_core.data.gallery import Gallery
from gcr_core.data.karpathy import read_entries
from gcr_core.errors import GalleryError


@dataclass(frozen=True)
class Query:
    """What to ask, as text or as the path of a picture, and the gallery's file names of the images that answer it."""

    text: str | None
    image: Path | None
    relevant: frozenset[str]


def load_queries(path: str | Path, gallery: Gallery) -> list[Query]:
    """The queries of a JSON Lines file.

    A line is {"query": text} or {"image": path}, each with "relevant": [file_name, ...]. An image's path is
    relative to the file's folder. A name that was merged into an image stands for it. Raises GalleryError naming file
    and line.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise GalleryError(f"query file {str(path)!r} cannot be read ({error}): check the path") from error
    queries = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            queries.append(_checked(json.loads(line), path.parent, gallery))
        except (ValueError, RecursionError, GalleryError) as error:
            reason = "is not JSON" if isinstance(error, json.JSONDecodeError) else str(error)
            raise GalleryError(
                f'{path}:{number}: {reason}; write {{"query": "...", "relevant": ["file_name", ...]}}'
            ) from error
    if not queries:
        raise GalleryError(f'{path} has no query: write a line {{"query": "...", "relevant": ["file_name"]}}')
    return queries


def karpathy_queries(path: str | Path, split: str, gallery: Gallery) -> list[Query]:
    """The captions of a Karpathy split, each asking for its image. Raises GalleryError for images the gallery lacks."""
    entries = read_entries(path, [split])
    known = set(gallery.file_names)
    lost = [entry.file_name for entry in entries if entry.file_name not in known]
    if lost:
        raise GalleryError(
            f"the memory lacks {len(lost):,} of the {len(entries):,} images of split {split!r}, such as {lost[0]!r}: "
            f"memorise them too, with --pictures-only {split}"
        )
    queries = [Query(text, None, frozenset([entry.file_name])) for entry in entries for text in entry.captions]
    if not queries:
        raise GalleryError(f"split {split!r} of {str(path)!r} has 0 captions to ask: name another")
    return queries


def _checked(row: Any, folder: Path, gallery: Gallery) -> Query:
    """The query in a parsed line. Raises ValueError or GalleryError saying what is wrong with it."""
    if not isinstance(row, dict):
        raise ValueError("is no JSON object")
    text, image, relevant = row.get("query"), row.get("image"), row.get("relevant")
    if isinstance(text, str) == isinstance(image, str):
        raise ValueError('needs a string as "query" or as "image", one of the two')
    if not isinstance(relevant, list) or not relevant or not all(isinstance(name, str) for name in relevant):
        raise ValueError('needs "relevant", a list of at least one file name')
    stored = frozenset(gallery.file_names[gallery.index(name)] for name in relevant)
    return Query(text, folder / image if isinstance(image, str) else None, stored)

"""Queries: what an evaluation asks, from a query file, a text or Karpathy's splits, with the images that answer it.

Every name of an answer is looked up in the gallery. Opens no picture, loads no model.
"""

import io
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gcr_core.data import query_rows
from gcr_core.data.gallery import Gallery
from gcr_core.data.karpathy import read_entries
from gcr_core.errors import GalleryError

TABLE_SUFFIXES = (".csv", ".tsv", ".txt")
"""How query files are called that are tables."""
JSON_ROW = '{"query": "...", "relevant": ["file_name", ...]}'
ROW = "write each line as query | file_name"
"""How the rows are to be written."""


@dataclass(frozen=True)
class Query:
    """What to ask, as text or as the path of a picture, and the gallery's file names of the images that answer it."""

    text: str | None
    image: Path | None
    relevant: frozenset[str]


class QueryFile(Collection[Query]):
    """The queries of a file, read anew each time that they are gone through: there may be more than memory holds.

    A line of JSON Lines is {"query": text} or {"image": path}, each with "relevant": [file_name, ...], which is empty
    where nothing is. An image's path is relative to the file's folder. A file called .csv, .tsv or .txt is a table, as
    `query_rows` reads it. A name that was merged into an image stands for it.
    """

    def __init__(self, path: str | Path, gallery: Gallery) -> None:
        """Reads all of it once. Raises GalleryError naming file and line."""
        self.path, self._gallery = Path(path), gallery
        self._count = sum(1 for _ in self)
        if not self._count:
            raise GalleryError(f'{path} has no query: write a line {{"query": "...", "relevant": ["file_name"]}}')

    def __len__(self) -> int:
        return self._count

    def __contains__(self, query: object) -> bool:
        return any(each == query for each in self)

    def __iter__(self) -> Iterator[Query]:
        try:
            with self.path.open(encoding="utf-8-sig") as lines:
                for number, row in self._rows(lines):
                    try:
                        yield checked(row, self._gallery, self.path.parent)
                    except (ValueError, GalleryError) as error:
                        raise GalleryError(f"{self.path}:{number}: {error}; {self._remedy}") from error
        except (OSError, UnicodeDecodeError) as error:
            raise GalleryError(f"query file {str(self.path)!r} cannot be read ({error}): check the path") from error

    @property
    def _is_table(self) -> bool:
        return self.path.suffix.lower() in TABLE_SUFFIXES

    @property
    def _remedy(self) -> str:
        return ROW if self._is_table else f"write {JSON_ROW}"

    def _rows(self, lines: Iterable[str]) -> query_rows.Numbered:
        if self._is_table:
            return query_rows.read(lines, self._gallery)
        return query_rows.read_json((number, line) for number, line in enumerate(lines, start=1) if line.strip())


def load_queries(path: str | Path, gallery: Gallery) -> list[Query]:
    """The queries of a file, as `QueryFile` reads them, all at once."""
    return list(QueryFile(path, gallery))


def pasted_queries(text: str, gallery: Gallery) -> list[Query]:
    """The queries in a text: JSON Lines or a table, as `query_rows` reads them. Raises GalleryError naming the first
    line that is none and, as what others send opens no file here, for a query that is a picture's path."""
    queries, wrong = [], []
    for number, row in query_rows.read(io.StringIO(text.removeprefix("\ufeff"), newline=None), gallery):
        try:
            queries.append(checked(row, gallery))
        except (ValueError, GalleryError) as error:
            wrong.append(f"line {number}: {error}")
    if wrong:
        more = f" ({len(wrong) - 1:,} more such lines)" if len(wrong) > 1 else ""
        raise GalleryError(f"{wrong[0]}{more}; {ROW}")
    if not queries:
        raise GalleryError(f"there is no query: {ROW}")
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


def checked(row: Any, gallery: Gallery, folder: Path | None = None) -> Query:
    """The query in a row of a query file, which may be a picture below `folder` where that is given.

    Raises ValueError or GalleryError saying what is wrong with it.
    """
    if isinstance(row, ValueError):
        raise row
    if not isinstance(row, dict):
        raise ValueError("is no JSON object")
    text, image, relevant = row.get("query"), row.get("image"), row.get("relevant")
    if isinstance(text, str) == isinstance(image, str):
        raise ValueError('needs a string as "query" or as "image", one of the two')
    if folder is None and text is None:
        raise ValueError("asks with a picture: ask in words here, or use `gcr evaluate`")
    if not isinstance(relevant, list) or not all(isinstance(name, str) for name in relevant):
        raise ValueError('needs "relevant", a list of file names')
    stored = frozenset(gallery.file_names[gallery.index(name)] for name in relevant)
    return Query(text, folder / image if folder and isinstance(image, str) else None, stored)

"""Metadata: the captions of a gallery's images, from `metadata.jsonl`, `metadata.csv` or the files' stems.

A row names an image by `file_name` and captions it by `text`, a string or a list: the ImageFolder convention;
`pseudo_queries` repeats those of its captions that a model wrote, not a person.
What cannot be used is listed, a row with its line, and the rest goes on. Knows text, opens no file.
"""

import csv
import io
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import PurePosixPath
from typing import NamedTuple

from gcr_core.files.names import base_name, printable

METADATA_NAMES = ("metadata.jsonl", "metadata.csv")
MAX_BYTES = 64 * 2**20
"""The most bytes of a metadata file."""
MAX_LISTED = 1_000
"""The most rows of a kind that cannot be used and are listed."""
MAX_CAPTION_CHARACTERS = 1_000
MAX_CAPTIONS = 1_000
MAX_PATH_CHARACTERS = 4_096
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")

_WORDLESS = """
img image images photo photos picture pic dsc dscf dscn pxl mvi vid sam gopr screenshot screen shot scan
untitled unnamed whatsapp signal copy download file at
"""
WORDLESS = frozenset(_WORDLESS.split())
"""The words that cameras and programs put into file names: alone they say nothing about the picture."""


class Row(NamedTuple):
    """What metadata says about one image."""

    file_name: str
    captions: list[str]
    also: list[str]
    """Other names that the same pixels came under."""
    pseudo_queries: list[str]
    """Those of the captions that the model wrote."""


class Metadata:
    """Captions by path inside the folder or zip, from the metadata files met in it."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, bool]] = {}
        """By path: the captions, each with whether the model wrote it."""
        self.also: dict[str, list[str]] = {}
        """By path: the names that an image had merged into it in the gallery that this one was."""
        self.skipped: list[tuple[str, str]] = []
        self._bytes = 0

    def read(self, name: str, data: bytes) -> None:
        """Takes in one metadata file standing at path `name`; what cannot be used of it goes to `skipped`."""
        self._bytes += len(data)
        try:
            if self._bytes > MAX_BYTES:
                raise ValueError(
                    f"brings the metadata to {self._bytes:,} bytes, the limit is {MAX_BYTES:,}: keep the best captions"
                )
            self._read_rows(name, _json_rows(data) if name.endswith(".jsonl") else _csv_rows(data))
        except ValueError as error:
            self.skipped.append((name, str(error)))

    def captions(self, paths: list[str], refused: Collection[str] = ()) -> list[dict[str, bool]]:
        """The captions of the images at `paths`, each with whether the model wrote it; of one that no row names, those
        in its stem.

        A row names an image by its path, or by its file name where only one image has it. Rows about other files go to
        `skipped`, those about `refused` ones excepted.
        """
        known, with_name = set(paths), Counter(map(_file_name, paths))
        by_name = {_file_name(path): path for path in paths if with_name[_file_name(path)] == 1}
        found: dict[str, dict[str, bool]] = {}
        lost = []
        for row, captions in self.rows.items():
            path = row if row in known else by_name.get(_file_name(row))
            if row in refused:
                continue
            if path is None:
                lost.append(row)
            else:
                add_captions(found.setdefault(path, {}), captions)
        self._list_lost(sorted(lost))
        return [found[path] if path in found else dict.fromkeys(stem_captions(path), False) for path in paths]

    def _read_rows(self, name: str, rows: Iterator[tuple[int, object]]) -> None:
        """Raises ValueError where the rows end in what is no row, or too many cannot be used."""
        bad = 0
        for line, row in rows:
            try:
                checked = checked_row(row)
            except ValueError as error:
                bad += 1
                if bad > MAX_LISTED:
                    raise ValueError(
                        f"has over {MAX_LISTED:,} rows that cannot be used, the limit: what follows line {line} is not "
                        "read, mend it"
                    ) from error
                self.skipped.append((f"{name}:{line}", str(error)))
                continue
            path = (PurePosixPath(name).parent / checked.file_name).as_posix()
            given = {caption: caption in checked.pseudo_queries for caption in checked.captions}
            add_captions(self.rows.setdefault(path, {}), given)
            if checked.also:
                self.also[path] = checked.also

    def _list_lost(self, rows: list[str]) -> None:
        self.skipped += [(row, "the metadata names it but there is no such image") for row in rows[:MAX_LISTED]]
        if len(rows) > MAX_LISTED:
            more = len(rows) - MAX_LISTED
            self.skipped.append((f"{more:,} more", "the metadata names them but there are no such images"))


def add_captions(known: dict[str, bool], more: dict[str, bool]) -> None:
    """Adds captions, each with whether the model wrote it; one that a person gave too is a person's."""
    for caption, written in more.items():
        known[caption] = known.get(caption, True) and written


def stem_captions(path: str) -> list[str]:
    """The caption in a file's stem: `red-boat_2.jpg` gives ["red boat"], `IMG_1234.jpg` nothing."""
    stem = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", PurePosixPath(path).stem)
    pieces = (piece.rstrip("0123456789") for piece in re.split(r"[\s_\-.,()+&]+", stem))
    words = [piece for piece in pieces if piece.replace("'", "").isalpha()]
    telling = [word for word in words if word.lower() not in WORDLESS and (len(word) > 2 or not word.isascii())]
    return [" ".join(words)] if telling else []


def _file_name(path: str) -> str:
    """What names of one file have in common on every system: the last part, composed, in one case."""
    return unicodedata.normalize("NFC", base_name(path)).casefold()


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8 text ({error.reason} at byte {error.start:,}): save it as UTF-8") from error


def _json_rows(data: bytes) -> Iterator[tuple[int, object]]:
    for line, record in enumerate(_text(data).split("\n"), start=1):
        if record.strip():
            try:
                yield line, json.loads(record)
            except (ValueError, RecursionError):
                yield line, None


def _csv_rows(data: bytes) -> Iterator[tuple[int, object]]:
    csv.field_size_limit(MAX_BYTES)
    reader = csv.DictReader(io.StringIO(_text(data), newline=""))
    try:
        columns = reader.fieldnames or []
        for column in ("file_name", "text"):
            if column not in columns:
                raise ValueError(f"has no column {column!r} but {', '.join(columns)[:100]!r}: name its columns anew")
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise ValueError(
            f"is no CSV from line {reader.line_num} on ({error}): save it anew, fields in quotes"
        ) from error


def checked_row(row: object) -> Row:
    """Raises ValueError saying what is wrong with the row."""
    if not isinstance(row, dict):
        raise ValueError("is no JSON object: write one object a line")
    path, text = row.get("file_name"), row.get("text")
    if not isinstance(path, str) or not path:
        raise ValueError('has no "file_name": name the image there')
    if len(path) > MAX_PATH_CHARACTERS:
        raise ValueError(
            f'has a "file_name" of {len(path):,} characters, the limit is {MAX_PATH_CHARACTERS:,}: shorten it'
        )
    captions = checked_captions([text] if isinstance(text, str) else [] if text is None else text)
    written = set(checked_captions(row.get("pseudo_queries") or []))
    pseudo_queries = [caption for caption in captions if caption in written]
    return Row(printable(path), captions, _checked_names(row.get("also") or []), pseudo_queries)


def checked_captions(captions: object) -> list[str]:
    """An image's captions, tidied, without repeats. Raises ValueError saying what is wrong with them."""
    if not isinstance(captions, list) or not all(isinstance(caption, str) for caption in captions):
        raise ValueError("captions are neither a string nor a list of strings")
    if len(captions) > MAX_CAPTIONS:
        raise ValueError(f"has {len(captions):,} captions, the limit is {MAX_CAPTIONS:,}: keep the best")
    longest = max(map(len, captions), default=0)
    if longest > MAX_CAPTION_CHARACTERS:
        raise ValueError(
            f"has a caption of {longest:,} characters, the limit is {MAX_CAPTION_CHARACTERS:,}: shorten it"
        )
    cleaned = (" ".join(UNPRINTABLE.sub(" ", caption).split()) for caption in captions)
    return [caption for caption in dict.fromkeys(cleaned) if caption]


def _checked_names(names: object) -> list[str]:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError('"also" is no list of file names')
    return [printable(name) for name in names]

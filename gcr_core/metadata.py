"""Metadata: the captions of a gallery's images, from `metadata.jsonl`, `metadata.csv` or the files' stems.

A row names an image by `file_name` and captions it by `text`, a string or a list: the ImageFolder convention.
A row that cannot be used is listed with its line and the rest goes on. Knows text, opens no file.
"""

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from .errors import GalleryError

METADATA_NAMES = ("metadata.jsonl", "metadata.csv")
MAX_CAPTION_CHARACTERS = 1_000
MAX_CAPTIONS = 1_000

_WORDLESS = """
img image images photo photos picture pic dsc dscf dscn pxl mvi vid sam gopr screenshot screen shot scan
untitled unnamed whatsapp signal copy download file at
"""
WORDLESS = frozenset(_WORDLESS.split())
"""Words that cameras and programs put into file names: alone they say nothing about the picture."""


class Metadata:
    """Captions by path inside the folder or zip, from the metadata files met in it."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, None]] = {}
        self.skipped: list[tuple[str, str]] = []
        self.found = False

    def read(self, name: str, data: bytes) -> None:
        """Takes in one metadata file standing at path `name`; rows that cannot be used go to `skipped`."""
        self.found = True
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise GalleryError(f"{name} is not UTF-8 text ({error.reason}): save it as UTF-8") from error
        rows = _json_rows(text) if name.endswith(".jsonl") else _csv_rows(text, name)
        for line, row in rows:
            try:
                path, captions = checked_row(row)
            except ValueError as error:
                self.skipped.append((f"{name}:{line}", str(error)))
                continue
            known = self.rows.setdefault((PurePosixPath(name).parent / path).as_posix(), {})
            known.update(dict.fromkeys(captions))

    def captions(self, paths: list[str]) -> list[list[str]]:
        """The captions of the images at `paths`; rows about other files go to `skipped`."""
        self.skipped.extend(
            (path, "the metadata names it but there is no such image") for path in sorted(self.rows.keys() - set(paths))
        )
        if self.found:
            return [list(self.rows.get(path, ()))[:MAX_CAPTIONS] for path in paths]
        return [stem_captions(path) for path in paths]


def stem_captions(path: str) -> list[str]:
    """The caption in a file's stem: `red-boat_2.jpg` gives ["red boat"], `IMG_1234.jpg` nothing."""
    stem = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", PurePosixPath(path).stem)
    pieces = (piece.rstrip("0123456789") for piece in re.split(r"[\s_\-.,()+&]+", stem))
    words = [piece for piece in pieces if piece.replace("'", "").isalpha()]
    telling = [word for word in words if word.lower() not in WORDLESS and (len(word) > 2 or not word.isascii())]
    return [" ".join(words)] if telling else []


def _json_rows(text: str) -> Iterator[tuple[int, object]]:
    for line, record in enumerate(text.split("\n"), start=1):
        if record.strip():
            try:
                yield line, json.loads(record)
            except (ValueError, RecursionError):
                yield line, None


def _csv_rows(text: str, name: str) -> Iterator[tuple[int, object]]:
    csv.field_size_limit(max(len(text), 1))
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise GalleryError(f"{name}:{reader.line_num} is no CSV ({error}): save it anew, fields in quotes") from error


def checked_row(row: object) -> tuple[str, list[str]]:
    """(file_name, captions) of a metadata row. Raises ValueError saying what is wrong with it."""
    if not isinstance(row, dict):
        raise ValueError("is no JSON object: write one object a line")
    path, text = row.get("file_name"), row.get("text")
    if not isinstance(path, str) or not path:
        raise ValueError('has no "file_name": name the image there')
    captions = [text] if isinstance(text, str) else [] if text is None else text
    if not isinstance(captions, list) or not all(isinstance(caption, str) for caption in captions):
        raise ValueError('"text" is neither a string nor a list of strings')
    if len(captions) > MAX_CAPTIONS:
        raise ValueError(f"has {len(captions):,} captions, the limit is {MAX_CAPTIONS:,}: keep the best")
    longest = max(map(len, captions), default=0)
    if longest > MAX_CAPTION_CHARACTERS:
        raise ValueError(
            f"has a caption of {longest:,} characters, the limit is {MAX_CAPTION_CHARACTERS:,}: shorten it"
        )
    cleaned = (" ".join(caption.split()) for caption in captions)
    return path, [caption for caption in dict.fromkeys(cleaned) if caption]

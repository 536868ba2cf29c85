"""Caption tables: rows of text parted by comma, semicolon, tab or bar, with a header or without.

A row with an unquoted delimiter in its caption is read where that is the one reading; a quote that is never closed ends
with its line, so that it swallows no other row. Knows text, opens no file.
"""

import csv
import re
from collections.abc import Iterable, Iterator
from typing import Any

from gcr_core.data.caption_rows import (
    CAPTION_KEYS,
    PICTURE_NAME,
    PICTURE_SUFFIXES,
    Note,
    Numbered,
    key_of,
    named,
    names_file,
    unnumbered,
)

DELIMITERS = (",", ";", "\t", "|")
SPACED = re.compile(rf"(?i)(?P<file_name>\S+(?:{PICTURE_SUFFIXES})(?:#\d+)?)\s+(?P<text>\S.*)")
"""A line of plain text that names a picture and captions it."""
NUMBER = re.compile(r"\s*[\d.]*\s*")
MAX_QUOTED_CHARACTERS = 2**16
"""The most characters that the lines of one row have beside the first."""
MAX_QUOTED_LINES = 1_000
"""The most lines of one row."""


def table(lines: list[str], note: Note, strict: bool) -> Numbered | None:
    """The rows of a table; None, or where it must be one ValueError, for a text that is none."""
    first = next((i for i, line in enumerate(lines) if line.strip(" ,;\t|\r\n")), len(lines))
    if first < len(lines) and lines[first].lower().startswith("sep="):
        first += 1
    if first >= len(lines):
        if strict:
            raise ValueError("has no rows, and no columns 'file_name' and 'text': write one row for each picture")
        return None
    if len(lines[first]) > MAX_QUOTED_CHARACTERS:
        if strict:
            raise ValueError(f"has no columns in its first {MAX_QUOTED_CHARACTERS:,} characters: name them there")
        return None
    headers = {delimiter: _fields(lines[first], delimiter) for delimiter in DELIMITERS}
    whole = [d for d, columns in headers.items() if _files_in(columns) and _texts_in(columns)]
    if whole and (strict or len(lines) > first + 1):
        columns = _columns(headers[whole[0]], lines, first, whole[0], note)
        return _rows(lines, first + 1, whole[0], columns, note)
    bare = [d for d, fields in headers.items() if len(fields) > 1 and PICTURE_NAME.search(fields[0])]
    filled = [line for line in lines[first:] if line.strip()]
    throughout = [d for d in bare if all(PICTURE_NAME.search(line.partition(d)[0].strip(' "')) for line in filled)]
    spaced = [match for line in filled if (match := SPACED.fullmatch(line.strip()))]
    if not throughout and len(spaced) == len(filled):
        note("has no header: what each line begins with is taken for the file, the rest for its caption")
        return enumerate(
            ({**match.groupdict(), "file_name": unnumbered(match["file_name"])} for match in spaced), start=1
        )
    if bare:
        note("has no header: the first column is taken for the file, the second for its caption")
        delimiter = min(throughout or bare, key=lines[first].index)
        return _rows(lines, first, delimiter, ["file_name", "text"], note)
    if not strict:
        return None
    columns = next((columns for columns in headers.values() if _files_in(columns) or _texts_in(columns)), headers[","])
    lacking = "text" if _files_in(columns) else "file_name"
    raise ValueError(f"has no column {lacking!r} but {', '.join(columns)[:100]!r}: name its columns anew")


def _fields(line: str, delimiter: str) -> list[str]:
    try:
        return [field.strip() for field in next(csv.reader([line], delimiter=delimiter), [])]
    except csv.Error:
        return []


def _files_in(columns: Iterable[str]) -> list[str]:
    return [column for column in columns if names_file(column)]


def _texts_in(columns: Iterable[str]) -> list[str]:
    return [column for column in columns if key_of(column) in CAPTION_KEYS]


def _columns(columns: list[str], lines: list[str], first: int, delimiter: str, note: Note) -> list[str]:
    """The columns' names here, "" for no meaning. Raises ValueError where two could be the file or the text."""
    files = [i for i, column in enumerate(columns) if names_file(column)]
    if len(files) > 1:
        following = _fields(lines[first + 1], delimiter) if first + 1 < len(lines) else []
        exact = [i for i in files if columns[i] == "file_name"]
        files = exact or [i for i in files if i < len(following) and PICTURE_NAME.search(following[i])] or files
    families = dict.fromkeys(CAPTION_KEYS[key_of(column)] for column in _texts_in(columns))
    if len(files) > 1:
        raise ValueError(
            f"has {len(files)} columns for the file, {named(columns[i] for i in files)}: call one file_name"
        )
    if "text" not in families and len(families) > 1:
        raise ValueError(f"has {len(families)} columns for the caption, {named(_texts_in(columns))}: call one text")
    family = "text" if "text" in families else next(iter(families))
    texts = [i for i, column in enumerate(columns) if CAPTION_KEYS.get(key_of(column)) == family]
    if len(texts) > 1:
        note(f"has {len(texts)} columns of captions, {named(columns[i] for i in texts)}: all are taken")
    read = [column if column in ("also", "pseudo_queries", "album") else "" for column in map(key_of, columns)]
    for places, called in ((files, "file_name"), (texts, "text")):
        for i in places:
            read[i] = called
            if columns[i] != called and len(places) == 1:
                note(f'has no "{called}": "{columns[i][:40]}" is taken for it')
    return read


def _rows(lines: list[str], start: int, delimiter: str, columns: list[str], note: Note) -> Numbered:
    """(line that the row ends in, row or its ValueError)."""
    csv.field_size_limit(2**31 - 1)
    while start < len(lines):
        fields, end = _record(lines, start, delimiter, columns)
        if fields is None:
            yield start + 1, ValueError("opens a quote that is never closed: close it, or leave it out")
        elif any(field.strip(" \r\n\x1a") for field in fields):
            yield end, _row(fields, delimiter, columns, note)
        start = end


def _record(lines: list[str], start: int, delimiter: str, columns: list[str]) -> tuple[list[str] | None, int]:
    """(the fields of the row that begins in line `start`, the line behind it); None for those of an open quote."""
    place = columns.index("file_name")
    ends_whole = False

    def fed() -> Iterator[str]:
        nonlocal ends_whole
        yield lines[start]
        size = 0
        for line in lines[start + 1 : start + MAX_QUOTED_LINES]:
            size += len(line)
            fields = _fields(line, delimiter)
            if size > MAX_QUOTED_CHARACTERS or (
                len(fields) >= len(columns) and PICTURE_NAME.search(fields[place].strip('"'))
            ):
                break
            yield line
        ends_whole = True

    reader = csv.reader(fed(), delimiter=delimiter, strict=True)
    try:
        return next(reader), start + reader.line_num
    except (csv.Error, StopIteration):
        if ends_whole:
            return None, start + 1
    try:
        next(csv.reader([lines[start]], delimiter=delimiter, strict=True))
    except csv.Error as error:
        if "unexpected end" in str(error):
            return None, start + 1
    return _bare(lines[start], delimiter, columns), start + 1


def _bare(line: str, delimiter: str, columns: list[str]) -> list[str]:
    """The fields of a line whose quotes part nothing, as those of a word in a quoted caption."""
    fields = line.strip("\r\n").split(delimiter)
    joined = _joined(fields, delimiter, columns) if len(fields) > len(columns) else fields
    return [re.sub(r'^\s*"(.*)"\s*$', r"\1", field) for field in joined or fields]


def _row(fields: list[str], delimiter: str, columns: list[str], note: Note) -> dict[str, Any] | ValueError:
    while len(fields) > len(columns) and not fields[-1].strip():
        fields = fields[:-1]
    surplus = len(fields) - len(columns)
    if surplus > 0:
        joined = _joined(fields, delimiter, columns)
        if joined is None:
            return ValueError(f"has {len(fields)} fields, the columns are {len(columns)}: put its caption into quotes")
        fields = joined
        note(f"has captions with {delimiter!r} in them and no quotes: they are taken whole")
    if len(fields) <= max(i for i, column in enumerate(columns) if column in ("file_name", "text")):
        return ValueError(f"has {len(fields)} of {len(columns)} fields: write all")
    row: dict[str, Any] = {"text": [text for i, text in enumerate(fields) if columns[i] == "text"]}
    row |= {column: fields[i] for i, column in enumerate(columns) if column not in ("", "text")}
    return row | {"file_name": unnumbered(row["file_name"].strip())}


def _joined(fields: list[str], delimiter: str, columns: list[str]) -> list[str] | None:
    """A row whose caption was not quoted; None where it is not sure which fields are the caption.

    It is where the file names a picture, and the other columns, which hold numbers, stand before the caption.
    """
    if columns == ["text", "file_name"]:
        file, texts = fields[-1], fields[:-1]
    elif columns[-1] == "text" and columns.count("text") == 1:
        head, texts = fields[: len(columns) - 1], fields[len(columns) - 1 :]
        file = head.pop(columns.index("file_name"))
        if not all(map(NUMBER.fullmatch, head)):
            return None
    else:
        return None
    if not PICTURE_NAME.search(file.strip()) or any(PICTURE_NAME.search(part.strip()) for part in texts):
        return None
    text = delimiter.join(texts)
    return [text, file] if columns[0] == "text" else [*fields[: len(columns) - 1], text]

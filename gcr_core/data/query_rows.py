"""Query rows: queries with the files that answer them, from lines of JSON or of a table. Knows text, opens no file.

A table parts its columns by tab, bar, comma or semicolon, with a header or without; the query stands before its files,
or behind them. Rows are those of a query file: {"query", "relevant"}.
"""

import csv
import json
import re
from collections.abc import Container, Iterable, Iterator
from itertools import chain
from typing import Any

from gcr_core.data.caption_rows import CAPTION_KEYS, FILE_KEYS, key_of

DELIMITERS = ("\t", "|", ",", ";")
QUOTING = (",", ";")
"""The delimiters of which a field may hold one, in quotes; a field may then go over several lines."""
QUERY_KEYS = frozenset({"query", "queries", "question", "search", *CAPTION_KEYS})
ANSWER_KEYS = frozenset({"relevant", "answer", "answers", "expected", *FILE_KEYS})
"""What people call the columns, as `key_of` writes it."""
LIST = re.compile(r"\s*[;|,]\s*")
"""What parts several files in one field."""
NUMBERED = re.compile(r"#\d+$")
"""How Flickr8K numbers the captions of a picture."""
Numbered = Iterator[tuple[int, Any]]
"""(line, row of a query file or the ValueError of one)."""


def read(lines: Iterable[str], known: Container[str]) -> Numbered:
    """The rows of JSON Lines, or else of a table. `known`: the files that there are, by which columns are told."""
    numbered = ((number, line) for number, line in enumerate(lines, start=1) if line.strip())
    first = next(numbered, None)
    if first is None:
        return iter(())
    rows = chain([first], numbered)
    return read_json(rows) if first[1].lstrip()[0] in "{[" else _read_table(first, rows, known)


def read_json(lines: Iterable[tuple[int, str]]) -> Numbered:
    """A row a line; what it has to hold is not looked at."""
    for number, line in lines:
        try:
            yield number, json.loads(line)
        except json.JSONDecodeError:
            yield number, ValueError("is not JSON")
        except (ValueError, RecursionError) as error:
            yield number, ValueError(str(error))


def _read_table(first: tuple[int, str], lines: Iterable[tuple[int, str]], known: Container[str]) -> Numbered:
    number, line = first
    delimiter = _delimiter(line, known)
    columns = [key_of(field) for field in _split(line, delimiter)] if delimiter else []
    queries = [place for place, column in enumerate(columns) if column in QUERY_KEYS]
    answers = [place for place, column in enumerate(columns) if column in ANSWER_KEYS]
    is_data = any(_files(field, known) for field in _split(line, delimiter)) if delimiter else True
    has_header = not is_data and bool(queries or answers)
    if has_header and not (queries and answers):
        lacking, called = ("query", "query") if answers else ("file", "file_name")
        yield number, ValueError(f"has no column for the {lacking} but {line.strip()[:80]!r}: call one {called!r}")
        return
    for number, fields in _fields(lines, delimiter):
        if isinstance(fields, ValueError):
            yield number, fields
        elif number == first[0] and has_header:
            continue
        elif has_header and len(fields) > len(columns):
            words = f"has {len(fields)} fields, the columns are {len(columns)}: put its query into quotes"
            yield number, ValueError(words)
        elif has_header:
            query = fields[queries[0]] if queries[0] < len(fields) else ""
            files = [file for place in answers if place < len(fields) for file in _named(fields[place], known)]
            yield number, {"query": query, "relevant": files}
        else:
            yield number, _row(fields, delimiter or "|", known)


def _delimiter(line: str, known: Container[str]) -> str | None:
    """What parts the first line, by its header or by a file in it; None where nothing does."""
    found = {each: _split(line, each) for each in DELIMITERS if each in line}
    for fields in (found, {each: row for each, row in found.items() if each in ("\t", "|")}):
        for delimiter, row in fields.items():
            keys = {key_of(field) for field in row}
            if (keys & QUERY_KEYS and keys & ANSWER_KEYS) or any(_files(field, known) for field in row):
                return delimiter
    return next(iter(found), None)


def _split(line: str, delimiter: str) -> list[str]:
    try:
        fields = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True))
    except csv.Error:
        fields = line.split(delimiter)
    return [field.strip() for field in fields]


def _fields(lines: Iterable[tuple[int, str]], delimiter: str | None) -> Iterator[tuple[int, list[str] | ValueError]]:
    """(line, its fields); of a row over several lines the last one."""
    if delimiter not in QUOTING:
        for number, line in lines:
            yield number, _unquoted(line, delimiter)
        return
    number = 0

    def told() -> Iterator[str]:
        nonlocal number
        for number, line in lines:  # noqa: B007
            yield line

    reader = csv.reader(told(), delimiter=delimiter, skipinitialspace=True, strict=True)
    while True:
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error:
            yield number, ValueError('opens a quote that is not closed, or closes one too early: write "" for a quote')
            return
        yield number, [field.strip() for field in fields]


def _unquoted(line: str, delimiter: str | None) -> list[str]:
    """Fields that may stand in quotes, as spreadsheets write them; a quote alone means itself."""
    fields = [field.strip() for field in (line.split(delimiter) if delimiter else [line])]
    quoted = [len(field) > 1 and field[0] == field[-1] == '"' and field[1:-1].count('"') % 2 == 0 for field in fields]
    return [field[1:-1].replace('""', '"') if is_ else field for field, is_ in zip(fields, quoted, strict=True)]


def _row(fields: list[str], delimiter: str, known: Container[str]) -> dict[str, Any] | ValueError:
    """A row without a header. What is left of the files at its end is the query, which may hold the delimiter."""
    if len(fields) < 2:
        return ValueError("names no file")
    start = len(fields) - 1
    while start > 1 and _files(fields[start - 1], known) and (_files(fields[start], known) or not fields[start]):
        start -= 1
    if _files(fields[0], known) and fields[1] and not _files(fields[1], known):
        return {"query": delimiter.join(fields[1:]), "relevant": _named(fields[0], known)}
    files = [file for field in fields[start:] for file in _named(field, known)]
    return {"query": delimiter.join(fields[:start]), "relevant": files}


def _named(field: str, known: Container[str]) -> list[str]:
    """The files that a field names: those that there are, or else what stands there."""
    return _files(field, known) or ([field] if field else [])


def _files(field: str, known: Container[str]) -> list[str]:
    """The files that a field names, where there are such: one, or several in a list."""
    for files in ([field], [NUMBERED.sub("", field)], LIST.split(field)):
        if files and all(file in known for file in files):
            return files
    return []

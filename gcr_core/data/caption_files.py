"""Caption files: rows of `file_name`, `text` and what else metadata knows, from the forms in which people bring them.

JSON Lines; JSON (a list, a mapping, COCO's and Karpathy's, what tools write beside one picture); tables; plain text.
Where exactly one reading is possible it is taken, and what was read otherwise than written is noted; else the row, or
the file, is a ValueError that says why. Knows text, opens no file.
"""

import json
import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from pathlib import PurePosixPath
from typing import Any

from gcr_core.data.caption_rows import (
    CAPTION_KEYS,
    PICTURE_NAME,
    Note,
    Numbered,
    canonical,
    file_of,
    key_of,
    listed,
    named,
    text_of,
)
from gcr_core.data.caption_tables import table
from gcr_core.files.names import base_name

METADATA_NAMES = ("metadata.jsonl", "metadata.csv")
LINES = (".jsonl", ".ndjson", ".json1", ".jsonlines")
TABLES = (".csv", ".tsv", ".tab", ".psv")
PLAIN = (".txt", ".caption", ".captions")
CAPTION_SUFFIXES = (*LINES, ".json", *TABLES, *PLAIN)
"""The suffixes of files that may hold captions."""
DOCUMENTS = (
    *(".xlsx", ".xls", ".ods", ".numbers", ".parquet", ".arrow", ".feather", ".xml", ".yaml", ".yml", ".docx", ".odt"),
)
"""Those of files that may hold captions and are not read."""
TELLING_NAME = re.compile(r"(?i)metadata|^data$|caption|annotation|description|prompt|label|sentence|results|token")
"""What stands in the names of files that hold captions."""
MAX_LINES = 2_000_000
"""The most lines of a table or a plain text."""
MAX_LOOKED_AT = 2**16
"""How many bytes of a file are looked at for the names of pictures."""


class NoCaptionsError(ValueError):
    """A file that can be read and is about something else."""


class _TwiceError(ValueError):
    """An object with two values under one name."""


def is_metadata(name: str) -> bool:
    """Whether a file has a name of the ImageFolder convention, in any case."""
    return base_name(name).lower() in METADATA_NAMES


def may_hold_captions(name: str) -> bool:
    return name.lower().endswith(CAPTION_SUFFIXES)


def looks_like_captions(name: str, data: bytes = b"") -> bool:
    """Whether a file that is not read may be meant as captions: by its name, or since it names pictures."""
    suffix, stem = PurePosixPath(name).suffix.lower(), PurePosixPath(name).stem
    if suffix in LINES + TABLES or TELLING_NAME.search(stem):
        return True
    words = re.split(r"[\s\"',;|:]+", data[:MAX_LOOKED_AT].decode(errors="replace"))
    return any(map(PICTURE_NAME.search, words))


def read(name: str, data: bytes, note: Note) -> Numbered | list[str]:
    """(number, row or the ValueError of one) of a file, or the captions alone where it is about one picture.

    Raises ValueError where it is neither.
    """
    text, suffix = _text(data), PurePosixPath(name).suffix.lower()
    if suffix in LINES:
        document = _document_of_lines(text)
        return canonical(_json_lines(text), note) if document is None else _one_or_rows(name, document, note)
    if suffix == ".json" or (suffix in PLAIN and text.lstrip()[:1] in ("{", "[")):
        document = _document(text)
        return canonical(_json_lines(text), note) if document is None else _one_or_rows(name, document, note)
    if (count := text.count("\n")) > MAX_LINES:
        raise ValueError(f"has {count:,} lines, the limit is {MAX_LINES:,}: keep the best captions")
    lines = re.findall(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+", text)
    rows = table(lines, note, strict=suffix in TABLES)
    return [line for line in map(str.strip, lines) if line] if rows is None else rows


def _text(data: bytes) -> str:
    """Raises ValueError for what is neither UTF-8 nor UTF-16 that says so, as PowerShell writes it."""
    try:
        return data.decode("utf-16" if data[:2] in (BOM_UTF16_LE, BOM_UTF16_BE) else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8 text ({error.reason} at byte {error.start:,}): save it as UTF-8") from error


def _document_of_lines(text: str) -> Any:
    """What a file of lines holds where it is one JSON text over several lines, or a list; else None."""
    if isinstance(_parsed(text.lstrip().partition("\n")[0]), dict):
        return None
    try:
        document = _loaded(text)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, (dict, list)) else None


def _document(text: str) -> Any:
    """The whole text as JSON; None where it is not, or where each line is a row."""
    try:
        return _loaded(text)
    except (ValueError, RecursionError) as error:
        if any(isinstance(_parsed(line), dict) for line in text.split("\n", 50)[:50]):
            return None
        position = f" from line {error.lineno} on" if isinstance(error, json.JSONDecodeError) else ""
        raise ValueError(f"is no JSON{position}: save it anew") from error


def _loaded(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_unrepeated)


def _unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of which no name stands twice: of two texts both are captions."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found and found[key] != value:
            if key_of(key) not in CAPTION_KEYS:
                raise _TwiceError(f'has "{key[:40]}" twice: keep one')
            value = [*listed(found[key]), *listed(value)]
        found[key] = value
    return found


def _parsed(line: str) -> object:
    """A line as JSON, also with the comma behind it that it had in a list; None where it is none."""
    for text in (line, line.strip().removesuffix(",")):
        try:
            return _loaded(text)
        except _TwiceError as error:
            return error
        except (ValueError, RecursionError):
            continue
    return None


def _json_lines(text: str) -> Numbered:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip().strip("\x1a"):
            yield number, _parsed(line)


def _one_or_rows(name: str, document: Any, note: Note) -> Numbered | list[str]:
    """What a JSON file says. Raises ValueError where that is about no picture."""
    if isinstance(document, list):
        return canonical(enumerate(map(_pair, document), start=1), note)
    if not isinstance(document, dict):
        raise ValueError("is no list of rows: write one object for each picture")
    coco = document.get("annotations")
    if isinstance(document.get("images"), list) and isinstance(coco, list):
        return canonical(_coco(document["images"], coco), note)
    if file_of(document) is not None:
        return canonical(iter([(1, document)]), note)
    if any(map(PICTURE_NAME.search, document)) or _is_mapping(name, document):
        return canonical(enumerate((_entry(*item) for item in document.items()), start=1), note)
    lists = {
        key: rows
        for key, rows in document.items()
        if isinstance(rows, list) and any(isinstance(row, dict) and file_of(row) is not None for row in rows[:100])
    }
    if len(lists) == 1:
        return canonical(enumerate(next(iter(lists.values())), start=1), note)
    if lists:
        raise ValueError(f"has {len(lists)} lists of pictures, {named(lists)}: keep one")
    families = {key for key in document if key_of(key) in CAPTION_KEYS}
    if families:
        captions = listed(text_of(document, note))
        if not all(isinstance(caption, str) for caption in captions):
            raise ValueError("has captions that are no text: write them as a string or a list of strings")
        return captions
    raise NoCaptionsError("names no picture: write one object for each")


def _is_mapping(name: str, document: dict[str, Any]) -> bool:
    """Whether an object maps names without suffixes to captions: to rows, or to texts in a file called so."""
    if any(key_of(key) in CAPTION_KEYS for key in document) or not document:
        return False
    rows = [isinstance(row, dict) and any(key_of(key) in CAPTION_KEYS for key in row) for row in document.values()]
    texts = (isinstance(text, str) for value in document.values() for text in listed(value))
    return all(rows) or (TELLING_NAME.search(PurePosixPath(name).stem) is not None and all(texts))


def _pair(row: Any) -> Any:
    """A row; one of two texts, of which the first names a picture, becomes one."""
    if isinstance(row, list) and len(row) == 2 and isinstance(row[0], str) and PICTURE_NAME.search(row[0]):
        return {"file_name": row[0], "text": row[1]}
    return row


def _entry(name: str, value: Any) -> dict[str, Any]:
    return {"file_name": name, **({"text": value} if not isinstance(value, dict) else value)}


def _coco(images: list[Any], annotations: list[Any]) -> Numbered:
    """The rows of COCO's form, in the order of the annotations that caption the images by their ids."""
    names = {str(image.get("id")): image for image in images if isinstance(image, dict)}
    if not any(isinstance(row, dict) and "caption" in row for row in annotations):
        raise ValueError("is of COCO's form and has no captions: take the file of captions")
    for number, row in enumerate(annotations, start=1):
        image = names.get(str(row.get("image_id"))) if isinstance(row, dict) else None
        if image is None:
            yield number, ValueError("is about an image that the file does not name")
        else:
            yield number, {"file_name": file_of(image), "text": row.get("caption")}

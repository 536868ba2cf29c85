"""Caption rows: what people call the columns of files and captions, and one reading of a row where it has only one.

A row that could mean two things is a ValueError that says which. Knows no format.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any

from gcr_core.data.formats import OTHER_SUFFIXES, SUFFIXES
from gcr_core.data.kinds import RAW_SUFFIXES
from gcr_core.files.names import base_name

_FILES = """
file_name filename file_names filenames file image images image_name imagename image_file image_path imagepath img
img_name img_path picture photo path filepath file_path
"""
FILE_KEYS = frozenset(_FILES.split())
"""What people call the column of files, as `key_of` writes them."""
CAPTION_KEYS = {
    key + plural: key
    for key in ("text", "caption", "prompt", "description", "title", "sentence", "comment", "alt_text")
    for plural in ("", "s")
}
"""What they call that of captions, and what it is called here."""
PICTURE_SUFFIXES = "|".join(map(re.escape, SUFFIXES + OTHER_SUFFIXES + RAW_SUFFIXES))
PICTURE_NAME = re.compile(rf"(?i)({PICTURE_SUFFIXES})(#\d+)?$")
"""How the name of a picture ends; Flickr8K numbers the captions of one behind a "#"."""

MAX_KEY_CHARACTERS = 100
"""How much of a column's name is read."""
Note = Callable[[str], None]
"""Takes a remark on what was read otherwise than written."""
Numbered = Iterator[tuple[int, object]]
"""(line or number, row or the ValueError of one)."""


@lru_cache(4096)
def key_of(name: str) -> str:
    """A column's name without what people vary: "File Name", "image-path", "caption_2" give "file_name" and so on."""
    return re.sub(r"[\W\d_]+", "_", name[:MAX_KEY_CHARACTERS].strip().lower()).strip("_")


def names_file(key: str) -> bool:
    """Whether a column is that of files; of these none has a number."""
    return key_of(key) in FILE_KEYS and not any(c.isdecimal() for c in key[:MAX_KEY_CHARACTERS])


def named(names: Iterable[str]) -> str:
    return " and ".join(f'"{name[:40]}"' for name in names)


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def canonical(rows: Iterable[tuple[int, object]], note: Note) -> Numbered:
    """The rows by the convention's names. Raises ValueError where they are queries."""
    for number, row in rows:
        if isinstance(row, dict):
            if "relevant" in row and ("query" in row or "image" in row):
                raise ValueError("holds queries with their answers, no captions: leave it to evaluate")
            try:
                yield number, _renamed(row, note)
            except ValueError as error:
                yield number, error
        else:
            yield number, row


def _renamed(row: dict[str, Any], note: Note) -> dict[str, Any]:
    """A row by the convention's names. Raises ValueError where several of its values could be the file or the text."""
    renamed: dict[str, Any] = {key: row[key] for key in ("also", "pseudo_queries", "album") if key in row}
    file = file_of(row, note)
    if file is not None:
        renamed["file_name"] = file
    if any(key_of(key) in CAPTION_KEYS for key in row):
        renamed["text"] = text_of(row, note)
    elif not renamed.keys() - {"file_name"} and (others := _texts(row)):
        raise ValueError(f'has no "text" but {named(others)}: call its caption so')
    return renamed


def _texts(row: dict[str, Any]) -> list[str]:
    """The keys of what may be meant as captions in a row without any."""
    values = {key: listed(value) for key, value in row.items() if not names_file(key)}
    return [key for key, some in values.items() if any(isinstance(v, str) and re.search(r"[^\W\d_]", v) for v in some)]


def file_of(row: dict[str, Any], note: Note = lambda words: None) -> Any:
    """The file that a row is about; None for none. Raises ValueError for several."""
    if row.get("file_name"):
        return unnumbered(row["file_name"])
    found = {key: row[key] for key in row if names_file(key) and isinstance(row[key], str) and row[key].strip()}
    if not found:
        titles = {key: row[key] for key in row if key_of(key) == "title" and isinstance(row[key], str)}
        found = {key: value for key, value in titles.items() if PICTURE_NAME.search(value.strip())}
    if len(found) > 1:
        pictures = {key: value for key, value in found.items() if PICTURE_NAME.search(value.strip())}
        folder = next(
            (value for key, value in found.items() if key_of(key) == "filepath" and key not in pictures), None
        )
        if len({base_name(value) for value in pictures.values()}) == 1:
            key = max(pictures, key=lambda key: len(pictures[key]))
            found = {key: f"{folder}/{pictures[key]}" if folder else pictures[key]}
        elif not pictures and len(set(found.values())) == 1:
            found = dict([next(iter(found.items()))])
        else:
            raise ValueError(f'has no "file_name" but {named(found)}: call one so')
    if not found:
        return None
    ((key, value),) = found.items()
    note(f'has no "file_name": "{key[:40]}" is taken for it')
    return unnumbered(value)


def unnumbered(name: Any) -> Any:
    """The name of a picture without the number of its caption."""
    return re.sub(r"#\d+$", "", name) if isinstance(name, str) and PICTURE_NAME.search(name) else name


def text_of(row: dict[str, Any], note: Note) -> Any:
    """What a row captions its file with. Raises ValueError where that could be the one or the other."""
    found: dict[str, list[str]] = {}
    for key, value in row.items():
        is_file = key_of(key) == "title" and isinstance(value, str) and PICTURE_NAME.search(value.strip())
        if key_of(key) in CAPTION_KEYS and value not in (None, "", []) and not is_file:
            found.setdefault(CAPTION_KEYS[key_of(key)], []).append(key)
    if not found:
        return row.get("text")
    if "text" not in found and len(found) > 1:
        raise ValueError(f'has no "text" but {named(key for keys in found.values() for key in keys)}: call one so')
    keys = found["text"] if "text" in found else next(iter(found.values()))
    if keys != ["text"]:
        note(f'has no "text": {named(keys)} {"is" if len(keys) == 1 else "are"} taken for it')
    if len(keys) == 1:
        return captions_of(row[keys[0]])
    return [caption for key in keys for caption in listed(captions_of(row[key]))]


def captions_of(value: Any) -> Any:
    """A caption or a list of them; of sentences as Karpathy writes them, their raw text."""
    if isinstance(value, list) and all(isinstance(item, dict) for item in value):
        raw = [next((item[key] for key in ("raw", "text", "caption") if key in item), None) for item in value]
        return raw if None not in raw else value
    return value

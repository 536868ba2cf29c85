"""Metadata: the captions of a gallery's images, from caption files or the files' stems.

A row names an image by `file_name` and captions it by `text`, a string or a list: the ImageFolder convention;
`pseudo_queries` repeats those of its captions that a model wrote, not a person; `album` names the album it is in.
What cannot be used is listed, a row with its line, and the rest goes on. Knows text, opens no file.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Collection
from pathlib import PurePosixPath
from typing import NamedTuple

from gcr_core.data import caption_files
from gcr_core.data.caption_files import NoCaptionsError, is_metadata, looks_like_captions
from gcr_core.data.caption_rows import Numbered
from gcr_core.data.places import Places
from gcr_core.data.stems import stem_captions
from gcr_core.files.names import printable

MAX_BYTES = 64 * 2**20
"""The most bytes of a metadata file."""
MAX_LISTED = 1_000
"""The most rows of a kind that cannot be used and are listed."""
MAX_CAPTION_CHARACTERS = 1_000
MAX_CAPTIONS = 1_000
MAX_ALBUM_CHARACTERS = 200
"""The most characters of an album's name."""
MAX_PATH_CHARACTERS = 4_096
SHARED = 5
"""From how many pictures on a caption that they have by their names is remarked upon."""
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
NOT_READ = "looks like captions, is not read: "


class Row(NamedTuple):
    """What metadata says about one image."""

    file_name: str
    captions: list[str] | None
    """None where the row says nothing of that."""
    also: list[str]
    """Other names that the same pixels came under."""
    pseudo_queries: list[str]
    """Those of the captions that the model wrote."""
    album: str | None
    """The album that it is in, "" for none; None where the row says nothing of that."""


class _Beside(NamedTuple):
    """What stands in a file that may be about one picture."""

    captions: list[str]
    mistake: str
    """Why it has none."""
    is_telling: bool
    """Whether it looks like captions, whatever pictures there are."""


class Metadata:
    """Captions by path inside the folder or archive, from the caption files met in it."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, bool]] = {}
        """By path: the captions, each with whether the model wrote it."""
        self.also: dict[str, list[str]] = {}
        """By path: the names that an image had merged into it in the gallery that this one was."""
        self.skipped: list[tuple[str, str]] = []
        self.notes: list[tuple[str, str]] = []
        """(file or row, how it was read otherwise than written)."""
        self.shared: list[tuple[str, str]] = []
        """(caption, how many images have it by their names), after `captions`."""
        self._uncaptioned: dict[str, None] = {}
        """Paths that rows name without a word on captions."""
        self._albums: dict[str, str] = {}
        self._beside: dict[str, _Beside] = {}
        """By path: files that may be about the picture of their name alone."""
        self._given: dict[str, str] = {}
        """By path in a row: the image that it is given to, which has another suffix."""
        self._bytes = 0

    def read(self, name: str, data: bytes) -> None:
        """Takes in one caption file standing at path `name`; what cannot be used of it goes to `skipped`, and nowhere
        where it does not look like captions."""
        self._bytes += len(data)
        remarks: dict[str, None] = {}
        try:
            if self._bytes > MAX_BYTES:
                raise ValueError(
                    f"brings the metadata to {self._bytes:,} bytes, the limit is {MAX_BYTES:,}: keep the best captions"
                )
            read = caption_files.read(name, data, remarks.setdefault)
            if isinstance(read, list):
                self._read_beside(name, read, looks_like_captions(name, data))
            else:
                self._read_rows(name, read)
        except ValueError as error:
            self._bytes -= len(data)
            if is_metadata(name):
                self.skipped.append((name, str(error)))
            elif looks_like_captions(name, data):
                self.skipped.append((name, f"{NOT_READ}it {error}"))
            elif not isinstance(error, NoCaptionsError):
                self._beside[name] = _Beside([], f"it {error}", False)
        self.notes += [(name, remark) for remark in remarks]

    def captions(self, paths: list[str], refused: Collection[str] = ()) -> list[dict[str, bool]]:
        """The captions of the images at `paths`, each with whether the model wrote it; of one that no row captions,
        those in its stem.

        A row names an image by its path, or by as much of its end as only one image has. Rows about other files go to
        `skipped`, those about `refused` ones excepted.
        """
        places = Places(paths, refused)
        found: dict[str, dict[str, bool]] = {}
        placed = {row: places.find(row) for row in (*self.rows, *self._uncaptioned)}
        named = {place.path for place in placed.values()}
        lost = {row: place.reason for row, place in placed.items() if place.path is None}
        self._given = {row: path for row in lost if (path := places.of_stem(row)) and path not in named}
        self.notes += [(row, "not there: its captions are given to the picture of that stem") for row in self._given]
        for row, captions in self.rows.items():
            path = placed[row].path or self._given.get(row)
            if path is not None and path not in refused:
                add_captions(found.setdefault(path, {}), captions)
        self._add_beside(places, found)
        self._list_lost(sorted((row, reason) for row, reason in lost.items() if row not in self._given))
        return [found.get(path, given) for path, given in self._stems(paths, found)]

    def albums(self, paths: list[str]) -> dict[str, str]:
        """By path: the albums that rows put images into, "" where a row says that it is in none."""
        places = Places(paths)
        placed = ((places.find(row).path or self._given.get(row), album) for row, album in self._albums.items())
        return {path: album for path, album in placed if path is not None}

    def _stems(self, paths: list[str], found: Collection[str]) -> list[tuple[str, dict[str, bool]]]:
        """(path, the captions in its stem), with a note on those that many images have so."""
        stems = [(path, [] if path in found else stem_captions(path)) for path in paths]
        shared = Counter(caption for _, captions in stems for caption in captions)
        self.shared = [
            (caption, f"is the caption of {count:,} pictures by their names alone: caption them apart")
            for caption, count in shared.most_common()
            if count >= SHARED
        ][:MAX_LISTED]
        return [(path, dict.fromkeys(captions, False)) for path, captions in stems]

    def _read_rows(self, name: str, rows: Numbered) -> None:
        """Raises ValueError where the rows end in what is no row, too many cannot be used, or, of a file without a
        name of the convention, none can."""
        bad: list[tuple[int, str]] = []
        used = 0
        try:
            for line, row in rows:
                try:
                    if isinstance(row, ValueError):
                        raise row
                    self._take(name, checked_row(row))
                    used += 1
                except ValueError as error:
                    if len(bad) == MAX_LISTED:
                        raise ValueError(
                            f"has over {MAX_LISTED:,} rows that cannot be used, the limit: what follows line {line} is "
                            "not read, mend it"
                        ) from error
                    bad.append((line, str(error)))
            if is_metadata(name):
                return
            if not used:
                raise ValueError(
                    f"has {len(bad):,} rows of which none can be used; line {bad[0][0]} {bad[0][1]}"
                    if bad
                    else "has no rows: write one for each picture"
                )
            self.notes.append((name, "read as captions"))
        finally:
            if used or is_metadata(name):
                self.skipped += [(f"{name}:{line}", reason) for line, reason in bad]

    def _take(self, name: str, row: Row) -> None:
        path = (PurePosixPath(name).parent / row.file_name).as_posix()
        if row.captions is None:
            self._uncaptioned[path] = None
        else:
            given = {caption: caption in row.pseudo_queries for caption in row.captions}
            add_captions(self.rows.setdefault(path, {}), given)
        if row.also:
            self.also[path] = row.also
        if row.album is not None:
            self._albums.setdefault(path, row.album)

    def _read_beside(self, name: str, captions: list[str], is_telling: bool) -> None:
        """Raises ValueError for captions over a limit."""
        checked = checked_captions(captions)
        if any(c.isalpha() for caption in checked for c in caption):
            self._beside[name] = _Beside(checked, "", is_telling)
        elif is_telling:
            raise ValueError("has no words: write captions there")

    def _add_beside(self, places: Places, found: dict[str, dict[str, bool]]) -> None:
        """Gives the pictures what stands in the files of their names; files without a picture are listed where others
        have one, or where they look like captions."""
        placed = {name: places.beside(name) for name in self._beside}
        used = [name for name, place in placed.items() if place.path is not None and self._beside[name].captions]
        told = []
        for name, (captions, mistake, is_telling) in self._beside.items():
            path = placed[name].path
            if path is not None and captions:
                add_captions(found.setdefault(path, {}), dict.fromkeys(captions, False))
            elif path is not None or is_telling or (captions and used):
                told.append((name, NOT_READ + (mistake or placed[name].reason)))
        self.notes += [(name, "read as the caption of the picture of its name") for name in used]
        self.skipped += told[:MAX_LISTED] + _more(told, "look like captions and are not read")

    def _list_lost(self, rows: list[tuple[str, str]]) -> None:
        self.skipped += rows[:MAX_LISTED] + _more(rows, "the metadata names them but there are no such images")


def _more(rows: list[tuple[str, str]], reason: str) -> list[tuple[str, str]]:
    return [(f"{len(rows) - MAX_LISTED:,} more", reason)] if len(rows) > MAX_LISTED else []


def add_captions(known: dict[str, bool], more: dict[str, bool]) -> None:
    """Adds captions, each with whether the model wrote it; one that a person gave too is a person's."""
    for caption, written in more.items():
        known[caption] = known.get(caption, True) and written


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
    album = None if row.get("album") is None else checked_album(row["album"])
    says = captions if "text" in row else None
    return Row(printable(path), says, _checked_names(row.get("also") or []), pseudo_queries, album)


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
    return [caption for caption in dict.fromkeys(map(_on_one_line, captions)) if caption]


def checked_album(album: object) -> str:
    """An album's name, tidied, "" for none. Raises ValueError saying what is wrong with it."""
    if not isinstance(album, str):
        raise ValueError("names an album that is no text: write its name")
    if len(album) > MAX_ALBUM_CHARACTERS:
        raise ValueError(
            f"names an album of {len(album):,} characters, the limit is {MAX_ALBUM_CHARACTERS}: shorten it"
        )
    return unicodedata.normalize("NFC", _on_one_line(album))


def _on_one_line(text: str) -> str:
    return " ".join(UNPRINTABLE.sub(" ", text).split())


def _checked_names(names: object) -> list[str]:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError('"also" is no list of file names')
    return [printable(name) for name in names]

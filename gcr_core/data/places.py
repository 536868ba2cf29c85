"""Places: which image a row of metadata is about.

The one at its path, else the one that shares the longest end of it: names are compared composed, in one case, with
slashes of either kind. Where several could be it, none is. Opens no file.
"""

import unicodedata
from collections.abc import Callable, Collection, Iterable
from functools import cached_property
from pathlib import PurePosixPath
from typing import NamedTuple

from gcr_core.data.caption_rows import PICTURE_NAME
from gcr_core.files.names import base_name

MAX_PARTS = 8
"""How many of the last parts of a path are compared at most."""
NO_IMAGE = "the metadata names it but there is no such image"


class Place(NamedTuple):
    path: str | None
    reason: str = ""
    """Why it is none."""


class Places:
    def __init__(self, paths: Iterable[str], refused: Collection[str] = ()) -> None:
        """`refused`: paths of files that are no images, but rows about them are found too."""
        self._paths, self._others = list(paths), list(refused)
        self._known = {*self._paths, *self._others}

    @cached_property
    def _tails(self) -> dict[str, list[str]]:
        return _by_tail(self._paths, folded)

    @cached_property
    def _refused(self) -> dict[str, list[str]]:
        return _by_tail(self._others, folded)

    @cached_property
    def _stems(self) -> dict[str, list[str]]:
        return _by_tail(self._paths, _folded_stem)

    def find(self, row: str) -> Place:
        """The place that a row of this path is about."""
        if row in self._known:
            return Place(row)
        parts = folded(row)
        named = _longest(self._tails, parts)
        if not named and (refused := _longest(self._refused, parts)):
            return Place(refused[0])
        return _only(named, NO_IMAGE)

    def of_stem(self, row: str) -> str | None:
        """The one image whose path ends like the row's but for the suffix, where the row has none or a picture's."""
        has_picture_suffix = PICTURE_NAME.search(row) is not None
        parts = _folded_stem(row) if has_picture_suffix else folded(row)
        return _only(_longest(self._stems, parts), NO_IMAGE).path

    def beside(self, name: str) -> Place:
        """The picture that a caption file stands beside, or that alone has its name: `a.txt` or `a.jpg.txt` for
        `a.jpg`."""
        bare = str(PurePosixPath(name).with_suffix(""))
        named = _longest(self._tails, folded(bare)) or _longest(self._stems, folded(bare))
        return _only(named, f"there is no picture called {PurePosixPath(bare).name!r}")


def folded(path: str) -> list[str]:
    """What the parts of a path have in common on every system, the last MAX_PARTS of them."""
    parts = unicodedata.normalize("NFC", path.strip().replace("\\", "/")).casefold().split("/")
    return [part for part in parts if part not in ("", ".")][-MAX_PARTS:]


def _folded_stem(path: str) -> list[str]:
    parts = folded(path)
    return [*parts[:-1], PurePosixPath(parts[-1]).stem] if parts else []


def _by_tail(paths: Iterable[str], fold: Callable[[str], list[str]]) -> dict[str, list[str]]:
    """By the ends of paths, of one part or more, and by the whole, which begins with a slash: up to three of each."""
    found: dict[str, list[str]] = {}
    for path in paths:
        parts = fold(path)
        for tail in _ends(parts):
            with_tail = found.setdefault(tail, [])
            if len(with_tail) < 3:
                with_tail.append(path)
    return found


def _longest(tails: dict[str, list[str]], parts: list[str]) -> list[str]:
    """Those that share the longest end."""
    return next((tails[tail] for tail in _ends(parts) if tail in tails), [])


def _ends(parts: list[str]) -> list[str]:
    """The whole, then its ends from the longest on."""
    return ["/" + "/".join(parts), *("/".join(parts[start:]) for start in range(len(parts)))]


def _only(paths: list[str], reason: str) -> Place:
    if len(paths) == 1:
        return Place(paths[0])
    if not paths:
        return Place(None, reason)
    some = " and ".join(_with_folder(path) for path in paths[:2])
    return Place(None, f"could be {some}{' and more' if len(paths) > 2 else ''}: write its path")


def _with_folder(path: str) -> str:
    folder = PurePosixPath(path).parent.name
    return f"{folder}/{base_name(path)}" if folder else base_name(path)

"""Choices: what the Search tab offers before anything is asked, as HTML: memories, albums, examples, the way to begin.

Says too where an address led nowhere. Text from outside goes through `html.text`.
"""

import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from gcr_core.ui.html import ShownGallery, text
from gcr_core.ui.registry import SHIPPED

CHIPS = 6
"""How many example queries are offered."""
TOLD = 24
"""Of how many images the model is asked for tags, which are examples where no image has a caption."""
CHIP_CHARACTERS = 38
"""The most characters that a chip shows of its query."""
INVITATION = (
    '<p class="invitation"><span>or drop your own photographs: no captions needed</span> '
    '<button type="button" data-begin>Choose photographs</button></p>'
)


@dataclass(frozen=True)
class Destination:
    """What an address asks for; every part is text from outside, "" where it says nothing."""

    memory: str
    q: str
    album: str
    again: bool
    """Whether the last query is asked again where there is no `q`: a picture has no address."""

    @classmethod
    def of(cls, wanted: Any) -> "Destination":
        """Reads what the page sends."""
        given = wanted if isinstance(wanted, dict) else {}
        memory, q, album = (str(given.get(key) or "") for key in ("memory", "q", "album"))
        return cls(memory, q, album, given.get("again") is True)


def memories(own: list[dict[str, Any]], first: str, visitors: bool = False) -> str:
    """A list to choose a memory from, the `first` being the page's; nothing while there is only that one. `visitors`:
    one's own are closed to others, which Share says."""
    if not own:
        return ""
    rows = [(row["id"], f"{row['name']} ({row['images']:,})") for row in own]
    return _select("Memory", [(SHIPPED, first), *rows], " data-private" * visitors)


def albums(sizes: dict[str, int]) -> str:
    """A list to choose an album from; nothing where there is none. `sizes`: album → its images."""
    if not sizes:
        return ""
    return _select("Album", [("", "all albums"), *((album, f"{album} ({count:,})") for album, count in sizes.items())])


def chips(queries: Iterable[str]) -> str:
    """Queries to begin with, each whole or shortened between words; nothing where there are none."""
    buttons = "".join(_chip(query) for query in queries)
    return f'<div class="chips" role="group" aria-label="Examples">{buttons}</div>' if buttons else ""


def captions(shown: ShownGallery) -> list[str]:
    """First captions of images spread evenly over the gallery, as examples to ask with: people's, if any."""
    both = list(zip(shown.gallery.captions, shown.gallery.pseudo_queries, strict=True))
    people = [own[0] for captions, written in both if (own := [text for text in captions if text not in written])]
    return _spread(people or [captions[0] for captions, _ in both if captions], CHIPS)


def told(shown: ShownGallery) -> list[str]:
    """The file names of images whose tags are to be examples."""
    return _spread(shown.gallery.file_names, TOLD)


def tags(descriptions: Iterable[str]) -> list[str]:
    """The first tag of each image, as examples to ask with."""
    return list(dict.fromkeys(filter(None, (words.partition(", ")[0] for words in descriptions))))[:CHIPS]


def led_nowhere(words: str, memory: str, album: str) -> str:
    """A line on an address that could not be followed, and the memory and album that are shown instead."""
    memory = "" if memory == SHIPPED else memory
    shown = f'data-memory="{text(memory)}" data-album="{text(album)}"'
    return f'<p class="note warning" role="alert" {shown}>{text(words)}</p>'


def _spread(all_of_them: list[str], most: int) -> list[str]:
    count = min(most, len(all_of_them))
    return list(dict.fromkeys(all_of_them[i * len(all_of_them) // count] for i in range(count)))


def _chip(query: str) -> str:
    short = textwrap.shorten(query, CHIP_CHARACTERS, placeholder="…")
    if short == "…":  # one word, or a language that writes without spaces
        short = query[: CHIP_CHARACTERS - 1] + "…"
    title = f' title="{text(query)}"' if short != query else ""
    return f'<button type="button" class="chip" data-q="{text(query)}"{title}>{text(short)}</button>'


def _select(label: str, rows: Iterable[tuple[str, str]], more: str = "") -> str:
    options = "".join(f'<option value="{text(value)}">{text(words)}</option>' for value, words in rows)
    return f'<label class="choose"><span>{label}</span><select{more}>{options}</select></label>'

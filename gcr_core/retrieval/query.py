"""Query: what a memory is asked, checked against its limits before any model is loaded."""

import unicodedata
from dataclasses import dataclass

from PIL import Image

from gcr_core.data.metadata import checked_album
from gcr_core.errors import InputError

MAX_QUERY_CHARACTERS = 1_000
MAX_TOP = 100
MAX_BEAMS = 1_000
MAX_BEAMS_TOGETHER = 2_048
"""The most beams of all queries that are searched together."""
DEFAULT_TOP = 10
DEFAULT_BEAMS = 10


@dataclass(frozen=True)
class SearchRequest:
    """One query, and how it is to be answered. Can be sent to another process.

    Raises InputError for a text as `cleaned` does, for a `top` or `beams` outside its limits, and for an `album` that
    can be none's name.
    """

    query: str | Image.Image
    """A text, which is cleaned, or a picture."""
    top: int = DEFAULT_TOP
    """The most images that each engine gives."""
    beams: int = DEFAULT_BEAMS
    """The beam width; the generative engine answers with no more images."""
    trace: bool = False
    """Whether the answer holds the beams of each step."""
    album: str = ""
    """The album that both engines are restricted to; "" for all images."""

    def __post_init__(self) -> None:
        check_limits(self.top, self.beams)
        try:
            object.__setattr__(self, "album", checked_album(self.album))
        except ValueError as error:
            raise InputError(f"the query {error}") from error
        if not isinstance(self.query, Image.Image):
            object.__setattr__(self, "query", cleaned(self.query))

    @property
    def alike(self) -> tuple[bool, int, bool, str]:
        """What those requests have in common that are answered in one batch, each as fast as the others."""
        return isinstance(self.query, str), self.beams, self.trace, self.album


def check_limits(top: int, beams: int) -> None:
    """Raises InputError for a `top` or `beams` outside its limits."""
    for name, value, limit in (("top", top, MAX_TOP), ("beams", beams, MAX_BEAMS)):
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= limit:
            raise InputError(f"{name} is {value!r}, the limits are 1 and {limit:,}: choose a whole number between")


def cleaned(query: str) -> str:
    """The query with every run of white space and control characters as one space.

    Raises InputError for one that is no text, too long or blank.
    """
    if not isinstance(query, str):
        raise InputError(f"the query is {type(query).__name__}, not text: give a string")
    if len(query) > MAX_QUERY_CHARACTERS:
        raise InputError(f"the query has {len(query):,} characters, the limit is {MAX_QUERY_CHARACTERS:,}: shorten it")
    query = " ".join("".join(" " if _is_control(c) else c for c in query).split())
    if all(unicodedata.category(c) == "Cf" for c in query):
        raise InputError("the query is blank: type what the picture shows, in at least one character")
    return query


def foreign(text: str) -> set[str]:
    """The letters, numbers and symbols of a text beyond ASCII, which a tokenizer may have as bytes only."""
    return {character for character in text if ord(character) > 127 and unicodedata.category(character)[0] in "LNS"}


def _is_control(character: str) -> bool:
    """Control characters, line and paragraph separators, and halves of a surrogate pair."""
    return unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")

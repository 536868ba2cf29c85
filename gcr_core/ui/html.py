"""HTML that the tabs have in common: text from outside, headings, notices, times and numbers, a gallery's pictures."""

import html
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gcr_core.data.gallery import Gallery

MOSAIC_PICTURES = 60
"""The most pictures of a mosaic."""
MOSAIC_STRIDE = 7
"""How many places apart in the gallery neighbours in the mosaic are, as a phone shows only its beginning."""
NO_PICTURE = "no-picture.svg"
SERVER_PATH = re.compile(r"(?<![\w:/.])/(?:[^\s/'\"]+/)+([^\s/'\"]*)")
"""An absolute path in a message, and the name at its end; no address of a page is one."""


def text(value: object) -> str:
    """`value` escaped for HTML, and for the JavaScript template that Gradio puts it into."""
    escaped = html.escape(str(value))
    return escaped.translate({ord(c): f"&#{ord(c)};" for c in "{}$`\\"})


@dataclass(frozen=True)
class ShownGallery:
    """A memory's gallery as the page shows it."""

    gallery: "Gallery"
    id: str
    """The id of its memory or gallery: its pictures are at `picture/ID/...`."""
    own: bool = False
    """Whether images can be forgotten."""
    changes: dict[str, int] = field(default_factory=dict)
    """Images "added" and "forgotten" since the memory was trained."""

    def url(self, index: int) -> str:
        """Where the page finds an image, or what stands for one whose picture is not in the memory; changes when the
        file does, so that a browser may keep it."""
        if not self.gallery.has_picture(index):
            return NO_PICTURE
        return f"picture/{self.id}/{index}/{self.gallery.path(index).stat().st_mtime_ns:x}"

    def large_url(self, index: int) -> str:
        """The same of the picture in large, at most as long as the memory keeps it."""
        if not self.gallery.has_picture(index):
            return NO_PICTURE
        file = self.gallery.original(index).stat()
        return f"original/{self.id}/{index}/{file.st_mtime_ns:x}-{file.st_ino:x}"  # files of one moment are told apart

    def name(self, index: int) -> str:
        """The first caption, or the file name of an image without one, which needs no ending beside its picture."""
        captions = self.gallery.captions[index]
        return captions[0] if captions else PurePosixPath(self.gallery.file_names[index]).stem


def mosaic(shown: ShownGallery, most: int = MOSAIC_PICTURES) -> str:
    """Pictures spread evenly over the gallery, of those that are in the memory."""
    images = len(shown.gallery)
    count = min(most, images)
    order = sorted(range(count), key=lambda place: place % MOSAIC_STRIDE)
    picked: Iterable[int] = filter(shown.gallery.has_picture, (place * images // count for place in order))
    pictures = "".join(f'<img src="{shown.url(i)}" alt="" loading="lazy" data-picture="{i}">' for i in picked)
    return f'<div class="mosaic" aria-hidden="true" data-memory="{shown.id}" data-pictures="">{pictures}</div>'


def notice(words: object, kind: str = "", does: str = "") -> str:
    """A line at the foot of the window: what went wrong, or what has been done; it can be dismissed. `does`: a button,
    as HTML."""
    role = "status" if kind == "good" else "alert"
    return (
        f'<div class="notice {kind}"><p role="{role}">{text(without_paths(words))}</p>{does}'
        '<button type="button" data-do="heard" aria-label="Dismiss">×</button></div>'
    )


def without_paths(words: object) -> str:
    """A message with the names at their ends in place of the server's paths, which mean nothing to its reader."""
    return SERVER_PATH.sub(r"\1", str(words))


def duration(seconds: float, about: bool = True) -> str:
    """A time as a person says it."""
    seconds = max(1, round(seconds))
    if seconds < 90:
        words = f"{seconds} s" if seconds < 20 else f"{round(seconds, -1) if about else seconds} s"
    elif seconds < 90 * 60:
        words = f"{round(seconds / 60)} min"
    else:
        words = f"{seconds / 3600:.1f} h"
    return f"about {words}" if about else words


def date(iso: str) -> str:
    """A day as a person writes it, of a moment in ISO 8601; "" for what is none."""
    try:
        moment = datetime.fromisoformat(iso)
    except ValueError:
        return ""
    return f"{moment.day} {moment:%b %Y}"


def size(bytes: int) -> str:
    """Bytes as a person says them."""
    for unit, least in (("GB", 1e9), ("MB", 1e6)):
        if bytes >= least:
            return f"{bytes / least:.{1 if bytes < 10 * least else 0}f} {unit}"
    return f"{max(1, round(bytes / 1e3))} KB"


def is_share(value: object) -> bool:
    """Whether it is a share in [0, 1]: a report can be a stranger's."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1


def percent(share: float) -> str:
    """A share in per cent; only all is 100 %."""
    return f"{share:.0%}" if share >= 1 or share < 0.99 else f"{math.floor(share * 1000) / 10:.1f}%"


def heading(number: int, words: str) -> str:
    return f'<h2 class="step-of"><span aria-hidden="true">{number}</span>{words}</h2>'


def count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"

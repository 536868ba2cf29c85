"""Search view: what the tab shows, as HTML: two aligned galleries of cards, messages, the state.

Functions from an answer (the object of `recall --json`) to a string. Text from outside goes through `html.text`.
"""

import json
import math
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from PIL import Image

from gcr_core.data.pictures import THUMBNAIL_SIDE
from gcr_core.ui.html import ShownGallery, text
from gcr_core.ui.take_along import take_along
from gcr_core.ui.trace_view import percent, trace

LARGE = 2
"""How many cards of a side are larger than the others."""
SHARE = '<button type="button" class="share" data-share>Share</button>'
"""Copies the address of an answer; a picture that was asked with has none."""
WRITTEN = "written by the model: "
STAR = '<span class="written" aria-hidden="true">✦</span>'
MARK = f'{STAR}<span class="sr">{WRITTEN}</span>'
"""Stands before captions that the model wrote."""

SIDES = {"generative": ("Recalled from memory", "from memory"), "dense": ("CLIP + FAISS", "by CLIP")}
"""Answer key → heading, and how the other side's cards refer to it."""
DOUBTS = {"nothing": "Nothing here seems to match.", "unsure": "Not sure."}
"""What is said of a side's answer, by the verdict on it."""
SHOWN = {"nothing": 0, "unsure": 4}
"""How many of its cards are shown then; the others are folded."""


def results(
    answer: dict[str, Any],
    shown: ShownGallery,
    engines: dict[str, str],
    asked: dict[str, Any],
    picture: tuple[str, str] | None = None,
    said: dict[str, str] | None = None,
    doubts: dict[str, str] | None = None,
) -> str:
    """Both sides, card beside card, and the details. `engines` says in words how each side works; `asked` are the
    arguments of `/search`, `picture` the URL of the picture that was asked with, where it was one, and its name; `said`
    is what the model says of an image, by file name: None where it never learnt to, "" for one that it has not said
    yet. `doubts`: of each side a key of DOUBTS, or "" where there is none."""
    ranks = {side: {hit["file_name"]: hit["rank"] for hit in answer[side]} for side in SIDES}
    both = ranks["generative"].keys() & ranks["dense"].keys()
    most = max(len(hits) for hits in ranks.values())
    question, share = f"“{text(answer['query'])}”", SHARE
    if picture:
        question, share = f'<img class="asked" src="{text(picture[0])}" alt=""> {text(picture[1])}', ""
    found = f"{len(both)} of {most} found by both" if both else "nothing found by both"
    if doubts and all(doubts.get(side) == "nothing" for side in SIDES):
        found = ""  # of weak hits, which are folded
    sides = "".join(
        _side(
            side,
            answer,
            shown,
            ranks["dense" if side == "generative" else "generative"],
            engines[side],
            said,
            doubts or {},
        )
        for side in SIDES
    )
    return (
        f'<div class="results" data-memory="{text(shown.id)}" '
        f'data-found="{text(json.dumps(found_of(answer, said or {})))}">'
        f'<header class="asked-for"><h2>{question}</h2>{share}<p class="agreement" role="status">{found}</p></header>'
        f'{_switch()}<div class="sides">{sides}</div>{trace(answer, shown)}{take_along(answer, asked)}</div>'
    )


def found_of(answer: dict[str, Any], said: dict[str, str]) -> dict[str, dict[str, Any]]:
    """What an answer says of its images, for the lightbox, by file name: {"sides": [heading, words], "identifier" and
    "said" where they are known}."""
    found: dict[str, dict[str, Any]] = {}
    for side in SIDES:
        for hit in answer[side]:
            about = found.setdefault(hit["file_name"], {"sides": []})
            about["sides"].append([SIDES[side][0], f"{ordinal(hit['rank'])}, {_sure(side, hit['score'])[1]}"])
            about |= {"identifier": hit["identifier"]} if "identifier" in hit else {}
            about |= {"said": said[hit["file_name"]]} if said.get(hit["file_name"]) else {}
    return found


def _switch() -> str:
    """On a small screen one side is seen at a time."""
    buttons = "".join(
        f'<button type="button" data-side="{side}" aria-pressed="{"true" if side == "generative" else "false"}">'
        f"{heading}</button>"
        for side, (heading, _) in SIDES.items()
    )
    return f'<div class="switch" role="group" aria-label="Side">{buttons}</div>'


def _side(
    side: str,
    answer: dict[str, Any],
    shown: ShownGallery,
    elsewhere: dict[str, int],
    engine: str,
    said: dict[str, str] | None,
    doubts: dict[str, str],
) -> str:
    heading, _ = SIDES[side]
    whose = ""
    if side in (match := answer.get("match", {})):
        whose = f"; the first is right with a probability of {text(percent(match[side]))}"
    if side == "generative" and any((said or {}).values()):
        whose += "; <i>in quotes</i> what the model says of an image, from its identifier alone"
    images = [shown.gallery.index(hit["file_name"]) for hit in answer[side]]
    if any(shown.name(image) in shown.gallery.pseudo_queries[image] for image in images):
        whose += f"; {STAR}captions that the model wrote"
    cards = [_card(side, hit, shown, elsewhere.get(hit["file_name"]), said) for hit in answer[side]]
    return (
        f'<section class="side {side}" aria-label="{heading}"><h3>{heading}</h3>{_doubt(doubts, side)}'
        f'<div data-pictures="{heading}">{_folded(cards, SHOWN.get(doubts.get(side, ""), len(cards)))}</div>'
        f'<p class="engine"><b>{answer["latency_ms"][side]:.0f} ms</b> {text(engine)}{whose}</p></section>'
    )


def _doubt(doubts: dict[str, str], side: str) -> str:
    """What is said of an answer that may be none; as much room where only the other side's is in doubt."""
    words = DOUBTS.get(doubts.get(side, ""), "")
    return f'<p class="doubt" role="status">{words}</p>' if any(doubts.values()) else ""


def _folded(cards: list[str], count: int) -> str:
    """The first cards, and the others behind a line that unfolds them."""
    first, others = cards[:count], cards[count:]
    shown = f'<ol class="cards">{"".join(first)}</ol>' if first else ""
    if not others:
        return shown
    return (
        f'{shown}<details class="weaker"><summary>{len(others)} weaker</summary>'
        f'<ol class="cards">{"".join(others)}</ol></details>'
    )


def _card(
    side: str, hit: dict[str, Any], shown: ShownGallery, rank_elsewhere: int | None, said: dict[str, str] | None
) -> str:
    index = shown.gallery.index(hit["file_name"])
    name, written = shown.name(index), shown.gallery.pseudo_queries[index]
    captions = shown.gallery.captions[index] or [name]
    there = SIDES["dense" if side == "generative" else "generative"][1]
    twin = f'<span class="sr">also found, </span>{ordinal(rank_elsewhere)} {there}' if rank_elsewhere else ""
    kind = " both" * bool(rank_elsewhere) + " large" * (hit["rank"] <= LARGE)
    forget = _forget(shown, index, name) if shown.own else ""
    return (
        f'<li class="card{kind}" data-image="{index}"><p class="rank"><span class="sr">rank </span>{hit["rank"]}</p>'
        f'<button type="button" class="picture{" whole" * is_small(shown, index)}" data-picture="{index}">'
        f'<img src="{shown.url(index)}"{_sharper(shown, index, hit["rank"])} alt="{text(name)}"></button>{forget}'
        f'<div class="label"><p class="name" title="{_marked(captions, written)}">{_marked([name], written, MARK)}</p>'
        f'{_said(side, said, hit["file_name"])}{_score(side, hit["score"])}<p class="twin">{twin}</p></div></li>'
    )


def _sharper(shown: ShownGallery, index: int, rank: int) -> str:
    """Where a large card has the picture in more pixels than its thumbnail's, for the browser to choose from."""
    gallery = shown.gallery
    if rank > LARGE or is_small(shown, index) or gallery.original(index) == gallery.path(index):
        return ""
    sizes = "(max-width: 640px) 100vw, 300px"
    return f' srcset="{shown.url(index)} 256w, {shown.large_url(index)} 1600w" sizes="{sizes}"'


def _sure(side: str, score: float) -> tuple[str, str, float]:
    """How sure a side is: in a word, in full, as the share of a bar. Words and pictures are seldom near each other: the
    root keeps small cosines apart, and only one of 1 fills the bar."""
    if side == "dense":
        return number(score, 2), f"cosine {number(score, 3)}", math.sqrt(min(1.0, max(0.0, score)))
    probability = math.exp(min(0.0, score))
    return percent(probability), f"{percent(probability)}, log p {number(score, 2)}", probability


def _score(side: str, score: float) -> str:
    words, full, share = _sure(side, score)
    return f'<p class="score" style="--share:{share:.3f}" title="{text(full)}"><b>{text(words)}</b></p>'


def is_small(shown: ShownGallery, index: int) -> bool:
    """Whether a picture is shown whole, on a plate: drawings, which are small or transparent, and a missing one.
    A photograph fills its card."""
    if not shown.gallery.has_picture(index):
        return True
    path = shown.gallery.thumbnail(index)
    return _is_small(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=16_384)
def _is_small(path: Path, changed: int) -> bool:
    try:
        with Image.open(path) as picture:
            return max(picture.size) < THUMBNAIL_SIDE or picture.has_transparency_data
    except (OSError, Image.DecompressionBombError):
        return True


def ordinal(number: int) -> str:
    """1 → "1st"."""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def _marked(captions: list[str], written: list[str], mark: str = WRITTEN) -> str:
    """Captions in a row, those that the model wrote behind the others and behind a mark."""
    people = text(", ".join(caption for caption in captions if caption not in written))
    model = text(", ".join(caption for caption in captions if caption in written))
    return ", ".join(filter(None, (people, model and mark + model)))


def _said(side: str, said: dict[str, str] | None, file_name: str) -> str:
    """The model's own words for an image, which it says without seeing it; as much room on the other side."""
    if said is None:
        return ""
    words = said.get(file_name, "") if side == "generative" else ""
    if not words:
        return '<p class="said"></p>'
    return (
        f'<p class="said" title="The model’s own words, said from the identifier alone: {text(words)}">'
        f'<span class="sr">the model says: </span>“{text(words)}”</p>'
    )


def _forget(shown: ShownGallery, index: int, name: str) -> str:
    return (
        f'<button type="button" class="forget" data-forget="{text(shown.gallery.file_names[index])}" '
        f'data-name="{text(name)}" aria-label="Forget {text(name)}" title="Forget this picture">×</button>'
    )


def number(score: float, decimals: int) -> str:
    return f"{score:z.{decimals}f}".replace("-", "−")


def message(words: object) -> str:
    """A mistake and its remedy, where the results would be."""
    return f'<div class="message" role="alert"><p>{text(words)}</p></div>'


def waiting() -> str:
    """Where the results will be, for a query that came before the memory was ready."""
    kinds = [" large" * (place < LARGE) for place in range(LARGE + 4)]
    cards = "".join(f'<li class="card{kind}"><div class="picture"></div></li>' for kind in kinds)
    sides = "".join(
        f'<section class="side {side}"><h3>{heading}</h3><ol class="cards">{cards}</ol></section>'
        for side, (heading, _) in SIDES.items()
    )
    return (
        '<div class="results waiting" role="status"><header class="asked-for"><h2>Waking the memory…</h2>'
        f'<p class="agreement">your query goes first</p></header><div class="sides">{sides}</div></div>'
    )


def state(kind: str, words: str) -> str:
    """The line that says whether the memory is awake: `kind` is waking, ready or failed."""
    return f'<p class="state {kind}" role="status"><span class="dot"></span>{text(words)}</p>'


def uploaded_url(path: str) -> str:
    """Where the page finds a picture that was dropped into the box."""
    return f"gradio_api/file={quote(path)}"

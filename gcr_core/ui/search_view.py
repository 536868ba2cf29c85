"""Search view: what the tab shows, as HTML: two aligned galleries of cards, a third of both, messages, the state.

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
"""How many cards of a side are larger than the others; those of both together are alike."""
SHARE = '<button type="button" class="share" data-share>Share</button>'
"""Copies the address of an answer; a picture that was asked with has none."""
WRITTEN = "written by the model: "
STAR = '<span class="written" aria-hidden="true">✦</span>'
MARK = f'{STAR}<span class="sr">{WRITTEN}</span>'
"""Stands before captions that the model wrote."""

SIDES = {"generative": ("Recalled from memory", "from memory"), "dense": ("CLIP + FAISS", "by CLIP")}
"""Answer key → heading, and how the other side's cards refer to it."""
SHORT = {"generative": "memory", "dense": "CLIP"}
"""How the cards of both together refer to them."""
TOGETHER = "Both together"
"""The heading of the third gallery, which an answer has where the memory reranks."""
HEADINGS = {side: heading for side, (heading, _) in SIDES.items()} | {"together": TOGETHER}
RERANKED = '<small title="Ordered by the model, then by the words of the captions">reranked by captions</small>'
DOUBTS = {"nothing": "Nothing here seems to match.", "unsure": "Not sure."}
"""What is said of a side's answer, by the verdict on it."""
SHOWN = {"": None, "unsure": 4, "nothing": 0}
"""How many of its cards are shown then, the others are folded: the surer, the more."""


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
    lists, doubts = listed(answer), dict(doubts or {})
    if doubts and "together" in lists:  # it has the better of both
        doubts["together"] = min(doubts.values(), key=list(SHOWN).index) if len(doubts) == len(SIDES) else ""
    ranks = {side: {hit["file_name"]: hit["rank"] for hit in lists[side]} for side in SIDES}
    both = ranks["generative"].keys() & ranks["dense"].keys()
    most = max(len(hits) for hits in ranks.values())
    question, share = f"“{text(answer['query'])}”", SHARE
    if picture:
        question, share = f'<img class="asked" src="{text(picture[0])}" alt=""> {text(picture[1])}', ""
    found = f"{len(both)} of {most} found by both" if both else "nothing found by both"
    if doubts and all(doubts.get(side) == "nothing" for side in SIDES):
        found = ""  # of weak hits, which are folded
    sides = "".join(
        _side(side, hits, answer, shown, ranks, engines[side], said, doubts) for side, hits in lists.items()
    )
    return (
        f'<div class="results" data-memory="{text(shown.id)}" '
        f'data-found="{text(json.dumps(found_of(answer, said or {})))}">'
        f'<header class="asked-for"><h2>{question}</h2>{share}{_switch(list(lists))}'
        f'<p class="agreement" role="status">{found}</p></header><div class="sides">{sides}</div>'
        f"{trace(answer, shown)}{take_along(answer, asked)}</div>"
    )


def listed(answer: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Side → its images as they are shown: what is recalled is reranked where the memory does that."""
    sides = {"generative": answer.get("reranked", answer["generative"]), "dense": answer["dense"]}
    return sides | ({"together": answer["together"]} if "together" in answer else {})


def found_of(answer: dict[str, Any], said: dict[str, str]) -> dict[str, dict[str, Any]]:
    """What an answer says of its images, for the lightbox, by file name: {"sides": [heading, words], "identifier" and
    "said" where they are known}."""
    found: dict[str, dict[str, Any]] = {}
    for side, hits in listed(answer).items():
        for hit in hits:
            about = found.setdefault(hit["file_name"], {"sides": []})
            about["sides"].append([HEADINGS[side], f"{ordinal(hit['rank'])}, {_sure(side, hit['score'])[1]}"])
            about |= {"identifier": hit["identifier"]} if "identifier" in hit else {}
            about |= {"said": said[hit["file_name"]]} if said.get(hit["file_name"]) else {}
    return found


def _switch(sides: list[str]) -> str:
    """On a small screen one side is seen at a time; on a large one both, or the third gallery."""
    wide = {"generative": "Side by side", "together": TOGETHER}
    narrow = HEADINGS | ({"generative": "From memory"} if "together" in sides else {})
    buttons = "".join(
        f'<button type="button" data-side="{side}" aria-pressed="{"true" if side == "generative" else "false"}">'
        f'<span class="narrow">{narrow[side]}</span><span class="wide">{wide.get(side, "")}</span></button>'
        for side in sides
    )
    return f'<div class="switch of-{len(sides)}" role="group" aria-label="Side">{buttons}</div>'


def _side(
    side: str,
    hits: list[dict[str, Any]],
    answer: dict[str, Any],
    shown: ShownGallery,
    ranks: dict[str, dict[str, int]],
    engine: str,
    said: dict[str, str] | None,
    doubts: dict[str, str],
) -> str:
    heading, reranked = HEADINGS[side], side == "generative" and "reranked" in answer
    whose = "; reranked by the words of the captions" if reranked else ""
    match = answer.get("match", {}).get(side)
    if match is not None and hits and hits[0]["file_name"] == answer[side][0]["file_name"]:  # of the side's own first
        whose += f"; the first is right with a probability of {text(percent(match))}"
    if side != "dense" and any((said or {}).values()):
        whose += "; <i>in quotes</i> what the model says of an image, from its identifier alone"
    images = [shown.gallery.index(hit["file_name"]) for hit in hits]
    if any(shown.name(image) in shown.gallery.pseudo_queries[image] for image in images):
        whose += f"; {STAR}captions that the model wrote"
    cards = [_card(side, hit, shown, _twin(side, hit["file_name"], ranks), said) for hit in hits]
    took = answer["latency_ms"]["reranked" if reranked else side]
    return (
        f'<section class="side {side}" aria-label="{heading}"><h3>{heading} {RERANKED * reranked}</h3>'
        f"{_doubt(doubts, side)}"
        f'<div data-pictures="{heading}">{_folded(cards, SHOWN[doubts.get(side, "")])}</div>'
        f'<p class="engine"><b>{took:.0f} ms</b> {text(engine)}{whose}</p></section>'
    )


def _twin(side: str, file_name: str, ranks: dict[str, dict[str, int]]) -> str:
    """Where else an image was found, as HTML; "" for nowhere."""
    others = {name: ranks[name][file_name] for name in SIDES if name != side and file_name in ranks[name]}
    if side == "together":
        return ", ".join(f"{SHORT[name]} {ordinal(rank)}" for name, rank in others.items())
    return "".join(
        f'<span class="sr">also found, </span>{ordinal(rank)} {SIDES[name][1]}' for name, rank in others.items()
    )


def _doubt(doubts: dict[str, str], side: str) -> str:
    """What is said of an answer that may be none; as much room where only the other side's is in doubt."""
    words = DOUBTS.get(doubts.get(side, ""), "")
    return f'<p class="doubt" role="status">{words}</p>' if any(doubts.values()) else ""


def _folded(cards: list[str], count: int | None) -> str:
    """The first cards, or all, and the others behind a line that unfolds them."""
    count = len(cards) if count is None else count
    first, others = cards[:count], cards[count:]
    shown = f'<ol class="cards">{"".join(first)}</ol>' if first else ""
    if not others:
        return shown
    return (
        f'{shown}<details class="weaker"><summary>{len(others)} weaker</summary>'
        f'<ol class="cards">{"".join(others)}</ol></details>'
    )


def _card(side: str, hit: dict[str, Any], shown: ShownGallery, twin: str, said: dict[str, str] | None) -> str:
    index = shown.gallery.index(hit["file_name"])
    name, written = shown.name(index), shown.gallery.pseudo_queries[index]
    captions = shown.gallery.captions[index] or [name]
    kind = " both" * bool(twin) + " large" * (side in SIDES and hit["rank"] <= LARGE)
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
    words = said.get(file_name, "") if side != "dense" else ""
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

"""What the Search tab shows, as HTML: two aligned galleries of cards, the beam trace, messages, the state.

Functions from an answer (the object of `recall --json`) to a string. Text from outside goes through `text`.
"""

import html
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from gcr_core.gallery import Gallery

TRACE_ROWS = 12
"""Beams shown for a step of the trace; the rest are counted."""
MOSAIC_PICTURES = 60

SIDES = {
    "generative": ("Recalled from memory", "memory", "log p"),
    "dense": ("CLIP + FAISS", "index", "cosine"),
}
"""Answer key → heading, the word by which the other side's cards refer to it, name of its score."""


def text(value: object) -> str:
    """`value` escaped for HTML, and for the JavaScript template that Gradio puts it into."""
    escaped = html.escape(str(value))
    return escaped.translate({ord(c): f"&#{ord(c)};" for c in "{}$`\\"})


def picture_url(gallery: "Gallery", index: int) -> str:
    """Where the page finds an image; changes when the file does, so that a browser may keep it."""
    return f"picture/{index}/{gallery.path(index).stat().st_mtime_ns:x}"


def caption(gallery: "Gallery", index: int) -> str:
    """The first caption, or the file name of an image without one."""
    return gallery.captions[index][0] if gallery.captions[index] else gallery.file_names[index]


def results(answer: dict[str, Any], gallery: "Gallery", engines: dict[str, str], asked: str | None = None) -> str:
    """Both sides, card beside card, and the trace. `engines` says in words how each side works; `asked` is
    the URL of the picture that was asked with, where it was one."""
    ranks = {side: {hit["file_name"]: hit["rank"] for hit in answer[side]} for side in SIDES}
    both = ranks["generative"].keys() & ranks["dense"].keys()
    shown = max(len(hits) for hits in ranks.values())
    question = f'<img class="asked" src="{text(asked)}" alt=""> your picture' if asked else f"“{text(answer['query'])}”"
    found = f"{len(both)} of {shown} found by both" if both else "nothing found by both"
    sides = "".join(
        _side(side, answer, gallery, ranks["dense" if side == "generative" else "generative"], engines[side])
        for side in SIDES
    )
    return (
        f'<div class="results"><header class="asked-for"><h2>{question}</h2>'
        f'<p class="agreement">{found}</p></header>'
        f'<div class="sides">{sides}</div>{_trace(answer, gallery)}</div>'
    )


def _side(side: str, answer: dict[str, Any], gallery: "Gallery", elsewhere: dict[str, int], engine: str) -> str:
    heading, _, _ = SIDES[side]
    cards = "".join(_card(side, hit, gallery, elsewhere.get(hit["file_name"])) for hit in answer[side])
    return (
        f'<section class="side {side}" aria-label="{heading}"><h3>{heading}</h3>'
        f'<ol class="cards">{cards}</ol>'
        f'<p class="engine"><b>{answer["latency_ms"][side]:.0f} ms</b> {text(engine)}</p></section>'
    )


def _card(side: str, hit: dict[str, Any], gallery: "Gallery", rank_elsewhere: int | None) -> str:
    index = gallery.index(hit["file_name"])
    name, others = caption(gallery, index), ", ".join(gallery.captions[index][1:])
    other_heading, other_word, _ = SIDES["dense" if side == "generative" else "generative"]
    score_name = SIDES[side][2]
    share = math.exp(min(0.0, hit["score"])) if side == "generative" else max(0.0, hit["score"])
    mark = (
        f'<span class="twin" title="{other_heading} ranks it {rank_elsewhere}">'
        f'<span class="sr">also found by {other_heading}, rank </span>{other_word} #{rank_elsewhere}</span>'
        if rank_elsewhere
        else ""
    )
    return (
        f'<li class="card{" both" if rank_elsewhere else ""}" data-image="{index}">'
        f'<p class="place"><span class="rank"><span class="sr">rank </span>{hit["rank"]}</span>{mark}</p>'
        f'<div class="picture"><img src="{picture_url(gallery, index)}" alt="{text(name)}"></div>'
        f'<div class="label"><p class="name" title="{text(name)}">{text(name)}</p>'
        f'<p class="more" title="{text(others)}">{text(others)}</p>'
        f'<p class="score" style="--share:{min(1.0, share):.3f}">{score_name} '
        f"<b>{_number(hit['score'])}</b></p></div></li>"
    )


def _number(score: float) -> str:
    return f"{score:.2f}".replace("-", "−")


def _trace(answer: dict[str, Any], gallery: "Gallery") -> str:
    steps = answer.get("trace") or []
    if not steps:
        return ""
    images = {hit["identifier"]: gallery.index(hit["file_name"]) for hit in answer["generative"]}
    columns = "".join(_step(number, beams, images, gallery) for number, beams in enumerate(steps, 1))
    count = f"{len(steps)} step{'s' if len(steps) > 1 else ''}"
    return (
        f'<details class="trace"><summary>How it was recalled <small>{count}, beam by beam</small></summary>'
        f"<p>At each step every beam grows by one token of an identifier; only tokens that lead to an image "
        f"of the gallery are allowed. The bar is the probability of the identifier so far.</p>"
        f'<div class="steps" tabindex="0" role="group" aria-label="steps of the beam search">{columns}</div>'
        f"</details>"
    )


def _step(number: int, beams: list[dict[str, Any]], images: dict[str, int], gallery: "Gallery") -> str:
    rows = "".join(_beam(beam, images.get(beam["identifier"]), gallery) for beam in beams[:TRACE_ROWS])
    rest = len(beams) - TRACE_ROWS
    more = f'<p class="rest">and {rest:,} more</p>' if rest > 0 else ""
    return f'<section class="step"><h4>Step {number}</h4><ol>{rows}</ol>{more}</section>'


def _beam(beam: dict[str, Any], index: int | None, gallery: "Gallery") -> str:
    if index is None:
        reach = f"{beam['images']:,} image{'' if beam['images'] == 1 else 's'}"
    else:
        reach = f'<img src="{picture_url(gallery, index)}" alt=""> {text(caption(gallery, index))}'
    return (
        f'<li style="--share:{beam["probability"]:.4f}"><code>{text(beam["identifier"])}</code>'
        f'<b>{beam["probability"]:.1%}</b><span class="reach">{reach}</span></li>'
    )


def message(words: object) -> str:
    """A mistake and its remedy, where the results would be."""
    return f'<div class="message" role="alert"><p>{text(words)}</p></div>'


def waiting() -> str:
    """Where the results will be, for a query that came before the memory was ready."""
    cards = '<li class="card"><div class="picture"></div></li>' * 5
    sides = "".join(
        f'<section class="side {side}"><h3>{heading}</h3><ol class="cards">{cards}</ol></section>'
        for side, (heading, _, _) in SIDES.items()
    )
    return (
        '<div class="results waiting" role="status"><header class="asked-for"><h2>Waking the memory…</h2>'
        f'<p class="agreement">your query goes first</p></header><div class="sides">{sides}</div></div>'
    )


def mosaic(gallery: "Gallery") -> str:
    """Before the first query: pictures spread evenly over the gallery."""
    count = min(MOSAIC_PICTURES, len(gallery))
    picked: Iterable[int] = (i * len(gallery) // count for i in range(count))
    pictures = "".join(f'<img src="{picture_url(gallery, i)}" alt="" loading="lazy">' for i in picked)
    return f'<div class="mosaic" aria-hidden="true">{pictures}</div>'


def state(kind: str, words: str) -> str:
    """The line that says whether the memory is awake: `kind` is waking, ready or failed."""
    return f'<p class="state {kind}" role="status"><span class="dot"></span>{text(words)}</p>'


def uploaded_url(path: str) -> str:
    """Where the page finds a picture that was dropped into the box."""
    return f"gradio_api/file={quote(path)}"

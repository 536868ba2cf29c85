"""Search view: what the tab shows, as HTML: two aligned galleries of cards, the beam trace, messages, the state.

Functions from an answer (the object of `recall --json`) to a string. Text from outside goes through `html.text`.
"""

import math
from typing import Any
from urllib.parse import quote

from gcr_core.ui.html import Album, text

TRACE_ROWS = 12
"""How many beams are shown for a step of the trace; the rest are counted."""
WRITTEN = "written by the model: "
STAR = '<span class="written" aria-hidden="true">✦</span>'
MARK = f'{STAR}<span class="sr">{WRITTEN}</span>'
"""Stands before captions that the model wrote."""

SIDES = {
    "generative": ("Recalled from memory", "memory", "log p"),
    "dense": ("CLIP + FAISS", "index", "cosine"),
}
"""Answer key → heading, the word by which the other side's cards refer to it, name of its score."""


def results(
    answer: dict[str, Any],
    album: Album,
    engines: dict[str, str],
    asked: str | None = None,
    said: dict[str, str] | None = None,
) -> str:
    """Both sides, card beside card, and the trace. `engines` says in words how each side works; `asked` is
    the URL of the picture that was asked with, where it was one; `said` is what the model says of an image, by
    file name: None where it never learnt to, "" for one that it has not said yet."""
    ranks = {side: {hit["file_name"]: hit["rank"] for hit in answer[side]} for side in SIDES}
    both = ranks["generative"].keys() & ranks["dense"].keys()
    shown = max(len(hits) for hits in ranks.values())
    question = f'<img class="asked" src="{text(asked)}" alt=""> your picture' if asked else f"“{text(answer['query'])}”"
    found = f"{len(both)} of {shown} found by both" if both else "nothing found by both"
    sides = "".join(
        _side(side, answer, album, ranks["dense" if side == "generative" else "generative"], engines[side], said)
        for side in SIDES
    )
    return (
        f'<div class="results"><header class="asked-for"><h2>{question}</h2>'
        f'<p class="agreement" role="status">{found}</p></header>'
        f'<div class="sides">{sides}</div>{_trace(answer, album)}</div>'
    )


def _side(
    side: str,
    answer: dict[str, Any],
    album: Album,
    elsewhere: dict[str, int],
    engine: str,
    said: dict[str, str] | None,
) -> str:
    heading, _, _ = SIDES[side]
    whose = ""
    if side == "generative" and said is not None:
        whose = "; <i>in quotes</i> what the model says of an image, from its identifier alone"
    if any(album.gallery.pseudo_queries[album.gallery.index(hit["file_name"])] for hit in answer[side]):
        whose += f"; {STAR}captions that the model wrote"
    cards = "".join(_card(side, hit, album, elsewhere.get(hit["file_name"]), said) for hit in answer[side])
    return (
        f'<section class="side {side}" aria-label="{heading}"><h3>{heading}</h3>'
        f'<ol class="cards">{cards}</ol>'
        f'<p class="engine"><b>{answer["latency_ms"][side]:.0f} ms</b> {text(engine)}{whose}</p></section>'
    )


def _card(side: str, hit: dict[str, Any], album: Album, rank_elsewhere: int | None, said: dict[str, str] | None) -> str:
    index = album.gallery.index(hit["file_name"])
    name, others = album.name(index), album.gallery.captions[index][1:]
    written = album.gallery.pseudo_queries[index]
    other_heading, other_word, _ = SIDES["dense" if side == "generative" else "generative"]
    score_name = SIDES[side][2]
    share = math.exp(min(0.0, hit["score"])) if side == "generative" else max(0.0, hit["score"])
    mark = (
        f'<span class="twin" title="{other_heading} ranks it {rank_elsewhere}">'
        f'<span class="sr">also found by {other_heading}, rank </span>{other_word} #{rank_elsewhere}</span>'
        if rank_elsewhere
        else ""
    )
    forget = _forget(album, index, name) if album.own else ""
    return (
        f'<li class="card{" both" if rank_elsewhere else ""}" data-image="{index}">'
        f'<p class="place"><span class="rank"><span class="sr">rank </span>{hit["rank"]}</span>{mark}</p>'
        f'<div class="picture"><img src="{album.url(index)}" alt="{text(name)}">{forget}</div>'
        f'<div class="label"><p class="name" title="{_marked([name], written)}">{_marked([name], written, MARK)}</p>'
        f'<p class="more" title="{_marked(others, written)}">{_marked(others, written, MARK)}</p>'
        f"{_said(side, said, hit['file_name'])}"
        f'<p class="score" style="--share:{min(1.0, share):.3f}">{score_name} '
        f"<b>{_number(hit['score'])}</b></p></div></li>"
    )


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


def _forget(album: Album, index: int, name: str) -> str:
    return (
        f'<button type="button" class="forget" data-do="forget" data-memory="{album.id}" '
        f'data-file="{text(album.gallery.file_names[index])}" data-ask="sure" data-verb="Forget" '
        f'data-words="Forget “{text(name)}”? This memory never recalls it again." '
        f'aria-label="Forget {text(name)}" title="Forget this picture">×</button>'
    )


def _number(score: float) -> str:
    return f"{score:z.2f}".replace("-", "−")


def _trace(answer: dict[str, Any], album: Album) -> str:
    steps = answer.get("trace") or []
    if not steps:
        return ""
    images = {hit["identifier"]: album.gallery.index(hit["file_name"]) for hit in answer["generative"]}
    columns = "".join(_step(number, beams, images, album) for number, beams in enumerate(steps, 1))
    count = f"{len(steps)} step{'s' if len(steps) > 1 else ''}"
    return (
        f'<details class="trace"><summary>How it was recalled <small>{count}, beam by beam</small></summary>'
        f"<p>At each step every beam grows by one token of an identifier; only tokens that lead to an image "
        f"of the gallery are allowed. The bar is the probability of the identifier so far.</p>"
        f'<div class="steps" tabindex="0" role="group" aria-label="steps of the beam search">{columns}</div>'
        f"</details>"
    )


def _step(number: int, beams: list[dict[str, Any]], images: dict[str, int], album: Album) -> str:
    rows = "".join(_beam(beam, images.get(beam["identifier"]), album) for beam in beams[:TRACE_ROWS])
    rest = len(beams) - TRACE_ROWS
    more = f'<p class="rest">and {rest:,} more</p>' if rest > 0 else ""
    return f'<section class="step"><h4>Step {number}</h4><ol>{rows}</ol>{more}</section>'


def _beam(beam: dict[str, Any], index: int | None, album: Album) -> str:
    if index is None:
        reach = f"{beam['images']:,} image{'' if beam['images'] == 1 else 's'}"
    else:
        reach = f'<img src="{album.url(index)}" alt=""> {text(album.name(index))}'
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


def state(kind: str, words: str) -> str:
    """The line that says whether the memory is awake: `kind` is waking, ready or failed."""
    return f'<p class="state {kind}" role="status"><span class="dot"></span>{text(words)}</p>'


def uploaded_url(path: str) -> str:
    """Where the page finds a picture that was dropped into the box."""
    return f"gradio_api/file={quote(path)}"

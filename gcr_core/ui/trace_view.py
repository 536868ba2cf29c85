"""Trace view: how the identifiers of an answer were generated, as HTML.

Where identifiers are one token each, a list of the likeliest images; where they are longer, the prefixes that survived
beam search as a tree, from the first token to the picture.
"""

from collections.abc import Iterable
from typing import Any

from gcr_core.ui.html import ShownGallery, count, text

ROWS = 12
"""How many prefixes are shown below one; the rest are counted."""
ALMOST_NONE = 0.001
"""Below it a probability is said to be smaller."""

Beam = dict[str, Any]
Children = dict[tuple[int, ...], list[Beam]]


def trace(answer: dict[str, Any], shown: ShownGallery) -> str:
    """The trace of an answer, closed; nothing for an answer without one."""
    steps: list[list[Beam]] = answer.get("trace") or []
    if not steps:
        return ""
    pictures = {hit["identifier"]: shown.gallery.index(hit["file_name"]) for hit in answer["generative"]}
    if len(steps) == 1:
        words = (
            "Each image has an identifier of one token, so the model generated one. The bars are the probabilities of "
            "the likeliest."
        )
    else:
        words = (
            "The model generated identifiers token by token. At each step only tokens that lead to an image are "
            "allowed, and the likeliest prefixes go on. Follow one to its picture: the bar is the probability of the "
            "identifier so far."
        )
    tokens = "1 token" if len(steps) == 1 else f"up to {len(steps)} tokens"
    heading = "How it was recalled"
    return (
        f'<details class="trace" data-pictures="{heading}"><summary>{heading} <small>identifiers of {tokens}</small>'
        "</summary>"
        f"<p>{words}</p>{_list(children(steps), (), '', pictures, shown)}</details>"
    )


def children(steps: Iterable[list[Beam]]) -> Children:
    """The tree of a trace: the tokens of each prefix → the prefixes one token longer, best first."""
    below: Children = {}
    known = set()
    for beam in (beam for step in steps for beam in step):
        tokens = tuple(beam["tokens"])
        if tokens not in known:  # an identifier that has ended stays among the beams
            known.add(tokens)
            below.setdefault(tokens[:-1], []).append(beam)
    return {parent: sorted(beams, key=lambda beam: -beam["probability"]) for parent, beams in below.items()}


def percent(probability: float) -> str:
    """A probability as a percentage that tells small ones apart; only certainty is 100%."""
    if probability < ALMOST_NONE:
        return f"<{ALMOST_NONE:.1%}"
    if probability < 0.1 or 0.99 <= probability < 1:
        return f"{min(probability, 0.999):.1%}"
    return f"{probability:.0%}"


def _list(below: Children, prefix: tuple[int, ...], before: str, pictures: dict[str, int], shown: ShownGallery) -> str:
    """What follows a prefix, whose text is `before`."""
    beams = below.get(prefix, [])
    if not beams:
        return ""
    items = "".join(_item(below, beam, before, pictures, shown) for beam in beams[:ROWS])
    rest = len(beams) - ROWS
    return f"<ol>{items}</ol>" + (f'<p class="rest">and {rest:,} more</p>' if rest > 0 else "")


def _item(below: Children, beam: Beam, before: str, pictures: dict[str, int], shown: ShownGallery) -> str:
    identifier = str(beam["identifier"])
    index = pictures.get(identifier)
    token = identifier.removeprefix(before) or identifier
    share = beam["probability"]
    more = _list(below, tuple(beam["tokens"]), identifier, pictures, shown)
    if index is not None:
        reach = f'<span class="leaf">{_picture(shown, index)}</span>'
    elif more or beam["images"] == 1:
        reach = count(beam["images"], "image")
    else:
        reach = f"{count(beam['images'], 'image')}, followed no further"
    return (
        f'<li><p style="--share:{share:.4f}"><code title="{text(identifier)}">{text(token)}</code>'
        f'<b>{text(percent(share))}</b><span class="reach">{reach}</span></p>{more}</li>'
    )


def _picture(shown: ShownGallery, index: int) -> str:
    return (
        f'<button type="button" data-picture="{index}"><img src="{shown.url(index)}" alt="" loading="lazy">'
        f"<span>{text(shown.name(index))}</span></button>"
    )

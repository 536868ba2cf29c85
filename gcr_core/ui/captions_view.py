"""Captions view: a draft's captions as HTML, the table to type and correct them in, the offer to have them written.

Functions from data to a string, as in `memorize_view`. What a person wrote and what the model wrote stand apart.
"""

import math

from gcr_core.data.gallery import Gallery
from gcr_core.serving.caption_writer import Writing
from gcr_core.training.config import CAPTIONER
from gcr_core.ui.html import count, duration, text

ROWS = 12
"""How many pictures a page of the table has."""
Place = tuple[int, bool]
"""Which page, and whether only pictures without a caption are listed."""
FIRST: Place = (0, False)


def offer(id: str, backbone: str, bare: int, each: int) -> str:
    """The button that lets a backbone write captions for the `bare` pictures that have none."""
    return (
        f'<p class="does offer"><button type="button" data-do="write" data-gallery="{id}">'
        f'Let the model write captions</button><span class="hint">{text(backbone)} writes up to {each} for a picture; '
        f"{count(bare, 'picture')} {'has' if bare == 1 else 'have'} none yet. You can correct them before they are "
        "learnt.</span></p>"
    )


def offer_able(id: str) -> str:
    """The button that chooses a backbone which can describe pictures, in the place of one that cannot."""
    return (
        f'<p class="does offer"><button type="button" data-do="choose" data-which="backbone" data-value="{CAPTIONER}" '
        f'data-gallery="{id}">Choose {CAPTIONER.split("/")[1]}</button><span class="hint">It can write the missing '
        "captions. It is fetched from the hub once, half a gigabyte, and takes longer to train.</span></p>"
    )


def writing(id: str, going: Writing) -> str:
    """While the model writes."""
    if going.waits:
        words = "Waiting until the captions of another gallery are written…"
    elif not going.done:
        words = f"Waking {text(going.name)}…"
    else:
        words = f"Writing captions: {going.done:,} of {count(going.total, 'picture')}"
        words += f", {duration(going.seconds_left)} left" if going.seconds_left else "…"
    return (
        f'<div class="note writing"><p role="status">{words}</p>'
        f'<progress max="{max(1, going.total)}" value="{going.done}" aria-label="captions written"></progress>'
        f'<p class="does"><button type="button" data-do="hush" data-gallery="{id}">Stop writing</button></p></div>'
    )


def table(id: str, gallery: Gallery, place: Place = FIRST, edition: int = 0) -> str:
    """A page of the pictures with their captions to edit; `edition`: of the edits that the gallery has."""
    page, only = place
    bare = gallery.bare
    listed = bare if only else list(range(len(gallery)))
    pages = max(1, math.ceil(len(listed) / ROWS))
    page = min(max(page, 0), pages - 1)
    here = f'data-gallery="{id}" data-only="{only:d}"'
    rows = "".join(_row(id, gallery, i, f'{here} data-page="{page}"') for i in listed[page * ROWS : (page + 1) * ROWS])
    first, last = page * ROWS + 1, min((page + 1) * ROWS, len(listed))
    shown = f"{first:,} to {last:,} of {len(listed):,}" if listed else "none"

    def step(words: str, to: int, label: str) -> str:
        off = "" if 0 <= to < pages else " disabled"
        return (
            f'<button type="button" class="quiet" data-do="page" {here} data-page="{to}" '
            f'aria-label="{label}"{off}>{words}</button>'
        )

    pager = (
        f'<nav class="pager" aria-label="Pages of the captions">{step("←", page - 1, "Previous pictures")}'
        f"<span>{shown}</span>{step('→', page + 1, 'Next pictures')}</nav>"
        if pages > 1
        else f'<span class="pager">{shown}</span>'
    )
    checked = " checked" if only else ""
    choice = (
        f'<label class="only"><input type="checkbox" data-do="only" data-gallery="{id}"{checked}> '
        f"only those without a caption ({len(bare):,})</label>"
        if bare or only
        else ""
    )
    yours = " What you change of the model’s is yours." if any(gallery.pseudo_queries) else ""
    return (
        f'<div class="table"><div class="bar"><p class="hint">One caption a line; saved as you go.{yours}</p>'
        f'{choice}{pager}</div><ul class="captions" data-edition="{edition}">{rows}</ul></div>'
    )


def _row(id: str, gallery: Gallery, index: int, where: str) -> str:
    name, written = text(gallery.file_names[index]), gallery.pseudo_queries[index]
    theirs = text("\n".join(caption for caption in gallery.captions[index] if caption not in written))
    models = text("\n".join(written))
    corrected = (
        f'<label class="written"><span>written by the model</span>'
        f'<textarea rows="{len(written)}" value="{models}" data-do="caption" data-which="models" '
        f'data-index="{index}" {where} '
        f'aria-label="Captions of {name} written by the model, one a line">{models}</textarea></label>'
        if written
        else ""
    )
    return (
        f'<li><img src="{thumbnail_url(id, gallery, index)}" alt="" loading="lazy"><div><p title="{name}">{name}</p>'
        f'<textarea rows="{1 if written else 2}" value="{theirs}" data-do="caption" '
        f'data-which="own" data-index="{index}" {where} '
        f'aria-label="Captions of {name}, one a line" '
        f'placeholder="{"add a caption of your own" if written else "no caption yet"}">{theirs}</textarea>'
        f"{corrected}</div></li>"
    )


def thumbnail_url(id: str, gallery: Gallery, index: int) -> str:
    """Where the page finds the thumbnail of a picture that waits to be memorised."""
    return f"thumbnail/{id}/{index}/{gallery.path(index).stat().st_mtime_ns:x}"

"""Captions view: a draft's captions as HTML, the table to type and correct them in, the offer to have them written.

Functions from data to a string, as in `memorize_view`. What a person wrote and what the model wrote stand apart.
"""

import math
from pathlib import PurePosixPath
from urllib.parse import quote

from gcr_core.data.gallery import Gallery
from gcr_core.serving.caption_writer import Writing
from gcr_core.training.config import CAPTIONER
from gcr_core.ui.html import count, duration, text

ROWS = 12
"""How many pictures a page of the table has."""
Place = tuple[int, bool]
"""Which page, and whether only pictures without a caption are listed."""
FIRST: Place = (0, False)


def offer(id: str, backbone: str, wanting: int, each: int, eyes: bool = False, wordless: int = 0) -> str:
    """The button that lets a backbone write captions for the `wanting` pictures that have none; `eyes`: as tags. In its
    place, or beside it, of how many others it has been seen that it is `wordless`."""
    none = (
        f'<p class="hint wordless">{text(backbone)} has no words for {count(wordless, "picture")} without a caption: '
        f"type some in to search {'it' if wordless == 1 else 'them'} by.</p>"
        if wordless
        else ""
    )
    if not wanting:
        return none
    what = f"up to {each} words for what it sees in a picture" if eyes else f"up to {each} captions for a picture"
    return (
        f'<p class="does offer"><button type="button" data-do="write" data-gallery="{id}">'
        f'Let the model write captions</button><span class="hint">{text(backbone)} writes {what}, for the '
        f"{count(wanting, 'picture')} without a caption, as far as it has any. You can correct them.</span></p>{none}"
    )


def offer_able(id: str) -> str:
    """The button that chooses a backbone which can describe pictures, in the place of one that cannot."""
    return (
        f'<p class="does offer"><button type="button" data-do="choose" data-which="backbone" data-value="{CAPTIONER}" '
        f'data-gallery="{id}">Use {CAPTIONER.split("/")[1]}</button><span class="hint">This model can write the '
        "missing captions. It is downloaded once, half a gigabyte, and takes longer to train.</span></p>"
    )


def unreachable(id: str, which: str, why: str, instead: str, fixed: bool = False) -> str:
    """Why a model cannot be had, in one line, and the way back to the one that is always here, `instead`."""
    back = (
        f'<button type="button" data-do="choose" data-which="{which}" data-value="{instead}" data-gallery="{id}">'
        f"Use {text(PurePosixPath(instead).name)}</button>"
    )
    return f'<p class="note warning does" role="note"><span>{text(why)}</span>{"" if fixed else back}</p>'


def writing(id: str, going: Writing) -> str:
    """While the model writes."""
    if going.waits:
        words = "Waiting: captions for other pictures are being written first…"
    elif not going.done:
        words = f"Loading {text(going.name)}…"
    else:
        words = f"Writing captions: {going.done:,} of {count(going.total, 'picture')}"
        words += f", {duration(going.seconds_left)} left" if going.seconds_left else "…"
    return (
        f'<div class="note writing"><p role="status">{words}</p>'
        f'<progress max="{max(1, going.total)}" value="{going.done}" aria-label="captions written"></progress>'
        f'<p class="does"><button type="button" data-do="hush" data-gallery="{id}">Stop writing</button></p></div>'
    )


def table(id: str, gallery: Gallery, place: Place = FIRST, edition: int = 0) -> str:
    """A page of the pictures with their captions to edit; `edition`: of the edits that the gallery has.

    Several can be chosen, on one page or on all, for what `_chosen` offers; assets/desk.js keeps which.
    """
    page, only = place
    bare = gallery.bare
    listed = bare if only else list(range(len(gallery)))
    pages = max(1, math.ceil(len(listed) / ROWS))
    page = min(max(page, 0), pages - 1)
    here = f'data-gallery="{id}" data-only="{only:d}"'
    where = f'{here} data-page="{page}"'
    rows = "".join(_row(id, gallery, image, where) for image in listed[page * ROWS : (page + 1) * ROWS])
    first, last = page * ROWS + 1, min((page + 1) * ROWS, len(listed))
    shown = f"{first:,} to {last:,} of {len(listed):,}" if listed else "none"

    def step(words: str, to: int, label: str) -> str:
        off = "" if 0 <= to < pages else " disabled"
        return (
            f'<button type="button" class="quiet" data-do="page" {here} data-page="{to}" '
            f'aria-label="{label}"{off}>{words}</button>'
        )

    def pager(at: str) -> str:
        return (
            f'<nav class="pager" aria-label="Pages of the captions, {at}">{step("←", page - 1, "Previous pictures")}'
            f"<span>{shown}</span>{step('→', page + 1, 'Next pictures')}</nav>"
        )

    above, below = (pager("above"), pager("below")) if pages > 1 else (f'<span class="pager">{shown}</span>', "")
    checked = " checked" if only else ""
    choice = (
        f'<label class="only"><input type="checkbox" data-do="only" data-gallery="{id}"{checked}> '
        "only pictures without a caption</label>"
        if bare or only
        else ""
    )
    yours = " Correct the model’s, and they count as yours." if any(gallery.pseudo_queries) else ""
    return (
        f'<div class="table"><div class="bar"><p class="hint">One caption a line, saved as you type.{yours}</p>'
        f"{choice}{above}</div>{_chosen(where, len(listed))}"
        f'<ul class="captions" data-edition="{edition}">{rows}</ul>{below}</div>'
    )


def _chosen(here: str, listed: int) -> str:
    """What can be done with the pictures that are chosen, of so many `listed`; hidden while none is."""
    return (
        f'<div class="chosen" {here} data-listed="{listed}" role="group" aria-label="The selected pictures" hidden>'
        f'<p class="does"><b role="status"></b><button type="button" class="quiet" data-choose="all">Select all '
        f'{listed:,}</button><button type="button" class="quiet" data-choose="none">Select none</button>'
        '<button type="button" class="quiet" data-choose="out">Remove them</button></p>'
        '<p class="does"><input type="text" maxlength="1000" aria-label="A caption for all the selected pictures" '
        'placeholder="A caption for all of them">'
        '<button type="button" class="primary" data-choose="give">Add it to them</button>'
        '<button type="button" class="quiet" data-choose="take">Take it off them</button></p></div>'
    )


def _row(id: str, gallery: Gallery, index: int, where: str) -> str:
    name, written, album = text(gallery.file_names[index]), gallery.pseudo_queries[index], text(gallery.albums[index])
    theirs = text("\n".join(caption for caption in gallery.captions[index] if caption not in written))
    models = text("\n".join(written))
    corrected = (
        f'<label class="written"><span>written by the model</span>'
        f'<textarea rows="{len(written)}" value="{models}" data-do="caption" data-which="models" '
        f'data-file="{name}" {where} '
        f'aria-label="Captions of {name} written by the model, one a line">{models}</textarea></label>'
        if written
        else ""
    )
    return (
        f'<li><label class="pick"><input type="checkbox" data-pick="{name}" aria-label="Select {name}">'
        f'<img src="{thumbnail_url(id, gallery, index)}" alt="" loading="lazy"></label><div>'
        f'<p title="{name}">{name}</p>'
        + (f'<p class="album" title="Album: {album}"><span class="sr">Album: </span>{album}</p>' if album else "")
        + f'<textarea rows="{1 if written else 2}" value="{theirs}" data-do="caption" '
        f'data-which="own" data-file="{name}" {where} '
        f'aria-label="Captions of {name}, one a line" '
        f'placeholder="{"add a caption of your own" if written else "no caption yet"}">{theirs}</textarea>'
        f'{corrected}</div><button type="button" class="quiet out" data-do="take_out" data-file="{name}" {where} '
        f'aria-label="Remove {name}" title="Remove">×</button></li>'
    )


def thumbnail_url(id: str, gallery: Gallery, index: int) -> str:
    """Where the page finds the thumbnail of a picture that waits to be memorised, by its name: its place changes."""
    name = quote(gallery.file_names[index], safe="")
    return f"thumbnail/{id}/{text(name)}/{gallery.path(index).stat().st_mtime_ns:x}"

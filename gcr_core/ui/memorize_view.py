"""Memorise view: a gallery on its way to a memory, as HTML: where pictures are dropped, what came in, the recipe.

Functions from data to a string. Text from outside goes through `html.text`. An element with data-do is passed to
the server with its other data when it is clicked, sent or edited; what is typed or chosen in one with data-which too
is kept first. assets/app.js says how.
"""

import math
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import Any

from gcr_core.data.gallery import Gallery
from gcr_core.data.pictures import THUMBNAIL_SIDE
from gcr_core.training.config import CAPTIONER
from gcr_core.ui.html import count, duration, heading, size, text, without_paths
from gcr_core.ui.memory_cards import uploading

LISTED = 200
"""How many files a report names; the rest are counted."""
IDENTIFIERS = {
    "atomic": "one token for each picture",
    "structured": "a path in a tree of alike pictures",
    "numeric": "a running number, digit by digit",
    "string": "a running number, as text",
    "semantic": "words of a caption",
}
"""The identifier types, in the words that the page has for them."""
SUGGESTED_MODELS = {
    "backbone": (
        "checkpoints/gcr-mini",
        CAPTIONER,
        "HuggingFaceTB/SmolVLM-500M-Instruct",
        "llava-hf/llava-interleave-qwen-0.5b-hf",
        "llava-hf/llava-1.5-7b-hf",
    ),
    "clip": (
        "checkpoints/gcr-mini-clip",
        "openai/clip-vit-base-patch32",
        "google/siglip-base-patch16-224",
    ),
}
"""The models that are suggested; any other of their kinds can be typed in."""


def drop_zone() -> str:
    """Where a gallery begins."""
    return (
        heading(1, "Your pictures") + '<div class="drop" data-drop="gallery">'
        '<p class="call">Drop pictures, a folder or a zip here</p>'
        f"{_chooses_files('Choose files', 'Choose a folder', 'primary')}"
        '<p class="hint">No captions needed: the model sees for itself what is in a picture. '
        "Captions are read from file names such as <code>red-boat.jpg</code> or from a <code>metadata.jsonl</code> or "
        "<code>metadata.csv</code> beside the pictures; you can type more in the next step. "
        f"Sub-folders become albums. JPEG, HEIC, PNG, WebP, AVIF, GIF and BMP.</p>{uploading()}</div>"
    )


def _chooses_files(files: str, folder: str, look: str = "") -> str:
    """Buttons that open the browser's own dialogs, with their words."""
    return (
        f'<p class="does"><label class="button {look}">{files}<input type="file" multiple '
        'accept="image/*,.heic,.avif,.zip,.tar,.gz,.tgz,.jsonl,.json,.csv,.tsv,.txt"></label>'
        f'<label class="button">{folder}<input type="file" webkitdirectory></label></p>'
    )


def importing(done: int, total: int) -> str:
    """While pictures are read."""
    words = f"Reading {done:,} of {total:,} files…" if total else "Opening the files…"
    bar = f'<progress max="{max(1, total)}" value="{done}" aria-label="files read"></progress>'
    return f'{heading(1, "Your pictures")}<div class="panel"><p role="status">{words}</p>{bar}</div>'


def staged(id: str, gallery: Gallery, report: dict[str, Any], longest: int, out: int = 0) -> str:
    """A gallery before it is memorised: where more pictures are dropped, what came in and what did not. Its memory will
    keep pictures up to `longest` pixels; `out`: how many were removed and can be put back."""
    back = (
        f'<p class="out-again does"><span>{count(out, "picture")} removed.</span><button type="button" class="quiet" '
        f'data-do="put_back" data-gallery="{id}">Put {"it" if out == 1 else "them"} back</button></p>'
        if out
        else ""
    )
    return (
        f'{heading(1, "Your pictures")}<div class="drop more" data-drop="gallery"><div class="came-in">'
        f"{_came_in(gallery, report)}{_kept(gallery, longest)}{back}</div>{_chooses_files('Add files', 'Add a folder')}"
        '<p class="hint">or drop more here: a folder becomes an album</p>'
        f'<p class="does"><button type="button" class="quiet" data-do="discard" data-gallery="{id}" data-ask="sure" '
        'data-words="Discard these pictures and the captions typed here?" data-verb="Discard">Start over</button></p>'
        f'{uploading()}</div><div class="step-line">{heading(2, "Captions")}'
        '<button type="button" class="quiet" data-skip>Skip to training</button></div>'
    )


def _came_in(gallery: Gallery, report: dict[str, Any]) -> str:
    merged = [(name, gallery.file_names[i]) for i, names in enumerate(gallery.also) for name in names]
    skipped, notes = report.get("skipped", []), report.get("notes", [])
    albums, within = len(gallery.album_sizes), sum(gallery.album_sizes.values())
    parts = [f"<b>{count(len(gallery), 'picture')}</b>"]
    of = "" if within == len(gallery) else f"{within:,} of them "
    parts += [f"{of}in {count(albums, 'album')}"] if albums else []
    parts += [f"{count(len(merged), 'double')} merged"] if merged else []
    parts += [f"{count(len(skipped), 'file')} left out"] if skipped else []
    parts += [count(len(notes), "note")] if notes else []
    words = f'<p class="taken">{", ".join(parts).replace("</b>, in", "</b> in")}.</p>{_last_batch(report.get("last"))}'
    rows = [(name, why) for name, why in notes]
    rows += [(name, f"has the same pixels as {kept}") for name, kept in merged] + [tuple(row) for row in skipped]
    if not rows:
        return words
    items = "".join(
        f"<li><b>{text(name)}</b> {text(without_paths(why.removeprefix(f'{PurePosixPath(name).name} ')))}</li>"
        for name, why in rows[:LISTED]
    )
    more = f"<li>and {len(rows) - LISTED:,} more</li>" if len(rows) > LISTED else ""
    return f'{words}<details class="files"><summary>Which files</summary><ul>{items}{more}</ul></details>'


def _kept(gallery: Gallery, longest: int) -> str:
    """What the pictures will take on the disk."""
    how = f"kept up to {longest:,} pixels" if longest > THUMBNAIL_SIDE else "kept as thumbnails"
    takes = size(gallery.bytes_kept(longest))
    return f'<p class="hint">Memorised, these pictures take about {takes} on the disk, {how}.</p>'


def _last_batch(last: dict[str, Any] | None) -> str:
    """What came in with the pictures that were dropped last onto others, in one line."""
    if not last:
        return ""
    albums = last.get("albums", [])
    into = f" to the album “{text(albums[0])}”" if len(albums) == 1 else f" in {len(albums):,} albums" if albums else ""
    parts = [f"{count(last['added'], 'picture')} added{into}"] if last["added"] else ["nothing new"]
    parts += [f"{last['doubles']:,} there already"] if last["doubles"] else []
    parts += [f"{count(last['skipped'], 'file')} left out"] if last["skipped"] else []
    return f'<p class="last-batch" role="status">Last drop: {", ".join(parts)}.</p>'


def remarks(words: Sequence[str], refused: bool) -> str:
    """What will be found and what will not, before anything is trained; or why nothing can be."""
    look = f"note{' warning' if refused else ''}"
    return "".join(f'<p class="{look}" role="note">{text(without_paths(line))}</p>' for line in words)


def recipe(
    id: str,
    chosen: dict[str, Any],
    presets: dict[str, str],
    times: dict[str, float] | None,
    types: Iterable[str],
    fixed: bool,
    refused: bool,
    most: float = math.inf,
    edition: int = 0,
) -> str:
    """How the gallery is memorised: one choice, the rest under Advanced, one button. `chosen`: "name", "backbone",
    "clip", and what else was chosen of "preset", "identifiers" and "seed". `times`: preset → seconds, once they are
    measured; those of more than `most` cannot be chosen. `fixed`: whoever runs the page chose the models. `edition`: of
    the edits that `chosen` has."""
    unknown = "" if refused else "measuring…"
    fitting = [key for key in presets if not times or times[key] <= most]
    wanted = chosen.get("preset", "balanced")
    preset = wanted if wanted in fitting or not fitting else fitting[-1]
    marks = {key: " checked" if key == preset else "" if key in fitting else " disabled" for key in presets}
    said = {key: duration(times[key]) if times else unknown for key in presets}
    choices = "".join(
        f'<label class="preset"><input type="radio" name="preset" value="{key}"{_chooses(id, "preset")}{marks[key]}>'
        f"<b>{key.capitalize()}</b><span>{text(words)}</span>"
        f"<i>{said[key]}{'' if key in fitting else ', longer than a GPU is lent'}</i></label>"
        for key, words in presets.items()
    )
    options = "".join(
        f'<option value="{type}"{" selected" * (type == chosen.get("identifiers"))}>{IDENTIFIERS[type]}</option>'
        for type in types
    )
    seed = text(chosen.get("seed", 0))
    return (
        f'<form class="recipe" data-do="memorise" data-gallery="{id}" data-edition="{edition}">'
        f"{heading(3, 'Training')}"
        f'<fieldset class="presets"><legend class="sr">How long</legend>{choices}</fieldset>'
        '<details class="advanced"><summary>Advanced</summary><div class="fields">'
        f'<label>Identifier of a picture<select name="identifiers"{_chooses(id, "identifiers")}>{options}</select>'
        "</label>"
        f"<label>Model{_model(id, 'backbone', chosen['backbone'], fixed)}</label>"
        f"<label>CLIP, to compare with{_model(id, 'clip', chosen['clip'], fixed)}</label>"
        f'<label>Seed<input name="seed" type="number" min="0" max="4294967295" value="{seed}"{_chooses(id, "seed")}>'
        "</label></div></details>"
        f'<p class="go"><label>Name<input name="name" maxlength="80" required value="{text(chosen["name"])}"'
        f'{_chooses(id, "name")}></label><button class="primary"{" disabled" if refused else ""}>Memorise</button></p>'
        "</form>"
    )


def _model(id: str, which: str, value: str, fixed: bool) -> str:
    """The field of a model, a folder or a hub id; of one that is fixed, which the server knows, the name alone."""
    if fixed:
        return f'<input value="{text(PurePosixPath(value).name)}" readonly>'
    known = "".join(f'<option value="{model}"></option>' for model in SUGGESTED_MODELS[which])
    return (
        f'<input name="{which}" value="{text(value)}" list="known-{which}" spellcheck="false" autocapitalize="none"'
        f'{_chooses(id, which)}><datalist id="known-{which}">{known}</datalist>'
    )


def _chooses(id: str, which: str) -> str:
    """What makes a field one that is kept when it is left."""
    return f' data-do="choose" data-which="{which}" data-gallery="{id}"'


def training_is_off() -> str:
    """In place of the whole flow."""
    return (
        '<div class="panel"><p><b>Memorising is switched off here.</b> Run this app on your own machine to memorise '
        "your pictures. The memory that you download there can be opened here.</p></div>"
    )

"""Memorise view: what the tab shows, as HTML: where pictures are dropped, their captions, the recipe, jobs, memories.

Functions from data to a string. Text from outside goes through `html.text`. An element with data-do is passed to
the server with its other data when it is clicked, sent or edited; what is typed or chosen in one with data-which too
is kept first. assets/app.js says how.
"""

import math
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import Any

from gcr_core.data.gallery import Gallery
from gcr_core.memory.publish import address, name_on_the_hub
from gcr_core.serving.job import DONE, QUEUED, RESUMABLE, RUNNING, STOPPING, UNFINISHED
from gcr_core.training.config import CAPTIONER
from gcr_core.ui.html import Album, count, duration, heading, mosaic, percent, text

LISTED = 200
"""How many files a report names; the rest are counted."""
STRIP = 5
"""How many pictures stand beside a memory's name."""
CURVE = (600, 120)
"""The width and the height of a loss curve, in its own units."""

STAGES = {
    "prepare": "Getting ready",
    "dense": "Training the dense baseline on the same captions",
    "look": "Looking at the pictures",
    "memorise": "Learning which picture is which",
    "describe": "Learning to describe them",
    "retrieve": "Learning to find them by words",
    "measure": "Asking it what it remembers",
    "save": "Putting the memory away",
}
STATES = {QUEUED: "waiting", RUNNING: "memorising"}
"""The words for those states of a job that its badge does not show as they are."""
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
        '<p class="does"><label class="button primary">Choose files<input type="file" multiple '
        'accept="image/*,.zip,.jsonl,.csv"></label>'
        '<label class="button">Choose a folder<input type="file" webkitdirectory></label></p>'
        '<p class="hint">JPEG, PNG, WebP, GIF or BMP. Captions come from a <code>metadata.jsonl</code> or '
        "<code>metadata.csv</code> beside them, or else from file names such as <code>red-boat.jpg</code>; "
        "you can type them in on the next step.</p>"
        f"{_uploading()}</div>"
    )


def importing(done: int, total: int) -> str:
    """While pictures are taken in."""
    words = f"Taking in {done:,} of {total:,} files…" if total else "Looking at what you dropped…"
    bar = f'<progress max="{max(1, total)}" value="{done}" aria-label="pictures taken in"></progress>'
    return f'{heading(1, "Your pictures")}<div class="panel"><p role="status">{words}</p>{bar}</div>'


def taken_in(id: str, gallery: Gallery, report: dict[str, Any]) -> str:
    """A gallery before it is memorised: what was taken in and what was not."""
    return (
        f'{heading(1, "Your pictures")}<div class="panel">{_taken_in(gallery, report)}'
        f'<p class="does"><button type="button" class="quiet" data-do="discard" data-gallery="{id}" data-ask="sure" '
        'data-words="Put these pictures away and begin with others? The captions typed here go with them." '
        f'data-verb="Put away">Begin with other pictures</button></p></div>{heading(2, "Their captions")}'
    )


def _taken_in(gallery: Gallery, report: dict[str, Any]) -> str:
    merged = [(name, gallery.file_names[i]) for i, names in enumerate(gallery.also) for name in names]
    skipped = report.get("skipped", [])
    parts = [f"<b>{count(len(gallery), 'picture')} taken in</b>"]
    parts += [f"{len(merged):,} merged with {'its' if len(merged) == 1 else 'their'} double"] if merged else []
    parts += [f"{len(skipped):,} skipped"] if skipped else []
    rows = [(name, f"the same picture as {kept}") for name, kept in merged] + [tuple(row) for row in skipped]
    if not rows:
        return f'<p class="taken">{", ".join(parts)}.</p>'
    items = "".join(
        f"<li><b>{text(name)}</b> {text(why.removeprefix(f'{PurePosixPath(name).name} '))}</li>"
        for name, why in rows[:LISTED]
    )
    more = f"<li>and {len(rows) - LISTED:,} more</li>" if len(rows) > LISTED else ""
    return (
        f'<p class="taken">{", ".join(parts)}.</p>'
        f'<details class="files"><summary>File by file</summary><ul>{items}{more}</ul></details>'
    )


def remarks(words: Sequence[str], refused: bool) -> str:
    """What will be found and what will not, before anything is trained; or why nothing can be."""
    return "".join(f'<p class="note{" warning" if refused else ""}" role="note">{text(line)}</p>' for line in words)


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
        f'<option value="{type}"{" selected" * (type == chosen.get("identifiers"))}>{type}</option>' for type in types
    )
    seed = text(chosen.get("seed", 0))
    return (
        f'<form class="recipe" data-do="memorise" data-gallery="{id}" data-edition="{edition}">'
        f"{heading(3, 'How well')}"
        f'<fieldset class="presets"><legend class="sr">Preset</legend>{choices}</fieldset>'
        '<details class="advanced"><summary>Advanced</summary><div class="fields">'
        f'<label>Identifier type<select name="identifiers"{_chooses(id, "identifiers")}>{options}</select></label>'
        f"<label>Backbone{_model(id, 'backbone', chosen['backbone'], fixed)}</label>"
        f"<label>CLIP of the dense baseline{_model(id, 'clip', chosen['clip'], fixed)}</label>"
        f'<label>Seed<input name="seed" type="number" min="0" max="4294967295" value="{seed}"{_chooses(id, "seed")}>'
        "</label></div></details>"
        f'<p class="go"><label>Name<input name="name" maxlength="80" required value="{text(chosen["name"])}"'
        f'{_chooses(id, "name")}></label><button class="primary"{" disabled" if refused else ""}>Memorise</button></p>'
        "</form>"
    )


def _model(id: str, which: str, value: str, fixed: bool) -> str:
    """The field of a model, a folder or a hub id."""
    if fixed:
        return f'<input name="{which}" value="{text(value)}" readonly>'
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
        '<div class="panel"><p><b>Memorising is switched off here.</b> Whoever runs this page has set '
        "<code>GCR_TRAINING=0</code>. Run it on your own machine to memorise your pictures, then open the memory "
        "you download there on this page.</p></div>"
    )


def jobs(rows: Sequence[dict[str, Any]], losses: dict[str, list[dict[str, Any]]], token: str = "") -> str:
    """A card for each job that its owner has not put away; `losses` by the job's id; `token` as in `memories`."""
    return "".join(_job(row, losses.get(row["id"], []), token) for row in rows)


def _job(job: dict[str, Any], points: list[dict[str, Any]], token: str) -> str:
    state, id, name = job["state"], job["id"], text(job["name"])
    does = []
    if state in UNFINISHED:
        does = [_button("stop", id, "Stop", disabled=state == STOPPING)]
    if state in RESUMABLE:
        does = [_button("resume", id, "Resume", "primary")]
    if state == DONE and job.get("memory"):
        memory = job["memory"]
        does = [
            f'<button type="button" class="primary" data-do="search" data-memory="{memory}">Search it now</button>',
            f'<a class="button" href="download/{memory}" download>Download</a>',
            _push({"id": memory, "name": job["name"]}, token),
        ]
    if state not in UNFINISHED:
        lost = "" if state == DONE else " What it has learnt so far goes with it."
        sure = "" if state == DONE else f'data-ask="sure" data-words="Put “{name}” away?{lost}" data-verb="Put away" '
        does.append(f'<button type="button" class="quiet" {sure}data-do="remove" data-job="{id}">Put away</button>')
    body = _report(job.get("report") or {}) if state == DONE else _progress(job, points)
    return (
        f'<article class="job {state}" aria-label="{name}"><header><h3>{name}</h3>'
        f'<span class="badge" role="status">{STATES.get(state, state)}</span></header>{body}'
        f'<p class="does">{"".join(does)}</p></article>'
    )


def _button(verb: str, job: str, words: str, look: str = "", disabled: bool = False) -> str:
    off = " disabled" if disabled else ""
    return f'<button type="button" class="{look}" data-do="{verb}" data-job="{job}"{off}>{words}</button>'


def _progress(job: dict[str, Any], points: list[dict[str, Any]]) -> str:
    message = f'<p class="why" role="status">{text(job["message"])}</p>' if job.get("message") else ""
    if job["state"] == QUEUED:
        before = job.get("queue_position") or 0
        place = f"{count(before, 'job')} before it" if before else "next in line"
        return f'{message}<p class="now">{place}</p>'
    step, steps = job.get("step") or 0, job.get("steps") or 0
    counted, done, total = ("look", job["looked"], job["looks"]) if job.get("looks") else ("step", step, steps)
    facts = [f"{counted} {done:,} of {total:,}"] if total else []
    if job["state"] == RUNNING and job.get("seconds_left"):
        facts.append(f"{duration(job['seconds_left'])} left")
    if job.get("memorized") is not None:
        facts.append(f"<b>{job['memorized']:.0%}</b> memorised")
    if job.get("loss") is not None and not job.get("looks"):
        facts.append(f"loss {job['loss']:.2f}")
    stage = STAGES.get(job.get("stage") or "", "") if job["state"] in UNFINISHED else ""
    return (
        f'{message}<p class="now" role="status">{stage}</p>'
        f'<progress max="{max(1, total)}" value="{done}" aria-label="{counted}s"></progress>'
        f'<p class="facts">{"".join(f"<span>{fact}</span>" for fact in facts)}</p>{_curve(points, steps)}'
    )


def _curve(points: list[dict[str, Any]], steps: int) -> str:
    """Loss as a line and the share memorised as an area, both over the steps of the training."""
    losses = [point for point in points if point.get("loss") is not None]
    if len(losses) < 2:
        return ""
    width, height = CURVE
    end, highest = max(steps, losses[-1]["step"], 1), max(point["loss"] for point in losses) or 1

    def drawn(values: Iterable[tuple[int, float]], most: float) -> str:
        return " ".join(f"{step / end * width:.1f},{(1 - value / most) * height:.1f}" for step, value in values)

    lines = "".join(
        f'<polyline class="{engine}" points="{drawn(values, highest)}"/>'
        for engine in ("index", "memory")
        if (values := [(point["step"], point["loss"]) for point in losses if _engine(point) == engine])
    )
    shares = [(point["step"], point["memorized"]) for point in points if point.get("memorized") is not None]
    if shares:
        shares = [(shares[0][0], 0.0), *shares, (shares[-1][0], 0.0)]
    words = f"loss from {losses[0]['loss']:.2f} to {losses[-1]['loss']:.2f}"
    return (
        f'<figure class="curve"><svg viewBox="0 0 {width} {height}" preserveAspectRatio="none" role="img" '
        f'aria-label="{words}"><polygon points="{drawn(shares, 1)}"/>{lines}</svg>'
        '<figcaption><span class="index">loss of CLIP</span><span class="memory">loss of the memory</span>'
        '<span class="share">share memorised</span></figcaption></figure>'
    )


def _engine(point: dict[str, Any]) -> str:
    return "index" if point.get("stage") == "dense" else "memory"


def _report(report: dict[str, Any]) -> str:
    """What the memory can do, measured after the training, in words."""
    if not report:
        return ""
    dense, retrieved = report.get("dense") or {}, report.get("retrieved")
    pictures, time = count(report["images"], "picture"), duration(report["seconds"], about=False)
    words = [f"It memorised <b>{percent(report['memorized'])}</b> of {pictures} in {time}."]
    if dense.get("memorized") is not None:
        words[0] += f" CLIP + FAISS knows {percent(dense['memorized'])} of them by sight."
    for measured, whose in (
        ("trained_captions", "captions that it learnt"),
        ("trained_pseudo_queries", f"{report.get('pseudo_queries', 0):,} captions that the model wrote itself"),
    ):
        if report.get(measured) is not None:
            words.append(f"Of the {whose}, {percent(report[measured])} bring up their picture first.")
    if retrieved is not None:
        unseen = count(report.get("held_out") or 0, "caption")
        words.append(
            f"Asked with {unseen} that it had never seen, it recalls the right picture first in "
            f'<b class="memory">{percent(retrieved)}</b> of cases; CLIP + FAISS, trained on the same captions, finds '
            f'it in <b class="index">{percent(dense.get("retrieved") or 0)}</b>.'
        )
    notes = "".join(f'<p class="note" role="note">{text(remark)}</p>' for remark in report.get("remarks", []))
    return f'<div class="report">{"".join(f"<p>{line}</p>" for line in words)}{notes}</div>'


def memories(
    albums: Sequence[tuple[dict[str, Any], Album]], busy: dict[str, str], token: str = "", kept_for: str = ""
) -> str:
    """One's own memories and what can be done with them; `busy` says of a memory what is being done with it, `token`
    what a push goes out with where no token is typed, nothing where one must be, `kept_for` how long they are kept."""
    rows = "".join(_memory(row, album, busy.get(row["id"]), token) for row, album in albums)
    empty = '<p class="hint">None yet. What you memorise, or open from a zip, stands here.</p>'
    return (
        '<h2 class="shelf">Your memories</h2>'
        + (f'<p class="hint">{text(kept_for)}</p>' if kept_for else "")
        + (f'<ul class="memories">{rows}</ul>' if rows else empty)
        + '<div class="drop small" data-drop="memory"><p><label class="button">Open a memory'
        '<input type="file" accept=".zip"></label> <span class="hint">from a zip that was downloaded here; '
        f"or drop it</span></p>{_uploading()}</div>"
    )


def _memory(row: dict[str, Any], album: Album, busy: str | None, token: str) -> str:
    id, name = row["id"], text(row["name"])
    changes = [
        count(many, "new caption") if what == "captions" else f"{many:,} {what}"
        for what, many in album.changes.items()
        if many
    ]
    consolidate = (
        f'<button type="button" data-do="consolidate" data-memory="{id}">Consolidate</button>' if changes else ""
    )
    since = f'<p class="hint">{" and ".join(changes)} since it was trained: consolidate to train that in.</p>'
    does = (
        f'<button type="button" class="primary" data-do="search" data-memory="{id}">Search it</button>'
        f'<a class="button" href="download/{id}" download>Download</a>'
        f'<button type="button" data-do="add" data-memory="{id}" data-ask="picture" data-verb="Add" '
        f'data-words="Add pictures to “{name}”. They can be recalled at once.">Add pictures</button>'
        f"{consolidate}{_push(row, token)}"
        f'<button type="button" class="quiet" data-do="rename" data-memory="{id}" data-ask="name" data-verb="Rename" '
        f'data-words="A name for this memory" data-name="{name}">Rename</button>'
        f'<button type="button" class="quiet" data-do="delete" data-memory="{id}" data-ask="sure" data-verb="Delete" '
        f'data-words="Delete “{name}”? What the model learnt of these pictures is lost.">Delete</button>'
    )
    doing = f'<p class="doing" role="status">{text(busy)}</p>' if busy else f'<p class="does">{does}</p>'
    return (
        f'<li aria-label="{name}"><div class="strip">{mosaic(album, STRIP)}</div><div class="about"><h3>{name}</h3>'
        f'<p class="hint">{count(row["images"], "image")}, {count(row["captions"], "caption")}, '
        f"{text(str(row['created'])[:10])}{_on_the_hub(row)}</p>{since if changes else ''}</div>{doing}</li>"
    )


def _push(row: dict[str, Any], token: str) -> str:
    """The button that opens the form of a push."""
    name = text(row.get("repository") or name_on_the_hub(row["name"]))
    words = f"Push “{text(row['name'])}” to the Hugging Face hub. Its file names and captions go with it."
    return (
        f'<button type="button" data-do="push" data-memory="{row["id"]}" data-ask="push" data-verb="Push" '
        f'data-words="{words}" data-name="{name}" data-token="{text(token)}">Push to hub</button>'
    )


def _on_the_hub(row: dict[str, Any]) -> str:
    """The link to what a memory was pushed to or pulled from."""
    repository = row.get("repository")
    if not repository:
        return ""
    return f', <a href="{text(address(repository))}" target="_blank" rel="noopener">{text(repository)}</a>'


def _uploading() -> str:
    return '<p class="uploading" role="status"><progress aria-label="uploaded"></progress><span></span></p>'

"""Memory cards: one's own memories, each with its figures and what can be done with it, as HTML."""

from collections.abc import Sequence
from typing import Any

from gcr_core.memory.publish import address, name_on_the_hub
from gcr_core.ui.html import ShownGallery, count, date, duration, is_share, mosaic, percent, text, without_paths

STRIP = 6
"""How many pictures stand above a memory's name."""
FIGURES = {
    "memorized": "its own picture",
    "trained_captions": "captions it learnt",
    "trained_pseudo_queries": "captions the model wrote",
    "retrieved": "captions kept out of training",
}
"""What a memory was asked with → the words for it, in the order of the card."""


def cards(
    memories: Sequence[tuple[dict[str, Any], ShownGallery, dict[str, Any]]],
    busy: dict[str, str],
    token: str = "",
    kept_for: str = "",
    gone: dict[str, int] | None = None,
) -> str:
    """A card for each of `memories`: its row, its gallery and the report of its training. `busy` says of a memory what
    is being done with it, `token` what a push goes out with where no token is typed, nothing where one must be,
    `kept_for` how long memories are kept, `gone` how many pictures a memory forgot that can be brought back."""
    back = gone or {}
    rows = "".join(
        _card(row, shown, report, back.get(row["id"], 0), busy.get(row["id"]), token) for row, shown, report in memories
    )
    empty = '<p class="hint">None yet: what you memorise stands here.</p>'
    return (
        '<h2 class="shelf">Your memories</h2>'
        + (f'<p class="hint">{text(kept_for)}</p>' if kept_for else "")
        + (f'<ul class="memories">{rows}</ul>' if rows else empty)
        + '<div class="drop small" data-drop="memory"><p><label class="button">Open a memory'
        '<input type="file" accept=".zip"></label> <span class="hint">a zip downloaded from a page like this</span></p>'
        f"{uploading()}</div>"
    )


def uploading() -> str:
    """Where the page shows how far an upload is."""
    return '<p class="uploading" role="status"><progress aria-label="uploaded"></progress><span></span></p>'


def _card(
    row: dict[str, Any], shown: ShownGallery, report: dict[str, Any], gone: int, busy: str | None, token: str
) -> str:
    id, name = row["id"], text(row["name"])
    facts = [count(row["images"], "picture"), count(row["captions"], "caption"), date(str(row["created"] or ""))]
    about = " · ".join(fact for fact in facts if fact)
    doing = f'<p class="doing" role="status">{text(without_paths(busy))}</p>' if busy else ""
    does = doing or f'<div class="does">{search_it(id, "primary")}{_menu(row, token)}</div>'
    return (
        f'<li aria-label="{name}"><div class="strip">{mosaic(shown, STRIP)}</div><div class="about"><h3>{name}</h3>'
        f'<p class="hint">{about}{_on_the_hub(row)}</p></div>{_figures(report)}{_changes(id, shown, gone, bool(busy))}'
        f"{does}</li>"
    )


def search_it(id: str, look: str, words: str = "Search it") -> str:
    """The button that searches a memory."""
    return f'<button type="button" class="{look}" data-do="search" data-memory="{id}">{words}</button>'


def _menu(row: dict[str, Any], token: str) -> str:
    """What is done with a memory more seldom than searching it."""
    id, name = row["id"], text(row["name"])
    pushed = text(row.get("repository") or name_on_the_hub(row["name"]))
    words = f"Push “{name}” to the Hugging Face hub. Its file names and captions go with it."
    return (
        f'<details class="menu"><summary title="More"><span class="sr">More to do with {name}</span>'
        '<span aria-hidden="true">⋯</span></summary><div class="items">'
        f'<button type="button" data-do="add" data-memory="{id}" data-ask="picture" data-verb="Add" '
        f'data-words="Add pictures to “{name}”. They can be found at once.">Add pictures</button>'
        f'<a class="button" href="download/{id}" download>Download</a>'
        f'<button type="button" data-do="push" data-memory="{id}" data-ask="push" data-verb="Push" '
        f'data-words="{words}" data-name="{pushed}" data-token="{text(token)}">Push to hub</button>'
        f'<button type="button" data-do="rename" data-memory="{id}" data-ask="name" data-verb="Rename" '
        f'data-words="A name for this memory" data-name="{name}">Rename</button>'
        f'<button type="button" data-do="delete" data-memory="{id}" data-ask="sure" data-verb="Delete" '
        f'data-words="Delete “{name}”? Its pictures, its captions and what was learnt of them are lost.">'
        "Delete</button></div></details>"
    )


def _changes(id: str, shown: ShownGallery, gone: int, busy: bool) -> str:
    """What came and went since the training, and the buttons that train it in and bring the `gone` pictures back."""
    words = {"added": "picture", "forgotten": "picture", "captions": "changed caption"}
    changed = [
        count(many, words[what]) + (f" {what}" if what != "captions" else "")
        for what, many in shown.changes.items()
        if many
    ]
    back = (
        f'<p class="changes"><span>{count(gone, "forgotten picture")} can be brought back.</span>'
        f'<button type="button" data-do="bring_back" data-memory="{id}">Bring {"it" if gone == 1 else "them"} back'
        "</button></p>"
        if gone and not busy
        else ""
    )
    if not changed:
        return back
    button = "" if busy else f'<button type="button" data-do="consolidate" data-memory="{id}">Consolidate</button>'
    said = f"{' and '.join(changed)} since it was trained. Consolidate trains that in."
    return f'{back}<p class="changes"><span>{said}</span>{button}</p>'


def _figures(report: dict[str, Any]) -> str:
    """How often the right picture comes first, on both sides; nothing for a memory that nobody measured."""
    other = report.get("dense")
    dense: dict[str, Any] = other if isinstance(other, dict) else {}
    rows = "".join(
        f'<tr><th scope="row">{words}{_of(report, key)}</th><td class="memory">{_share(report.get(key))}</td>'
        f'<td class="index">{_share(dense.get(key))}</td></tr>'
        for key, words in FIGURES.items()
        if is_share(report.get(key))
    )
    if not rows:
        return ""
    remarks = [str(remark) for remark in report.get("remarks") or [] if isinstance(remark, str)]
    notes = "".join(f'<p class="note" role="note">{text(remark)}</p>' for remark in remarks)
    return (
        '<div class="report"><table class="figures"><caption>The right picture comes first when asked with</caption>'
        '<thead><tr><td></td><th scope="col" class="memory">the memory</th><th scope="col" class="index">CLIP + FAISS'
        f"</th></tr></thead><tbody>{rows}</tbody></table>"
        f'<details class="about-figures"><summary>About these figures</summary><p>{_measured(report)}</p>{notes}'
        "</details></div>"
    )


def _of(report: dict[str, Any], key: str) -> str:
    """Of how many pictures or captions a figure is a share, where the report says that."""
    asked = report.get("asked")
    counts = {"memorized": report.get("images"), "retrieved": report.get("held_out")}
    many = (counts | asked if isinstance(asked, dict) else counts).get(key)
    if not isinstance(many, int) or isinstance(many, bool) or many < 1:
        return ""
    return f" <small>of {count(many, 'picture') if key == 'memorized' else f'{many:,}'}</small>"


def _measured(report: dict[str, Any]) -> str:
    """How the figures came about, in words."""
    parts = []
    if isinstance(report.get("images"), int) and isinstance(report.get("seconds"), (int, float)):
        took = duration(report["seconds"], about=False)
        parts.append(f"{count(report['images'], 'picture')} memorised in {took}.")
    if is_share(report.get("retrieved")) and isinstance(report.get("held_out"), int):
        parts.append(
            f"{count(report['held_out'], 'caption')} kept out of training until both sides had been asked with them: "
            "words that neither had seen."
        )
    return " ".join(parts)


def _share(value: Any) -> str:
    return percent(value) if is_share(value) else "–"


def _on_the_hub(row: dict[str, Any]) -> str:
    """The link to what a memory was pushed to or pulled from."""
    repository = row.get("repository")
    if not repository:
        return ""
    return f' · <a href="{text(address(repository))}" target="_blank" rel="noopener">{text(repository)}</a>'

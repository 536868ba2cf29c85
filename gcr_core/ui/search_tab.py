"""Search tab: one box for words or a picture, two galleries side by side, and the API endpoint `/search`.

Asks the chosen memory and shows what it answers; a mistake of the user's becomes a message in the page, or an error of
the API.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gcr_core.data.pictures import MODEL_SIDE
from gcr_core.errors import GcrError, InputError
from gcr_core.retrieval.match import calibrations
from gcr_core.retrieval.query import DEFAULT_BEAMS, DEFAULT_TOP, MAX_TOP, SearchRequest
from gcr_core.serving.remote_memory import RemoteMemory
from gcr_core.training.everyday import content_words
from gcr_core.ui import choices, html, search_view
from gcr_core.ui.gradio_import import gr, said
from gcr_core.ui.registry import SHIPPED, Registry

NOT_YOURS = "This link leads to a memory that is not yours, or no longer here: the one of this page is open instead."
EMPTY: dict[str, Any] = {"text": "", "files": []}
PASTED_CHARACTERS = 10_000_000
"""Gradio turns longer pasted text into a file; with so much room the query's own limit answers instead."""

SEARCHES = 12
"""How many searches are under way at once: more than pictures are opened and memories from elsewhere asked."""

SCRIPT = '<script src="app.js"></script>'
"""Stands in each part that calls it, as only then Gradio waits until it is loaded."""
AT_FIRST = "() => { const begin = () => window.gcr ? gcr.atFirst() : setTimeout(begin, 50); begin(); }"
NOTED = "entry => { address.asked(entry); return '' }"
BEGIN = "(entry, results) => address.begin(entry, results)"
"""Runs in the browser, since an answer of the server would wipe what was typed until it came."""
EMOJI, PAGES_OWN = "Emoji, the memory that ships", "The memory of this page"
WANTED = "(place, ...others) => [address.wanted(), ...others]"
MEMORY = "() => [address.now.memory]"
ASKED = "(entry, top, beams) => [entry, top, beams, address.now.memory || address.SHIPPED, address.now.album]"
"""The address is right before the choices are, which stand where the server last put them."""


@dataclass(frozen=True)
class SearchTab:
    """What the other tab changes here: the list of memories, with what `offered` returns for a request."""

    chosen: gr.HTML
    offered: Callable[..., Any]


def build(page: gr.Blocks, tab: gr.Tab, registry: Registry, examples: tuple[str, ...]) -> SearchTab:
    """Lays the tab out in the page. `examples` are queries for the shipped memory; where there
    are none, captions of the gallery serve."""
    with gr.Row(elem_id="which"):
        state = gr.HTML(search_view.state("waking", "waking the memory…"), apply_default_css=False, elem_id="state")
        with gr.Row(elem_id="choices"):
            chosen = _choice(SHIPPED, "memory")
            albums = _choice("", "album")
    place = gr.HTML(
        "", apply_default_css=False, elem_id="place", js_on_load="address.listen(element, () => trigger('go'), watch)"
    )
    box = gr.MultimodalTextbox(
        elem_id="query",
        label="Query",
        show_label=False,
        container=False,
        autofocus=True,
        max_lines=3,
        file_types=["image"],
        placeholder="Words or a picture…",
        submit_btn=True,
        max_plain_text_length=PASTED_CHARACTERS,
        html_attributes=gr.InputHTMLAttributes(enterkeyhint="search", autocomplete="off"),
    )
    chips = gr.HTML(choices.chips(examples), apply_default_css=False, elem_id="chips")
    if registry.visitors.settings.training:
        gr.HTML(choices.INVITATION, apply_default_css=False, elem_id="invitation")
    with gr.Accordion("Options", open=False, elem_id="options"), gr.Row():
        top = gr.Number(DEFAULT_TOP, label="Results on each side", info=f"1 to {MAX_TOP}", precision=0, elem_id="top")
        beams = gr.Number(
            DEFAULT_BEAMS, label="Beams", info="at least as many as results", precision=0, elem_id="beams"
        )
    results = gr.HTML(
        "",
        apply_default_css=False,
        elem_id="results",
        head=SCRIPT + '<script src="results.js"></script><script src="lightbox.js"></script>',
        js_on_load="gcr.listen(element, trigger, 'act', watch); results.show(element, watch)",
    )
    mosaic = gr.HTML("", apply_default_css=False, elem_id="mosaic")
    asked_last = gr.State(EMPTY)

    def ask(
        entry: dict[str, Any] | None, top: Any, beams: Any, id: str, album: str, request: gr.Request
    ) -> Iterator[dict[Any, Any]]:
        entry = entry or EMPTY
        if registry.loading.state == "waking":
            yield {results: search_view.waiting()}
        try:
            # A picture moves to the head of the results, so that the next words are not asked together with it.
            taken = {box: EMPTY} if entry["files"] else {}
            answers = _answers(registry, request, id, entry, top, beams, album)
            yield from _first_with(taken, ({results: answer, asked_last: entry} for answer in answers))
        except GcrError as mistake:
            yield {results: search_view.message(mistake)}

    def arrive(to: choices.Destination, request: gr.Request) -> tuple[str, str, dict[Any, Any]]:
        """The memory that an address leads to, the album in it, and what shows them. Raises GcrError."""
        id, words = SHIPPED, ""
        if to.memory in {row["id"] for row in registry.own(request)}:
            id = to.memory
        elif to.memory not in ("", SHIPPED):
            words = NOT_YOURS
        in_album = "" if words else to.album
        if in_album and in_album not in registry.shown(request, id).gallery.album_sizes:
            in_album, words = "", f"There is no album “{in_album[:40]}” in this memory: all of it is open."
        line = choices.led_nowhere(words, id, in_album) if words else ""
        return id, in_album, {place: line, chosen: offered(request, id), albums: gr.HTML(value=in_album)}

    def open_page(wanted: Any, request: gr.Request) -> dict[Any, Any]:
        """No part that an answer fills: on a slow line this may come after the first answer. A link's query is asked by
        `visit`, which says itself where it led."""
        to = choices.Destination.of(wanted)
        try:
            return {place: gr.skip()} if to.q else arrive(to, request)[2]
        except GcrError:
            return {place: gr.skip()}  # the state of the memory says so

    def visit(wanted: Any, last: dict[str, Any], top: Any, beams: Any, request: gr.Request) -> Iterator[dict[Any, Any]]:
        """What an address leads to: a memory, perhaps one of its albums, perhaps a query, which is asked at once."""
        to = choices.Destination.of(wanted)
        entry = {"text": to.q, "files": []} if to.q else last if to.again and last["files"] else EMPTY
        if entry != EMPTY and registry.loading.state == "waking":
            yield {results: search_view.waiting()}
        try:
            id, in_album, arrived = arrive(to, request)
        except GcrError as failure:
            yield {results: search_view.message(failure)}
            return
        nothing = iter([{results: "", asked_last: EMPTY}])
        answers = nothing if entry == EMPTY else ask(entry, top, beams, id, in_album, request)
        yield from _first_with(arrived | {asked_last: entry}, answers)

    def act(
        entry: dict[str, Any], top: Any, beams: Any, album: str, request: gr.Request, event: gr.EventData
    ) -> Iterator[dict[Any, Any]]:
        """Asks with a picture of a memory, or again what was asked last, as the memory has changed; `do` says which."""
        do, id, file_name = (str(said(event).get(key)) for key in ("do", "memory", "file"))
        try:
            if do == "like":
                entry, album = _like(registry.shown(request, id), file_name), ""
                left: dict[Any, Any] = {chosen: offered(request, id), albums: gr.HTML(value=album)}
            else:
                shown = registry.shown(request, id)
                if entry.get("memory") == id:
                    entry = _like(shown, entry["like"]) if entry["like"] in shown.gallery else EMPTY
                words = f"ready: {_contents(registry.memory(request, id))}"
                left = {mosaic: html.mosaic(shown), state: search_view.state("ready", words), chosen: offered(request)}
        except GcrError as mistake:
            yield {results: search_view.message(mistake)}
            return
        nothing = iter([{results: "", asked_last: EMPTY}])
        yield from _first_with(left, nothing if entry == EMPTY else ask(entry, top, beams, id, album, request))

    def show(id: str, request: gr.Request) -> Iterator[dict[Any, Any]]:
        """A memory, chosen or waking: what it holds, its albums, some of its pictures, examples to ask it with."""
        id = id if id in [row["id"] for row in registry.own(request)] else SHIPPED
        try:
            memory, shown = registry.memory(request, id), registry.shown(request, id)
            suggested = examples if examples and id == SHIPPED else choices.captions(shown)
            yield {
                state: search_view.state("ready", f"ready: {_contents(memory)}"),
                mosaic: html.mosaic(shown),
                albums: gr.HTML(options=choices.albums(shown.gallery.album_sizes)),
                chips: choices.chips(suggested),
            }
            if not suggested and _can_describe(memory):
                yield {chips: choices.chips(choices.tags(memory.describe(choices.told(shown))))}
        except GcrError as failure:
            yield {state: search_view.state("failed", str(failure))}

    def offered(request: Any, id: str = "") -> Any:
        """The memories to choose from, once there is a choice; the one with an `id` chosen where one is given."""
        first, visitors = EMOJI if examples else PAGES_OWN, registry.visitors.settings.visitors
        options = choices.memories(registry.own(request), first, visitors)
        return gr.HTML(value=id, options=options) if id else gr.HTML(options=options)

    def search(
        query: str,
        request: gr.Request,
        top: int = DEFAULT_TOP,
        beams: int = DEFAULT_BEAMS,
        memory: str = "",
        album: str = "",
    ) -> dict[str, Any]:
        """What the memory recalls for a query in words, and what CLIP + FAISS finds: the best `top` images of
        each, with `beams` beams on the generative side. `memory` is the id of one of your own memories (see
        /memories); without it the memory that the page opens with is asked. `album` is the name of an album of its
        gallery, to search in that alone."""
        return registry.memory(request, memory).answer(SearchRequest(query, top, beams, album=album))

    private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    few_at_a_time: dict[str, Any] = {"concurrency_id": "search", "concurrency_limit": SEARCHES}
    shown_waiting: dict[str, Any] = {"show_progress": "minimal", "show_progress_on": results}
    asked: dict[str, Any] = {**few_at_a_time, **private, **shown_waiting, "trigger_mode": "always_last"}
    asks = [results, box, place, chosen, albums, asked_last]
    shown = [state, mosaic, albums, chips]
    in_turn: dict[str, Any] = {"concurrency_id": "show", "concurrency_limit": 1}
    page.load(None, js=AT_FIRST)
    page.load(open_page, [place], [place, chosen, albums], js="place => address.wanted()", **few_at_a_time, **private)
    page.load(show, [chosen], shown, js=MEMORY, **in_turn, **private)
    box.submit(None, [box], [place], js=NOTED)  # before the server is asked: Gradio goes on once that has answered
    answers = box.submit(ask, [box, top, beams, chosen, albums], asks, js=ASKED, **asked)
    place.go(None, [box, results], [chosen, albums, box, results], js=BEGIN, cancels=[answers])
    place.go(visit, [place, asked_last, top, beams], asks, js=WANTED, **asked)
    results.act(act, [asked_last, top, beams, albums], [*asks, mosaic, state], **asked)
    for event in (chosen.change, tab.select):
        event(show, [chosen], shown, js=MEMORY, **in_turn, **private)
    gr.api(search, api_name="search", **few_at_a_time)
    return SearchTab(chosen, offered)


def _first_with(more: dict[Any, Any], updates: Iterator[dict[Any, Any]]) -> Iterator[dict[Any, Any]]:
    """The updates, the first of them with more: a later one would undo what a person has done since."""
    for update in updates:
        yield update | more
        more = {}


def _choice(value: str, what: str) -> gr.HTML:
    """Where the server's `options` are chosen from: a memory or an album."""
    script = f"address.choices(element, props, watch, '{what}')"
    return gr.HTML(
        value,
        options="",
        html_template="${options}",
        js_on_load=script,
        apply_default_css=False,
        elem_id=f"{what}-choice",
    )


def _like(shown: html.ShownGallery, file_name: str) -> dict[str, Any]:
    """A query with a picture of a memory. Raises GalleryError for a name that the memory lacks."""
    index = shown.gallery.index(file_name)
    seen = shown.url(index), f"more like “{shown.name(index)}”"
    place = {"memory": shown.id, "like": file_name, "seen": seen}
    return {"text": "", "files": [str(shown.gallery.path(index))], **place}


def _answers(
    registry: Registry, request: Any, id: str, entry: dict[str, Any], top: Any, beams: Any, album: str
) -> Iterator[str]:
    """The results of one query of the page, as HTML; once more with what the model says of them."""
    words, files = entry["text"], entry["files"]
    if files and words.strip():
        raise InputError("words and a picture were given: ask with one of them, and remove the other")
    picture = files[0] if files else None
    opened = registry.open_picture(Path(picture), MODEL_SIDE) if picture else None
    query = SearchRequest(opened or words, top, beams, trace=True, album=album)
    query = replace(query, beams=max(query.beams, query.top))
    memory = registry.memory(request, id)
    answer = memory.answer(query)
    shown, engines = registry.shown(request, id), _engines(memory, query.beams)
    seen = entry.get("seen") or (search_view.uploaded_url(picture), "your picture") if picture else None
    asked = {"query": answer["query"], "top": query.top, "beams": query.beams} | ({"memory": id} if shown.own else {})
    asked |= {"album": album} if album else {}
    doubts = _doubts(memory, answer)
    if not _can_describe(memory):
        yield search_view.results(answer, shown, engines, asked, seen, doubts=doubts)
        return
    yield search_view.results(answer, shown, engines, asked, seen, {}, doubts)
    shown_sides = search_view.listed(answer)
    recalled = (hit["file_name"] for side, hits in shown_sides.items() if side != "dense" for hit in hits)
    names = list(dict.fromkeys(recalled))
    said = dict(zip(names, memory.describe(names), strict=True))
    yield search_view.results(answer, shown, engines, asked, seen, said, doubts)


def _doubts(memory: RemoteMemory, answer: dict[str, Any]) -> dict[str, str]:
    """Side → what is said of its answer, as `Calibration.verdict` has it; nothing where an image's caption has all that
    was asked for, as many images may have, none of which is the one."""
    known, gallery = calibrations(memory.facts, len(memory.gallery)), memory.gallery
    asked = content_words(answer["query"] or "")
    doubts, lists = {}, search_view.listed(answer)
    for side, match in answer.get("match", {}).items():
        captions = (" ".join(gallery.captions[gallery.index(hit["file_name"])]) for hit in lists[side])
        if side in known and not (asked and any(asked <= content_words(texts) for texts in captions)):
            doubts[side] = known[side].verdict(match)
    return doubts


def _can_describe(memory: RemoteMemory) -> bool:
    """Whether the memory learnt to describe, as every one does that was trained here."""
    return bool(memory.facts.get("training"))


def _contents(memory: RemoteMemory) -> str:
    return html.count(len(memory.gallery), "image")


def _engines(memory: RemoteMemory, beams: int) -> dict[str, str]:
    """In words, how each side came by its images, and whether the dense one was given what the other was."""
    same_pairs = "dense_seconds" in memory.facts.get("training", {})
    clip = "CLIP given the same captions" if same_pairs else "CLIP not trained on this gallery"
    if not any(memory.gallery.captions):
        clip = "CLIP given the same pictures"
    return {
        "generative": f"beam search over {len(memory.gallery):,} identifiers, {beams} beams",
        "dense": f"nearest of {len(memory.gallery):,} image vectors, {clip}",
        "together": "what was recalled, ordered by the model, the words of the captions and CLIP",
    }

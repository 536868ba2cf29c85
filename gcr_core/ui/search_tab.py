"""Search tab: one box for words or a picture, two galleries side by side, and the API endpoint `/search`.

Asks the chosen memory and shows what it answers; a mistake of the user's becomes a message in the page, or an error of
the API.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from gcr_core.data.images import open_image
from gcr_core.errors import GcrError, InputError
from gcr_core.retrieval.query import DEFAULT_BEAMS, DEFAULT_TOP, MAX_TOP, SearchRequest
from gcr_core.serving.remote_memory import RemoteMemory
from gcr_core.ui import html, search_view
from gcr_core.ui.gradio_import import gr
from gcr_core.ui.registry import SHIPPED, Registry

CHIPS = 6
"""How many example queries are offered."""
EMPTY: dict[str, Any] = {"text": "", "files": []}
PASTED_CHARACTERS = 10_000_000
"""Gradio turns longer pasted text into a file; with so much room the query's own limit answers instead."""

SCRIPT = '<script src="app.js"></script>'
"""Stands in each part that calls it, as only then Gradio waits until it is loaded."""
AT_FIRST = "() => { const begin = () => window.gcr ? gcr.atFirst() : setTimeout(begin, 50); begin(); }"
CLEAR = "() => [{text: '', files: []}, '']"
"""Runs in the browser, since an answer of the server would wipe what was typed until it came."""
SESSION_STORAGE = "let kept = {}; try { kept = sessionStorage } catch {}"
"""Names the storage of the browser's tab, or an object in its place where that may keep nothing."""
CHOOSE = """
%s
const show = () => { const list = element.querySelector("select"); if (list) list.value = props.value; };
const check = () => {
  if (!props.options.includes(`value="${props.value}"`)) props.value = "%s";
  kept.memory = props.value;
  setTimeout(show);
};
element.addEventListener("change", event => { props.value = event.target.value; });
watch(["value", "options"], check);
""" % (SESSION_STORAGE, SHIPPED)  # noqa: UP031 - braces are the script's
CHOSEN_BEFORE = f"() => {{ {SESSION_STORAGE}; return kept.memory || '' }}"
"""Tells the memory that was chosen before a reload, which goes on with it."""


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
        chosen = gr.HTML(
            SHIPPED,
            options="",
            html_template="${options}",
            js_on_load=CHOOSE,
            apply_default_css=False,
            elem_id="chosen",
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
    with gr.Row(elem_id="chips"):
        chips = [
            gr.Button(words, size="sm", elem_classes="chip", visible=bool(words))
            for words in (*examples, *[""] * CHIPS)[:CHIPS]
        ]
    with gr.Accordion("Options", open=False, elem_id="options"), gr.Row():
        top = gr.Number(DEFAULT_TOP, label="Results on each side", info=f"1 to {MAX_TOP}", precision=0, elem_id="top")
        beams = gr.Number(DEFAULT_BEAMS, label="Beams", info="as many results at most", precision=0, elem_id="beams")
    results = gr.HTML(
        "",
        apply_default_css=False,
        elem_id="results",
        head=SCRIPT,
        js_on_load="gcr.listen(element, trigger, 'act', watch)",
    )
    mosaic = gr.HTML("", apply_default_css=False, elem_id="mosaic")
    asked_last = gr.State(EMPTY)

    def ask(entry: dict[str, Any], top: Any, beams: Any, id: str, request: gr.Request) -> Iterator[dict[Any, Any]]:
        if registry.loading.state == "waking":
            yield {results: search_view.waiting()}
        try:
            # A picture moves to the head of the results, so that the next words are not asked together with it.
            taken = {box: EMPTY} if entry["files"] else {}
            answers = _answers(registry, request, id, entry, top, beams)
            yield from _first_with(taken, ({results: answer, asked_last: entry} for answer in answers))
        except GcrError as mistake:
            yield {results: search_view.message(mistake)}

    def ask_example(words: str, top: Any, beams: Any, id: str, request: gr.Request) -> Iterator[dict[Any, Any]]:
        entry = {"text": words, "files": []}
        yield from _first_with({box: entry}, ask(entry, top, beams, id, request))

    def forget(
        entry: dict[str, Any], top: Any, beams: Any, request: gr.Request, event: gr.EventData
    ) -> Iterator[dict[Any, Any]]:
        id, file_name = str(event._data.get("memory")), str(event._data.get("file"))
        try:
            registry.own_memory(request, id).forget([file_name])
        except GcrError as mistake:
            yield {results: search_view.message(mistake)}
            return
        left = {
            mosaic: html.mosaic(registry.album(request, id)),
            state: search_view.state("ready", f"ready: {_contents(registry.memory(request, id))}"),
            chosen: offered(request),
        }
        yield from _first_with(left, ask(entry, top, beams, id, request))

    def show(id: str, request: gr.Request) -> dict[Any, Any]:
        """A memory, chosen or waking: what it holds, some of its pictures, examples to ask it with."""
        try:
            memory, album = registry.memory(request, id), registry.album(request, id)
        except GcrError as failure:
            return {state: search_view.state("failed", str(failure))}
        suggested = examples if examples and album.id == SHIPPED else _captions(album)
        return {
            state: search_view.state("ready", f"ready: {_contents(memory)}"),
            mosaic: html.mosaic(album),
            **{
                chip: gr.update(value=words, visible=bool(words))
                for chip, words in zip(chips, (*suggested, *[""] * CHIPS), strict=False)
            },
        }

    def offered(request: Any, id: str = "") -> Any:
        """The memories to choose from, once there is a choice; the one with an `id` chosen where one is given."""
        options = _options(registry.own(request), id)
        return gr.HTML(value=id, options=options) if id else gr.HTML(options=options)

    def open_page(id: str, request: gr.Request) -> Any:
        own = {row["id"] for row in registry.own(request)}
        return offered(request, id if id in own else "")

    def search(
        query: str, request: gr.Request, top: int = DEFAULT_TOP, beams: int = DEFAULT_BEAMS, memory: str = ""
    ) -> dict[str, Any]:
        """What the memory recalls for a query in words, and what CLIP + FAISS finds: the best `top` images of
        each, with `beams` beams on the generative side. `memory` is the id of one of your own memories (see
        /memories); without it the memory that the page opens with is asked."""
        try:
            asked = SearchRequest(query, top, beams)
            return registry.memory(request, memory).answer(asked)
        except GcrError as mistake:
            raise gr.Error(str(mistake), print_exception=False) from mistake

    private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    one_at_a_time: dict[str, Any] = {"concurrency_id": "search", "concurrency_limit": 1}
    shown_waiting: dict[str, Any] = {"show_progress": "minimal", "show_progress_on": results}
    asked: dict[str, Any] = {**one_at_a_time, **private, **shown_waiting, "trigger_mode": "always_last"}
    shown = [state, mosaic, *chips]
    in_turn: dict[str, Any] = {"concurrency_id": "show", "concurrency_limit": 1}
    page.load(None, js=AT_FIRST)
    page.load(open_page, [chosen], [chosen], js=CHOSEN_BEFORE, **private)
    page.load(show, [chosen], shown, **in_turn, **private)
    answers: list[dict[str, Any]] = [
        box.submit(ask, [box, top, beams, chosen], [results, box, asked_last], **asked),
        *(chip.click(ask_example, [chip, top, beams, chosen], [results, box, asked_last], **asked) for chip in chips),
    ]
    results.act(forget, [asked_last, top, beams], [results, box, asked_last, mosaic, state, chosen], **asked)
    chosen.change(None, None, [box, results], js=CLEAR, cancels=answers)
    for event in (chosen.change, tab.select):
        event(show, [chosen], shown, **in_turn, **private)
    gr.api(search, api_name="search", **one_at_a_time)
    return SearchTab(chosen, offered)


def _first_with(more: dict[Any, Any], updates: Iterator[dict[Any, Any]]) -> Iterator[dict[Any, Any]]:
    """The updates, the first of them with more: a later one would undo what a person has done since."""
    for update in updates:
        yield update | more
        more = {}


def _answers(registry: Registry, request: Any, id: str, entry: dict[str, Any], top: Any, beams: Any) -> Iterator[str]:
    """The results of one query of the page, as HTML; once more with what the model says of them."""
    words, files = entry["text"], entry["files"]
    if files and words.strip():
        raise InputError("words and a picture were given: ask with one of them, and remove the other")
    picture = files[0] if files else None
    query = SearchRequest(open_image(picture) if picture else words, top, beams, trace=True)
    memory = registry.memory(request, id)
    answer = memory.answer(query)
    album, engines = registry.album(request, id), _engines(memory, beams)
    asked = search_view.uploaded_url(picture) if picture else None
    if not _can_describe(memory):
        yield search_view.results(answer, album, engines, asked)
        return
    yield search_view.results(answer, album, engines, asked, {})
    names = [hit["file_name"] for hit in answer["generative"]]
    said = dict(zip(names, memory.describe(names), strict=True))
    yield search_view.results(answer, album, engines, asked, said)


def _can_describe(memory: RemoteMemory) -> bool:
    """Whether the memory learnt to describe, as every one does that was trained here."""
    return bool(memory.facts.get("training"))


def _options(own: list[dict[str, Any]], id: str) -> str:
    """A list to choose a memory from; nothing while there is only the shipped one."""
    if not own:
        return ""
    rows = [
        (SHIPPED, "Emoji, the memory that ships"),
        *((row["id"], f"{row['name']} ({row['images']:,})") for row in own),
    ]
    options = "".join(
        f'<option value="{html.text(value)}"{" selected" if value == id else ""}>{html.text(words)}</option>'
        for value, words in rows
    )
    return f'<label class="choose"><span>Memory</span><select>{options}</select></label>'


def _contents(memory: RemoteMemory) -> str:
    return f"{len(memory.gallery):,} images, {memory.facts['identifiers']['type']} identifiers"


def _engines(memory: RemoteMemory, beams: int) -> dict[str, str]:
    """In words, how each side came by its images, and whether the dense one learned what the other did."""
    same_pairs = "dense_seconds" in memory.facts.get("training", {})
    clip = "CLIP trained on the same captions" if same_pairs else "CLIP not trained on this gallery"
    return {
        "generative": f"beam search over {len(memory.gallery):,} identifiers, {beams} beams",
        "dense": f"nearest of {len(memory.gallery):,} image vectors, {clip}",
    }


def _captions(album: html.Album) -> tuple[str, ...]:
    """First captions of images spread evenly over the gallery, as examples to ask with."""
    captioned = [captions[0] for captions in album.gallery.captions if captions]
    picked = (captioned[i * len(captioned) // CHIPS] for i in range(CHIPS)) if captioned else ()
    return tuple(dict.fromkeys(picked))

"""The Search tab: one box for words or a picture, two galleries side by side, and the API endpoint `/search`.

Asks `Memory.search` and `Memory.search_image` and shows what they answer; a mistake of the user's becomes a
message in the page, or an error of the API.
"""

from collections.abc import Iterator
from typing import Any

from gcr_core.errors import GcrError, InputError
from gcr_core.images import open_image
from gcr_core.ui import cards
from gcr_core.ui.quick_gradio import gr
from gcr_core.ui.waking import AnyMemory, WakingMemory

TOP, BEAMS = 10, 10
CHIPS = 6
EMPTY: dict[str, Any] = {"text": "", "files": []}
PASTED_CHARACTERS = 10_000_000
"""Gradio turns longer pasted text into a file; with so much room the query's own limit answers instead."""

NAME_THE_BOX = "() => document.querySelector('#query textarea').setAttribute('aria-label', 'Query')"
"""Gradio leaves the text field of a multimodal box without a name for screen readers."""


def build(waking: WakingMemory, examples: tuple[str, ...]) -> None:
    """Lays the tab out in the Blocks around the call. Without `examples`, captions of the gallery serve."""
    state = gr.HTML(cards.state("waking", "waking the memory…"), apply_default_css=False, elem_id="state")
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
        top = gr.Number(TOP, label="Results on each side", info="1 to 100", precision=0, elem_id="top")
        beams = gr.Number(BEAMS, label="Beams", info="as many results at most", precision=0, elem_id="beams")
    results = gr.HTML("", apply_default_css=False, elem_id="results")
    mosaic = gr.HTML("", apply_default_css=False, elem_id="mosaic")

    def ask(entry: dict[str, Any], top: Any, beams: Any) -> Iterator[dict[Any, Any]]:
        if waking.state == "waking":
            yield {results: cards.waiting()}
        try:
            shown = {results: _answer(waking.wait(), entry, top, beams)}
            # A picture has moved to the head of the results: the next words are not asked together with it.
            yield shown | ({box: EMPTY} if entry["files"] else {})
        except GcrError as mistake:
            yield {results: cards.message(mistake)}

    def ask_example(words: str, top: Any, beams: Any) -> Iterator[dict[Any, Any]]:
        entry = {"text": words, "files": []}
        for update in ask(entry, top, beams):
            yield update | {box: entry}

    def wake() -> dict[Any, Any]:
        try:
            memory = waking.wait()
        except GcrError as failure:
            return {state: cards.state("failed", str(failure))}
        captions = examples or _captions(memory)
        return {
            state: cards.state("ready", f"ready: {_contents(memory)}"),
            mosaic: cards.mosaic(memory.gallery),
            **{
                chip: gr.update(value=words, visible=bool(words))
                for chip, words in zip(chips, (*captions, *[""] * CHIPS), strict=False)
            },
        }

    def search(query: str, top: int = TOP, beams: int = BEAMS) -> dict[str, Any]:
        """What the memory recalls for a query in words, and what CLIP + FAISS finds: the best `top` images of
        each, with `beams` beams on the generative side."""
        try:
            return waking.wait().search(query, top, beams)
        except GcrError as mistake:
            raise gr.Error(str(mistake), print_exception=False) from mistake

    private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    one_at_a_time: dict[str, Any] = {"concurrency_id": "search", "concurrency_limit": 1}
    asked: dict[str, Any] = {**one_at_a_time, **private, "trigger_mode": "always_last"}
    gr.on(None, None, js=NAME_THE_BOX)
    gr.on(None, wake, None, [state, mosaic, *chips], concurrency_limit=None, **private)
    box.submit(ask, [box, top, beams], [results, box], **asked)
    for chip in chips:
        chip.click(ask_example, [chip, top, beams], [results, box], **asked)
    gr.api(search, api_name="search", **one_at_a_time)


def _answer(memory: AnyMemory, entry: dict[str, Any], top: Any, beams: Any) -> str:
    """The results of one query of the page, as HTML."""
    words, files = entry["text"], entry["files"]
    if files and words.strip():
        raise InputError("words and a picture were given: ask with one of them, and remove the other")
    picture = files[0] if files else None
    if picture:
        answer = memory.search_image(open_image(picture), top, beams, trace=True)
    else:
        answer = memory.search(words, top, beams, trace=True)
    asked = cards.uploaded_url(picture) if picture else None
    return cards.results(answer, memory.gallery, _engines(memory, beams), asked)


def _contents(memory: AnyMemory) -> str:
    return f"{len(memory.gallery):,} images, {memory.facts['identifiers']['type']} identifiers"


def _engines(memory: AnyMemory, beams: int) -> dict[str, str]:
    """In words, how each side came by its images, and whether the dense one learned what the other did."""
    same_pairs = "dense_seconds" in memory.facts.get("training", {})
    clip = "CLIP trained on the same captions" if same_pairs else "CLIP not trained on this gallery"
    return {
        "generative": f"beam search over {len(memory.gallery):,} identifiers, {beams} beams",
        "dense": f"nearest of {len(memory.gallery):,} image vectors, {clip}",
    }


def _captions(memory: AnyMemory) -> tuple[str, ...]:
    """First captions of images spread evenly over the gallery, as examples to ask with."""
    captioned = [captions[0] for captions in memory.gallery.captions if captions]
    return tuple(captioned[i * len(captioned) // CHIPS] for i in range(CHIPS)) if captioned else ()

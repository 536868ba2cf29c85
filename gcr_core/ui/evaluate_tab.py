"""Evaluate tab, "Test it": queries of one's own against both sides, with figures, plots and misses.

The server renders; evaluate.js fills the frame with what the routes below `/evaluation` send. One's last evaluation
goes on, and stays, whether the page is open or not.
"""

import io
import json
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gcr_core.data.gallery import Gallery
from gcr_core.data.queries import Query, load_queries, pasted_queries
from gcr_core.errors import GcrError, InputError, NotFoundError
from gcr_core.evaluation.answers import write_csv
from gcr_core.settings import ROOT
from gcr_core.ui import evaluate_view
from gcr_core.ui.edits import posted, whole
from gcr_core.ui.evaluations import MAX_MEMORIES, Evaluation, Evaluations, Lent, Subject
from gcr_core.ui.gradio_import import gr
from gcr_core.ui.html import count, without_paths
from gcr_core.ui.registry import SHIPPED, Registry
from gcr_core.ui.search_tab import EMOJI, PAGES_OWN, SCRIPT, SearchTab

KEPT_OUT = ROOT / "assets" / "emoji_queries.jsonl"
"""Keywords of the memory that ships that no training has seen."""
CAPTIONS = 500
"""How many captions of a gallery are asked at the most."""
EXAMPLES = 3
NOT_FOUND = 404
NO_STORE = {"Cache-Control": "no-store"}
SCRIPTS = SCRIPT + '<script src="evaluate.js"></script>'
OPEN = "() => { window.evaluateTab?.open() }"
SUFFIXES = ".csv,.tsv,.txt,.jsonl,.json"


class EvaluateTab:
    """The evaluations behind the tab. Its methods take the request of whoever asks."""

    def __init__(self, registry: Registry, emoji: bool, lent: Lent | None = None) -> None:
        """`emoji`: whether the memory that ships is the emoji's, of which keywords were kept out; `lent`: as
        `Evaluations` takes it."""
        self.registry, self.emoji = registry, emoji
        self.evaluations = Evaluations(registry.visitors.settings.visitors, lent)

    def routes(self) -> list[Route]:
        def sent(path: str, send: Callable[[Request], Response]) -> Route:
            def answer(request: Request) -> Response:
                try:
                    return send(request)
                except NotFoundError as mistake:
                    return JSONResponse({"mistake": without_paths(mistake)}, NOT_FOUND)
                except GcrError as mistake:
                    return JSONResponse({"mistake": without_paths(mistake)}, 400)

            return Route(path, answer, methods=["GET"])

        return [
            sent("/evaluation", self.show),
            sent("/evaluation/misses", self.misses),
            sent("/evaluation/example", self.example),
            sent("/evaluation/results.json", self.as_json),
            sent("/evaluation/results.csv", self.as_csv),
            posted("/evaluation", self.act),
        ]

    def show(self, request: Request) -> Response:
        """{"progress"} while one goes on; else {"version", "results"}, of which a page that `seen` it has no need."""
        evaluation = self.evaluations.of(self._owner(request))
        if evaluation is None:
            return JSONResponse({}, headers=NO_STORE)
        version = str(evaluation.version)
        if evaluation.state == "running":
            return JSONResponse({"progress": evaluate_view.progress(evaluation)}, headers=NO_STORE)
        if request.query_params.get("seen") == version:
            return JSONResponse({"version": version}, headers=NO_STORE)
        results = evaluate_view.results(evaluation)
        return JSONResponse({"version": version, "results": results}, headers=NO_STORE)

    def misses(self, request: Request) -> Response:
        """{"cards", "total"}: queries that were missed, from `start` on, by `kind`, of the memory at a `place`."""
        asked = dict(request.query_params)
        tested = [each for each in self._ended(request).tested if each.asked]
        place, kind = whole(asked, "place"), asked.get("kind", "")
        if place >= len(tested) or kind not in evaluate_view.MISSED:
            raise NotFoundError("there are no such misses: reload the page")
        shown = self.registry.shown(request, tested[place].id)
        cards, total = evaluate_view.misses(tested[place], shown, kind, whole(asked, "start"))
        return JSONResponse({"cards": cards, "total": total}, headers=NO_STORE)

    def example(self, request: Request) -> Response:
        """{"text"}: a few lines that could be pasted, of a memory's captions."""
        gallery = self.registry.memory(request, request.query_params.get("memory", "")).gallery
        queries = _captions(gallery, EXAMPLES) or [
            Query("words that nobody wrote", None, frozenset(gallery.file_names[:1]))
        ]
        lines = [f"{query.text} | {' | '.join(sorted(query.relevant))}" for query in queries]
        return JSONResponse({"text": "\n".join(lines)}, headers=NO_STORE)

    def as_json(self, request: Request) -> Response:
        body = json.dumps(self._ended(request).as_json(), ensure_ascii=False, indent=1)
        return _file(body, "evaluation.json", "application/json")

    def as_csv(self, request: Request) -> Response:
        lines = io.StringIO()
        tested = self._ended(request).tested
        write_csv(lines, ({"memory": each.name, **row} for each in tested for row in each.rows), ["memory"])
        return _file(lines.getvalue(), "evaluation.csv", "text/csv")

    def act(self, request: Any, asked: dict[str, Any]) -> dict[str, Any]:
        """Begins an evaluation or stops it; `do` says which."""
        owner, verb = self._owner(request), asked.get("do")
        if verb == "begin":
            self.evaluations.begin(owner, *self._asked(request, asked))
        elif verb == "stop":
            self.evaluations.stop(owner)
        else:
            raise InputError(f"{str(verb)[:40]!r} is nothing that can be done here: reload the page")
        return {}

    def _asked(self, request: Any, asked: dict[str, Any]) -> tuple[str, list[Subject]]:
        """In words what is asked, and of which memories. Raises GcrError for what cannot be asked of one of them."""
        ids = asked.get("memories")
        ids = list(dict.fromkeys(map(str, ids))) if isinstance(ids, list) else []
        if not 1 <= len(ids) <= MAX_MEMORIES:
            raise InputError(f"{len(ids)} memories are chosen: choose 1 to {MAX_MEMORIES}")
        names = {row["id"]: row["name"] for row in self.registry.own(request)}
        names[SHIPPED] = EMOJI if self.emoji else PAGES_OWN
        tested = []
        for id in ids:
            memory = self.registry.memory(request, id)
            try:
                queries = self._queries(asked, memory.gallery)
            except GcrError as mistake:
                where = f"“{names.get(id, id)}”: " if len(ids) > 1 else ""
                raise InputError(f"{where}{mistake}") from mistake
            tested.append(Subject(id, names.get(id, id), memory, queries))
        number = len(tested[0].queries)
        kinds = {
            "kept_out": f"{count(number, 'keyword')} kept out of training",
            "captions": f"{count(number, 'caption')} of its own",
        }
        pasted = "1 query of yours" if number == 1 else f"{number:,} queries of yours"
        source = kinds.get(str(asked.get("source")), pasted)
        return f"{source}, asked of {' and '.join(each.name for each in tested)}", tested

    def _queries(self, asked: dict[str, Any], gallery: Gallery) -> list[Query]:
        source = asked.get("source")
        if source == "kept_out" and self.emoji:
            return load_queries(KEPT_OUT, gallery)
        if source == "captions":
            queries = _captions(gallery, CAPTIONS)
            if not queries:
                raise InputError("this memory has no captions: paste queries of your own")
            return queries
        text = asked.get("text")
        if not isinstance(text, str):
            raise InputError(f"text is {type(text).__name__}, not text: reload the page")
        return pasted_queries(text, gallery)

    def _owner(self, request: Any) -> Any:
        return self.registry.visitors.workspace(request).root

    def _ended(self, request: Any) -> Evaluation:
        evaluation = self.evaluations.of(self._owner(request))
        if evaluation is None or evaluation.state == "running":
            raise NotFoundError("there is no test of yours that has ended: begin one")
        return evaluation


def build(tab: gr.Tab, registry: Registry, search: SearchTab, emoji: bool, lent: Lent | None) -> EvaluateTab:
    """Lays the tab out in its place of the page."""
    gr.HTML(
        _frame(emoji),
        apply_default_css=False,
        elem_id="testing",
        head=SCRIPTS,
        js_on_load="evaluateTab.begin(element)",
    )
    for event in (tab.select, search.chosen.change):
        event(None, None, None, js=OPEN, api_visibility="private", show_progress="hidden")
    return EvaluateTab(registry, emoji, lent)


def _captions(gallery: Gallery, most: int) -> list[Query]:
    """Captions that people wrote, spread evenly over the gallery, each asking for all the images that have it."""
    owners: dict[str, list[str]] = {}
    for file_name, texts, written in zip(gallery.file_names, gallery.captions, gallery.pseudo_queries, strict=True):
        for text in texts:
            if text not in written:
                owners.setdefault(text, []).append(file_name)
    captions, asked = list(owners), min(most, len(owners))
    spread = [captions[place * len(captions) // asked] for place in range(asked)]
    return [Query(text, None, frozenset(owners[text])) for text in spread]


def _file(body: str, name: str, media_type: str) -> Response:
    headers = {**NO_STORE, "Content-Disposition": f'attachment; filename="{name}"'}
    return Response(body, media_type=media_type, headers=headers)


def _frame(emoji: bool) -> str:
    kept_out = '<label><input type="radio" name="source" value="kept_out"> Keywords kept out of training</label>'
    return (
        '<form class="ask-many" data-part="form">'
        '<p class="lede">How often is the right picture first? Ask both sides queries whose answers you know.</p>'
        '<fieldset class="memories-asked" data-part="which" hidden><legend>Memories, side by side</legend>'
        '<p data-part="memories"></p></fieldset>'
        '<fieldset class="sources"><legend>Queries</legend>'
        '<label><input type="radio" name="source" value="pasted" checked> Paste or choose a file</label>'
        f"{kept_out if emoji else ''}"
        '<label><input type="radio" name="source" value="captions"> Captions that it has learnt</label>'
        '</fieldset><div class="pasted" data-part="pasted"><label class="sr" for="test-queries">Queries</label>'
        '<textarea id="test-queries" data-part="text" rows="7" spellcheck="false" autocapitalize="none" '
        'placeholder="a happy dog | 1f436.png&#10;what stands in the garden | IMG_2041.jpg | IMG_2044.jpg">'
        "</textarea>"
        '<p class="chosen-file" data-part="file" hidden><span data-part="file-name"></span> '
        '<button type="button" class="quiet" data-does="unchoose">Remove</button></p>'
        '<p class="does"><label class="button">Choose a file<input type="file" data-part="choose" '
        f'accept="{SUFFIXES}"></label>'
        '<button type="button" class="quiet" data-does="example" data-part="example" disabled>'
        "Put in an example</button></p>"
        '<p class="hint">One query a line, then the file that answers it, parted by <code>|</code> or a tab; with '
        "several right answers more files. No file behind the bar asks for what the gallery does not have. Rows of "
        "a spreadsheet, CSV and a query file’s JSON Lines "
        '(<code>&#123;"query": "…", "relevant": ["…"]&#125;</code>) go as well. '
        "The Gallery tab has the names of files.</p></div>"
        '<p class="does"><button class="primary" data-part="go" disabled>Test it</button></p></form>'
        '<p class="note warning" role="alert" data-part="mistake" hidden></p>'
        '<p class="sr" role="status" data-part="told"></p>'
        '<div class="under-way" data-part="progress" hidden></div><div data-part="results"></div>'
    )

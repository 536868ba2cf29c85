"""Memorise tab: from dropped pictures to a memory that can be searched, and what can be done with it later.

Keeps nothing that a reload would lose: what is shown is read from the visitor's workspace and jobs, which check every
id that comes in. Models are asked in another process.
"""

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from contextvars import copy_context
from typing import Any, Literal

from gcr_core.data.gallery import IMPORT_SIDE
from gcr_core.data.images import open_image
from gcr_core.errors import GcrError, InputError, NotFoundError
from gcr_core.serving.job import DONE, QUEUED, UNFINISHED
from gcr_core.serving.job_queue import JobQueue
from gcr_core.serving.remote_memory import task_host
from gcr_core.serving.workspace import Workspace
from gcr_core.settings import Settings
from gcr_core.ui import hosting, html, hub_push, memorize_view, uploads, zerogpu
from gcr_core.ui.captions_view import Place
from gcr_core.ui.gradio_import import gr
from gcr_core.ui.memorize_draft import Draft
from gcr_core.ui.registry import Registry
from gcr_core.ui.search_tab import SCRIPT, SearchTab

POLL_SECONDS = 1.0
"""How often an open page asks what is new."""
ADDED_AT_ONCE = 16
"""How many pictures a memory takes in before it is saved."""
LISTEN = "gcr.listen(element, trigger, 'act', watch); gcr.take(element, trigger, 'dropped')"
ANSWERED = "async () => [await edits.before]"
"""Runs in the browser, so that what was typed before a reload is answered before the page asks what there is."""
PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}


class Chores:
    """Long work on memories that outlives a reload: how the last one ended, by the memory's id."""

    def __init__(self, doing: dict[str, str]) -> None:
        """`doing`: a memory's id → what is being done with it, in words."""
        self.doing = doing
        self.ended: dict[str, tuple[str, str]] = {}
        self._lock = threading.Lock()

    def begin(self, id: str, words: str, work: Callable[[Callable[[str], None]], str]) -> None:
        """Starts work on a memory; `work` gets a function for progress in words and returns how it ended.

        Raises InputError for a memory that is being worked on.
        """
        with self._lock:
            if id in self.doing:
                raise InputError("this memory is being worked on: wait until that is done")
            self.doing[id] = words

        def run() -> None:
            try:
                self.ended[id] = ("good", work(lambda words: self.doing.__setitem__(id, words)))
            except Exception as mistake:
                self.ended[id] = ("", str(mistake))
            finally:
                del self.doing[id]

        threading.Thread(target=copy_context().run, args=(run,), name=f"chore-{id}", daemon=True).start()

    def over(self, ids: Iterable[str]) -> list[tuple[str, str]]:
        """How the work on these memories ended, where it has; told once."""
        return [self.ended.pop(id) for id in ids if id in self.ended and id not in self.doing]


class MemorizeTab:
    """The tab's parts and what fills them. Its methods take the request of whoever asks."""

    def __init__(self, registry: Registry, jobs: JobQueue, search: SearchTab, tabs: gr.Tabs) -> None:
        self.registry, self.jobs, self.search, self.tabs = registry, jobs, search, tabs
        self.settings: Settings = registry.visitors.settings
        self.chores = Chores(registry.doing)
        self.training = zerogpu.host(task_host, "consolidation")
        part: dict[str, Any] = {"apply_default_css": False, "head": SCRIPT, "js_on_load": LISTEN}
        with gr.Row(elem_id="desk"):
            with gr.Column(scale=5, elem_id="flow"):
                self.work = gr.HTML("", elem_id="jobs", **part)
                self.draft = Draft(registry, jobs, part)
            with gr.Column(scale=3, elem_id="aside"):
                self.kept = gr.HTML("", elem_id="shelf", **part)
                hub_push.sign_in()
        self.draft.edits.does |= {"rename": self.rename}
        self.notice = gr.HTML("", elem_id="notice", **part)
        self.timer = gr.Timer(POLL_SECONDS, active=False)
        self.seen = gr.State("")

    @property
    def parts(self) -> list[Any]:
        return [self.work, *self.draft.parts, self.kept, self.notice, self.timer, self.seen, self.search.chosen]

    def workspace(self, request: Any) -> Workspace:
        return self.registry.visitors.workspace(request)

    # What is shown

    def everything(self, request: Any) -> dict[Any, Any]:
        try:
            return {**self.show_work(request), **self.draft.show(request), **self.show_memories(request)}
        except GcrError as mistake:
            return {
                self.notice: html.notice(mistake),
                self.draft.prepare: memorize_view.remarks([str(mistake)], refused=True),
            }

    def show_work(self, request: Any) -> dict[Any, Any]:
        """The jobs; asked for again every second while something goes on."""
        workspace = self.workspace(request)
        kept = workspace.ids("memories")
        rows = [row | {"memory": row["memory"] if row["memory"] in kept else None} for row in self.jobs.list(workspace)]
        losses = {row["id"]: self.jobs.losses(workspace, row["id"]) for row in rows if row["state"] != QUEUED}
        stirs = self.draft.stirs(workspace)
        alive = any(row["state"] in UNFINISHED for row in rows) or self._busy(workspace) or stirs
        seen = json.dumps([[[row["id"], row["state"]] for row in rows], stirs])
        work = memorize_view.jobs(rows, losses, hub_push.instead_of_token(self.settings))
        return {self.work: work, self.timer: gr.Timer(active=bool(alive)), self.seen: seen}

    def show_memories(self, request: Any) -> dict[Any, Any]:
        rows = [(row, self.registry.album(request, row["id"])) for row in self.workspace(request).memories()]
        token, kept_for = hub_push.instead_of_token(self.settings), hosting.kept_for(self.settings)
        kept = memorize_view.memories(rows, self.chores.doing, token, kept_for)
        return {self.kept: kept, self.search.chosen: self.search.offered(request)}

    def _busy(self, workspace: Workspace) -> list[str]:
        return [id for id in workspace.ids("memories") if id in self.chores.doing or id in self.chores.ended]

    # What a person does

    def open_page(self, refused: str, request: gr.Request) -> dict[Any, Any]:
        """`refused`: what was wrong with edits that the page before this one had no answer to."""
        return {self.notice: html.notice(refused) if refused else ""} | self.everything(request)

    def come_back(self, request: gr.Request) -> dict[Any, Any]:
        """To this tab from the other, where pictures may have been forgotten."""
        try:
            return {**self.show_work(request), **self.show_memories(request)}
        except GcrError:
            return {self.notice: gr.skip()}

    def tick(self, seen: str, place: Place, request: gr.Request) -> dict[Any, Any]:
        try:
            workspace = self.workspace(request)
            shown = self.show_work(request)
            busy = self._busy(workspace)
            over = self.chores.over(busy)
            if shown[self.seen] != seen or busy:
                shown |= {**self.show_memories(request), **self.draft.show(request, place=place)}
            if ended := self.draft.ended(workspace):
                shown |= {self.notice: html.notice(ended[1], ended[0])}
            for kind, words in over:
                shown |= {self.notice: html.notice(words, kind)}
            return shown
        except GcrError as mistake:
            return {self.notice: html.notice(mistake), self.timer: gr.Timer(active=False)}

    def drop(self, request: gr.Request, event: gr.EventData) -> Iterator[dict[Any, Any]]:
        """Pictures or a memory, uploaded a moment ago."""
        files = event._data.get("files")
        try:
            if event._data.get("drop") == "memory":
                yield {self.notice: html.notice("Opening the memory…", "good")}
                with uploads.laid_out(files) as paths:
                    for path in paths:
                        self.workspace(request).open_memory(path)
                yield {self.notice: "", **self.show_memories(request)}
                return
            yield {self.notice: ""}
            yield from self.draft.take_in(request, files)
        except GcrError as mistake:
            yield {self.notice: html.notice(mistake), **self.draft.show(request)}

    def follow(self, request: gr.Request) -> Iterator[dict[Any, Any]]:
        """An import that went on while the page was loaded anew."""
        yield {self.notice: gr.skip()}  # Gradio empties the outputs of a generator that yields nothing.
        try:
            yield from self.draft.follow(request)
        except GcrError as mistake:
            yield {self.notice: html.notice(mistake), **self.draft.show(request)}

    def study(self, request: gr.Request) -> Iterator[dict[Any, Any]]:
        yield {self.notice: gr.skip()}
        try:
            yield from self.draft.study(request)
        except GcrError as mistake:
            yield {self.notice: html.notice(mistake)}

    def act(self, request: gr.Request, event: gr.EventData, signed_in: gr.OAuthToken | None = None) -> dict[Any, Any]:
        """One thing that was clicked, sent or typed; `do` says which."""
        data = event._data | {"signed_in": signed_in}
        verb = {
            "heard": self._heard,
            "refused": self._refused,
            "page": self.draft.turn,
            "only": self.draft.turn,
            "caption": self.draft.edited,
            "choose": self.draft.edited,
            "write": self._write,
            "hush": self.draft.hush,
            "discard": self.draft.discard,
            "memorise": self._memorise,
            "stop": self._job,
            "resume": self._job,
            "remove": self._job,
            "search": self._search,
            "add": self._add,
            "consolidate": self._consolidate,
            "push": self._push,
            "rename": self._renamed,
            "delete": self._delete,
        }.get(str(data.get("do")))
        try:
            if verb is None:
                raise InputError(f"{data.get('do')!r} is nothing that can be done here: reload the page")
            return {self.notice: ""} | verb(request, data)
        except GcrError as mistake:
            return {self.notice: html.notice(mistake)}

    def _heard(self, request: Any, data: dict[str, Any]) -> dict[Any, Any]:
        return {self.notice: ""}

    def _refused(self, request: Any, data: dict[str, Any]) -> dict[Any, Any]:
        """An edit that was not kept."""
        return {self.notice: html.notice(data.get("mistake"))}

    def _write(self, request: Any, data: dict[str, Any]) -> dict[Any, Any]:
        return {**self.draft.write(request, data), **self.show_work(request)}

    def _memorise(self, request: Any, data: dict[str, Any]) -> dict[Any, Any]:
        self.draft.memorise(request, data)
        return {**self.show_work(request), **self.draft.show(request)}

    def _job(self, request: Any, data: dict[str, Any]) -> dict[Any, Any]:
        self.do(self.workspace(request), str(data["do"]), _id(data, "job"))
        return {**self.show_work(request), **self.draft.show(request)}

    def do(self, workspace: Workspace, verb: str, id: str) -> None:
        """Stops, resumes or removes a job; with one that is done its gallery goes too, as the memory has its own."""
        if verb == "resume":
            self.draft.check_training()
        job = self.jobs.status(workspace, id)
        {"stop": self.jobs.stop, "resume": self.jobs.resume, "remove": self.jobs.remove}[verb](workspace, id)
        others = {other["gallery"] for other in self.jobs.list(workspace)}
        if verb == "remove" and job["state"] == DONE and job["gallery"] not in others:
            with suppress(NotFoundError):
                workspace.delete(job["gallery"])

    def _search(self, request: Any, data: dict[str, Any]) -> dict[Any, Any]:
        id = _id(data, "memory")
        self.workspace(request).memory(id)
        return {self.search.chosen: self.search.offered(request, id), self.tabs: gr.Tabs(selected="search")}

    def _add(self, request: Any, data: dict[str, Any]) -> dict[Any, Any]:
        id, lines = _id(data, "memory"), str(data.get("captions") or "").splitlines()
        memory, settings = self.registry.own_memory(request, id), self.settings
        captions = [line.strip() for line in lines if line.strip()]
        self.workspace(request).check_upload(0)
        most = settings.max_pictures - len(memory.gallery)

        def work(say: Callable[[str], None]) -> str:
            there = set(memory.gallery.file_names)
            names: list[str] = []
            skipped: list[str] = []
            started = time.monotonic()
            with uploads.laid_out(data.get("files"), most) as paths:
                for start in range(0, len(paths), ADDED_AT_ONCE):
                    pictures = []
                    for path in paths[start : start + ADDED_AT_ONCE]:
                        try:
                            pictures.append((path.name, open_image(path, IMPORT_SIDE)))
                        except InputError as mistake:
                            skipped.append(str(mistake))
                    names += memory.add(pictures, [captions] * len(pictures)) if pictures else []
                    say(f"Adding pictures… {min(start + ADDED_AT_ONCE, len(paths)):,} of {len(paths):,}")
            if not names:
                raise InputError(f"nothing was added: {skipped[0] if skipped else 'choose a picture'}")
            new = [name for name in dict.fromkeys(names) if name not in there]
            known = [name for name in dict.fromkeys(names) if name in there]
            said = [f"Added {_some(new)} in {time.monotonic() - started:.1f} s."] if new else []
            said += [f"There already: {_some(known)}."] if known else []
            said += ["Consolidate to train their new captions in."] if known and captions and settings.training else []
            said += [f"Left out: {_some(skipped)}."] if skipped else []
            return " ".join(said)

        self.chores.begin(id, "Adding pictures…", work)
        return {**self.show_work(request), **self.show_memories(request)}

    def _consolidate(self, request: Any, data: dict[str, Any]) -> dict[Any, Any]:
        self.draft.check_training()
        id = _id(data, "memory")
        self.registry.own_memory(request, id)
        folder = self.workspace(request).memory(id)

        def work(say: Callable[[str], None]) -> str:
            with self.jobs.nothing_else_trains():
                try:
                    self.training.ask("consolidate", folder, on_word=lambda word: say(f"Consolidating… {word}"))
                finally:
                    self.training.end()
            return "Consolidated: what was added is trained in, what was forgotten is trained out."

        self.chores.begin(id, "Consolidating, once nothing else trains…", work)
        return {**self.show_work(request), **self.show_memories(request)}

    def _push(self, request: Any, data: dict[str, Any]) -> dict[Any, Any]:
        id = _id(data, "memory")
        self.registry.own_memory(request, id)
        folder = self.workspace(request).memory(id)
        self.chores.begin(id, "Pushing…", hub_push.pushing(self.settings, folder, data, data["signed_in"]))
        return {**self.show_work(request), **self.show_memories(request)}

    def rename(self, request: Any, edit: dict[str, Any]) -> None:
        """Writes the name of a memory."""
        self.change(request, "rename", _id(edit, "memory"), str(edit.get("name", "")))

    def _renamed(self, request: Any, data: dict[str, Any]) -> dict[Any, Any]:
        return self.show_memories(request)

    def _delete(self, request: Any, data: dict[str, Any]) -> dict[Any, Any]:
        self.change(request, "delete", _id(data, "memory"))
        return {**self.show_work(request), **self.show_memories(request)}

    def change(self, request: Any, verb: Literal["rename", "delete"], id: str, *arguments: str) -> None:
        """Renames or deletes one of the asker's memories that rests."""
        self.registry.own_memory(request, id)
        getattr(self.workspace(request), verb)(id, *arguments)


def _some(words: list[str]) -> str:
    return "; ".join(words[:3]) + " and more" * (len(words) > 3)


def _id(data: dict[str, Any], kind: str) -> str:
    return str(data.get(kind, ""))


def build(
    page: gr.Blocks, place: gr.Tab, registry: Registry, jobs: JobQueue, search: SearchTab, tabs: gr.Tabs
) -> MemorizeTab:
    """Lays the tab out in its place of the page."""
    tab = MemorizeTab(registry, jobs, search, tabs)
    studied = {"concurrency_id": "study", "concurrency_limit": 1, **PRIVATE}
    often = {"trigger_mode": "multiple", "concurrency_limit": None, **PRIVATE}
    opened = page.load(tab.open_page, [tab.notice], tab.parts, js=ANSWERED, **PRIVATE)
    followed = opened.then(tab.follow, None, tab.parts, **often)
    followed.then(tab.study, None, tab.parts, **studied)
    place.select(tab.come_back, None, tab.parts, **PRIVATE)
    tab.timer.tick(tab.tick, [tab.seen, tab.draft.place], tab.parts, **PRIVATE)
    tab.seen.change(tab.study, None, tab.parts, **studied)
    for part in (tab.work, tab.draft.prepare, tab.draft.notes, tab.kept, tab.notice):
        part.act(tab.act, None, [*tab.parts, tabs], **often)
    for part in (tab.draft.table, tab.draft.how):
        part.act(tab.act, None, [*tab.parts, tabs], **often).then(tab.study, None, tab.parts, **studied)
    for part in (tab.draft.prepare, tab.kept):
        part.dropped(tab.drop, None, tab.parts, **often).then(tab.study, None, tab.parts, **studied)
    return tab

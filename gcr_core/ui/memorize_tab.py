"""Memorise tab: from dropped pictures to a memory that can be searched, and what can be done with it later.

Keeps nothing that a reload would lose: what is shown is read from the visitor's workspace and jobs, which check every
id that comes in. Models are asked in another process.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from gcr_core.data.gallery import Gallery
from gcr_core.errors import GcrError, InputError, NotFoundError
from gcr_core.files.layout import undo_folder
from gcr_core.memory.manifest import changes, read_manifest
from gcr_core.serving.job import DONE, QUEUED, UNFINISHED
from gcr_core.serving.job_queue import JobQueue
from gcr_core.serving.remote_memory import task_host
from gcr_core.serving.workspace import Workspace
from gcr_core.settings import Settings
from gcr_core.ui import freshness, hosting, html, hub_push, job_view, memorize_view, memory_cards, uploads, zerogpu
from gcr_core.ui.captions_view import Place
from gcr_core.ui.chores import Chores, adding
from gcr_core.ui.gradio_import import gr, said
from gcr_core.ui.memorize_draft import Draft
from gcr_core.ui.registry import Registry
from gcr_core.ui.search_tab import SCRIPT, SearchTab

LISTEN = (
    "gcr.listen(element, trigger, 'act', watch); gcr.take(element, trigger, 'dropped'); "
    "desk.listen(element, trigger, watch)"
)
FOLLOW = "desk.follow(() => props.value, () => trigger('stirred'))"
ANSWERED = "async () => [await edits.before]"
"""Runs in the browser, so that what was typed before a reload is answered before the page asks what there is."""
CALLS_KNOWN = 1000
"""Of how many calls of forget the lists of what they took are kept."""
PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}


class MemorizeTab:
    """The tab's parts and what fills them. Its methods take the request of whoever asks."""

    def __init__(self, registry: Registry, jobs: JobQueue, search: SearchTab) -> None:
        self.registry, self.jobs, self.search = registry, jobs, search
        self.settings: Settings = registry.visitors.settings
        self.chores = Chores(registry.doing)
        self.training = zerogpu.host(task_host, "consolidation")
        part: dict[str, Any] = {"apply_default_css": False, "head": SCRIPT, "js_on_load": LISTEN}
        with gr.Row(elem_id="desk"):
            with gr.Column(scale=5, elem_id="flow"):
                self.draft = Draft(registry, jobs, part, lambda folder, *end: self.chores.end(folder.name, *end))
            with gr.Column(scale=3, elem_id="aside"):
                self.work = gr.HTML("", elem_id="jobs", **part)
                self.kept = gr.HTML("", elem_id="shelf", **part)
                hub_push.sign_in()
        self.draft.edits.does |= {"rename": self.rename}
        self.notice = gr.HTML("", elem_id="notice", **part)
        self.seen = gr.State("")
        self.version = gr.HTML(
            "", html_template="<span hidden></span>", elem_id="fresh", **(part | {"js_on_load": FOLLOW})
        )

    @property
    def parts(self) -> list[Any]:
        return [self.work, *self.draft.parts, self.kept, self.notice, self.version, self.seen, self.search.chosen]

    def workspace(self, request: Any) -> Workspace:
        return self.registry.visitors.workspace(request)

    # What is shown

    def everything(self, request: Any) -> dict[Any, Any]:
        try:
            now = self.state(request)  # before the rest, which may be newer
            shown = self.show_work(request) | self.draft.show(request) | self.show_memories(request)
            return shown | self._ends(request, None, now) | {self.version: json.dumps(now)}
        except GcrError as mistake:
            return {
                self.notice: html.notice(mistake),
                self.draft.prepare: memorize_view.remarks([str(mistake)], refused=True),
            }

    def show_work(self, request: Any) -> dict[Any, Any]:
        """The jobs that have no memory yet. Of those that have, the gallery goes: the memory has its own."""
        workspace = self.workspace(request)
        rows = self.jobs.list(workspace)
        needed = {row["gallery"] for row in rows if row["state"] != DONE}
        for row in rows:
            if row["gallery"] not in needed:
                with suppress(NotFoundError):
                    workspace.delete(row["gallery"])
        losses = {row["id"]: self.jobs.losses(workspace, row["id"]) for row in rows if row["state"] != QUEUED}
        seen = json.dumps([{row["id"]: row["state"] for row in rows}, self.draft.stirs(workspace)])
        return {self.work: job_view.jobs(rows, losses), self.seen: seen}

    def show_memories(self, request: Any) -> dict[Any, Any]:
        rows, gone = [], {}
        for row in self.workspace(request).memories():
            shown, facts = self.registry.shown(request, row["id"]), self.registry.memory(request, row["id"]).facts
            report = facts.get("training")
            rows.append((row, shown, report if isinstance(report, dict) else {}))
            gone[row["id"]] = len(_gone(self.workspace(request).memory(row["id"]), shown.gallery))
        token, kept_for = hub_push.instead_of_token(self.settings), hosting.kept_for(self.settings)
        kept = memory_cards.cards(rows, self.chores.doing, token, kept_for, gone)
        return {self.kept: kept, self.search.chosen: self.search.offered(request)}

    def state(self, request: Any) -> dict[str, Any]:
        """What each part of the tab is of: "work", "memories", "draft"; "ended": the number of the chore that ended
        last; "alive" while something changes by itself."""
        workspace = self.workspace(request)
        ended = self.chores.last(_ids(workspace))
        jobs, busy = self.jobs.list(workspace), [id for id in workspace.ids("memories") if id in self.chores.doing]
        stirs = self.draft.state(request)
        alive = bool(any(row["state"] in UNFINISHED for row in jobs) or busy or stirs[0] or self.draft.stirs(workspace))
        # With the last end, as a chore may have begun and ended since the page was told what is done.
        doing = [(id, self.chores.doing.get(id), self.chores.last([id])) for id in workspace.ids("memories")]
        memories = [(id, freshness.stamp(workspace.memory(id))) for id in workspace.ids("memories")]
        return {
            "work": freshness.digest([jobs, freshness.now() if alive else 0]),
            "memories": freshness.digest([sorted(memories), doing]),
            "draft": freshness.digest(stirs),
            "ended": ended,
            "alive": alive,
        }

    def _ends(self, request: Any, since: int | None, now: dict[str, Any]) -> dict[Any, Any]:
        """How chores ended, up to a state, that a page has not told yet (see `Chores.over`)."""
        ends = self.chores.over(_ids(self.workspace(request)), since, now["ended"])
        kind = "good" if all(kind for kind, _ in ends) else ""
        return {self.notice: html.notice(" ".join(words for _, words in ends), kind)} if ends else {}

    # What a person does

    def open_page(self, refused: str, request: gr.Request) -> dict[Any, Any]:
        """`refused`: what was wrong with edits that the page before this one had no answer to."""
        return self.everything(request) | ({self.notice: html.notice(refused)} if refused else {})

    def come_back(self, request: gr.Request) -> dict[Any, Any]:
        """To this tab from the other, where pictures may have been forgotten."""
        try:
            return {**self.show_work(request), **self.show_memories(request)}
        except GcrError:
            return {self.notice: gr.skip()}

    def tick(self, version: str, seen: str, place: Place, request: gr.Request) -> dict[Any, Any]:
        """What has changed since a page showed what it shows, whoever changed it."""
        try:
            workspace, now = self.workspace(request), self.state(request)
            before = _version(version)
            shown: dict[Any, Any] = {self.version: json.dumps(now)}
            if now["work"] != before.get("work"):
                shown |= self.show_work(request)
            if now["memories"] != before.get("memories"):
                shown |= self.show_memories(request)
            if now["draft"] != before.get("draft"):
                shown |= self.draft.show(request, place=place)
            shown |= self._ends(request, before.get("ended"), now)
            for row in self._finished(workspace, seen):
                does = memory_cards.search_it(row["id"], "undo", "Search it now")
                shown |= {self.notice: html.notice(job_view.finished(row["name"]), "good", does)}
            return shown
        except GcrError as mistake:
            return {self.notice: html.notice(mistake)}

    def _finished(self, workspace: Workspace, seen: str) -> list[dict[str, Any]]:
        """The jobs that a page has seen going on, and whose memories are there now."""
        before = json.loads(seen)[0] if seen else {}
        done = [row for row in self.jobs.list(workspace) if row["state"] == DONE]
        return [row for row in done if before.get(row["id"]) in UNFINISHED]

    def drop(self, place: Place, request: gr.Request, event: gr.EventData) -> Iterator[dict[Any, Any]]:
        """Pictures or a memory, uploaded a moment ago."""
        files = said(event).get("files")
        try:
            if said(event).get("drop") == "memory":
                yield {self.notice: html.notice("Opening the memory…", "good")}
                with uploads.laid_out(files) as paths:
                    for path in paths:
                        self.workspace(request).open_memory(path)
                yield {self.notice: "", **self.show_memories(request)}
                return
            yield {self.notice: ""}
            yield from self.draft.take_in(request, files, place)
        except GcrError as mistake:
            yield {self.notice: html.notice(mistake), **self.draft.show(request, place=place)}

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
        data = said(event) | {"signed_in": signed_in}
        verb = {
            "heard": self._heard,
            "refused": self._refused,
            "page": self.draft.turn,
            "only": self.draft.turn,
            "caption": self.draft.edited,
            "caption_chosen": self.draft.edited,
            "choose": self.draft.edited,
            "take_out": self.draft.take_out,
            "put_back": self.draft.put_back,
            "write": self._write,
            "hush": self.draft.hush,
            "discard": self.draft.discard,
            "memorise": self._memorise,
            "stop": self._job,
            "resume": self._job,
            "remove": self._job,
            "add": self._add,
            "bring_back": self._bring_back,
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

    def _add(self, request: Any, data: dict[str, Any]) -> dict[Any, Any]:
        id, lines = _id(data, "memory"), str(data.get("captions") or "").splitlines()
        memory = self.registry.own_memory(request, id)
        workspace = self.workspace(request)
        workspace.check_upload(0)
        captions = [line.strip() for line in lines if line.strip()]
        work = adding(memory, workspace, data.get("files"), captions, self.registry.open_picture)
        self.chores.begin(id, "Adding pictures…", work, workspace.importing())
        return {**self.show_work(request), **self.show_memories(request)}

    def _bring_back(self, request: Any, data: dict[str, Any]) -> dict[Any, Any]:
        memory = self.registry.own_memory(request, _id(data, "memory"))
        memory.restore(_gone(memory.folder, memory.gallery))
        return self.show_memories(request)

    def _consolidate(self, request: Any, data: dict[str, Any]) -> dict[Any, Any]:
        self.draft.check_training()
        id = _id(data, "memory")
        self.registry.own_memory(request, id)
        workspace = self.workspace(request)
        folder = workspace.memory(id)

        def work(say: Callable[[str], None]) -> str:
            with self.jobs.nothing_else_trains(workspace):
                if not any(changes(read_manifest(folder)).values()):
                    return "Nothing to consolidate: what came and went is trained in already."
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
        workspace = self.workspace(request)
        work = hub_push.pushing(self.settings, workspace.memory(id), data, data["signed_in"])
        self.chores.begin(id, "Pushing…", work, workspace.pushing())
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
        """Renames or deletes one of the asker's memories that rests; with it goes the job that made it."""
        self.registry.own_memory(request, id)
        workspace = self.workspace(request)
        getattr(workspace, verb)(id, *arguments)
        if verb == "delete":
            with suppress(NotFoundError):
                self.do(workspace, "remove", id)


def _version(text: Any) -> dict[str, Any]:
    """What a page says that it shows; nothing where that cannot be read."""
    with suppress(TypeError, ValueError):
        version = json.loads(text)
        return version if isinstance(version, dict) else {}
    return {}


def _ids(workspace: Workspace) -> list[str]:
    """What chores are done with."""
    return [*workspace.ids("memories"), *workspace.ids("galleries")]


def _gone(folder: Path, gallery: Gallery) -> list[str]:
    """The pictures that the memory in a folder has forgotten and that can be brought back."""
    names: set[str] = set()
    for call in undo_folder(folder).glob("[0-9]*"):
        with suppress(GcrError, OSError):  # brought back meanwhile
            taken = _taken(call / "gallery", freshness.stamp(call / "gallery", "metadata.jsonl"))
            names |= {name for name in taken if name not in gallery}
    return sorted(names)


@lru_cache(CALLS_KNOWN)
def _taken(gallery: Path, written: tuple[int, int]) -> list[str]:
    """The pictures that one call of forget took; `written`: the stamp of the file that lists them."""
    return Gallery.load(gallery).file_names


def _id(data: dict[str, Any], kind: str) -> str:
    return str(data.get(kind, ""))


def build(page: gr.Blocks, place: gr.Tab, registry: Registry, jobs: JobQueue, search: SearchTab) -> MemorizeTab:
    """Lays the tab out in its place of the page."""
    tab = MemorizeTab(registry, jobs, search)
    studied = {"concurrency_id": "study", "concurrency_limit": 1, **PRIVATE}
    often = {"trigger_mode": "multiple", "concurrency_limit": None, **PRIVATE}
    opened = page.load(tab.open_page, [tab.notice], tab.parts, js=ANSWERED, **PRIVATE)
    followed = opened.then(tab.follow, None, tab.parts, **often)
    followed.then(tab.study, None, tab.parts, **studied)
    place.select(tab.come_back, None, tab.parts, **PRIVATE)
    tab.version.stirred(tab.tick, [tab.version, tab.seen, tab.draft.place], tab.parts, **PRIVATE)
    tab.seen.change(tab.study, None, tab.parts, **studied)
    for part in (tab.work, tab.draft.prepare, tab.draft.notes, tab.kept, tab.notice):
        part.act(tab.act, None, tab.parts, **often)
    for part in (tab.draft.table, tab.draft.how):
        part.act(tab.act, None, tab.parts, **often).then(tab.study, None, tab.parts, **studied)
    for part in (tab.draft.prepare, tab.kept):
        part.dropped(tab.drop, [tab.draft.place], tab.parts, **often).then(tab.study, None, tab.parts, **studied)
    return tab

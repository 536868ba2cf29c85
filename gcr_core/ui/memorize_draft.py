"""Draft: a gallery on its way to a memory. Its import, its captions, who writes them, and what will come of it.

Keeps nothing that a reload would lose: the gallery, its captions and the models chosen for it are in the visitor's
workspace; an import and the writing of captions go on whether or not anyone watches.
"""

import math
import time
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from gcr_core.data import staging
from gcr_core.data.gallery import Gallery
from gcr_core.errors import HubError, InputError, NotFoundError
from gcr_core.files.hub import absolute, here, portable
from gcr_core.retrieval.identifiers import IDENTIFIER_TYPES
from gcr_core.serving.caption_writer import CaptionWriter
from gcr_core.serving.importing import DEFAULT_NAME, Importing, read_report, write_report
from gcr_core.serving.job import UNFINISHED
from gcr_core.serving.job_queue import JobQueue
from gcr_core.serving.model_process import EndedError
from gcr_core.serving.remote_memory import task_host
from gcr_core.serving.workspace import Workspace, clean_name
from gcr_core.settings import Settings
from gcr_core.training.config import CAPTIONER, DEFAULT_WRITTEN, PRESET_WORDS, Recipe
from gcr_core.training.preflight import can_describe_pictures, check_written, has_eyes, remarks
from gcr_core.ui import captions_view, memorize_view, uploads, zerogpu
from gcr_core.ui.edits import Edits, whole
from gcr_core.ui.gradio_import import gr
from gcr_core.ui.model_reach import ModelReach
from gcr_core.ui.registry import Registry
from gcr_core.ui.staged_pictures import StagedPictures, gallery_of

IMPORT_POLL_SECONDS = 0.3
"""How often the page shows how far an import is."""
MODELS = {"backbone": "checkpoints/gcr-mini", "clip": "checkpoints/gcr-mini-clip"}
"""The models of a recipe, each with one that is always here."""
CHOSEN = ("name", "preset", "identifiers", "seed", *MODELS)
"""What a person chooses for a draft."""
Shown = dict[Any, Any]
"""Parts of the page, with what they show from now on."""
Studied = tuple[Path, Recipe, int, int]
"""What an estimate is of: a gallery, a recipe, pictures and captions; measured again where either have doubled."""
RETRY_SECONDS = 30
"""After so long a model that the hub did not give is asked for again."""


class Draft:
    """The parts of the page that a draft fills, and what a person does with it. Takes the request of whoever asks."""

    def __init__(
        self, registry: Registry, jobs: JobQueue, part: dict[str, Any], on_end: Callable[[Path, str, str], None]
    ) -> None:
        """`part`: how each part of the tab is made; `on_end` hears how the writing of captions for a gallery in a
        folder ended, as a notice's kind and words."""
        self.registry, self.jobs = registry, jobs
        self.settings: Settings = registry.visitors.settings
        self.caption_writer = CaptionWriter(zerogpu.host(task_host, "caption writer"), on_end)
        self.pictures = StagedPictures(registry.visitors, jobs, self.caption_writer)
        self.edits = Edits(
            registry.visitors,
            {
                "caption": self.pictures.caption,
                "caption_chosen": self.pictures.caption_chosen,
                "choose": self.choose,
            },
        )
        self.reach = ModelReach()
        self.task_host = zerogpu.host(task_host, "estimate")
        self._imports: dict[Path, Importing] = {}
        self._times: dict[Studied, dict[str, float]] = {}
        self._refused: dict[Studied, tuple[float, str]] = {}
        self.prepare = gr.HTML("", elem_id="prepare", **part)
        self.notes = gr.HTML("", elem_id="notes", **part)
        self.table = gr.HTML("", elem_id="captions", **part)
        self.how = gr.HTML("", elem_id="how", **part)
        self.place = gr.State(captions_view.FIRST)

    @property
    def parts(self) -> list[Any]:
        return [self.prepare, self.notes, self.table, self.how, self.place]

    # What is shown

    def show(self, request: Any, id: str = "", place: captions_view.Place = captions_view.FIRST) -> Shown:
        """The newest gallery that no job has taken up, or the one with an `id`; without any, where to drop one."""
        if not self.settings.training:
            return self._instead(memorize_view.training_is_off())
        workspace = self.registry.visitors.workspace(request)
        importing = self._importing(workspace)
        if importing and not importing.more_for:
            return self._instead(memorize_view.importing(*importing.progress))
        id = id or self._newest(workspace)
        if not id:
            return self._instead(memorize_view.drop_zone())
        folder = workspace.gallery(id)
        moves = place[1] and self.caption_writer.of(folder)  # rows leave the table as they get captions
        return {
            self.prepare: self._show_staged(request, id, importing),
            **({} if moves else self._show_table(request, id, place)),
            **self._show_prospects(request, id),
        }

    def _show_staged(self, request: Any, id: str, importing: Importing | None = None) -> str:
        if importing:
            return memorize_view.importing(*importing.progress)
        folder = self.registry.visitors.workspace(request).gallery(id)
        out = len(staging.taken_out(folder))
        longest = self.settings.max_picture_side
        return memorize_view.staged(id, self.registry.gallery(request, id), read_report(folder), longest, out)

    def _importing(self, workspace: Workspace) -> Importing | None:
        """The owner's import, while it goes on."""
        importing = self._imports.get(workspace.root)
        return importing if importing and importing.is_alive() else None

    def _instead(self, words: str) -> Shown:
        return {self.prepare: words, self.notes: "", self.table: "", self.how: ""}

    def _show_table(self, request: Any, id: str, place: captions_view.Place) -> Shown:
        edition = self.edits.edition
        table = captions_view.table(id, self.registry.gallery(request, id), place, edition)
        return {self.table: table, self.place: place}

    def _show_prospects(self, request: Any, id: str) -> Shown:
        """What will be found, and how long each preset takes, once that has been measured."""
        edition = self.edits.edition
        gallery, folder = self.registry.gallery(request, id), self.registry.visitors.workspace(request).gallery(id)
        recipe, writing = self._chosen(folder), self.caption_writer.of(folder)
        key, fixed = _studied(folder, recipe, gallery), self.settings.visitors
        which, lacking = self._lacking(recipe)
        words, refused, offers = [], True, ""
        if lacking is None:
            words = [f"Asking the Hugging Face hub for {getattr(recipe, which)}…"]
        elif lacking:
            offers = captions_view.unreachable(id, which, lacking, MODELS[which], fixed)
        else:
            words, refused = remarks(gallery, recipe), False
            offers = self._offers(id, gallery, recipe)
        if failure := self._refused.get(key):
            words, refused = [failure[1]], True
        times = self._times.get(key)
        most = self.settings.max_gpu_seconds if zerogpu.is_here() else math.inf
        if times and min(times.values()) > most:
            words, refused = [*words, zerogpu.too_long(min(times.values()), most)], True
        notes = memorize_view.remarks(words, refused and lacking is not None) + offers
        how = memorize_view.recipe(
            id,
            self._report(folder) | {key: portable(getattr(recipe, key)) for key in MODELS},
            presets=PRESET_WORDS,
            times=times,
            most=most,
            types=IDENTIFIER_TYPES,
            fixed=fixed,
            refused=refused or writing is not None,
            edition=edition,
        )
        return {self.notes: captions_view.writing(id, writing) if writing else notes, self.how: how}

    def _lacking(self, recipe: Recipe) -> tuple[str, str | None]:
        """Which model of a recipe cannot be had, and why: "" where all can, None while the hub is asked."""
        for which, instead in MODELS.items():
            try:
                lacking = self.reach.lacks(getattr(recipe, which), instead)
            except HubError as refusal:
                return which, str(refusal)
            if lacking != "":
                return which, lacking
        return "", ""

    def _offers(self, id: str, gallery: Gallery, recipe: Recipe) -> str:
        """How captions may be had from a model, as HTML; nothing where none is lacking, or no model can write them."""
        able = can_describe_pictures(recipe.backbone)
        choosable = not self.settings.visitors and self.reach.lacks(CAPTIONER, MODELS["backbone"]) == ""
        if not gallery.bare or not (able or choosable):
            return ""
        if not able:
            return captions_view.offer_able(id)
        wanting = len(self.caption_writer.wanting(gallery.root, gallery, recipe.backbone))
        wordless = len(gallery.bare) - wanting
        name, eyes = Path(recipe.backbone).name, has_eyes(recipe.backbone)
        return captions_view.offer(id, name, wanting, DEFAULT_WRITTEN, eyes, wordless)

    def _newest(self, workspace: Workspace) -> str:
        taken = self.pictures.taken(workspace)
        return next((row["id"] for row in workspace.galleries() if row["id"] not in taken), "")

    def stirs(self, workspace: Workspace) -> list[Any]:
        """What changes without anyone's doing: how far captions are written; empty where nothing does."""
        folders = [(id, workspace.gallery(id)) for id in workspace.ids("galleries")]
        return [
            (id, writing.waits, writing.done) for id, folder in folders if (writing := self.caption_writer.of(folder))
        ]

    def state(self, request: Any) -> list[Any]:
        """What this part of the page is of, but for what is typed and chosen, which each page shows as it is there.

        Another one after an import that failed, too: a page may show that it goes on, and be of what was before.
        """
        workspace = self.registry.visitors.workspace(request)
        importing, id = self._importing(workspace), self._newest(workspace)
        last = self._imports.get(workspace.root)
        imports = [importing and importing.progress, last and last.began]
        if not id:
            return imports
        names = zlib.crc32("/".join(self.registry.gallery(request, id).file_names).encode())
        lacking = self._lacking(self._chosen(workspace.gallery(id)))
        return [*imports, id, names, self.stirs(workspace), lacking]

    # What goes on by itself

    def take_in(self, request: Any, files: Any, place: captions_view.Place = captions_view.FIRST) -> Iterator[Shown]:
        """Imports uploads, as a new draft or for the one that there is; shows how far that is, and in the end the
        draft."""
        self.check_training()
        workspace = self.registry.visitors.workspace(request)
        if self._importing(workspace):
            raise InputError("other pictures are still being read: wait until they are in, then drop these again")
        id = self._newest(workspace)
        merge = partial(self.pictures.merge, workspace, id) if id else None
        importing = self._imports[workspace.root] = Importing(workspace, files, uploads.laid_out, id, merge)
        yield from self._watch(request, importing, place)

    def follow(self, request: Any) -> Iterator[Shown]:
        """How far an import is that goes on, and in the end the draft; nothing where none does."""
        importing = self._imports.get(self.registry.visitors.workspace(request).root)
        if importing and importing.is_alive():
            yield from self._watch(request, importing)
        elif importing:
            yield self.show(request)

    def _watch(
        self, request: Any, importing: Importing, place: captions_view.Place = captions_view.FIRST
    ) -> Iterator[Shown]:
        yield {self.prepare: memorize_view.importing(*importing.progress)}
        while importing.is_alive():
            importing.join(IMPORT_POLL_SECONDS)
            yield {self.prepare: memorize_view.importing(*importing.progress)}
        yield self.show(request, importing.result(), place)

    def study(self, request: Any) -> Iterator[Shown]:
        """How long each preset takes for the draft with the models chosen for it, measured where it was not yet.

        Another page of the visitor's may have had it measured meanwhile.
        """
        try:
            workspace = self.registry.visitors.workspace(request)
            if not self.settings.training or not (id := self._newest(workspace)):
                return
            folder, gallery = workspace.gallery(id), self.registry.gallery(request, id)
            recipe = self._chosen(folder)
            key = _studied(folder, recipe, gallery)
            asked = self._refused.get(key, (-math.inf, ""))[0]
            if self.caption_writer.of(folder) or self._lacking(recipe) != ("", ""):
                return
            if key not in self._times and time.monotonic() >= asked + RETRY_SECONDS:
                try:
                    self._times[key] = self.task_host.ask("estimate", folder, recipe)
                    self._refused.pop(key, None)
                except HubError as refusal:
                    self._refused[key] = time.monotonic(), str(refusal)
            shown = self._show_prospects(request, id)
            if id == self._newest(workspace):
                yield shown
        except (EndedError, NotFoundError):
            return  # The job that has begun meanwhile needs the cores more.

    # What a person does

    def turn(self, request: Any, data: dict[str, Any]) -> Shown:
        """Another page of the captions, or only the pictures without any."""
        return self._show_table(request, gallery_of(data), _place(data))

    def take_out(self, request: Any, data: dict[str, Any]) -> Shown:
        """Removes a picture, or those that are chosen."""
        self.pictures.take_out(request, data)
        return self.show(request, gallery_of(data), _place(data))

    def put_back(self, request: Any, data: dict[str, Any]) -> Shown:
        """Puts all pictures back that were removed."""
        self.pictures.put_back(request, data)
        return self.show(request, gallery_of(data))

    def choose(self, request: Any, edit: dict[str, Any]) -> None:
        """Writes one thing that this draft is to be memorised with, "which" of CHOSEN: its name, or a recipe's part."""
        which, value = str(edit.get("which")), str(edit.get("value") or "").strip()
        if which not in CHOSEN:
            raise InputError(f"{which[:40]!r} is nothing to memorise with: choose {', '.join(CHOSEN)}")
        folder = self.registry.visitors.workspace(request).gallery(gallery_of(edit))
        if which == "name":
            value = clean_name(value) if value else ""
        else:
            recipe = self.recipe(self._report(folder) | {which: value})
        if which in MODELS:
            here(getattr(recipe, which), instead=MODELS[which])
            self._refused.pop(_studied(folder, recipe, self.registry.gallery(request, gallery_of(edit))), None)
        with self.caption_writer.editing:
            write_report(folder, read_report(folder) | {which: value})

    def edited(self, request: Any, data: dict[str, Any]) -> Shown:
        """What follows from an edit that was kept; nothing once a job has taken the gallery up."""
        id, which = gallery_of(data), data.get("which")
        if which in CHOSEN and which not in MODELS:
            return {}
        shown = self._show_prospects(request, id)
        if which == "models" or data.get("do") == "caption_chosen":
            shown |= self._show_table(request, id, _place(data))
        return {} if id in self.pictures.taken(self.registry.visitors.workspace(request)) else shown

    def write(self, request: Any, data: dict[str, Any]) -> Shown:
        """Lets the model write captions for the pictures without any."""
        self.check_training()
        id = gallery_of(data)
        folder = self.registry.visitors.workspace(request).gallery(id)
        recipe = self._chosen(folder)
        check_written(DEFAULT_WRITTEN, recipe.backbone)
        self.caption_writer.begin(folder, recipe.backbone)
        return self._show_prospects(request, id)

    def hush(self, request: Any, data: dict[str, Any]) -> Shown:
        """Stops the model's writing."""
        self.caption_writer.stop(self.registry.visitors.workspace(request).gallery(gallery_of(data)))
        return {}

    def discard(self, request: Any, data: dict[str, Any]) -> Shown:
        """Deletes the gallery."""
        id = gallery_of(data)
        workspace = self.registry.visitors.workspace(request)
        self.caption_writer.stop(workspace.gallery(id))
        workspace.delete(id)
        return self.show(request)

    def memorise(self, request: Any, data: dict[str, Any]) -> None:
        """Queues a job for the gallery, as the form says."""
        self.check_training()
        workspace, id = self.registry.visitors.workspace(request), gallery_of(data)
        with self.caption_writer.editing:
            if any(row["gallery"] == id and row["state"] in UNFINISHED for row in self.jobs.list(workspace)):
                return  # a second click
            if (importing := self._importing(workspace)) and importing.more_for == id:
                raise InputError("more pictures are still being read: wait until they are in")
            if self.caption_writer.of(workspace.gallery(id)):
                raise InputError("the model writes captions for these pictures: wait until it is done, or stop it")
            self.jobs.submit(workspace, id, self.recipe(data), str(data.get("name", "")))
        self.task_host.end()

    def recipe(self, data: dict[str, Any]) -> Recipe:
        """The recipe that a form asks for; a model's folder is named wherever it is opened from. Raises InputError."""
        settings = self.settings
        own = {key: absolute(getattr(settings, key)) for key in MODELS}
        given = {key: absolute(str(data.get(key) or own[key])) for key in MODELS}
        if settings.visitors and given != own:
            raise InputError("backbone and CLIP are fixed on this page: run it on your own machine to choose others")
        return Recipe(
            **given,
            identifiers=str(data.get("identifiers") or "atomic"),
            preset=str(data.get("preset") or "balanced"),
            seed=whole(data, "seed"),
        )

    def check_training(self) -> None:
        if not self.settings.training:
            raise InputError("memorising is switched off here (GCR_TRAINING=0): run the page on your own machine")

    def _chosen(self, folder: Path) -> Recipe:
        """The recipe with the models that were chosen for a gallery; the page's own where none may be chosen."""
        report = self._report(folder)
        return self.recipe({key: report.get(key) for key in MODELS})

    def _report(self, folder: Path) -> dict[str, Any]:
        """What was chosen for a gallery, and its name, but for models where none may be chosen."""
        report = {"name": DEFAULT_NAME} | {key: value for key, value in read_report(folder).items() if value}
        return {key: report[key] for key in CHOSEN if key in report and not (self.settings.visitors and key in MODELS)}


def _studied(folder: Path, recipe: Recipe, gallery: Gallery) -> Studied:
    return folder, recipe, len(gallery).bit_length(), sum(map(len, gallery.captions)).bit_length()


def _place(data: dict[str, Any]) -> captions_view.Place:
    """The page of the captions that is shown, and whether only pictures without any are."""
    return whole(data, "page"), data.get("value") is True or data.get("only") in ("1", True)

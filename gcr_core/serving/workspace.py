"""Workspace: an owner's place below GCR_HOME, its galleries, memories and jobs each in a folder named by its id.

An id is looked up in the owner's own workspace only: another owner's and one of nothing are refused in the same words.
What is listed is whole, and what is deleted is gone at once. Knows folders and manifests, loads no model.
"""

import contextlib
import hashlib
import os
import re
import secrets
import shutil
import sys
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any, Self

from gcr_core.data import staging
from gcr_core.data.gallery import Gallery
from gcr_core.errors import GcrError, InputError, MemoryFormatError, NotFoundError
from gcr_core.files import atomic
from gcr_core.files.hub import absolute, cache, commit, fetch, lacking, released
from gcr_core.files.layout import CLIP_FILE, holds_adapter, undo_folder
from gcr_core.files.names import safe_name
from gcr_core.files.origin import Origin
from gcr_core.memory import archive as memory_archive
from gcr_core.memory.manifest import read_manifest, repository_of, write_manifest
from gcr_core.serving import budget, decoder, guests
from gcr_core.settings import Settings

ID = re.compile(r"[A-Za-z0-9_-]{12}")
"""The form of what `new_id` returns; anything else is no folder's name, whatever it would lead to."""
COMMIT = re.compile("[0-9a-f]{40}")
"""The full hash of a commit, by which the hub gives the same files for ever."""
MAX_NAME_CHARACTERS = 80
"""The most characters of a memory's name."""
NUMBER = re.compile(r" \(\d+\)$")
"""What tells a memory apart from another of its name."""


class Workspace:
    """What one owner keeps: `root/galleries/ID`, `root/memories/ID`, `root/jobs/ID`."""

    def __init__(self, root: Path, settings: Settings | None = None) -> None:
        self.root, self.settings = Path(root), settings or Settings.from_env()

    @classmethod
    def of(cls, home: Path, owner: str | None, settings: Settings | None = None) -> Self:
        """The workspace of whoever knows the secret `owner`; None is the person whose machine it is."""
        if owner is None:
            return cls(home / "mine", settings)
        if not owner:
            raise InputError("the owner's secret is empty: reload the page to be given one")
        return cls(home / "owners" / hashlib.sha256(owner.encode()).hexdigest(), settings)

    def folder(self, kind: str, id: str) -> Path:
        """The folder of one of this owner's "galleries", "memories" or "jobs". Raises NotFoundError."""
        if isinstance(id, str) and ID.fullmatch(id) and (self.root / kind / id).is_dir():
            return self.root / kind / id
        one = {"galleries": "gallery", "memories": "memory", "jobs": "job"}[kind]
        raise NotFoundError(f"there is no such {one} of yours: it was deleted, or the id is mistyped")

    def ids(self, kind: str) -> list[str]:
        """The ids of this owner's "galleries", "memories" or "jobs"."""
        folder = self.root / kind
        return [path.name for path in folder.iterdir() if ID.fullmatch(path.name)] if folder.is_dir() else []

    def new_gallery(self) -> tuple[str, Path]:
        """The id of a gallery to be, and the folder to import it into, which is not there yet."""
        id = new_id()
        return id, self.root / "galleries" / id

    def collect(
        self, sources: Iterable[str | Path], on_progress: Callable[[int, int], None] = lambda done, total: None
    ) -> tuple[str, Gallery]:
        """Imports pictures, zips and folders as a new gallery, within the limits. Raises GalleryError or GcrError."""
        id, into = self.new_gallery()
        return id, self._imported(sources, into, on_progress)

    @contextlib.contextmanager
    def batch(
        self, id: str, sources: Iterable[str | Path], on_progress: Callable[[int, int], None] = lambda done, total: None
    ) -> Iterator[Gallery]:
        """Imports more pictures for a gallery, for as long as the block lasts, which may move them.

        Raises as `collect`, and NotFoundError.
        """
        with atomic.scratch(self.gallery(id) / "batch") as place:
            yield self._imported(sources, place / "imported", on_progress)

    def _imported(self, sources: Iterable[str | Path], into: Path, on_progress: Callable[[int, int], None]) -> Gallery:
        """What is imported into a new folder, unless it turns out to be more than this owner may keep."""
        paths = [Path(source) for source in sources]
        collect = partial(decoder.collect, settings=self.settings) if self.settings.visitors else Gallery.collect
        with self.room_for(paths) as check:
            gallery = collect(paths, into, budget.often(check, on_progress), self.settings.max_pictures)
            try:
                check()
            except GcrError:
                atomic.remove(into)
                raise
        return gallery

    def galleries(self) -> list[dict[str, Any]]:
        """The galleries, the last changed first: {"id", "images", "changed"}."""
        rows = []
        for id in self.ids("galleries"):
            folder = self.root / "galleries" / id
            with _left_aside(folder), (folder / "metadata.jsonl").open("rb") as lines:
                rows.append({"id": id, "images": sum(1 for _ in lines), "changed": _date(folder.stat().st_mtime)})
        return sorted(rows, key=itemgetter("changed"), reverse=True)

    def gallery(self, id: str) -> Path:
        """The folder of a gallery, for `Gallery.load`. Raises NotFoundError."""
        return self.folder("galleries", id)

    def memories(self) -> list[dict[str, Any]]:
        """The memories, the newest first: {"id", "name", "images", "captions", "created", "repository"}, the last of
        the hub where the memory was pushed to or pulled from there, else None."""
        rows = []
        for id in self.ids("memories"):
            with _left_aside(self.root / "memories" / id) as folder:
                manifest = read_manifest(folder)
                row = {name: manifest.get(name) for name in ("name", "images", "captions", "created")}
                rows.append({"id": id, **row, "repository": repository_of(manifest)})
        return sorted(rows, key=lambda row: str(row["created"] or ""), reverse=True)

    def memory(self, id: str) -> Path:
        """The folder of a memory, for `Memory.from_pretrained`. Raises NotFoundError."""
        return self.folder("memories", id)

    def keep(self, folder: Path, id: str, name: str) -> None:
        """Moves a memory that is whole, in a folder on the same disk, into the workspace; `name` gets a number where
        another memory has it."""
        _sign(folder, self._free(name))
        target = self.root / "memories" / id
        target.parent.mkdir(parents=True, exist_ok=True)
        folder.rename(target)

    def rename(self, id: str, name: str) -> None:
        """Gives a memory another name. Raises NotFoundError, InputError for a name that is blank or too long."""
        folder = self.memory(id)
        write_manifest(folder, read_manifest(folder) | {"name": clean_name(name)})

    def delete(self, id: str) -> None:
        """Deletes a memory or a gallery. Raises NotFoundError."""
        if id in self.ids("galleries"):
            atomic.remove(self.gallery(id))
            return
        atomic.remove(self.memory(id))
        for folder in (self.root / "exports" / id, undo_folder(self.root / "memories" / id)):
            if folder.is_dir():
                atomic.remove(folder)

    def export(self, id: str) -> Path:
        """A zip of a memory, named after it, that `open_memory` accepts and that unpacks to a memory's folder.

        Raises NotFoundError, GcrError for one that is rewritten all the while.
        """
        folder = self.memory(id)
        name = safe_name(str(read_manifest(folder).get("name") or "memory").replace("/", "_"))
        with atomic.new_folder(self.root / "exports" / id) as building:
            memory_archive.pack(folder, building / f"{name}.zip")
        return self.root / "exports" / id / f"{name}.zip"

    @contextlib.contextmanager
    def download(self, id: str) -> Iterator[Path]:
        """The zip of `export`, removed when the block ends. Raises GcrError as well where too much waits to be sent."""
        with budget.downloading(self.root, self.settings, budget.bytes_below(self.memory(id))):
            archive = self.export(id)
            made = archive.stat()
            try:
                yield archive
            finally:
                with contextlib.suppress(FileNotFoundError):
                    if os.path.samestat(made, archive.stat()):  # else another download has put its own there
                        archive.unlink()

    def open_memory(self, archive: str | Path) -> str:
        """Puts the memory in a zip into the workspace once it has been opened to see that it can be; returns its id.

        Raises MemoryFormatError for what is no memory, HubError where the hub does not give its backbone, GcrError for
        one over the limits.
        """
        archive = Path(archive)
        id = new_id()
        with (
            self.importing(),
            self.room_for([archive]) as check,
            atomic.new_folder(self.root / "memories" / id) as folder,
        ):
            memory_archive.unpack(archive, folder, self.settings.max_upload_bytes)
            check()
            self._fetch_models(folder)
            with guests.room(folder, self.settings, guests.TRIAL_PATIENCE):
                memory_archive.check(folder)
            name = _on_one_line(str(read_manifest(folder).get("name") or archive.stem))
            _sign(folder, self._free(name[:MAX_NAME_CHARACTERS] or "memory"), **{guests.MARK: True})
        return id

    def _free(self, name: str) -> str:
        """A name that no memory here has: with a number behind it, or a higher one, where this one is taken."""
        taken = {row["name"] for row in self.memories()}
        stem, free, number = NUMBER.sub("", name), name, 1
        while free in taken:
            number += 1
            ending = f" ({number})"
            free = stem[: MAX_NAME_CHARACTERS - len(ending)].rstrip() + ending
        return free

    def _fetch_models(self, folder: Path) -> None:
        """Gets what a memory only names from the hub, which `archive.check` does not ask: its backbone, its CLIP.

        Raises MemoryFormatError for one that a stranger chose to have loaded, HubError.
        """
        if holds_adapter(folder):
            base = read_manifest(folder).get("backbone")
            name, revision = (
                (str(base.get(key)) for key in ("name", "revision")) if isinstance(base, dict) else ("", "")
            )
            self._fetch("backbone", name, revision, self.settings.backbone)
        if (folder / CLIP_FILE).is_file():
            clip = Origin.read(folder / CLIP_FILE)
            self._fetch("CLIP", clip.name, str(clip.revision), self.settings.clip)

    def _fetch(self, kind: str, name: str, revision: str, lent: str) -> None:
        from_hub, instead = COMMIT.fullmatch(revision), f"a memory of a {kind} that is here"
        if self.settings.visitors and (
            absolute(name) != absolute(lent)
            or (from_hub and revision not in (commit(fetch(lent, instead)), *released(lent, instead)))
        ):
            raise MemoryFormatError(
                f"the memory is of the {kind} {name!r} at revision {revision}, the {kind} here is {lent!r}: open it on "
                "your own machine"
            )
        if from_hub:
            size = lacking(name, revision) if self.settings.visitors else 0
            with budget.fetching(self.root, self.settings, size, cache(name)) if size else contextlib.nullcontext():
                fetch(name, instead, revision)

    def importing(self) -> AbstractContextManager[None]:
        """As `budget.importing`."""
        return budget.importing(self.root, self.settings)

    def pushing(self) -> AbstractContextManager[None]:
        """As `budget.pushing`."""
        return budget.pushing(self.root, self.settings)

    def room_for(self, paths: Iterable[Path]) -> AbstractContextManager[Callable[[], None]]:
        """As `budget.reserved`, for what is to be imported."""
        return budget.reserved(self.root, self.settings, sum(map(budget.bytes_below, paths)))

    def check_upload(self, size: int) -> None:
        """Raises GcrError where an upload of so many bytes is too much at once, or on top of what is kept."""
        budget.check(self.root, self.settings, size)

    def sweep(self) -> None:
        """Removes what killed processes left half-written in this workspace."""
        for kind in ("galleries", "memories", "exports", "jobs"):
            atomic.sweep(self.root / kind)
        for kind in ("galleries", "memories", "jobs"):
            for id in self.ids(kind):
                atomic.sweep(self.root / kind / id)
        for id in self.ids("galleries"):
            staging.sweep(self.root / "galleries" / id)
        for part in ("memory", "checkpoint", "checkpoint/*"):  # of trainings that nobody may resume for long
            for folder in self.root.glob(f"jobs/*/{part}/"):
                atomic.sweep(folder)

    def drop_passing(self) -> None:
        """Removes what is kept only as long as a server runs: what can be undone there, and zips to be downloaded."""
        undone = self.root.glob(f"memories/{undo_folder(Path('*')).name}")
        for folder in (*undone, self.root / "exports"):
            shutil.rmtree(folder, ignore_errors=True)


def new_id() -> str:
    return secrets.token_urlsafe(9)


def clean_name(name: str) -> str:
    """A name on one line. Raises InputError for one that is blank or too long."""
    cleaned = _on_one_line(name)
    if not 1 <= len(cleaned) <= MAX_NAME_CHARACTERS:
        raise InputError(
            f"the name has {len(cleaned):,} characters, the limits are 1 and {MAX_NAME_CHARACTERS}: choose another"
        )
    return cleaned


@contextlib.contextmanager
def _left_aside(folder: Path) -> Iterator[Path]:
    """Lets what is damaged, or removed at this moment, be missing from a list, with a line on stderr where it is
    there."""
    try:
        yield folder
    except (OSError, MemoryFormatError) as damage:
        if folder.is_dir():
            print(f"gcr_core: {folder} is left aside: {damage}", file=sys.stderr)


def _on_one_line(text: str) -> str:
    return " ".join("".join(" " if unicodedata.category(c).startswith("C") else c for c in text).split())


def _sign(folder: Path, name: str, **more: bool) -> None:
    """Writes a memory's name and the present moment into its manifest, and more."""
    write_manifest(folder, read_manifest(folder) | {"name": name, "created": _date(time.time())} | more)


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")

"""Importing: dropped files on their way to a gallery, in a thread that goes on whether or not anyone watches."""

import json
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

from gcr_core.data.gallery import Gallery
from gcr_core.files.atomic import write_text
from gcr_core.serving import budget
from gcr_core.serving.workspace import Workspace

DEFAULT_NAME = "My pictures"
"""The name of a gallery where what was dropped has none."""
REPORT_FILE = ".import.json"
"""Says in a gallery's folder, hidden from the gallery, what imports left out, its name, and what was chosen for it."""

LaidOut = Callable[[Any, int], AbstractContextManager[list[Path]]]
"""Lays files out, at most so many loose pictures, as paths for as long as a block lasts."""
Merges = Callable[[Gallery, list[Path]], None]
"""Takes a batch into the gallery that it was imported for, with what it was imported from."""


class Importing(threading.Thread):
    """An import that goes on whether or not anyone watches."""

    def __init__(
        self, workspace: Workspace, files: Any, laid_out: LaidOut, more_for: str = "", merge: Merges | None = None
    ) -> None:
        """`files`: what `laid_out` takes. They become a new gallery, or a batch for the one with the id `more_for`,
        which `merge` takes into it. Raises GcrError where too many imports are under way."""
        super().__init__(name="import", daemon=True)
        self.began = time.monotonic_ns()
        self.progress = (0, 0)
        self.more_for = more_for
        self._workspace, self._files, self._laid_out, self._merge = workspace, files, laid_out, merge
        self._id = ""
        self._mistake: Exception | None = None
        self._under_way = ExitStack()
        self._under_way.enter_context(budget.importing(workspace.root, workspace.settings))
        self.start()

    def run(self) -> None:
        with self._under_way:
            self._run()

    def _run(self) -> None:
        try:
            with self._laid_out(self._files, self._workspace.settings.max_pictures) as paths:
                if self._merge:
                    with self._workspace.batch(self.more_for, paths, self._on_progress) as batch:
                        self._merge(batch, paths)
                    self._id = self.more_for
                    return
                self._id, gallery = self._workspace.collect(paths, self._on_progress)
                folder = paths[0].name if len(paths) == 1 and paths[0].is_dir() else ""
                name = folder or (paths[0].stem.removesuffix(".tar") if len(paths) == 1 else "")
            report = {"name": name, "folder": folder, "skipped": gallery.skipped, "notes": gallery.notes}
            write_report(self._workspace.gallery(self._id), report)
        except Exception as mistake:
            self._mistake = mistake

    def _on_progress(self, done: int, total: int) -> None:
        self.progress = (done, total)

    def result(self) -> str:
        """The gallery's id. Raises what the import raised."""
        self.join()
        if self._mistake:
            raise self._mistake
        return self._id


def write_report(gallery: Path, report: dict[str, Any]) -> None:
    write_text(gallery / REPORT_FILE, json.dumps(report))


def read_report(gallery: Path) -> dict[str, Any]:
    """{"name", "folder": the one that it began as, "skipped", "notes" on what was read otherwise than written, "last":
    {"added", "doubles", "skipped", in numbers, "albums"} of a second or later batch, "wordless": backbone → the images
    that it has no words for, and what was chosen to memorise the gallery with}."""
    try:
        report = json.loads((gallery / REPORT_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        report = None
    return report if isinstance(report, dict) else {}

"""Importing: dropped files on their way to a gallery, in a thread that goes on whether or not anyone watches."""

import json
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from gcr_core.files.atomic import write_text
from gcr_core.serving.workspace import Workspace

DEFAULT_NAME = "My pictures"
"""The name of a gallery where what was dropped has none."""
REPORT_FILE = ".import.json"
"""Says in a gallery's folder, hidden from the gallery, what the import left out, its name, and the models chosen."""


LaidOut = Callable[[Any, int], AbstractContextManager[list[Path]]]
"""Lays files out, at most so many loose pictures, as paths for as long as a block lasts."""


class Importing(threading.Thread):
    """An import that goes on whether or not anyone watches."""

    def __init__(self, workspace: Workspace, files: Any, laid_out: LaidOut) -> None:
        """`files`: what `laid_out` takes."""
        super().__init__(name="import", daemon=True)
        self.progress = (0, 0)
        self._workspace, self._files, self._laid_out = workspace, files, laid_out
        self._id = ""
        self._mistake: Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            with self._laid_out(self._files, self._workspace.settings.max_pictures) as paths:
                self._id, gallery = self._workspace.collect(paths, self._on_progress)
                name = paths[0].stem if len(paths) == 1 else ""
            write_report(self._workspace.gallery(self._id), {"name": name, "skipped": gallery.skipped})
        except Exception as mistake:
            self._mistake = mistake

    def _on_progress(self, done: int, total: int) -> None:
        self.progress = (done, total)

    def result(self) -> str:
        """The new gallery's id. Raises what the import raised."""
        self.join()
        if self._mistake:
            raise self._mistake
        return self._id


def write_report(gallery: Path, report: dict[str, Any]) -> None:
    write_text(gallery / REPORT_FILE, json.dumps(report))


def read_report(gallery: Path) -> dict[str, Any]:
    """{"name", "skipped", and "backbone" and "clip" where others than the page's were chosen}."""
    path = gallery / REPORT_FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

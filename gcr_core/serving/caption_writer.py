"""Caption writer: lets the model write captions for galleries on the page, one gallery at a time, watched or not.

The model is in another process; what it writes is put into the gallery here, batch after batch, where people's own
captions are put in too. So nothing is lost when it is stopped, and a person may correct the first captions while the
last are still being written. Pictures that a model has no words for are noted in the gallery's report.
"""

import threading
import time
from collections.abc import Callable, Iterable
from contextvars import copy_context
from dataclasses import dataclass, field
from pathlib import Path

from gcr_core.data.gallery import Gallery
from gcr_core.errors import GcrError
from gcr_core.serving.importing import read_report, write_report
from gcr_core.serving.model_process import EndedError, ModelProcess
from gcr_core.training.config import DEFAULT_WRITTEN

SLICE = 32
"""How many images the other process is asked for at once."""
TURN_SECONDS = 0.2
"""How often a gallery that waits for its turn looks whether it was stopped."""


@dataclass
class Writing:
    """The captions of one gallery, being written."""

    backbone: str
    total: int
    """The images that had no caption, and for which the model may have words."""
    done: int = 0
    """The images that were written about."""
    wordless: int = 0
    """Those of them that the model had no words for."""
    waits: bool = True
    """Whether captions of another gallery are written first."""
    stopped: bool = False
    _beats: list[tuple[float, int]] = field(default_factory=list)

    @property
    def name(self) -> str:
        return Path(self.backbone).name

    def beat(self, images: int) -> None:
        """Tells that so many more images were written about."""
        self.done += images
        self._beats.append((time.monotonic(), self.done))

    @property
    def seconds_left(self) -> float | None:
        """The time ahead, by all batches but the first, which waited for the model; None before it can be told."""
        if len(self._beats) < 2:
            return None
        (began, before), (now, done) = self._beats[0], self._beats[-1]
        return (now - began) / (done - before) * (self.total - done)


class CaptionWriter:
    """Has captions written for galleries, which are named by their folders."""

    editing: threading.Lock
    """To be held by whoever changes a gallery: its captions, or, where none are written for it, its images."""

    def __init__(self, host: ModelProcess, on_end: Callable[[Path, str, str], None]) -> None:
        """`host`: what asks a `TaskHost`; `on_end` hears how the writing for a gallery ended, as a notice's kind and
        words."""
        self.editing = threading.Lock()
        self._host, self._on_end = host, on_end
        self._turn = threading.Lock()
        self._going: dict[Path, Writing] = {}

    def begin(self, folder: Path, backbone: str) -> None:
        """Begins to write captions for the images of a gallery that have none, unless that goes on already."""
        if folder not in self._going:
            writing = self._going[folder] = Writing(backbone, len(self.wanting(folder, Gallery.load(folder), backbone)))
            run = copy_context().run
            threading.Thread(
                target=run, args=(self._write, folder, writing), name="caption-writer", daemon=True
            ).start()

    def of(self, folder: Path) -> Writing | None:
        """How far the writing for a gallery is, while it goes on."""
        return self._going.get(folder)

    def stop(self, folder: Path) -> None:
        """Stops at once; what has been written stays."""
        if writing := self._going.get(folder):
            writing.stopped = True
            if not writing.waits:
                self._host.end()

    @staticmethod
    def wanting(folder: Path, gallery: Gallery, backbone: str) -> list[int]:
        """The images of the gallery in a folder without a caption, but for those that a backbone has no words for."""
        wordless = set(read_report(folder).get("wordless", {}).get(backbone, ()))
        return [image for image in gallery.bare if gallery.file_names[image] not in wordless]

    def _write(self, folder: Path, writing: Writing) -> None:
        try:
            while not self._turn.acquire(timeout=TURN_SECONDS):
                if writing.stopped:
                    raise _StoppedError
            try:
                writing.waits = False
                self._ask(folder, writing)
            finally:
                writing.waits = True
                self._host.end()
                self._turn.release()
            words = "The captions are written: read them, and correct what is wrong."
            if writing.wordless == writing.total:
                words = f"The model has no words for any of these {writing.total:,} pictures: type captions in."
            elif writing.wordless:
                words += f" For {writing.wordless:,} of {writing.total:,} pictures the model has no words."
            end = "good", words
        except (_StoppedError, EndedError) as stop:
            words = f"Stopped: {writing.done - writing.wordless:,} of {writing.total:,} pictures have got captions."
            end = ("good", words) if writing.stopped else ("", str(stop))
        except Exception as mistake:
            end = "", str(mistake)
        del self._going[folder]
        self._on_end(folder, *end)

    def _ask(self, folder: Path, writing: Writing) -> None:
        def take(written: dict[int, list[str]]) -> None:
            if writing.stopped:
                raise _StoppedError
            with self.editing:
                gallery = Gallery.load(folder).with_pseudo_queries(written)
                gallery.with_captions(gallery.captions)
                wordless = [gallery.file_names[image] for image, texts in written.items() if not texts]
                _note(folder, writing.backbone, wordless)
            writing.wordless += len(wordless)
            writing.beat(len(written))

        with self.editing:
            wanting = self.wanting(folder, Gallery.load(folder), writing.backbone)
        for start in range(0, len(wanting), SLICE):
            if writing.stopped:
                raise _StoppedError
            images = wanting[start : start + SLICE]
            self._host.ask("write_captions", folder, images, writing.backbone, DEFAULT_WRITTEN, on_word=take)


def _note(folder: Path, backbone: str, file_names: Iterable[str]) -> None:
    """Notes the images of a gallery that a backbone has no words for."""
    report = read_report(folder)
    known = report.setdefault("wordless", {}).setdefault(backbone, [])
    known += [name for name in file_names if name not in known]
    write_report(folder, report)


class _StoppedError(GcrError):
    """Somebody wished the writing to stop."""

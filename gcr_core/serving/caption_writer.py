"""Caption writer: lets the model write captions for galleries on the page, one gallery at a time, watched or not.

The model is in another process; what it writes is put into the gallery here, batch after batch, where people's own
captions are put in too. So nothing is lost when it is stopped, and a person may correct the first captions while the
last are still being written.
"""

import threading
import time
from contextvars import copy_context
from dataclasses import dataclass, field
from pathlib import Path

from gcr_core.data.gallery import Gallery
from gcr_core.errors import GcrError
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
    """The images that had no caption."""
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

    def __init__(self, host: ModelProcess) -> None:
        """`host`: what asks a `TaskHost`."""
        self.editing = threading.Lock()
        self._host = host
        self._turn = threading.Lock()
        self._going: dict[Path, Writing] = {}
        self._ended: dict[Path, tuple[str, str]] = {}

    def begin(self, folder: Path, backbone: str) -> None:
        """Begins to write captions for the images of a gallery that have none, unless that goes on already."""
        if folder not in self._going:
            self._ended.pop(folder, None)
            writing = self._going[folder] = Writing(backbone, len(Gallery.load(folder).bare))
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

    def ended(self, folder: Path) -> tuple[str, str] | None:
        """How the writing for a gallery ended, as a notice's kind and words; told once."""
        return self._ended.pop(folder, None)

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
            self._ended[folder] = ("good", words)
        except (_StoppedError, EndedError) as end:
            words = f"Stopped: {writing.done - writing.wordless:,} of {writing.total:,} pictures have got captions."
            self._ended[folder] = ("good", words) if writing.stopped else ("", str(end))
        except Exception as mistake:
            self._ended[folder] = ("", str(mistake))
        finally:
            del self._going[folder]

    def _ask(self, folder: Path, writing: Writing) -> None:
        def take(written: dict[int, list[str]]) -> None:
            if writing.stopped:
                raise _StoppedError
            with self.editing:
                gallery = Gallery.load(folder).with_pseudo_queries(written)
                gallery.with_captions(gallery.captions)
            writing.wordless += sum(not texts for texts in written.values())
            writing.beat(len(written))

        with self.editing:
            bare = Gallery.load(folder).bare
        for start in range(0, len(bare), SLICE):
            if writing.stopped:
                raise _StoppedError
            images = bare[start : start + SLICE]
            self._host.ask("write_captions", folder, images, writing.backbone, DEFAULT_WRITTEN, on_word=take)


class _StoppedError(GcrError):
    """Somebody wished the writing to stop."""

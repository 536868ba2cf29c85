"""Staged pictures: what a person does with those of a gallery that waits to be memorised, and with their captions.

A picture is named by its file, never by its place, which changes with every batch that comes in and every picture that
is removed. What was typed for one that was removed meanwhile is kept with it, for when it is put back.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gcr_core.data import staging
from gcr_core.data.gallery import Gallery
from gcr_core.data.metadata import checked_captions
from gcr_core.errors import GalleryError, InputError
from gcr_core.serving.caption_writer import CaptionWriter
from gcr_core.serving.importing import read_report, write_report
from gcr_core.serving.job_queue import JobQueue
from gcr_core.serving.workspace import Workspace
from gcr_core.ui.auth import Visitors


class StagedPictures:
    """Changes the galleries of whoever asks."""

    def __init__(self, visitors: Visitors, jobs: JobQueue, caption_writer: CaptionWriter) -> None:
        self.visitors, self.jobs, self.caption_writer = visitors, jobs, caption_writer

    def taken(self, workspace: Workspace) -> set[str]:
        """The galleries that jobs have taken up."""
        return {row["gallery"] for row in self.jobs.list(workspace)}

    def merge(self, workspace: Workspace, id: str, batch: Gallery, sources: list[Path]) -> None:
        """Takes a batch that was imported from `sources` into a gallery, with a line in its report on what came in.

        A folder is an album, unless the gallery began as it. Raises GcrError.
        """
        same, album = sum(map(len, batch.also)), staging.album_of(sources)
        with self._resting(workspace, id) as folder:
            report = read_report(folder)
            album = "" if album == report.get("folder") else album
            merged = staging.merge(folder, batch, workspace.settings.max_pictures, album)
            last = {
                "added": merged.added,
                "doubles": len(merged.doubles) + same,
                "skipped": len(batch.skipped),
                "albums": list(batch.album_sizes),
            }
            said = {"skipped": batch.skipped, "notes": batch.notes}
            write_report(folder, report | {key: [*report.get(key, []), *said[key]] for key in said} | {"last": last})

    def take_out(self, request: Any, data: dict[str, Any]) -> None:
        """Removes the picture "file", or those that are chosen (see `_chosen`). Raises GcrError."""
        with self._resting(self.visitors.workspace(request), gallery_of(data), unwritten=True) as folder:
            gallery = Gallery.load(folder)
            names = [str(data["file"])] if "file" in data else _chosen(gallery, data)
            staging.take_out(folder, names)

    def put_back(self, request: Any, data: dict[str, Any]) -> None:
        """Puts all that were removed back. Raises GcrError."""
        workspace = self.visitors.workspace(request)
        with self._resting(workspace, gallery_of(data), unwritten=True) as folder:
            staging.put_back(folder, workspace.settings.max_pictures)

    def caption(self, request: Any, edit: dict[str, Any]) -> None:
        """Writes the captions of a picture: "own", a person's, and "models", the model's, of which the corrected are a
        person's from now on. One of the two that the page did not show stays as it is."""
        folder = self.visitors.workspace(request).gallery(gallery_of(edit))
        with self.caption_writer.editing:
            gallery, index = staging.holding(folder, str(edit.get("file")))
            texts, written = gallery.captions[index], gallery.pseudo_queries[index]
            try:
                own = _lines(edit, "own", [text for text in texts if text not in written])
                models = _lines(edit, "models", written)
            except ValueError as error:
                raise GalleryError(f"{gallery.file_names[index]} {error}") from error
            theirs = own + [text for text in models if text not in written]
            gallery.pseudo_queries[index] = [text for text in models if text in written and text not in own]
            gallery.captions[index] = theirs + gallery.pseudo_queries[index]
            gallery.with_captions(gallery.captions)

    def caption_chosen(self, request: Any, edit: dict[str, Any]) -> None:
        """Gives the pictures that are chosen (see `_chosen`) one more caption, "value", or takes it "off" them.

        Raises GcrError, and changes nothing, for a caption that is blank or too long, or one too many.
        """
        folder = self.visitors.workspace(request).gallery(gallery_of(edit))
        try:
            captions = checked_captions([str(edit.get("value") or "")])
        except ValueError as error:
            raise InputError(f"what was typed {error}") from error
        if not captions:
            raise InputError("the caption is empty: type one for the selected pictures")
        with self.caption_writer.editing:
            gallery, out = Gallery.load(folder), staging.taken_out(folder)
            names = set(_chosen(gallery, edit))
            for part in (gallery, out):
                images = [image for image, name in enumerate(part.file_names) if name in names]
                if images:
                    _give(part, images, captions[0], off=edit.get("off") is True)

    @contextmanager
    def _resting(self, workspace: Workspace, id: str, unwritten: bool = False) -> Iterator[Path]:
        """The folder of a gallery whose images may change while the block lasts; `unwritten`: not while the model
        writes captions for it, which names images by their places."""
        folder = workspace.gallery(id)
        with self.caption_writer.editing:
            if id in self.taken(workspace):
                raise InputError("these pictures are being memorised already: drop others to begin anew")
            if unwritten and self.caption_writer.of(folder):
                raise InputError("the model writes captions for these pictures: wait until it is done, or stop it")
            yield folder


def gallery_of(data: dict[str, Any]) -> str:
    """The id of the gallery that the page names."""
    return str(data.get("gallery", ""))


def _chosen(gallery: Gallery, data: dict[str, Any]) -> list[str]:
    """The pictures that are chosen on the page: "pictures", or "all" (with "only", those without a caption) but
    "except". Raises InputError."""
    named = data.get("except" if data.get("all") else "pictures") or []
    if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
        raise InputError("the selected pictures came without their names: reload the page")
    if not data.get("all"):
        return named
    images = gallery.bare if data.get("only") is True else range(len(gallery))
    return [gallery.file_names[image] for image in images if gallery.file_names[image] not in set(named)]


def _give(gallery: Gallery, images: list[int], caption: str, off: bool) -> None:
    for image in images:
        others = [text for text in gallery.captions[image] if text != caption]
        written = [text for text in gallery.pseudo_queries[image] if text != caption]
        gallery.pseudo_queries[image] = written
        theirs = [text for text in others if text not in written]
        gallery.captions[image] = (theirs if off else [*theirs, caption]) + written
    gallery.with_captions(gallery.captions)


def _lines(edit: dict[str, Any], key: str, before: list[str]) -> list[str]:
    """The captions that a field shows, one a line; those `before` where the page showed no such field. Raises
    ValueError saying what is wrong with them."""
    return before if edit.get(key) is None else checked_captions(str(edit[key]).splitlines())

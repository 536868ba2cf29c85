"""Lightbox view: what the lightbox says of a picture, beside what an answer says of it."""

from typing import Any

from gcr_core.serving.remote_memory import RemoteMemory
from gcr_core.ui.html import ShownGallery


def about(shown: ShownGallery, index: int) -> dict[str, Any]:
    """An image, JSON-ready: {"file_name", "name", "album", "captions", "written": those that the model wrote, "url" of
    the thumbnail, "large" of the picture, "own": whether it can be changed}."""
    gallery = shown.gallery
    return {
        "file_name": gallery.file_names[index],
        "name": shown.name(index),
        "album": gallery.albums[index],
        "captions": gallery.captions[index],
        "written": gallery.pseudo_queries[index],
        "url": shown.url(index),
        "large": shown.large_url(index),
        "own": shown.own,
    }


def recalled(memory: RemoteMemory, index: int) -> dict[str, Any]:
    """How a memory knows an image, JSON-ready: {"identifier", "said": its own words for the image, "" where it never
    learnt any}. Asks the model."""
    names = [memory.gallery.file_names[index]]
    said = memory.describe(names) if memory.facts.get("training") else [""]
    return {"identifier": memory.identifiers(names)[0], "said": said[0]}

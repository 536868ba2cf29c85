"""Routes of the Gallery tab: what a memory's gallery holds, all at once and compactly, and changes to it.

A list is a few arrays, one entry an image, and names a version: a browser that has it is sent nothing. No picture's
file is looked at. Changes name images by their file names, as their places move. What is not the asker's is not found.
"""

import gzip
import json
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gcr_core.errors import GcrError, InputError
from gcr_core.memory.manifest import changes
from gcr_core.serving.remote_memory import RemoteMemory
from gcr_core.ui.edits import posted
from gcr_core.ui.html import without_paths
from gcr_core.ui.registry import SHIPPED, Registry

NOT_FOUND, NOT_CHANGED, ACCEPTED = 404, 304, 202
COMPRESSION = 1
"""gzip's level: most of the gain for a fraction of the time."""
FIXED = "This memory comes with the page and is everybody’s: look through it, but nothing in it can be changed."


def routes(registry: Registry) -> list[Route]:
    """`/gallery/ID`: GET lists it, POST changes it: {"do", "files", and what the verb needs}. {"waiting"} comes back:
    how many pictures are found by their new captions no sooner than the memory is consolidated."""

    def show(request: Request) -> Response:
        id = request.path_params["id"]
        if id == SHIPPED and registry.loading.state == "waking":
            return JSONResponse({"waking": True}, ACCEPTED)
        try:
            memory = registry.memory(request, id)
        except GcrError as mistake:
            return JSONResponse({"mistake": without_paths(mistake)}, NOT_FOUND)
        tag = f'"{memory.version}"'
        headers = {"Cache-Control": "private, no-cache", "ETag": tag, "Vary": "Accept-Encoding"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=NOT_CHANGED, headers=headers)
        body = json.dumps(contents(memory, id), ensure_ascii=False, separators=(",", ":")).encode()
        if "gzip" in request.headers.get("accept-encoding", ""):
            body, headers["Content-Encoding"] = gzip.compress(body, COMPRESSION), "gzip"
        return Response(body, media_type="application/json", headers=headers)

    def change(request: Request, asked: dict[str, Any]) -> dict[str, Any]:
        verb = VERBS.get(str(asked.get("do")))
        if verb is None:
            raise InputError(f"{str(asked.get('do'))[:40]!r} is nothing that can be done to pictures: reload the page")
        return {"waiting": verb(registry.own_memory(request, request.path_params["id"]), asked) or 0}

    return [Route("/gallery/{id}", show, methods=["GET"]), posted("/gallery/{id}", change)]


def contents(memory: RemoteMemory, id: str) -> dict[str, Any]:
    """A memory's gallery, JSON-ready, an entry for each image in "files", "captions" and, where there are albums,
    "album": its place in "albums", or -1. "written": image → the places of its captions that the model wrote. The last
    "added" images came after the training."""
    gallery = memory.gallery
    albums = list(gallery.album_sizes)
    place = {album: i for i, album in enumerate(albums)}
    written = {
        image: [i for i, text in enumerate(gallery.captions[image]) if text in texts]
        for image, texts in enumerate(gallery.pseudo_queries)
        if texts
    }
    return {
        "memory": id,
        "version": memory.version,
        "fixed": FIXED if id == SHIPPED else "",
        "files": gallery.file_names,
        "captions": gallery.captions,
        "written": written,
        "albums": albums,
        "album": [place.get(album, -1) for album in gallery.albums] if albums else [],
        "added": changes(memory.facts)["added"],
    }


def _caption(memory: RemoteMemory, asked: dict[str, Any]) -> int:
    """Gives images these captions: in the place of theirs, or with "add" behind them."""
    files, captions, gallery = _texts(asked, "files"), _texts(asked, "captions", empty=True), memory.gallery
    before = {file: gallery.captions[gallery.index(file)] if asked.get("add") else [] for file in files}
    return memory.recaption({file: [*kept, *captions] for file, kept in before.items()})


VERBS: dict[str, Callable[[RemoteMemory, dict[str, Any]], int | None]] = {
    "forget": lambda memory, asked: memory.forget(_texts(asked, "files")),
    "restore": lambda memory, asked: memory.restore(_texts(asked, "files")),
    "move": lambda memory, asked: memory.move(_texts(asked, "files"), str(asked.get("album") or "")),
    "caption": _caption,
}


def _texts(asked: dict[str, Any], key: str, empty: bool = False) -> list[str]:
    """A list of texts that the page sent. Raises InputError."""
    texts = asked.get(key)
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise InputError(f"{key} is {type(texts).__name__}, not a list of texts: reload the page")
    if not texts and not empty:
        raise InputError("no picture is chosen: choose at least 1")
    return texts

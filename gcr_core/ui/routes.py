"""Routes to the files that the page links to: pictures, thumbnails and downloads, for their owner only.

Each is asked for by an id and an index, or an image's name in its gallery, so that no other file can be; what is not
the asker's is not found.
"""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from gcr_core.data.formats import media_type
from gcr_core.data.gallery import Gallery
from gcr_core.errors import GcrError, InputError, NotFoundError, one_line
from gcr_core.ui import lightbox_view
from gcr_core.ui.html import without_paths
from gcr_core.ui.registry import SHIPPED, Registry

PICTURE_HEADERS = {
    "Cache-Control": "private, max-age=31536000, immutable",
    "X-Content-Type-Options": "nosniff",
}
NOT_FOUND, TOO_MUCH, NO_ROOM = 404, 503, 507


def routes(registry: Registry) -> list[Route]:
    def picture(request: Request, place: Callable[[Gallery, int], Path] = Gallery.path) -> Response:
        id = request.path_params["id"]
        if id == SHIPPED and registry.loading.state != "ready":
            return Response(status_code=NOT_FOUND)
        return _picture(lambda: (registry.shown(request, id).gallery, request.path_params["index"]), place)

    def original(request: Request) -> Response:
        return picture(request, Gallery.original)

    def thumbnail(request: Request) -> Response:
        def find() -> tuple[Gallery, int]:
            gallery = registry.gallery(request, request.path_params["id"])
            return gallery, gallery.index(request.path_params["name"])

        return _picture(find, Gallery.thumbnail)

    def told(request: Request, tell: Callable[[str, int], dict[str, Any]]) -> Response:
        id, index = request.path_params["id"], request.path_params["index"]
        if id == SHIPPED and registry.loading.state != "ready":
            return Response(status_code=NOT_FOUND)
        try:
            if index >= len(registry.shown(request, id).gallery):
                return Response(status_code=NOT_FOUND)
            return JSONResponse(tell(id, index), headers={"Cache-Control": "no-store"})
        except GcrError:
            return Response(status_code=NOT_FOUND)

    def about(request: Request) -> Response:
        return told(request, lambda id, index: lightbox_view.about(registry.shown(request, id), index))

    def recalled(request: Request) -> Response:
        return told(request, lambda id, index: lightbox_view.recalled(registry.memory(request, id), index))

    def download(request: Request) -> Response:
        held = ExitStack()
        try:
            archive = held.enter_context(registry.visitors.workspace(request).download(request.path_params["id"]))
        except (NotFoundError, InputError):
            return Response(status_code=NOT_FOUND)
        except GcrError as refusal:
            return PlainTextResponse(without_paths(str(refusal)), TOO_MUCH)
        except OSError as error:
            return PlainTextResponse(without_paths(str(one_line(error))), NO_ROOM)
        return _Held(held, archive, filename=archive.name, headers={"Cache-Control": "no-store"})

    return [
        Route("/picture/{id}/{index:int}/{version}", picture),
        Route("/original/{id}/{index:int}/{version}", original),
        Route("/thumbnail/{id}/{name}/{version}", thumbnail),
        Route("/about/{id}/{index:int}", about),
        Route("/recalled/{id}/{index:int}", recalled),
        Route("/download/{id}", download),
    ]


class _Held(FileResponse):
    """A file that is let go once it was sent, or its reader has gone."""

    def __init__(self, held: ExitStack, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._held:
            await super().__call__(scope, receive, send)


def _picture(find: Callable[[], tuple[Gallery, int]], place: Callable[[Gallery, int], Path]) -> Response:
    try:
        gallery, index = find()
    except GcrError:
        return Response(status_code=NOT_FOUND)
    if index >= len(gallery) or not gallery.has_picture(index):
        return Response(status_code=NOT_FOUND)
    path = place(gallery, index)
    if (kind := media_type(path)) is None:
        return Response(status_code=NOT_FOUND)
    return FileResponse(path, media_type=kind, headers=PICTURE_HEADERS)

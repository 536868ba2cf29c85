"""Routes to the files that the page links to: pictures, thumbnails and downloads, for their owner only.

Each is asked for by an id and an index, so that no other file can be; what is not the asker's is not found.
"""

import mimetypes
from collections.abc import Callable
from pathlib import Path

from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from gcr_core.data.gallery import Gallery
from gcr_core.errors import GcrError
from gcr_core.ui.registry import SHIPPED, Registry

PICTURE_HEADERS = {
    "Cache-Control": "private, max-age=31536000, immutable",
    "X-Content-Type-Options": "nosniff",
}
NOT_FOUND = 404


def routes(registry: Registry) -> list[Route]:
    def picture(request: Request) -> Response:
        id = request.path_params["id"]
        if id == SHIPPED and registry.loading.state != "ready":
            return Response(status_code=NOT_FOUND)
        return _picture(lambda: registry.album(request, id).gallery, Gallery.path, request)

    def thumbnail(request: Request) -> Response:
        return _picture(lambda: registry.gallery(request, request.path_params["id"]), Gallery.thumbnail, request)

    def download(request: Request) -> Response:
        try:
            archive = registry.visitors.workspace(request).export(request.path_params["id"])
        except GcrError:
            return Response(status_code=NOT_FOUND)
        sent = BackgroundTask(archive.unlink, missing_ok=True)
        return FileResponse(archive, filename=archive.name, headers={"Cache-Control": "no-store"}, background=sent)

    return [
        Route("/picture/{id}/{index:int}/{version}", picture),
        Route("/thumbnail/{id}/{index:int}/{version}", thumbnail),
        Route("/download/{id}", download),
    ]


def _picture(find: Callable[[], Gallery], place: Callable[[Gallery, int], Path], request: Request) -> Response:
    try:
        gallery, index = find(), request.path_params["index"]
    except GcrError:
        return Response(status_code=NOT_FOUND)
    if index >= len(gallery) or not gallery.has_picture(index):
        return Response(status_code=NOT_FOUND)
    path = place(gallery, index)
    media_type = mimetypes.guess_type(path.name)[0] or ""
    if not media_type.startswith("image/") or "svg" in media_type:
        return Response(status_code=NOT_FOUND)
    return FileResponse(path, media_type=media_type, headers=PICTURE_HEADERS)

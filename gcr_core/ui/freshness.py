"""Freshness: an open page shows what is there, whoever has changed it: another tab of its visitor's, or a training.

The page asks `/fresh` every few seconds while it is looked at. Where the answer is not what its parts were rendered of,
it has the parts that differ rendered anew.
"""

import json
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gcr_core.errors import GcrError
from gcr_core.files.layout import MANIFEST_FILE

ALIVE_SECONDS = 5
"""How often a page is rendered anew while something goes on, though nothing can be seen of that: where GPUs are lent,
they are lent to whoever was heard of last."""
State = Callable[[Any], dict[str, Any]]


def route(state: State) -> Route:
    """`/fresh`: what the parts of the page are of, for whoever asks."""

    def answer(request: Request) -> Response:
        try:
            return JSONResponse(state(request), headers={"Cache-Control": "no-store"})
        except GcrError as mistake:
            return JSONResponse({"mistake": str(mistake)}, 400)

    return Route("/fresh", answer)


def digest(facts: Any) -> int:
    """A number that is another one once the facts are."""
    return zlib.crc32(json.dumps(facts, default=str).encode())


def stamp(folder: Path, file_name: str = MANIFEST_FILE) -> tuple[int, int]:
    """Another one once a file of a folder has been written anew: by its manifest, once a memory has, or its name."""
    try:
        file = (folder / file_name).stat()
    except FileNotFoundError:
        return 0, 0
    return file.st_mtime_ns, file.st_ino


def now() -> int:
    """The time, in steps of ALIVE_SECONDS."""
    return int(time.time() // ALIVE_SECONDS)

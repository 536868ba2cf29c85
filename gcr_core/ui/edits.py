"""Edits: what a person types or chooses on the page, kept at that moment by a route of its own, `/edit`.

Gradio's events end with the page that sends them; these requests do not, and the next page sends those again that were
not answered, before it asks what there is. So an edit may come late, or twice: of each field the last typed stays.
There is no other way from such a field to the disk; whoever renders it says which edits the rendering knows of.
"""

import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gcr_core.data.metadata import MAX_CAPTION_CHARACTERS, MAX_CAPTIONS
from gcr_core.errors import GcrError, InputError, NotFoundError
from gcr_core.ui.auth import Visitors
from gcr_core.ui.html import without_paths
from gcr_core.ui.site import is_own

MAX_REQUEST_BYTES = 6 * MAX_CAPTIONS * MAX_CAPTION_CHARACTERS
"""The most bytes of a request: as many as all the captions that a picture may have, in JSON."""
FIELD = ("do", "gallery", "memory", "file", "which", "visit")
"""What names a field of a page: a picture by its file, as its place changes; each page has a `visit` of its own."""
MAX_FIELD_CHARACTERS = 2_000
"""The most characters of such a name."""
REMEMBERED = 4_096
"""How many fields' last edits are remembered."""
MAX_DIGITS = 15
"""The most digits of an edit's number."""

Does = Callable[[Any, dict[str, Any]], None]
"""Writes what a request's edit says. Raises GcrError, and changes nothing, where that cannot be."""


class Edits:
    """Does edits one after the other: each once, none after a later one of its field."""

    edition: int
    """Grows with each edit that is written: what is read after it was asked for has all edits up to it."""

    def __init__(self, visitors: Visitors, does: dict[str, Does]) -> None:
        """`does`: the verb in an edit's "do" → what it does."""
        self.does = does
        self.edition = int(time.time() * 1000)  # above that of a process before this one
        self._visitors = visitors
        self._last: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()

    def keep(self, request: Any, edit: dict[str, Any]) -> int:
        """Writes an edit, unless that was done or a later one of the same field was; an edition that has it.

        `edit`: {"do", "visit", "number": above that of the visit's edits before it, and what the verb needs}. Raises
        InputError for what is no edit, and what the verb raises.
        """
        does, number = self.does.get(str(edit.get("do"))), whole(edit, "number")
        if does is None:
            raise InputError(f"{str(edit.get('do'))[:40]!r} is nothing that can be typed here: reload the page")
        field = json.dumps([edit.get(key) for key in FIELD])
        if len(field) > MAX_FIELD_CHARACTERS:
            raise InputError(
                f"the name of the field has {len(field):,} characters, the limit is {MAX_FIELD_CHARACTERS:,}: reload "
                "the page"
            )
        field = f"{self._visitors.workspace(request).root} {field}"
        with self._lock:
            if number > self._last.get(field, -1):
                does(request, edit)
                self.edition += 1
                self._last[field] = number
                self._last.move_to_end(field)
                while len(self._last) > REMEMBERED:
                    self._last.popitem(last=False)
            return self.edition


def route(edits: Edits) -> Route:
    """Where the page sends its edits: {"edition"} comes back, or {"mistake"} in one line."""
    return posted("/edit", lambda request, edit: {"edition": edits.keep(request, edit)})


def posted(path: str, does: Callable[[Request, dict[str, Any]], dict[str, Any]]) -> Route:
    """A route that this page alone may send a JSON object to: what `does` returns comes back, or {"mistake"}."""

    async def take(request: Request) -> Response:
        if not is_own(request.headers):
            return _mistake(403, "this was sent from another site's page: open this one in a tab of its own")
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            return _mistake(415, "what was sent is not called application/json: reload the page")
        body, size = bytearray(), 0
        async for part in request.stream():  # all of it: a browser that still sends would hear no answer
            size += len(part)
            body += part if size <= MAX_REQUEST_BYTES else b""
        if size > MAX_REQUEST_BYTES:
            return _mistake(413, f"what was typed has {size:,} bytes, the limit is {MAX_REQUEST_BYTES:,}: shorten it")
        try:
            return JSONResponse(await run_in_threadpool(lambda: does(request, _read(body))))
        except NotFoundError as mistake:
            return _mistake(404, str(mistake))
        except GcrError as mistake:
            return _mistake(400, str(mistake))
        except OSError as error:
            words = f"what was typed cannot be written ({error.strerror or error}): make room on the disk, type it anew"
            return _mistake(500, words)

    return Route(path, take, methods=["POST"])


def whole(data: dict[str, Any], key: str) -> int:
    """A whole number from 0 that the page sent. Raises InputError."""
    text = str(data.get(key) or 0)
    if not text.isascii() or not text.isdigit() or len(text) > MAX_DIGITS:
        raise InputError(f"{key} is {text[:40]!r}, not a whole number from 0: correct it")
    return int(text)


def _read(body: bytes | bytearray) -> dict[str, Any]:
    """Raises InputError for what is no JSON object."""
    try:
        edit = json.loads(body)
    except (ValueError, RecursionError):
        edit = None
    if not isinstance(edit, dict):
        raise InputError("what was sent is no JSON object: reload the page")
    return edit


def _mistake(status: int, words: str) -> JSONResponse:
    return JSONResponse({"mistake": without_paths(words)}, status)

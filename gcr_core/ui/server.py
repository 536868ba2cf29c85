"""Server: Gradio's, behind this page's own checks and limits, which see a request before Gradio does."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from gradio.routes import API_PREFIX, ORJSONResponse
from gradio.routes import App as GradioApp
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from gcr_core.ui import uploads
from gcr_core.ui.sessions import SessionStates

HEAD_SECONDS = 20.0
"""How long a connection may take to say what it asks for."""
UNREAD_SECONDS = 60.0
"""How long an answer may wait for its reader."""
OPEN_FILES = 2**16
"""How many files may be open, connections among them, where the system lets so many."""
SPARE_FILES = 256
"""How many open files are left for all that is no connection."""


class Server(GradioApp):
    """Gradio's app; `around` puts checks around all of it. Uploads go to a folder of whoever sends them."""

    def __init__(self, around: Callable[[ASGIApp], ASGIApp], **options: Any) -> None:
        self._around = around
        handlers: dict[Any, Any] = dict.fromkeys((TypeError, ValueError), told)
        super().__init__(default_response_class=ORJSONResponse, exception_handlers=handlers, **options)
        self.state_holder = SessionStates()

    def build_middleware_stack(self) -> ASGIApp:
        return self._around(super().build_middleware_stack())

    @property
    def uploaded_file_dir(self) -> str:
        return str(uploads.folder())

    @uploaded_file_dir.setter
    def uploaded_file_dir(self, folder: str) -> None:
        """Gradio sets it to the folder of all uploads."""


def told(request: Request, error: Exception) -> Response:
    """Of a call whose arguments are no endpoint's, what Gradio says; any other error is nobody's but the program's."""
    if not request.url.path.startswith(f"{API_PREFIX}/call/v2/"):
        raise error
    return JSONResponse({"detail": str(error)}, 400)


def end_slow_connections(config: Any) -> None:
    """Has uvicorn, by its configuration, end connections that ask for nothing or read nothing, and take no more of them
    than files may be open."""
    config.limit_concurrency = max(SPARE_FILES, open_files() - SPARE_FILES)
    config.http_protocol_class = type("ImpatientProtocol", (Impatient, config.http_protocol_class), {})


def open_files() -> int:
    """How many files this process may have open, after it was given as many as it can use."""
    try:
        import resource
    except ImportError:  # Windows
        return OPEN_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


class Impatient:
    """A protocol of uvicorn's that waits neither for a request's head nor for an answer's reader without end."""

    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    cycle: Any
    _until_head: asyncio.TimerHandle | None = None
    _until_read: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)  # type: ignore[misc]
        self._await_head()

    def connection_lost(self, error: Exception | None) -> None:
        for timer in (self._until_head, self._until_read):
            if timer:
                timer.cancel()
        super().connection_lost(error)  # type: ignore[misc]

    def data_received(self, data: bytes) -> None:
        super().data_received(data)  # type: ignore[misc]
        if self.cycle is not None and not self.cycle.response_complete:
            if self._until_head:
                self._until_head.cancel()
                self._until_head = None
        else:
            self._await_head()

    def pause_writing(self) -> None:
        super().pause_writing()  # type: ignore[misc]
        self._until_read = self._until_read or self.loop.call_later(UNREAD_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()  # type: ignore[misc]
        if self._until_read:
            self._until_read.cancel()
            self._until_read = None

    def _await_head(self) -> None:
        """Ends the connection unless the head of a request is there in time; a part of one wins no time."""
        self._until_head = self._until_head or self.loop.call_later(HEAD_SECONDS, self._end)

    def _end(self) -> None:
        self._until_head = None
        if self.cycle is None or self.cycle.response_complete:
            self.transport.abort()

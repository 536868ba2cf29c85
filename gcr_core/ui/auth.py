"""Auth: whose request this is, and so whose workspace.

Where the settings say that visitors are strangers to each other, each browser is given a secret in a cookie that no
script can read, and a program sends one of its own in a header. Whoever knows the secret is the owner. On one's own
machine there is one owner and no secret.
"""

import os
import re
import secrets
from collections.abc import Callable
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gcr_core.errors import InputError
from gcr_core.serving import retention
from gcr_core.serving.workspace import Workspace
from gcr_core.settings import Settings

COOKIE = "gcr-owner"
HEADER = "X-GCR-Owner"
SECRET = re.compile(r"[A-Za-z0-9_-]{32,128}")
"""What is accepted as a secret."""
KEPT_SECONDS = 365 * 24 * 3600
"""How long a browser keeps its cookie."""


class Visitors:
    """Finds the workspace of whoever sent a request."""

    def __init__(self, settings: Settings, seen: Callable[[Path], None] = lambda root: None) -> None:
        """`seen` is told the root of the workspace of each request, while that is handled."""
        self.settings, self._seen = settings, seen

    def workspace(self, request: Any) -> Workspace:
        """The workspace of a Starlette or Gradio request's sender. Raises InputError for one without a secret."""
        workspace = Workspace.of(self.settings.home, self._secret(request), self.settings)
        self._seen(workspace.root)
        if self.settings.visitors:
            retention.note_use(workspace.root)
        return workspace

    def _secret(self, request: Any) -> str | None:
        if not self.settings.visitors:
            return None
        secret = request.headers.get(HEADER) or request.cookies.get(COOKIE) or ""
        if not SECRET.fullmatch(secret):
            host = os.environ.get("SPACE_HOST")
            alone = f", or open it in a tab of its own, https://{host}" if host else ""
            raise InputError(
                f"nobody can be told apart without a secret: allow this page's cookie and reload it{alone}, or send "
                f"32 to 128 letters and digits that nobody can guess as {HEADER}"
            )
        return str(secret)


class OwnerCookie:
    """ASGI middleware: whoever opens the page without a secret is given one; others keep theirs for another year."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != "/":
            await self.app(scope, receive, send)
            return
        secret = _secret(Headers(scope=scope)) or secrets.token_urlsafe(32)

        async def send_with_cookie(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).append("Set-Cookie", _cookie(secret))
            await send(message)

        await self.app(scope, receive, send_with_cookie)


def _secret(headers: Headers) -> str | None:
    cookie: SimpleCookie = SimpleCookie(headers.get("cookie", ""))
    given = cookie[COOKIE].value if COOKIE in cookie else ""
    return given if SECRET.fullmatch(given) else None


def _cookie(secret: str) -> str:
    """On a Space the page is a frame inside another site's, which a Lax cookie would never reach."""
    kind = "SameSite=None; Secure; Partitioned" if os.environ.get("SPACE_ID") else "SameSite=Lax"
    return f"{COOKIE}={secret}; Path=/; Max-Age={KEPT_SECONDS}; HttpOnly; {kind}"

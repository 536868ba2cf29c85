"""Auth: whose request this is, and so whose workspace.

Where the settings say that visitors are strangers to each other, each browser is given a secret in a cookie that no
script can read, and a program sends one of its own in a header. Whoever knows the secret is the owner. On one's own
machine there is one owner and no secret.
"""

import hashlib
import ipaddress
import os
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gcr_core.errors import InputError
from gcr_core.serving import retention
from gcr_core.serving.workspace import Workspace
from gcr_core.settings import Settings
from gcr_core.ui.site import is_secure

COOKIE = "gcr-owner"
SECURE_COOKIE = f"__Host-{COOKIE}"
"""The cookie where the browser speaks https, which then takes it from this very host only."""
HEADER = "X-GCR-Owner"
SECRET = re.compile(r"[A-Za-z0-9_-]{32,128}")
"""What is accepted as a secret."""
VISITOR = "gcr.visitor"
"""Where an ASGI request says who sent it, once that was looked up."""
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
        secret = given_secret(request.headers, request.cookies)
        if not secret:
            raise without_secret()
        return secret


@dataclass(frozen=True)
class Visitor:
    """Who asks, as far as budgets and turns go: the owner of a workspace, and the address that he asks from."""

    owner: str
    """A digest of the secret; "" where none was given."""
    address: str

    @property
    def key(self) -> str:
        """What tells a visitor apart from another one."""
        return self.owner or f"from {self.address}"

    @classmethod
    def of(cls, scope: Scope) -> Self:
        """The sender of an ASGI request. A new secret makes a new owner, but no new address."""
        if VISITOR not in scope:
            headers = Headers(scope=scope)
            secret = given_secret(headers, _cookies(headers))
            owner = hashlib.sha256(f"visitor {secret}".encode()).hexdigest()[:32] if secret else ""
            scope[VISITOR] = cls(owner, address_of(scope))
        visitor: Self = scope[VISITOR]
        return visitor


def without_secret() -> InputError:
    """What to tell someone who gave no secret."""
    host = os.environ.get("SPACE_HOST")
    alone = f", or open it in a tab of its own, https://{host}" if host else ""
    return InputError(
        f"nobody can be told apart without a secret: allow this page's cookie and reload it{alone}, or send 32 to 128 "
        f"letters and digits that nobody can guess as {HEADER}"
    )


def given_secret(headers: Mapping[str, str], cookies: Mapping[str, str]) -> str:
    """The secret that came along; "" for none, and for one that could be guessed."""
    secret = headers.get(HEADER) or cookies.get(SECURE_COOKIE) or cookies.get(COOKIE) or ""
    return secret if SECRET.fullmatch(secret) else ""


def address_of(scope: Scope) -> str:
    """The address of whoever sent an ASGI request: the peer's or, where that is a proxy on a private network, the last
    one that the proxy names. Of an IPv6 address the network, of which one host has them all."""
    peer = (scope.get("client") or ("",))[0]
    forwarded = ",".join(Headers(scope=scope).getlist("x-forwarded-for")).split(",")
    for text in [peer, *reversed(forwarded)]:
        address = _parsed(text)
        if address is not None and address.is_global:
            return str(ipaddress.ip_network((address, 64), strict=False) if address.version == 6 else address)
    return peer


class OwnerCookie:
    """ASGI middleware: whoever opens the page without a secret is given one; others keep theirs for another year."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != "/":
            await self.app(scope, receive, send)
            return
        secret = given_secret({}, _cookies(Headers(scope=scope))) or secrets.token_urlsafe(32)

        async def send_with_cookie(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).append("Set-Cookie", _cookie(secret, is_secure(scope)))
            await send(message)

        await self.app(scope, receive, send_with_cookie)


def _cookies(headers: Headers) -> dict[str, str]:
    return cookie_parser(headers.get("cookie", ""))


def _parsed(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(address.strip())
    except ValueError:
        return None


def _cookie(secret: str, secure: bool) -> str:
    """On a Space the page is a frame inside another site's, which a Lax cookie would never reach."""
    kind = "SameSite=None; Partitioned" if os.environ.get("SPACE_ID") else "SameSite=Lax"
    name = f"{SECURE_COOKIE if secure else COOKIE}={secret}"
    return f"{name}; Path=/; Max-Age={KEPT_SECONDS}; HttpOnly; {kind}" + ("; Secure" if secure else "")

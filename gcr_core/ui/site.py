"""Site: from which addresses and from which other sites' pages this one may be asked, and what browsers may do with it.

A page of another site can have a browser send anything here, and by a name of its own that leads here (DNS rebinding)
also read the answer. So the host that is asked is checked, and where a browser says that another site's page asks, only
those sites that the settings name are answered. Browsers are told to load nothing from elsewhere.
"""

import ipaddress
import os
import re
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gcr_core.errors import InputError
from gcr_core.settings import Settings

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
"""The names of one's own machine that lead nowhere else."""
HUB = ("https://huggingface.co", "https://*.huggingface.co")
"""Who shows a Space's page in a frame, and gives it the Space's name and faces."""
ORIGIN = re.compile(r"https?://[A-Za-z0-9.\[\]:-]+")
HOST = re.compile(r"\*|(\*\.)?[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]")
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
FOREIGN = "this was sent from another site's page: open this one in a tab of its own, or name that site in GCR_ORIGINS"


def guarded(app: ASGIApp, settings: Settings, host: str | None) -> ASGIApp:
    """The app behind all checks of hosts and origins. `host`: the address that it listens on, this machine's own unless
    one is given."""
    app = OwnOrigin(app, settings.origins)
    if settings.origins:
        app = CORSMiddleware(app, settings.origins, allow_methods=["GET", "POST"], allow_headers=["*"])
    app = TrustedHostMiddleware(app, allowed_hosts(settings, host), www_redirect=False)
    return SafeHeaders(app, settings.origins)


def check_names(settings: Settings) -> None:
    """Raises InputError for an origin or a host in the settings that is none."""
    if wrong := [origin for origin in settings.origins if not ORIGIN.fullmatch(origin)]:
        raise InputError(f"GCR_ORIGINS has {wrong[0]!r}, which is no origin: write it as https://example.org")
    if wrong := [name for name in settings.hosts if not HOST.fullmatch(name)]:
        raise InputError(
            f"GCR_HOSTS has {wrong[0]!r}, which is no name of a host: write gcr.example.org, or *.example.org"
        )


def allowed_hosts(settings: Settings, host: str | None) -> list[str]:
    """The names by which an app may be asked that listens on the address `host`."""
    listens = (host or os.environ.get("GRADIO_SERVER_NAME") or LOOPBACK[0]).strip("[]").lower()
    if settings.hosts:
        return [*LOOPBACK, f"[{listens}]" if ":" in listens else listens, *settings.hosts]
    return list(LOOPBACK) if listens == LOOPBACK[0] or _is_loopback(listens) else ["*"]


def is_secure(scope: Scope) -> bool:
    """Whether the browser speaks https, with this app or with a proxy before it; with a Space it always does."""
    forwarded = Headers(scope=scope).get("x-forwarded-proto", "").split(",")[0].strip()
    return bool(os.environ.get("SPACE_ID")) or "https" in (scope["scheme"], forwarded)


def is_own(headers: Headers) -> bool:
    """Whether a page of this app sent it, or no page: browsers say so, on http older ones only whose page it was."""
    if site := headers.get("sec-fetch-site"):
        return site == "same-origin"
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc in (headers.get("host"), headers.get("x-forwarded-host"))


class OwnOrigin:
    """ASGI middleware: nothing is changed at the wish of another site's page, but for those that are allowed.

    The app never hears of an origin, which Gradio would answer in its own way.
    """

    def __init__(self, app: ASGIApp, allowed: tuple[str, ...]) -> None:
        self.app, self.allowed = app, allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            own = is_own(headers) or headers.get("origin") in self.allowed
            if not own and scope["method"] not in SAFE_METHODS:
                await JSONResponse({"detail": FOREIGN, "mistake": FOREIGN}, 403)(scope, receive, send)
                return
            scope["headers"] = [(name, value) for name, value in scope["headers"] if name != b"origin"]
        await self.app(scope, receive, send)


class SafeHeaders:
    """ASGI middleware: what browsers are told about every answer."""

    def __init__(self, app: ASGIApp, origins: tuple[str, ...]) -> None:
        self.app = app
        space = bool(os.environ.get("SPACE_ID"))
        hub = " ".join(HUB) if space else ""
        frames = " ".join(["'self'", *(HUB if space else ()), *origins])
        self.headers = {
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "same-origin",
            # Gradio writes scripts and styles into the page, and makes functions of the text of its parts' scripts.
            "Content-Security-Policy": "; ".join(
                (
                    "default-src 'self'",
                    "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
                    "style-src 'self' 'unsafe-inline'",
                    f"img-src 'self' data: blob: {hub}".rstrip(),
                    f"connect-src 'self' data: blob: {hub}".rstrip(),
                    "font-src 'self' data:",
                    "media-src 'self' data: blob:",
                    "worker-src 'self' blob:",
                    "object-src 'none'",
                    "base-uri 'self'",
                    "form-action 'self'",
                    f"frame-ancestors {frames}",
                )
            ),
        }
        if frames == "'self'":
            self.headers["X-Frame-Options"] = "SAMEORIGIN"  # for what reads no frame-ancestors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self.headers)
            await send(message)

        await self.app(scope, receive, send_with_headers if scope["type"] == "http" else send)


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False

"""Limits: how much of the server one visitor may have, before anything is read, written or waited for.

On one's own machine there is nobody to be fair to: then only sizes and slowness are limited.
"""

import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from urllib.parse import parse_qs, parse_qsl, unquote, urlencode

from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gcr_core.errors import GcrError
from gcr_core.settings import Settings
from gcr_core.ui import uploads
from gcr_core.ui.auth import Visitor, without_secret
from gcr_core.ui.fair_queue import ADDRESS_SHARE, FairQueue
from gcr_core.ui.upload_budget import Room, Uploads

API = "/gradio_api/"
OFFERED = {
    *("app_id", "call", "cancel", "file=", "heartbeat", "info", "login_check", "mcp", "openapi.json", "queue", "reset"),
    *("startup-events", "theme.css", "upload", "upload_progress", "user"),
}
"""What is served of Gradio's own API: the rest passes the queue, keeps files, runs programs or asks other sites."""
HEALTH = "/health"
"""What is answered at once to whoever asks, so that nobody who floods an address makes the page look ill from there."""
AT_ONCE = 8
"""How many requests of one visitor are answered at once, beside streams; others wait."""
PATIENCE_SECONDS = 20.0
"""How long nothing may come of a request that has begun."""
SLOWEST = 2 * 2**10
"""Bytes a second that a request has to come with on average, after PATIENCE_SECONDS."""
HEARD_BYTES = 2**26
"""Of a request that is too long, how much is let come before it is refused: a browser that sends hears nothing."""


class RefusedError(Exception):
    """A request that is not answered: its status, and in words why."""

    def __init__(self, status: int, words: object) -> None:
        super().__init__(str(words))
        self.status = status


class Limits:
    """ASGI middleware before Gradio and the page's own routes."""

    def __init__(self, app: ASGIApp, settings: Settings, queue: FairQueue) -> None:
        self.app, self.settings, self.queue = app, settings, queue
        self._turns: dict[str, Turn] = {}
        self._streams: Counter[str] = Counter()
        self._uploads = Uploads(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] == HEALTH:
            await self.app(scope, receive, send)
            return
        visitor, path = Visitor.of(scope), scope["path"]
        uploads.OWNER.set(visitor.owner if self.settings.visitors else "")
        try:
            if path.startswith(API):
                check_offered(path.removeprefix(API))
                self._check_called(path)
            if path.rstrip("/") == f"{API}upload":
                await self._upload(scope, receive, send, visitor)
            elif stream_of(scope)[0]:
                with self._stream(scope, visitor):
                    await self.app(scope, await self._whole(scope, receive), send)
            else:
                async with self._turn(visitor):
                    await self.app(scope, await self._whole(scope, receive), send)
        except RefusedError as refusal:
            await _answer(path, refusal)(scope, receive, send)

    def _check_called(self, path: str) -> None:
        """Raises RefusedError for a call of a function by a name that none has."""
        called = re.match(f"{API}call/(?:v2/)?([^/]*)", path)
        if called and called[1] not in {function.api_name for function in self.queue.blocks.fns.values()}:
            raise RefusedError(404, f"there is no endpoint /{called[1][:40]}: see docs/api.md for those that there are")

    async def _whole(self, scope: Scope, receive: Receive) -> Receive:
        """Waits for all of a request; what hands it on. Raises RefusedError for one that is too long, or too slow, or
        ends what is another visitor's."""
        if scope["method"] in ("GET", "HEAD", "OPTIONS"):
            return receive
        limit, body, size = self.settings.max_request_bytes, bytearray(), 0
        async for part in patiently(receive):
            size += len(part)
            body += part if size <= limit else b""
            if size > HEARD_BYTES:
                break
        if size > limit:
            raise RefusedError(413, f"the request has {size:,} bytes or more, the limit is {limit:,}: send less")
        if self.settings.visitors and scope["path"].rstrip("/") == f"{API}cancel":
            self._check_cancel(bytes(body), Visitor.of(scope).key)
        return replayed(bytes(body), receive)

    def _check_cancel(self, body: bytes, visitor: str) -> None:
        try:
            asked = json.loads(body)
            names = [str(asked["session_hash"]), str(asked["event_id"])]
        except (ValueError, KeyError, TypeError, RecursionError):
            return  # Gradio says what is wrong with it.
        if not all(self.queue.sessions.admits(name, visitor) for name in names):
            raise RefusedError(404, "there is no such request of yours")

    @contextmanager
    def _stream(self, scope: Scope, visitor: Visitor) -> Iterator[None]:
        """Notes that a stream is open while the block lasts. Raises RefusedError for another visitor's, and for one too
        many."""
        kind, name = stream_of(scope)
        limit, key, sessions = 2 * self.settings.max_requests, "", self.queue.sessions
        if self.settings.visitors:
            key = visitor.key
            limits = ((key, limit), (f"at {visitor.address}", ADDRESS_SHARE * limit))
            if over := next((most for one, most in limits if self._streams[one] >= most), 0):
                raise RefusedError(503, f"{over:,} streams of yours are open, which is the limit: close some pages")
        if kind in ("answers", "heartbeat") and not sessions.admits(name, key):
            raise RefusedError(404, "there is no such session of yours: reload the page")
        if kind == "progress":
            own_query(scope, uploads.OWNER.get())
        counted = (key, f"at {visitor.address}")
        self._streams.update(counted)
        try:
            if kind in ("answers", "heartbeat"):
                with sessions.stream(name, key, beats=kind == "heartbeat"):
                    yield
            else:
                yield
        finally:
            self._streams.subtract(counted)
            self._streams += Counter()  # without those at zero

    @asynccontextmanager
    async def _turn(self, visitor: Visitor, kind: str = "") -> AsyncIterator[None]:
        """Waits until fewer than AT_ONCE requests of a visitor, and twice as many from an address, are answered. Raises
        Refused where too many wait."""
        if not self.settings.visitors:
            yield
            return
        limit = self.settings.max_requests
        wanted = (
            (f"{kind} {visitor.key}", AT_ONCE, limit),
            (f"{kind} at {visitor.address}", 2 * AT_ONCE, ADDRESS_SHARE * limit),
        )
        for key, _, most in wanted:
            if key in self._turns and self._turns[key].held >= most:
                words = f"{most:,} requests of yours wait for answers, which is the limit: ask for less at once"
                raise RefusedError(503, words)
        turns = [(key, self._turns.setdefault(key, Turn(at_once))) for key, at_once, _ in wanted]
        for _, turn in turns:
            turn.held += 1
        try:
            async with turns[0][1].free, turns[1][1].free:
                yield
        finally:
            for key, turn in turns:
                turn.held -= 1
                if not turn.held:
                    del self._turns[key]

    async def _upload(self, scope: Scope, receive: Receive, send: Send, visitor: Visitor) -> None:
        """Lets an upload pass as long as there is room for it; one that is cut off leaves nothing."""
        if self.settings.visitors and not visitor.owner:
            raise RefusedError(403, without_secret())
        own_query(scope, uploads.OWNER.get())
        refusals: list[RefusedError] = []
        parts = patiently(receive)
        begun = False

        async def send_unless_refused(message: Message) -> None:
            nonlocal begun
            if not refusals:
                begun = True
                await send(message)

        try:
            async with (
                self._turn(visitor, "upload"),
                self._uploads.coming(uploads.OWNER.get(), _declared(scope)) as room,
            ):
                guarded = _within(parts, receive, room, refusals)
                try:
                    await self.app(scope, guarded, send_unless_refused)
                except Exception:
                    if not refusals:
                        raise
                if refusals:
                    room.give_back()
        except GcrError as full:
            refusals.append(RefusedError(413, full))
        if refusals and not begun:
            await _heard(parts, _declared(scope))
            raise refusals[0]


class Turn:
    """How many requests of a visitor may be answered at once, and how many wait or are."""

    def __init__(self, at_once: int) -> None:
        self.free, self.held = asyncio.Semaphore(at_once), 0


def check_offered(name: str) -> None:
    """Raises RefusedError for what Gradio has, and this page does not use."""
    first = "file=" if name.startswith("file=") else name.split("/")[0]
    if first not in OFFERED or unquote(name).startswith(("file=http:", "file=https:")):
        raise RefusedError(404, "this is not offered here")


def stream_of(scope: Scope) -> tuple[str, str]:
    """What kind of stream a request asks for, and of which session, event or upload; "" for none."""
    parts = scope["path"].removeprefix(API).strip("/").split("/")
    if not scope["path"].startswith(API) or (scope["method"] != "GET" and parts[0] != "mcp"):
        return "", ""
    query = parse_qs(scope["query_string"].decode("latin-1"))
    if parts[0] == "heartbeat" and len(parts) == 2:
        return "heartbeat", parts[1]
    if parts == ["queue", "data"]:
        return "answers", query.get("session_hash", [""])[0]
    if parts[0] == "call" and len(parts) > 2:
        return "answers", parts[-1]
    return {"upload_progress": "progress", "mcp": "other"}.get(parts[0], ""), ""


def own_query(scope: Scope, owner: str) -> None:
    """Has a request name an upload of its sender's own, whatever id it gives."""
    query = parse_qsl(scope["query_string"].decode("latin-1"))
    named = [(name, owner + value if name == "upload_id" else value) for name, value in query]
    scope["query_string"] = urlencode(named).encode()


async def patiently(receive: Receive) -> AsyncIterator[bytes]:
    """The parts of a request's body. Raises RefusedError for one that comes too slowly."""
    begun, size, more = time.monotonic(), 0, True
    while more:
        left = begun + PATIENCE_SECONDS + size / SLOWEST - time.monotonic()
        try:
            message = await asyncio.wait_for(receive(), max(0.0, min(left, PATIENCE_SECONDS)))
        except TimeoutError:
            raise RefusedError(408, f"the request stopped coming after {size:,} bytes: send it again") from None
        if message["type"] == "http.disconnect":
            raise RefusedError(400, "the request was cut off")
        part, more = message.get("body", b""), message.get("more_body", False)
        size += len(part)
        yield part


def replayed(body: bytes, receive: Receive) -> Receive:
    """Hands a body on, then what else there is to hear."""
    left = [body]

    async def hand_on() -> Message:
        if left:
            return {"type": "http.request", "body": left.pop(), "more_body": False}
        return await receive()

    return hand_on


def _within(parts: AsyncIterator[bytes], receive: Receive, room: Room, refusals: list[RefusedError]) -> Receive:
    """Receives an upload's parts as long as they come and there is room; then the sender seems to have gone."""
    ended = False

    async def hand_on() -> Message:
        nonlocal ended
        if ended:
            return {"type": "http.disconnect"} if refusals else await receive()
        try:
            part = await anext(parts, None)
            if part is None:
                ended = True
                return {"type": "http.request", "body": b"", "more_body": False}
            room.take(len(part))
            return {"type": "http.request", "body": part, "more_body": True}
        except RefusedError as refusal:
            refusals.append(refusal)
        except GcrError as full:
            refusals.append(RefusedError(413, full))
        ended = True
        return {"type": "http.disconnect"}

    return hand_on


async def _heard(parts: AsyncIterator[bytes], declared: int) -> None:
    """Lets the rest of a refused request come, where it is not too long: else its sender would hear no answer."""
    heard = declared
    try:
        while heard <= HEARD_BYTES and (part := await anext(parts, None)) is not None:
            heard += len(part) if not declared else 0
    except RefusedError:
        return


def _declared(scope: Scope) -> int:
    """The bytes that a request says it has; 0 where it does not say."""
    text = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
    return int(text) if text.isdigit() else 0


def _answer(path: str, refusal: RefusedError) -> Response:
    words = str(refusal)
    if path.rstrip("/") == f"{API}upload":
        return PlainTextResponse(words, refusal.status)
    return JSONResponse({"detail": words, "mistake": words}, refusal.status)

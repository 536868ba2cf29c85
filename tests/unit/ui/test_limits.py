"""How much of the server one visitor may have: sizes, turns, streams, sessions, before a stand-in for the app."""

import asyncio
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from gcr_core.settings import Settings
from gcr_core.ui import limits, upload_budget, uploads
from gcr_core.ui.auth import HEADER
from gcr_core.ui.limits import Limits
from gcr_core.ui.sessions import Sessions
from tests.patience import SECONDS

ANN, BOB = ({HEADER: name * 32} for name in "ab")


def queue():
    page = SimpleNamespace(
        _queue=SimpleNamespace(event_ids_to_events={}, pending_messages_per_session={}, pending_event_ids_session={}),
        state_holder=SimpleNamespace(session_data={}, time_last_used={}),
    )
    return SimpleNamespace(sessions=Sessions(page), page=page, blocks=SimpleNamespace(fns={}))


def served(settings, does=None, **options):
    """A client of an app behind limits; `does` answers."""

    async def echo(request: Request) -> JSONResponse:
        return JSONResponse({"size": len(await request.body())})

    app = Starlette(routes=[Route("/{path:path}", does or echo, methods=["GET", "POST"])])
    return TestClient(Limits(app, settings, queue()), **options)


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    return uploads.root()


@pytest.mark.parametrize("visitors", [False, True])
def test_a_request_over_the_limit_is_refused_before_it_is_parsed(visitors):
    client = served(Settings(max_request_bytes=1000, visitors=visitors))
    assert client.post("/edit", content=b"x" * 1000).json() == {"size": 1000}
    refused = client.post("/edit", content=b"x" * 1001)
    assert refused.status_code == 413
    assert refused.json()["detail"] == "the request has 1,001 bytes or more, the limit is 1,000: send less"

    def parts():
        yield from [b"x" * 400] * 5

    assert client.post("/gradio_api/queue/join", content=parts()).status_code == 413


def test_a_request_that_stops_coming_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(limits, "PATIENCE_SECONDS", 0.05)
    answers = []

    async def never():
        await asyncio.sleep(60)

    async def send(message):
        answers.append(message)

    scope = {"type": "http", "method": "POST", "path": "/edit", "headers": [], "client": ("1.1.1.1", 1)}
    asked = Limits(None, Settings(), queue())(scope, never, send)
    with ThreadPoolExecutor(1) as thread:  # Playwright's loop may run in this one
        thread.submit(asyncio.run, asyncio.wait_for(asked, 10)).result()
    assert answers[0]["status"] == 408 and b"stopped coming after 0 bytes" in answers[1]["body"]


def test_one_visitors_many_requests_wait_behind_their_own_and_anothers_goes_on():
    gate, under_way, most = threading.Event(), [], []

    def slow(request: Request) -> JSONResponse:
        if request.headers[HEADER] == ANN[HEADER]:
            under_way.append(1)
            most.append(len(under_way))
            gate.wait(SECONDS)
            under_way.pop()
        return JSONResponse({})

    with served(Settings(visitors=True), slow) as client:
        statuses = []
        threads = [
            threading.Thread(target=lambda: statuses.append(client.get("/recalled", headers=ANN).status_code))
            for _ in range(30)
        ]
        for thread in threads:
            thread.start()
        while len(under_way) < limits.AT_ONCE:
            time.sleep(0.01)
        assert client.get("/recalled", headers=BOB).status_code == 200
        gate.set()
        for thread in threads:
            thread.join()
    assert max(most) == limits.AT_ONCE and statuses == [200] * 30


def test_who_waits_too_often_is_told_the_limit_and_hears_still_how_the_page_is():
    gate = threading.Event()

    def slow(request: Request) -> JSONResponse:
        if request.url.path != "/health":
            gate.wait(SECONDS)
        return JSONResponse({})

    with served(Settings(visitors=True, max_requests=3), slow) as client:
        threads = [threading.Thread(target=client.get, args=("/about",), kwargs={"headers": ANN}) for _ in range(3)]
        for thread in threads:
            thread.start()
        while len(client.app._turns) == 0 or client.app._turns[next(iter(client.app._turns))].held < 3:
            time.sleep(0.01)
        refused = client.get("/about", headers=ANN)
        assert client.get("/health", headers=ANN).status_code == 200
        gate.set()
        for thread in threads:
            thread.join()
        assert refused.status_code == 503 and "3 requests of yours wait" in refused.json()["detail"]
        assert client.get("/about", headers=ANN).status_code == 200 and client.app._turns == {}


def test_uploads_are_counted_before_they_are_written_and_what_is_cut_off_is_removed(folder):
    arrived = []

    async def write(request: Request) -> JSONResponse:
        place = uploads.folder()
        place.mkdir(parents=True, exist_ok=True)
        with (place / "tmp-part").open("wb") as file:
            async for part in request.stream():
                arrived.append(len(part))
                file.write(part)
        (place / "whole").mkdir(exist_ok=True)
        (place / "tmp-part").rename(place / "whole" / f"{len(arrived)}.png")
        return JSONResponse([])

    client = served(Settings(visitors=True, max_uploaded_bytes=1000), write)
    assert client.post("/gradio_api/upload", content=b"x" * 600, headers=ANN).status_code == 200

    def parts():
        yield from [b"x" * 100] * 9

    declared, streamed = (
        client.post("/gradio_api/upload", content=content, headers=ANN) for content in (b"x" * 600, parts())
    )
    for refused in (declared, streamed):
        assert refused.status_code == 413 and "the limit is 0.0: send less" in refused.text
    assert sum(arrived[1:]) <= 400
    assert [file.stat().st_size for file in folder.rglob("*") if file.is_file()] == [600]
    assert client.post("/gradio_api/upload", content=b"x" * 350, headers=ANN).status_code == 200
    assert client.post("/gradio_api/upload", content=b"x" * 600, headers=BOB).status_code == 200
    assert client.post("/gradio_api/upload", content=b"x").status_code == 403


def test_uploads_leave_room_on_the_disk_for_all_else_on_ones_own_machine_too(monkeypatch):
    monkeypatch.setattr(upload_budget, "LEFT_FREE_BYTES", 2**60)
    refused = served(Settings()).post("/gradio_api/upload", content=b"x")
    assert refused.status_code == 413 and "stay free" in refused.text


def test_old_uploads_are_removed_with_their_folders_and_new_ones_counted(folder, monkeypatch):
    for owner, name in (("ann", "old"), ("ann", "new"), ("bob", "old")):
        (folder / owner / name).mkdir(parents=True)
        (folder / owner / name / "a.png").write_bytes(b"12345")
    of_another_server = folder.with_name("gcr-1") / "bob" / "old"
    of_another_server.mkdir(parents=True)
    (of_another_server / "a.png").write_bytes(b"1")
    of_another_app = folder.parent / "other" / "a.png"
    of_another_app.parent.mkdir()
    of_another_app.write_bytes(b"1")
    assert upload_budget.counted() == {"ann": 10, "bob": 6}
    monkeypatch.setattr(upload_budget, "UPLOADS_KEPT_SECONDS", -1)
    assert upload_budget.counted() == {}
    assert [path for path in folder.parent.rglob("*") if path.is_file()] == [of_another_app]


def test_two_visitors_uploads_by_one_id_are_two():
    scopes = [{"query_string": b"upload_id=x&other=1"} for _ in range(2)]
    for scope, owner in zip(scopes, ("ann", "bob"), strict=True):
        limits.own_query(scope, owner)
    assert [scope["query_string"] for scope in scopes] == [b"upload_id=annx&other=1", b"upload_id=bobx&other=1"]


class TestSessions:
    @pytest.fixture
    def held(self):
        return queue()

    def begin(self, held, session, visitor="ann"):
        held.sessions.use(session, visitor)
        for by_session in (held.page.state_holder.session_data, held.page._queue.pending_messages_per_session):
            by_session[session] = object()

    def kept(self, held):
        return list(held.page.state_holder.session_data)

    def test_a_call_without_a_session_ends_with_its_answer(self, held):
        held.sessions.note("event", "event")
        self.begin(held, "event")
        with held.sessions.stream("event", "ann"):
            assert self.kept(held) == ["event"]
        assert self.kept(held) == [] and held.page._queue.pending_messages_per_session == {}
        assert vars(held.sessions)["_visitor"] == vars(held.sessions)["_session"] == {}

    def test_a_pages_session_stays_while_its_heart_beats_and_then_a_while(self, held, monkeypatch):
        self.begin(held, "page")
        with held.sessions.stream("page", "ann", beats=True):
            with held.sessions.stream("page", "ann"):
                pass
            self.later(held, monkeypatch, 40)
            assert self.kept(held) == ["page"]
        self.later(held, monkeypatch, 200)
        assert self.kept(held) == ["page"]
        self.later(held, monkeypatch, 400)
        assert self.kept(held) == []

    def test_a_session_that_nobody_fetches_from_ends_too(self, held, monkeypatch):
        self.begin(held, "left")
        self.later(held, monkeypatch, 60)
        assert self.kept(held) == []

    def test_one_visitors_thousand_sessions_end_no_other_visitors(self, held):
        self.begin(held, "bobs", "bob")
        for number in range(1000):
            self.begin(held, f"{number}")
        assert len(self.kept(held)) <= 130 and "bobs" in self.kept(held)

    def test_a_page_that_is_open_for_days_is_not_remembered_event_by_event(self, held):
        self.begin(held, "page")
        for number in range(5000):
            held.sessions.note(f"event {number}", "page")
        assert len(vars(held.sessions)["_session"]) <= 1000
        assert not held.sessions.admits("event 4999", "bob") and held.sessions.admits("event 4999", "ann")

    def later(self, held, monkeypatch, seconds):
        now = time.monotonic
        monkeypatch.setattr(time, "monotonic", lambda: now() + seconds)
        held.sessions.use("another", "carol")
        monkeypatch.undo()


def test_what_stops_an_event_is_read_before_gradio_does(monkeypatch):
    client = served(Settings(visitors=True))
    client.app.queue.sessions.use("anns", "other")
    body = {"session_hash": "anns", "event_id": "e", "fn_index": 0}
    assert client.post("/gradio_api/cancel", json=body, headers=ANN).status_code == 404
    for strange in ("", "[]", "{}", "[" * 2000, json.dumps({"session_hash": [], "event_id": {}})):
        assert client.post("/gradio_api/cancel", content=strange, headers=ANN).status_code == 200

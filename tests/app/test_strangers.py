"""Visitors who know each other's ids: of every endpoint that takes one, nothing of another's is read or changed."""

import inspect
import json
import re
import secrets
import shutil
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import psutil
import pytest

from gcr_core.data.gallery import Gallery
from gcr_core.serving import budget
from gcr_core.serving.loading import LoadingMemory
from gcr_core.serving.model_process import ModelProcess
from gcr_core.serving.remote_memory import memory_host
from gcr_core.serving.workspace import Workspace, new_id
from gcr_core.settings import Settings
from gcr_core.ui import limits
from gcr_core.ui import page as web
from gcr_core.ui.auth import HEADER
from gcr_core.ui.memorize_tab import MemorizeTab
from gcr_core.ui.server import Server
from tests import uploads
from tests.patience import until
from tests.serving import serve

API = "gradio_api"
PICTURE = uploads.picture((40, 30), seed=7)
CALL = ("search", "memorize", "job", "memories")


class Caller:
    """A visitor who asks as curl does."""

    def __init__(self, address, secret=None):
        self.secret = secret or secrets.token_urlsafe(32)
        self.http = httpx.Client(base_url=address, headers={HEADER: self.secret}, timeout=60)
        self.config = self.http.get("config").json()

    def upload(self, content=PICTURE, name="holiday.png", **query):
        return self.http.post(f"{API}/upload", files={"files": (name, content)}, params=query)

    def begin(self, name, *values):
        response = self.http.post(f"{API}/call/{name}", json={"data": list(values)})
        return response.json()["event_id"]

    def answer(self, name, event):
        """("complete" or "error", what came of it), or the status where there is none."""
        response = self.http.get(f"{API}/call/{name}/{event}")
        found = re.findall(r"event: (complete|error)\ndata: (.*)\n", response.text)
        return (found[-1][0], json.loads(found[-1][1])) if found else response.status_code

    def call(self, name, *values):
        return self.answer(name, self.begin(name, *values))

    def join(self, session, data, event_data=None, function="search"):
        index = next(each["id"] for each in self.config["dependencies"] if each["api_name"] == function)
        body = {"data": data, "event_data": event_data, "fn_index": index, "session_hash": session}
        return self.http.post(f"{API}/queue/join", json=body)

    def heard(self, session):
        return self.http.get(f"{API}/queue/data", params={"session_hash": session}).text


@pytest.fixture
def owner(shared_address):
    return Caller(shared_address)


@pytest.fixture
def stranger(shared_address):
    return Caller(shared_address)


@pytest.fixture
def kept(owner, shared_folder, tiny_memory_dir, tiny_gallery):
    """The owner's workspace, with a memory and a gallery."""
    workspace = Workspace.of(shared_folder / "home", owner.secret, Settings())
    workspace.keep(shutil.copytree(tiny_memory_dir, workspace.root / "copied"), new_id(), "Mine alone")
    workspace.collect([tiny_gallery.root])
    return workspace


def snapshot(workspace):
    files = [path for path in workspace.root.rglob("*.*") if "exports" not in path.parts]
    return {path.relative_to(workspace.root): path.stat().st_mtime_ns for path in files}


def test_no_route_of_the_page_gives_or_changes_what_is_another_visitors(owner, stranger, kept):
    memory, gallery = kept.memories()[0]["id"], kept.galleries()[0]["id"]
    name = Gallery.load(kept.gallery(gallery)).file_names[0]
    reads = [
        *(f"{kind}/{memory}/0/1" for kind in ("picture", "original")),
        *(f"{kind}/{memory}/0" for kind in ("about", "recalled")),
        f"thumbnail/{gallery}/{name}/1",
        f"download/{memory}",
        f"gallery/{memory}",
        f"evaluation/example?memory={memory}",
    ]
    for path in reads:
        assert owner.http.get(path).status_code == 200, path
    before = snapshot(kept)
    for path in reads:
        assert stranger.http.get(path).status_code in (400, 404), path
    for asked in (
        {"do": "forget", "files": [name]},
        {"do": "restore", "files": [name]},
        {"do": "move", "files": [name], "album": "theirs"},
        {"do": "caption", "files": [name], "captions": ["theirs"]},
    ):
        assert stranger.http.post(f"gallery/{memory}", json=asked).status_code == 404, asked
    for edit in (
        {"do": "rename", "memory": memory, "name": "theirs"},
        {"do": "choose", "gallery": gallery, "which": "name", "value": "theirs"},
        {"do": "caption", "gallery": gallery, "file": name, "value": "theirs"},
    ):
        answered = stranger.http.post("edit", json=edit | {"visit": "v", "number": 1})
        assert answered.status_code in (400, 404) and "mistake" in answered.json(), edit
    assert snapshot(kept) == before
    assert stranger.http.get("fresh").json() == Caller(str(stranger.http.base_url)).http.get("fresh").json()


def verbs_of(method):
    """What an event's "do" may be, as its method has it."""
    return re.findall(r'^ +"(\w+)": self\.', inspect.getsource(method), re.MULTILINE)


def test_no_event_of_the_page_gives_or_changes_what_is_another_visitors(owner, stranger, kept, tmp_path):
    (tmp_path / "lighthouse.png").write_bytes(PICTURE)
    gallery, _ = kept.collect([tmp_path])
    memory = kept.memories()[0]["id"]
    path = owner.upload().json()[0]
    given = [{"path": path, "meta": {"_type": "gradio.FileData"}}]
    job = owner.call("memorize", [{"path": path, "meta": {"_type": "gradio.FileData"}}], "quick", "Mine alone")[1][0][
        "id"
    ]
    owner.call("job", job, "stop")
    until(lambda: owner.call("job", job)[1][0]["state"] == "stopped")
    until(lambda: not list(kept.root.parents[1].glob(f"queue/*-{job}")))  # the server writes nothing more of it
    names = {"memory": memory, "gallery": gallery, "job": job, "file": "lighthouse.png", "pictures": ["lighthouse.png"]}
    verbs = [*verbs_of(MemorizeTab.act), "like", "again"]
    assert {"take_out", "memorise", "stop", "add", "bring_back", "push", "delete"} <= set(verbs)
    events = [names | {"do": verb, "files": [], "value": "theirs", "which": "name"} for verb in verbs]
    events += [names | {"drop": kind, "files": given} for kind in ("memory", "pictures")]
    before, state = snapshot(kept), owner.call("job", job)[1][0]

    def asked(visitor, function, event, value):
        session = secrets.token_hex(5)
        body = {"data": [value] * len(function["inputs"]), "event_data": event, "session_hash": session}
        answered = visitor.http.post(f"{API}/queue/join", json=body | {"fn_index": function["id"]})
        return visitor.heard(session) if answered.status_code == 200 else answered.text

    sent = []
    for function in stranger.config["dependencies"]:
        if function["backend_fn"] and not function["api_name"].startswith(CALL):
            acts = any(event in ("act", "dropped") for _, event in function["targets"])
            sent += [(function, event) for event in (events if acts else [None])]
    with ThreadPoolExecutor(4) as threads:
        heard = "".join(threads.map(lambda each: asked(stranger, each[0], each[1], memory), sent))
    assert "lighthouse" not in heard and "Mine alone" not in heard and len(heard) > 1000
    assert snapshot(kept) == before and owner.call("job", job)[1][0] == state
    assert kept.memories()[0]["name"] == "Mine alone" and gallery in kept.ids("galleries")
    owner.call("job", job, "remove")


def test_no_test_of_queries_is_read_begun_on_or_stopped_by_another_visitor(owner, stranger, kept):
    memory = kept.memories()[0]["id"]
    begin = {"do": "begin", "memories": [memory], "source": "captions"}
    assert "no such memory" in stranger.http.post("evaluation", json=begin).json()["mistake"]
    assert owner.http.post("evaluation", json=begin).json() == {}
    assert stranger.http.post("evaluation", json={"do": "stop"}).json() == {}
    until(lambda: "results" in owner.http.get("evaluation").json())
    assert "Stopped" not in owner.http.get("evaluation").json()["results"]
    assert stranger.http.get("evaluation").json() == {}
    for path in ("results.json", "results.csv", "misses?place=0&kind=generative"):
        assert owner.http.get(f"evaluation/{path}").status_code in (200, 404), path
        assert stranger.http.get(f"evaluation/{path}").status_code == 404, path


def test_every_route_of_the_page_is_walked_here_or_the_same_for_all(tmp_path):
    loading = LoadingMemory(lambda: None)  # type: ignore[return-value]
    app = web.App(Settings(home=tmp_path), loading, ModelProcess(memory_host, "memory"))
    try:
        web.build(app, ())
    finally:
        app.jobs.close()
    walked = {
        *("/picture/{id}/{index:int}/{version}", "/original/{id}/{index:int}/{version}", "/about/{id}/{index:int}"),
        *("/recalled/{id}/{index:int}", "/thumbnail/{id}/{name}/{version}", "/download/{id}", "/gallery/{id}"),
        *("/edit", "/fresh", "/evaluation", "/evaluation/misses", "/evaluation/example"),
        *("/evaluation/results.json", "/evaluation/results.csv"),
    }
    same_for_all = {"/health", "/fonts", *(f"/{name}" for name in web.LOOK)}
    paths = {route.path for route in app.routes}  # type: ignore[attr-defined]
    assert paths == walked | same_for_all


def test_no_endpoint_of_the_api_gives_or_changes_what_is_another_visitors(owner, stranger, kept):
    memory = kept.memories()[0]["id"]
    path = owner.upload().json()[0]
    job = owner.call("memorize", [{"path": path, "meta": {"_type": "gradio.FileData"}}], "quick")
    assert job[0] == "complete", job
    id = job[1][0]["id"]
    for name, values in (
        ("search", ("a red circle", 3, 5, memory)),
        ("memories", ("rename", memory, "theirs")),
        ("memories", ("delete", memory)),
        *(("job", (id, action)) for action in ("status", "stop", "resume", "remove")),
    ):
        kind, mistake = stranger.call(name, *values)
        assert kind == "error" and "no such" in json.dumps(mistake), (name, values)
    kind, (listed,) = stranger.call("memories")
    assert (kind, listed) == ("complete", {"memories": [], "jobs": []})
    owner.call("job", id, "stop")
    until(lambda: owner.call("job", id)[1][0]["state"] in ("stopped", "done", "failed"))
    assert owner.call("job", id, "remove")[1][0]["state"] == "removed"


def test_an_upload_is_its_senders_even_for_those_who_know_its_path(owner, stranger):
    path = owner.upload(upload_id="known").json()[0]
    assert owner.http.get(f"{API}/file={path}").content == PICTURE
    assert stranger.http.get(f"{API}/file={path}").status_code in (403, 404)
    assert stranger.upload().json()[0] != path
    given = [{"path": path, "meta": {"_type": "gradio.FileData"}}]
    for disguised in (path, path.replace("/gcr-", "/./gcr-"), f"/proc/self/root{path}"):
        kind, mistake = stranger.call("memorize", [{**given[0], "path": disguised}], "quick")
        assert kind == "error" and "no upload of yours" in json.dumps(mistake)
    assert stranger.http.get(f"{API}/upload_progress", params={"upload_id": "known"}).status_code == 404


def test_the_app_answers_to_its_own_names_and_pages_only(shared_address, owner):
    assert httpx.get(shared_address, headers={"Host": "rebound.example"}).status_code == 400
    policy = httpx.get(shared_address).headers["content-security-policy"]
    assert "frame-ancestors 'self'" in policy and "default-src 'self'" in policy
    foreign = {"Origin": "https://elsewhere.example", "Sec-Fetch-Site": "cross-site"}
    asked = owner.http.post(f"{API}/call/search", json={"data": ["a red circle"]}, headers=foreign)
    assert asked.status_code == 403
    for path in ("", "config", f"{API}/info", "fresh"):
        assert not [name for name in owner.http.get(path, headers=foreign).headers if name.startswith("access-control")]


def test_an_upload_without_an_owner_is_refused(shared_address):
    answered = httpx.post(f"{shared_address}{API}/upload", files={"files": ("a.png", PICTURE)})
    assert answered.status_code == 403 and "without a secret" in answered.text


def test_the_web_is_not_fetched_for_anybody(owner):
    for target in (
        "http://127.0.0.1:1/",
        "https://example.org/a.png",
        "HTTPS://example.org/",
        "%68ttps://example.org/",
    ):
        assert owner.http.get(f"{API}/file={target}").status_code in (403, 404), target
    session = secrets.token_hex(5)
    asked = {"text": "", "files": [{"path": "https://example.org/a.png", "meta": {"_type": "gradio.FileData"}}]}
    visit = next(each for each in owner.config["dependencies"] if each["targets"] and each["targets"][0][1] == "submit")
    body = {"data": [asked, 3, 5, "", ""], "fn_index": visit["id"] + 1, "session_hash": session}
    owner.http.post(f"{API}/queue/join", json=body)
    assert "no upload of yours" in owner.heard(session)


def test_an_event_is_answered_to_whoever_asked_and_stopped_by_nobody_else(owner, stranger):
    event = owner.begin("search", "a red circle", 3, 5)
    for attempt in (
        lambda: stranger.http.get(f"{API}/call/search/{event}"),
        lambda: stranger.http.get(f"{API}/queue/data", params={"session_hash": event}),
        lambda: stranger.http.get(f"{API}/heartbeat/{event}"),
        lambda: stranger.http.post(f"{API}/cancel", json={"session_hash": event, "event_id": event, "fn_index": 0}),
        lambda: stranger.http.post(f"{API}/cancel", json={"session_hash": "x", "event_id": event, "fn_index": 0}),
    ):
        assert attempt().status_code == 404
    assert stranger.http.post(f"{API}/reset", json={"event_id": event}).status_code in (200, 404)
    kind, (answer,) = owner.answer("search", event)
    assert kind == "complete" and len(answer["generative"]) == 3


def test_a_session_is_read_joined_and_held_by_whoever_began_it(owner, stranger):
    session = secrets.token_hex(5)
    asked = owner.join(session, ["a red circle", 3, 5, "", ""])
    assert asked.status_code == 200
    assert stranger.http.get(f"{API}/queue/data", params={"session_hash": session}).status_code == 404
    assert stranger.http.get(f"{API}/heartbeat/{session}").status_code == 404
    assert stranger.join(session, ["a red circle", 3, 5, "", ""]).status_code == 400
    cancelled = {"session_hash": session, "event_id": asked.json()["event_id"], "fn_index": 0}
    assert stranger.http.post(f"{API}/cancel", json=cancelled).status_code == 404
    assert '"success":true' in owner.heard(session)


def test_what_of_gradio_takes_an_id_is_either_walked_here_or_not_served(tmp_path, owner):
    loading = LoadingMemory(lambda: None)  # type: ignore[return-value]
    app = web.App(Settings(home=tmp_path), loading, ModelProcess(memory_host, "memory"))
    try:
        page = web.build(app, ())
        server = web.gr.routes.App.create_app(page, app=Server(lambda within: within, routes=app.routes))
    finally:
        app.jobs.close()
    walked = {
        *("call/{api_name}/{event_id}", "call/{api_name}", "call/v2/{api_name}", "call/v2/{api_name}/{event_id}"),
        *("heartbeat/{session_hash}", "file={path_or_url:path}"),
    }
    routers = [server, *(route.original_router for route in server.routes if hasattr(route, "original_router"))]
    paths = {route.path for router in routers for route in router.routes if hasattr(route, "path")}
    served = {
        path.removeprefix(f"/{API}/").rstrip("/") for path in paths if path.startswith(f"/{API}/") and "{" in path
    }
    assert walked <= served
    for path in served - walked:
        with pytest.raises(limits.RefusedError):
            limits.check_offered(path)
    for path in ("run/search", "api/search", "component_server", "process_recording", "vibe-code", "deep_link", "runs"):
        assert owner.http.post(f"{API}/{path}", json={"data": ["a red circle"]}).status_code == 404, path
    assert owner.http.get(f"{API}/deep_link", params={"session_hash": "x"}).status_code == 404


def test_a_strangers_search_goes_before_the_hundreds_of_one_who_floods(owner, stranger, shared_address):
    body = {"data": ["a red circle", 10, 100]}
    events, refused, answered = [], [], []
    with ThreadPoolExecutor(2) as threads:
        with suspended_memory(shared_address):  # else a quick machine answers as fast as it is asked
            while not refused:
                answer = owner.http.post(f"{API}/call/search", json=body).json()
                refused += [answer["detail"]] if "detail" in answer else []
                events += [answer["event_id"]] if "event_id" in answer else []
            event = stranger.begin("search", "a red circle", 3, 5)
        last, its = threads.submit(owner.answer, "search", events[-1]), threads.submit(stranger.answer, "search", event)
        for each in (its, last):
            each.add_done_callback(answered.append)
    assert "32 requests of yours wait for answers, the limit is 32" in refused[0]
    assert answered == [its, last]
    assert last.result()[0] == its.result()[0] == "complete"


def test_pictures_that_are_added_to_a_memory_count_as_an_import(owner, kept):
    path = owner.upload().json()[0]
    asked = {"do": "add", "memory": kept.memories()[0]["id"], "files": [{"path": path}]}

    def added():
        heard = ""
        for function in owner.config["dependencies"]:
            if function["backend_fn"] and any(event == "act" for _, event in function["targets"]):
                session = secrets.token_hex(5)
                body = {"data": [None] * len(function["inputs"]), "event_data": asked, "session_hash": session}
                owner.http.post(f"{API}/queue/join", json=body | {"fn_index": function["id"]})
                heard += owner.heard(session)
        return heard

    with budget.importing(kept.root, Settings()), budget.importing(kept.root, Settings()):
        assert "2 imports of yours are under way, the limit is 2" in added()
        assert "holiday.png" not in Gallery.load(kept.memory(asked["memory"]) / "gallery").file_names
    added()
    until(lambda: "holiday.png" in Gallery.load(kept.memory(asked["memory"]) / "gallery").file_names)


def test_a_call_of_the_api_leaves_nothing_in_the_servers_memory(shared_address, owner):
    def bytes_in_use():
        return psutil.Process(pid_at(shared_address)).memory_info().rss

    def ask(times):
        for _ in range(times):
            assert owner.call("search", "a red circle", 3, 5)[0] == "complete"

    ask(150)
    before = bytes_in_use()
    ask(150)
    assert bytes_in_use() - before < 8 * 2**20  # a session is 80 KB: all of them would be 12 MB


@contextmanager
def suspended_memory(address):
    """While the block lasts, the app at an address has no answer from its memory."""
    server = psutil.Process(pid_at(address))
    spawned = [child for child in server.children() if "spawn_main" in " ".join(child.cmdline())]
    memory = min(spawned, key=psutil.Process.create_time)
    memory.suspend()
    try:
        yield
    finally:
        memory.resume()


def pid_at(address):
    port = int(address.rstrip("/").rsplit(":", 1)[1])
    connections = psutil.net_connections("tcp")
    return next(each.pid for each in connections if each.status == "LISTEN" and each.laddr.port == port)


SHAPES = (None, [], [1], "text", 7, True, {"do": 7}, {"do": []}, {"drop": {}, "files": "a"}, {"do": "page", "page": []})


@pytest.mark.parametrize(
    ("shape", "known"),
    [*((shape, True) for shape in SHAPES), *((shape, False) for shape in SHAPES[-2:])],
    ids=json.dumps,
)
def test_what_no_page_would_send_is_a_mistake_in_one_line(owner, shared_folder, shape, known):
    """Nor of one whose browser blocks the page's cookie."""
    if not known:
        del owner.http.headers[HEADER]
    log = shared_folder / "app.log"
    before = len(log.read_text())
    for function in owner.config["dependencies"]:
        if not function["backend_fn"]:
            continue
        session, count = secrets.token_hex(5), len(function["inputs"])
        for data in ([shape] * count, [], [shape] * (count + 3)):
            body = {"data": data, "event_data": shape, "fn_index": function["id"], "session_hash": session}
            if owner.http.post(f"{API}/queue/join", json=body).status_code == 200:
                owner.heard(session)
    for strange in ({"data": []}, {"data": {}}, {}, [], "text", {"data": [], "fn_index": 10**6, "session_hash": "x"}):
        for path in ("queue/join", "call/search", "call/none", "call/v2/search", "call/v2/none", "cancel", "reset"):
            owner.http.post(f"{API}/{path}", json=strange)
    for deep in (b"[" * 10**6, b'{"data": ' + b"[" * 10**6):
        assert owner.http.post(f"{API}/queue/join", content=deep).status_code in (400, 422)
    found = log.read_text()[before:]
    assert "Traceback" not in found, found[-3000:]


def unfinished(folder):
    """What uploads that are under way, or were cut off, have on the disk."""
    return [file for file in folder.glob("gcr-*/*/*") if file.is_file()]


@pytest.mark.slow
def test_sixteen_uploads_at_once_hold_the_budget(tiny_memory_dir, tmp_path):
    """Of one visitor and of visitors who are new each time; what is cut off leaves nothing."""
    budget, content = 2 * 2**20, b"x" * 2**20
    folder = tmp_path / "uploads"
    options = {"visitors": 1, "max_uploaded_bytes": budget, "max_uploaded_bytes_in_all": 2 * budget}
    with serve(tiny_memory_dir, tmp_path / "app.log", **options) as address:
        with socket.create_connection(("127.0.0.1", int(address.rstrip("/").rsplit(":", 1)[1]))) as connection:
            head = (
                f"POST /{API}/upload HTTP/1.1\r\nHost: localhost\r\n{HEADER}: {'c' * 32}\r\nContent-Length: 100000\r\n"
            )
            kind = "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
            part = '--b\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n' + "x" * 1000
            connection.sendall(f"{head}{kind}{part}".encode())
            until(lambda: unfinished(folder))
        until(lambda: not unfinished(folder))

        def sent(secret):
            answers.append(Caller(address, secret).upload(content + secret.encode(), "a.png"))

        for new_each_time, limit in ((False, budget), (True, 2 * budget)):
            answers, same = [], secrets.token_urlsafe(32)
            secrets_ = [secrets.token_urlsafe(32) if new_each_time else same for _ in range(16)]
            threads = [threading.Thread(target=sent, args=(secret,)) for secret in secrets_]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            refused = [answer.text for answer in answers if answer.status_code == 413]
            assert len(refused) >= 12 and all("in an hour, the limit is" in words for words in refused)
            assert sum(answer.status_code for answer in answers) == 413 * len(refused) + 200 * (16 - len(refused))
            assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) <= limit
        assert not unfinished(folder)
        assert httpx.get(f"{address}health").status_code == 200

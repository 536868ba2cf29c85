"""Which hosts and origins are answered, and what browsers are told about every answer."""

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from gcr_core.errors import InputError
from gcr_core.settings import Settings
from gcr_core.ui import site


def client(settings: Settings, listens: str | None = None, asked: str = "http://127.0.0.1:7860") -> TestClient:
    def said(request: Request) -> JSONResponse:
        return JSONResponse({"origin": request.headers.get("origin")})

    app = Starlette(routes=[Route("/", said, methods=["GET", "POST"])])
    return TestClient(site.guarded(app, settings, listens), base_url=asked)


@pytest.fixture(autouse=True)
def nowhere(monkeypatch):
    for name in ("SPACE_ID", "GRADIO_SERVER_NAME"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("listens", "hosts", "asked", "answered"),
    [
        (None, (), "127.0.0.1:7860", True),
        (None, (), "localhost:7861", True),
        (None, (), "LOCALHOST", True),
        (None, (), "[::1]:7860", True),
        (None, (), "rebound.example", False),
        (None, (), "127.0.0.1.rebound.example:7860", False),
        (None, (), "192.168.1.5:7860", False),
        ("localhost", (), "rebound.example", False),
        ("::1", (), "rebound.example", False),
        ("127.0.0.5", (), "rebound.example", False),
        ("0.0.0.0", (), "my-machine.lan:7860", True),
        ("my-machine.lan", (), "my-machine.lan", True),
        (None, ("gcr.example",), "gcr.example", True),
        (None, ("*.example",), "gcr.example:8443", True),
        ("0.0.0.0", ("gcr.example",), "localhost", True),
        ("0.0.0.0", ("gcr.example",), "rebound.example", False),
        ("192.168.1.5", ("gcr.example",), "192.168.1.5:7860", True),
        ("fe80::1", ("gcr.example",), "[fe80::1]:7860", True),
    ],
)
def test_a_name_that_leads_here_from_elsewhere_is_answered_only_where_it_may(listens, hosts, asked, answered):
    response = client(Settings(hosts=hosts), listens).get("/", headers={"Host": asked})
    assert response.status_code == (200 if answered else 400)


def test_the_address_that_gradio_is_told_by_its_variable_counts(monkeypatch):
    monkeypatch.setenv("GRADIO_SERVER_NAME", "0.0.0.0")
    assert client(Settings()).get("/", headers={"Host": "my-machine.lan"}).status_code == 200


ELSEWHERE = "https://elsewhere.example"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://127.0.0.1:7860"}, 200),
        ({"Origin": "http://127.0.0.1:7860", "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": "https://behind.a.proxy", "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": "http://behind.a.proxy", "X-Forwarded-Host": "behind.a.proxy"}, 200),
        ({"Origin": ELSEWHERE}, 403),
        ({"Origin": ELSEWHERE, "Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "http://127.0.0.1:8000", "Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
def test_nothing_is_changed_at_the_wish_of_another_sites_page(headers, status):
    response = client(Settings()).post("/", headers=headers)
    assert response.status_code == status
    assert "access-control-allow-origin" not in response.headers
    if status == 403:
        assert "another site's page" in response.json()["detail"]


def test_gradio_which_would_allow_any_origin_never_hears_of_one():
    assert client(Settings()).get("/", headers={"Origin": ELSEWHERE}).json() == {"origin": None}


def test_a_site_that_the_settings_name_may_ask_and_show_the_page_and_no_other_may():
    asking = client(Settings(origins=(ELSEWHERE,)))
    cross = {"Origin": ELSEWHERE, "Sec-Fetch-Site": "cross-site"}
    assert asking.post("/", headers=cross).headers["access-control-allow-origin"] == ELSEWHERE
    asked = {**cross, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-gcr-owner"}
    preflight = asking.options("/", headers=asked)
    assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (200, ELSEWHERE)
    assert "access-control-allow-credentials" not in preflight.headers
    other = asking.get("/", headers={"Origin": "https://other.example"})
    assert "access-control-allow-origin" not in other.headers
    policy = other.headers["content-security-policy"]
    assert policy.endswith(f"frame-ancestors 'self' {ELSEWHERE}") and "x-frame-options" not in other.headers


@pytest.mark.parametrize(
    "origin", ["elsewhere.example", "https://elsewhere.example/", "*", "https://a b", "javascript:", ""]
)
def test_what_is_no_origin_is_named(origin):
    with pytest.raises(InputError, match="no origin: write it as https://"):
        site.check_names(Settings(origins=(ELSEWHERE, origin)))


@pytest.mark.parametrize("host", ["https://gcr.example", "gcr.example:7860", "gcr.*", "*example", "a b", ""])
def test_what_is_no_host_is_named(host):
    with pytest.raises(InputError, match="no name of a host: write"):
        site.check_names(Settings(hosts=("gcr.example", "*.example", "*", "[::1]", host)))


@pytest.mark.parametrize("space", [False, True])
def test_every_answer_says_who_may_frame_it_and_that_nothing_is_loaded_from_elsewhere(monkeypatch, space):
    if space:
        monkeypatch.setenv("SPACE_ID", "me/my-space")
    for response in (client(Settings()).get("/"), client(Settings()).get("/none")):
        policy = dict(part.split(" ", 1) for part in response.headers["content-security-policy"].split("; "))
        assert ("https://huggingface.co" in policy["frame-ancestors"]) is space
        assert ("x-frame-options" in response.headers) is not space
        assert policy["default-src"] == "'self'" and policy["object-src"] == "'none'"
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["referrer-policy"] == "same-origin"


@pytest.mark.parametrize(
    ("scheme", "forwarded", "secure"),
    [
        ("http", "", False),
        ("https", "", True),
        ("http", "https", True),
        ("http", "https, http", True),
        ("http", "http", False),
    ],
)
def test_https_is_known_behind_a_proxy_too(scheme, forwarded, secure):
    headers = [(b"x-forwarded-proto", forwarded.encode())] if forwarded else []
    assert site.is_secure({"type": "http", "scheme": scheme, "headers": headers}) is secure

"""Whose a request is: secrets, cookies, and addresses behind proxies."""

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from gcr_core.ui.auth import COOKIE, HEADER, SECURE_COOKIE, OwnerCookie, Visitor, address_of, given_secret

SECRET, OTHER = "a" * 32, "b" * 40


def scope(client: str = "203.0.113.9", **headers: str) -> dict:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "client": (client, 1), "headers": raw}


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("8.8.8.8", "", "8.8.8.8"),
        ("8.8.8.8", "1.1.1.1", "8.8.8.8"),
        ("10.0.0.7", "1.1.1.1", "1.1.1.1"),
        ("127.0.0.1", "1.1.1.1, 8.8.4.4", "8.8.4.4"),
        ("127.0.0.1", "1.1.1.1, 8.8.4.4, 10.1.2.3", "8.8.4.4"),
        ("127.0.0.1", "no address", "127.0.0.1"),
        ("192.168.1.4", "", "192.168.1.4"),
        ("2001:4860:4860::8888", "", "2001:4860:4860::/64"),
    ],
)
def test_the_address_is_the_one_that_nobody_but_a_proxy_could_have_written(peer, forwarded, address):
    assert address_of(scope(peer, x_forwarded_for=forwarded)) == address


def test_two_hosts_of_one_ipv6_network_are_one_address():
    assert address_of(scope("2001:4860:4860::1")) == address_of(scope("2001:4860:4860::2"))


def test_a_new_secret_is_another_visitor_at_the_same_address():
    first, second, nobody = (Visitor.of(scope(x_gcr_owner=secret)) for secret in (SECRET, OTHER, "short"))
    assert len({first.key, second.key, nobody.key}) == 3
    assert {first.address, second.address, nobody.address} == {"203.0.113.9"}
    assert nobody.owner == "" and SECRET not in first.key


@pytest.mark.parametrize(
    ("headers", "cookies", "secret"),
    [
        ({HEADER: SECRET}, {SECURE_COOKIE: OTHER}, SECRET),
        ({}, {SECURE_COOKIE: SECRET, COOKIE: OTHER}, SECRET),
        ({}, {COOKIE: SECRET}, SECRET),
        ({}, {COOKIE: "guess"}, ""),
        ({}, {}, ""),
    ],
)
def test_the_cookie_that_only_this_host_can_set_comes_before_the_other(headers, cookies, secret):
    assert given_secret(headers, cookies) == secret


@pytest.mark.parametrize(
    ("space", "forwarded", "name", "ends"),
    [
        ("", "", COOKIE, "HttpOnly; SameSite=Lax"),
        ("", "https", SECURE_COOKIE, "HttpOnly; SameSite=Lax; Secure"),
        ("me/my-space", "", SECURE_COOKIE, "HttpOnly; SameSite=None; Partitioned; Secure"),
    ],
)
def test_behind_https_the_cookie_is_this_hosts_alone(monkeypatch, space, forwarded, name, ends):
    monkeypatch.setenv("SPACE_ID", space)
    app = OwnerCookie(Starlette(routes=[Route("/", lambda request: PlainTextResponse(""))]))
    headers = {"X-Forwarded-Proto": forwarded} if forwarded else {}
    given = TestClient(app).get("/", headers=headers).headers["set-cookie"]
    assert given.startswith(f"{name}=") and given.endswith(ends) and "; Path=/;" in given and "Domain" not in given
    kept = TestClient(app).get("/", headers={**headers, "Cookie": f"{COOKIE}={SECRET}"}).headers["set-cookie"]
    assert kept.startswith(f"{name}={SECRET};")

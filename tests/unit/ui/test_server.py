"""Connections that ask for nothing, or read nothing, are ended; those that are slow for a reason are not."""

import socket
import threading
import time

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from gcr_core.ui import server
from tests.patience import SECONDS, until


@pytest.fixture
def running(monkeypatch):
    """An app that gives connections half a second."""
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.5)
    monkeypatch.setattr(server, "UNREAD_SECONDS", 0.5)

    async def much():
        for _ in range(1000):
            yield b"x" * 2**20

    def slow(request):
        time.sleep(1)
        return PlainTextResponse("slow")

    app = Starlette(routes=[Route("/slow", slow), Route("/much", lambda request: StreamingResponse(much()))])
    config = uvicorn.Config(app, port=0, log_level="critical")
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run)
    thread.start()
    while not running.started:
        time.sleep(0.01)
    server.end_slow_connections(config)
    yield running
    running.should_exit = running.force_exit = True
    thread.join()


@pytest.fixture
def served(running):
    """The port of the app."""
    return running.servers[0].sockets[0].getsockname()[1]


def ended(connection):
    """Whether the other side has ended the connection."""
    connection.settimeout(SECONDS)
    try:
        while connection.recv(2**16):
            pass
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False
    return True


@pytest.mark.parametrize("sent", [b"", b"GET /slow HTTP/1.1\r\nHost:"])
def test_a_connection_that_never_says_what_it_wants_is_ended(served, sent):
    with socket.create_connection(("127.0.0.1", served)) as connection:
        connection.sendall(sent)
        assert ended(connection)


def test_a_part_of_a_head_every_moment_wins_no_time(served):
    ends = pytest.raises((ConnectionResetError, BrokenPipeError))
    with socket.create_connection(("127.0.0.1", served)) as connection, ends:
        for _ in range(10 * SECONDS):
            connection.sendall(b"a")
            time.sleep(0.1)


@pytest.mark.slow
def test_an_answer_that_takes_long_is_waited_for(served):
    with socket.create_connection(("127.0.0.1", served)) as connection:
        connection.sendall(b"GET /slow HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        connection.settimeout(SECONDS)
        answer = b""
        while part := connection.recv(2**16):
            answer += part
        assert answer.endswith(b"slow")


def test_an_answer_that_nobody_reads_is_ended(running, served):
    with socket.create_connection(("127.0.0.1", served)) as connection:
        connection.sendall(b"GET /much HTTP/1.1\r\nHost: a\r\n\r\n")
        until(lambda: running.server_state.connections)
        until(lambda: not running.server_state.connections)
        received = 0
        connection.settimeout(SECONDS)
        with pytest.raises((ConnectionResetError, TimeoutError)) as end:
            while part := connection.recv(2**20):
                received += len(part)
            raise ConnectionResetError
        assert end.type is ConnectionResetError and received < 2**28

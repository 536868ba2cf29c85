"""Where the page can be served."""

import socket
from collections.abc import Iterator

import pytest

from gcr_core.errors import InputError
from gcr_core.ui.address import check_address


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SERVER_NAME", "SERVER_PORT", "NUM_PORTS"):
        monkeypatch.delenv(f"GRADIO_{name}", raising=False)


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that another program listens at."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


@pytest.fixture
def free(taken: int) -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("host", [None, "127.0.0.1", "localhost", "0.0.0.0", "127.0.0.2"])
def test_an_address_of_this_machine_will_do(host: str | None, free: int) -> None:
    check_address(host, str(free))
    check_address(host, None)


@pytest.mark.parametrize("port", ["0", "-1", "65536", "99999999999999999999", "x", "7860.0", " ", "٣", "1e3"])
def test_what_is_no_port_is_refused(port: str) -> None:
    with pytest.raises(InputError, match=r"port is .*: choose a whole number from 1 to 65,535"):
        check_address(None, port)


@pytest.mark.parametrize(
    "host", ["192.0.2.1", "198.51.100.7", "2001:db8::1", "[2001:db8::1]", "é..x", "x" * 300, "." * 5]
)
def test_a_host_that_is_not_this_machines_is_refused(host: str, free: int) -> None:
    for port in (str(free), None):
        with pytest.raises(InputError, match=r"host .* is no address of this machine: leave it out"):
            check_address(host, port)


def test_a_name_that_nobody_has_is_refused(free: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", unknown)
    with pytest.raises(InputError, match=r"host 'nowhere\.invalid' is no address of this machine"):
        check_address("nowhere.invalid", str(free))


def test_a_port_in_use_is_refused(taken: int) -> None:
    with pytest.raises(InputError, match=rf"port {taken} is in use: name another one"):
        check_address("127.0.0.1", str(taken))


def test_gradios_variables_are_checked_where_nothing_else_is_said(
    taken: int, free: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADIO_SERVER_PORT", str(taken))
    with pytest.raises(InputError, match="in use"):
        check_address(None, None)
    check_address(None, str(free))
    monkeypatch.setenv("GRADIO_SERVER_PORT", "abc")
    with pytest.raises(InputError, match="port is 'abc'"):
        check_address(None, None)
    monkeypatch.setenv("GRADIO_SERVER_NAME", "192.0.2.1")
    with pytest.raises(InputError, match="no address of this machine"):
        check_address(None, str(free))


def test_where_all_of_gradios_ports_are_in_use_another_is_asked_for(
    taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gcr_core.ui.address.FIRST_PORT", taken)
    monkeypatch.setenv("GRADIO_NUM_PORTS", "1")
    with pytest.raises(InputError, match="in use"):
        check_address(None, None)


def test_a_port_of_the_systems_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: socket.socket, place: tuple) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("socket.socket.bind", refuse)
    with pytest.raises(InputError, match="port 80 is the system's own: name one from 1,024"):
        check_address(None, "80")

"""Address: whether the page can be served where it was asked for, told before anything is loaded."""

import errno
import os
import socket

from gcr_core.errors import InputError

HOST, FIRST_PORT, PORTS = "127.0.0.1", 7860, 100
"""Where Gradio serves unless told otherwise: at the first free port of so many."""
MAX_PORT = 65_535


def check_address(host: str | None, port: int | str | None) -> None:
    """Raises InputError for a host that is not this machine's, and for a port that is none or in use.

    What is None stands in Gradio's variables, GRADIO_SERVER_NAME and GRADIO_SERVER_PORT, or is its default.
    """
    host = host or os.environ.get("GRADIO_SERVER_NAME") or HOST
    port = os.environ.get("GRADIO_SERVER_PORT") or None if port is None else port
    if port is None:
        ports = range(FIRST_PORT, FIRST_PORT + int(os.environ.get("GRADIO_NUM_PORTS") or PORTS))
        if not any(_error(host, free) is None for free in ports):
            _check(host, FIRST_PORT)
            raise InputError(f"the ports {ports[0]} to {ports[-1]} are all in use: name another one with --port")
        return
    if not (str(port).isascii() and str(port).isdecimal()) or not 1 <= int(port) <= MAX_PORT:
        raise InputError(f"port is {port!r}: choose a whole number from 1 to {MAX_PORT:,}")
    _check(host, int(port))


def _check(host: str, port: int) -> None:
    error = _error(host, port)
    if error is None:
        return
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        raise InputError(f"port {port} is in use: name another one, or end the program that has it") from error
    if isinstance(error, PermissionError):
        raise InputError(f"port {port} is the system's own: name one from 1,024") from error
    raise InputError(
        f"host {host!r} is no address of this machine: leave it out to be alone on the page, or name 0.0.0.0 for all "
        "who can reach this machine"
    ) from error


def _error(host: str, port: int) -> Exception | None:
    """What keeps a server from listening there."""
    failure: Exception | None = None
    try:
        places = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, ValueError) as error:
        return error
    for family, kind, _, _, place in places:
        try:
            with socket.socket(family, kind) as probe:
                if os.name == "posix":  # Elsewhere it would share a port that is in use.
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(place)
                probe.listen()
                return None
        except OSError as error:
            failure = failure or error
    return failure

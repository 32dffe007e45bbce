"""Servers of both kinds, started once, and lines through them: a client's socket, a proxy, the server's
socket.
"""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import requests

from harness.proxy.control import Control
from harness.proxy.errors import ToxiproxyError
from harness.proxy.find import Found, command, find

#: Seconds after which what was waited for is missing.
DEADLINE = 20.0
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A running Toxiproxy: "builtin" or "toxiproxy"."""

    kind: str
    port: int
    process: subprocess.Popen[str]
    control: Control

    def call(self, method: str, path: str, body: object = None, **options: Any) -> requests.Response:
        """One request to its API."""
        url = f"http://127.0.0.1:{self.port}{path}"
        return requests.request(method, url, json=body, timeout=DEADLINE, **options)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A connection through a proxy of its own: `client` and `far` are its two ends."""

    name: str
    at: tuple[str, int]
    client: socket.socket
    far: socket.socket
    listener: socket.socket = field(repr=False)


def free_port() -> int:
    """A port that nobody has at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def running(found: Found, *words: str) -> Iterator[Server]:
    """Starts it, with `words` more on its command line, and stops it in the end.

    By then ours must not have had anything to complain of.
    """
    port = free_port()
    argv = [*command(found, port), *words]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            control = Control("127.0.0.1", port)
            control.wait_ready(DEADLINE)
            yield Server(kind=found.name, port=port, process=process, control=control)
        finally:
            process.terminate()
            complaints = process.communicate(timeout=DEADLINE)[1]
        assert found.name != "builtin" or complaints == ""


@pytest.fixture(scope="session")
def builtin_found() -> Found:
    return find({"STORMPROOF_TOXIPROXY": "builtin"})


@pytest.fixture(scope="session")
def builtin(builtin_found: Found) -> Iterator[Server]:
    with running(builtin_found, "--seed=1") as server:
        yield server


@pytest.fixture(scope="session")
def real() -> Iterator[Server]:
    environ = {key: value for key, value in os.environ.items() if key != "STORMPROOF_TOXIPROXY_URL"}
    try:
        found = find({**environ, "STORMPROOF_TOXIPROXY": "real"})
    except ToxiproxyError:
        pytest.skip("there is no real Toxiproxy here: run `stormproof toxiproxy install`")
    with running(found) as server:
        yield server


@pytest.fixture(params=["builtin", "real"])
def server(request: pytest.FixtureRequest) -> Server:
    """Each kind in turn: what is promised of it is promised of both."""
    found: Server = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def start(builtin_found: Found) -> Iterator[Callable[..., Server]]:
    """Starts a built-in server of the test's own."""
    with ExitStack() as stack:
        yield lambda *words: stack.enter_context(running(builtin_found, *words))


@pytest.fixture
def name() -> str:
    """A proxy's name that no other test has."""
    return f"proxy-{next(_numbers)}"


@pytest.fixture
def proxied(server: Server) -> Iterator[Callable[[], Line]]:
    """Makes lines through `server`."""
    with lines(server) as make:
        yield make


@pytest.fixture
def proxied_builtin(builtin: Server) -> Iterator[Callable[[], Line]]:
    """Makes lines through the built-in server."""
    with lines(builtin) as make:
        yield make


@pytest.fixture
def connect() -> Iterator[Callable[[Line], tuple[socket.socket, socket.socket]]]:
    """Opens one more connection through a line's proxy: the client's end and the far end."""
    with ExitStack() as stack:

        def more(line: Line) -> tuple[socket.socket, socket.socket]:
            client = stack.enter_context(socket.create_connection(line.at, DEADLINE))
            far = stack.enter_context(line.listener.accept()[0])
            far.settimeout(DEADLINE)
            return client, far

        yield more


@contextmanager
def lines(server: Server) -> Iterator[Callable[[], Line]]:
    with ExitStack() as stack:

        def make() -> Line:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            listener.settimeout(DEADLINE)
            name = f"line-{next(_numbers)}"
            upstream = f"127.0.0.1:{listener.getsockname()[1]}"
            host, _, port = server.control.create(name, upstream=upstream, listen="127.0.0.1:0").rpartition(":")
            stack.callback(server.control.delete, name)
            client = stack.enter_context(socket.create_connection((host, int(port)), DEADLINE))
            far = stack.enter_context(listener.accept()[0])
            far.settimeout(DEADLINE)
            return Line(name=name, at=(host, int(port)), client=client, far=far, listener=listener)

        yield make


@pytest.fixture
def proxied_both(builtin: Server, real: Server) -> Iterator[list[Line]]:
    """A line through the built-in server, and one through the real one."""
    with lines(builtin) as ours, lines(real) as theirs:
        yield [ours(), theirs()]

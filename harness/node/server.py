"""The Hello server as a program: opens its ports, says that it is ready, serves, and ends when told.

Beside Hello its port has the standard health service, which container health checks and balancing clients ask.

It runs on one event loop: no thread for each call, so that a hundred calls can wait in it while the two cores
that it shares with the client, the proxies and its fellows do something else.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import uvloop
from msgspec import Struct, json

from faults.base import bounded, check
from harness.node.ballast import Ballast
from harness.node.conduct import Conduct
from harness.node.control import Control
from harness.node.hello import Hello
from harness.node.journal import Journal
from harness.service_time import Draws, ServiceTime, wrong_with
from harness.values import from_json
from harness.wire import add_control, add_hello

#: Seconds that calls in flight may still take after SIGTERM or SIGINT.
GRACE = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a Hello server is started with.

    `port` and `control_port` 0 take any free port; without `control_port` it cannot be told to misbehave.
    `service_time` is the seconds of work a reply takes (or a ServiceTime, which `seed` is for), `workers` how many calls
    work at once; further ones wait, up to `queue` of them (None: all). It listens after `cold_start` seconds.
    `journal` is the file for its journal (none: it keeps none). Being ready is told as one line of JSON (`Ready`) on the
    descriptor `ready_fd`, or else in words on stdout.
    """

    port: int = 50051
    host: str = "127.0.0.1"
    service_time: float | ServiceTime = 1.0
    workers: int = 16
    queue: int | None = None
    cold_start: float = 0.0
    seed: int = 0
    journal: str = os.devnull
    name: str = "hello"
    control_port: int | None = None
    ready_fd: int | None = None

    def __post_init__(self) -> None:
        check(
            self,
            bounded("port", self.port, 0, 65535)
            + bounded("control_port", self.control_port or 0, 0, 65535)
            + wrong_with(self.service_time)
            + bounded("workers", self.workers, 1)
            + bounded("queue", self.queue or 0, 0)
            + bounded("cold_start", self.cold_start, 0, 3600, way_out="seconds"),
        )


class Ready(Struct):
    """What a server says when it is ready: the ports it listens on."""

    port: int
    control_port: int | None = None


def serve(**arguments: Any) -> int:
    """Runs a server with `Settings(**arguments)` until SIGTERM, SIGINT or Drain; returns its exit status.

    A `service_time` may also be the JSON of one.
    """
    if isinstance(arguments.get("service_time"), dict):
        arguments["service_time"] = from_json(arguments["service_time"])
    try:
        settings = Settings(**arguments)
    except ValueError as error:
        return _refuse(error)
    try:
        return uvloop.run(_serve(settings))
    except OSError as error:  # a port or the journal cannot be opened
        return _refuse(error)


def _refuse(error: Exception) -> int:
    print(error, file=sys.stderr)
    return 2


async def _serve(settings: Settings) -> int:
    from harness.node.health import Health, add_health  # in this process only: see there

    told_to_end: asyncio.Queue[float] = asyncio.Queue()
    conduct = Conduct(settings.name)
    hello = Hello(
        journal=Journal(Path(settings.journal)),
        conduct=conduct,
        workers=settings.workers,
        queue=settings.queue,
        work=Draws(settings.service_time, settings.seed),
    )
    health, ballast = Health(conduct), Ballast()

    def changed() -> None:
        health.changed()
        ballast.hold(conduct.memory)

    server, control = _server(), _server()
    add_hello(hello, server)
    add_health(health, server)
    add_control(Control(conduct, told_to_end.put_nowait, changed), control)
    if settings.cold_start:
        await asyncio.sleep(settings.cold_start)
    port = _listen(server, settings.host, settings.port, "--port")
    control_port = None
    if settings.control_port is not None:
        control_port = _listen(control, settings.host, settings.control_port, "--control-port")
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, told_to_end.put_nowait, GRACE)
    await server.start()
    await control.start()
    _say_ready(settings, Ready(port, control_port))
    grace = await told_to_end.get()
    health.drain()
    await server.stop(grace)
    await control.stop(GRACE)  # no longer than the answer to Drain takes
    return 0


def _server() -> grpc.aio.Server:
    # With SO_REUSEPORT a second server would share the port in silence instead of failing.
    return grpc.aio.server(options=[("grpc.so_reuseport", 0)])


def _listen(server: grpc.aio.Server, host: str, port: int, option: str) -> int:
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        _try(host, port)
        return server.add_insecure_port(address)
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise OSError(
            f"cannot listen on {address}: {reason}; choose another port with {option} "
            "(0 picks a free one), or stop the program that listens there"
        ) from error


def _try(host: str, port: int) -> None:
    """OSError if `port` cannot be opened: gRPC would log a line of its own, and not tell its caller why."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))


def _say_ready(settings: Settings, ready: Ready) -> None:
    if settings.ready_fd is not None:
        os.write(settings.ready_fd, json.encode(ready) + b"\n")
    else:
        print(
            f"Hello server {settings.name} listens on {settings.host}:{ready.port}; stop with Ctrl-C",
            flush=True,
        )

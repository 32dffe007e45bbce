"""The default fleet: one operating-system process per server, each behind its own Toxiproxy proxy on loopback.

A `LocalFleet` holds what is kept between runs (the keeper of processes, and Toxiproxy); a `Deployment` is the
servers of one run. What goes wrong with the fleet before a run is a FleetError; what goes wrong later is told
in the history, so that what was recorded so far is kept.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from faults import Fault, MemoryLimit
from harness.fleet.deployment import Deployment
from harness.fleet.errors import FleetError
from harness.fleet.keeper import Keeper, Process
from harness.fleet.local_server import LocalServer
from harness.fleet.ports import free_port
from harness.fleet.proxied import cannot
from harness.fleet.real import PRELOAD, RealFleet
from harness.proxy.control import Control
from harness.proxy.errors import ToxiproxyError
from harness.proxy.find import Found, address, command, find
from harness.scenario import Servers

#: Seconds until a Toxiproxy that we start must answer, and one that runs already.
START, ANSWER = 10.0, 2.0


class LocalFleet(RealFleet):
    """Server processes on this machine. Enter it before use; it starts nothing before."""

    name = "local"

    def __init__(self) -> None:
        super().__init__()
        self._found: Found | None = None
        self._toxiproxy: Process | None = None

    def __enter__(self) -> Self:
        try:
            self._found = find(os.environ)
            self.folder = Path(tempfile.mkdtemp(prefix="stormproof-"))
            self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
            self._keeper = self._stack.enter_context(Keeper(PRELOAD, folder=self.folder))
            self.control = self._start_toxiproxy(self._found)
            self.proxy = f"{self._found.name} {self.control.version()}"
        except ToxiproxyError as error:
            self._stack.close()
            raise FleetError(str(error)) from error
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _start_toxiproxy(self, found: Found) -> Control:
        if found.url is not None:
            control = Control(*address(found.url))
            control.wait_ready(ANSWER)
            return control
        port = free_port()
        toxiproxy = self._toxiproxy = self._keeper.execute(command(found, port), log=self.folder / "toxiproxy.log")
        control, deadline = Control("127.0.0.1", port), time.monotonic() + START
        while True:
            try:
                control.wait_ready(0.2)
                return control
            except ToxiproxyError as error:
                words = self._last_words()
                # The real one says that its port is taken, and then goes on without it.
                if not toxiproxy.alive or "address already in use" in words.lower():
                    raise FleetError(f"Toxiproxy could not start: {words}; try again") from error
                if time.monotonic() > deadline:
                    raise FleetError(f"Toxiproxy did not answer within {START:g} s: {words}") from error

    def cannot(self, fault: Fault, servers: Servers) -> str | None:
        if isinstance(fault, MemoryLimit):
            return f"{fault} needs a container; run it with --fleet=docker"
        return cannot(fault, servers)

    def refuses(self, servers: Servers) -> str | None:
        return None if servers.compose is None else "servers of a compose file need --fleet=docker"

    @contextlib.contextmanager
    def deploy(self, servers: Servers, *, seed: int = 1) -> Iterator[Deployment]:
        self._check_alive()
        if reason := self.refuses(servers):
            raise FleetError(reason)
        folder = Path(tempfile.mkdtemp(dir=self.folder, prefix="run-"))
        prefix = f"{folder.name}-"  # unique on a Toxiproxy that others use too
        started = (LocalServer(s, servers, self._keeper, self.control, folder, prefix, seed) for s in servers.all())
        with self._up(started, folder) as deployment:
            yield deployment

    def _check_alive(self) -> None:
        if self._toxiproxy is not None and not self._toxiproxy.alive:
            raise FleetError(f"Toxiproxy ended by itself: {self._last_words()}. Run again; nothing of it is left.")

    def health(self) -> tuple[str, ...]:
        if self._toxiproxy is not None and not self._toxiproxy.alive:
            return (f"Toxiproxy ended in the middle of the run: {self._last_words()}",)
        if self._found is not None and self._found.url is not None:
            try:
                self.control.version()
            except ToxiproxyError as error:
                return (f"Toxiproxy was gone in the middle of the run: {error}",)
        return ()

    def _last_words(self) -> str:
        log = self.folder / "toxiproxy.log"
        lines = log.read_text(errors="replace").splitlines()[-3:] if log.exists() else []
        ended = self._toxiproxy is not None and not self._toxiproxy.alive
        fate = f"exit status {self._toxiproxy.wait()}, " if ended and self._toxiproxy else ""
        return fate + " / ".join(lines or ["no output"])

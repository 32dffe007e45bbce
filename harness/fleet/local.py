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
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from faults import Fault
from harness.client import Client
from harness.fleet import local_client
from harness.fleet.base import Watcher
from harness.fleet.deployment import Deployment
from harness.fleet.errors import FleetError
from harness.fleet.keeper import Keeper, Process
from harness.fleet.local_run import LocalRun
from harness.fleet.local_server import cannot
from harness.fleet.ports import free_port
from harness.history import History
from harness.proxy.control import Control
from harness.proxy.errors import ToxiproxyError
from harness.proxy.find import Found, address, command, find
from harness.scenario import Plan, Scenario, Servers
from harness.workload import Batch
from stormproof.core.ledger import Ledger

#: Modules that every forked process needs; the keeper imports them once.
PRELOAD = ("harness.node.server", "harness.client", "harness.values")
#: Seconds until a Toxiproxy that we start must answer, and one that runs already.
START, ANSWER = 10.0, 2.0


class LocalFleet:
    """Server processes on this machine. Enter it before use; it starts nothing before."""

    name = "local"

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._found: Found | None = None
        self._toxiproxy: Process | None = None
        self.proxy = ""

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
        return cannot(fault, servers)

    @contextlib.contextmanager
    def deploy(self, servers: Servers, *, seed: int = 1) -> Iterator[Deployment]:
        """The servers of one run, up and answering; all stopped at the end, whatever happens."""
        self._check_alive()
        folder = Path(tempfile.mkdtemp(dir=self.folder, prefix="run-"))
        deployment = Deployment(servers, self._keeper, self.control, folder, seed)
        try:
            deployment.start()
            yield deployment
        except ToxiproxyError as error:
            raise FleetError(str(error)) from error
        finally:
            deployment.stop()
            shutil.rmtree(folder, ignore_errors=True)

    def run(self, scenario: Scenario, plan: Plan, *, name: str, watch: Watcher) -> History:
        """Starts servers and client, breaks what the plan says, and tells what happened."""
        empty = History(
            scenario=name, fleet=self.name, proxy=self.proxy, seed=plan.seed, seconds=0.0,
            servers=scenario.servers.all(), operations=(),
            items=scenario.workload.items if isinstance(scenario.workload, Batch) else None,
        )  # fmt: skip
        problems = {reason for p in plan.faults if (reason := self.cannot(p.fault, scenario.servers))}
        problems |= set(_client_problems(scenario, plan))
        if problems:
            return replace(empty, problems=tuple(sorted(problems)))
        with self.deploy(scenario.servers, seed=plan.seed) as deployment:
            return LocalRun(self._keeper, deployment, scenario, plan, name, watch, self.health).carry_out(empty)

    def _check_alive(self) -> None:
        if self._toxiproxy is not None and not self._toxiproxy.alive:
            raise FleetError(f"Toxiproxy ended by itself: {self._last_words()}. Run again; nothing of it is left.")

    def health(self) -> tuple[str, ...]:
        """Reasons why what was seen since the last look cannot be trusted."""
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


def _client_problems(scenario: Scenario, plan: Plan) -> Iterator[str]:
    if isinstance(scenario.client, Client) and scenario.client.LEDGER is not Ledger:
        name = type(scenario.client).__name__
        yield f"{name} has a ledger of its own, which only virtual time can use; run it with --fleet=sim"
    for planned in plan.faults:
        if planned.on == "client" and (reason := local_client.cannot(planned.fault, scenario.workload)):
            yield reason

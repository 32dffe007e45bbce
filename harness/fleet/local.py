"""The default fleet: one operating-system process per server, each behind its own Toxiproxy proxy on loopback.

A `LocalFleet` holds what is kept between runs (the keeper of processes, and Toxiproxy); a `Deployment` is the
servers of one run. What goes wrong with the fleet before a run is a FleetError; what goes wrong later is told
in the history, so that what was recorded so far is kept.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from faults import Fault
from faults.process import ProcessFault
from faults.server import ServerFault
from harness import client as client_program
from harness.fleet.base import Progress, Watcher
from harness.fleet.deployment import Deployment
from harness.fleet.errors import FleetError
from harness.fleet.keeper import Keeper, Process
from harness.fleet.ports import free_port
from harness.history import Carried, History, touching
from harness.nemesis import Nemesis
from harness.proxy.control import Control
from harness.proxy.errors import ToxiproxyError
from harness.proxy.find import Found, command, find
from harness.scenario import Plan, Scenario, Servers
from harness.values import to_json
from harness.workload import Batch

#: Modules that every forked process needs; the keeper imports them once.
PRELOAD = ("harness.node.server", "harness.client", "harness.values")
#: Seconds from the client's start to its first call: time for the fork, its imports and its channel.
LEAD = 0.15
#: Seconds that a client may need beyond its workload and its patience, before it is killed.
OVERTIME = 5.0


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
            self._keeper = self._stack.enter_context(Keeper(PRELOAD))
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
            parts = urlsplit(found.url)
            control = Control(str(parts.hostname), parts.port or 8474)
            control.wait_ready(2.0)
            return control
        port = free_port()
        self._toxiproxy = self._keeper.execute(command(found, port), log=self.folder / "toxiproxy.log")
        control = Control("127.0.0.1", port)
        control.wait_ready(10.0)
        return control

    def cannot(self, fault: Fault, servers: Servers) -> str | None:
        if isinstance(fault, ServerFault) and servers.command is not None:
            return f"{fault} needs a server that serves control.proto, and these are started by a command of your own"
        return None

    @contextlib.contextmanager
    def deploy(self, servers: Servers) -> Iterator[Deployment]:
        """The servers of one run, up and answering; all stopped at the end, whatever happens."""
        self._check_alive()
        folder = Path(tempfile.mkdtemp(dir=self.folder, prefix="run-"))
        deployment = Deployment(servers, self._keeper, self.control, folder)
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
        problems = {reason for p in plan.faults if (reason := self.cannot(p.fault, scenario.servers))}
        problems |= {p for p in _client_faults(scenario, plan)}
        empty = History(
            scenario=name, fleet=self.name, proxy=self.proxy, seed=plan.seed, seconds=0.0,
            servers=scenario.servers.all(), operations=(),
            items=scenario.workload.items if isinstance(scenario.workload, Batch) else None,
        )  # fmt: skip
        if problems:
            return replace(empty, problems=tuple(sorted(problems)))
        with self.deploy(scenario.servers) as deployment:
            return _Run(self, deployment, scenario, plan, name, watch).carry_out(empty)

    def _check_alive(self) -> None:
        if self._toxiproxy is not None and not self._toxiproxy.alive:
            raise FleetError(f"Toxiproxy ended by itself: {self._last_words()}. Run again; nothing of it is left.")

    def health(self) -> tuple[str, ...]:
        """Reasons why what was seen since the last look cannot be trusted."""
        if self._toxiproxy is not None and not self._toxiproxy.alive:
            return (f"Toxiproxy ended in the middle of the run: {self._last_words()}",)
        return ()

    def _last_words(self) -> str:
        log = self.folder / "toxiproxy.log"
        lines = log.read_text(errors="replace").splitlines()[-3:] if log.exists() else []
        return (
            "exit status "
            + str(self._toxiproxy.wait(1.0) if self._toxiproxy else None)
            + ", "
            + " / ".join(lines or ["no output"])
        )


def _client_faults(scenario: Scenario, plan: Plan) -> Iterator[str]:
    for planned in plan.faults:
        if planned.on == "client" and not isinstance(planned.fault, ProcessFault):
            yield f"{planned.fault} cannot act on the client: only Kill, Pause and Restart can"
        if planned.on == "client" and not isinstance(scenario.workload, Batch):
            yield f"{planned.fault} on the client needs a Batch, the only workload that can be taken up again"


@dataclass
class _Run:
    """One run on a deployment."""

    fleet: LocalFleet
    deployment: Deployment
    scenario: Scenario
    plan: Plan
    name: str
    watch: Watcher
    problems: list[str] = field(default_factory=list)

    def carry_out(self, empty: History) -> History:
        self.origin = time.monotonic() + LEAD
        self.journal = self.deployment.folder / "client.jsonl"
        self.tail = _Tail(self.journal)
        self.deployment.adopt_client(self._start_client)
        nemesis = Nemesis(self.plan.faults, self.deployment, self.origin)
        try:
            nemesis.start()
            self._wait(nemesis)
        finally:
            faults = nemesis.stop()
        if not self.problems:
            self.deployment.settle()
        seconds = min(time.monotonic() - self.origin, self.scenario.seconds + self.scenario.patience)
        operations, starts = client_program.read_journal(self.journal) if self.journal.exists() else ((), 0)
        history = replace(
            empty,
            seconds=max([seconds if isinstance(self.scenario.workload, Batch) else self.scenario.seconds,
                         *(o.ended for o in operations if o.ended is not None)]),
            operations=operations,
            executions=self.deployment.executions(self.origin),
            faults=faults,
            carried=self._carried(),
            client_starts=starts,
            problems=(*self.problems, *self.fleet.health()),
        )  # fmt: skip
        return touching(history)

    def _start_client(self, generation: int) -> Process:
        scenario = self.scenario
        return self.fleet._keeper.spawn(
            "harness.client:run",
            {
                "client": to_json(scenario.client),
                "workload": to_json(scenario.workload),
                "arrivals": list(self.plan.arrivals),
                "endpoints": self.deployment.endpoints(),
                "origin": self.origin,
                "seed": self.plan.seed,
                "generation": generation,
                "journal": str(self.journal),
                "store": str(self.deployment.folder / "checkpoints.db"),
                "patience": scenario.patience,
                "path": sys.path,
            },
            log=self.deployment.folder / "client.log",
        )

    def _wait(self, nemesis: Nemesis) -> None:
        """Until the client is through, or something is wrong."""
        limit = self.origin + self.scenario.seconds + self.scenario.patience + OVERTIME
        while not self.deployment.client_over(0.1):
            now = time.monotonic()
            counts = self.tail.read()
            self.watch(Progress(
                name=self.name, at=now - self.origin, seconds=self.scenario.seconds, faults=nemesis.active(), **counts,
            ))  # fmt: skip
            if self.fleet.health():
                return
            if now > limit:
                self.problems.append(f"the client was not through {OVERTIME:g} s after its time, and was killed")
                return
        self.problems.extend(self.deployment.client_problem())

    def _carried(self) -> tuple[Carried, ...]:
        counted: dict[str, tuple[int, int]] = {}
        with contextlib.suppress(ToxiproxyError):
            counted = self.deployment.carried()
        return tuple(
            Carried(server=server.name, received=counted[server.name][0], sent=counted[server.name][1])
            if server.name in counted
            else Carried(server=server.name)
            for server in self.scenario.servers.all()
        )


class _Tail:
    """Counts how the operations in a growing journal ended."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0
        self._counts = {"ok": 0, "fail": 0, "info": 0}

    def read(self) -> dict[str, int]:
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._at)
                new = file.read()
            self._at += len(new)
            for word in self._counts:
                self._counts[word] += new.count(f'"result":"{word}"'.encode())
        return self._counts

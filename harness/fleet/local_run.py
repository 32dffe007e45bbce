"""One run on a local fleet: the client calls, the nemesis breaks, and what all of them tell becomes the history."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness import client as client_program
from harness.fleet.base import Progress, Watcher
from harness.fleet.deployment import Deployment
from harness.fleet.keeper import Keeper, Process
from harness.fleet.keeper_child import TELL_FD
from harness.fleet.local_client import LocalClient
from harness.history import Carried, Execution, History, Operation, touching
from harness.nemesis import Nemesis
from harness.proxy.errors import ToxiproxyError
from harness.scenario import Plan, Scenario
from harness.values import to_json
from harness.workload import Batch

#: Seconds that a client may need until it is ready: its modules may import much.
READY = 30.0
#: Seconds that a client may need beyond its workload and its patience, before it is killed.
OVERTIME = 5.0


@dataclass
class LocalRun:
    """One run on a deployment. `health` gives reasons why nothing that was seen can be trusted."""

    keeper: Keeper
    deployment: Deployment
    scenario: Scenario
    plan: Plan
    name: str
    watch: Watcher
    health: Callable[[], tuple[str, ...]]
    origin: float | None = None
    problems: list[str] = field(default_factory=list)
    was_over: bool = False  # the client, by itself

    def carry_out(self, empty: History) -> History:
        """`empty`, filled with what happened; what went wrong stands in its `problems`."""
        client = self.deployment.start_client(self._start_client)
        told = client.told(READY)
        if told is None:
            return replace(empty, problems=(f"{client.fate()}; it never said that it is ready",))
        self.origin = float(told)
        nemesis = Nemesis(self.plan.faults, self.deployment, self.origin)
        try:
            nemesis.start()
            self._wait(client, nemesis)
        finally:
            faults = nemesis.stop()
        client.close()  # nobody would hear of what it still did
        if not self.problems:
            self.deployment.settle()
        return touching(self._history(replace(empty, faults=faults), self.origin))

    def _start_client(self, generation: int) -> Process:
        return self.keeper.spawn(
            "harness.client:run",
            {
                "client": to_json(self.scenario.client),
                "workload": to_json(self.scenario.workload),
                "arrivals": list(self.plan.arrivals),
                "endpoints": self.deployment.endpoints(),
                "origin": self.origin,
                "ready_fd": TELL_FD,
                "seed": self.plan.seed,
                "generation": generation,
                "journal": str(self._journal),
                "store": str(self.deployment.folder / "checkpoints.db"),
                "patience": self.scenario.patience,
                "path": sys.path,
            },
            log=self.deployment.folder / "client.log",
        )

    @property
    def _journal(self) -> Path:
        return self.deployment.folder / "client.jsonl"

    def _wait(self, client: LocalClient, nemesis: Nemesis) -> None:
        """Until the client is through, or something is wrong."""
        assert self.origin is not None
        tail = _Tail(self._journal)
        seconds = self.scenario.seconds
        while not client.over(0.1):
            at = time.monotonic() - self.origin
            self.watch(
                Progress(name=self.name, at=at, seconds=seconds, faults=nemesis.active(), **tail.read()),
            )
            if self.health() or self.deployment.ended_by_themselves(self.origin):
                return
            if at > seconds + self.scenario.patience + OVERTIME:
                self.problems.append(f"the client was not through {OVERTIME:g} s after its time, and was killed")
                return
        self.problems.extend(client.problems())
        self.was_over = True

    def _history(self, history: History, origin: float) -> History:
        operations, starts = self._told_by_client()
        executions, carried = self._told_by_servers(origin), self._carried()
        # A batch is over when it is done.
        least = 0.0 if isinstance(self.scenario.workload, Batch) else self.scenario.seconds
        return replace(
            history,
            seconds=max([least, *(operation.ended for operation in operations if operation.ended is not None)]),
            operations=operations,
            executions=executions,
            carried=carried,
            client_starts=starts,
            problems=(*self.health(), *self.deployment.ended_by_themselves(origin), *self.problems),
        )

    def _told_by_client(self) -> tuple[tuple[Operation, ...], int]:
        try:
            operations, starts = client_program.read_journal(self._journal)
            made, planned = len(operations), len(self.plan.arrivals)
            if self.was_over and made < planned:
                self.problems.append(f"the client made {made} of {planned} planned calls")
            return operations, starts
        except ValueError as error:
            self.problems.append(f"what the client did is lost: {error}")
            return (), 0

    def _told_by_servers(self, origin: float) -> tuple[Execution, ...]:
        try:
            return self.deployment.executions(origin)
        except ValueError as error:
            self.problems.append(f"what the servers did is lost: {error}")
            return ()

    def _carried(self) -> tuple[Carried, ...]:
        counted: dict[str, tuple[int, int]] = {}
        try:
            counted = self.deployment.carried()
        except ToxiproxyError as error:
            self.problems.append(f"what the proxies carried is lost: {error}")
        none = (None, None)
        return tuple(
            Carried(server=server.name, received=received, sent=sent)
            for server in self.scenario.servers.all()
            for received, sent in [counted.get(server.name, none)]
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

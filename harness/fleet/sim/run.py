"""One run: builds servers, client and nemesis, lets time pass until the client is through, and tells what they noted."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from harness.fleet.base import Progress, Watcher
from harness.fleet.sim.books import Books
from harness.fleet.sim.engine import Engine
from harness.fleet.sim.nemesis import Nemesis, Victim
from harness.fleet.sim.server import Server
from harness.fleet.sim.workload import Client
from harness.history import History, touching
from harness.node.server import GRACE
from harness.scenario import Plan, Scenario
from harness.workload import Batch

#: Seconds that a client may need beyond its workload and its patience: as in a local fleet.
OVERTIME = 5.0
#: Seconds between two looks at how far it is, and how many there are of a run at most.
TICK, TICKS = 0.1, 100
#: Seconds between two looks at how much memory its notes take.
RELIEF = 1.0


class Run:
    """One run of `scenario`, as `plan` says."""

    def __init__(self, scenario: Scenario, plan: Plan, name: str, watch: Watcher) -> None:
        self._scenario = scenario
        self._name = name
        self._watch = watch
        self._engine = engine = Engine()
        known = scenario.servers.all()
        self._servers = {server.name: Server(engine, server.name, scenario.servers, plan.seed) for server in known}
        self._client = Client(engine, scenario, plan, known, self._servers, engine.stop)
        victims: dict[str, Victim] = {**self._servers, "client": self._client}
        self._nemesis = Nemesis(engine, plan.faults, victims)
        self._books = Books(self._client.operations, self._servers.values())
        self._seen, self._counts = 0, {"ok": 0, "fail": 0, "info": 0}

    def carry_out(self, empty: History) -> History:
        """`empty`, filled with what happened."""
        with _without_collector():
            return self._carried_out(empty)

    def _carried_out(self, empty: History) -> History:
        engine, scenario = self._engine, self._scenario
        limit = scenario.seconds + scenario.patience + OVERTIME
        self._nemesis.start()
        self._tick(None)
        self._relieve(None)
        engine.at(0.0, self._client.begin)
        engine.run(limit)
        problems = []
        if not self._client.through:
            problems.append(f"the client was not through {OVERTIME:g} s after its time, and was killed")
        faults = self._nemesis.stop()
        self._client.end()
        for server in self._servers.values():
            server.settle()
        engine.run(engine.now + GRACE + 1)
        operations, executions = self._books.close()
        # A batch is over when it is done.
        least = 0.0 if isinstance(scenario.workload, Batch) else scenario.seconds
        return touching(
            replace(
                empty,
                seconds=max(least, self._books.last),
                operations=operations,
                executions=executions,
                faults=faults,
                client_starts=self._client.starts,
                problems=tuple(problems),
            )
        )

    def _relieve(self, _: None) -> None:
        """A run that is too long for memory puts what is over on disk."""
        self._count()
        self._seen -= self._books.relieve()
        self._engine.at(self._engine.now + RELIEF, self._relieve)

    def _count(self) -> None:
        calls = self._client.operations
        while self._seen < len(calls) and calls[self._seen].ended is not None:
            self._counts[calls[self._seen].result] += 1
            self._seen += 1

    def _tick(self, _: None) -> None:
        """Tells whoever watches how far it is."""
        self._count()
        at = self._engine.now
        self._watch(
            Progress(
                name=self._name, at=at, seconds=self._scenario.seconds, faults=self._nemesis.active(), **self._counts
            )
        )
        self._engine.at(at + max(TICK, self._scenario.seconds / TICKS), self._tick)


@contextmanager
def _without_collector() -> Iterator[None]:
    """Inside, nobody looks for garbage: there is none, since what a run notes is kept to its end, or
    let go without a circle (books.py). That saves a fifth."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()

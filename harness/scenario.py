"""A bad day, as a value: servers, a client, a workload, faults, and the guarantees that should hold all the same.

A scenario says nothing about where it runs. `Plan.draw` turns it and a seed into everything that chance decides
(arrivals, targets), so that two fleets, or two runs, meet the same day.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass

from faults import Fault, Injection
from faults.base import bounded, check
from harness.client import AnyClient
from harness.guarantees.base import Guarantee
from harness.history import Server
from harness.workload import Batch, Closed, Poisson, Steady, Workload


@dataclass(frozen=True, slots=True)
class Servers:
    """`count` Hello servers, named server-0, server-1 and so on.

    service_time  seconds that each call works; workers: calls that one server works on at once.
    weights, priorities  one for each server, as the client is told them; None: all equal.
    command  argv of somebody else's server, in which {port} stands for the port it must listen on; None: ours.
    """

    count: int
    _: KW_ONLY
    service_time: float = 0.002
    workers: int = 16
    weights: tuple[float, ...] | None = None
    priorities: tuple[int, ...] | None = None
    command: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        problems = bounded("count", self.count, 1, 10_000) + bounded("service_time", self.service_time, 0, 3600)
        problems += bounded("workers", self.workers, 1, 10_000)
        for name in ("weights", "priorities"):
            values = getattr(self, name)
            if values is not None and len(values) != self.count:
                problems.append(f"{name} must hold one value for each of the {self.count} servers; got {len(values)}")
        if self.command is not None and not any("{port}" in part for part in self.command):
            problems.append(f"command must say where the port goes, with {{port}}; got {' '.join(self.command)!r}")
        check(self, problems)

    def all(self) -> tuple[Server, ...]:
        """The servers by name, with their weights and priorities."""
        return tuple(
            Server(
                name=f"server-{index}",
                weight=self.weights[index] if self.weights else 1.0,
                priority=self.priorities[index] if self.priorities else 0,
            )
            for index in range(self.count)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One bad day. `patience` is how long, in seconds, calls may still take after the workload's last one was due."""

    servers: Servers
    client: AnyClient
    workload: Workload
    faults: Sequence[Injection] = ()
    guarantees: Sequence[Guarantee] = ()
    patience: float = 5.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "faults", tuple(self.faults))
        object.__setattr__(self, "guarantees", tuple(self.guarantees))
        problems = bounded("patience", self.patience, 0, 3600, way_out="seconds")
        if not isinstance(self.servers, Servers):
            problems.append(f"servers must be Servers(n); got {self.servers!r}")
        if not callable(getattr(self.client, "channel", None)):
            problems.append(
                f"client must be a Client(...), a GrpcClient(...) or have their methods; got {self.client!r}"
            )
        if not isinstance(self.workload, Poisson | Steady | Closed | Batch):
            problems.append(f"workload must be Poisson, Steady, Closed or Batch; got {self.workload!r}")
        problems += self._faults()
        for guarantee in self.guarantees:
            if not isinstance(guarantee, Guarantee) or isinstance(guarantee, type):
                problems.append(f"guarantees must be guarantees such as Available(0.99); got {guarantee!r}")
        if not self.guarantees:
            problems.append("guarantees must hold at least one: a day without a promise proves nothing")
        check(self, problems)

    def _faults(self) -> list[str]:
        problems = []
        for index, injection in enumerate(self.faults):
            if not isinstance(injection, Injection):
                problems.append(f"faults[{index}] must be made by at, during or every_so_often; got {injection!r}")
            elif isinstance(self.workload, Poisson | Steady | Closed) and injection.start >= self.workload.seconds:
                problems.append(
                    f"faults[{index}] starts at {injection.start:g} s, when the workload of {self.workload.seconds:g} s is over"
                )
        return problems

    @property
    def seconds(self) -> float:
        """Length of the workload; of a batch the most it may take."""
        return self.workload.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One fault on one server (or the client), from `start` until `end` (None: until the run ends)."""

    fault: Fault
    on: str
    start: float
    end: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that chance decides about one run, drawn from its seed before it starts."""

    seed: int
    arrivals: tuple[float, ...]
    faults: tuple[Planned, ...]

    @staticmethod
    def draw(scenario: Scenario, seed: int) -> Plan:
        """Raises ValueError for a target that the fleet does not have."""
        names = [server.name for server in scenario.servers.all()]
        workload = scenario.workload
        arrivals: tuple[float, ...] = ()
        if isinstance(workload, Poisson | Steady):
            arrivals = tuple(workload.arrivals(random.Random(f"{seed} arrivals")))
        planned = []
        for index, injection in enumerate(scenario.faults):
            chosen = injection.on.choose(names, random.Random(f"{seed} target {index}"))
            planned += [
                Planned(fault=injection.fault, on=name, start=start, end=end)
                for start, end in injection.spans()
                for name in chosen
            ]
        return Plan(seed=seed, arrivals=arrivals, faults=tuple(sorted(planned, key=lambda p: p.start)))

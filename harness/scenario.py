"""A bad day, as a value: servers, a client, a workload, faults, and the guarantees that should hold all the same.

A scenario says nothing about where it runs. `Plan.draw` turns it and a seed into everything that chance decides
(arrivals, targets), so that two fleets, or two runs, meet the same day.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass

from faults import Fault, Injection
from faults.base import bounded, check, whole
from harness.client import AnyClient, Client
from harness.guarantees.base import Guarantee
from harness.history import Server
from harness.service_time import ServiceTime, wrong_with
from harness.workload import Poisson, Steady, Streams, Workload


@dataclass(frozen=True, slots=True)
class Servers:
    """`count` Hello servers, named server-0, server-1 and so on.

    service_time  seconds that each call works, or the distribution that they are drawn from: Normal(0.01, deviation=0.002),
                  LogNormal, Pareto, Trace.
    workers       calls that one server works on at once.
    queue         calls that may wait for a worker; more are refused with RESOURCE_EXHAUSTED. None: no bound.
    cold_start    seconds that a server needs from the start of its process until it listens, beside the time it takes anyway.
    weights, priorities  one for each server, as the client is told them; None: all equal.
    command  argv of somebody else's server, in which {port} stands for the port it must listen on; None: ours.
    compose, service, port  a compose file, and the service in it that serves at this port (--fleet=docker); None: ours.

    Raises ValueError for what no `Endpoint` can have: a negative weight, a priority that is not whole.
    """

    count: int = 1
    _: KW_ONLY
    service_time: float | ServiceTime = 0.002
    workers: int = 16
    queue: int | None = None
    cold_start: float = 0.0
    weights: tuple[float, ...] | None = None
    priorities: tuple[int, ...] | None = None
    command: tuple[str, ...] | None = None
    compose: str | None = None
    service: str | None = None
    port: int | None = None

    def __post_init__(self) -> None:
        problems = whole("count", self.count, 1, 10_000, way_out="servers")
        problems += wrong_with(self.service_time)
        problems += whole("workers", self.workers, 1, 10_000, way_out="calls at once")
        if self.queue is not None:
            problems += whole("queue", self.queue, 0, 10_000_000, way_out="calls that wait, or None for no bound")
        problems += bounded("cold_start", self.cold_start, 0, 10, way_out="seconds")
        problems += [*self._each("weights"), *self._each("priorities"), *self._command(), *self._compose()]
        check(self, problems)

    def _each(self, name: str) -> Iterator[str]:
        """What is wrong with the values, of which each server has one."""
        values = getattr(self, name)
        if values is None:
            return
        if not isinstance(values, tuple | list):
            yield f"{name} must be a tuple of one number for each server, or None for all equal; got {values!r}"
            return
        object.__setattr__(self, name, tuple(values))
        if len(values) != self.count:
            yield f"{name} must hold one value for each of the {self.count} servers; got {len(values)}"
        for index, value in enumerate(values):
            if name == "weights":
                yield from bounded(f"weights[{index}]", value, 0, 1e12, way_out="share relative to the other servers")
            else:
                yield from whole(f"priorities[{index}]", value, 0, 1000, way_out="tier, 0 serves first")

    def _command(self) -> Iterator[str]:
        if self.command is None:
            return
        if not isinstance(self.command, tuple | list) or not all(isinstance(part, str) for part in self.command):
            yield f'command must be a tuple of texts, as in ("./my-server", "--port", "{{port}}"); got {self.command!r}'
            return
        object.__setattr__(self, "command", tuple(self.command))
        if not any("{port}" in part for part in self.command):
            yield f"command must say where the port goes, with {{port}}; got {' '.join(self.command)!r}"

    def _compose(self) -> Iterator[str]:
        given = {"compose": self.compose, "service": self.service, "port": self.port}
        if all(value is None for value in given.values()):
            return
        if missing := [name for name, value in given.items() if value is None]:
            yield f"compose, service and port must be given together; there is no {' and no '.join(missing)}"
        if self.command is not None:
            yield "command must be None for servers of a compose file: the file says what they run"
        if self.port is not None:
            yield from whole("port", self.port, 1, 65535, way_out="where the service listens in its container")
        for name in ("compose", "service"):
            if given[name] is not None and not (isinstance(given[name], str) and given[name]):
                yield f"{name} must be a text that is not empty; got {given[name]!r}"

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
        problems = bounded("patience", self.patience, 0, 3600, way_out="seconds")
        if not isinstance(self.servers, Servers):
            problems.append(f"servers must be Servers(n); got {self.servers!r}")
        if isinstance(self.client, type) or not callable(getattr(self.client, "channel", None)):
            problems.append(
                f"client must be a Client(...), a GrpcClient(...) or have their methods; got {self.client!r}"
            )
        if not isinstance(self.workload, Workload):
            problems.append(f"workload must be Poisson, Steady, Closed, Batch or Streams; got {self.workload!r}")
        check(self, problems + self._faults() + self._guarantees() + self._durable())

    def _listed(self, name: str, example: str) -> list[str]:
        values = getattr(self, name)
        if isinstance(values, str | Mapping) or not isinstance(values, Iterable):
            return [f"{name} must be a list, such as [{example}]; got {values!r}"]
        object.__setattr__(self, name, tuple(values))
        return []

    def _durable(self) -> list[str]:
        """A stream that outlives its client is asked for from where it was, so there must be a way to ask so."""
        every = getattr(self.client, "checkpoint_every", None)
        if every is None or not isinstance(self.workload, Streams) or not isinstance(self.client, Client):
            return []
        checkpoint = self.client.policy.checkpoint
        if checkpoint is not None and checkpoint.cursor is not None:
            return []
        return [
            f"client must say how a stream goes on, to have checkpoint_every={every} of Streams: "
            f"Policy(checkpoint=GREETINGS); got checkpoint={checkpoint!r}"
        ]

    def _guarantees(self) -> list[str]:
        if problems := self._listed("guarantees", "Available(0.99)"):
            return problems
        if not self.guarantees:
            return ["guarantees must hold at least one: a day without a promise proves nothing"]
        return [
            f"guarantees must be guarantees such as Available(0.99); got {guarantee!r}"
            for guarantee in self.guarantees
            if not isinstance(guarantee, Guarantee) or isinstance(guarantee, type)
        ]

    def _faults(self) -> list[str]:
        if problems := self._listed("faults", "at(1.0, Kill())"):
            return problems
        for index, injection in enumerate(self.faults):
            if not isinstance(injection, Injection):
                way_out = "; write *rolling(...), which gives a list" if isinstance(injection, list | tuple) else ""
                problems.append(
                    f"faults[{index}] must be made by at, during or every_so_often; got {injection!r:.200}{way_out}"
                )
                continue
            if isinstance(self.workload, Workload) and injection.start >= self.workload.seconds:
                problems.append(
                    f"faults[{index}] starts at {injection.start:g} s, when the workload of {self.workload.seconds:g} s is over"
                )
            if isinstance(self.servers, Servers):
                problems += [f"faults[{index}]: {problem}" for problem in _unmet(injection, self.servers)]
        return problems

    @property
    def seconds(self) -> float:
        """Length of the workload; of a batch the most it may take."""
        return self.workload.seconds


def _unmet(injection: Injection, servers: Servers) -> list[str]:
    """Why these servers cannot be what it is to hit. Whatever the draw, a target finds enough servers or does not."""
    try:
        injection.on.choose([server.name for server in servers.all()], random.Random(0))
    except ValueError as error:
        return [str(error)]
    return []


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
        """The plan of this seed; the same one each time."""
        names = [server.name for server in scenario.servers.all()]
        workload = scenario.workload
        arrivals: tuple[float, ...] = ()
        if isinstance(workload, Poisson | Steady | Streams):
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

"""Load that grows past what the servers were allotted, in virtual time: the testbed of Prequal (NSDI 2024), scaled down.

40 servers are allotted 2 cores each, and share them among all calls that they have; a call uses one core at most. On a
fifth of the machines an antagonist leaves only 1.6 cores, on the others 5.2 are to be had; every 2.5 s it moves from one
machine to another. A call costs 80 ms of a core, standard deviation 80 (normal, over 0), and fails after 5 s. The load grows
in nine steps of 20 s from 0.75 to 1.74 of all that is allotted. Each balancer has a pass of its own, with the same seed.

How many clients share the calls matters: each sees its own calls only, unless it asks the servers, as Prequal does.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any, Protocol

from benchmarks.others.prequal import Prequal
from benchmarks.others.weighted_round_robin import WeightedRoundRobin
from stormproof import Adaptive, Balancer, Code, Endpoint, LeastRequest, Outcome, PeakEwma, RetryBudget
from stormproof.core.outcome import OK
from stormproof.core.pool import Flight, Pool

STEPS = tuple(0.75 * (10 / 9) ** step for step in range(9))
COST, DEADLINE = 0.08, 5.0
ALLOTTED, CONTENDED, FREE = 2.0, 1.6, 5.2
LATE = Outcome(Code.DEADLINE_EXCEEDED)


class Server:
    """Shares its cores evenly among its calls. `served` is the work that each call in it has had since the beginning."""

    __slots__ = ("busy", "calls", "cores", "done", "latencies", "now", "served", "speed", "turn", "version")

    def __init__(self) -> None:
        self.cores = FREE
        self.calls: list[tuple[float, int]] = []  # when it has been served so much, which call ends: a heap
        self.turn: set[int] = set()  # the calls that it has
        self.served = self.now = self.speed = self.busy = 0.0
        self.version = self.done = 0
        self.latencies: dict[int, deque[float]] = {}  # by the calls that were there when it came

    def to(self, now: float) -> None:
        """Time passes."""
        self.served += (now - self.now) * self.speed
        self.busy += (now - self.now) * self.speed * len(self.turn)
        self.now = now

    def changed(self) -> float:
        """The speed is another one; seconds until the next call ends."""
        self.version += 1
        while self.calls and self.calls[0][1] not in self.turn:
            heapq.heappop(self.calls)
        if not self.calls:
            self.speed = 0.0
            return float("inf")
        self.speed = min(1.0, self.cores / len(self.turn))
        return max(0.0, self.calls[0][0] - self.served) / self.speed

    def expected(self) -> float:
        """Prequal, section 4: the median of recent latencies at as many calls as now, or nearly as many."""
        if not self.latencies:
            return 0.0
        here = len(self.turn)
        return median(self.latencies[min(self.latencies, key=lambda rif: abs(rif - here))])


class Client(Protocol):
    """One of the callers."""

    def pick(self, now: float) -> tuple[int, Any]: ...
    def ended(self, token: Any, ok: bool, now: float) -> None: ...


class Pooled:
    """One of ours: a pool with a balancer, and neither retries nor ejection, so that a figure is the balancer's."""

    def __init__(self, balancer: Balancer, servers: int, seed: str) -> None:
        endpoints = [Endpoint(f"h{index}:1") for index in range(servers)]
        self._pool = Pool(endpoints, balancer=balancer, failover=None, budget=RetryBudget(), rng=random.Random(seed))

    def pick(self, now: float) -> tuple[int, Flight]:
        flight = self._pool.begin(now)
        return flight.member.index, flight

    def ended(self, token: Flight, ok: bool, now: float) -> None:
        self._pool.finished(token, OK if ok else LATE, now)


class Told:
    """One of theirs, that is told of loads by the servers."""

    def __init__(self, picker: Any) -> None:
        self._pick = picker.pick

    def pick(self, now: float) -> tuple[int, None]:
        return self._pick(now), None

    def ended(self, token: None, ok: bool, now: float) -> None: ...


Make = Callable[[list[Server], str], Client]


def reports(servers: list[Server]) -> Callable[[int], tuple[float, float]]:
    """Calls a second and utilization of the allotment, since the last time that somebody looked at this server."""
    last = [(0.0, 0, 0.0)] * len(servers)
    said = [(0.0, 0.0)] * len(servers)

    def report(index: int) -> tuple[float, float]:
        server, (at, done, busy) = servers[index], last[index]
        if server.now > at + 1.0:
            span = server.now - at
            said[index] = (server.done - done) / span, (server.busy - busy) / span / ALLOTTED
            last[index] = server.now, server.done, server.busy
        return said[index]

    return report


SIDES: dict[str, Make] = {
    "PeakEwma": lambda servers, seed: Pooled(PeakEwma(), len(servers), seed),
    "Adaptive": lambda servers, seed: Pooled(Adaptive(), len(servers), seed),
    "LeastRequest": lambda servers, seed: Pooled(LeastRequest(), len(servers), seed),
    "Prequal": lambda servers, seed: Told(
        Prequal(
            len(servers), lambda index: (len(servers[index].turn), servers[index].expected()), random.Random(seed)
        )
    ),
    "weighted round robin": lambda servers, seed: Told(
        WeightedRoundRobin(len(servers), reports(servers), random.Random(seed))
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One load: part of the calls that failed, and seconds of those that went well."""

    load: float
    failed: float
    p50: float
    p999: float


def ramp(make: Make, *, servers: int = 40, clients: int = 20, seconds: float = 20.0, seed: int = 1) -> list[Step]:
    """All steps, of so many seconds each, with one balancer."""
    rng = random.Random(seed)
    fleet = [Server() for _ in range(servers)]
    callers = [make(fleet, f"{seed} {client}") for client in range(clients)]
    contended = deque(rng.sample(range(servers), servers // 5))
    for index in contended:
        fleet[index].cores = CONTENDED
    mean = sum(max(0.001, rng.gauss(COST, COST)) for _ in range(100_000)) / 100_000
    events: list[tuple[float, int, int]] = []  # when, which server, and its version then
    deadlines: deque[tuple[float, int]] = deque()
    calls: dict[int, tuple[float, int, int, Client, Any, int]] = {}
    ends: list[list[float]] = [[] for _ in STEPS]  # seconds, by the step in which it began; infinite: failed
    moves_at, now, number = 2.5, 0.0, 0

    def plan(index: int, at: float) -> None:
        left = fleet[index].changed()
        if left < float("inf"):
            heapq.heappush(events, (at + left, index, fleet[index].version))

    def end(call: int, at: float, ok: bool) -> None:
        began, index, step, client, token, rif = calls.pop(call)
        server = fleet[index]
        server.turn.discard(call)
        server.done += ok
        if ok:
            server.latencies.setdefault(rif, deque(maxlen=16)).append(at - began)
        ends[step].append(at - began if ok else float("inf"))
        client.ended(token, ok, at)

    while True:
        load = STEPS[min(len(STEPS) - 1, int(now / seconds))]
        now += rng.expovariate(load * servers * ALLOTTED / mean)
        cost, caller = max(0.001, rng.gauss(COST, COST)), callers[int(rng.random() * clients)]
        while True:
            at, index, version = events[0] if events else (float("inf"), 0, 0)
            late = deadlines[0][0] if deadlines else float("inf")
            first = min(at, late, moves_at)
            if first > now:
                break
            if first == moves_at:
                moves_at += 2.5
                well = rng.choice([one for one in range(servers) if one not in contended])
                for which, cores in ((contended.popleft(), FREE), (well, CONTENDED)):
                    fleet[which].to(first)
                    fleet[which].cores = cores
                    plan(which, first)
                contended.append(well)
            elif first == late:
                call = deadlines.popleft()[1]
                if call in calls:
                    index = calls[call][1]
                    fleet[index].to(first)
                    end(call, first, ok=False)
                    plan(index, first)
            else:
                heapq.heappop(events)
                if version == fleet[index].version:
                    server = fleet[index]
                    server.to(first)
                    server.served = max(server.served, server.calls[0][0])
                    end(heapq.heappop(server.calls)[1], first, ok=True)
                    plan(index, first)
        if now >= seconds * len(STEPS):
            break
        number += 1
        index, token = caller.pick(now)
        server = fleet[index]
        server.to(now)
        calls[number] = now, index, int(now / seconds), caller, token, len(server.turn)
        server.turn.add(number)
        heapq.heappush(server.calls, (server.served + cost, number))
        deadlines.append((now + DEADLINE, number))
        plan(index, now)
    return [_step(load, some) for load, some in zip(STEPS, ends, strict=True)]


def _step(load: float, ends: list[float]) -> Step:
    well = sorted(took for took in ends if took < float("inf"))
    at = lambda part: well[min(len(well) - 1, int(part * len(well)))]  # noqa: E731
    return Step(load=load, failed=1.0 - len(well) / len(ends), p50=at(0.5), p999=at(0.999))


def main() -> None:
    for clients in (1, 4, 20):
        print(f"{f'{clients} clients: p99.9 ms':<24}" + "".join(f"{load:>16.2f}" for load in STEPS))
        for name, make in SIDES.items():
            steps = ramp(make, clients=clients)
            print(f"{name:<24}" + "".join(f"{s.p999 * 1000:>7.0f} ({s.failed:.2%})" for s in steps), flush=True)


if __name__ == "__main__":
    main()

"""Balancers side by side in virtual time: the same arrivals and the same service draws for each, by seed.

`python benchmarks/balancers_sim.py [--seeds=20] [--only=a,c85]`; all of it takes some ten minutes of one core. The real
`Pool` of the library, without failover and without retries, so that a figure is the balancer's alone, over servers that
are a formula: `workers` calls at a time, the others wait in order, and each takes its draw times how slow the server is
when it starts. Figures are means over the seeds; the last column compares with PeakEwma seed by seed.
"""

from __future__ import annotations

import argparse
import heapq
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from stormproof import Adaptive, Balancer, Code, Endpoint, LeastRequest, Outcome, PeakEwma, RetryBudget, RoundRobin
from stormproof.core.outcome import OK
from stormproof.core.pool import Flight, Pool

FAILED = Outcome(Code.UNAVAILABLE)
#: A caller gives up after this long: an answer that comes later is no success.
PATIENCE = 1.0

#: How many times slower than its draw server `index` is at `now`; negative: it fails after that many seconds.
Slowness = Callable[[int, float], float]


class Answer(NamedTuple):
    """One call: when it began, on which server, how long it took, and whether it went well."""

    began: float
    server: int
    took: float
    ok: bool


@dataclass(frozen=True, kw_only=True)
class Day:
    """One scenario. `slowness` is drawn anew for each seed; `healed` is when server 0 is well again, if it was ill."""

    name: str
    about: str
    servers: int
    rate: float
    seconds: float
    draw: Callable[[random.Random], float]
    slowness: Callable[[random.Random], Slowness] = lambda _: lambda index, now: 1.0  # noqa: ARG005
    workers: int | None = 4
    healed: float | None = None
    clients: int = 1  # each with a balancer of its own, and an equal part of the calls


def slow_once(factor: float, begin: float, end: float) -> Callable[[random.Random], Slowness]:
    return lambda _: lambda index, now: factor if index == 0 and begin <= now < end else 1.0


def unequal(_: random.Random) -> Slowness:
    return lambda index, now: 3.0 if index % 2 else 1.0  # noqa: ARG005


def antagonists(rng: random.Random) -> Slowness:
    """Each server by itself: well for 4 s on average, then 3 times slower for 2 s on average."""
    turns: list[list[float]] = []
    for _ in range(20):
        times, now, ill = [], 0.0, False
        while now < 100:
            now += rng.expovariate(1 / (2.0 if ill else 4.0))
            times.append(now)
            ill = not ill
        turns.append(times)
    places = [0] * 20

    def slowness(index: int, now: float) -> float:
        times = turns[index]
        place = places[index]
        while place > 0 and times[place - 1] > now:
            place -= 1
        while times[place] <= now:
            place += 1
        places[index] = place
        return 3.0 if place % 2 else 1.0

    return slowness


def days() -> list[Day]:
    body = lambda rng: max(0.001, rng.gauss(0.167, 0.005))  # noqa: E731
    busy = lambda rng: rng.gammavariate(4, 0.01)  # noqa: E731 - 40 ms on average, sd 20
    tail = lambda rng: min(2.0, 0.01 * rng.paretovariate(1.3))  # noqa: E731 - 10 ms at least, 37 ms on average
    # 10 servers of 4 workers at 40 ms serve 1000 calls/s; with half of them three times slower, 667.
    return [
        Day(name="a", about="1 of 11 turns slow, no queue", servers=11, rate=1000, seconds=60, draw=body,
            slowness=slow_once(2.0 / 0.167, 15, 45), workers=None, healed=45),
        Day(name="b", about="the same with queues, 60 %", servers=11, rate=660, seconds=60, draw=busy,
            slowness=slow_once(12.0, 15, 45), healed=45),
        Day(name="c10", about="half 3x slower, 10 %", servers=10, rate=67, seconds=30, draw=busy, slowness=unequal),
        Day(name="c70", about="half 3x slower, 70 %", servers=10, rate=467, seconds=20, draw=busy, slowness=unequal),
        Day(name="c85", about="half 3x slower, 85 %", servers=10, rate=567, seconds=20, draw=busy, slowness=unequal),
        Day(name="c85m", about="the same, 20 clients", servers=10, rate=567, seconds=20, draw=busy,
            slowness=unequal, clients=20),
        Day(name="d", about="moving antagonists, 70 %", servers=10, rate=467, seconds=30, draw=busy,
            slowness=antagonists),
        Day(name="dm", about="the same, 20 clients", servers=10, rate=467, seconds=30, draw=busy,
            slowness=antagonists, clients=20),
        Day(name="e", about="Pareto 1.3, nobody bad, 60 %", servers=10, rate=650, seconds=20, draw=tail),
        Day(name="f", about="1 fails in 1 ms", servers=10, rate=500, seconds=20, draw=busy,
            slowness=lambda _: lambda index, now: -0.001 if index == 0 and now >= 5 else 1.0),
        Day(name="g", about="all alike, 90 %", servers=10, rate=900, seconds=15, draw=busy),
        Day(name="gm", about="the same, 20 clients", servers=10, rate=900, seconds=15, draw=busy, clients=20),
        Day(name="w", about="100 endpoints, 10 are 12x slower, 1 call/s each", servers=100, rate=100, seconds=60,
            draw=busy, slowness=lambda _: lambda index, now: 12.0 if index % 10 == 0 else 1.0),  # noqa: ARG005
    ]  # fmt: skip


def play(day: Day, balancer: Balancer, seed: int) -> list[Answer]:
    """One day with one balancer. Arrivals, draws and slowness depend on the seed alone."""
    rng = random.Random(seed)
    slowness = day.slowness(rng)
    endpoints = [Endpoint(f"h{index}:1") for index in range(day.servers)]
    budget = RetryBudget()
    pools = [
        Pool(endpoints, balancer=balancer, failover=None, budget=budget, rng=random.Random(f"{seed} {client}"))
        for client in range(day.clients)
    ]
    free: list[list[float]] = [[0.0] * (day.workers or 0) for _ in endpoints]  # when each worker is free: heaps
    ends: list[tuple[float, int, Pool, Flight, Outcome]] = []
    answers: list[Answer] = []
    now, call = 0.0, 0
    while True:
        now += rng.expovariate(day.rate)
        if now >= day.seconds:
            return answers
        draw = day.draw(rng)
        while ends and ends[0][0] <= now:
            at, _, pool, flight, outcome = heapq.heappop(ends)
            pool.finished(flight, outcome, at)
        pool = pools[int(rng.random() * day.clients)]
        flight = pool.begin(now)
        index = flight.member.index
        start = max(now, free[index][0]) if day.workers else now
        slow = slowness(index, start)
        end, outcome = (now - slow, FAILED) if slow < 0 else (start + draw * slow, OK)
        if day.workers and slow >= 0:
            heapq.heapreplace(free[index], end)
        call += 1
        heapq.heappush(ends, (end, call, pool, flight, outcome))
        answers.append(Answer(now, index, end - now, outcome is OK))


class Figures(NamedTuple):
    """What one day came to: percentages, and milliseconds of the calls that went well."""

    success: float
    p50: float
    p99: float
    p999: float
    healed: float  # percent of the calls after it that the healed server got; 0 where nobody was ill


def figures(day: Day, answers: Sequence[Answer]) -> Figures:
    took = sorted(a.took * 1000 for a in answers if a.ok)
    at = lambda part: took[min(len(took) - 1, int(part * len(took)))]  # noqa: E731
    success = 100 * sum(a.ok and a.took <= PATIENCE for a in answers) / len(answers)
    late = [a for a in answers if day.healed is not None and a.began >= day.healed]
    return Figures(success, at(0.5), at(0.99), at(0.999), 100 * sum(a.server == 0 for a in late) / max(1, len(late)))


BALANCERS: dict[str, Balancer] = {
    "RoundRobin": RoundRobin(), "LeastRequest": LeastRequest(), "PeakEwma": PeakEwma(), "Adaptive": Adaptive(),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    print(
        f"{'':<26} {'success %':>10} {'p50 ms':>8} {'p99 ms':>8} {'p99.9 ms':>9} {'healed %':>9}   p99 less PeakEwma's"
    )
    for day in days():
        if options.only and day.name not in options.only.split(","):
            continue
        print(f"({day.name}) {day.about}")
        seeds = range(options.seeds)
        rows = {name: [figures(day, play(day, one, seed)) for seed in seeds] for name, one in BALANCERS.items()}
        for name, each in rows.items():
            gaps = [row.p99 - base.p99 for row, base in zip(each, rows["PeakEwma"], strict=True)]
            versus = f"{statistics.fmean(gaps):+8.1f} ms, lower on {sum(g < 0 for g in gaps)} of {len(gaps)}"
            mean = Figures(*map(statistics.fmean, zip(*each, strict=True)))
            print(
                f"    {name:<22} {mean.success:10.3f} {mean.p50:8.1f} {mean.p99:8.1f} {mean.p999:9.1f}"
                f" {mean.healed:9.2f}   {versus if name != 'PeakEwma' else ''}",
                flush=True,
            )


if __name__ == "__main__":
    main()

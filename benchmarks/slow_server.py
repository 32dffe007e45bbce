"""One of eleven servers turns slow and is healed again ("Beyond Round Robin", Buoyant 2016), in virtual time.

11 servers take N(167, 5) ms and never queue; 1000 calls a second (Poisson) for 60 s; server 0 answers in 2.0 s to calls that
start in [15, 45). A success is an answer within 1 s. What matters as well is what part of the calls the healed server has in
[45, 60): a balancer that never asks again fails little, too. With `workers`, a server works on so many calls at a time and
the others wait in order. Neither retries nor ejection: a figure is the balancer's alone.

Nobody can know of a slow server before 167 ms have passed, in which it gets 15 calls; and each question whether it is well
again costs one. Hence a bound for whoever asks every I seconds: 16.6 + 30 / I calls are lost of 60,000, and the healed server
is found after I / 2 s on average over all lengths of an illness. What is found in one length is luck in part: `lengths` tells.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from benchmarks.others.least_outstanding import LeastOutstanding
from benchmarks.others.peak_ewma import FinaglePeakEwma
from benchmarks.virtual import Calls
from stormproof import (
    Adaptive,
    Balancer,
    Endpoint,
    Hedge,
    LeastRequest,
    Outcome,
    PeakEwma,
    Policy,
    RetryBudget,
    RoundRobin,
)
from stormproof.core.outcome import OK
from stormproof.core.pool import Pool

OURS: dict[str, Balancer] = {"PeakEwma": PeakEwma(), "Adaptive": Adaptive()}
OTHERS: dict[str, Balancer] = {
    "round robin": RoundRobin(),
    "least outstanding": LeastOutstanding(),
    "peak EWMA": FinaglePeakEwma(),
    "EWMA 1 s and age": FinaglePeakEwma(decay=1.0, age=True),
}
#: Each of ours, with the others of its kind: those that look at what it looks at.
KINDS: dict[str, tuple[Balancer, tuple[str, ...]]] = {
    "RoundRobin": (RoundRobin(), ("round robin",)),
    "LeastRequest": (LeastRequest(), ("least outstanding",)),
    "PeakEwma": (PeakEwma(), ("peak EWMA", "EWMA 1 s and age")),
    "Adaptive": (Adaptive(), ("peak EWMA", "EWMA 1 s and age")),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Illness:
    """Seconds, servers, and calls a second. `service` has the coefficient of variation `spread`; 0.5 is that of a queue's
    textbook (gamma), 0.03 that of the example (normal)."""

    servers: int = 11
    rate: float = 1000.0
    service: float = 0.167
    spread: float = 0.03
    slow: float = 2.0  # seconds that the slow one takes; with workers, its work takes so many times `service`
    begin: float = 15.0
    end: float = 45.0
    after: float = 15.0
    patience: float = 1.0
    workers: int | None = None


#: 44 workers of 40 ms do 1100 calls a second.
QUEUEING = Illness(rate=660.0, service=0.04, spread=0.5, slow=12 * 0.04, workers=4)
#: Other constants, each with as many calls in flight a server, or fewer.
VARIED: dict[str, Illness] = {
    "as published": Illness(),
    "three servers": Illness(servers=3, rate=270.0),
    "50 servers, 300 ms": Illness(servers=50, service=0.3, slow=3.6, patience=1.8),
    "service 20 ms": Illness(service=0.02, slow=0.24, patience=0.12),
    "service 1 s": Illness(rate=165.0, service=1.0, slow=12.0, patience=6.0),
    "5 times slower": Illness(slow=0.835, patience=0.5),
    "60 times slower": Illness(slow=10.0),
    "10 s ill": Illness(end=25.0),
    "latencies vary by half": Illness(spread=0.5),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Parts of 1: of the calls that went well, of those after it that the healed server had, of copies sent. p99 in seconds."""

    success: float
    healed: float
    extra: float
    p99: float
    p999: float


def play(day: Illness, balancer: Balancer, seed: int, hedge: Hedge | None = None) -> Figures:
    """One day. Arrivals depend on the seed alone, and so does what the n-th attempt takes on a well server."""
    arriving, drawing = random.Random(seed), random.Random(seed + 1_000_000)
    pool = Pool(
        [Endpoint(f"h{index}:1") for index in range(day.servers)],
        balancer=balancer,
        failover=None,
        budget=RetryBudget(),
        rng=random.Random(f"{seed} pool"),
    )
    free = [[0.0] * (day.workers or 0) for _ in range(day.servers)]
    attempts, late = [0, 0], [0, 0]  # all and copies; to anybody and to server 0
    shape = day.spread**-2

    def serve(index: int, now: float) -> tuple[float, Outcome]:
        factor = drawing.gammavariate(shape, 1.0 / shape) if day.spread > 0.1 else drawing.gauss(1.0, day.spread)
        start = max(now, free[index][0]) if day.workers else now
        ill = index == 0 and day.begin <= start < day.end
        if not day.workers:
            return (day.slow if ill else max(0.001, day.service * factor)), OK
        done = start + factor * (day.slow if ill else day.service)
        heapq.heapreplace(free[index], done)
        return done - now, OK

    def attempted(index: int, now: float, attempt: int) -> None:
        attempts[0] += 1
        attempts[1] += attempt > 1
        if now >= day.end:
            late[0] += 1
            late[1] += index == 0

    def arrivals() -> Iterator[float]:
        now = 0.0
        while (now := now + arriving.expovariate(day.rate)) < day.end + day.after:
            yield now

    policy = Policy(timeout=None, retry=None, hedge=hedge)
    took = sorted(call.ended - call.began for call in Calls(pool, policy, serve, attempted=attempted).run(arrivals()))
    return Figures(
        success=sum(seconds <= day.patience for seconds in took) / len(took),
        healed=late[1] / late[0],
        extra=attempts[1] / len(took),
        p99=took[int(0.99 * len(took))],
        p999=took[int(0.999 * len(took))],
    )


def mean(day: Illness, balancer: Balancer, seeds: Sequence[int], hedge: Hedge | None = None) -> Figures:
    """Over the seeds."""
    each = [play(day, balancer, seed, hedge) for seed in seeds]
    return Figures(**{name: fmean(getattr(one, name) for one in each) for name in Figures.__slots__})


def lengths(balancer: Balancer, count: int = 10) -> Figures:
    """The published day with other lengths of the illness, 25 to 35 s: luck evens out."""
    days = [replace(Illness(), end=40.0 + 10.0 * (turn + 0.5) / count) for turn in range(count)]
    each = [play(day, balancer, seed) for seed, day in enumerate(days)]
    return Figures(**{name: fmean(getattr(one, name) for one in each) for name in Figures.__slots__})


def sensitivity(seeds: Sequence[int] = (0,)) -> list[str]:
    """A line for each of the other constants: calls lost of 60,000, and the healed server's part of its fair share."""
    sides = {**OURS, "peak EWMA": OTHERS["peak EWMA"], "EWMA 1 s and age": OTHERS["EWMA 1 s and age"]}
    lines = [f"{'lost of 60,000, healed share of a fair one':<44}" + "".join(f"{name:>19}" for name in sides)]
    for name, day in VARIED.items():
        each = [mean(day, balancer, seeds) for balancer in sides.values()]
        lines.append(
            f"{name:<44}"
            + "".join(f"{60_000 * (1 - one.success):>12.0f} {one.healed * day.servers:>6.0%}" for one in each)
        )
    each = [lengths(balancer) for balancer in sides.values()]
    lines.append(
        f"{'as published, ill for 25 to 35 s':<44}"
        + "".join(f"{60_000 * (1 - one.success):>12.0f} {one.healed * 11:>6.0%}" for one in each)
    )
    return lines


def main() -> None:
    ours = {name: balancer for name, (balancer, _) in KINDS.items()}
    for what, day, hedge in (
        ("no queue", Illness(), None),
        ("no queue, hedged", Illness(), Hedge(after=0.6)),
        ("queueing", QUEUEING, None),
    ):
        print(f"{what:<24}{'success':>10}{'healed':>9}{'copies':>9}{'p99 ms':>9}{'p99.9 ms':>10}")
        for name, balancer in {**ours, **({} if hedge else OTHERS)}.items():
            one = mean(day, balancer, range(5), hedge)
            times = f"{one.p99 * 1000:9.0f}{one.p999 * 1000:10.0f}"
            print(f"    {name:<20}{one.success:10.3%}{one.healed:9.2%}{one.extra:9.3%}{times}", flush=True)
    print("\n".join(sensitivity()))


if __name__ == "__main__":
    main()

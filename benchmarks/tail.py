"""What a second copy of the slow calls does for the tail of a request that fans out, and what it costs, in virtual time.

"The Tail at Scale" (Dean and Barroso 2013): a request asks 100 servers and waits for all. A call takes 5 to 10 ms; one in a
hundred is slow, by a Pareto law from 10 ms to 1.8 s whose exponent makes the 99.9th percentile of the requests 1.8 s. They
sent a second copy after 10 ms: 1800 ms became 74 ms for 2 % more calls.

Ours is `Hedge(after=0.010)` and `RetryBudget(ratio=0.02, per_second=0, window=1)`: a success earns a fiftieth of a copy, and
nothing else does. So copies are at most 2 % of the answers so far, at every moment, whatever latencies do: `over` counts the
copies for which that was not so. In the second part every answer takes a hundred times as long from one moment on.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.virtual import Calls
from stormproof import Endpoint, Hedge, Outcome, Policy, RetryBudget, RoundRobin
from stormproof.core.outcome import OK
from stormproof.core.pool import Pool

FAN_OUT, SERVERS = 100, 100
SLOW, LEAST, MOST, EXPONENT = 0.01, 0.010, 1.8, 1.33
#: Requests a second.
RATE = 20.0
AFTER, CAP = 0.010, 0.02
CAPPED = RetryBudget(ratio=CAP, per_second=0.0, window=1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tail:
    """Seconds of whole requests; copies a call, in all and in the worst second; and how many copies were over the cap."""

    p50: float
    p999: float
    extra: float
    worst_second: float
    over: int


def tail(
    hedge: Hedge | None, budget: RetryBudget, *, requests: int, jump_at: float = float("inf"), seed: int = 1
) -> Tail:
    """So many requests. `jump_at` is when answers begin to take a hundred times as long."""
    rng = random.Random(seed)
    pool = Pool(
        [Endpoint(f"h{index}:1") for index in range(SERVERS)],
        balancer=RoundRobin(),
        failover=None,
        budget=budget,
        rng=random.Random(seed + 1),
    )
    begun = [0]  # calls, by the second
    copies = [0]
    count = {"calls": 0, "copies": 0, "answers": 0, "over": 0}

    def serve(index: int, now: float) -> tuple[float, Outcome]:  # noqa: ARG001
        took = rng.uniform(0.005, 0.010)
        if rng.random() < SLOW:
            took = min(MOST, LEAST * rng.paretovariate(EXPONENT))
        return took * (100.0 if now >= jump_at else 1.0), OK

    def attempted(index: int, now: float, attempt: int) -> None:  # noqa: ARG001
        second = int(now)
        while len(begun) <= second:
            begun.append(0)
            copies.append(0)
        if attempt == 1:
            begun[second] += 1
            count["calls"] += 1
        else:
            copies[second] += 1
            count["copies"] += 1
            count["over"] += count["copies"] > CAP * count["answers"] + 1e-9

    def attempt_ended(outcome: Outcome, now: float) -> None:  # noqa: ARG001
        count["answers"] += outcome is OK

    def arrivals() -> Iterator[float]:
        now = 0.0
        for _ in range(requests):
            now += rng.expovariate(RATE)
            for _ in range(FAN_OUT):
                yield now

    policy = Policy(timeout=None, retry=None, hedge=hedge)
    calls = Calls(pool, policy, serve, attempted=attempted, attempt_ended=attempt_ended)
    took = [0.0] * requests
    for call in calls.run(arrivals()):
        request = (call.number - 1) // FAN_OUT
        took[request] = max(took[request], call.ended - call.began)
    took.sort()
    return Tail(
        p50=took[requests // 2],
        p999=took[int(requests * 0.999)],
        extra=count["copies"] / count["calls"],
        worst_second=max(more / of for more, of in zip(copies, begun, strict=True) if of),
        over=count["over"],
    )


SIDES: dict[str, tuple[Hedge | None, RetryBudget]] = {
    "ours": (Hedge(after=AFTER), CAPPED),
    "no copies": (None, CAPPED),
    "copies without a cap": (Hedge(after=AFTER), RetryBudget.unlimited()),
}


def main(requests: int = 10_000) -> None:
    print(
        f"{'':<24}{'p50 ms':>8}{'p99.9 ms':>10}{'copies':>9}   a hundredfold jump: copies  in one second  over the cap"
    )
    for name, (hedge, budget) in SIDES.items():
        calm = tail(hedge, budget, requests=requests)
        jump = tail(hedge, budget, requests=requests // 10, jump_at=requests / 10 / RATE / 2)
        print(
            f"{name:<24}{calm.p50 * 1000:8.1f}{calm.p999 * 1000:10.1f}{calm.extra:9.2%}"
            f"{jump.extra:30.2%}{jump.worst_second:15.2%}{jump.over + calm.over:14}"
        )


if __name__ == "__main__":
    main()

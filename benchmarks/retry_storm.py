"""What retries do in a total outage, and how soon callers are served again after it, in virtual time.

1000 calls a second at ten servers of four workers. For 20 s one attempt in a hundred fails by itself; then every attempt
fails for 60 s; then the servers can do 1.2 times the load, and one attempt in a hundred fails as before. A call has four
attempts, one second, and retries that wait 25 ms and more. A server fails an attempt at once where it fails, and answers
one that has to queue for longer than its caller waits too late; it works on it all the same.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.others.finagle_budget import FinagleBudget
from benchmarks.others.grpc_throttling import GrpcThrottling
from benchmarks.others.no_budget import NoBudget
from benchmarks.virtual import Calls
from stormproof import Code, Endpoint, Failover, LeastRequest, Outcome, Policy, Retry, RetryBudget
from stormproof.core.outcome import OK
from stormproof.core.pool import Pool

RATE, SERVERS, WORKERS = 1000.0, 10, 4
ISOLATED = 0.01
#: Seconds before the outage, in it, and after it.
SPANS = (20.0, 60.0, 20.0)
FAILED = Outcome(Code.UNAVAILABLE)


class Ours:
    """The channel's own budget, which hears of successes only."""

    def __init__(self) -> None:
        account = RetryBudget().account()
        self.succeeded, self.withdraw = account.succeeded, account.withdraw

    def begun(self, now: float) -> None: ...
    def failed(self, now: float) -> None: ...


BUDGETS: dict[str, Callable[[], Any]] = {
    "ours": Ours,
    "no budget": NoBudget,
    "Finagle": FinagleBudget,
    "gRPC, 10 tokens": GrpcThrottling,
    "gRPC, 1000 tokens": lambda: GrpcThrottling(most=1000.0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Storm:
    """`amplified` is attempts a call in the outage. `rescued` and `rescued_after` are what part of the calls whose first try
    failed went well, before the outage and from two seconds after it on. `errors` is what part of the calls failed that
    began from 1 s to 2 s after it; `calm` is how many seconds after it failures are under 1 % for good."""

    amplified: float
    rescued: float
    rescued_after: float
    errors: float
    calm: float


def storm(budget: Any, *, failover: Failover | None, spans: tuple[float, float, float] = SPANS, seed: int = 1) -> Storm:
    """One day with one budget."""
    rng = random.Random(seed)
    begin, end = spans[0], spans[0] + spans[1]
    over = end + spans[2]
    pool = Pool(
        [Endpoint(f"h{index}:1") for index in range(SERVERS)],
        balancer=LeastRequest(),
        failover=failover,
        budget=RetryBudget(),
        rng=random.Random(seed + 1),
    )
    pool.account = budget
    free = [[0.0] * WORKERS for _ in range(SERVERS)]
    work = SERVERS * WORKERS / (1.2 * RATE)  # seconds a call: together they do 1.2 times the load
    attempts: Counter[int] = Counter()

    def serve(index: int, now: float) -> tuple[float, Outcome]:
        if begin <= now < end or rng.random() < ISOLATED:
            return 0.001, FAILED
        done = max(now, free[index][0]) + work * rng.gammavariate(4, 0.25)
        heapq.heapreplace(free[index], done)
        return done - now, OK

    def ended(outcome: Outcome, now: float) -> None:
        if outcome is not OK:
            budget.failed(now)

    def attempted(index: int, now: float, attempt: int) -> None:  # noqa: ARG001
        attempts[int(now)] += 1

    def arrivals() -> Iterator[float]:
        now = 0.0
        while (now := now + rng.expovariate(RATE)) < over:
            budget.begun(now)
            yield now

    policy = Policy(timeout=1.0, retry=Retry(attempts=4))
    begun: Counter[int] = Counter()
    lost: Counter[int] = Counter()
    again: Counter[int] = Counter()  # more than one attempt, or lost: the first attempt failed
    for call in Calls(pool, policy, serve, attempted=attempted, attempt_ended=ended).run(arrivals()):
        at = int(call.began)
        begun[at] += 1
        lost[at] += not call.ok
        again[at] += call.attempts > 1 or not call.ok
    first, last, after = int(begin), int(end), int(over)

    def part(of: Counter[int], whole: Counter[int], since: int, until: int) -> float:
        return sum(of[at] for at in range(since, until)) / max(1, sum(whole[at] for at in range(since, until)))

    bad = [at for at in range(last, after) if lost[at] >= 0.01 * begun[at]]
    return Storm(
        amplified=part(attempts, begun, first, last),
        rescued=1.0 - part(lost, again, 0, first - 1),
        rescued_after=1.0 - part(lost, again, last + 2, after),
        errors=lost[last + 1] / begun[last + 1],
        calm=(max(bad) + 1 - last) if bad else 0.0,
    )


def main() -> None:
    print(
        "                        attempts a call, outage   rescued before, after   errors in the 2nd second   calm after"
    )
    for name, budget in BUDGETS.items():
        s = storm(budget(), failover=Failover() if name == "ours" else None)
        print(f"{name:<24}{s.amplified:10.3f}{s.rescued:22.1%}{s.rescued_after:10.1%}{s.errors:18.2%}{s.calm:18.0f} s")


if __name__ == "__main__":
    main()

"""Wrong and missed ejections, in virtual time: ours against the success-rate rule of gRPC (A50) and Envoy.

`python benchmarks/ejection.py [--sweeps=4000]` (also part of `make bench`). Hosts of equal quality, whose calls fail with a
fixed chance; a sweep is 10 s, with 100 calls a host or more. Wrong: an ejection of one of the equals, by host and sweep.
Found: one host fails half of its calls; is it ejected within two sweeps? Every figure repeats by its seed.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
from collections.abc import Callable

from scipy import stats

from stormproof import Endpoint, Failover, RetryBudget, RoundRobin
from stormproof.core.breaker import State
from stormproof.core.outcome import OK, Code, Outcome
from stormproof.core.pool import Pool

FAILED = Outcome(Code.UNAVAILABLE)
SWEEP = 10.0


def ours(hosts: int, calls: int, sweeps: int, chance: Callable[[int], float], seed: int) -> tuple[int, float]:
    """Ejections, and when host 0 was first ejected (in sweeps). `chance(host)` is that of a failure."""
    ejected: list[tuple[float, int]] = []
    now, rng = 0.0, random.Random(seed)

    def changed(member) -> None:
        if member.breaker.state is State.OPEN:
            ejected.append((now, member.index))

    pool = Pool(
        [Endpoint(f"host-{number}:1") for number in range(hosts)],
        balancer=RoundRobin(),
        failover=Failover(),
        budget=RetryBudget(),
        rng=random.Random(seed),
        changed=changed,
    )
    chances = [chance(number) for number in range(hosts)]
    for _ in range(hosts * calls * sweeps):
        flight = pool.begin(now)
        now += SWEEP / (hosts * calls)
        pool.finished(flight, FAILED if rng.random() < chances[flight.member.index] else OK, now)
    return len(ejected), min((at / SWEEP for at, host in ejected if host == 0), default=math.inf)


def theirs(hosts: int, calls: int, sweeps: int, chance: Callable[[int], float], seed: int) -> tuple[int, float]:
    """gRFC A50's success_rate_ejection: below mean - 1.9 standard deviations of the hosts' success rates in a sweep."""
    rng = random.Random(seed)
    ejected, first = 0, math.inf
    for sweep in range(1, sweeps + 1):
        rates = [sum(rng.random() >= chance(host) for _ in range(calls)) / calls for host in range(hosts)]
        least = statistics.mean(rates) - 1.9 * statistics.pstdev(rates)
        flagged = [host for host, rate in enumerate(rates) if rate < least]
        ejected += len(flagged)
        if 0 in flagged:
            first = min(first, sweep)
    return ejected, first


def bound(count: int, trials: int) -> float:
    """The rate is at most this, with 95 % confidence (Clopper-Pearson)."""
    return float(stats.beta.ppf(0.95, count + 1, trials - count))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sweeps", type=int, default=4000, help="of 10 hosts, for each row (default 4000)")
    sweeps = parser.parse_args().sweeps
    print(f"{'wrong ejections a host and sweep (must be <= 1e-4)':<52} {'ours':>22} {'gRPC, Envoy':>14}")
    for hosts in (3, 10):
        for chance in (0.001, 0.01, 0.1, 0.3, 0.5):
            mine, _ = ours(hosts, 100, sweeps, lambda _, chance=chance: chance, seed=1)
            some = max(1, sweeps // 10)
            other, _ = theirs(hosts, 100, some, lambda _, chance=chance: chance, seed=1)
            trials = hosts * sweeps
            print(
                f"  {hosts:>2} hosts, each fails {chance:.1%} of 100 calls"
                f"{'':<14} {mine:>4} of {trials} (<= {bound(mine, trials):.0e}) {other / (hosts * some):>12.1e}"
            )
    print(f"{'a host that fails half, found within 2 sweeps (>= 99 %)':<52}")
    for hosts in (3, 10):
        for chance in (0.0, 0.01, 0.1):
            found = [
                rule(hosts, 100, 2, lambda host, chance=chance: 0.5 if host == 0 else chance, seed)[1] <= 2
                for rule in (ours, theirs)
                for seed in range(300)
            ]
            print(f"  {hosts:>2} hosts, the others fail {chance:.1%}{'':<26} {sum(found[:300])} of 300", end="")
            print(f"{sum(found[300:]):>22} of 300")


if __name__ == "__main__":
    main()

"""The simulator against real processes: the same scenarios, seed and policies on both fleets come to the same figures.

Without this a simulator proves only itself. What is compared are figures over a whole run, since single calls meet the
scheduler of a real machine. The tolerances are named, each with its reason.
"""

from __future__ import annotations

from collections import Counter

import pytest

from faults import Blackhole, Errors, Kill, Latency, Overload, Pause, Reset, during, named
from harness import GREETINGS, Available, Client, Poisson, Scenario, Servers, Streams
from harness.fleet.sim.fleet import SimFleet
from harness.runner import run as run_once
from stormproof import Code, Failover, HealthCheck, LeastRequest, Policy, Retry, RoundRobin

#: Attempts a call. A fault is seen to act, and calls meet it, some 20 ms sooner or later than in virtual time: at 100
#: calls a second 2 or 3 calls each time, of 350. A server that starts takes 0.1 to 0.5 s, each with a trial or two. And where
#: balancers draw, some ten calls fail, with a standard error of 3 on either side: four of the difference are 0.05.
ATTEMPTS = 0.05
#: Fraction of calls that are ok: of the same reason, where nothing may be repeated.
SUCCESS = 0.02
#: Fraction of all attempts that a server gets. Random choices differ as soon as one answer comes in another order: three
#: standard errors of a share of a quarter among 350 are 0.07.
SHARE = 0.08
#: Fraction of calls that take longer than a bound. As for ATTEMPTS; and under load a real call may take 0.1 s for nothing.
SLOWER = 0.05
BOUNDS = (0.15, 0.28)
#: Seconds by which the median may differ: the model has no scheduler, and two busy cores take up to 20 ms a call.
MEDIAN = 0.030
#: Seconds by which each message of a stream may differ: it is a timer of the server and a turn of the client's.
MESSAGE = 0.005
#: How often a day may be lived whose times alone are off. On a busy machine a server may get no processor for half a second,
#: which is a seventh of the day: seen once in 112 days, with seven programs for each core. What the model gets wrong is off
#: each time; what the machine does is off twice running about once in 10,000. All other figures must be right each time.
DAYS_LIVED = 2

POLICY = Policy(timeout=1.0, idempotent=True, retry=Retry(attempts=3))
HIT = named("server-1")


def day(*faults, balancer, policy=POLICY, failover=Failover(), workload=Poisson(rate=100, seconds=3.5), **servers):
    return Scenario(
        servers=Servers(4, **servers),
        client=Client(balancer=balancer, policy=policy, failover=failover),
        workload=workload,
        faults=[during(0.5, 2.5, fault, on=HIT) for fault in faults],
        guarantees=[Available(0.9)],
    )


IMPATIENT = Policy(timeout=1.0, attempt_timeout=0.25, idempotent=True)
RESUMED = Policy(timeout=5.0, attempt_timeout=0.5, retry=Retry(attempts=3), checkpoint=GREETINGS)
STREAMS = Streams(rate=25, seconds=3.5, messages=10)
ASKED = Failover(health=HealthCheck(interval=0.2, timeout=0.2))
REFUSED = Policy(timeout=1.0, retry=Retry(attempts=3, on={Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED}))
DAYS = {
    "quiet": day(balancer=RoundRobin()),
    "slow server": day(Latency(0.2), balancer=RoundRobin()),
    "killed": day(Kill(), balancer=RoundRobin()),
    "black hole": day(Blackhole(), balancer=LeastRequest(), policy=IMPATIENT),
    "errors": day(Errors(0.33), balancer=RoundRobin()),
    "errors without retry": day(Errors(0.33, code="INTERNAL"), balancer=RoundRobin()),
    "overload": day(Overload(1, delay=0.2), balancer=LeastRequest(), policy=REFUSED),
    "killed under streams": day(Kill(), balancer=RoundRobin(), policy=RESUMED, workload=STREAMS, service_time=0.04),
    "reset streams": day(Reset(), balancer=RoundRobin(), policy=RESUMED, workload=STREAMS, service_time=0.04),
    "paused, and asked": day(Pause(), balancer=RoundRobin(), failover=ASKED),
    "paused": day(Pause(), balancer=LeastRequest(), policy=IMPATIENT),
}


def figures(history):
    """What is compared: attempts a call, the ok, each server's share, the slow, and the median latency."""
    assert history.problems == ()
    calls = history.operations
    attempts = [attempt.server for _, attempt in history.attempts()]
    latencies = sorted(call.latency for call in calls)
    shares = Counter(attempts)
    messages = max(call.messages or 0 for call in calls)
    return {
        "calls": (len(calls), 0),
        "attempts": (len(attempts) / len(calls), ATTEMPTS),
        "ok": (sum(call.result == "ok" for call in calls) / len(calls), SUCCESS),
        **{name: (shares[name] / len(attempts), SHARE) for name in sorted(s.name for s in history.servers)},
        **{f"> {bound:g} s": (sum(took > bound for took in latencies) / len(calls), SLOWER) for bound in BOUNDS},
        "median": (latencies[len(calls) // 2], MEDIAN + MESSAGE * messages),
        "messages": (sum(call.heard_messages for call in calls) / len(calls), SUCCESS * messages),
        "cut": (sum(len(call.heard) > 1 for call in calls) / len(calls), ATTEMPTS),
    }


#: The figures that are times.
TIMES = {"median", *(f"> {bound:g} s" for bound in BOUNDS)}


@pytest.mark.parametrize("name", DAYS)
def test_both_fleets_come_to_the_same(run, request, name):
    """Promise: attempts, shares, success and latency of the real run are within the tolerances of the simulated one."""
    if request.config.getoption("--fleet") != "local":
        pytest.skip("compares virtual time with real processes; run with --fleet=local")
    scenario = DAYS[name]
    simulated = figures(run_once(scenario, SimFleet(), seed=request.config.getoption("--seed"), name=name).history)
    for _ in range(DAYS_LIVED):
        result = run(scenario)
        result.check()
        real = figures(result.history)
        off = [what for what, (value, tolerance) in real.items() if abs(value - simulated[what][0]) > tolerance]
        if not off or not set(off) <= TIMES:
            break
    table = "\n".join(
        f"{what:<10} real {real[what][0]:.4f}  simulated {simulated[what][0]:.4f}  tolerance {tolerance}"
        for what, (_, tolerance) in real.items()
    )
    assert not off, f"{name}: {', '.join(off)}\n{table}"

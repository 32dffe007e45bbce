"""Which promises may be asked of a client on a day: those that its own configuration makes, whatever happens.

A search for bad days turns every promise over, so one that is asked must be kept on all of them: a bound that is only
usually kept would be "found" at once, and tell nothing about the client. So nothing here says how fast calls are or how
many are answered; who wants `Available` or `Fast` on bad days gives the bounds. What depends on the day (who is healed can
only be used again if there is time left) is decided here as well, from the day alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from faults import Blackhole, Drain, Errors, Hang, Injection, Kill, Named, Pause, Refuse, Reset, Restart
from harness.client import Client
from harness.guarantees import (
    AtMostOnce,
    AvoidsFaulty,
    EvenShare,
    Guarantee,
    NoStrays,
    NothingLost,
    Recovers,
    Resumes,
    RetriesElsewhere,
    WithinBudget,
    WithinDeadline,
)
from harness.scenario import Servers
from harness.workload import Batch, Poisson, Steady, Workload
from stormproof import LeastRequest, RandomChoice, RoundRobin

#: Seconds after its healing at which a server has its share again: an ejection is at most 1.5 s long, and a connection
#: that was refused is made again within 0.6 s, or times out after 1 s.
BACK = 3.0
#: Seconds of calls after that which tell of a fifth of them, at 100 a second, whether they are there.
JUDGED = 2.0
#: Seconds until a server that fails every call is ejected, beside the time that a call takes to fail.
NOTICED = 1.0
#: What trials may cost: each ejected server gets one call for each of its waits, which begin with 0.4 s.
TRIALS = 0.1
#: Calls a second below which five failures in a row take too long, and trials are more than TRIALS.
RATE = 80.0


def fair(client: Client, servers: Servers, workload: Workload, faults: Sequence[Injection]) -> tuple[Guarantee, ...]:
    """The promises that `client` makes of itself on this day. Never none: no attempt outlives its call."""
    return tuple(_always(client)) + tuple(
        _of_a_batch(client, faults) if isinstance(workload, Batch) else _of_calls(client, servers, workload, faults)
    )


def _always(client: Client) -> Iterator[Guarantee]:
    policy, budget = client.policy, client.budget
    if policy.timeout is not None:
        yield WithinDeadline(policy.timeout)
    if not policy.repeatable:
        yield AtMostOnce()
    copies = 1 if policy.hedge is None else policy.hedge.attempts
    yield WithinBudget(
        attempts=policy.attempts + copies - 1,
        ratio=budget.ratio,
        per_second=budget.per_second,
        window=budget.window,
    )
    if client.failover is not None and client.failover.health is None:
        yield RetriesElsewhere()
    yield NoStrays()
    yield NothingLost()


def _of_a_batch(client: Client, faults: Sequence[Injection]) -> Iterator[Guarantee]:
    """A server whose answers are lost makes every item come again; a client that is broken off does not."""
    if client.checkpoint_every is not None and faults and all(_who(i) == {"client"} for i in faults):
        yield Resumes(every=client.checkpoint_every)


def _of_calls(client: Client, servers: Servers, workload: Workload, faults: Sequence[Injection]) -> Iterator[Guarantee]:
    if not faults:
        yield from _shares(client, servers)
    elif client.failover is not None and client.failover.slow_start is None and _alike(servers):
        if _ends(faults) + BACK + JUDGED <= workload.seconds:
            yield Recovers(within=BACK)
        yield from _avoidance(client, servers, workload, faults)


def _shares(client: Client, servers: Servers) -> Iterator[Guarantee]:
    """On a quiet day. Balancers that go by latency owe nobody an even share of it."""
    if not _alike(servers):
        return
    if isinstance(client.balancer, RoundRobin):
        yield EvenShare(within=0.05)
    elif isinstance(client.balancer, RandomChoice | LeastRequest):
        yield EvenShare()


def _avoidance(
    client: Client, servers: Servers, workload: Workload, faults: Sequence[Injection]
) -> Iterator[Guarantee]:
    """Who fails every call is left, if there is somebody to compare it with and to go to.

    Not under a hedge: who lost a race is not to blame, so one that hangs is never found out by it.
    """
    policy = client.policy
    patience = min(policy.timeout or math.inf, policy.attempt_timeout or math.inf)
    hit = set().union(*(_who(injection) for injection in faults))
    few = 0 < len(hit) <= servers.count - servers.count // 2 and len(hit) < servers.count
    often = isinstance(workload, Poisson | Steady) and workload.rate >= RATE
    if policy.hedge is None and math.isfinite(patience) and few and often and all(_total(i) for i in faults):
        yield AvoidsFaulty(within=patience + NOTICED, share=TRIALS)


def _who(injection: Injection) -> set[str]:
    """The servers that it hits; of a target that is drawn nobody knows, which is told as any name that is none."""
    return set(injection.on.names) if isinstance(injection.on, Named) else {str(injection.on)}


def _total(injection: Injection) -> bool:
    """Whether every call to those that it hits fails. (One that comes and goes is not learnt.)"""
    fault = injection.fault
    if injection.period is not None or not isinstance(injection.on, Named):
        return False
    if isinstance(fault, Errors | Hang):
        return fault.rate == 1.0 and not (isinstance(fault, Errors) and fault.code != "UNAVAILABLE")
    return isinstance(fault, Kill | Drain | Pause | Refuse | Blackhole | Reset)


def _ends(faults: Sequence[Injection]) -> float:
    """When the last fault is healed."""
    return max(
        i.start + i.fault.downtime + 0.5 if isinstance(i.fault, Restart) else (math.inf if i.end is None else i.end)
        for i in faults
    )


def _alike(servers: Servers) -> bool:
    """Whether all are due the same."""
    return servers.weights is None and servers.priorities is None

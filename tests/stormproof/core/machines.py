"""What the timetable tests of the core share: a pool of named endpoints, and outcomes to feed it."""

from __future__ import annotations

import random
from typing import Any

from stormproof.core.balancers import RoundRobin
from stormproof.core.budget import RetryBudget
from stormproof.core.endpoint import Endpoint
from stormproof.core.failover import Failover
from stormproof.core.outcome import Code, Evidence, Outcome
from stormproof.core.pool import Pool

REFUSED = Outcome(Code.UNAVAILABLE, Evidence.NEVER_SENT, "no connection")
ANSWERED = Outcome(Code.UNAVAILABLE, Evidence.ANSWERED, "not now")
LOST = Outcome(Code.UNAVAILABLE, Evidence.LOST, "connection broke")
TIMED_OUT = Outcome(Code.DEADLINE_EXCEEDED, Evidence.LOST, "no answer in time")
WRONG = Outcome(Code.INVALID_ARGUMENT, Evidence.ANSWERED, "no such thing")
CANCELLED = Outcome(Code.CANCELLED, Evidence.LOST, "cancelled")


class First:
    """A balancer whose picks are known beforehand: the first eligible endpoint."""

    def picker(self, rng: random.Random) -> First:
        return self

    def pick(self, eligible: Any, now: float) -> Any:
        return eligible.members[0]

    def load(self) -> None:
        return None


def pool_of(
    *endpoints: Endpoint | str, balancer: Any = None, failover: Failover | None = Failover(), **kwargs: Any
) -> Pool:
    """A pool over `endpoints`, named "a", "b" for short, whose balancer picks the first one that may be picked."""
    named = [e if isinstance(e, Endpoint) else Endpoint(f"{e}:1") for e in endpoints]
    return Pool(
        named,
        balancer=balancer or First(),
        failover=failover,
        budget=kwargs.pop("budget", RetryBudget()),
        rng=random.Random(kwargs.pop("seed", 1)),
        **kwargs,
    )


def picks(pool: Pool, count: int, now: float = 0.0) -> list[str]:
    """The addresses of `count` picks; every attempt stays in flight."""
    return [pool.begin(now).member.endpoint.address for _ in range(count)]


__all__ = ["ANSWERED", "CANCELLED", "First", "LOST", "REFUSED", "RoundRobin", "TIMED_OUT", "WRONG", "picks", "pool_of"]

"""When calls are due. A workload is a value; its arrivals are drawn from the run's seed before the run begins.

Open workloads (`Poisson`, `Steady`) call on schedule, however slow the answers are, so that a stalled server is
charged for every call that should have begun meanwhile (no coordinated omission). `Closed` callers wait for their answer;
`Batch` is a list of work that is done in order.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from faults.base import bounded, check, whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Poisson:
    """Calls arrive at random, `rate` a second on average, for `seconds`: many independent callers."""

    rate: float
    seconds: float

    def __post_init__(self) -> None:
        check(self, _open(self.rate, self.seconds))

    def arrivals(self, rng: random.Random) -> list[float]:
        """Seconds from the start at which each call is due."""
        due, found = rng.expovariate(self.rate), []
        while due < self.seconds:
            found.append(due)
            due += rng.expovariate(self.rate)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Steady:
    """A call every 1 / `rate` seconds, for `seconds`."""

    rate: float
    seconds: float

    def __post_init__(self) -> None:
        check(self, _open(self.rate, self.seconds))

    def arrivals(self, rng: random.Random) -> list[float]:  # noqa: ARG002
        """Seconds from the start at which each call is due."""
        return [index / self.rate for index in range(int(self.rate * self.seconds))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """`callers` that each call again `think` seconds after their last answer, for `seconds`. A call is due when it begins."""

    callers: int
    seconds: float
    think: float = 0.0

    def __post_init__(self) -> None:
        problems = whole("callers", self.callers, 1, 1000) + bounded("seconds", self.seconds, 0.1, 86400)
        check(self, problems + bounded("think", self.think, 0, 3600, way_out="seconds"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """`items` pieces of work, one call each, in order. It is over when all are done, or after `seconds` (then broken off).

    With `Client(checkpoint_every=n)` its progress is durable: a client that was killed goes on where it was.
    """

    items: int
    seconds: float = 60.0

    def __post_init__(self) -> None:
        check(self, whole("items", self.items, 1, 10_000_000) + bounded("seconds", self.seconds, 0.1, 86400))


Workload = Poisson | Steady | Closed | Batch


def _open(rate: float, seconds: float) -> list[str]:
    return bounded("rate", rate, 0.001, 100_000, way_out="calls a second") + bounded("seconds", seconds, 0.1, 86400)

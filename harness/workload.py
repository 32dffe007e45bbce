"""When calls are due. A workload is a value; its arrivals are drawn from the run's seed before the run begins.

Open workloads (`Poisson`, `Steady`) call on schedule, however slow the answers are, so that a stalled server is
charged for every call that should have begun meanwhile (no coordinated omission). `Streams` are open, too: of answer
streams instead of single answers. `Closed` callers wait for their answer; `Batch` is a list of work that is done in order.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Streams:
    """Answer streams of `messages` messages each, read to their ends. They begin at random, `rate` a second, for `seconds`.

    A server works on each message for its service time, so a stream takes `messages` times that at least; its latency
    counts until its end. A broken one goes on elsewhere with `Policy(checkpoint=GREETINGS)`. With
    `Client(checkpoint_every=n)`, too, the progress of each is durable: a client that was killed goes on with those that had
    not come to their ends, and at most n messages of each come again, marked.
    """

    rate: float
    seconds: float
    messages: int

    def __post_init__(self) -> None:
        # SayHelloToEach greets a name once for each of its characters, and each greeting holds the name.
        check(self, _open(self.rate, self.seconds) + whole("messages", self.messages, 1, 1000, way_out="of a stream"))

    def arrivals(self, rng: random.Random) -> list[float]:
        """Seconds from the start at which each stream is due."""
        return Poisson(rate=self.rate, seconds=self.seconds).arrivals(rng)


Workload = Poisson | Steady | Closed | Batch | Streams


def _open(rate: float, seconds: float) -> list[str]:
    return bounded("rate", rate, 0.001, 100_000, way_out="calls a second") + bounded("seconds", seconds, 0.1, 86400)

"""Which endpoints are ejected: one circuit breaker for each, fed with the outcome of every attempt on it.

Law 1: while a breaker is open, no call is sent to its endpoint. Law 2: once its wait is over, one call at a time is
let through as a trial; the trial's outcome alone closes the breaker or opens it again. Law 3: what the caller did
(cancelling, losing a race) is no evidence against an endpoint.

    state       event                            next state
    CLOSED      success                          CLOSED, failures in a row forgotten
    CLOSED      failure, not too many            CLOSED
    CLOSED      failure, too many                OPEN for base, longer if it closed only a moment ago
    CLOSED      no connection could be made      OPEN for base
    OPEN        its wait is over                 HALF_OPEN with the next call as its trial
    OPEN        success of a call begun since    CLOSED (in a panic even ejected endpoints are called)
    HALF_OPEN   trial succeeded                  CLOSED
    HALF_OPEN   trial failed                     OPEN, longer
    HALF_OPEN   trial cancelled                  OPEN, due at once

"Too many" is `consecutive` failures in a row (a server that is gone), or a failure rate of `rate` among at least
`minimum` calls in a window (a server that is half gone). Sources: Envoy's outlier detection, gRFC A50, resilience4j.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import Enum

from stormproof.core.check import complain, number, seconds
from stormproof.core.outcome import Code, Evidence, Outcome

#: Codes that speak against the endpoint. The others are answers to the caller's request.
FAILURES = frozenset({
    Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.RESOURCE_EXHAUSTED, Code.INTERNAL, Code.UNKNOWN, Code.DATA_LOSS,
})  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Failover:
    """When an endpoint is ejected, and for how long. When all are ejected, all are used (panic), not none.

    consecutive   failures in a row that eject (1 to 1000; default 5: hosts that fail 1 % of their calls by chance are
                  ejected once in 10^10 calls).
    rate          failure rate that ejects (over 0 to 1), among at least `minimum` calls in the last 5 to 10 seconds.
    minimum       calls below which the rate says nothing (1 or more).
    base          seconds of the first ejection. Each further one in a row doubles it, up to `cap` seconds; each is
                  shortened by up to a fifth at random, so that clients do not come back together.

    `cap` is short because a trial is one call only, and a healed server should have its share again within 2 s.
    """

    consecutive: int = 5
    rate: float = 0.4
    minimum: int = 20
    base: float = 0.5
    cap: float = 1.5

    def __post_init__(self) -> None:
        problems = number("consecutive", self.consecutive, 1, 1000, unit="failures in a row", whole=True)
        problems += number("rate", self.rate, 0.01, 1, unit="fraction of calls")
        problems += number("minimum", self.minimum, 1, unit="calls", whole=True)
        problems += seconds("base", self.base, low=0.001) + seconds("cap", self.cap, low=0.001)
        complain(self, problems)


class State(Enum):
    """The states of a breaker; the table above is their law."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half open"


#: Half of the window over which the failure rate is taken, in seconds.
HALF_WINDOW = 5.0


class Breaker:
    """The breaker of one endpoint. `until` is when a trial is due, while it is open."""

    __slots__ = (
        "_changed_at", "_config", "_failed", "_failed_before", "_row", "_seen", "_seen_before", "_turn",
        "state", "times", "until",
    )  # fmt: skip

    def __init__(self, config: Failover) -> None:
        self._config = config
        self.state = State.CLOSED
        self.until = 0.0
        self.times = 0  # ejections in a row
        self._changed_at = 0.0
        self._row = 0
        self._seen = self._failed = self._seen_before = self._failed_before = 0
        self._turn = 0.0

    def finished(self, outcome: Outcome, started: float, now: float, rng: random.Random, *, trial: bool) -> bool:
        """An attempt that began at `started` ended. Returns whether the state changed."""
        if outcome.code is Code.CANCELLED or outcome.ours:
            return self._cancelled(now, trial)
        failed = outcome.code in FAILURES
        if trial:
            return self._open(now, rng) if failed else self._close(now)
        if self.state is not State.CLOSED:
            news = started >= self._changed_at  # what began before the ejection says nothing new
            return news and not failed and self._close(now)
        self._count(now, failed)
        if not failed:
            self._row = 0
            return False
        self._row += 1
        return self._too_many(outcome) and self._open(now, rng)

    def trial(self) -> None:
        """Its wait is over and the next call is its trial."""
        self.state = State.HALF_OPEN

    def _too_many(self, outcome: Outcome) -> bool:
        if outcome.evidence is Evidence.NEVER_SENT or self._row >= self._config.consecutive:
            return True
        seen, failed = self._seen + self._seen_before, self._failed + self._failed_before
        return seen >= self._config.minimum and failed >= seen * self._config.rate

    def _count(self, now: float, failed: bool) -> None:
        if now >= self._turn:
            fresh = now < self._turn + HALF_WINDOW
            self._seen_before, self._failed_before = (self._seen, self._failed) if fresh else (0, 0)
            self._seen = self._failed = 0
            self._turn = now + HALF_WINDOW
        self._seen += 1
        self._failed += failed

    def _open(self, now: float, rng: random.Random) -> bool:
        relapse = self.state is State.HALF_OPEN or (self.times > 0 and now < self._changed_at + self._config.cap)
        self.times = self.times + 1 if relapse else 1
        wait = min(self._config.cap, self._config.base * 2.0 ** min(self.times - 1, 64))
        self.until = now + wait * (1.0 - 0.2 * rng.random())
        self.state = State.OPEN
        self._changed_at = now
        return True

    def _close(self, now: float) -> bool:
        self.state = State.CLOSED
        self._changed_at = now
        self._row = self._seen = self._failed = self._seen_before = self._failed_before = 0
        return True

    def _cancelled(self, now: float, trial: bool) -> bool:
        if trial:
            self.state, self.until = State.OPEN, now
        return trial

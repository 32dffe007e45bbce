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
`minimum` calls in a window (a server that is half gone); and both only where chance does not explain them: an endpoint
that fails as often as its fellows is no outlier, and ejecting it would help nobody. If calls to all of them fail with the
chance `usual`, then f failures or more among n calls come with a chance of at most exp(-n * KL(f/n, usual)) (Chernoff's
bound), and that must be under CHANCE. Envoy's and gRPC's rule of standard deviations takes about 5 % of equally good
hosts for outliers in each sweep. Sources: Envoy's outlier detection, gRFC A50, resilience4j.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from enum import Enum
from typing import Protocol

from stormproof.core.failover import Failover
from stormproof.core.outcome import Code, Evidence, Outcome

#: Codes that speak against the endpoint. The others are answers to the caller's request.
FAILURES = frozenset({
    Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.RESOURCE_EXHAUSTED, Code.INTERNAL, Code.UNKNOWN, Code.DATA_LOSS,
})  # fmt: skip


class State(Enum):
    """The states of a breaker; the table above is their law."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half open"


# By names of their own: to look up a member of an Enum takes Python 3.11 ten times as long.
CLOSED, _OK = State.CLOSED, Code.OK
#: Half of the window over which the failure rate is taken, in seconds.
HALF_WINDOW = 5.0
#: What chance must be less likely than to be ruled out. An endpoint is looked at with each failure, often in a window.
CHANCE = 1e-8
#: What every endpoint is taken to fail at least, and how many calls that presumption weighs while little is known.
USUAL, PRESUMED = 0.01, 5.0
#: Standard errors by which their failure rate is taken to be higher than seen.
WIDE = 3.0


def by_chance(failed: int, seen: int, usual: float) -> bool:
    """Whether so many failures of so many calls may be chance, where each fails with the chance `usual`."""
    share = failed / seen
    if share <= usual:
        return True
    divergence = share * math.log(share / usual)
    if failed < seen:
        divergence += (1.0 - share) * math.log((1.0 - share) / (1.0 - usual))
    return seen * divergence < -math.log(CHANCE)


class Fellows(Protocol):
    """What a breaker asks about the other endpoints."""

    def usual_rate(self, breaker: Breaker, now: float) -> float:
        """What share of its calls a good one of them fails just now."""
        ...

    def may_eject(self) -> bool:
        """Whether enough of them are left to eject one more."""
        ...


class Nobody:
    """The fellows of an endpoint that is alone."""

    def usual_rate(self, breaker: Breaker, now: float) -> float:  # noqa: ARG002
        return USUAL

    def may_eject(self) -> bool:
        return True


NOBODY = Nobody()


def usual_rate(counts: Iterable[tuple[int, int]]) -> float:
    """What share of its calls a good one of some endpoints fails, of the failures and calls of each.

    It is that of the better half: if two of three are down, these are outliers, not the third.
    """
    known = sorted((count for count in counts if count[1]), key=_share)
    better = known[: (len(known) + 1) // 2]
    failed = sum(count[0] for count in better)
    seen = sum(count[1] for count in better) + PRESUMED
    share = (failed + USUAL * PRESUMED) / seen
    if failed:  # they may fail more often than it looks, and they were picked for failing little
        share += WIDE * math.sqrt(share * (1.0 - share) / seen)
    return min(1.0, max(USUAL, share))


def _share(count: tuple[int, int]) -> float:
    return count[0] / count[1]


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

    def finished(
        self,
        outcome: Outcome,
        started: float,
        now: float,
        rng: random.Random,
        *,
        trial: bool,
        fellows: Fellows = NOBODY,
    ) -> bool:
        """An attempt that began at `started` ended. Returns whether the state changed."""
        if outcome.code is not _OK and (outcome.code is Code.CANCELLED or outcome.ours):
            return self._cancelled(now, trial)
        failed = outcome.code in FAILURES
        if trial:
            return self._open(now, rng) if failed else self._close(now)
        if self.state is not CLOSED:
            news = started >= self._changed_at  # what began before the ejection says nothing new
            return news and not failed and self._close(now)
        self._count(now, failed)
        if not failed:
            self._row = 0
            return False
        self._row += 1
        return self._too_many(outcome, fellows, now) and fellows.may_eject() and self._open(now, rng)

    def trial(self) -> None:
        """Its wait is over and the next call is its trial."""
        self.state = State.HALF_OPEN

    def recent(self, now: float) -> tuple[int, int]:
        """Failures and calls in the last 5 to 10 seconds."""
        if now < self._turn:
            return self._failed + self._failed_before, self._seen + self._seen_before
        return (self._failed, self._seen) if now < self._turn + HALF_WINDOW else (0, 0)

    def _too_many(self, outcome: Outcome, fellows: Fellows, now: float) -> bool:
        if outcome.evidence is Evidence.NEVER_SENT:
            return True
        row, config = self._row, self._config
        failed, seen = self.recent(now)
        gone = row >= config.consecutive
        half_gone = seen >= config.minimum and failed >= seen * config.rate
        if not gone and not half_gone:
            return False
        usual = fellows.usual_rate(self, now)
        return (gone and not by_chance(row, row, usual)) or (half_gone and not by_chance(failed, seen, usual))

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

"""How loaded an endpoint is, as balancers compare it: factored from how they choose, as in Finagle and Tower.

Attempts in flight are counted by the pool for every member. `PeakEwmaLoad` adds what answers took: a moving average
that believes bad news at once and good news slowly, except from an endpoint that was only asked in order to find out, or
when it comes six times running.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

from stormproof.core.breaker import FAILURES
from stormproof.core.outcome import Code, Outcome

if TYPE_CHECKING:
    from stormproof.core.pool import Flight


#: An answer so many times quicker than the estimate is noise; RUNNING of them are a change. An endpoint that takes so many
#: times longer than another one is not worth a call, however idle it is.
CHANGE, RUNNING = 4.0, 6


class Load(Protocol):
    """The running load of one member."""

    def started(self, flight: Flight, now: float) -> None: ...
    def finished(self, flight: Flight, outcome: Outcome, now: float) -> None: ...


class PeakEwmaLoad:
    """Expected seconds for one more call: the latency estimate times the calls that would share the endpoint.

    A slower answer than the estimate becomes the estimate at once; a faster one decays it by exp(-dt / decay)
    (Finagle's PeakEwma). A call still in flight counts with its age, so that one that never answers is noticed without
    waiting for it; one that is cancelled later than the estimate counts with the age that it had. A failure counts as an
    answer that took at least `failure` seconds, so that a server that fails fast does not look fast.
    """

    __slots__ = (
        "_best",
        "_decay",
        "_failure",
        "_flights",
        "_low",
        "_old",
        "_probe",
        "_quiet",
        "_single",
        "estimate",
        "observed",
    )

    def __init__(self, *, decay: float, failure: float, probe: float) -> None:
        self._decay = decay
        self._failure = failure
        self._probe = probe
        self._flights: dict[Flight, float] = {}  # in order of their start, so the first is the oldest
        self._old: set[Flight] = set()  # begun before a single call that went well, and still in flight
        self._quiet = -math.inf  # since when no call has begun on it or ended
        self._low = 0  # answers running that were far quicker than the estimate
        self._best = 0.0  # seconds that the slowest of them took
        self._single: Flight | None = None  # the last one, if it began after `probe` quiet seconds
        self.estimate: float | None = None  # None: never heard from
        self.observed = -math.inf

    def started(self, flight: Flight, now: float) -> None:
        self._single = flight if now - self._quiet >= self._probe else None
        self._quiet = now
        self._flights[flight] = now

    def finished(self, flight: Flight, outcome: Outcome, now: float) -> None:
        old = flight in self._old
        if old:
            self._old.discard(flight)
        else:
            del self._flights[flight]
        self._quiet = now
        single = flight is self._single
        if single:
            self._single = None
        took = max(0.0, now - flight.started)
        if old:  # what is older than good news is no news
            return
        if outcome.code is Code.CANCELLED and (self.estimate is None or took <= self.estimate):
            return  # else it would have taken even longer: so much is certain
        if outcome.code in FAILURES:
            took = max(took, self._failure)
        if self.estimate is None or took * CHANGE >= self.estimate:
            self._low, self._best = 0, 0.0
        else:
            self._low, self._best = self._low + 1, max(self._best, took)
        if self.estimate is None or took >= self.estimate:
            self.estimate = took
        elif self._low == RUNNING:
            self.estimate, self._low, self._best = self._best, 0, 0.0
        elif single:
            self.estimate = took
            older = [other for other, began in self._flights.items() if began <= flight.started]
            for other in older:
                del self._flights[other]
            self._old.update(older)
        else:
            keep = math.exp(-max(0.0, now - self.observed) / self._decay)
            self.estimate = self.estimate * keep + took * (1.0 - keep)
        self.observed = now

    def expected(self, now: float) -> float:
        """Seconds that an answer takes; 0 for an idle endpoint never heard from, infinite for a busy one."""
        estimate = self.estimate
        flights = self._flights
        if estimate is None:
            return math.inf if flights else 0.0
        if flights:
            age = now - next(iter(flights.values()))
            if age > estimate:
                return age
        return estimate

    @property
    def idle(self) -> bool:
        """Whether no call is in flight on it."""
        return not self._flights and not self._old

    def forgotten(self, now: float) -> bool:
        """Whether it was heard from, and was quiet for `probe` seconds: time to ask it again, with one at a time.

        Not while it is silent, and not only slow: a call that hangs says enough.
        """
        if self.estimate is None or self._single is not None or now - self._quiet < self._probe:
            return False
        return now - next(iter(self._flights.values()), now) <= CHANGE * self.estimate

"""How loaded an endpoint is, as balancers compare it: factored from how they choose, as in Finagle and Tower.

Attempts in flight are counted by the pool for every member. `PeakEwmaLoad` adds what answers took: a moving average
that believes bad news at once and good news slowly, except from an endpoint that was only asked in order to find out.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

from stormproof.core.breaker import FAILURES
from stormproof.core.outcome import Code, Outcome

if TYPE_CHECKING:
    from stormproof.core.pool import Flight


class Load(Protocol):
    """The running load of one member."""

    def started(self, flight: Flight, now: float) -> None: ...
    def finished(self, flight: Flight, outcome: Outcome, now: float) -> None: ...


class PeakEwmaLoad:
    """Expected seconds for one more call: the latency estimate times the calls that would share the endpoint.

    A slower answer than the estimate becomes the estimate at once; a faster one decays it by exp(-dt / decay)
    (Finagle's PeakEwma). A call still in flight counts with its age, so that one that never answers is noticed without
    waiting for it. A failure counts as an answer that took at least `failure` seconds, so that a server that fails
    fast does not look fast.
    """

    __slots__ = ("_decay", "_failure", "_flights", "_probe", "estimate", "observed")

    def __init__(self, *, decay: float, failure: float, probe: float) -> None:
        self._decay = decay
        self._failure = failure
        self._probe = probe
        self._flights: dict[Flight, float] = {}  # in order of their start, so the first is the oldest
        self.estimate: float | None = None  # None: never heard from
        self.observed = -math.inf

    def started(self, flight: Flight, now: float) -> None:
        self._flights[flight] = now

    def finished(self, flight: Flight, outcome: Outcome, now: float) -> None:
        del self._flights[flight]
        if outcome.code is Code.CANCELLED:
            return
        took = max(0.0, now - flight.started)
        if outcome.code in FAILURES:
            took = max(took, self._failure)
        alone = not self._flights and flight.started - self.observed >= self._probe
        if self.estimate is None or took >= self.estimate or alone:
            self.estimate = took
        else:
            keep = math.exp(-max(0.0, now - self.observed) / self._decay)
            self.estimate = self.estimate * keep + took * (1.0 - keep)
        self.observed = now

    def cost(self, now: float) -> float:
        """Seconds that one more call would take; 0 for an idle endpoint never heard from, infinite for a busy one."""
        flights = self._flights
        if self.estimate is None:
            return math.inf if flights else 0.0
        if not flights:
            return self.estimate
        age = now - next(iter(flights.values()))
        return max(self.estimate, age) * (len(flights) + 1)

    @property
    def idle(self) -> bool:
        """Whether no call is in flight on it."""
        return not self._flights

    def forgotten(self, now: float) -> bool:
        """Whether it is idle and has not been heard from for `probe` seconds: time to ask it again."""
        return not self._flights and now - self.observed >= self._probe

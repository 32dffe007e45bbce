"""What the calls of one channel share: its members with their breakers and loads, the picker, and the retry budget.

A pool decides where an attempt goes. The balancer chooses among the eligible; the pool itself sends trials to ejected
members whose wait is over, so that no balancer can starve them. The driver of the channel guards it with one lock.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Sequence

from stormproof.core.balancers.base import Balancer
from stormproof.core.breaker import Breaker, Failover, State
from stormproof.core.budget import RetryBudget
from stormproof.core.eligible import Eligible, eligible
from stormproof.core.endpoint import Endpoint
from stormproof.core.load import Load
from stormproof.core.outcome import Code, Outcome


class Member:
    """The running state of one endpoint: attempts in flight, its breaker, and the balancer's load estimate for it."""

    __slots__ = ("breaker", "endpoint", "in_flight", "index", "load")

    def __init__(self, index: int, endpoint: Endpoint, breaker: Breaker, load: Load | None) -> None:
        self.index = index
        self.endpoint = endpoint
        self.breaker = breaker
        self.load = load
        self.in_flight = 0


class Flight:
    """One attempt under way: on which member, since when, and whether it is the trial of an ejected one."""

    __slots__ = ("member", "started", "trial")

    def __init__(self, member: Member, started: float, trial: bool) -> None:
        self.member = member
        self.started = started
        self.trial = trial


class Pool:
    """The shared state of one channel. `failover` None: nobody is ejected and endpoints already tried are not avoided.

    `changed` is called with a member whose breaker opened or closed; it must not call back into the pool.
    """

    __slots__ = ("_due", "_eligible", "_failover", "account", "changed", "members", "picker", "rng")

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        *,
        balancer: Balancer,
        failover: Failover | None,
        budget: RetryBudget,
        rng: random.Random,
        changed: Callable[[Member], None] = lambda _: None,
    ) -> None:
        self.rng = rng
        self.picker = balancer.picker(rng)
        self.account = budget.account()
        self.changed = changed
        self._failover = failover
        config = failover or Failover()
        self.members = [
            Member(index, endpoint, Breaker(config), self.picker.load()) for index, endpoint in enumerate(endpoints)
        ]
        self._eligible = eligible(self.members)
        self._due: list[tuple[float, int, Member]] = []  # when the trial of an ejected member is due; a heap

    def begin(self, now: float, tried: Sequence[Member] = ()) -> Flight:
        """An attempt starts now, on a member chosen for it; members in `tried` only if there is no other."""
        member = self._trial(now, tried) if self._due else None
        trial = member is not None
        if member is None:
            member = self.picker.pick(self._choices(tried) if tried else self._eligible, now)
        flight = Flight(member, now, trial)
        member.in_flight += 1
        if member.load is not None:
            member.load.started(flight, now)
        return flight

    def finished(self, flight: Flight, outcome: Outcome, now: float) -> None:
        """An attempt ended; once for each that began, however it ended."""
        member = flight.member
        member.in_flight -= 1
        if member.load is not None:
            member.load.finished(flight, outcome, now)
        if self._failover is not None and member.breaker.finished(
            outcome, flight.started, now, self.rng, trial=flight.trial
        ):
            self._changed(member)
        if outcome.code is Code.OK:
            self.account.succeeded(now)

    def has_untried(self, tried: Sequence[Member]) -> bool:
        """Whether a member that is not ejected has not been tried yet."""
        if self._failover is None:
            return False
        return any(member.breaker.state is State.CLOSED and member not in tried for member in self.members)

    def _choices(self, tried: Sequence[Member]) -> Eligible:
        """The eligible without the tried; else anybody healthy of another tier; else the eligible once more."""
        if self._failover is None:
            return self._eligible
        untried = self._eligible.without(tried)
        if not untried:
            untried = [m for m in self.members if m.breaker.state is State.CLOSED and m not in tried]
        return eligible(untried) if untried else self._eligible

    def _changed(self, member: Member) -> None:
        self._eligible = eligible(self.members)
        if member.breaker.state is State.OPEN:
            heapq.heappush(self._due, (member.breaker.until, member.index, member))
        self.changed(member)

    def _trial(self, now: float, tried: Sequence[Member]) -> Member | None:
        due = self._due
        while due and due[0][0] <= now:
            at, _, member = due[0]
            breaker = member.breaker
            if breaker.state is State.OPEN and breaker.until == at:
                if member in tried:
                    return None
                heapq.heappop(due)
                breaker.trial()
                return member
            heapq.heappop(due)  # it closed, or opened anew, since this trial was planned
        return None

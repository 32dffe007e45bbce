"""What the calls of one channel share: its members with their breakers and loads, the picker, and the retry budget.

A pool decides where an attempt goes. The balancer chooses among the eligible; the pool itself sends trials to ejected
members whose wait is over, so that no balancer can starve them. Members come and go (`update`): one that has left gets no
further attempt, and those in flight on it finish. What they weigh may change with time: new ones warm up (`SlowStart`),
and servers report their load (`LoadReports`). The driver of the channel guards the pool with one lock.

Who is asked whether it can serve (`checked`) is out while it says no. If it is ejected as well, its trial waits for its
first yes, so that no caller pays for finding out that a server is still dead.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Sequence
from typing import cast

from stormproof.core.balancers.base import Balancer, KeyedPicker
from stormproof.core.breaker import Breaker, State, usual_rate
from stormproof.core.budget import RetryBudget
from stormproof.core.eligible import Eligible, nearest, tiers
from stormproof.core.endpoint import Endpoint
from stormproof.core.failover import Failover
from stormproof.core.health import Answer
from stormproof.core.load import Load
from stormproof.core.outcome import OK, Code, Outcome
from stormproof.core.reports import LoadReport, LoadReports, ReportedWeight, effective_weights

_OK = Code.OK  # by a name of its own: to look up a member of an Enum takes Python 3.11 ten times as long
#: Seconds for which a measure of the whole pool is good.
FRESH = 1.0
#: Steps in which a new endpoint gets its share.
STEPS = 50
#: Members that such a measure looks at, at most; of more, so many drawn at random.
SAMPLE = 64


class Member:
    """The running state of one endpoint: attempts in flight, its breaker, and the balancer's load estimate for it.

    `weight` is what counts now. `gone`: it has left the pool. `due` is when its trial is planned, while it is ejected.
    `serving`: what it says of itself when it is asked; `waits`: its trial waits until it says yes. `since` is when it came,
    or came back.
    """

    __slots__ = (
        "breaker", "due", "endpoint", "gone", "in_flight", "index", "load", "reports", "serving", "since", "waits", "weight",
    )  # fmt: skip

    def __init__(
        self, index: int, endpoint: Endpoint, breaker: Breaker, load: Load | None, reports: ReportedWeight | None
    ) -> None:
        self.index = index
        self.endpoint = endpoint
        self.breaker = breaker
        self.load = load
        self.in_flight = 0
        self.weight = endpoint.weight
        self.gone = False
        self.due = math.inf
        self.serving = True
        self.waits: bool | None = None  # None: nobody asks it
        self.since = -math.inf
        self.reports = reports

    @property
    def well(self) -> bool:
        """Whether nothing speaks against it."""
        return self.breaker.state is State.CLOSED and self.serving


class Flight:
    """One attempt under way: on which member, since when, and whether it is the trial of an ejected one."""

    __slots__ = ("member", "started", "trial")

    def __init__(self, member: Member, started: float, trial: bool) -> None:
        self.member = member
        self.started = started
        self.trial = trial


class Pool:
    """The shared state of one channel. `failover` None: nobody is ejected and endpoints already tried are not avoided.

    `changed` is called with a member whose breaker opened or closed; it must not call back into the pool. `drained` holds
    members that have left and on which nothing is in flight any more, until the driver has taken care of them.
    """

    __slots__ = (
        "_by_address", "_count", "_counted_at", "_counts", "_due", "_ejected", "_eligible", "_failover", "_leaving", "_reports",
        "_slow_start", "_tiers", "_weigh_at",
        "account", "changed", "drained", "members", "picker", "problem", "rng",
    )  # fmt: skip

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        *,
        balancer: Balancer,
        failover: Failover | None,
        budget: RetryBudget,
        rng: random.Random,
        load_reports: LoadReports | None = None,
        changed: Callable[[Member], None] = lambda _: None,
    ) -> None:
        self.rng = rng
        self.picker = balancer.picker(rng)
        self.account = budget.account()
        self.changed = changed
        self._failover = failover
        self._reports = load_reports
        self._slow_start = None if failover is None else failover.slow_start
        self._weigh_at = math.inf if load_reports is None else -math.inf
        self._count = 0
        self.members: list[Member] = []
        self.drained: list[Member] = []
        self.problem = "the channel has no endpoints"  # why, while that is so
        self._by_address: dict[str, Member] = {}
        self._leaving: dict[str, Member] = {}  # with attempts still in flight
        self._due: list[tuple[float, int, Member]] = []  # when the trial of an ejected member is due; a heap
        self._ejected = 0
        self._counts: dict[Breaker, tuple[int, int]] = {}  # failures and calls of each, not long ago
        self._counted_at = -math.inf
        self._eligible = Eligible(())  # of the first tier that serves
        self._tiers: list[tuple[float, Eligible]] = []  # if several serve at once
        self.update(endpoints, -math.inf)

    def update(self, endpoints: Sequence[Endpoint], now: float) -> tuple[list[Endpoint], list[Endpoint]]:
        """From now on these are the endpoints, all different; returns those that came and those that left.

        One that stays keeps its state, also when its weight, priority or zone is another now; so does one that comes
        back while attempts are still in flight on it.
        """
        before, self._by_address = self._by_address, {}
        since = now if before else -math.inf  # the first ones are not new: nobody is there to warm up beside
        came = []
        for endpoint in endpoints:
            address = endpoint.address
            member = before.pop(address, None)
            if member is None:
                came.append(endpoint)
                member = self._leaving.pop(address, None) or self._new(endpoint)
                member.gone = False
                self._came(member, since)
            member.endpoint = endpoint
            member.weight = endpoint.weight
            self._by_address[address] = member
        for member in before.values():
            member.gone = True
            if member.in_flight:
                self._leaving[member.endpoint.address] = member
            else:
                self.drained.append(member)
        self.members = list(self._by_address.values())
        self._ejected = sum(member.breaker.state is not State.CLOSED for member in self.members)
        self._weigh(now)
        self._rebuild()
        return came, [member.endpoint for member in before.values()]

    def knows(self, address: str) -> bool:
        """Whether there is such an endpoint, or an attempt in flight on one that was there."""
        return address in self._by_address or address in self._leaving

    def endpoint(self, address: str) -> Endpoint | None:
        """The endpoint of that address; None if there is none."""
        member = self._by_address.get(address)
        return None if member is None else member.endpoint

    def begin(self, now: float, tried: Sequence[Member] = (), key: str | None = None) -> Flight:
        """An attempt starts now, on a member chosen for it; members in `tried` only if there is no other.

        `key` is for balancers that choose by one (`KeyedPicker`). There must be a member.
        """
        member = self._trial(now, tried) if self._due else None
        trial = member is not None
        if member is None:
            if now >= self._weigh_at and self._weigh(now):
                self._rebuild()
            eligible = self._drawn() if self._tiers else self._eligible
            if key is not None and len(tried) < len(eligible.members):
                member = cast(KeyedPicker, self.picker).pick_for(key, eligible, tried, now)
            else:
                member = self.picker.pick(self._choices(eligible, tried) if tried else eligible, now)
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
            outcome,
            flight.started,
            now,
            self.rng,
            trial=flight.trial,
            fellows=self,
        ):
            self._changed(member, now)
        if outcome.code is _OK:
            self.account.succeeded(now)
        if member.gone and not member.in_flight and self._leaving.pop(member.endpoint.address, None) is not None:
            self.drained.append(member)

    def proven(self, flight: Flight, now: float) -> None:
        """A message has come on a stream that is a trial: its endpoint works, however long the stream goes on."""
        flight.trial = False
        if flight.member.breaker.finished(OK, flight.started, now, self.rng, trial=True):
            self._changed(flight.member, now)

    def checked(self, address: str, answer: Answer, serving: bool, now: float) -> bool:
        """The endpoint was asked whether it can serve, and that is what is known now. Returns whether it is news."""
        member = self._by_address.get(address)
        if member is None:
            return False
        ejected, waited = member.breaker.state is State.OPEN, member.waits
        if answer is Answer.NO_SERVICE:  # it is tried as if nobody asked
            member.waits = None
        elif answer is Answer.SERVING:
            member.waits = False
        elif not serving:
            member.waits = ejected
        if ejected and member.waits:
            member.due = math.inf
        elif ejected and waited:
            self._plan(member, max(now, member.breaker.until))
        if serving is member.serving:
            return False
        member.serving = serving
        if serving:
            self._came(member, now)
        self._rebuild()
        return True

    def reported(self, address: str, report: LoadReport, now: float) -> None:
        """The endpoint told its load with an answer."""
        member = self._by_address.get(address)
        if member is not None and member.reports is not None:
            member.reports.reported(report, now)

    def has_untried(self, tried: Sequence[Member]) -> bool:
        """Whether a member that is not ejected has not been tried yet."""
        if self._failover is None:
            return False
        return any(member.well and member not in tried for member in self.members)

    def usual_rate(self, breaker: Breaker, now: float) -> float:
        """What share of its calls a good member other than the one of `breaker` fails just now."""
        if now >= self._counted_at + FRESH:
            others = self.members if len(self.members) <= SAMPLE else self.rng.sample(self.members, SAMPLE)
            self._counts = {member.breaker: member.breaker.recent(now) for member in others}
            self._counted_at = now
        return usual_rate(count for other, count in self._counts.items() if other is not breaker)

    def may_eject(self) -> bool:
        """Whether one more may be ejected: one always, and not more than `max_ejected` of them."""
        most = 1.0 if self._failover is None else self._failover.max_ejected
        return self._ejected == 0 or self._ejected + 1 <= most * len(self.members)

    def _new(self, endpoint: Endpoint) -> Member:
        reports = None if self._reports is None else ReportedWeight(self._reports)
        member = Member(self._count, endpoint, Breaker(self._failover or Failover()), self.picker.load(), reports)
        self._count += 1
        return member

    def _came(self, member: Member, now: float) -> None:
        """It takes part from now on, or again."""
        member.since = now
        if member.reports is not None:
            member.reports.returned()
        if self._slow_start is not None:
            self._weigh_at = -math.inf

    def _weigh(self, now: float) -> bool:
        """What each member counts for now. Returns whether that changed."""
        members, slow_start = self.members, self._slow_start
        weights = [member.endpoint.weight for member in members]
        if self._reports is not None:
            reported = [member.reports.weight(now) if member.reports is not None else None for member in members]
            weights = effective_weights(reported, weights)
        self._weigh_at = math.inf if self._reports is None else now + self._reports.period
        if slow_start is not None:
            factors = [slow_start.factor(now - member.since) for member in members]
            weights = [weight * factor for weight, factor in zip(weights, factors, strict=True)]
            if factors and min(factors) < 1.0:
                self._weigh_at = min(self._weigh_at, now + slow_start.window / STEPS)
        changed = False
        for member, weight in zip(members, weights, strict=True):
            changed |= member.weight != weight
            member.weight = weight
        return changed

    def _drawn(self) -> Eligible:
        """One of the tiers that serve, by their shares."""
        at = self.rng.random()
        for share, eligible in self._tiers:
            at -= share
            if at < 0.0:
                return eligible
        return self._eligible

    def _choices(self, eligible: Eligible, tried: Sequence[Member]) -> Eligible:
        """The eligible without the tried; else anybody well of another tier; else the eligible once more."""
        if self._failover is None:
            return eligible
        untried = eligible.without(tried) or [m for m in self.members if m.well and m not in tried]
        return nearest(untried, self._failover) if untried else eligible

    def _rebuild(self) -> None:
        if self.members:
            found = tiers(self.members, self._failover or Failover())
            self._eligible = found[0][1]
            self._tiers = found if len(found) > 1 else []
        else:
            self._eligible, self._tiers = Eligible(()), []

    def _changed(self, member: Member, now: float) -> None:
        state = member.breaker.state
        if state is State.CLOSED:
            self._came(member, now)
        elif state is State.OPEN and member.waits is not None:
            member.waits = True
        elif state is State.OPEN:
            self._plan(member, member.breaker.until)
        if not member.gone:
            self._ejected = sum(member.breaker.state is not State.CLOSED for member in self.members)
            self._rebuild()
        self.changed(member)

    def _plan(self, member: Member, moment: float) -> None:
        """The trial of an ejected member is due at `moment`."""
        member.due = moment
        heapq.heappush(self._due, (moment, member.index, member))
        if len(self._due) > 64 + 2 * len(self.members):  # of plans that were put off, while nobody calls
            self._due = [plan for plan in self._due if plan[2].due == plan[0] and not plan[2].gone]
            heapq.heapify(self._due)

    def _trial(self, now: float, tried: Sequence[Member]) -> Member | None:
        due = self._due
        while due and due[0][0] <= now:
            at, _, member = due[0]
            if member.breaker.state is State.OPEN and member.due == at and not member.gone:
                if member in tried:
                    return None
                heapq.heappop(due)
                member.breaker.trial()
                return member
            heapq.heappop(due)  # it closed, or opened anew, or left, since this trial was planned
        return None

"""Clients that keep no deadline, begin it anew, tell no server of it, or leave their work behind."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from faults import Blackhole, Errors, Overload, during, every, one
from harness.client import Client
from harness.guarantees import AvoidsFaulty, Recovers, StopsWork, WithinDeadline
from harness.saboteurs.base import Saboteur, lacking, planted
from harness.saboteurs.retries import NeverSpent
from harness.scenario import Scenario, Servers
from harness.service_time import LogNormal
from harness.workload import Poisson
from stormproof.core.balancers.round_robin import RoundRobin
from stormproof.core.budget import RetryBudget
from stormproof.core.call import Action, Call, Cancel, Cause, Finish, Start, State
from stormproof.core.outcome import Code, Evidence, Outcome
from stormproof.core.policy import Backoff, Policy, Retry

#: One server is silent: a call that meets it has used up half of its time when it is tried again, and the rest with the next.
SILENT = Scenario(
    servers=Servers(3),
    client=Client(
        balancer=RoundRobin(),
        policy=Policy(timeout=0.5, attempt_timeout=0.3, idempotent=True, retry=Retry(attempts=3)),
    ),
    workload=Poisson(rate=100, seconds=5),
    faults=[during(0.5, 3, Blackhole(), on=one)],
    guarantees=[WithinDeadline(0.5), AvoidsFaulty(within=1.0)],
)
#: Every server fails every call for a while: there is much to retry, and little time for it.
FAILING = Scenario(
    servers=Servers(3),
    client=Client(
        balancer=RoundRobin(),
        policy=Policy(timeout=0.2, retry=Retry(attempts=5, backoff=Backoff(base=0.2, cap=0.2))),
        budget=RetryBudget(per_second=100.0),
    ),
    workload=Poisson(rate=100, seconds=7),
    faults=[during(0.5, 3, Errors(1.0), on=every)],
    guarantees=[WithinDeadline(0.2, tolerance=0.05), Recovers(within=2.0)],
)
#: Work takes longer now and then than anybody waits for it.
SLOW = Scenario(
    servers=Servers(3, service_time=LogNormal(0.1, sigma=1.0), workers=64),
    client=Client(balancer=RoundRobin(), policy=Policy(timeout=0.3, retry=None)),
    workload=Poisson(rate=100, seconds=5),
    guarantees=[StopsWork(), WithinDeadline(0.3)],
)
#: The servers are slow for a second: three quarters busy before, they have a queue after it.
TRIGGERED = Scenario(
    servers=Servers(3, service_time=0.02, workers=4),
    client=Client(
        balancer=RoundRobin(),
        policy=Policy(timeout=0.6, attempt_timeout=0.2, idempotent=True, retry=Retry(attempts=4)),
    ),
    workload=Poisson(rate=500, seconds=6),
    faults=[during(1, 2, Overload(0, delay=0.2), on=every)],
    guarantees=[Recovers(within=2.0)],
)
#: The same, for a client that gives a call up only when it is over.
TRIGGERED_PATIENT = replace(
    TRIGGERED, client=lacking(TRIGGERED.client, policy=Policy(timeout=0.6, idempotent=True, retry=Retry(attempts=4)))
)


class _Restarting(Call):
    __slots__ = ()

    def _start(self, now: float, cause: Cause) -> Start:
        assert self.timeout is not None
        self.deadline = now + self.timeout
        return super()._start(now, cause)


class RestartsDeadline(Client):
    """Every attempt has the whole time of the call."""

    CALL: ClassVar[type[Call]] = _Restarting


class _Overdue(Call):
    __slots__ = ()

    def _time_is_left(self, now: float, delay: float) -> bool:
        if self.deadline is not None and now + delay >= self.deadline:
            self.deadline = now + delay + 0.1
        return True


class RetriesPastDeadline(Client):
    """Begins a further attempt though the time of the call is over, and gives it a little more."""

    CALL: ClassVar[type[Call]] = _Overdue


class _ByItself(Call):
    """Watches the clock itself, as `asyncio.wait_for` does: what an attempt is told of the time is another matter."""

    __slots__ = ()

    def _start(self, now: float, cause: Cause) -> Start:
        started = super()._start(now, cause)
        self.wake_at = self.deadline
        return started._replace(timeout=self._told())

    def _told(self) -> float | None:
        return None

    def woke(self, now: float) -> list[Action]:
        if self.state is State.RUNNING and self.deadline is not None and now >= self.deadline:
            return self._finish(Finish(self.attempts, Outcome(Code.DEADLINE_EXCEEDED, Evidence.LOST, "too late")))
        actions = super().woke(now)
        self.wake_at = self.wake_at or self.deadline
        return actions


class KeepsDeadlineToItself(Client):
    """Ends its calls in time, and tells no server when that is."""

    CALL: ClassVar[type[Call]] = _ByItself


class _TellsAll(_ByItself):
    __slots__ = ()

    def _told(self) -> float | None:
        return self.timeout


class TellsWholeTimeout(Client):
    """Tells each server the time that the call had at its beginning, not what is left of it."""

    CALL: ClassVar[type[Call]] = _TellsAll


class _Leaving(_ByItself):
    __slots__ = ()

    def _finish(self, finish: Finish) -> list[Action]:
        return [action for action in super()._finish(finish) if type(action) is not Cancel]


class LeavesWorkBehind(Client):
    """Stops waiting, tells no server so, and has told none when it would."""

    CALL: ClassVar[type[Call]] = _Leaving


PLANTED = (
    Saboteur(
        name="deadline-restarted",
        defect="gives every attempt the time of the whole call",
        day=FAILING,
        client=planted(RestartsDeadline, FAILING.client),
        found_by=WithinDeadline,
        published=(6,),
    ),
    Saboteur(
        name="retries-past-the-deadline",
        defect="begins another attempt when the time of the call is over",
        day=FAILING,
        client=planted(RetriesPastDeadline, FAILING.client),
        found_by=WithinDeadline,
        published=(6,),
    ),
    Saboteur(
        name="deadline-not-sent",
        defect="keeps the deadline to itself: no server hears of it",
        day=SLOW,
        client=planted(KeepsDeadlineToItself, SLOW.client),
        found_by=WithinDeadline,
        published=(6,),
    ),
    Saboteur(
        name="deadline-sent-whole",
        defect="tells every server the time of the whole call, also when half of it is over",
        day=FAILING,
        client=planted(TellsWholeTimeout, FAILING.client),
        found_by=WithinDeadline,
        published=(6,),
    ),
    Saboteur(
        name="deadline-none",
        defect="has no deadline, as gRPC's default is: a call into a black hole hangs for ever",
        day=SILENT,
        client=lacking(SILENT.client, policy=Policy(timeout=None, retry=Retry(attempts=3))),
        found_by=WithinDeadline,
        published=(7,),
    ),
    Saboteur(
        name="work-left-behind",
        defect="stops waiting and lets the server work on, for nobody",
        day=SLOW,
        client=planted(LeavesWorkBehind, SLOW.client),
        found_by=StopsWork,
        published=(18,),
    ),
    Saboteur(
        name="work-keeps-the-queue-full",
        defect="lets the servers work on for calls that it has given up: they never get to those that somebody waits for",
        day=TRIGGERED_PATIENT,
        client=planted(LeavesWorkBehind, TRIGGERED_PATIENT.client),
        found_by=Recovers,
        published=(17, 18),
    ),
    Saboteur(
        name="retries-keep-the-queue-full",
        defect="retries without a budget: the retries alone keep the servers as busy as the trouble that is over",
        day=TRIGGERED,
        client=lacking(TRIGGERED.client, budget=NeverSpent()),
        found_by=Recovers,
        published=(1, 17),
    ),
)

"""Clients that try again wrongly: too often, all together, what must not be done twice, or where it has just failed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from faults import Blackhole, Errors, Reset, during, every, every_so_often, named, some
from harness.client import AnyClient, Client
from harness.guarantees import (
    AtMostOnce,
    Available,
    NoRetryStorm,
    NothingLost,
    Recovers,
    RetriesElsewhere,
    SpreadsRetries,
    WithinBudget,
    WithinDeadline,
)
from harness.saboteurs.base import Saboteur, lacking, planted
from harness.scenario import Scenario, Servers
from harness.workload import Poisson
from stormproof.core.balancers.round_robin import RoundRobin
from stormproof.core.budget import Account, RetryBudget
from stormproof.core.call import Action, Call, Finish
from stormproof.core.outcome import OK, Code, Evidence, Outcome
from stormproof.core.policy import Backoff, Policy, Retry
from stormproof.core.pool import Flight, Member, Pool

#: An outage of all servers, which no retry can help.
OUTAGE = Scenario(
    servers=Servers(3),
    client=Client(balancer=RoundRobin(), policy=Policy(timeout=1.0, retry=Retry(attempts=4))),
    workload=Poisson(rate=200, seconds=6),
    faults=[during(1, 3, Errors(1.0), on=every)],
    guarantees=[NoRetryStorm(attempts_per_call=1.2), WithinBudget(attempts=4), Recovers(within=2.0)],
)
#: Hardly a call goes well, and the budget allows every retry: what a policy allows is all that bounds them.
STUBBORN = Scenario(
    servers=Servers(3),
    client=Client(
        balancer=RoundRobin(),
        policy=Policy(timeout=1.0, retry=Retry(attempts=4, backoff=Backoff(base=0.001))),
        budget=RetryBudget.unlimited(),
    ),
    workload=Poisson(rate=50, seconds=3),
    faults=[during(0.5, 2.5, Errors(0.9), on=every)],
    guarantees=[WithinBudget(attempts=4, ratio=1.0, per_second=1000.0)],
)
#: One call in twelve fails: every one of them can be saved by one retry, elsewhere.
NOISE = Scenario(
    servers=Servers(3),
    client=Client(balancer=RoundRobin(), policy=Policy(timeout=1.0, retry=Retry(attempts=4))),
    workload=Poisson(rate=400, seconds=4),
    faults=[during(0.5, 3.5, Errors(0.25), on=named("server-1"))],
    guarantees=[Available(0.99), SpreadsRetries(), RetriesElsewhere(), NoRetryStorm(attempts_per_call=1.2)],
)
#: A connection breaks when the answer is under way: the work has been done. The method is not declared idempotent.
TORN_AWAY = Scenario(
    servers=Servers(4),
    client=Client(balancer=RoundRobin(), policy=Policy(timeout=1.0, retry=Retry(attempts=3)), failover=None),
    workload=Poisson(rate=200, seconds=4),
    faults=[every_so_often(0.4, Reset(towards="client"), lasting=0.1, start=0.5, end=3.5, on=some(2))],
    guarantees=[AtMostOnce(), NothingLost()],
)
#: Answers vanish: the servers have committed the work, and nobody hears of it.
UNHEARD = Scenario(
    servers=Servers(4),
    client=Client(balancer=RoundRobin(), policy=Policy(timeout=1.0, attempt_timeout=0.2, retry=Retry(attempts=3))),
    workload=Poisson(rate=200, seconds=4),
    faults=[during(0.5, 3, Blackhole(towards="client"), on=some(2))],
    guarantees=[AtMostOnce(), NothingLost(), WithinDeadline(1.0)],
)
#: Requests vanish: nothing is done, and nobody hears of that either.
UNASKED = Scenario(
    servers=Servers(4),
    client=UNHEARD.client,
    workload=UNHEARD.workload,
    faults=[during(0.5, 3, Blackhole(towards="server"), on=some(2))],
    guarantees=[NothingLost(), AtMostOnce(), WithinDeadline(1.0)],
)


class _Generous(Account):
    __slots__ = ()

    def withdraw(self, now: float) -> bool:  # noqa: ARG002
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class NeverSpent(RetryBudget):
    """A budget that never says no."""

    def account(self) -> Account:
        return _Generous(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exact(Backoff):
    """Backoff without jitter."""

    def delay(self, failed: int, rng: random.Random) -> float:  # noqa: ARG002
        return min(self.cap, self.base * self.multiplier ** (failed - 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class TakesAllForHarmless(Policy):
    """Repeats whatever failed with UNAVAILABLE, and with `timeouts` what timed out, though it may have been done."""

    timeouts: bool = False

    def may_repeat(self, outcome: Outcome) -> bool:
        return outcome.code is Code.UNAVAILABLE or (self.timeouts and outcome.code is Code.DEADLINE_EXCEEDED)


class _Forgetful(Pool):
    __slots__ = ()

    def begin(self, now: float, tried: Sequence[Member] = (), key: str | None = None) -> Flight:  # noqa: ARG002
        return super().begin(now, (), key)


class ForgetsWhereItWas(Client):
    """A further attempt may go where the call has just failed."""

    POOL: ClassVar[type[Pool]] = _Forgetful


class _Faithful(Pool):
    __slots__ = ()

    def begin(self, now: float, tried: Sequence[Member] = (), key: str | None = None) -> Flight:
        if not tried:
            return super().begin(now, tried, key)
        tried[-1].in_flight += 1
        return Flight(tried[-1], now, False)


class GoesBack(Client):
    """A further attempt goes where the call has just failed."""

    POOL: ClassVar[type[Pool]] = _Faithful


class _Hopeful(Call):
    __slots__ = ()

    def _finish(self, finish: Finish) -> list[Action]:
        lost = finish.outcome.evidence is Evidence.LOST
        return super()._finish(Finish(finish.attempt, OK) if lost else finish)


class TakesUnknownForDone(Client):
    """A call whose answer never came has probably been done."""

    CALL: ClassVar[type[Call]] = _Hopeful


def _harmless(client: AnyClient, *, timeouts: bool = False) -> Client:
    """`client` with a policy that takes for harmless what is not."""
    assert isinstance(client, Client)
    was = client.policy
    wrong = TakesAllForHarmless(
        timeout=was.timeout, attempt_timeout=was.attempt_timeout, retry=was.retry, timeouts=timeouts
    )
    return lacking(client, policy=wrong)


PLANTED = (
    Saboteur(
        name="retries-without-budget",
        defect="retries every failed call as often as its policy allows, whatever the others do",
        day=OUTAGE,
        client=lacking(OUTAGE.client, budget=NeverSpent()),
        found_by=NoRetryStorm,
        published=(1,),
    ),
    Saboteur(
        name="retries-over-the-budget",
        defect="asks its budget and does not pay",
        day=OUTAGE,
        client=lacking(OUTAGE.client, budget=NeverSpent()),
        found_by=WithinBudget,
        published=(1,),
    ),
    Saboteur(
        name="retries-once-too-often",
        defect="counts retries where its policy means attempts, the first one in",
        day=STUBBORN,
        client=lacking(
            STUBBORN.client, policy=Policy(timeout=1.0, retry=Retry(attempts=5, backoff=Backoff(base=0.001)))
        ),
        found_by=WithinBudget,
        published=(1,),
    ),
    Saboteur(
        name="retries-in-two-layers",
        defect="wraps a client that tries three times in a loop that tries three times: nine attempts",
        day=OUTAGE,
        client=lacking(
            OUTAGE.client,
            budget=NeverSpent(),
            policy=Policy(timeout=1.0, retry=Retry(attempts=9, backoff=Backoff(cap=0.1))),
        ),
        found_by=NoRetryStorm,
        published=(1, 2),
    ),
    Saboteur(
        name="retries-without-jitter",
        defect="waits exactly 25 ms before the first retry, 50 ms before the second",
        day=NOISE,
        client=lacking(NOISE.client, policy=Policy(timeout=1.0, retry=Retry(attempts=4, backoff=Exact()))),
        found_by=SpreadsRetries,
        published=(3,),
    ),
    Saboteur(
        name="retries-at-once",
        defect="retries without any wait",
        day=NOISE,
        client=lacking(NOISE.client, policy=Policy(timeout=1.0, retry=Retry(attempts=4, backoff=Backoff(base=0.0)))),
        found_by=SpreadsRetries,
        published=(3,),
    ),
    Saboteur(
        name="retries-never",
        defect="gives up with the first error",
        day=NOISE,
        client=lacking(NOISE.client, policy=Policy(timeout=1.0, retry=None)),
        found_by=Available,
    ),
    Saboteur(
        name="retries-where-it-was",
        defect="does not remember where a call has failed",
        day=NOISE,
        client=planted(ForgetsWhereItWas, NOISE.client),
        found_by=RetriesElsewhere,
        published=(10,),
    ),
    Saboteur(
        name="retries-on-the-same-server",
        defect="retries on the server that has just failed the call",
        day=NOISE,
        client=planted(GoesBack, NOISE.client),
        found_by=RetriesElsewhere,
        published=(10,),
    ),
    Saboteur(
        name="retries-what-is-not-idempotent",
        defect="takes every UNAVAILABLE for a call that was not done",
        day=TORN_AWAY,
        client=_harmless(TORN_AWAY.client),
        found_by=AtMostOnce,
        published=(4, 23),
    ),
    Saboteur(
        name="retries-after-commit",
        defect="takes a call that timed out for one that was not done, though the server had committed it",
        day=UNHEARD,
        client=_harmless(UNHEARD.client, timeouts=True),
        found_by=AtMostOnce,
        published=(4, 5),
    ),
    Saboteur(
        name="unknown-taken-for-done",
        defect="reports a call as done whose answer never came",
        day=UNASKED,
        client=planted(TakesUnknownForDone, UNASKED.client),
        found_by=NothingLost,
        published=(5,),
    ),
)

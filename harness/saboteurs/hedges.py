"""Clients that hedge wrongly: without a cap, to the same server, or with losers that work on or count."""

from __future__ import annotations

import random
from typing import ClassVar

from faults import Errors, Latency, during, every, named
from harness.client import Client
from harness.guarantees import Available, HealthyShare, NoRetryStorm, NoStrays, RetriesElsewhere, StopsWork
from harness.saboteurs.base import Saboteur, planted
from harness.saboteurs.failover import PlantedBreaker
from harness.saboteurs.retries import GoesBack
from harness.scenario import Scenario, Servers
from harness.service_time import LogNormal
from harness.workload import Poisson
from stormproof.core.balancers.round_robin import RoundRobin
from stormproof.core.breaker import NOBODY, Breaker, Fellows
from stormproof.core.budget import RetryBudget
from stormproof.core.call import Action, Call, Cancel, Cause, Finish
from stormproof.core.failover import Failover
from stormproof.core.outcome import Code, Evidence, Outcome
from stormproof.core.policy import Hedge, Policy
from stormproof.core.pool import Pool

#: All servers turn slow: hedging helps nobody, and must not double the load.
ALL_SLOW = Scenario(
    servers=Servers(3),
    client=Client(balancer=RoundRobin(), policy=Policy(timeout=1.0, hedge=Hedge(after=0.02, attempts=3))),
    workload=Poisson(rate=200, seconds=4),
    faults=[during(0.5, 3, Latency(0.1), on=every)],
    guarantees=[NoRetryStorm(attempts_per_call=1.25), Available(0.99)],
)
#: Work takes long now and then, on all servers: that is what hedging is for.
TAILS = Scenario(
    servers=Servers(4, service_time=LogNormal(0.01, sigma=1.2), workers=64),
    client=Client(balancer=RoundRobin(), policy=Policy(timeout=1.0, hedge=Hedge(after=0.03))),
    workload=Poisson(rate=300, seconds=4),
    guarantees=[
        StopsWork(within=0.02),
        RetriesElsewhere(),
        NoStrays(),
        NoRetryStorm(attempts_per_call=1.2),
        Available(0.99),
    ],
)
#: One server fails, and not at once: a copy is out by then, and will do well.
LATE_ERRORS = Scenario(
    servers=Servers(4, service_time=0.02),
    client=Client(
        balancer=RoundRobin(),
        policy=Policy(timeout=1.0, hedge=Hedge(after=0.02)),
        failover=Failover(consecutive=1000, rate=1.0, minimum=10_000),
        budget=RetryBudget(ratio=1.0, per_second=100.0),
    ),
    workload=Poisson(rate=200, seconds=4),
    faults=[during(0.5, 3.5, fault, on=named("server-1")) for fault in (Errors(1.0, code="INTERNAL"), Latency(0.03))],
    guarantees=[Available(0.99)],
)
#: One server has most of the weight, and is busy: copies of its calls often win elsewhere. It is well all the same.
BUSY = Scenario(
    servers=Servers(4, weights=(1, 1, 1, 3), service_time=0.010, workers=2),
    client=Client(
        balancer=RoundRobin(),
        policy=Policy(timeout=1.0, hedge=Hedge(after=0.012)),
        budget=RetryBudget(ratio=1.0, per_second=100.0),
    ),
    workload=Poisson(rate=480, seconds=5),
    guarantees=[HealthyShare(), Available(0.99)],
)


class _Uncapped(Call):
    __slots__ = ()

    def _hedge(self, now: float) -> list[Action]:
        hedge = self._policy.hedge
        if hedge is None or self._copies >= hedge.attempts:
            return []
        self._copies += 1
        return [self._start(now, Cause.HEDGE)]


class HedgesWithoutCap(Client):
    """Pays for no copy: when all servers are slow, every call is sent three times."""

    CALL: ClassVar[type[Call]] = _Uncapped


class _Careless(Call):
    __slots__ = ()

    def _finish(self, finish: Finish) -> list[Action]:
        return [action for action in super()._finish(finish) if type(action) is not Cancel]


class LeavesLosersRunning(Client):
    """Takes the first answer, and lets the other copies be worked on."""

    CALL: ClassVar[type[Call]] = _Careless


class _Hasty(Call):
    __slots__ = ()

    def _harmless(self, outcome: Outcome) -> bool:  # noqa: ARG002
        return False


class FirstFailureWins(Client):
    """The first answer ends the race, also when it is an error."""

    CALL: ClassVar[type[Call]] = _Hasty


class _Blaming(Breaker):
    __slots__ = ()

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
        if outcome.code is Code.CANCELLED:
            outcome = Outcome(Code.UNAVAILABLE, Evidence.LOST)
        return super().finished(outcome, started, now, rng, trial=trial, fellows=fellows)


class _BlamingPool(PlantedBreaker):
    __slots__ = ()
    breaker = _Blaming


class BlamesLosers(Client):
    """A copy that lost the race counts as a failure of its server."""

    POOL: ClassVar[type[Pool]] = _BlamingPool


PLANTED = (
    Saboteur(
        name="hedges-without-cap",
        defect="sends every copy that its policy allows, whatever that adds to the load",
        day=ALL_SLOW,
        client=planted(HedgesWithoutCap, ALL_SLOW.client),
        found_by=NoRetryStorm,
        published=(20, 31),
    ),
    Saboteur(
        name="hedge-losers-not-cancelled",
        defect="takes the first answer and cancels nobody",
        day=TAILS,
        client=planted(LeavesLosersRunning, TAILS.client),
        found_by=StopsWork,
        published=(18, 20),
    ),
    Saboteur(
        name="hedge-losers-outlive-their-call",
        defect="has answered its caller, and goes on with attempts of that call",
        day=TAILS,
        client=planted(LeavesLosersRunning, TAILS.client),
        found_by=NoStrays,
        published=(20, 30),
    ),
    Saboteur(
        name="hedge-losers-counted",
        defect="counts a copy that lost the race as a failure of its server, and ejects it",
        day=BUSY,
        client=planted(BlamesLosers, BUSY.client),
        found_by=HealthyShare,
        published=(20,),
    ),
    Saboteur(
        name="hedges-to-the-same-server",
        defect="sends the copy to the server that has not answered yet",
        day=TAILS,
        client=planted(GoesBack, TAILS.client),
        found_by=RetriesElsewhere,
        published=(20,),
    ),
    Saboteur(
        name="hedge-first-failure-wins",
        defect="ends the race with the first answer, also with an error",
        day=LATE_ERRORS,
        client=planted(FirstFailureWins, LATE_ERRORS.client),
        found_by=Available,
        published=(20,),
    ),
)

"""Clients that eject nobody, the wrong ones or all, let a crowd through, or never come back."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import ClassVar

from faults import Blackhole, Errors, Refuse, during, every_so_often, named
from harness.client import Client
from harness.guarantees import Available, AvoidsFaulty, HealthyShare, Recovers
from harness.saboteurs.base import Saboteur, lacking, planted
from harness.scenario import Scenario, Servers
from harness.service_time import LogNormal
from harness.workload import Poisson
from stormproof.core.balancers.round_robin import RoundRobin
from stormproof.core.breaker import NOBODY, Breaker, Fellows
from stormproof.core.breaker import State as Breaks
from stormproof.core.call import Action, Call, Finish
from stormproof.core.endpoint import Endpoint
from stormproof.core.outcome import Code, Evidence, Outcome
from stormproof.core.policy import Policy, Retry
from stormproof.core.pool import Flight, Member, Pool

HIT = named("server-1")
PATIENT = Policy(timeout=1.0, attempt_timeout=0.25, idempotent=True, retry=Retry(attempts=3))
#: One server swallows everything, and is well again.
HOLE = Scenario(
    servers=Servers(3),
    client=Client(balancer=RoundRobin(), policy=PATIENT),
    workload=Poisson(rate=300, seconds=8),
    faults=[during(1, 5, Blackhole(), on=HIT)],
    guarantees=[AvoidsFaulty(within=0.5, share=0.01), Recovers(within=2.0), Available(0.99)],
)
#: One server fails every call at once, and is well again.
BROKEN = Scenario(
    servers=Servers(3),
    client=Client(balancer=RoundRobin(), policy=Policy(timeout=1.0, retry=Retry(attempts=3))),
    workload=Poisson(rate=300, seconds=8),
    faults=[during(1, 5, Errors(1.0), on=HIT)],
    guarantees=[AvoidsFaulty(within=0.5, share=0.02), Recovers(within=2.0), HealthyShare(), Available(0.99)],
)
#: The servers of the first tier are gone for a while; those of the second serve meanwhile.
TIERS = Scenario(
    servers=Servers(4, priorities=(0, 0, 1, 1)),
    client=Client(balancer=RoundRobin(), policy=Policy(timeout=1.0, retry=Retry(attempts=3))),
    workload=Poisson(rate=200, seconds=8),
    faults=[during(1, 3, Refuse(), on=named("server-0", "server-1"))],
    guarantees=[Recovers(within=2.5), Available(0.99)],
)
#: One call in a hundred takes longer than its attempt may, on all servers: none is worse than the others.
NOISY = Scenario(
    servers=Servers(4, service_time=LogNormal(0.005, sigma=1.0), workers=64),
    client=Client(
        balancer=RoundRobin(),
        policy=Policy(timeout=1.0, attempt_timeout=0.05, idempotent=True, retry=Retry(attempts=4)),
    ),
    workload=Poisson(rate=400, seconds=5),
    guarantees=[HealthyShare(), Available(0.99)],
)
#: Two of three are gone, and the third one again and again, for a tenth of a second.
LAST_ONE = Scenario(
    servers=Servers(3),
    client=Client(balancer=RoundRobin(), policy=Policy(timeout=1.0, retry=Retry(attempts=3))),
    workload=Poisson(rate=200, seconds=6),
    faults=[
        during(0.5, 6, Refuse(), on=named("server-0", "server-2")),
        every_so_often(1.0, Refuse(), lasting=0.1, start=1, end=6, on=HIT),
    ],
    guarantees=[Available(0.75)],
)


class PlantedBreaker(Pool):
    """A pool whose members have breakers of another kind."""

    __slots__ = ()
    breaker: ClassVar[type[Breaker]]

    def _new(self, endpoint: Endpoint) -> Member:
        member = super()._new(endpoint)
        member.breaker = self.breaker(member.breaker._config)
        return member


class _Silent(Breaker):
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
        if outcome.code is Code.DEADLINE_EXCEEDED:
            return False
        return super().finished(outcome, started, now, rng, trial=trial, fellows=fellows)


class _SilencePool(PlantedBreaker):
    __slots__ = ()
    breaker = _Silent


class TakesSilenceForNothing(Client):
    """A call that timed out says nothing about its server: only errors that it answers do."""

    POOL: ClassVar[type[Pool]] = _SilencePool


class _Nervous(Breaker):
    __slots__ = ()

    def _too_many(self, outcome: Outcome, fellows: Fellows, now: float) -> bool:  # noqa: ARG002
        return True


class _NervousPool(PlantedBreaker):
    __slots__ = ()
    breaker = _Nervous


class EjectsTheHealthy(Client):
    """One failure ejects, however many calls went well, and however often the others fail."""

    POOL: ClassVar[type[Pool]] = _NervousPool


class _TooFew(Pool):
    __slots__ = ()

    def may_eject(self) -> bool:
        return len(self.members) >= 5


class EjectsNobodyOfThree(Client):
    """Outlier detection that needs five hosts (the default of gRFC A50) and does nothing in a fleet of three."""

    POOL: ClassVar[type[Pool]] = _TooFew


class _SharedPool(Pool):
    __slots__ = ()

    def _new(self, endpoint: Endpoint) -> Member:
        member = super()._new(endpoint)
        if self.members or self._by_address:
            member.breaker = next(iter(self._by_address.values())).breaker
        return member


class SharesOneBreaker(Client):
    """One breaker for all servers: the bad one is lost among the good, or takes them all with it."""

    POOL: ClassVar[type[Pool]] = _SharedPool


class _Crowding(Pool):
    __slots__ = ()

    def begin(self, now: float, tried: Sequence[Member] = (), key: str | None = None) -> Flight:
        for member in self.members:
            if member.breaker.state is Breaks.HALF_OPEN and self.rng.random() * len(self.members) < 1.0:
                member.in_flight += 1
                return Flight(member, now, True)
        return super().begin(now, tried, key)


class LetsACrowdThrough(Client):
    """While a trial is out, everybody tries."""

    POOL: ClassVar[type[Pool]] = _Crowding


class _Unproven(Pool):
    __slots__ = ()

    def _trial(self, now: float, tried: Sequence[Member]) -> Member | None:
        member = super()._trial(now, tried)
        if member is not None:
            member.breaker._close(now)
            self._changed(member, now)
        return None


class ClosesUnproven(Client):
    """When the wait is over the breaker closes, without a trial."""

    POOL: ClassVar[type[Pool]] = _Unproven


class _Final(Pool):
    __slots__ = ()

    def _trial(self, now: float, tried: Sequence[Member]) -> Member | None:  # noqa: ARG002
        return None


class NeverReturns(Client):
    """Who has been ejected stays so."""

    POOL: ClassVar[type[Pool]] = _Final


class _Settled(Pool):
    __slots__ = ()

    def _rebuild(self) -> None:
        before = getattr(self, "_eligible", None)
        super()._rebuild()
        if before is not None and before.tier > self._eligible.tier and all(m.well for m in before.members):
            self._eligible = before


class SticksToTheBackup(Client):
    """Once it has turned to the second tier, it stays there as long as that is well."""

    POOL: ClassVar[type[Pool]] = _Settled


class _Empty(Call):
    __slots__ = ()

    def begin(self, now: float, waited: float = 0.0) -> list[Action]:
        pool = self._pool
        if any(m.well for m in pool.members) or (pool._due and pool._due[0][0] <= now):
            return super().begin(now, waited)
        return [Finish(0, Outcome(Code.UNAVAILABLE, Evidence.NEVER_SENT, "no endpoint is left"))]


class EmptiesThePool(Client):
    """When all are ejected, nobody is called."""

    CALL: ClassVar[type[Call]] = _Empty


PLANTED = (
    Saboteur(
        name="ejects-nobody",
        defect="goes on calling a server that answers nothing, in its turn",
        day=HOLE,
        client=lacking(HOLE.client, failover=None),
        found_by=AvoidsFaulty,
        published=(10,),
    ),
    Saboteur(
        name="ejects-nobody-of-three",
        defect="has outlier detection that asks for five hosts, as gRPC's default does, in a fleet of three",
        day=HOLE,
        client=planted(EjectsNobodyOfThree, HOLE.client),
        found_by=AvoidsFaulty,
        published=(15,),
    ),
    Saboteur(
        name="takes-silence-for-nothing",
        defect="counts errors against a server, but no timeouts",
        day=HOLE,
        client=planted(TakesSilenceForNothing, HOLE.client),
        found_by=AvoidsFaulty,
        published=(10, 16),
    ),
    Saboteur(
        name="ejects-the-healthy",
        defect="ejects a server after one failure, however often the others fail",
        day=NOISY,
        client=planted(EjectsTheHealthy, NOISY.client),
        found_by=HealthyShare,
        published=(15,),
    ),
    Saboteur(
        name="empties-the-pool",
        defect="fails every call at once when all servers are ejected, in place of trying them",
        day=LAST_ONE,
        client=planted(EmptiesThePool, LAST_ONE.client),
        found_by=Available,
        published=(15,),
    ),
    Saboteur(
        name="never-returns",
        defect="never tries an ejected server again",
        day=BROKEN,
        client=planted(NeverReturns, BROKEN.client),
        found_by=Recovers,
        published=(9, 11, 19),
    ),
    Saboteur(
        name="sticks-to-the-backup",
        defect="stays with the servers of the second tier when those of the first are back",
        day=TIERS,
        client=planted(SticksToTheBackup, TIERS.client),
        found_by=Recovers,
        published=(9,),
    ),
    Saboteur(
        name="half-open-crowd",
        defect="lets everybody through while a single trial is out",
        day=HOLE,
        client=planted(LetsACrowdThrough, HOLE.client),
        found_by=AvoidsFaulty,
        published=(19,),
    ),
    Saboteur(
        name="breaker-closes-unproven",
        defect="closes the breaker when its time is over, without a trial",
        day=HOLE,
        client=planted(ClosesUnproven, HOLE.client),
        found_by=AvoidsFaulty,
        published=(19,),
    ),
    Saboteur(
        name="breaker-shared-by-all",
        defect="has one breaker for all servers",
        day=BROKEN,
        client=planted(SharesOneBreaker, BROKEN.client),
        found_by=AvoidsFaulty,
        published=(19,),
    ),
)

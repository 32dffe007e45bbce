"""Balancers that misjudge load: counters that leak, averages that see too little, too late, or the wrong thing."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from faults import Blackhole, Errors, Latency, Pause, during, named
from harness.client import Client
from harness.guarantees import Available, AvoidsFaulty, Fast, Recovers, WithinDeadline
from harness.saboteurs.base import Saboteur, lacking, planted
from harness.scenario import Scenario, Servers
from harness.workload import Poisson
from stormproof.core.balancers.base import Picker
from stormproof.core.balancers.least_request import LeastRequest
from stormproof.core.balancers.peak_ewma import PeakEwma, _PeakEwmaPicker
from stormproof.core.load import CHANGE, Load, PeakEwmaLoad
from stormproof.core.outcome import OK, Code, Outcome
from stormproof.core.policy import Hedge, Policy, Retry
from stormproof.core.pool import Flight, Pool

if TYPE_CHECKING:
    from stormproof.core.eligible import Eligible
    from stormproof.core.pool import Member

HIT = named("server-1")
PATIENT = Policy(timeout=1.0, attempt_timeout=0.25, idempotent=True, retry=Retry(attempts=3))
#: One server errs in part of its calls for two seconds, and is well again.
ERRING = Scenario(
    servers=Servers(3, service_time=0.010),
    client=Client(balancer=LeastRequest(choices=None), policy=PATIENT),
    workload=Poisson(rate=300, seconds=6),
    faults=[during(0.5, 2.5, Errors(0.3), on=HIT)],
    guarantees=[Recovers(within=1.5), Available(0.99)],
)
#: One server is silent, and comes back.
SILENT = Scenario(
    servers=Servers(3, service_time=0.010),
    client=Client(balancer=LeastRequest(choices=None), policy=PATIENT),
    workload=Poisson(rate=300, seconds=6),
    faults=[during(0.5, 2.5, Blackhole(), on=HIT)],
    guarantees=[Recovers(within=2.0), Available(0.99), WithinDeadline(1.0)],
)
#: One server is slow, and second copies of its calls win.
RACED = Scenario(
    servers=Servers(3, service_time=0.010),
    client=Client(balancer=LeastRequest(choices=None), policy=Policy(timeout=1.0, hedge=Hedge(after=0.03))),
    workload=Poisson(rate=300, seconds=6),
    faults=[during(0.5, 2.5, Latency(0.1), on=HIT)],
    guarantees=[Recovers(within=1.5), Available(0.99)],
)
#: One server hangs: its calls end with nobody's answer, one by one.
HANGING = Scenario(
    servers=Servers(3),
    client=Client(balancer=PeakEwma(), policy=Policy(timeout=2.0), failover=None),
    workload=Poisson(rate=300, seconds=5),
    faults=[during(1, 4, Pause(), on=HIT)],
    guarantees=[Fast(p99=0.5), AvoidsFaulty(within=0.5)],
)
#: One server is slow for a second, then as quick as the others.
SLOW_FOR_A_WHILE = Scenario(
    servers=Servers(3),
    client=Client(balancer=PeakEwma(), policy=Policy(timeout=2.0)),
    workload=Poisson(rate=300, seconds=7),
    faults=[during(0.5, 1.5, Latency(0.3), on=HIT)],
    guarantees=[Recovers(within=2.0, share=0.1), Available(0.99)],
)
#: One server fails every call in a millisecond; its errors speak for themselves, no breaker looks at them.
SINKHOLE = Scenario(
    servers=Servers(4, service_time=0.020),
    client=Client(balancer=PeakEwma(), policy=Policy(timeout=1.0), failover=None),
    workload=Poisson(rate=200, seconds=5),
    faults=[during(1, 4.5, Errors(1.0, code="INTERNAL"), on=HIT)],
    guarantees=[AvoidsFaulty(within=0.5, share=0.1), Available(0.9)],
)
#: The same for a balancer that counts what is in flight, behind a breaker.
SINKHOLE_IN_FLIGHT = Scenario(
    servers=Servers(4, service_time=0.020),
    client=Client(balancer=LeastRequest(choices=None), policy=Policy(timeout=1.0)),
    workload=Poisson(rate=200, seconds=5),
    faults=[during(1, 4.5, Errors(1.0, code="INTERNAL"), on=HIT)],
    guarantees=[AvoidsFaulty(within=0.5), Available(0.95)],
)


class _Leaking(Pool):
    """Counts a call in, and out again only if it ended otherwise than `leaks` says."""

    __slots__ = ()
    leaks: ClassVar[frozenset[Code]]

    def finished(self, flight: Flight, outcome: Outcome, now: float) -> None:
        super().finished(flight, outcome, now)
        flight.member.in_flight += outcome.code in self.leaks


class _LeaksErrors(_Leaking):
    __slots__ = ()
    leaks = frozenset({Code.UNAVAILABLE})


class _LeaksTimeouts(_Leaking):
    __slots__ = ()
    leaks = frozenset({Code.DEADLINE_EXCEEDED})


class _LeaksCancels(_Leaking):
    __slots__ = ()
    leaks = frozenset({Code.CANCELLED})


class LeaksOnError(Client):
    """A call that failed stays counted."""

    POOL: ClassVar[type[Pool]] = _LeaksErrors


class LeaksOnTimeout(Client):
    """A call that timed out stays counted."""

    POOL: ClassVar[type[Pool]] = _LeaksTimeouts


class LeaksOnCancel(Client):
    """A call that was cancelled stays counted."""

    POOL: ClassVar[type[Pool]] = _LeaksCancels


class _Wrong(_PeakEwmaPicker):
    """A picker of Peak EWMA whose loads are of another kind."""

    __slots__ = ("_kind",)

    def __init__(self, config: PeakEwma, rng: random.Random, kind: type[PeakEwmaLoad]) -> None:
        super().__init__(config, rng)
        self._kind = kind

    def load(self) -> Load | None:
        config = self._config
        return self._kind(decay=config.decay, failure=config.failure, probe=config.probe)


class _BlindPicker(_PeakEwmaPicker):
    __slots__ = ()

    def pick(self, eligible: Eligible, now: float) -> Member:  # noqa: ARG002
        one, other = eligible.draw_two(self._rng)
        return one if _looks(one) <= _looks(other) * CHANGE else other


def _looks(member: Member) -> float:
    assert isinstance(member.load, PeakEwmaLoad)
    return member.load.estimate or 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Blind(PeakEwma):
    """Sees the answers that came, and not the calls that wait for one."""

    def picker(self, rng: random.Random) -> Picker:
        return _BlindPicker(self, rng)


class _Unforgiving(PeakEwmaLoad):
    __slots__ = ()

    def forgotten(self, now: float) -> bool:  # noqa: ARG002
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Unforgiving(PeakEwma):
    """Never asks anybody again who was slow once; and as its estimate changes with answers only, it stays so."""

    def picker(self, rng: random.Random) -> Picker:
        return _Wrong(self, rng, _Unforgiving)


class _Charmed(PeakEwmaLoad):
    __slots__ = ()

    def finished(self, flight: Flight, outcome: Outcome, now: float) -> None:  # noqa: ARG002
        super().finished(flight, OK, now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Charmed(PeakEwma):
    """A quick error is as good as a quick answer."""

    def picker(self, rng: random.Random) -> Picker:
        return _Wrong(self, rng, _Charmed)


@dataclass(frozen=True, slots=True)
class MostRequest:
    """Picks the one with the most calls in flight: the comparison is the wrong way round."""

    def picker(self, rng: random.Random) -> Picker:
        return _MostPicker(rng)


class _MostPicker:
    __slots__ = ("_rng",)

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def load(self) -> Load | None:
        return None

    def pick(self, eligible: Eligible, now: float) -> Member:  # noqa: ARG002
        one, two = eligible.draw_two(self._rng)
        return one if one.in_flight >= two.in_flight else two


BUSY = Scenario(
    servers=Servers(4, service_time=0.020, workers=2),
    client=Client(balancer=LeastRequest(), policy=Policy(timeout=1.0)),
    workload=Poisson(rate=250, seconds=4),
    guarantees=[Fast(p90=0.060), Available(0.99)],
)

PLANTED = (
    Saboteur(
        name="least-request-leaks-on-error",
        defect="counts a call that failed as in flight for ever",
        day=ERRING,
        client=planted(LeaksOnError, ERRING.client),
        found_by=Recovers,
        published=(9, 14),
    ),
    Saboteur(
        name="least-request-leaks-on-timeout",
        defect="counts a call that timed out as in flight for ever",
        day=SILENT,
        client=planted(LeaksOnTimeout, SILENT.client),
        found_by=Recovers,
        published=(9, 14),
    ),
    Saboteur(
        name="least-request-leaks-on-cancel",
        defect="counts a call that was cancelled (the loser of a hedge) as in flight for ever",
        day=RACED,
        client=planted(LeaksOnCancel, RACED.client),
        found_by=Recovers,
        published=(9, 14, 20),
    ),
    Saboteur(
        name="least-request-upside-down",
        defect="of two endpoints picks the one with more calls in flight",
        day=BUSY,
        client=lacking(BUSY.client, balancer=MostRequest()),
        found_by=Fast,
        published=(14,),
    ),
    Saboteur(
        name="least-request-drawn-to-failures",
        defect="has no breaker beside it: who fails in a millisecond is never busy, and gets all the calls",
        day=SINKHOLE_IN_FLIGHT,
        client=lacking(SINKHOLE_IN_FLIGHT.client, failover=None),
        found_by=AvoidsFaulty,
        published=(13,),
    ),
    Saboteur(
        name="ewma-blind-to-calls-in-flight",
        defect="does not see the calls that wait: who never answers looks as it did when it last did",
        day=HANGING,
        client=lacking(HANGING.client, balancer=Blind()),
        found_by=AvoidsFaulty,
        published=(10, 16),
    ),
    Saboteur(
        name="ewma-starves-the-healed",
        defect="never asks again who was slow once",
        day=SLOW_FOR_A_WHILE,
        client=lacking(SLOW_FOR_A_WHILE.client, balancer=Unforgiving()),
        found_by=Recovers,
        published=(9,),
    ),
    Saboteur(
        name="ewma-drawn-to-failures",
        defect="takes a quick error for a quick answer",
        day=SINKHOLE,
        client=lacking(SINKHOLE.client, balancer=Charmed()),
        found_by=AvoidsFaulty,
        published=(13,),
    ),
)

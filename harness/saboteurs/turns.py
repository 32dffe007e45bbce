"""Balancers that share wrongly: turns skipped, doubled or lost, a neighbour's calls taken alone, weights off by one."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from faults import Refuse, during, named
from harness.client import Client
from harness.guarantees import Available, EvenShare, Fast, HealthyShare, WeightedShare
from harness.saboteurs.base import Saboteur, lacking
from harness.scenario import Scenario, Servers
from harness.workload import Poisson, Steady
from stormproof.core.balancers.base import Picker, Unloaded
from stormproof.core.balancers.random_choice import RandomChoice
from stormproof.core.balancers.round_robin import RoundRobin
from stormproof.core.policy import Policy

if TYPE_CHECKING:
    from stormproof.core.eligible import Eligible
    from stormproof.core.pool import Member

POLICY = Policy(timeout=1.0)
QUIET = Scenario(
    servers=Servers(5),
    client=Client(balancer=RoundRobin(), policy=POLICY),
    workload=Steady(rate=300, seconds=4),
    guarantees=[EvenShare(), Available(0.99), Fast(p99=0.050), HealthyShare()],
)
#: Calls come at random, so that some come together.
CROWDED = replace(QUIET, workload=Poisson(rate=300, seconds=4))
DRAWN = Scenario(
    servers=Servers(5),
    client=Client(balancer=RandomChoice(), policy=POLICY),
    workload=Steady(rate=300, seconds=4),
    guarantees=[EvenShare(), Available(0.99), Fast(p99=0.050)],
)
UNEQUAL = Scenario(
    servers=Servers(4, weights=(6, 1, 1, 0)),
    client=Client(balancer=RoundRobin(), policy=POLICY),
    workload=Steady(rate=300, seconds=4),
    guarantees=[WeightedShare(), Available(0.99), Fast(p99=0.050)],
)
ONE_GONE = Scenario(
    servers=Servers(5),
    client=Client(balancer=RoundRobin(), policy=POLICY),
    workload=Steady(rate=300, seconds=5),
    faults=[during(0.5, 4, Refuse(), on=named("server-2"))],
    guarantees=[HealthyShare(within=0.2), Available(0.99)],
)


@dataclass(frozen=True, slots=True)
class AlwaysFirst:
    """Picks the first endpoint, as pick_first does. Found by EvenShare and WeightedShare."""

    def picker(self, rng: random.Random) -> Picker:  # noqa: ARG002
        return _FirstPicker()


class _FirstPicker(Unloaded):
    __slots__ = ()

    def pick(self, eligible: Eligible, now: float) -> Member:  # noqa: ARG002
        return eligible.members[0]


class _Turns(Unloaded):
    """A naive round robin: a place in the list, and what `_next` does with it."""

    __slots__ = ("_before", "_place")

    def __init__(self) -> None:
        self._place = 0
        self._before = -1.0

    def pick(self, eligible: Eligible, now: float) -> Member:
        members = eligible.members
        picked = members[self._place % len(members)]
        self._place = self._next(self._place % len(members), len(members), now)
        return picked

    def _next(self, place: int, count: int, now: float) -> int:  # noqa: ARG002
        return place + 1


@dataclass(frozen=True, slots=True)
class Skips:
    """The turn ends one too early."""

    def picker(self, rng: random.Random) -> Picker:  # noqa: ARG002
        return _Skipping()


class _Skipping(_Turns):
    __slots__ = ()

    def _next(self, place: int, count: int, now: float) -> int:  # noqa: ARG002
        return (place + 1) % (count - 1)


@dataclass(frozen=True, slots=True)
class Doubles:
    """The first of each turn is called twice."""

    def picker(self, rng: random.Random) -> Picker:  # noqa: ARG002
        return _Doubling()


class _Doubling(_Turns):
    __slots__ = ("_again",)

    def __init__(self) -> None:
        super().__init__()
        self._again = True

    def _next(self, place: int, count: int, now: float) -> int:  # noqa: ARG002
        self._again = place == 0 and not self._again
        return place if self._again else place + 1


@dataclass(frozen=True, slots=True)
class LosesPlace:
    """Two threads that pick at once (within 2 ms here) leave the place where the slower one read it: at its beginning."""

    def picker(self, rng: random.Random) -> Picker:  # noqa: ARG002
        return _Losing()


class _Losing(_Turns):
    __slots__ = ()

    def _next(self, place: int, count: int, now: float) -> int:  # noqa: ARG002
        together, self._before = now - self._before < 0.002, now
        return 1 if together else place + 1


@dataclass(frozen=True, slots=True)
class FavoursSuccessor:
    """The turns are of all endpoints that it has ever seen; whose turn it is and is gone gives it to the next one."""

    def picker(self, rng: random.Random) -> Picker:  # noqa: ARG002
        return _Favouring()


class _Favouring(Unloaded):
    __slots__ = ("_all", "_place")

    def __init__(self) -> None:
        self._all: list[Member] = []
        self._place = 0

    def pick(self, eligible: Eligible, now: float) -> Member:  # noqa: ARG002
        self._all = sorted({*self._all, *eligible.members}, key=_address)
        place, self._place = self._place, (self._place + 1) % len(self._all)
        return next(m for m in self._all[place:] + self._all[:place] if m in eligible.members)


def _address(member: Member) -> str:
    return member.endpoint.address


@dataclass(frozen=True, slots=True)
class OffByOne:
    """Draws a whole number from 0 to n - 2 in place of n - 1."""

    def picker(self, rng: random.Random) -> Picker:
        return _OffByOne(rng)


class _OffByOne(Unloaded):
    __slots__ = ("_rng",)

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def pick(self, eligible: Eligible, now: float) -> Member:  # noqa: ARG002
        return eligible.members[self._rng.randrange(len(eligible.members) - 1)]


@dataclass(frozen=True, slots=True)
class Wrongly:
    """Draws by weight plus `more`, so that weight 0 is some; with `even` by no weight at all."""

    more: float = 1.0
    even: bool = False

    def picker(self, rng: random.Random) -> Picker:
        return _Wrongly(self, rng)


class _Wrongly(Unloaded):
    __slots__ = ("_config", "_rng")

    def __init__(self, config: Wrongly, rng: random.Random) -> None:
        self._config = config
        self._rng = rng

    def pick(self, eligible: Eligible, now: float) -> Member:  # noqa: ARG002
        members = eligible.members
        weights = [1.0 if self._config.even else member.weight + self._config.more for member in members]
        return self._rng.choices(members, weights)[0]


PLANTED = (
    Saboteur(
        name="always-the-first",
        defect="calls the first endpoint of the list as long as it answers, as gRPC's pick_first does",
        day=QUIET,
        client=lacking(QUIET.client, balancer=AlwaysFirst()),
        found_by=EvenShare,
        published=(9, 14),
    ),
    Saboteur(
        name="round-robin-skips",
        defect="ends each turn one endpoint too early",
        day=QUIET,
        client=lacking(QUIET.client, balancer=Skips()),
        found_by=EvenShare,
        published=(14,),
    ),
    Saboteur(
        name="round-robin-doubles",
        defect="calls the first endpoint of each turn twice",
        day=QUIET,
        client=lacking(QUIET.client, balancer=Doubles()),
        found_by=EvenShare,
        published=(14,),
    ),
    Saboteur(
        name="round-robin-loses-its-place",
        defect="begins the turn anew when two threads pick at the same time",
        day=CROWDED,
        client=lacking(CROWDED.client, balancer=LosesPlace()),
        found_by=EvenShare,
        published=(14,),
    ),
    Saboteur(
        name="round-robin-favours-the-successor",
        defect="gives every turn of a dead endpoint to the one behind it",
        day=ONE_GONE,
        client=lacking(ONE_GONE.client, balancer=FavoursSuccessor()),
        found_by=HealthyShare,
        published=(14,),
    ),
    Saboteur(
        name="random-off-by-one",
        defect="draws from all endpoints but the last",
        day=DRAWN,
        client=lacking(DRAWN.client, balancer=OffByOne()),
        found_by=EvenShare,
        published=(14,),
    ),
    Saboteur(
        name="weights-off-by-one",
        defect="adds one to every weight: 6, 1, 1 become 7, 2, 2",
        day=UNEQUAL,
        client=lacking(UNEQUAL.client, balancer=Wrongly()),
        found_by=WeightedShare,
        published=(14,),
    ),
    Saboteur(
        name="weights-ignored",
        defect="calls all endpoints alike, whatever they weigh",
        day=UNEQUAL,
        client=lacking(UNEQUAL.client, balancer=Wrongly(even=True)),
        found_by=WeightedShare,
        published=(14,),
    ),
)

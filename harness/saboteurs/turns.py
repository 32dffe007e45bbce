"""Balancers that share wrongly: turns skipped, doubled or lost, weights off by one."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.client import Client
from harness.guarantees import Available, EvenShare, Fast
from harness.saboteurs.base import Saboteur, lacking
from harness.scenario import Scenario, Servers
from harness.workload import Steady
from stormproof.core.balancers.base import Picker, Unloaded
from stormproof.core.balancers.round_robin import RoundRobin
from stormproof.core.policy import Policy

if TYPE_CHECKING:
    from stormproof.core.eligible import Eligible
    from stormproof.core.pool import Member


@dataclass(frozen=True, slots=True)
class AlwaysFirst:
    """Picks the first endpoint, as pick_first does. Found by EvenShare and WeightedShare."""

    def picker(self, rng: random.Random) -> Picker:  # noqa: ARG002
        return _FirstPicker()


class _FirstPicker(Unloaded):
    __slots__ = ()

    def pick(self, eligible: Eligible, now: float) -> Member:  # noqa: ARG002
        return eligible.members[0]


QUIET = Scenario(
    servers=Servers(5),
    client=Client(balancer=RoundRobin(), policy=Policy(timeout=1.0)),
    workload=Steady(rate=200, seconds=5),
    guarantees=[EvenShare(), Available(0.99), Fast(p99=0.050)],
)

PLANTED = (
    Saboteur(
        name="always-the-first",
        defect="calls the first endpoint of the list as long as it answers, as gRPC's pick_first does",
        day=QUIET,
        client=lacking(QUIET.client, balancer=AlwaysFirst()),
        found_by=EvenShare,
        published=(9, 14),
    ),
)

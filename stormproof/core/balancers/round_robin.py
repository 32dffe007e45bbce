"""Each member in its turn; smoothly by weight where weights differ.

Members of one weight take turns among themselves; the groups of different weight are interleaved by nginx's smooth
weighted round robin: add its share to every group, take the one with the most, and take the whole turn off it. So
any window of one whole turn holds every member exactly by its weight, and no member's picks come in a burst. A pick
costs one step for each different weight, not for each member.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stormproof.core.balancers.base import Picker, Unloaded

if TYPE_CHECKING:
    from stormproof.core.eligible import Eligible
    from stormproof.core.pool import Member


@dataclass(frozen=True, slots=True)
class RoundRobin:
    """In turn. Each channel starts at a random member (gRFC A58), so that many fresh clients do not all call the first."""

    def picker(self, rng: random.Random) -> Picker:
        return _RoundRobinPicker(rng)


class _RoundRobinPicker(Unloaded):
    __slots__ = ("_credit", "_places", "_rng")

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._credit: dict[float, int] = {}  # by weight, for the groups
        self._places: dict[float, int] = {}  # by weight: whose turn it is in the group

    def pick(self, eligible: Eligible, now: float) -> Member:  # noqa: ARG002
        group = eligible.members if eligible.even else self._smooth(eligible)
        weight = group[0].endpoint.weight
        place = self._places.get(weight)
        if place is None:
            place = int(self._rng.random() * len(group))
        place %= len(group)
        self._places[weight] = place + 1
        return group[place]

    def _smooth(self, eligible: Eligible) -> tuple[Member, ...]:
        credit = self._credit
        best: tuple[Member, ...] = ()
        most = None
        turn = 0
        for share, group in eligible.groups:
            weight = group[0].endpoint.weight
            credit[weight] = have = credit.get(weight, 0) + share
            turn += share
            if most is None or have > most:
                most, best = have, group
        credit[best[0].endpoint.weight] -= turn
        return best

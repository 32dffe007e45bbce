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
from stormproof.core.eligible import WEIGHTS

if TYPE_CHECKING:
    from stormproof.core.eligible import Eligible
    from stormproof.core.pool import Member


@dataclass(frozen=True, slots=True)
class RoundRobin:
    """In turn. Each channel starts at a random member (gRFC A58), so that many fresh clients do not all call the first."""

    def picker(self, rng: random.Random) -> Picker:
        return _RoundRobinPicker(rng)


class _Turns:
    """Whose turn it is in one tier."""

    __slots__ = ("credit", "place", "places")

    def __init__(self, place: float) -> None:
        self.place = place  # where all groups start, as a fraction of them
        self.places: dict[float, int] = {}  # by weight: whose turn it is in the group
        self.credit: dict[float, int] = {}  # by weight, for the groups

    def forget(self, eligible: Eligible) -> None:
        """Weights that come and go (slow start, load reports) must not pile up."""
        if len(self.credit) + len(self.places) > 4 * WEIGHTS:
            there = {member.weight for member in eligible.members}
            self.credit = {weight: credit for weight, credit in self.credit.items() if weight in there}
            self.places = {weight: place for weight, place in self.places.items() if weight in there}


class _RoundRobinPicker(Unloaded):
    __slots__ = ("_rng", "_turns")

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._turns: dict[int, _Turns] = {}  # by tier

    def pick(self, eligible: Eligible, now: float) -> Member:  # noqa: ARG002
        turns = self._turns.get(eligible.tier)
        if turns is None:
            turns = self._turns[eligible.tier] = _Turns(self._rng.random())
        group = eligible.members if eligible.even else self._smooth(eligible, turns)
        weight = group[0].weight
        place = turns.places.get(weight)
        if place is None:
            turns.forget(eligible)
            place = int(turns.place * len(group))
        place %= len(group)
        turns.places[weight] = place + 1
        return group[place]

    def _smooth(self, eligible: Eligible, turns: _Turns) -> tuple[Member, ...]:
        credit = turns.credit
        best: tuple[Member, ...] = ()
        most = None
        turn = 0
        for share, group in eligible.groups:
            weight = group[0].weight
            credit[weight] = have = credit.get(weight, 0) + share
            turn += share
            if most is None or have > most:
                most, best = have, group
        credit[best[0].weight] -= turn
        return best

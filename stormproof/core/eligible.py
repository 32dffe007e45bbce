"""The endpoints that may be picked now, how much of the traffic each tier of them gets, and how to draw one by weight.

Law 1: an endpoint is well if its breaker is closed and no health check says otherwise. The well ones of the first tier
that serves are eligible, those of weight 0 only if there are no others. Law 2: where that leaves nothing, first weight
and then wellness are disregarded (panic): a channel with endpoints never refuses to pick.

Theory of operation. A tier is a priority, and within it the client's own zone before the others. A tier is as healthy as
the fraction of it that is well, over `Failover.spill` or `panic` (whichever is more), at most 1. Going down the tiers, each
gets as much of the calls as it is healthy, until they are all given out (Envoy's priority load). If all tiers
together are not healthy enough to serve everything, each gets its proportion, and those under `panic` use all they have.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stormproof.core.failover import Failover
    from stormproof.core.pool import Member

#: Beyond so many different weights, those within 5 % of each other are taken as one: turns cost a step for each.
WEIGHTS = 32
#: A turn of more steps than this is rounded to thousandths of the largest weight: big numbers are slow.
FINEST = 10**6
#: The number of the tier that stands for whoever is left for a further attempt.
AGAIN = -1


class Eligible:
    """Members to pick from; never changed, only replaced. Every weight is positive, or all of them are 0."""

    __slots__ = ("_cumulative", "_groups", "even", "members", "tier")

    def __init__(self, members: Iterable[Member], tier: int = 0) -> None:
        self.members: tuple[Member, ...] = tuple(members)
        self.tier = tier  # its number; each tier has turns of its own
        weights = {member.weight for member in self.members}
        #: Whether all weights are equal, as they mostly are; drawing is cheaper then.
        self.even = len(weights) <= 1
        self._cumulative: list[float] | None = None
        self._groups: list[tuple[int, tuple[Member, ...]]] | None = None

    @property
    def cumulative(self) -> list[float]:
        """Running sums of the weights, in the order of the members."""
        if self._cumulative is None:
            self._cumulative = list(accumulate(member.weight for member in self.members))
        return self._cumulative

    @property
    def groups(self) -> list[tuple[int, tuple[Member, ...]]]:
        """Members of equal weight together, each group with its whole-numbered share of a turn of all."""
        if self._groups is None:
            by_weight: dict[float, list[Member]] = {}
            for member in self.members:
                by_weight.setdefault(member.weight, []).append(member)
            if len(by_weight) > WEIGHTS:
                by_weight = _coarser(by_weight)
            shares = whole(list(by_weight))
            self._groups = [
                (share * len(group), tuple(group)) for share, group in zip(shares, by_weight.values(), strict=True)
            ]
        return self._groups

    def draw(self, rng: random.Random) -> Member:
        """One member, with a chance proportional to its weight."""
        members = self.members
        if self.even:
            return members[int(rng.random() * len(members))]
        cumulative = self.cumulative
        return members[min(bisect_right(cumulative, rng.random() * cumulative[-1]), len(members) - 1)]

    def draw_two(self, rng: random.Random) -> tuple[Member, Member]:
        """Two different members, without replacement, by weight. There must be two."""
        members = self.members
        count = len(members)
        if self.even:
            first = int(rng.random() * count)
            second = int(rng.random() * (count - 1))
            return members[first], members[second + (second >= first)]
        cumulative = self.cumulative
        first = min(bisect_right(cumulative, rng.random() * cumulative[-1]), count - 1)
        weight = members[first].weight
        at = rng.random() * (cumulative[-1] - weight)  # the first one's stretch is cut out of the line
        if at >= cumulative[first] - weight:
            at += weight
        second = min(bisect_right(cumulative, at), count - 1)
        if second == first:  # rounding put it on the edge of the stretch that was cut out
            second = first + 1 if first + 1 < count else first - 1
        return members[first], members[second]

    def without(self, tried: Sequence[Member]) -> list[Member]:
        """The members that are not among `tried`."""
        return [member for member in self.members if member not in tried]


def whole(weights: Sequence[float]) -> list[int]:
    """The smallest whole numbers in the same proportion, so that equal proportions give equal turns.

    Proportions are taken as fractions with denominators up to 1000; a weight under a thousandth of the largest still
    counts one part in a thousand.
    """
    largest = max(weights)
    if largest == 0:
        return [1] * len(weights)
    parts = [max(Fraction(weight / largest).limit_denominator(1000), Fraction(1, 1000)) for weight in weights]
    scale = math.lcm(*(part.denominator for part in parts))
    if scale > FINEST:
        return [max(1, round(weight / largest * 1000)) for weight in weights]
    numbers = [int(part * scale) for part in parts]
    common = math.gcd(*numbers)
    return [number // common for number in numbers]


def tiers(members: Sequence[Member], failover: Failover) -> list[tuple[float, Eligible]]:
    """Each tier that serves: its share of the calls (they sum to 1), and who of it may be picked. Not empty."""
    by_tier: dict[tuple[int, bool], list[Member]] = {}
    for member in members:
        endpoint = member.endpoint
        by_tier.setdefault((endpoint.priority, endpoint.zone != failover.zone != ""), []).append(member)
    full = max(failover.spill, failover.panic)
    found = []
    for key in sorted(by_tier):
        well = [member for member in by_tier[key] if member.well]
        available = len(well) / len(by_tier[key])
        health = available / full if available < full else float(available > 0.0)
        found.append((by_tier[key], well, available, health))
    loads = tier_loads([health for _, _, _, health in found])
    if not sum(loads):  # panic: an endpoint that may fail is better than none
        return [(1.0, Eligible(_weighed(members)))]
    enough = sum(health for _, _, _, health in found) >= 1.0
    return [
        (load, Eligible(_weighed(well if enough or available >= failover.panic else everybody), tier))
        for tier, ((everybody, well, available, _), load) in enumerate(zip(found, loads, strict=True))
        if load > 0.0
    ]


def tier_loads(healths: Sequence[float]) -> list[float]:
    """What share of the calls each tier gets that is so healthy (0 to 1). They sum to 1, or to 0 if all are 0.

    Source: Envoy, "Priority levels": health is normalized if it does not suffice for everything.
    """
    enough = min(1.0, sum(healths))
    left = 1.0
    loads = []
    for health in healths:
        load = min(left, health / enough) if enough else 0.0
        left -= load
        loads.append(load)
    return loads


def nearest(members: Sequence[Member], failover: Failover) -> Eligible:
    """Of these, those of the first tier that serves. Their turns are their own: a retry must not disturb the others'."""
    found = tiers(members, failover)[0][1]
    found.tier = AGAIN
    return found


def _weighed(members: Sequence[Member]) -> Sequence[Member]:
    return [member for member in members if member.weight > 0] or members


def _coarser(by_weight: dict[float, list[Member]]) -> dict[float, list[Member]]:
    """Groups whose weights differ by less than 5 % in one, by their mean weight. No weight is 0: there are others."""
    steps: dict[int, list[Member]] = {}
    for weight, members in by_weight.items():
        steps.setdefault(round(math.log(weight) / math.log(1.05)), []).extend(members)
    return {math.fsum(m.weight for m in group) / len(group): group for group in steps.values()}

"""The endpoints that may be picked now, and how to draw one of them by weight.

Law 1: an endpoint is eligible if its breaker is closed, no tier of a lower number has a closed one, and its weight
is not 0. Law 2: where that leaves nothing, first weight and then the breakers are disregarded (panic): a channel with
endpoints never refuses to pick.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import accumulate
from typing import TYPE_CHECKING

from stormproof.core.breaker import State

if TYPE_CHECKING:
    from stormproof.core.pool import Member


class Eligible:
    """Members to pick from; never changed, only replaced. Every weight is positive, or all of them are 0."""

    __slots__ = ("_cumulative", "_groups", "even", "members")

    def __init__(self, members: Iterable[Member]) -> None:
        self.members: tuple[Member, ...] = tuple(members)
        weights = {member.endpoint.weight for member in self.members}
        #: Whether all weights are equal, as they mostly are; drawing is cheaper then.
        self.even = len(weights) <= 1
        self._cumulative: list[float] | None = None
        self._groups: list[tuple[int, tuple[Member, ...]]] | None = None

    @property
    def cumulative(self) -> list[float]:
        """Running sums of the weights, in the order of the members."""
        if self._cumulative is None:
            self._cumulative = list(accumulate(member.endpoint.weight for member in self.members))
        return self._cumulative

    @property
    def groups(self) -> list[tuple[int, tuple[Member, ...]]]:
        """Members of equal weight together, each group with its whole-numbered share of a turn of all."""
        if self._groups is None:
            by_weight: dict[float, list[Member]] = {}
            for member in self.members:
                by_weight.setdefault(member.endpoint.weight, []).append(member)
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
        weight = members[first].endpoint.weight
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
    numbers = [int(part * scale) for part in parts]
    common = math.gcd(*numbers)
    return [number // common for number in numbers]


def eligible(members: Sequence[Member]) -> Eligible:
    """The members that may be picked now."""
    closed = [member for member in members if member.breaker.state is State.CLOSED]
    if not closed:  # panic: an endpoint that may fail is better than none
        return Eligible(_weighed(members))
    tier = min(member.endpoint.priority for member in closed)
    return Eligible(_weighed([member for member in closed if member.endpoint.priority == tier]))


def _weighed(members: Sequence[Member]) -> Sequence[Member]:
    return [member for member in members if member.endpoint.weight > 0] or members

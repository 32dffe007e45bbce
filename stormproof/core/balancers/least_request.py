"""The member with the fewest attempts in flight, of a few drawn at random, or of all.

Two random choices are nearly as even as looking at all of them and never send a crowd to the same idle one
(Mitzenmacher, "The Power of Two Choices"; gRFC A48; Envoy). Weights count in the draw, and load counts per weight.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stormproof.core.balancers.base import Picker, Unloaded
from stormproof.core.check import complain, number

if TYPE_CHECKING:
    from stormproof.core.eligible import Eligible
    from stormproof.core.pool import Member


@dataclass(frozen=True, slots=True)
class LeastRequest:
    """Least attempts in flight for its weight, among `choices` different members (2 to 10), or among all with None.

    Drawn without replacement. Ties go to the one drawn first, so they are even by weight. With None a pick costs one
    step for each member.
    """

    choices: int | None = 2

    def __post_init__(self) -> None:
        if self.choices is not None:
            complain(
                self,
                number("choices", self.choices, 2, 10, unit="members compared, or None for all", whole=True),
            )

    def picker(self, rng: random.Random) -> Picker:
        return _ScanPicker(rng) if self.choices is None else _ChoicesPicker(rng, self.choices)


def _load(member: Member) -> float:
    return (member.in_flight + 1) / (member.weight or 1.0)


class _ChoicesPicker(Unloaded):
    __slots__ = ("_choices", "_rng")

    def __init__(self, rng: random.Random, choices: int) -> None:
        self._rng = rng
        self._choices = choices

    def pick(self, eligible: Eligible, now: float) -> Member:  # noqa: ARG002
        members = eligible.members
        if len(members) == 1:
            return members[0]
        best, other = eligible.draw_two(self._rng)
        if eligible.even:
            if other.in_flight < best.in_flight:
                best, other = other, best
        elif other.in_flight / other.weight < best.in_flight / best.weight:
            best, other = other, best
        if self._choices > 2 and len(members) > 2:
            return self._further(eligible, best, other)
        return best

    def _further(self, eligible: Eligible, best: Member, other: Member) -> Member:
        seen = {best, other}
        wanted = min(self._choices, len(eligible.members))
        for _ in range(20 * wanted):  # a draw that repeats is drawn again; heavy weights may need a few
            if len(seen) == wanted:
                break
            drawn = eligible.draw(self._rng)
            if drawn not in seen:
                seen.add(drawn)
                if drawn.in_flight / (drawn.weight or 1.0) < best.in_flight / (best.weight or 1.0):
                    best = drawn
        return best


class _ScanPicker(Unloaded):
    __slots__ = ("_rng",)

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def pick(self, eligible: Eligible, now: float) -> Member:  # noqa: ARG002
        members = eligible.members
        least = min(map(_load, members))
        ties = [member for member in members if _load(member) == least]
        return ties[0] if len(ties) == 1 else ties[int(self._rng.random() * len(ties))]

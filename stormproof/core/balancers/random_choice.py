"""One member at random, by weight. Needs no state at all, which is why many clients at once stay even (Envoy)."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stormproof.core.balancers.base import Picker, Unloaded

if TYPE_CHECKING:
    from stormproof.core.eligible import Eligible
    from stormproof.core.pool import Member


@dataclass(frozen=True, slots=True)
class RandomChoice:
    """Uniform over the eligible, or proportional to their weights where these differ."""

    def picker(self, rng: random.Random) -> Picker:
        return _RandomPicker(rng)


class _RandomPicker(Unloaded):
    __slots__ = ("_rng",)

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def pick(self, eligible: Eligible, now: float) -> Member:  # noqa: ARG002
        return eligible.draw(self._rng)

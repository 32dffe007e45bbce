"""Clients with one planted defect each, which a named guarantee must find. A check that finds none proves nothing.

Those that are plain configuration (no retry, no timeout) need no class: they stand where they are tested.
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
class AlwaysFirst:
    """Picks the first endpoint, as pick_first does. Found by EvenShare and WeightedShare."""

    def picker(self, rng: random.Random) -> Picker:  # noqa: ARG002
        return _FirstPicker()


class _FirstPicker(Unloaded):
    __slots__ = ()

    def pick(self, eligible: Eligible, now: float) -> Member:  # noqa: ARG002
        return eligible.members[0]

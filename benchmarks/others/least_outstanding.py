"""Finagle's P2C: of two endpoints drawn at random, the one with fewer calls outstanding."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class LeastOutstanding:
    """Of two drawn at random."""

    def picker(self, rng: random.Random) -> _Picker:
        return _Picker(rng)


class _Picker:
    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def load(self) -> None:
        return None

    def pick(self, eligible: Any, now: float) -> Any:  # noqa: ARG002
        # Finagle, P2C: "picks two nodes at random and then the one with the lesser load".
        one, other = self._rng.sample(eligible.members, 2)
        return one if one.in_flight <= other.in_flight else other

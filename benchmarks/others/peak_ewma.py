"""Finagle's and Linkerd's peak EWMA ("Beyond Round Robin", Buoyant 2016), of two endpoints drawn at random.

`age`: with the variant that counts how long the oldest call is out already, on a plain average (go-kratos' and Kitex's idea).
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Any

#: Finagle: the cost of an endpoint never heard from that has calls outstanding.
PENALTY = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class FinaglePeakEwma:
    """Finagle's default: decay 10 s."""

    decay: float = 10.0
    age: bool = False

    def picker(self, rng: random.Random) -> _Picker:
        return _Picker(self, rng)


class _Metric:
    def __init__(self, config: FinaglePeakEwma) -> None:
        self.config = config
        self.pending: dict[Any, float] = {}
        self.cost = 0.0
        self.stamp = 0.0

    def observe(self, seconds: float, now: float) -> None:
        # Finagle, PeakEwma.observe: a slower answer is the average at once, a quicker one moves it by 1 - exp(-dt / tau).
        weight = math.exp(-max(0.0, now - self.stamp) / self.config.decay)
        if seconds > self.cost and not (self.config.age and self.cost):
            self.cost = seconds
        else:
            self.cost = self.cost * weight + seconds * (1.0 - weight)
        self.stamp = now

    def started(self, flight: Any, now: float) -> None:
        self.pending[flight] = now

    def finished(self, flight: Any, outcome: Any, now: float) -> None:  # noqa: ARG002
        self.observe(now - self.pending.pop(flight), now)

    def load(self, now: float) -> float:
        if self.config.age:
            cost = max(self.cost, now - next(iter(self.pending.values()), now))
        else:
            self.observe(0.0, now)  # Finagle, PeakEwma.get: looking at it lets it decay
            cost = self.cost
        if cost == 0.0 and self.pending:
            return PENALTY + len(self.pending)  # "If we don't have any latency history, we penalize the host"
        return cost * (len(self.pending) + 1)


class _Picker:
    def __init__(self, config: FinaglePeakEwma, rng: random.Random) -> None:
        self._config = config
        self._rng = rng

    def load(self) -> _Metric:
        return _Metric(self._config)

    def pick(self, eligible: Any, now: float) -> Any:
        one, other = self._rng.sample(eligible.members, 2)
        return one if one.load.load(now) <= other.load.load(now) else other

"""How much of its share an endpoint gets while it is new: caches are cold, connections not made, code not compiled.

Envoy's slow start (gRFC A100 for gRPC): the weight is multiplied by max(floor, (uptime / window) ** (1 / aggression)). Law:
the factor never falls while the endpoint stays, is never under the floor, and is exactly 1 from the end of the window on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from stormproof.core.check import complain, number, seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowStart:
    """An endpoint that has just come gets its share little by little, over `window` seconds.

    window      seconds until it has its full share. There is no default: it is as long as your servers take to warm up.
    floor       fraction of its share that it has from the start (0.001 to 1; default 0.1, Envoy's), so that it gets calls
                to warm up with.
    aggression  how soon the share grows (0.1 to 10; default 1: evenly). At 2 it is the root of the time: half after a
                quarter of the window. At 0.5 it is the square: a quarter after half of it.

    Where all endpoints are new the factors are equal, and nothing is held back: the load must go somewhere.
    """

    window: float
    floor: float = 0.1
    aggression: float = 1.0

    def __post_init__(self) -> None:
        problems = seconds("window", self.window, low=0.001)
        problems += number("floor", self.floor, 0.001, 1, unit="fraction of the weight")
        complain(self, problems + number("aggression", self.aggression, 0.1, 10, unit="1 for an even growth"))

    def factor(self, uptime: float) -> float:
        """By what to multiply the weight of an endpoint that came `uptime` seconds ago: from `floor` to 1."""
        if uptime >= self.window:
            return 1.0
        return max(self.floor, math.pow(max(0.0, uptime) / self.window, 1.0 / self.aggression))

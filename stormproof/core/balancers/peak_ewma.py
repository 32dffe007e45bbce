"""The member expected to answer soonest, of two drawn at random: least response time, as Finagle and Linkerd do it.

Three things are ours. An endpoint that looks slow is asked again with one single call if none has begun on it for `probe`
seconds, and if that answers well it is believed at once, as are two answers running that are four times quicker: so a
healed server has its share back in a moment, also under load, and a slow one costs one call a probe. An endpoint never
heard from gets one call until it answers, not a crowd. And of two idle endpoints whose latencies differ by less than four
times the slower one is picked in proportion to its speed: such differences are mostly noise, and one slow answer must
not starve an endpoint for seconds.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stormproof.core.balancers.base import Picker
from stormproof.core.check import complain, seconds
from stormproof.core.load import Load, PeakEwmaLoad

if TYPE_CHECKING:
    from stormproof.core.eligible import Eligible
    from stormproof.core.pool import Member


#: How many times slower an idle endpoint may look and still be picked now and then.
NOISE = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PeakEwma:
    """Least expected latency, by a peak-sensitive moving average times the calls in flight.

    decay    seconds over which an old latency fades to 1/e (default 10, as in Finagle).
    failure  seconds that a failed attempt counts for at least.
    probe    seconds without a call after which an endpoint is asked again, however slow it was.
    """

    decay: float = 10.0
    failure: float = 1.0
    probe: float = 1.0

    def __post_init__(self) -> None:
        problems = seconds("decay", self.decay, low=0.001) + seconds("failure", self.failure)
        complain(self, problems + seconds("probe", self.probe, low=0.001))

    def picker(self, rng: random.Random) -> Picker:
        return _PeakEwmaPicker(self, rng)


class _PeakEwmaPicker:
    __slots__ = ("_config", "_rng")

    def __init__(self, config: PeakEwma, rng: random.Random) -> None:
        self._config = config
        self._rng = rng

    def load(self) -> Load | None:
        return PeakEwmaLoad(decay=self._config.decay, failure=self._config.failure, probe=self._config.probe)

    def pick(self, eligible: Eligible, now: float) -> Member:
        members = eligible.members
        if len(members) == 1:
            return members[0]
        first, second = eligible.draw_two(self._rng)
        one, two = first.load, second.load
        assert isinstance(one, PeakEwmaLoad)
        assert isinstance(two, PeakEwmaLoad)
        cost, other = one.cost(now), two.cost(now)
        if not eligible.even:
            cost, other = cost / first.weight, other / second.weight
        if cost > other:
            return first if self._anyway(one, cost / other if other else math.inf, now) else second
        return second if self._anyway(two, other / cost if cost else math.inf, now) else first

    def _anyway(self, dearer: PeakEwmaLoad, ratio: float, now: float) -> bool:
        """Whether the dearer one is picked all the same: to ask it again, or because the difference may be noise."""
        if dearer.estimate is None:
            return False
        return dearer.forgotten(now) or (dearer.idle and ratio < NOISE and self._rng.random() * 2.0 * ratio < 1.0)

"""The member expected to answer soonest, of two drawn at random: least response time, as Finagle and Linkerd do it.

Four things are ours. An endpoint that takes four times as long as the other one is asked single calls only, however busy
the other one is: its answers take long whether it is busy or not, and those of the busy one already hold its waiting. One
such call follows when the endpoint was quiet for `probe` seconds, and if that answers well it is believed at once, as are
six answers running that are four times quicker: so a healed server has its share back in a moment, also under load, and a
slow one costs few calls. An endpoint never heard from gets one call until it answers, not a crowd. And of two idle
endpoints whose latencies differ by less than four times the slower one is picked in proportion to its speed: such
differences are mostly noise, and one slow answer must not starve an endpoint for seconds.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stormproof.core.balancers.base import Picker
from stormproof.core.check import complain, seconds
from stormproof.core.load import CHANGE, Load, PeakEwmaLoad

if TYPE_CHECKING:
    from stormproof.core.eligible import Eligible
    from stormproof.core.pool import Member


@dataclass(frozen=True, slots=True, kw_only=True)
class PeakEwma:
    """Least expected latency, by a peak-sensitive moving average times the calls in flight.

    decay    seconds over which an old latency fades to 1/e (default 10, as in Finagle).
    failure  seconds that a failed attempt counts for at least.
    probe    seconds in which no call begins or ends after which an endpoint is asked again, however slow it was.
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
        mine, theirs = one.expected(now), two.expected(now)
        if mine > theirs * CHANGE:
            return first if one.forgotten(now) else second
        if theirs > mine * CHANGE:
            return second if two.forgotten(now) else first
        cost, other = mine * (first.in_flight + 1), theirs * (second.in_flight + 1)
        if not eligible.even:
            cost, other = cost / first.weight, other / second.weight
        if cost > other:
            return first if self._anyway(one, cost / other if other else math.inf, now) else second
        return second if self._anyway(two, other / cost if cost else math.inf, now) else first

    def _anyway(self, dearer: PeakEwmaLoad, ratio: float, now: float) -> bool:
        """Whether the dearer one is picked all the same: to ask it again, or because the difference may be noise."""
        return dearer.forgotten(now) or (dearer.idle and ratio < CHANGE and self._rng.random() * 2.0 * ratio < 1.0)

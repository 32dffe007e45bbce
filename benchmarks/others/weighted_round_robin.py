"""gRPC's weighted round robin (gRFC A58), by what servers report: calls a second over CPU utilization."""

from __future__ import annotations

import random
from collections.abc import Callable

#: A58: weight_update_period and blackout_period, by default.
UPDATE, BLACKOUT = 1.0, 10.0


class WeightedRoundRobin:
    """One client. `report(server)` gives a server's calls a second and utilization."""

    def __init__(self, servers: int, report: Callable[[int], tuple[float, float]], rng: random.Random) -> None:
        self._report = report
        self._weights = [1.0] * servers
        self._update_at = BLACKOUT
        # A58: the static stride scheduler; each client begins somewhere else.
        self._credit = [rng.random() for _ in range(servers)]

    def pick(self, now: float) -> int:
        """Where a call goes that begins now."""
        if now >= self._update_at:
            self._update_at = now + UPDATE
            self._weigh()
        # Earliest deadline first: as even as weights allow.
        place = min(range(len(self._credit)), key=self._credit.__getitem__)
        self._credit[place] += 1.0 / self._weights[place]
        return place

    def _weigh(self) -> None:
        # A58: weight = qps / utilization; those without have the mean of the others.
        raw = [qps / used if qps and used else None for qps, used in map(self._report, range(len(self._weights)))]
        known = [weight for weight in raw if weight]
        if known:
            mean = sum(known) / len(known)
            self._weights = [weight or mean for weight in raw]
            most = max(self._weights)
            self._weights = [weight / most for weight in self._weights]
            least = min(self._credit)
            self._credit = [least + min(credit - least, 10.0) for credit in self._credit]

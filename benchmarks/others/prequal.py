"""Prequal ("Load is not what you should balance", Wydrowski and others, NSDI 2024): probes that are sent ahead and reused.

With the parameters of the paper's testbed. A probe is answered before the next call of its client, which is kind to it.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

#: Probes sent and removed with each call; how many are kept, and for how many seconds.
SENT, REMOVED, KEPT, AGE = 3, 1, 16, 1.0
#: Which quantile of the requests in flight (RIF) is hot: 2 ** -0.25; and the margin with which probes are reused.
HOT, MARGIN = 2.0**-0.25, 1.0


@dataclass(slots=True)
class Probe:
    """What one server said: its requests in flight, and the latency it expects at that many."""

    server: int
    rif: float
    latency: float
    at: float
    uses: int = 0


class Prequal:
    """One client. `ask(server)` gives a server's requests in flight and latency."""

    def __init__(self, servers: int, ask: Callable[[int], tuple[int, float]], rng: random.Random) -> None:
        self._servers = servers
        self._ask = ask
        self._rng = rng
        self._pool: list[Probe] = []
        self._seen: list[int] = []  # the RIF of recent probes
        self._worst_next = False
        # Section 4: b_reuse = max(1, (1 + delta) / ((1 - m / n) * r_probe - r_remove))
        spare = (1.0 - KEPT / servers) * SENT - REMOVED
        self._reuse = max(1.0, (1.0 + MARGIN) / spare) if spare > 0.0 else math.inf

    def pick(self, now: float) -> int:
        """Where a call goes that begins now."""
        self._pool = [probe for probe in self._pool if now - probe.at <= AGE]
        server = self._select() if len(self._pool) >= 2 else int(self._rng.random() * self._servers)
        for _ in range(REMOVED):
            self._remove()
        for one in self._rng.sample(range(self._servers), SENT):  # "without replacement"
            rif, latency = self._ask(one)
            self._seen = [*self._seen[-99:], rif]
            if len(self._pool) >= KEPT:
                self._pool.remove(min(self._pool, key=lambda probe: probe.at))  # the oldest makes room
            self._pool.append(Probe(one, rif, latency, now))
        return server

    def _hot(self) -> float:
        seen = sorted(self._seen)
        return seen[min(len(seen) - 1, int(HOT * len(seen)))]

    def _select(self) -> int:
        # The hot-cold lexicographic rule: if all are hot the least RIF, else of the cold ones the least latency.
        hot = self._hot()
        cold = [probe for probe in self._pool if probe.rif <= hot]
        best = min(cold, key=_latency) if cold else min(self._pool, key=_rif)
        best.uses += 1
        best.rif += 1  # a client's own call counts before the next probe tells of it
        reuse = int(self._reuse + self._rng.random()) if self._reuse < math.inf else math.inf  # rounded at random
        if best.uses >= reuse:
            self._pool.remove(best)
        return best.server

    def _remove(self) -> None:
        """The oldest and the worst by turns: the worst is the hot one of most RIF, else the one of most latency."""
        if not self._pool:
            return
        if self._worst_next:
            hot = self._hot()
            heated = [probe for probe in self._pool if probe.rif > hot]
            self._pool.remove(max(heated, key=_rif) if heated else max(self._pool, key=_latency))
        else:
            self._pool.remove(min(self._pool, key=lambda probe: probe.at))
        self._worst_next = not self._worst_next


def _latency(probe: Probe) -> float:
    return probe.latency


def _rif(probe: Probe) -> float:
    return probe.rif

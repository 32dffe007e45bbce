"""How fast something grows: a moving average without a list of moments."""

from __future__ import annotations

#: Seconds over which a rate is taken: this much at least, once it has run for so long, and twice as much at most.
SPAN = 5.0
#: Seconds that a rate is taken over at least, also in the first moments.
LEAST = 1.0


class Rate:
    """By how much a total grows in a second, over the last 5 to 10 of them in which it was asked."""

    __slots__ = ("_before", "_mark")

    def __init__(self, total: float, now: float) -> None:
        self._before = self._mark = (now, total)

    def at(self, total: float, now: float) -> float:
        """The rate now that the total is `total`."""
        if now - self._mark[0] >= SPAN:
            self._before, self._mark = self._mark, (now, total)
        since, then = self._before
        return (total - then) / max(LEAST, now - since)

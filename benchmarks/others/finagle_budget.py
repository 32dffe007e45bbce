"""Finagle's RetryBudget: requests earn retries, and what they earned expires after ten seconds."""

from __future__ import annotations

#: Finagle's defaults: time to live, retries a second that are always allowed, and what part of the requests may be retried.
TTL, MIN_PER_SECOND, CAN_RETRY = 10.0, 10.0, 0.2
SLICES = 10  # Finagle, TokenBucket.newLeakyBucket: a windowed adder of ten slices


class FinagleBudget:
    """A leaky bucket of deposits and withdrawals, over a constant reserve."""

    def __init__(self) -> None:
        self._slices: dict[int, float] = {}

    def begun(self, now: float) -> None:
        # "deposit(): indicates a deposit, which will typically permit future withdrawals": once a request.
        self._add(CAN_RETRY, now)

    def failed(self, now: float) -> None:
        """Failures cost nothing."""

    def succeeded(self, now: float) -> None:
        """Successes earn nothing."""

    def withdraw(self, now: float) -> bool:
        slice_now = int(now / TTL * SLICES)
        self._slices = {at: sum_ for at, sum_ in self._slices.items() if at > slice_now - SLICES}
        # "minRetriesPerSec: the minimum rate of retries allowed"; the reserve is that times the time to live.
        if sum(self._slices.values()) + MIN_PER_SECOND * TTL < 1.0:
            return False
        self._add(-1.0, now)
        return True

    def _add(self, amount: float, now: float) -> None:
        at = int(now / TTL * SLICES)
        self._slices[at] = self._slices.get(at, 0.0) + amount

"""How many retries a channel may add to its traffic, whatever goes wrong. Finagle's idea, with two changes.

Successes earn retries, requests do not: in a total outage nothing is earned, so retries die out instead of following
the load. And what was earned fades over `window` seconds instead of expiring in slices, so that one number is all
the state. A small reserve refills with time, so that a channel with little traffic can retry at all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from stormproof.core.check import complain, number, seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryBudget:
    """Retries <= ratio * successes + per_second * (seconds + window), for all calls of a channel together.

    ratio       retries that one success earns (0 to 1; default 0.1: one call in ten may be retried in steady state).
    per_second  retries a second that are always allowed; up to `window` seconds of them are saved up.
    window      seconds over which earned retries fade to 1/e.

    Source: Finagle's RetryBudget (ratio 0.2, 10 a second, 10 s); "Addressing Cascading Failures", Google SRE book.
    """

    ratio: float = 0.1
    per_second: float = 1.0
    window: float = 10.0

    def __post_init__(self) -> None:
        problems = number("ratio", self.ratio, 0, 1, unit="retries that a success earns")
        problems += number("per_second", self.per_second, 0, 1e6, unit="retries a second")
        complain(self, problems + seconds("window", self.window, low=0.1))

    @staticmethod
    def unlimited() -> RetryBudget:
        """A budget that does not say no: a million retries a second. It is how retry storms are made."""
        return RetryBudget(ratio=1.0, per_second=1e6)

    def account(self) -> Account:
        """The running state of this budget."""
        return Account(self)


class Account:
    """The running state of one budget. Time never goes back."""

    __slots__ = ("_budget", "_earned", "_earned_at", "_reserve", "_reserve_at")

    def __init__(self, budget: RetryBudget) -> None:
        self._budget = budget
        self._earned = 0.0
        self._earned_at = 0.0
        self._reserve = budget.per_second * budget.window
        self._reserve_at: float | None = None

    def succeeded(self, now: float) -> None:
        """A call went well: it earns a part of a retry."""
        self._fade(now)
        self._earned += self._budget.ratio

    def withdraw(self, now: float) -> bool:
        """Whether one retry is allowed; if so it is paid for."""
        self._fade(now)
        if self._earned >= 1.0:
            self._earned -= 1.0
            return True
        self._refill(now)
        if self._reserve >= 1.0:
            self._reserve -= 1.0
            return True
        return False

    def _fade(self, now: float) -> None:
        # Fading in steps of a hundredth of the window saves the exponential on most calls.
        passed = now - self._earned_at
        if passed > self._budget.window * 0.01:
            self._earned *= math.exp(-passed / self._budget.window)
            self._earned_at = now

    def _refill(self, now: float) -> None:
        budget = self._budget
        if self._reserve_at is not None:
            full = budget.per_second * budget.window
            self._reserve = min(full, self._reserve + (now - self._reserve_at) * budget.per_second)
        self._reserve_at = now

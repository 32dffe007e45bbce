"""SpreadsRetries: callers that failed together do not come back together (no thundering herd)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from faults.base import bounded, check
from harness.guarantees.base import ALPHA, Finding, Promise, Verdict, unjudged
from harness.guarantees.statistics import SAMPLES, chance
from harness.history import History, Operation


@dataclass(frozen=True, slots=True, kw_only=True)
class SpreadsRetries(Promise):
    """Before their retries calls wait for different times: backoff has jitter.

    Of all waits before a first retry at most the fraction `share` (0.5) may lie within any `window` seconds of each other
    (0.005: less than the jitter of any usual backoff, more than the scheduler of a machine adds), and so of those before a
    second, and so on. A wait lasts from the failure of an attempt that may have reached a server until the next attempt
    begins while no other one of the call is out. To wait not at all is to wait for the same time.
    Statistics: exact binomial at 1e-6, divided by the number of windows looked at; 20 waits are needed to hold. Unknown
    if the client told of no attempts. Waits that a server asked for (pushback) cannot be told from others.
    """

    window: float = 0.005
    share: float = 0.5

    def __post_init__(self) -> None:
        check(self, bounded("window", self.window, 0, way_out="seconds")
              + bounded("share", self.share, 0, 1, way_out="a fraction of the waits"))  # fmt: skip

    def check(self, history: History) -> Verdict:
        bound = f"at most {self.share:g} of the waits within {self.window:g} s of each other"
        if not any(operation.attempts for operation in history.operations):
            return self.verdict(bound, unjudged("the client told of no attempt"))
        waits: dict[int, list[float]] = {}
        for operation in history.operations:
            for retry, wait in enumerate(_waits(operation), start=1):
                waits.setdefault(retry, []).append(wait)
        enough = {retry: sorted(each) for retry, each in waits.items() if len(each) >= SAMPLES}
        if not enough:
            counted = len(waits.get(1, ()))
            return self.verdict(bound, unjudged(f"{counted} waits counted, {SAMPLES} needed to judge"))
        findings = [self._judged(retry, each) for retry, each in enough.items()]
        return self.verdict(bound, *sorted(findings, key=lambda finding: finding.word != "broken"))

    def _judged(self, retry: int, waits: Sequence[float]) -> Finding:
        count, at = _densest(waits, self.window)
        n = len(waits)
        measured = f"{count} of {n} waits before retry {retry} were {at:.3f} s, within {self.window:g} s"
        if count <= self.share * n:
            return Finding(word="held", measured=measured)
        # Each wait begins a window: so many were looked at for the fullest one.
        by_chance = min(1.0, chance(count, n, self.share) * n)
        if by_chance < ALPHA:
            return Finding(word="broken", measured=measured, why=(measured,))
        excuse = f"chance explains that in one window of {n} with p = {by_chance:.1g} (broken is below {ALPHA:g})"
        return Finding(word="unknown", measured=measured, why=(f"{measured}; {excuse}",))


def _waits(call: Operation) -> Iterator[float]:
    """How long `call` waited before each of its retries, in their order."""
    for place, attempt in enumerate(call.attempts[1:], start=1):
        ends = [before.ended for before in call.attempts[:place]]
        last = call.attempts[place - 1]
        alone = all(end is not None and end <= attempt.started for end in ends)
        if alone and last.ended is not None and last.sent:
            yield attempt.started - last.ended


def _densest(waits: Sequence[float], window: float) -> tuple[int, float]:
    """Of sorted waits: how many lie in the fullest window, and where that begins."""
    most, at, first = 0, 0.0, 0
    for place, wait in enumerate(waits):
        while wait - waits[first] > window:
            first += 1
        if place - first + 1 > most:
            most, at = place - first + 1, waits[first]
    return most, at

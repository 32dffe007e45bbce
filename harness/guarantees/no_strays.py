"""NoStrays: once a call is over, nothing of it goes on (a hedge that lost is cancelled, no retry comes late)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from faults.base import bounded, check
from harness.guarantees import evidence
from harness.guarantees.base import Finding, Promise, Verdict, unjudged
from harness.guarantees.statistics import at_most, doubt
from harness.history import History, Operation


@dataclass(frozen=True, slots=True, kw_only=True)
class NoStrays(Promise):
    """No attempt begins, or is still under way, more than `tolerance` seconds after its call has ended.

    `tolerance` is 0.1 by default, for the threads of a busy machine. Calls that never ended do not count, nor those
    that ran while a fault acted on the client itself.
    Statistics: none, one is enough; 20 calls are needed to hold. Unknown if the client told of no attempts.
    """

    tolerance: float = 0.1

    def __post_init__(self) -> None:
        check(self, bounded("tolerance", self.tolerance, 0, way_out="seconds"))

    def check(self, history: History) -> Verdict:
        bound = f"no attempt goes on {self.tolerance:.3f} s after its call"
        if not any(operation.attempts for operation in history.operations):
            return self.verdict(bound, unjudged("the client told of no attempts"))
        away = [acted for acted in history.faults if acted.on == "client"]
        calls = [
            call
            for call in history.operations
            if call.ended is not None
            and not any(evidence.overlaps(f, call.invoked, call.ended + self.tolerance) for f in away)
        ]
        stray = [call for call in calls if _outlived(call) > self.tolerance]
        word = at_most(len(stray), len(calls), 0.0)
        why: list[str] = []
        measured = f"{len(stray)} of {len(calls)} calls were outlived by an attempt of theirs"
        if word == "broken":
            worst = max(stray, key=_outlived)
            why = [f"by up to {evidence.seconds(_outlived(worst))}", *evidence.call_lines("worst", history, worst)]
        elif word == "unknown":
            why = [doubt(0, len(calls), 0.0)]
        return self.verdict(bound, Finding(word=word, measured=measured, why=tuple(why)))


def _outlived(call: Operation) -> float:
    """Seconds from the end of the call to the end of its last attempt; infinite if that never ended."""
    assert call.ended is not None
    ends = [math.inf if attempt.ended is None else attempt.ended for attempt in call.attempts]
    return max((end - call.ended for end in ends), default=0.0)

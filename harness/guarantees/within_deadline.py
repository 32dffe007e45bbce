"""WithinDeadline: no call outlives its deadline, every server hears of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import KW_ONLY, dataclass

from faults.base import bounded, check
from harness.guarantees import evidence
from harness.guarantees.base import Finding, Promise, Verdict, unjudged
from harness.guarantees.statistics import at_most, doubt
from harness.history import Counts, Execution, History, Operation


@dataclass(frozen=True, slots=True)
class WithinDeadline(Promise):
    """Every call ended within `seconds` of its invocation, last attempt included; every server was told so.

    `tolerance` is in seconds: 0.1 by default, for the clocks and the scheduler of a busy machine. An attempt
    counts as running until it was seen to end, unless it lost to another (a hedge). What a server was told
    must not be more than was left when that attempt began, so that a deadline that starts anew with a retry
    is found. Calls that ran while a fault acted on the client itself do not count: who is stopped keeps no
    deadline.
    Statistics: none, one breach is enough; 20 calls are needed to hold, and a journal if any call was
    answered.
    """

    seconds: float
    _: KW_ONLY
    tolerance: float = 0.1

    def __post_init__(self) -> None:
        check(self, bounded("seconds", self.seconds, 0, 86_400)
              + bounded("tolerance", self.tolerance, 0, way_out="seconds"))  # fmt: skip

    def check(self, history: History) -> Verdict:
        bound = f"{self.seconds + self.tolerance:.3f} s, and every server told so"
        return self.verdict(bound, self._ended(history), self._told(history))

    def _undisturbed(self, history: History) -> Iterator[Operation]:
        """The calls that the client's process was there to end in time, one after the other."""
        away = [acted for acted in history.faults if acted.on == "client"]
        limit = self.seconds + self.tolerance
        return (
            c for c in history.operations if not any(evidence.overlaps(f, c.invoked, c.invoked + limit) for f in away)
        )

    def _ended(self, history: History) -> Finding:
        limit = self.seconds + self.tolerance
        calls, late, worst = 0, 0, None
        longest = -math.inf
        for call in self._undisturbed(history):
            lasted = _lasted(call)
            calls += 1
            late += lasted > limit
            if lasted > longest:
                longest, worst = lasted, call
        word = at_most(late, calls, 0.0)
        measured = "not judged" if worst is None else f"the longest of {calls} calls lasted {_told_time(worst)}"
        why: list[str] = []
        if word == "broken" and worst is not None:
            why = [f"too long: {late} of {calls} calls"]
            why += evidence.call_lines(f"worst, {_told_time(worst)}", history, worst)
        elif word == "unknown":
            why = [doubt(0, calls, 0.0)]
        return Finding(word=word, measured=measured, why=tuple(why))

    def _told(self, history: History) -> Finding:
        if missing := evidence.no_journal(history):
            return unjudged(f"{missing}, so nobody knows what deadline it heard of")
        known = Counts(call.id for call in self._undisturbed(history))
        later = _later(self._undisturbed(history))
        requests = bad = 0
        first: Execution | None = None
        for request in history.executions:
            if known[request.operation]:
                requests += 1
                if not self._right(request, later.get((request.operation, request.sent), 0.0)):
                    bad += 1
                    first = first or request
        if first is None:
            return Finding(word="held", measured=f"{requests} requests came with their deadline")
        told = "no deadline" if first.remaining is None else f"{first.remaining:.3f} s left"
        call = next(call for call in self._undisturbed(history) if call.id == first.operation)
        return Finding(
            word="broken",
            measured=f"{bad} of {requests} requests came with no deadline or too late a one",
            why=(
                f"first: call {first.operation} came to {first.server} at {first.received:.3f} s with {told}",
                *evidence.call_lines("its call", history, call),
            ),
        )

    def _right(self, request: Execution, gone: float) -> bool:
        """Whether the server was told no more than was left when the client began this attempt, `gone` seconds on."""
        return request.remaining is not None and request.remaining <= self.seconds - gone + self.tolerance


def _later(calls: Iterable[Operation]) -> dict[tuple[int, int], float]:
    """By call and `sent`: how long after the call its attempt began, of those that did not begin with it."""
    found: dict[tuple[int, int], float] = {}
    for call in calls:
        for attempt in call.attempts:
            if attempt.started > call.invoked:
                found.setdefault((call.id, attempt.sent), attempt.started - call.invoked)
    return found


def _lasted(call: Operation) -> float:
    """Seconds from the invocation to the last end of the call or of an attempt that nobody gave up."""
    ends = [call.ended, *(attempt.ended for attempt in call.attempts if not attempt.lost)]
    return max(math.inf if end is None else end - call.invoked for end in ends)


def _told_time(call: Operation) -> str:
    return evidence.seconds(_lasted(call))

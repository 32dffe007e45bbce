"""WithinBudget: a client tries no more often than its own configuration says, each call and all of them together."""

from __future__ import annotations

from dataclasses import dataclass

from faults.base import bounded, check, whole
from harness.guarantees import evidence
from harness.guarantees.base import Finding, Promise, Verdict, unjudged
from harness.guarantees.statistics import SAMPLES
from harness.history import History, Operation


@dataclass(frozen=True, slots=True, kw_only=True)
class WithinBudget(Promise):
    """No call takes more than `attempts` attempts (1 or more), and the further ones of all calls keep the budget.

    `ratio`, `per_second` and `window` (seconds) are those of the client's `RetryBudget`, with its defaults: at every
    moment, further attempts so far <= ratio * attempts that went well so far + per_second * (seconds so far + window).
    A client that is started again begins with a new `window`. Attempts that never left the client do not count (gRFC
    A6), nor does the first of each call that did.
    Statistics: none, one attempt too many is enough; 20 calls are needed to hold. Unknown if the client told of no
    attempts.
    """

    attempts: int
    ratio: float = 0.1
    per_second: float = 1.0
    window: float = 10.0

    def __post_init__(self) -> None:
        check(self, whole("attempts", self.attempts, 1, 100, way_out="the first attempt counts")
              + bounded("ratio", self.ratio, 0, 1, way_out="retries that a success earns")
              + bounded("per_second", self.per_second, 0, 1e6, way_out="retries a second")
              + bounded("window", self.window, 0, way_out="seconds"))  # fmt: skip

    def check(self, history: History) -> Verdict:
        bound = (
            f"at most {self.attempts} attempts a call; {self.ratio:g} retries a success, {self.per_second:g} a second"
        )
        if not any(operation.attempts for operation in history.operations):
            return self.verdict(bound, unjudged("the client told of no attempts"))
        return self.verdict(bound, self._each(history), self._together(history))

    def _each(self, history: History) -> Finding:
        most = max(history.operations, key=_sent)
        n = len(history.operations)
        measured = f"the most that one of {n} calls took is {_sent(most)} attempts"
        if _sent(most) > self.attempts:
            return Finding(word="broken", measured=measured, why=tuple(evidence.call_lines("most", history, most)))
        if n < SAMPLES:
            return Finding(word="unknown", measured=measured, why=(f"{n} calls counted, {SAMPLES} needed",))
        return Finding(word="held", measured=measured)

    def _together(self, history: History) -> Finding:
        """Successes and retries in their order: whether those are ever more than these have earned."""
        again: list[tuple[float, int, Operation]] = []
        for operation in history.operations:
            begun = sorted(attempt.started for attempt in operation.attempts if attempt.sent)
            again += [(time, 1, operation) for time in begun[1:]]
        good = [(a.ended, 0, o) for o, a in history.attempts() if a.code == "OK" and a.ended is not None]
        spent = earned = 0
        saved = self.window * history.client_starts
        for time, retry, operation in sorted((*again, *good), key=lambda event: event[:2]):
            spent, earned = spent + retry, earned + 1 - retry
            allowed = self.ratio * earned + self.per_second * (max(0.0, time) + saved)
            if spent > allowed + 1e-6:
                total = f"{len(again)} further attempts in all"
                return Finding(
                    word="broken",
                    measured=f"{spent} further attempts until {time:.3f} s, {allowed:.1f} allowed; {total}",
                    why=tuple(evidence.call_lines("first too many", history, operation)),
                )
        return Finding(word="held", measured=f"{len(again)} further attempts, {len(good)} that went well")


def _sent(call: Operation) -> int:
    """The attempts that may have reached a server."""
    return sum(1 for attempt in call.attempts if attempt.sent)

"""NoRetryStorm: bad days do not multiply the load."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

from faults.base import bounded, check
from harness.guarantees import evidence
from harness.guarantees.base import Finding, Promise, Verdict, unjudged
from harness.history import History, Operation

#: A window with fewer calls is not judged: one retry more or less would be a tenth of its figure or so.
CALLS = 50
#: Retries of calls that a fault hit come up to this many seconds after it.
AFTER = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NoRetryStorm(Promise):
    """At most `attempts_per_call` (1 or more) attempts a call, over the whole run and while each fault acted.

    Attempts that may have reached a server count, by the client's word, and independently the requests that
    servers received, by their journals; the larger counts. A fault's window lasts from its beginning until 1
    s after its healing and takes the calls due in it with all their attempts. The worst window counts.
    Statistics: none, the load was there or it was not; windows with fewer than 50 calls are not judged.
    """

    attempts_per_call: float

    def __post_init__(self) -> None:
        check(self, bounded("attempts_per_call", self.attempts_per_call, 1, way_out="the first attempt counts"))

    def check(self, history: History) -> Verdict:
        bound = f"at most {self.attempts_per_call:g} a call"
        requests = Counter(execution.operation for execution in history.executions)
        if not requests and not any(operation.attempts for operation in history.operations):
            return self.verdict(bound, unjudged("neither the client nor any server told of an attempt"))
        windows = [calls for calls in _windows(history) if len(calls) >= CALLS]
        if not windows:
            return self.verdict(bound, unjudged(f"{len(history.operations)} calls counted, {CALLS} needed to judge"))
        worst = max(windows, key=lambda calls: _load(calls, requests))
        return self.verdict(bound, self._judged(history, worst, requests))

    def _judged(self, history: History, calls: tuple[Operation, ...], requests: Counter[int]) -> Finding:
        n = len(calls)
        attempts, received = _attempts(calls) / n, _requests(calls, requests) / n
        span = f"{n} calls due from {calls[0].due:.3f} to {calls[-1].due:.3f} s"
        measured = f"{attempts:.2f} attempts and {received:.2f} requests a call over {span}"
        if max(attempts, received) <= self.attempts_per_call + 1e-9:
            return Finding(word="held", measured=measured)
        most = max(calls, key=lambda call: max(_attempts((call,)), requests[call.id]))
        return Finding(word="broken", measured=measured, why=tuple(evidence.call_lines("most", history, most)))


def _windows(history: History) -> list[tuple[Operation, ...]]:
    """The calls of the whole run, and those of each fault."""
    windows = [(-math.inf, math.inf), *((began, healed + AFTER) for began, healed in evidence.spans(history))]
    return [evidence.due_between(history, start, end) for start, end in windows]


def _load(calls: tuple[Operation, ...], requests: Counter[int]) -> float:
    return max(_attempts(calls), _requests(calls, requests)) / len(calls)


def _attempts(calls: tuple[Operation, ...]) -> int:
    return sum(1 for call in calls for attempt in call.attempts if attempt.sent)


def _requests(calls: tuple[Operation, ...], requests: Counter[int]) -> int:
    return sum(requests[call.id] for call in calls)

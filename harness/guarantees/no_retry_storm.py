"""NoRetryStorm: bad days do not multiply the load."""

from __future__ import annotations

import math
from dataclasses import dataclass

from faults.base import bounded, check
from harness.guarantees import evidence
from harness.guarantees.base import Finding, Promise, Verdict, unjudged
from harness.history import Counts, History, Operation

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
        requests = Counts(execution.operation for execution in history.executions)
        if not history.executions and not any(operation.attempts for operation in history.operations):
            return self.verdict(bound, unjudged("neither the client nor any server told of an attempt"))
        windows = [window for window in _windows(history, requests) if window.calls >= CALLS]
        if not windows:
            return self.verdict(bound, unjudged(f"{len(history.operations)} calls counted, {CALLS} needed to judge"))
        return self.verdict(bound, self._judged(history, max(windows, key=_load)))

    def _judged(self, history: History, window: _Window) -> Finding:
        n = window.calls
        span = f"{n} calls due from {window.first:.3f} to {window.last:.3f} s"
        measured = f"{window.attempts / n:.2f} attempts and {window.requests / n:.2f} requests a call over {span}"
        if _load(window) <= self.attempts_per_call + 1e-9 or window.most is None:
            return Finding(word="held", measured=measured)
        return Finding(word="broken", measured=measured, why=tuple(evidence.call_lines("most", history, window.most)))


@dataclass(slots=True)
class _Window:
    """The calls due from `start` until just before `end`: how many, their attempts and requests, and who has most of them."""

    start: float
    end: float
    calls: int = 0
    attempts: int = 0
    requests: int = 0
    first: float = 0.0  # when they were due
    last: float = 0.0
    most: Operation | None = None
    its: int = -1

    def add(self, call: Operation, attempts: int, requests: int) -> None:
        if not self.calls:
            self.first = call.due
        self.last = call.due
        self.calls += 1
        self.attempts += attempts
        self.requests += requests
        if max(attempts, requests) > self.its:
            self.most, self.its = call, max(attempts, requests)


def _windows(history: History, requests: Counts) -> list[_Window]:
    """Of the whole run, and of each fault."""
    windows = [_Window(-math.inf, math.inf)]
    windows += [_Window(began, healed + AFTER) for began, healed in evidence.spans(history)]
    for call in history.operations:
        sent = sum(1 for attempt in call.attempts if attempt.sent)
        for window in windows:
            if window.start <= call.due < window.end:
                window.add(call, sent, requests[call.id])
    return windows


def _load(window: _Window) -> float:
    return max(window.attempts, window.requests) / window.calls

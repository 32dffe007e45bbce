"""Fast: latency as callers feel it, from when a call was due (no coordinated omission)."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from faults.base import bounded, check
from harness.guarantees import evidence
from harness.guarantees.base import Finding, Promise, Verdict, plain
from harness.guarantees.statistics import at_most, doubt
from harness.history import History, Operation

#: Which fraction of the calls may take longer than the bound of each name.
SLOWER = {"p50": 0.5, "p90": 0.1, "p99": 0.01, "max": 0.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fast(Promise):
    """At most 1/2, 1/10, 1/100, none of the calls took longer than `p50`, `p90`, `p99`, `max` seconds.

    None (the default) asks nothing; one at least must be given. Latency counts from when a call was due; a
    failed call counts with its time, one that never ended is slower than anything. Calls due in the first
    `grace` seconds (default 0) of a fault do not count; unknown if that leaves out every call that was due
    while a fault acted.
    Statistics: `at_most` for each bound (exact binomial, 1e-6 each); p99 needs 100 calls to hold, the others
    20.
    """

    p50: float | None = None
    p90: float | None = None
    p99: float | None = None
    max: float | None = None
    grace: float = 0.0

    def __post_init__(self) -> None:
        problems = bounded("grace", self.grace, 0, way_out="seconds")
        for name, bound in self.bounds().items():
            problems += bounded(name, bound, 0, way_out="seconds")
        if not self.bounds():
            problems.append("one of p50, p90, p99 and max must be given, such as Fast(p99=0.050)")
        check(self, problems)

    def bounds(self) -> dict[str, float]:
        """The bounds that were given, in seconds."""
        given = {"p50": self.p50, "p90": self.p90, "p99": self.p99, "max": self.max}
        return {name: bound for name, bound in given.items() if bound is not None}

    def check(self, history: History) -> Verdict:
        took = array("d", sorted(map(_latency, evidence.counted(history, self.grace))))
        names = self.bounds()
        quantiles = ", ".join(f"{name} was {_quantile(took, SLOWER[name])}" for name in names)
        measured = f"{quantiles} over {len(took)} calls"
        bound = ", ".join(f"{name} at most {plain(value)} s" for name, value in names.items())
        findings = [self._judged(history, took, name, value, measured) for name, value in names.items()]
        return self.verdict(bound, *findings, *evidence.forgiven(history, self.grace))

    def _judged(self, history: History, took: Sequence[float], name: str, bound: float, measured: str) -> Finding:
        """What one bound finds in the times that calls `took`, in order."""
        slower = len(took) - bisect_right(took, bound)
        word = at_most(slower, len(took), SLOWER[name])
        why: list[str] = []
        if word == "broken":
            worst = max(evidence.counted(history, self.grace), key=_latency)
            why = evidence.call_lines("worst", history, worst)
        elif word == "unknown":
            why = [doubt(slower, len(took), SLOWER[name], are=f"took more than {plain(bound)} s", promise=name)]
        return Finding(word=word, measured=measured, why=tuple(why))


def _latency(call: Operation) -> float:
    return math.inf if call.latency is None else call.latency


def _quantile(took: Sequence[float], slower: float) -> str:
    """The shortest time that at most the fraction `slower` of the calls exceeded."""
    if not took:
        return "not seen"
    # As in at_most: 100 * (1 - 0.01) must not become the 100th.
    rank = math.ceil(len(took) * (1 - slower) - 1e-6)
    return evidence.seconds(took[rank - 1])

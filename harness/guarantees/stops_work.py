"""StopsWork: nobody works for a caller who has gone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from faults.base import bounded, check
from harness.guarantees import evidence
from harness.guarantees.base import Finding, Promise, Verdict, unjudged
from harness.guarantees.statistics import at_most, doubt
from harness.history import Execution, History


@dataclass(frozen=True, slots=True, kw_only=True)
class StopsWork(Promise):
    """`within` seconds after a call has ended for its caller, no server works on it any more.

    `within` is 0.1 by default, for the cancellation's way and the scheduler of a busy machine. At most the fraction
    `share` (0.01) of the requests that reached a server may be worked on for longer: losers of a hedge that nobody
    cancelled, attempts whose server heard neither of a deadline nor of its end. A server that was stopped (Pause) finishes
    what it had begun when it goes on, whatever its callers do; such days can promise less.
    Statistics: `at_most` of `share` (exact binomial, 1e-6); 20 requests, and 1 / share, are needed to hold. Unknown if
    calls were answered and no server kept a journal.
    """

    within: float = 0.1
    share: float = 0.01

    def __post_init__(self) -> None:
        check(self, bounded("within", self.within, 0, way_out="seconds")
              + bounded("share", self.share, 0, 1, way_out="a fraction of the requests"))  # fmt: skip

    def check(self, history: History) -> Verdict:
        bound = f"at most {self.share:g} of the requests for more than {self.within:g} s"
        if missing := evidence.no_journal(history):
            return self.verdict(bound, unjudged(missing))
        over = list(_overtime(history))
        late = [(request, time) for request, time in over if time > self.within]
        word = at_most(len(late), len(over), self.share)
        why: list[str] = []
        if word == "broken":
            worst, time = max(late, key=lambda each: each[1])
            call = next(o for o in history.operations if o.id == worst.operation)
            why = [
                f"worst: {worst.server} worked {time:.3f} s too long, until {worst.ended:.3f} s",
                *evidence.call_lines("its call", history, call),
            ]
        elif word == "unknown":
            promise = f"at most {self.share:g}"
            why = [doubt(len(late), len(over), self.share, of="requests", are="were worked on", promise=promise)]
        measured = f"{len(late)} of {len(over)} requests were worked on after their caller had gone"
        return self.verdict(bound, Finding(word=word, measured=measured, why=tuple(why)))


def _overtime(history: History) -> Iterator[tuple[Execution, float]]:
    """Each request that a server was seen to be through with, and by how many seconds that outlasted its call."""
    gone = {operation.id: operation.ended for operation in history.operations}
    for request in history.executions:
        end = gone.get(request.operation)
        if end is not None and request.ended is not None:
            yield request, request.ended - end

"""RetriesElsewhere: who failed a call is not asked again for the same call while somebody else could be."""

from __future__ import annotations

import math
from dataclasses import dataclass

from faults.base import bounded, check
from harness.guarantees import evidence
from harness.guarantees.base import Finding, Promise, Verdict, unjudged
from harness.guarantees.statistics import at_most, doubt
from harness.history import Attempt, History, Operation


@dataclass(frozen=True, slots=True, kw_only=True)
class RetriesElsewhere(Promise):
    """A further attempt of a call goes to a server that the call has not tried, while there is a good one.

    A server is surely good as long as no attempt on it has failed in the whole run, nor fails within `tolerance`
    seconds (0.1, for the clocks of a busy machine) after the further attempt began: nothing can speak against it
    then. Attempts that never left the client count too. Not for a client with health checks, which may know better.
    Statistics: none, one is enough; 20 further attempts with a choice are needed to hold. Unknown if the client told
    of no attempts.
    """

    tolerance: float = 0.1

    def __post_init__(self) -> None:
        check(self, bounded("tolerance", self.tolerance, 0, way_out="seconds"))

    def check(self, history: History) -> Verdict:
        bound = "never the same server again while a good one is untried"
        if not any(operation.attempts for operation in history.operations):
            return self.verdict(bound, unjudged("the client told of no attempts"))
        failed = _first_failures(history)
        found = [
            (call, again, untried)
            for call in history.operations
            for again, tried in _further(call)
            if (untried := self._good(failed, again.started, tried))
        ]
        back = [(call, again, untried) for call, again, untried in found if _went_back(call, again)]
        word = at_most(len(back), len(found), 0.0)
        measured = f"{len(back)} of {len(found)} further attempts went where their call had been"
        why: list[str] = []
        if word == "broken":
            call, again, untried = back[0]
            said = f"attempt {again.number} of call {call.id} went to {again.server} again at {again.started:.3f} s"
            why = [f"first: {said}, though {untried} had failed nobody", *evidence.call_lines("it", history, call)]
        elif word == "unknown":
            why = [doubt(0, len(found), 0.0, of="further attempts with a choice")]
        return self.verdict(bound, Finding(word=word, measured=measured, why=tuple(why)))

    def _good(self, failed: dict[str, float], time: float, tried: set[str]) -> str:
        """A server that is surely good at `time` and not among the `tried`; "" if there is none."""
        names = (name for name, first in failed.items() if name not in tried and first > time + self.tolerance)
        return next(names, "")


def _first_failures(history: History) -> dict[str, float]:
    """When each server first failed an attempt, for whatever reason; one that never came back failed at once.

    One that was cancelled (it lost a race) failed nobody.
    """
    first = {server.name: math.inf for server in history.servers}
    for _, attempt in history.attempts():
        if attempt.code not in ("OK", "CANCELLED"):
            ended = attempt.started if attempt.ended is None else attempt.ended
            first[attempt.server] = min(first.get(attempt.server, math.inf), ended)
    return first


def _further(call: Operation) -> list[tuple[Attempt, set[str]]]:
    """The attempts after the first, each with the servers that were tried before it."""
    return [(a, {b.server for b in call.attempts if b.number < a.number}) for a in call.attempts if a.number > 1]


def _went_back(call: Operation, again: Attempt) -> bool:
    return any(b.server == again.server for b in call.attempts if b.number < again.number)

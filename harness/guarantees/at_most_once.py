"""AtMostOnce: nothing is done twice (as by a retry of a call whose answer was lost)."""

from __future__ import annotations

from dataclasses import dataclass

from harness.guarantees import evidence
from harness.guarantees.base import Finding, Promise, Verdict, unjudged
from harness.guarantees.statistics import at_most, doubt
from harness.history import Counts, History


@dataclass(frozen=True, slots=True, kw_only=True)
class AtMostOnce(Promise):
    """No call was executed more than once, by one server or by several, as their journals tell.

    Statistics: none, one call is enough; 20 executed calls are needed to hold. Unknown if calls were answered
    and no server kept a journal.
    """

    def check(self, history: History) -> Verdict:
        bound = "no call executed more than once"
        if missing := evidence.no_journal(history):
            return self.verdict(bound, unjudged(missing))
        executed = history.executed()
        done, again = executed.of(bool), executed.of(lambda times: times > 1)
        word = at_most(again, done, 0.0)
        why: list[str] = []
        if word == "broken":
            why = _why(history, executed)
        elif word == "unknown":
            why = [doubt(0, done, 0.0, of="executed calls")]
        measured = f"{again} of {done} executed calls were executed more than once"
        return self.verdict(bound, Finding(word=word, measured=measured, why=tuple(why)))


def _why(history: History, executed: Counts) -> list[str]:
    """The call that was executed most often, when and where, and what acted meanwhile."""
    call = max(history.operations, key=lambda operation: executed[operation.id])
    mine = [e for e in history.executions if e.operation == call.id]
    when = sorted((e.executed, e.server) for e in mine if e.executed is not None)
    places = ", ".join(f"at {time:.3f} s on {server}" for time, server in when[:4])
    return [
        f"worst: call {call.id} was executed {len(when)} times: {places}",
        *evidence.call_lines("its caller", history, call),
    ]

"""AtMostOnce: nothing is done twice (as by a retry of a call whose answer was lost)."""

from __future__ import annotations

from dataclasses import dataclass

from harness.guarantees import evidence
from harness.guarantees.base import Finding, Promise, Verdict, unjudged
from harness.guarantees.statistics import at_most, doubt
from harness.history import Execution, History


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
        done = history.executions_of()
        again = {id: executions for id, executions in done.items() if len(executions) > 1}
        word = at_most(len(again), len(done), 0.0)
        why: list[str] = []
        if word == "broken":
            why = _why(history, again)
        elif word == "unknown":
            why = [doubt(0, len(done), 0.0, of="executed calls")]
        measured = f"{len(again)} of {len(done)} executed calls were executed more than once"
        return self.verdict(bound, Finding(word=word, measured=measured, why=tuple(why)))


def _why(history: History, again: dict[int, list[Execution]]) -> list[str]:
    """The call that was executed most often, when and where, and what acted meanwhile."""
    worst = max(again, key=lambda id: len(again[id]))
    when = sorted((e.executed, e.server) for e in again[worst] if e.executed is not None)
    places = ", ".join(f"at {time:.3f} s on {server}" for time, server in when[:4])
    call = next(operation for operation in history.operations if operation.id == worst)
    return [
        f"worst: call {worst} was executed {len(when)} times: {places}",
        *evidence.call_lines("its caller", history, call),
    ]

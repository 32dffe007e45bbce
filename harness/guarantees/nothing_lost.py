"""NothingLost: what was acknowledged was done, and a batch is done to its end."""

from __future__ import annotations

from dataclasses import dataclass

from harness.guarantees import evidence
from harness.guarantees.base import Finding, Promise, Verdict, unjudged
from harness.guarantees.statistics import at_most, doubt
from harness.history import History


@dataclass(frozen=True, slots=True, kw_only=True)
class NothingLost(Promise):
    """Every call that ended ok was executed by some server; of a batch every item was, and its call ended ok.

    Statistics: none, one is enough; 20 calls that ended ok (20 items of a batch) are needed to hold. Unknown
    if calls were answered and no server kept a journal.
    """

    def check(self, history: History) -> Verdict:
        bound = "every acknowledged call executed" + ("" if history.items is None else ", every item done")
        if missing := evidence.no_journal(history):
            return self.verdict(bound, unjudged(missing))
        findings = [_acknowledged(history)]
        if history.items is not None:
            findings.append(_items(history, history.items))
        return self.verdict(bound, *findings)


def _acknowledged(history: History) -> Finding:
    done = history.executed()
    acknowledged = sum(1 for operation in history.operations if operation.result == "ok")
    lost = [operation for operation in history.operations if operation.result == "ok" and not done[operation.id]]
    word = at_most(len(lost), acknowledged, 0.0)
    why: list[str] = []
    if word == "broken":
        why = evidence.call_lines("first", history, lost[0])
    elif word == "unknown":
        why = [doubt(0, acknowledged, 0.0, of="acknowledged calls")]
    measured = f"{len(lost)} of {acknowledged} acknowledged calls were executed nowhere"
    return Finding(word=word, measured=measured, why=tuple(why))


def _items(history: History, items: int) -> Finding:
    absent = undone(history, items)
    word = at_most(len(absent), items, 0.0)
    why: list[str] = []
    if word == "broken":
        why = [
            f"never done: item {', '.join(map(str, absent[:5]))}" + f" and {len(absent) - 5} more" * (len(absent) > 5)
        ]
    elif word == "unknown":
        why = [doubt(0, items, 0.0, of="items")]
    return Finding(word=word, measured=f"{len(absent)} of {items} items were not done", why=tuple(why))


def undone(history: History, items: int) -> list[int]:
    """The items of a batch, of 0 to `items` - 1, without a call that ended ok or without an execution."""
    answered = {operation.item for operation in history.operations if operation.result == "ok"}
    done = {item for item, _ in evidence.items_done(history)}
    return [item for item in range(items) if item not in answered or item not in done]

"""Resumes: broken work continues where it was, and repeats are told."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from faults.base import bounded, check
from harness.guarantees import evidence
from harness.guarantees.base import Finding, Promise, Verdict, unjudged
from harness.guarantees.nothing_lost import undone
from harness.guarantees.statistics import SAMPLES
from harness.history import Execution, History


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumes(Promise):
    """An interrupted batch was done to its end, in order, with at most `every` items repeated each time.

    Every item has a call that ended ok and an execution. An item that was executed again was marked as a
    repeat each time after the first, by its flag or as a further attempt of its call (gRFC A6). At most
    `every` items (the distance of two checkpoints, 1 or more) were executed more than once for each
    interruption: a fault that touched the client or a server's traffic, or a further start of the client
    that no fault explains. Items were begun in order; only a further start of the client may go back.
    Statistics: none, one breach is enough; a batch of 20 items is needed to hold. Unknown: no batch, no
    interruption, or no journal though calls were answered.
    """

    every: int

    def __post_init__(self) -> None:
        check(self, bounded("every", self.every, 1, way_out="items between two checkpoints"))

    def check(self, history: History) -> Verdict:
        bound = f"every item done, at most {self.every} repeated an interruption, marked and in order"
        if reason := _unfit(history):
            return self.verdict(bound, unjudged(reason))
        times = _times(history)
        findings = [_complete(history), _marked(times), self._repeated(history, times), _ordered(history)]
        return self.verdict(bound, *findings)

    def _repeated(self, history: History, times: dict[int, list[Execution]]) -> Finding:
        again = [item for item, executions in times.items() if len(executions) > 1]
        interruptions = _interruptions(history)
        measured = f"{len(again)} items were executed again after {interruptions} interruptions"
        if len(again) <= self.every * interruptions:
            return Finding(word="held", measured=measured)
        shown = ", ".join(map(str, again[:5]))
        why = f"executed again: items {shown}" + " ..." * (len(again) > 5)
        return Finding(word="broken", measured=measured, why=(f"{why}; allowed are {self.every * interruptions}",))


def _unfit(history: History) -> str:
    """Why the history says nothing about resuming, if it does not."""
    if history.items is None:
        return "the workload is not a batch"
    if not _interruptions(history):
        return "nothing interrupted the batch"
    return evidence.no_journal(history)


def _interruptions(history: History) -> int:
    """How often the batch may have been broken off: a killed client's fault and its next start are one."""
    touched = [acted.on == "client" for acted in history.faults if acted.touched]
    return max(history.client_starts - 1, sum(touched)) + touched.count(False)


def _times(history: History) -> dict[int, list[Execution]]:
    """The executions of each item, in the order in which they happened."""
    times: dict[int, list[Execution]] = {}
    for item, execution in evidence.items_done(history):
        times.setdefault(item, []).append(execution)
    return times


def _complete(history: History) -> Finding:
    items = history.items or 0
    absent = undone(history, items)
    measured = f"{items - len(absent)} of {items} items were done"
    if absent:
        shown = ", ".join(map(str, absent[:5])) + " ..." * (len(absent) > 5)
        return Finding(word="broken", measured=measured, why=(f"never done: items {shown}",))
    if items < SAMPLES:
        return Finding(word="unknown", measured=measured, why=(f"{items} items, {SAMPLES} needed to judge",))
    return Finding(word="held", measured=measured)


def _marked(times: dict[int, list[Execution]]) -> Finding:
    """Whether every execution after the first said so (it is never silently exactly-once)."""
    silent = [(item, e) for item, executions in times.items() for e in executions[1:] if not (e.repeat or e.sent > 1)]
    measured = f"{len(silent)} repeats were not marked as such"
    if not silent:
        return Finding(word="held", measured=measured)
    item, first = silent[0]
    why = f"first: item {item} (call {first.operation}) again at {first.executed:.3f} s on {first.server}"
    return Finding(word="broken", measured=measured, why=(why,))


def _ordered(history: History) -> Finding:
    """Whether the client went back at most as often as it was started again."""
    calls = sorted((o for o in history.operations if o.item is not None), key=lambda o: o.invoked)
    steps = [(a, b) for a, b in pairwise(calls) if (b.item or 0) < (a.item or 0)]
    measured = f"the client went back {len(steps)} times in {history.client_starts} starts"
    if len(steps) < history.client_starts:
        return Finding(word="held", measured=measured)
    before, after = steps[-1]
    why = f"last: item {after.item} (call {after.id}) at {after.invoked:.3f} s, after item {before.item}"
    return Finding(word="broken", measured=measured, why=(why,))

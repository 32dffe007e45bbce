"""Uncut: however often an answer stream broke, what its caller read is the uncut stream."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from faults.base import check, whole
from harness.guarantees import evidence
from harness.guarantees.base import Finding, Promise, Verdict, unjudged
from harness.guarantees.statistics import at_most, doubt
from harness.history import History, Operation, Piece

#: A line tells so many pieces of what was heard.
PIECES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Uncut(Promise):
    """What was read of each stream is the uncut stream: nothing lost, nothing repeated, nothing out of order.

    A stream that ended ok was read to its last message; of any other the beginning was. Only a further start
    of the client may bring messages again, at most `every` of each stream (0 by default; else the client's
    `checkpoint_every`), and each of them marked as a repeat: what may come twice is never silent.
    Statistics: none, one breach is enough; 20 streams that ended ok are needed to hold, and one that was cut
    in its midst. Unknown if there are no streams.
    """

    every: int = 0

    def __post_init__(self) -> None:
        check(self, whole("every", self.every, 0, way_out="messages between two checkpoints"))

    def check(self, history: History) -> Verdict:
        bound = "every stream whole and in order, " + (
            f"at most {self.every} messages repeated a start, marked" if self.every else "no message repeated"
        )
        streams = _streams(history)
        if not streams:
            return self.verdict(bound, unjudged("the workload has no streams"))
        breaches = [found for runs in streams if (found := _breach(runs, self.every)) is not None]
        if breaches:
            operation, what = breaches[0]
            why = (f"first: {what}; {_heard(operation)}", *evidence.call_lines("its call", history, operation))
            measured = f"{len(breaches)} of {len(streams)} streams are not the uncut ones"
            return self.verdict(bound, Finding(word="broken", measured=measured, why=why))
        return self.verdict(bound, *_enough(history, streams))


def _streams(history: History) -> list[list[Operation]]:
    """The operations of each stream in their order: more than one if the client was started again."""

    def stream(operation: Operation) -> tuple[int, int]:
        return (operation.id, -1) if operation.item is None else (-1, operation.item)

    read = [operation for operation in history.operations if operation.messages is not None]
    read.sort(key=lambda operation: (stream(operation), operation.invoked))
    return [list(runs) for _, runs in groupby(read, key=stream)]


def _breach(runs: Sequence[Operation], every: int) -> tuple[Operation, str] | None:
    """The first operation of a stream that is not as it must be, and what is wrong with it."""
    new = 1  # the first message that nobody has heard yet
    for number, operation in enumerate(runs):
        last = operation.messages or 0
        following, again = None, 0
        for piece in operation.heard:
            if wrong := _misplaced(piece, following, new, last):
                return operation, wrong
            again += max(0, min(piece.last, new - 1) - piece.first + 1)
            following = piece.last + 1
            new = max(new, following)
        if again > (every if number else 0):
            return operation, f"{again} messages came again, {every} allowed"
        if operation.result == "ok" and new <= last:
            return operation, f"it ended ok after message {new - 1} of {last}"
    return None


def _misplaced(piece: Piece, following: int | None, new: int, last: int) -> str:
    """What is wrong with a piece which comes when `following` (None: any that is not later than `new`) is due, if it is."""
    due = min(piece.first, new) if following is None else following
    if piece.first < 1 or piece.last > last:
        return f"message {piece.first if piece.first < 1 else piece.last} came of a stream of {last}"
    if piece.first > due:
        return f"message {due} was due, {piece.first} came"
    if piece.first < due:
        return f"message {piece.first} came again"
    return f"message {piece.first} came again, not marked as a repeat" if piece.first < new and not piece.repeat else ""


def _enough(history: History, streams: Sequence[Sequence[Operation]]) -> Iterable[Finding]:
    """Whether what was seen suffices to say that streams are whole."""
    ended = sum(1 for runs in streams if any(run.result == "ok" for run in runs))
    cut = sum(1 for runs in streams if _cut(history, runs))
    word = at_most(0, ended, 0.0)
    why = (doubt(0, ended, 0.0, of="streams that ended ok"),) if word == "unknown" else ()
    yield Finding(word=word, measured=f"all {ended} streams that ended ok are whole, {cut} were cut", why=why)
    if not cut:
        yield unjudged("no stream was cut in its midst")


def _cut(history: History, runs: Sequence[Operation]) -> bool:
    """Whether somebody had heard a part of it when it broke."""
    heard = [run for run in runs if run.heard]
    if len(heard) > 1 or any(run.result != "ok" for run in heard):
        return True
    if any(len({piece.attempt for piece in run.heard}) > 1 for run in heard):
        return True
    # A client that tells of no attempts: then its servers do.
    silent = {run.id for run in heard if not run.attempts}
    return bool(silent) and sum(e.messages > 0 for e in history.executions if e.operation in silent) > 1


def _heard(operation: Operation) -> str:
    """What reached the caller, as in "heard 1 to 17 from server-0, 19 to 30 from server-2"."""
    servers = {attempt.number: attempt.server for attempt in operation.attempts}
    told = [
        (f"{piece.first}" if piece.first == piece.last else f"{piece.first} to {piece.last}")
        + (f" from {servers[piece.attempt]}" if piece.attempt in servers else "")
        for piece in operation.heard[:PIECES]
    ]
    more = " ..." if len(operation.heard) > PIECES else ""
    return f"heard {', '.join(told) or 'nothing'}{more}"

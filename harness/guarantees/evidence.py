"""What of a history counts, and how an offending call is told: the words that all guarantees share."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from textwrap import shorten

from harness.guarantees.base import Finding, unjudged
from harness.history import Acted, Execution, History, Operation, Server

#: A verdict names so many of the faults that acted when it was broken.
NAMED = 2
#: Seconds by which a call must have begun late for that to be told: less is the scheduler's, and part of its time.
NOTICED = 0.01
#: The longest detail that is told of a call, in characters.
DETAIL = 80


@dataclass(frozen=True, slots=True)
class Try:
    """One attempt: by the client's word its start, by a server's journal its arrival."""

    operation: int
    server: str
    at: float


def counted(history: History, grace: float) -> Iterator[Operation]:
    """The calls that were not due in the first `grace` seconds of a fault, one after the other."""
    starts = {acted.began for acted in history.faults if acted.began is not None}
    return (o for o in history.operations if not any(start <= o.due < start + grace for start in starts))


def forgiven(history: History, grace: float) -> list[Finding]:
    """That `grace` hides the faults, if it does: of all calls that were due while one acted, none counts."""
    acting = spans(history)

    def under(calls: Iterable[Operation]) -> int:
        return sum(1 for call in calls if any(start <= call.due < end for start, end in acting))

    hidden = under(history.operations) if acting else 0
    if not hidden or under(counted(history, grace)):
        return []
    return [unjudged(f"grace={grace:g} leaves out all {hidden} calls that were due while a fault acted; give less")]


def spans(history: History) -> list[tuple[float, float]]:
    """When faults acted, from and to (inf: never healed), in order; those that hit many at once are one."""
    found = {(f.began, math.inf if f.healed is None else f.healed) for f in history.faults if f.began is not None}
    return sorted(found)


def due_between(history: History, start: float, end: float) -> tuple[Operation, ...]:
    """The calls due from `start` until just before `end`."""
    return tuple(o for o in history.operations if start <= o.due < end)


def tries(history: History) -> Iterable[Try]:
    """Every attempt, sent or not, one after the other; where the client told of none, every request by the journals."""
    if any(operation.attempts for operation in history.operations):
        return (Try(o.id, attempt.server, attempt.started) for o, attempt in history.attempts())
    return (Try(e.operation, e.server, e.received) for e in history.executions)


def first_tries(history: History) -> Iterable[Try]:
    """The first attempt of every call; where the client told of none, the first request by the journals."""
    if any(operation.attempts for operation in history.operations):
        attempts = history.attempts()
        return (Try(o.id, attempt.server, attempt.started) for o, attempt in attempts if attempt.number == 1)
    first: dict[int, Try] = {}
    for request in sorted(tries(history), key=lambda request: request.at):
        first.setdefault(request.operation, request)
    return first.values()


def due_shares(servers: Sequence[Server], *, weighted: bool = True) -> dict[str, float]:
    """The fair share of each server of the lowest priority number: the others serve when none of them can."""
    lowest = min((server.priority for server in servers), default=0)
    tier = [server for server in servers if server.priority == lowest]
    total = sum(server.weight for server in tier)
    if not weighted or total <= 0:
        return {server.name: 1 / len(tier) for server in tier}
    return {server.name: server.weight / total for server in tier}


def items_done(history: History) -> list[tuple[int, Execution]]:
    """Every execution of an item of a batch, in the order in which they happened."""
    item_of = {operation.id: operation.item for operation in history.operations}
    found = []
    for execution in history.executions:
        item = item_of.get(execution.operation) if execution.item is None else execution.item
        if item is not None and execution.executed is not None:
            found.append((execution.executed, item, execution))
    return [(item, execution) for _, item, execution in sorted(found, key=lambda one: one[0])]


def no_journal(history: History) -> str:
    """Why the servers cannot be asked, if they cannot: nobody wrote down the work that was acknowledged."""
    answered = any(operation.result == "ok" for operation in history.operations)
    return "no server kept a journal of what it executed" if answered and not history.executions else ""


def call_line(word: str, history: History, operation: Operation) -> str:
    """One call in one line, as in "worst: call 841 began at 13.104 s, took 0.497 s, 2 attempts, server-4"."""
    late = operation.invoked - operation.due
    lasted = seconds(operation.latency or 0.0)
    begin, end = f"began at {operation.invoked:.3f} s", f"took {lasted}"
    if late >= NOTICED:
        begin, end = f"was due at {operation.due:.3f} s, began {late:.3f} s late", f"ended {lasted} after it was due"
    parts = [f"{word}: call {operation.id} {begin}", "never ended" if operation.ended is None else end]
    if operation.attempts:
        parts.append(f"{len(operation.attempts)} attempt" + "s" * (len(operation.attempts) > 1))
    parts.extend(_servers(history, operation))
    if operation.result != "ok":
        detail = f" ({_brief(operation.detail)})" if operation.detail else ""
        parts.append(f"{operation.result}: {operation.code}{detail}")
    return ", ".join(parts)


def _brief(detail: str) -> str:
    """At most `DETAIL` characters: without the list of attempts that ends our own details, or else cut at a word."""
    if len(detail) <= DETAIL:
        return detail
    return shorten(detail.partition(" [")[0], DETAIL, placeholder=" ...")


def _servers(history: History, operation: Operation) -> Iterable[str]:
    """The servers that a call was tried on, each once."""
    names = [attempt.server for attempt in operation.attempts]
    return dict.fromkeys(names or [e.server for e in history.executions if e.operation == operation.id])


def active_lines(history: History, start: float, end: float | None) -> list[str]:
    """The faults that acted at any time from `start` to `end` (None: the end of the run)."""
    until = math.inf if end is None else end
    active = [acted for acted in history.faults if overlaps(acted, start, until)]
    lines = [f"active: {fault_line(acted)}" for acted in active[:NAMED]] or ["active: no fault"]
    return [*lines, f"active: {len(active) - NAMED} more"] if len(active) > NAMED else lines


def call_lines(word: str, history: History, operation: Operation) -> list[str]:
    """One call, and the faults that acted while it ran."""
    return [call_line(word, history, operation), *active_lines(history, operation.due, operation.ended)]


def overlaps(acted: Acted, start: float, end: float) -> bool:
    """Whether a fault acted at any time from `start` to `end`."""
    return acted.began is not None and acted.began <= end and (acted.healed is None or acted.healed > start)


def fault_line(acted: Acted) -> str:
    """One fault in one line, as in "Latency(0.300) on server-4 from 5.0 to 15.0 s"."""
    began = acted.start if acted.began is None else acted.began
    span = f"{began:.1f} s until the end" if acted.healed is None else f"{began:.1f} to {acted.healed:.1f} s"
    return f"{acted.fault} on {acted.on} from {span}"


def codes(calls: Counter[str]) -> str:
    """How many calls ended with which status, as in "12 UNAVAILABLE, 3 DEADLINE_EXCEEDED", the most frequent first."""
    return ", ".join(f"{count} {code}" for code, count in calls.most_common(4))


def seconds(value: float) -> str:
    """A length of time to the millisecond; what never ended is longer than any."""
    return "for ever" if math.isinf(value) else f"{value:.3f} s"

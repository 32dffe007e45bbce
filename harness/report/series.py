"""What of a history is drawn: which calls, which servers, which times, between which bounds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import nlargest, nsmallest
from typing import TypeVar

from harness.history import Acted, History, Operation

#: No more calls than this are drawn, and no more than BAD that did not end ok. The SLOWEST are kept.
CALLS = 1500
BAD = 1000
SLOWEST = 150
#: No more servers than this get a row of their own; those that were hit come first.
SERVERS = 10
#: No more faults than this get a lane of their own.
LANES = 6

#: From when until when, in seconds.
Span = tuple[float, float]
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The calls that are drawn, and in words which these are (empty if they are all)."""

    calls: tuple[Operation, ...]
    says: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """One fault: its name, on whom it acted, and when, with what touches or overlaps joined."""

    fault: str
    on: tuple[str, ...]
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """Attempts a second at one server, for each `step` seconds: all, and those of them that failed."""

    server: str
    step: float
    attempts: int
    all: tuple[float, ...]
    failed: tuple[float, ...]


def select(operations: Sequence[Operation]) -> Selection:
    """All calls if they are few; else, of those that did not end ok and of those that did, a part each."""
    if len(operations) <= CALLS:
        return Selection(calls=tuple(operations), says="")
    bad = sum(1 for operation in operations if operation.result != "ok")
    good = len(operations) - bad
    drawn_bad = _thinned(operations, bad, BAD, ok=False)
    drawn_good = _thinned(operations, good, CALLS - len(drawn_bad), ok=True)
    parts = ((drawn_bad, bad, "did not end ok"), (drawn_good, good, "ended ok"))
    counts = [f"{len(some):,} of {every:,} calls that {ended}" for some, every, ended in parts if every]
    which = f"the {SLOWEST} slowest of each kind, and an even choice of the others"
    says = f"drawn are {' and '.join(counts)}: {which}"
    return Selection(calls=(*drawn_bad, *drawn_good), says=says)


def _thinned(operations: Sequence[Operation], there: int, count: int, *, ok: bool) -> list[Operation]:
    """`count` of the calls that ended so, of which there are so many: the slowest, and an even choice of the others.

    The others are taken in the order in which they began: to sort a long run's would be to hold them.
    """

    def kind() -> Iterator[tuple[int, Operation]]:
        return ((place, call) for place, call in enumerate(operations) if (call.result == "ok") == ok)

    slowest = dict(nlargest(SLOWEST, kind(), key=lambda one: _wait(one[1])))
    others = (call for place, call in kind() if place not in slowest)
    return [*slowest.values(), *evenly(others, there - len(slowest), count - SLOWEST)]


def evenly(items: Iterable[Item], there: int, count: int) -> list[Item]:
    """`count` of the `items`, of which there are so many, at equal distances, in their order; all if there are no more."""
    places = set(range(there) if there <= count else [place * there // count for place in range(count)])
    return [item for place, item in enumerate(items) if place in places]


def worst(operations: Iterable[Operation], count: int) -> list[Operation]:
    """The `count` calls most worth a look: those that did not end ok, then the slowest of the others."""
    return nsmallest(count, operations, key=lambda operation: (operation.result == "ok", -_wait(operation)))


def length(history: History) -> float:
    """How many seconds a picture of `history` must show: the run, and faults that went on beyond its end."""
    due = max((operation.due for operation in history.operations), default=0.0)
    times = [time for acted in history.faults for time in (acted.began, acted.healed) if time is not None]
    return max(history.seconds, due, *times, 0.001)


def lanes(faults: Iterable[Acted], until: float, gap: float) -> list[Lane]:
    """The faults that acted, by name; spans less than `gap` seconds apart are joined."""
    by_name: dict[str, list[Acted]] = {}
    for acted in faults:
        if acted.began is not None:
            by_name.setdefault(acted.fault, []).append(acted)
    return [
        Lane(fault=name, on=tuple(dict.fromkeys(a.on for a in group)), spans=joined(group, until, gap))
        for name, group in by_name.items()
    ]


def joined(faults: Iterable[Acted], until: float, gap: float) -> tuple[Span, ...]:
    """When any of `faults` acted, in order; one that was never healed lasts to `until`."""
    spans = sorted(
        (acted.began, until if acted.healed is None else acted.healed) for acted in faults if acted.began is not None
    )
    found: list[Span] = []
    for began, healed in spans:
        if found and began - found[-1][1] < gap:
            found[-1] = (found[-1][0], max(found[-1][1], healed))
        else:
            found.append((began, healed))
    return tuple(found)


def rows(history: History) -> list[str]:
    """The servers that get a row, in the fleet's order."""
    names = [server.name for server in history.servers]
    hit = {acted.on for acted in history.faults}
    chosen = set(sorted(names, key=lambda name: name not in hit)[:SERVERS])
    return [name for name in names if name in chosen]


def rates(history: History, names: Sequence[str], step: float, until: float) -> list[Rate]:
    """For each of `names` the attempts a second in each `step` seconds, from 0 to `until`.

    Where the client tells of no attempts, the servers' journals are asked.
    """
    count = max(1, math.ceil(until / step))
    total = {name: [0] * count for name in names}
    failed = {name: [0] * count for name in names}
    for server, started, bad in _tries(history):
        if server in total:
            place = min(count - 1, max(0, int(started / step)))
            total[server][place] += 1
            failed[server][place] += bad
    return [
        Rate(
            server=name,
            step=step,
            attempts=sum(total[name]),
            all=tuple(tries / step for tries in total[name]),
            failed=tuple(tries / step for tries in failed[name]),
        )
        for name in names
    ]


def nice(value: float, *, up: bool) -> float:
    """The next 1, 2 or 5 times a power of ten, upwards or downwards; `value` must be positive."""
    power = math.floor(math.log10(value))
    forms = [digit * 10.0**exponent for exponent in (power - 1, power, power + 1) for digit in (1, 2, 5)]
    # What is such a number already must stay it, though 0.1 * 3 is not 0.3.
    near = 1e-9 * value
    return min(f for f in forms if f >= value - near) if up else max(f for f in forms if f <= value + near)


def between(low: float, high: float) -> list[float]:
    """The marks of a logarithmic axis: powers of ten, and 2 and 5 times these if they are few."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    inside = [10.0**power for power in powers if low * 0.999 <= 10.0**power <= high * 1.001]
    if len(inside) >= 3:
        return inside
    return [m for power in powers for d in (1, 2, 5) if low * 0.999 <= (m := d * 10.0**power) <= high * 1.001]


def _wait(operation: Operation) -> float:
    return math.inf if operation.latency is None else operation.latency


def _tries(history: History) -> Iterable[tuple[str, float, bool]]:
    """Server, start, and whether it failed, of every attempt; one that lost against a hedge did not fail."""
    if any(attempt.sent for _, attempt in history.attempts()):
        return (
            (attempt.server, attempt.started, attempt.code not in (None, "OK") and not attempt.lost)
            for _, attempt in history.attempts()
            if attempt.sent
        )
    return ((e.server, e.received, e.code not in (None, "OK")) for e in history.executions)

"""What happened in one run, as a value: told by the client, the proxies and the servers, joined by one id per attempt.

The client says which operations it began and how each ended, and which attempts each took. Each server says, in a
journal of its own, which attempts arrived and which it executed. The proxies say how many bytes they carried. The
nemesis says when each fault was seen to begin and to end. A guarantee is a pure function of this value.

All times are seconds from the start of the workload, on one monotonic clock; None means "not seen".
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

#: ok: answered, and rightly. fail: surely not done. info: nobody can know (Jepsen's word).
Result = Literal["ok", "fail", "info"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try of one operation on one server, as the client saw it.

    `number` counts from 1. `sent` is its number among those that may have reached a server (gRFC A6 does not count
    the others), or 0 if it surely never left the client. `code` is a gRPC status name, None while it runs.
    """

    number: int
    server: str
    started: float
    ended: float | None = None
    code: str | None = None
    sent: int = 1
    lost: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Messages of an answer stream that reached its caller one after the other: those of the numbers `first` to `last`.

    `attempt` is the one that brought them (0: the client told of none). `repeat` is set where the client itself said that
    an earlier run of its own may have had them.
    """

    first: int
    last: int
    attempt: int = 0
    repeat: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One call as its caller saw it. `due` is when it should have begun; latency counts from there.

    `ended` is None only for one that never came back before the harness gave up (then `result` is "info").
    `item` is the place in its batch of a call that belongs to one; of an answer stream, which of the workload's streams it
    is. `repeat` is set where the client itself said that the work may have been done before. `messages` is how many the
    uncut answer stream has (None: no stream), and `heard` what of them reached the caller, in the order in which it did.
    """

    id: int
    due: float
    invoked: float
    ended: float | None
    result: Result
    code: str
    detail: str = ""
    attempts: tuple[Attempt, ...] = ()
    item: int | None = None
    repeat: bool = False
    messages: int | None = None
    heard: tuple[Piece, ...] = ()

    @property
    def latency(self) -> float | None:
        """Seconds from `due` to `ended`; None if it never ended."""
        return None if self.ended is None else self.ended - self.due

    @property
    def heard_messages(self) -> int:
        """How many messages of a stream reached the caller, repeats included."""
        return sum(piece.last - piece.first + 1 for piece in self.heard)


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """One attempt as a server's journal tells it.

    `operation` and `sent` are the attempt's id (-1 where the caller did not say). `executed` is when the work was
    done (None: it was not), `ended` when the server was through with the call. `remaining` is the time that the caller's
    deadline left at arrival, None if it set none. `repeat` says that the request itself was marked as a repeat.
    `messages` is how many of an answer stream were sent; the work of a stream is done with its last one.
    """

    server: str
    operation: int
    sent: int
    received: float
    executed: float | None = None
    ended: float | None = None
    code: str | None = None
    remaining: float | None = None
    item: int | None = None
    repeat: bool = False
    messages: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Acted:
    """One fault on one target, from observation. `began` and `healed` are when it was seen to act and to be over.

    `began` None means that it could not be applied and `problem` says why. `healed` None means that it lasted until
    the fleet was stopped. `touched` counts the attempts and the requests that met it, not those that could have;
    None: nobody has counted yet (see `touching`).
    """

    fault: str
    on: str
    start: float
    end: float | None
    began: float | None = None
    healed: float | None = None
    touched: int | None = None
    problem: str = ""

    def active(self, time: float) -> bool:
        """Whether it acted at `time`."""
        return self.began is not None and self.began <= time and (self.healed is None or time < self.healed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """What one server's proxy carried, in bytes; None where the proxy keeps no count."""

    server: str
    received: int | None = None
    sent: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One server of the fleet: its name, weight and priority as the client was told them."""

    name: str
    weight: float = 1.0
    priority: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Everything that happened in one run. `seconds` is the length of the workload, from its start to its last end.

    `client_starts` counts how often the client's process was started (more than once if it was killed). `problems` are
    reasons why the history cannot be trusted: any of them makes every verdict unknown.

    `operations` and `executions` of a long run are on disk (harness.spill): to go through them is cheap, to keep them is not.
    """

    scenario: str
    fleet: str
    proxy: str
    seed: int
    seconds: float
    servers: tuple[Server, ...]
    operations: Sequence[Operation]
    executions: Sequence[Execution] = ()
    faults: tuple[Acted, ...] = ()
    carried: tuple[Carried, ...] = ()
    client_starts: int = 1
    items: int | None = None
    problems: tuple[str, ...] = ()

    def attempts(self) -> Iterable[tuple[Operation, Attempt]]:
        """Every attempt with its operation, in the order of the operations."""
        return ((operation, attempt) for operation in self.operations for attempt in operation.attempts)

    def executed(self) -> Counts:
        """How often servers executed each operation, by its id."""
        return Counts(execution.operation for execution in self.executions if execution.executed is not None)

    def active_at(self, time: float) -> tuple[Acted, ...]:
        """The faults that acted at `time`."""
        return tuple(acted for acted in self.faults if acted.active(time))


def pieces(heard: Iterable[tuple[int, int, bool]]) -> tuple[Piece, ...]:
    """Messages in the order in which they were heard, as (number, attempt, repeat), joined where they follow one another."""
    found: list[Piece] = []
    for number, attempt, repeat in heard:
        last = found[-1] if found else None
        if last is not None and (last.last + 1, last.attempt, last.repeat) == (number, attempt, repeat):
            found[-1] = replace(last, last=number)
        else:
            found.append(Piece(first=number, last=number, attempt=attempt, repeat=repeat))
    return tuple(found)


class Counts:
    """How often each whole number was there. It takes four bytes for each where they are dense, as ids are."""

    __slots__ = ("_pages",)

    PAGE = 1024

    def __init__(self, numbers: Iterable[int] = ()) -> None:
        self._pages: dict[int, array[int]] = {}
        for number in numbers:
            page, place = divmod(number, self.PAGE)
            if page not in self._pages:
                self._pages[page] = array("I", bytes(4 * self.PAGE))
            self._pages[page][place] += 1

    def __getitem__(self, number: int) -> int:
        page = self._pages.get(number // self.PAGE)
        return 0 if page is None else page[number % self.PAGE]

    def of(self, matches: Callable[[int], bool]) -> int:
        """How many numbers have a count that matches."""
        return sum(1 for page in self._pages.values() for count in page if matches(count))


def reconcile(history: History) -> tuple[str, ...]:
    """Reasons why the three tales do not fit together; none when they do.

    calls = ok + failed + unknown; each id once; every end after its beginning; nothing that a server executed is
    without an operation that asked for it, no server executed more often than the client tried, and no caller heard more
    messages of a stream than servers sent.
    """
    problems: list[str] = []
    known = Counts(operation.id for operation in history.operations)
    shared = len(history.operations) - known.of(bool)
    if shared:
        problems.append(f"{shared} operations share an id with another")
    backwards = [o.id for o in history.operations if o.ended is not None and o.ended < o.invoked]
    if backwards:
        problems.append(f"operation {backwards[0]} ended before it began ({len(backwards)} such)")
    strangers = sum(1 for e in history.executions if not known[e.operation])
    if strangers:
        first = next(e for e in history.executions if not known[e.operation])
        problems.append(
            f"{strangers} attempts reached a server without an operation of ours, the first ({first.operation}) "
            f"at {first.received:.3f} s on {first.server}"
        )
    executed = history.executed()
    for operation in history.operations:
        tried = sum(1 for attempt in operation.attempts if attempt.sent)
        if operation.attempts and executed[operation.id] > tried:
            times = executed[operation.id]
            problems.append(f"operation {operation.id} was executed {times} times in {tried} attempts")
            break
    return (*problems, *_unheard_of(history))


def _unheard_of(history: History) -> Iterable[str]:
    """The first stream of which more was heard than was sent, if there are journals to say so."""
    streams = [operation for operation in history.operations if operation.heard]
    if not streams or not history.executions:
        return
    sent: dict[int, int] = {}
    for execution in history.executions:
        sent[execution.operation] = sent.get(execution.operation, 0) + execution.messages
    for stream in streams:
        heard, there = stream.heard_messages, sent.get(stream.id, 0)
        if heard > there:
            yield f"operation {stream.id} heard {heard} messages, and servers sent {there}"
            return


def touching(history: History) -> History:
    """`history` with `touched` of each fault that nobody counted set to the number of attempts that met it.

    An attempt met a fault if it ran on the faulty server at a time at which the fault acted. Where the client told of
    no attempts (a client of somebody else's), the servers' journals are asked instead. What was refused on its way left
    no line in those, so for such a client every operation that failed counts too, from the fault's planned start on (its
    failure may be the first that is seen of the fault). If it reached no server, nobody saw which one it was for: with
    several faults at once, each of them is taken for touched.
    """
    touched = [0] * len(history.faults)
    uncounted: dict[str, list[int]] = {}  # by target: the places of its faults
    for place, acted in enumerate(history.faults):
        if acted.touched is None and acted.began is not None:
            uncounted.setdefault(acted.on, []).append(place)

    def meet(tries: Iterable[tuple[str, float, float | None]], *, planned: bool = False) -> None:
        """Counts what ran on a target at any time while a fault acted there (`planned`: from when it should have)."""
        for target, started, ended in tries:
            for place in uncounted.get(target, ()):
                acted = history.faults[place]
                since = acted.start if planned or acted.began is None else acted.began
                until = history.seconds + 1 if acted.healed is None else acted.healed
                touched[place] += started <= until and (ended is None or ended >= since)

    if uncounted:
        if any(o.attempts for o in history.operations):
            meet((a.server, a.started, a.ended) for _, a in history.attempts())
        else:
            failed = {o.id for o in history.operations if o.result != "ok"}
            meet((e.server, e.received, e.ended) for e in history.executions if e.operation not in failed)
            meet(_failures(history), planned=True)
        meet(("client", o.invoked, o.ended) for o in history.operations)
    faults = zip(history.faults, touched, strict=True)
    return replace(history, faults=tuple(replace(a, touched=count) if a.touched is None else a for a, count in faults))


def _failures(history: History) -> list[tuple[str, float, float | None]]:
    """The operations that did not end well, on each server that they reached, or on all if they reached none."""
    reached: dict[int, set[str]] = {}
    for execution in history.executions:
        reached.setdefault(execution.operation, set()).add(execution.server)
    everywhere = {server.name for server in history.servers}
    return [
        (server, o.invoked, o.ended)
        for o in history.operations
        if o.result != "ok"
        for server in reached.get(o.id, everywhere)
    ]

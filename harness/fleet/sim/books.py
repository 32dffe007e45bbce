"""What a run noted of its calls, as it goes into the history: kept in memory, or on disk once it is too much for that.

What nothing can happen to any more is told and let go: calls that are over with all their attempts, in the order in which
they began, and attempts that their server is through with, in the order of their arrival there. So a call that hangs holds
up all that came after it, until it ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import takewhile

from harness.fleet.sim.driver import Attempt, Operating
from harness.fleet.sim.server import Phase, Server
from harness.history import Execution, Operation
from harness.spill import KEEP, Spill


class Books:
    """The `calls` and the journals of `servers`, which are being written. `last` is when the last call ended."""

    def __init__(self, calls: list[Operating], servers: Iterable[Server]) -> None:
        self._calls = calls
        self._servers = tuple(servers)
        self._operations: Spill[Operation] | None = None
        self._executions: Spill[Execution] | None = None
        self.last = 0.0

    def relieve(self) -> int:
        """Puts on disk what is over, if it is too much to be kept; how many calls that were."""
        if len(self._calls) <= KEEP:
            return 0
        if self._operations is None or self._executions is None:
            self._operations, self._executions = Spill("operation", Operation), Spill("execution", Execution)
        over = sum(1 for _ in takewhile(_settled, self._calls))
        self._operations.add(self._told(self._calls[:over]))
        del self._calls[:over]
        self._executions.add(self._taken(_through))
        return over

    def close(self) -> tuple[Sequence[Operation], Sequence[Execution]]:
        """All of them: nothing happens any more."""
        if self._operations is None or self._executions is None:
            executions = tuple([a.execution() for server in self._servers for a in server.journal])
            return tuple(self._told(self._calls)), executions
        self._operations.add(self._told(self._calls))
        self._executions.add(self._taken(lambda _: True))
        return self._operations.sealed(), self._executions.sealed()

    def _told(self, calls: Iterable[Operating]) -> Iterator[Operation]:
        for call in calls:
            operation = call.told()
            if operation.ended is not None and operation.ended > self.last:
                self.last = operation.ended
            yield operation
            call.attempts.clear()  # each knows its call: only so both can go

    def _taken(self, through: Callable[[Attempt], bool]) -> Iterator[Execution]:
        for server in self._servers:
            journal = server.journal
            count = sum(1 for _ in takewhile(through, journal))
            yield from [attempt.execution() for attempt in journal[:count]]
            del journal[:count]


def _settled(call: Operating) -> bool:
    return call.ended is not None and all(attempt.ended is not None for attempt in call.attempts)


def _through(attempt: Attempt) -> bool:
    return attempt.phase is Phase.OVER

"""Calls in virtual time: the library's own `Call` over its own `Pool`, and servers that are a formula.

A heap of what happens next, and nothing else: no connections, no bytes, no journal, so that a million calls are a matter of
seconds. The simulator of the harness (`harness/fleet/sim/`) is the one to trust where these matter; here they do not. An
attempt that is cancelled, or whose time is over, is gone from its server at once.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from stormproof.core.call import Call, Cancel, Finish, Start
from stormproof.core.outcome import Code, Evidence, Outcome
from stormproof.core.policy import Policy
from stormproof.core.pool import Pool

#: What an attempt on server `index` that begins at `now` comes to: seconds, and how it ends.
Serve = Callable[[int, float], tuple[float, Outcome]]

CANCELLED = Outcome(Code.CANCELLED, Evidence.LOST)
LATE = Outcome(Code.DEADLINE_EXCEEDED, Evidence.LOST)


class Ended(NamedTuple):
    """One call: its number, when it began and ended, whether it went well, and on how many attempts."""

    number: int
    began: float
    ended: float
    ok: bool
    attempts: int


class Calls:
    """The calls of one channel.

    `attempted(server, now, attempt)` hears of each attempt as it starts, `attempt_ended(outcome, now)` of each that was not
    cancelled.
    """

    def __init__(
        self,
        pool: Pool,
        policy: Policy,
        serve: Serve,
        *,
        attempted: Callable[[int, float, int], None] = lambda index, now, attempt: None,  # noqa: ARG005
        attempt_ended: Callable[[Outcome, float], None] = lambda outcome, now: None,  # noqa: ARG005
    ) -> None:
        self._pool = pool
        self._policy = policy
        self._serve = serve
        self._attempted = attempted
        self._attempt_ended = attempt_ended
        self._index = {member.endpoint.address: member.index for member in pool.members}
        self._order = itertools.count()
        self._heap: list[tuple[float, int, int, Any]] = []  # when, order, attempt (0: wake), (call, outcome)
        self._out: dict[int, set[int]] = {}  # attempts in flight, by call
        self._calls: dict[int, tuple[Call, float]] = {}

    def run(self, arrivals: Iterator[float]) -> Iterator[Ended]:
        """Each call as it ends."""
        heap = self._heap
        for number, now in enumerate(arrivals, 1):
            while heap and heap[0][0] <= now:
                yield from self._next()
            call = Call(self._pool, self._policy)
            self._calls[number], self._out[number] = (call, now), set()
            yield from self._perform(number, call, call.begin(now), now)
        while heap:
            yield from self._next()

    def _next(self) -> Iterator[Ended]:
        now, _, attempt, (number, outcome) = heapq.heappop(self._heap)
        call = self._calls.get(number)
        if call is None:
            return
        if attempt:
            if attempt in self._out[number]:
                self._out[number].remove(attempt)
                self._attempt_ended(outcome, now)
                yield from self._perform(number, call[0], call[0].finished(attempt, outcome, now), now)
        elif call[0].wake_at is not None and call[0].wake_at <= now:
            yield from self._perform(number, call[0], call[0].woke(now), now)

    def _perform(self, number: int, call: Call, actions: list[Any], now: float) -> Iterator[Ended]:
        for action in actions:
            if isinstance(action, Start):
                index = self._index[action.endpoint.address]
                self._attempted(index, now, action.attempt)
                seconds, outcome = self._serve(index, now)
                if action.timeout is not None and action.timeout < seconds:
                    seconds, outcome = action.timeout, LATE
                self._out[number].add(action.attempt)
                self._push(now + seconds, action.attempt, number, outcome)
            elif isinstance(action, Cancel):
                self._out[number].remove(action.attempt)
                call.finished(action.attempt, CANCELLED, now)
            else:
                assert isinstance(action, Finish)
                began = self._calls.pop(number)[1]
                del self._out[number]
                yield Ended(number, began, now, action.outcome.ok, call.attempts)
                return
        if call.wake_at is not None:
            self._push(call.wake_at, 0, number, None)

    def _push(self, at: float, attempt: int, number: int, outcome: Outcome | None) -> None:
        heapq.heappush(self._heap, (at, next(self._order), attempt, (number, outcome)))

"""The machine of one call: where each attempt goes, whether another one follows, and when to give up.

Law 1: a call ends by its deadline, its last attempt included: no attempt is given more time than the call has left.
Law 2: work that may have been done is repeated only where the policy says that repeating is harmless.
Law 3: each attempt that was started is reported finished exactly once, and the call finishes exactly once.

Theory of operation. The driver calls `begin`, performs the actions that it gets, and says what happened: `finished`
for an attempt, `woke` when `wake_at` has come, `cancelled` when the caller gave up. Every method returns the next
actions. An attempt that never left the client (no connection) moves on to an endpoint not tried yet at once; that is
no retry, costs no budget and is not counted (gRFC A6, "transparent retries"). Any other failure may be followed by
another attempt, if the policy, the deadline and the channel's retry budget all allow it, in this order, so that a
retry that cannot happen costs nothing. Under a hedge, further copies start while the first is still out; a failure
then waits for the others, and only when none is left is it retried or told.

A streaming call is the same machine. Once it is `committed` (a message reached the caller, or a client stream outgrew
its buffer) no attempt can follow any more (gRFC A6), unless the call is `resumable`: then any broken attempt may be
followed by one that continues where it broke, and every message that arrives (`progressed`) makes the count of attempts
start anew.

    state     event                            next state  actions
    NEW       begin                            RUNNING     Start(1); wake_at is the hedge's time, if any
    RUNNING   woke for a hedge                 RUNNING     Start(n + 1), if budget and deadline allow
    RUNNING   finished ok                      DONE        Cancel for each other attempt, Finish
    RUNNING   finished, never sent, others     RUNNING     Start(n + 1)
    RUNNING   finished, may be repeated:
                copies are still out           RUNNING     Start(n + 1) if a copy is left (pushback: later, or never), else none
                none is                        WAITING     none; wake_at is set (or Start at once, if there is no wait)
    RUNNING   finished otherwise               DONE        Cancel for each other attempt, Finish
    WAITING   woke                             RUNNING     Start(n + 1)
    WAITING   woke after the deadline          DONE        Finish
    any       cancelled                        DONE        Cancel for each attempt in flight, Finish
    DONE      anything                         DONE        none
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

from stormproof.core.breaker import FAILURES
from stormproof.core.endpoint import Endpoint
from stormproof.core.outcome import OK, Code, Evidence, Outcome
from stormproof.core.policy import Policy
from stormproof.core.pool import Flight, Member, Pool


class Cause(Enum):
    """Why an attempt starts; the four kinds of gRFC A96. An answer stream that continues elsewhere does so by a RETRY."""

    FIRST = "first"
    RETRY = "retry"
    HEDGE = "hedge"
    TRANSPARENT = "transparent retry"


class Start(NamedTuple):
    """Start attempt `attempt` (from 1) on `endpoint`, and end it after `timeout` seconds (None: no limit).

    `sent` is its number among those that may have reached a server; the server is told `sent - 1` as
    `grpc-previous-rpc-attempts` (gRFC A6).
    """

    attempt: int
    endpoint: Endpoint
    timeout: float | None
    sent: int
    cause: Cause


class Cancel(NamedTuple):
    """Cancel attempt `attempt`; its end is still reported with `finished`."""

    attempt: int


class Finish(NamedTuple):
    """The call is over, with the answer or the error of attempt `attempt` (0: of no attempt)."""

    attempt: int
    outcome: Outcome


Action = Start | Cancel | Finish


class State(Enum):
    """The states of a call; the table above is their law."""

    NEW = "new"
    RUNNING = "running"
    WAITING = "waiting"
    DONE = "done"


# By names of their own: to look up a member of an Enum takes Python 3.11 ten times as long.
NEW, RUNNING, WAITING, DONE = State
_OK, _NEVER_SENT, _FIRST = Code.OK, Evidence.NEVER_SENT, Cause.FIRST
#: Makes a named tuple in a third of the time that its own constructor takes.
_new = tuple.__new__
#: How nearly every call ends.
_AT_ONCE = Finish(1, OK)


class Call:
    """One call. `timeout` is the caller's own, in seconds; the smaller of it and the policy's wins.

    `resumable`: a further attempt continues where the last one broke, so that repeating does no harm. `key` is what a
    keyed balancer chooses by.
    """

    __slots__ = (
        "_committed", "_copies", "_failure", "_flights", "_key", "_policy", "_pool", "_resumable", "_rounds", "_sent",
        "_step", "_tried",
        "attempts", "deadline", "state", "timeout", "wake_at",
    )  # fmt: skip

    def __init__(
        self,
        pool: Pool,
        policy: Policy,
        timeout: float | None = None,
        *,
        resumable: bool = False,
        key: str | None = None,
    ) -> None:
        self._pool = pool
        self._key = key
        self._resumable = resumable
        self._committed = False
        self._policy = policy
        own = policy.timeout
        # Seconds, for all of it.
        self.timeout = own if timeout is None or (own is not None and own < timeout) else timeout
        self.deadline: float | None = None  # when the call must be over
        self._flights: dict[int, Flight] = {}
        self._tried: Sequence[Member] = ()
        self._rounds = 1  # attempts in the sense of the retry policy, the first one in
        self._step = 1  # of the backoff
        self._copies = 1  # copies in the sense of the hedge, the first one in
        self._sent = 0  # attempts under way, or ended, that may have reached a server
        self._failure: Finish | None = None  # what the caller hears if nothing better comes
        self.attempts = 0
        self.state = NEW
        self.wake_at: float | None = None

    def begin(self, now: float, waited: float = 0.0) -> list[Action]:
        """The caller called `waited` seconds ago: it had to wait for the first endpoints."""
        if self.timeout is not None:
            self.deadline = now - waited + self.timeout
            if self.deadline <= now:
                self.state = DONE
                why = "the deadline had passed already" if self._pool.members else self._pool.problem
                return [Finish(0, Outcome(Code.DEADLINE_EXCEEDED, Evidence.NEVER_SENT, why))]
        if not self._pool.members:
            self.state = DONE
            return [Finish(0, Outcome(Code.UNAVAILABLE, Evidence.NEVER_SENT, self._pool.problem))]
        return [self._start(now, _FIRST)]

    def finished(self, attempt: int, outcome: Outcome, now: float) -> list[Action]:
        """Attempt `attempt` ended."""
        flight = self._flights.pop(attempt, None)
        if flight is None:
            raise AssertionError(f"attempt {attempt} is not in flight")  # the driver broke the contract
        self._pool.finished(flight, outcome, now)
        if self.state is DONE:
            return []
        if outcome.code is _OK or outcome.ours:
            return self._finish(_AT_ONCE if attempt == 1 and outcome is OK else Finish(attempt, outcome))
        if self._failure is None or self._policy.hedge is None:  # of a race the first error is told, else the last
            self._failure = Finish(attempt, outcome)
        self._tried = (*self._tried, flight.member)
        if outcome.evidence is _NEVER_SENT:
            if attempt == self.attempts:
                self._sent -= 1
            if not self._committed and self._time_is_left(now, 0.0) and self._pool.has_untried(self._tried):
                return [self._start(now, Cause.TRANSPARENT)]
        if not self._may_repeat(outcome) and not self._harmless(outcome):
            return self._finish(Finish(attempt, outcome))
        if outcome.pushback is not None and self._policy.hedge is not None:
            self._pushed_back(outcome.pushback, now)
        elif self._flights:
            return self._hedge(now)
        return [] if self._flights else self._again(outcome, now)

    def woke(self, now: float) -> list[Action]:
        """The time `wake_at` has come."""
        self.wake_at = None
        if self.state is RUNNING:
            return self._hedge(now)
        if self.state is not WAITING:
            return []
        if not self._time_is_left(now, 0.0):  # the driver woke us late
            assert self._failure is not None
            return self._finish(self._failure)
        return [self._start(now, Cause.RETRY)]

    def committed(self) -> None:
        """What the attempt in flight has done cannot be undone by another one."""
        self._committed = not self._resumable

    def progressed(self, now: float) -> None:
        """A message arrived that no further attempt has to bring again. Of a trial it is the proof."""
        self._committed = not self._resumable
        self._rounds = self._step = 1
        self._tried = ()
        for flight in self._flights.values():
            if flight.trial:
                self._pool.proven(flight, now)

    def cancelled(self, now: float) -> list[Action]:  # noqa: ARG002
        """The caller gave up."""
        if self.state is DONE:
            return []
        return self._finish(Finish(self.attempts, Outcome(Code.CANCELLED, Evidence.LOST, "cancelled by the caller")))

    def endpoint_of(self, attempt: int) -> Endpoint:
        """Where `attempt` went, which is in flight."""
        return self._flights[attempt].member.endpoint

    def _start(self, now: float, cause: Cause) -> Start:
        avoid = self._tried
        if self._flights:
            avoid = (*avoid, *(flight.member for flight in self._flights.values()))
        flight = self._pool.begin(now, avoid, self._key)
        self.state = RUNNING
        self.attempts = attempt = self.attempts + 1
        self._sent += 1
        self._flights[attempt] = flight
        timeout = self._policy.attempt_timeout
        if self.deadline is not None:
            left = self.deadline - now
            timeout = left if timeout is None or left < timeout else timeout
        hedge = self._policy.hedge
        if hedge is not None:
            self.wake_at = now + hedge.after if self._copies < hedge.attempts else None
        return _new(Start, (attempt, flight.member.endpoint, timeout, self._sent, cause))

    def _hedge(self, now: float) -> list[Action]:
        """One more copy, if there may be one; the time of the next one, if there may be more."""
        hedge = self._policy.hedge
        if hedge is None or self._copies >= hedge.attempts:
            return []
        if not self._time_is_left(now, 0.0) or not self._pool.account.withdraw(now):
            return []
        self._copies += 1
        return [self._start(now, Cause.HEDGE)]

    def _pushed_back(self, wait: float, now: float) -> None:
        """A server says when the next copy may start, or that none may (gRFC A6). Those that are out may still win."""
        assert self._policy.hedge is not None
        if wait < 0.0:
            self._copies, self._rounds = self._policy.hedge.attempts, self._policy.attempts
            self.wake_at = None
        elif self._copies < self._policy.hedge.attempts:
            self.wake_at = now + wait

    def _may_repeat(self, outcome: Outcome) -> bool:
        if self._committed:
            return False
        if self._resumable and self._policy.retry is not None and outcome.pushback is None:
            return self._broke(outcome) or outcome.code in self._policy.retry.on
        return self._policy.may_repeat(outcome)

    def _harmless(self, outcome: Outcome) -> bool:
        """Whether a failed copy of a hedged call may be outweighed by another one's success (gRFC A6: "non-fatal")."""
        return self._policy.hedge is not None and self._broke(outcome)

    def _broke(self, outcome: Outcome) -> bool:
        """Whether it speaks against the endpoint, not against the request. A server that stops cancels its calls."""
        return outcome.code in FAILURES or outcome.code is Code.CANCELLED

    def _again(self, outcome: Outcome, now: float) -> list[Action]:
        policy, failure = self._policy, self._failure
        assert failure is not None
        if self._rounds >= policy.attempts or not self._may_repeat(outcome):
            return self._finish(failure)
        assert policy.retry is not None
        wanted = outcome.pushback
        delay = policy.retry.backoff.delay(self._step, self._pool.rng) if wanted is None else wanted
        if not self._time_is_left(now, delay) or not self._pool.account.withdraw(now):
            return self._finish(failure)
        self._rounds += 1
        self._step = self._step + 1 if wanted is None else 1  # gRFC A6: a pushback resets the backoff
        if delay <= 0.0:
            return [self._start(now, Cause.RETRY)]
        self.state = WAITING
        self.wake_at = now + delay
        return []

    def _time_is_left(self, now: float, delay: float) -> bool:
        return self.deadline is None or now + delay < self.deadline

    def _finish(self, finish: Finish) -> list[Action]:
        self.state = DONE
        self.wake_at = None
        if not self._flights:
            return [finish]
        return [*(Cancel(attempt) for attempt in self._flights), finish]

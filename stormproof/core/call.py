"""The machine of one unary call: where each attempt goes, whether another one follows, and when to give up.

Law 1: a call ends by its deadline, its last attempt included: no attempt is given more time than the call has left.
Law 2: work that may have been done is repeated only where the policy says that repeating is harmless.
Law 3: each attempt that was started is reported finished exactly once, and the call finishes exactly once.

Theory of operation. The driver calls `begin`, performs the actions that it gets, and says what happened: `finished`
for an attempt, `woke` when `wake_at` has come, `cancelled` when the caller gave up. Every method returns the next
actions. An attempt that never left the client (no connection) moves on to an endpoint not tried yet at once; that is
no retry, costs no budget and is not counted (gRFC A6, "transparent retries"). Any other failure may be followed by
another attempt, if the policy, the deadline and the channel's retry budget all allow it, in this order, so that a
retry that cannot happen costs nothing.

    state     event                            next state  actions
    NEW       begin                            RUNNING     Start(1)
    RUNNING   finished ok                      DONE        Finish
    RUNNING   finished, never sent, others     RUNNING     Start(n + 1)
    RUNNING   finished, may be repeated        WAITING     none; wake_at is set (or Start at once, if there is no wait)
    RUNNING   finished otherwise               DONE        Finish
    WAITING   woke                             RUNNING     Start(n + 1)
    WAITING   woke after the deadline          DONE        Finish
    any       cancelled                        DONE        Cancel for the attempt in flight, Finish
    DONE      anything                         DONE        none
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from stormproof.core.endpoint import Endpoint
from stormproof.core.outcome import OK, Code, Evidence, Outcome
from stormproof.core.policy import Policy
from stormproof.core.pool import Flight, Member, Pool


class Start(NamedTuple):
    """Start attempt `attempt` (from 1) on `endpoint`, and end it after `timeout` seconds (None: no limit).

    `sent` is its number among those that may have reached a server; the server is told `sent - 1` as
    `grpc-previous-rpc-attempts` (gRFC A6).
    """

    attempt: int
    endpoint: Endpoint
    timeout: float | None
    sent: int


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


class Call:
    """One unary call. `timeout` is the caller's own, in seconds; the smaller of it and the policy's wins."""

    __slots__ = (
        "_flight", "_last", "_policy", "_pool", "_rounds", "_sent", "_timeout", "_tried",
        "attempts", "deadline", "state", "wake_at",
    )  # fmt: skip

    def __init__(self, pool: Pool, policy: Policy, timeout: float | None = None) -> None:
        self._pool = pool
        self._policy = policy
        own = policy.timeout
        self._timeout = own if timeout is None else timeout if own is None else min(own, timeout)
        self.deadline: float | None = None  # when the call must be over
        self._flight: Flight | None = None
        self._tried: list[Member] = []
        self._rounds = 1  # attempts in the sense of the policy, the first one in
        self._sent = 1
        self._last = OK  # how the last attempt ended
        self.attempts = 0
        self.state = State.NEW
        self.wake_at: float | None = None

    def begin(self, now: float) -> list[Action]:
        """The caller calls."""
        if self._timeout is not None:
            if self._timeout <= 0:
                self.state = State.DONE
                return [
                    Finish(
                        0,
                        Outcome(Code.DEADLINE_EXCEEDED, Evidence.NEVER_SENT, "the deadline had passed already"),
                    )
                ]
            self.deadline = now + self._timeout
        return [self._start(now)]

    def finished(self, attempt: int, outcome: Outcome, now: float) -> list[Action]:
        """Attempt `attempt` ended."""
        flight = self._flight
        if flight is None or attempt != self.attempts:
            raise AssertionError(f"attempt {attempt} is not in flight")  # the driver broke the contract
        self._flight = None
        self._last = outcome
        self._pool.finished(flight, outcome, now)
        if self.state is State.DONE:
            return []
        if outcome.code is Code.OK or outcome.code is Code.CANCELLED:
            return self._finish(attempt, outcome)
        self._tried.append(flight.member)
        if outcome.evidence is Evidence.NEVER_SENT:
            if self._time_is_left(now, 0.0) and self._pool.has_untried(self._tried):
                return [self._start(now)]
        else:
            self._sent += 1
        return self._again(attempt, outcome, now)

    def woke(self, now: float) -> list[Action]:
        """The time `wake_at` has come."""
        if self.state is not State.WAITING:
            return []
        if not self._time_is_left(now, 0.0):  # the driver woke us late
            return self._finish(self.attempts, self._last)
        self.wake_at = None
        return [self._start(now)]

    def cancelled(self, now: float) -> list[Action]:  # noqa: ARG002
        """The caller gave up."""
        if self.state is State.DONE:
            return []
        actions: list[Action] = [Cancel(self.attempts)] if self._flight is not None else []
        return actions + self._finish(self.attempts, Outcome(Code.CANCELLED, Evidence.LOST, "cancelled by the caller"))

    def _start(self, now: float) -> Start:
        self._flight = flight = self._pool.begin(now, self._tried)
        self.state = State.RUNNING
        self.attempts += 1
        timeout = self._policy.attempt_timeout
        if self.deadline is not None:
            left = self.deadline - now
            timeout = left if timeout is None else min(timeout, left)
        return Start(self.attempts, flight.member.endpoint, timeout, self._sent)

    def _again(self, attempt: int, outcome: Outcome, now: float) -> list[Action]:
        policy = self._policy
        if self._rounds >= policy.attempts or not policy.may_repeat(outcome):
            return self._finish(attempt, outcome)
        assert policy.retry is not None
        delay = (
            policy.retry.backoff.delay(self._rounds, self._pool.rng) if outcome.pushback is None else outcome.pushback
        )
        if not self._time_is_left(now, delay) or not self._pool.account.withdraw(now):
            return self._finish(attempt, outcome)
        self._rounds += 1
        if delay <= 0.0:
            return [self._start(now)]
        self.state = State.WAITING
        self.wake_at = now + delay
        return []

    def _time_is_left(self, now: float, delay: float) -> bool:
        return self.deadline is None or now + delay < self.deadline

    def _finish(self, attempt: int, outcome: Outcome) -> list[Action]:
        self.state = State.DONE
        self.wake_at = None
        return [Finish(attempt, outcome)]

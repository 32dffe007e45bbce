"""Calls in virtual time: performs what the machine of each call says, and tells it what happened.

The third driver of stormproof.core.call, beside those of threads and asyncio: what it does when, and what it notes, is
what stormproof/driver.py does and harness.client's recorder notes.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.client import CALL, ITEM
from harness.client import Client as Config
from harness.fleet.sim.engine import Engine
from harness.fleet.sim.health import HealthChecks, Question
from harness.fleet.sim.link import Connection
from harness.fleet.sim.process import Process
from harness.fleet.sim.server import Phase, Server
from harness.fleet.sim.stream import Stream
from harness.fleet.sim.subchannel import Subchannel
from harness.history import Attempt as Told
from harness.history import Execution, Operation, Result
from harness.history import Server as Known
from harness.wire import HelloRequest
from stormproof.core.balancers.base import Keyed
from stormproof.core.call import Action, Call, Finish, Start, State
from stormproof.core.endpoint import Endpoint
from stormproof.core.ledger import Mark
from stormproof.core.outcome import OK, Code, Evidence, Outcome

TOO_LATE = Outcome(Code.DEADLINE_EXCEEDED, Evidence.LOST, "Deadline Exceeded")
CANCELLED = Outcome(Code.CANCELLED, Evidence.LOST, "Locally cancelled by application!")
CLOSED = Outcome(Code.CANCELLED, Evidence.LOST, "Channel closed!")
#: What a call gets that begins on a closed channel: no outcome, but Python's error.
NO_CHANNEL = "ValueError: this Channel was closed: make a new one to call again"


class Attempt:
    """One try of one call: first what the client knows of it, then what the server knows."""

    __slots__ = (
        "after", "answer", "call", "connection", "deadline", "delay", "ended", "executed", "expires", "left", "number",
        "outcome", "phase", "received", "remaining", "said", "sent", "started", "status", "subchannel",
        "wrong",
    )  # fmt: skip

    def __init__(self, call: Operating, number: int, sent: int, subchannel: Subchannel, now: float) -> None:
        self.call = call
        self.number = number
        self.sent = sent
        self.subchannel = subchannel
        self.started = now
        self.ended: float | None = None
        self.outcome: Outcome | None = None
        self.deadline: float | None = None  # when the client gives it up
        self.connection: Connection | None = None  # None: it has not been sent
        self.answer = OK  # what the server's reply says
        self.phase = Phase.AWAY
        self.received = 0.0
        self.remaining: float | None = None  # seconds, as the server was told
        self.expires = math.inf  # when they are over
        self.delay = 0.0
        self.wrong = False  # it is answered with what was not asked for
        self.executed: float | None = None
        self.left: float | None = None  # when the server was through with it
        self.status: str | None = None
        # Of a stream: the number of the message after which it was asked to begin, and of the last one that was sent.
        self.after = self.said = 0

    def told(self) -> Told:
        """As the client's journal tells it."""
        outcome, sent, lost = self.outcome, self.sent, False
        code: str | None = "OK"
        if outcome is not OK:
            code = None if outcome is None else outcome.code.name
            lost = outcome is None or outcome.evidence is Evidence.LOST
            sent = 0 if outcome is not None and outcome.evidence is Evidence.NEVER_SENT else sent
        return Told(
            number=self.number,
            server=self.subchannel.server.name,
            started=self.started,
            ended=self.ended,
            code=code,
            sent=sent,
            lost=lost,
        )

    def execution(self) -> Execution:
        """As the server's journal tells it."""
        call = self.call
        return Execution(
            server=self.subchannel.server.name,
            operation=call.id,
            sent=self.sent,
            received=self.received,
            executed=self.executed,
            ended=self.left,
            code=self.status,
            remaining=self.remaining,
            item=call.item,
            repeat=call.repeat,
            messages=self.said - self.after,
        )


class Operating:
    """One operation: a call of the workload, from its beginning."""

    __slots__ = (
        "attempts", "code", "detail", "due", "ended", "id", "invoked", "item", "machine", "repeat", "result", "stream",
        "then", "wakes",
    )  # fmt: skip

    def __init__(
        self, id: int, due: float, now: float, then: Then, item: int | None, repeat: bool, stream: Stream | None
    ) -> None:
        self.id = id
        self.due = due
        self.invoked = now
        self.then = then
        self.item = item
        self.repeat = repeat
        self.stream = stream
        self.machine: Call
        self.attempts: list[Attempt] = []
        self.wakes: float | None = None
        self.ended: float | None = None
        self.result: Result = "info"
        self.code = "UNKNOWN"
        self.detail = ""

    def told(self) -> Operation:
        return Operation(
            id=self.id,
            due=self.due,
            invoked=self.invoked,
            ended=self.ended,
            result=self.result,
            code=self.code,
            detail=self.detail,
            attempts=tuple([attempt.told() for attempt in self.attempts]),
            item=self.item,
            repeat=self.repeat,
            messages=None if self.stream is None else self.stream.messages,
            heard=() if self.stream is None else self.stream.heard(),
        )


Then = Callable[[Operating], object]


class Driver:
    """The channel of one client's process. `operations` is the journal of all of them; ids are counted from `first`."""

    def __init__(
        self,
        engine: Engine,
        process: Process,
        config: Config,
        servers: Mapping[str, Server],
        known: Sequence[Known],
        operations: list[Operating],
        *,
        seed: int,
        first: int,
    ) -> None:
        self.engine = engine
        self.process = process
        self.closed = False
        self.connections: dict[Connection, None] = {}
        self.rng = random.Random(f"{seed} connections {first}")
        self._operations = operations
        self._begun = len(operations)  # before its first one
        self._next = first
        self._fuses: deque[Attempt] = deque()  # attempts by their deadlines, but for those that break this order
        self._policy = config.policy
        # As stormproof.streaming has it: the limit of silence is kept by the driver.
        self._silence = config.policy.attempt_timeout
        self._stream_policy = replace(
            config.policy, attempt_timeout=None, idempotent=config.policy.repeatable, hedge=None
        )
        self._keyed = config.balancer if isinstance(config.balancer, Keyed) else None
        self._call_type = config.CALL
        self._pool = config.POOL(
            [Endpoint(f"{server.name}:1", weight=server.weight, priority=server.priority) for server in known],
            balancer=config.balancer,
            failover=config.failover,
            budget=config.budget,
            rng=random.Random(seed),
        )
        self._subchannels = {f"{name}:1": Subchannel(self, server) for name, server in servers.items()}
        self._checks: HealthChecks | None = None
        if config.failover is not None and config.failover.health is not None:
            addresses, rng = tuple(self._subchannels), random.Random(seed)
            self._checks = HealthChecks(self, self._pool, addresses, config.failover.health, rng)

    def begin(self) -> None:
        """The workload begins: from now on endpoints are asked whether they can serve, if they are to be."""
        if self._checks is not None:
            self._checks.begin()

    def subchannel(self, address: str) -> Subchannel:
        """The way to the endpoint of this address."""
        return self._subchannels[address]

    def call(
        self, due: float, then: Then, *, item: int | None = None, mark: Mark | None = None, stream: Stream | None = None
    ) -> None:
        """Begins an operation, and calls `then` when it has ended."""
        now = self.engine.now
        call = Operating(self._next, due, now, then, item, mark is not None and mark.repeat, stream)
        self._next += 1
        self._operations.append(call)
        if self.closed:
            call.ended, call.detail = now, NO_CHANNEL
            then(call)
            return
        key = self._key(call, mark) if self._keyed else None
        if stream is None:
            call.machine = self._call_type(self._pool, self._policy, key=key)
        else:
            call.machine = self._call_type(self._pool, self._stream_policy, resumable=stream.resumable, key=key)
        self._perform(call, call.machine.begin(now))

    def ended(self, attempt: Attempt | Question, outcome: Outcome) -> None:
        """An attempt ended; one that had already is none of ours."""
        if attempt.ended is not None:
            return
        now = self.engine.now
        attempt.ended = now
        attempt.outcome = outcome
        if isinstance(attempt, Question):
            assert self._checks is not None
            self._checks.answered(attempt, outcome)
            return
        call = attempt.call
        self._perform(call, call.machine.finished(attempt.number, outcome, now))

    def heard(self, attempt: Attempt, number: int) -> None:
        """A message of an answer stream arrived in an attempt that is under way."""
        call, now = attempt.call, self.engine.now
        assert call.stream is not None
        call.machine.progressed(now)
        if attempt.wrong:
            call.stream.wrong = True
            self._break_off(call, CANCELLED)
        else:
            call.stream.came(number, attempt.number, now)

    def close(self) -> None:
        """Closes the channel under the calls that are under way: they end as cancelled."""
        self.closed = True
        for call in self._operations[self._begun :]:
            if call.ended is None and call.machine.state is not State.DONE:
                self._break_off(call, CLOSED)
        self.end()

    def end(self) -> None:
        """Its connections end, with its process or without it."""
        for connection in list(self.connections):
            connection.closed_by_client()
        self.connections.clear()

    def _break_off(self, call: Operating, outcome: Outcome) -> None:
        """Its caller wants nothing any more: so do its attempts end."""
        finish = call.machine.cancelled(self.engine.now)[-1:]
        for attempt in call.attempts:
            if attempt.ended is None:
                self._give_up(attempt, outcome)
        self._perform(call, finish)

    def _perform(self, call: Operating, actions: list[Action]) -> None:
        for action in actions:
            kind = type(action)
            if kind is Finish:
                self._finish(call, action)  # type: ignore[arg-type]
            elif kind is Start:
                self._start(call, action)  # type: ignore[arg-type]
            else:
                self._give_up(call.attempts[action.attempt - 1], CANCELLED)
        wake_at = call.machine.wake_at
        if wake_at is not None and wake_at != call.wakes:
            call.wakes = wake_at
            self.engine.at(wake_at, self._woke, call)

    def _start(self, call: Operating, start: Start) -> None:
        engine = self.engine
        subchannel = self._subchannels[start.endpoint.address]
        attempt = Attempt(call, start.attempt, start.sent, subchannel, engine.now)
        call.attempts.append(attempt)
        if start.timeout is not None:
            attempt.deadline = deadline = engine.now + start.timeout
            fuses = self._fuses
            if not fuses:
                fuses.append(attempt)
                engine.at(deadline, self._burnt, None)
            elif deadline >= fuses[-1].deadline:  # type: ignore[operator] # all of them have one
                fuses.append(attempt)
            else:
                engine.at(deadline, self.timed_out, attempt)
        if call.stream is not None:
            attempt.after = attempt.said = call.stream.asked.after
            if self._silence is not None:
                call.stream.since = engine.now
                engine.at(engine.now + self._silence, self._silent, attempt)
        subchannel.send(attempt)

    def _silent(self, attempt: Attempt) -> None:
        """Ends the attempt if its reader has waited for too long; else looks again when that could be."""
        if attempt.ended is not None:
            return
        if self.process.stopped:
            self.process.put_off(self._silent, attempt)
            return
        assert attempt.call.stream is not None
        assert self._silence is not None
        until = attempt.call.stream.since + self._silence
        if until > self.engine.now:
            self.engine.at(until, self._silent, attempt)
            return
        attempt.subchannel.cancel(attempt)
        said = f"no message for {self._silence:g} s"
        self.ended(attempt, Outcome(Code.DEADLINE_EXCEEDED, Evidence.LOST, said))

    def _burnt(self, _: None) -> None:
        """The first deadline of those in order has come. Most attempts have ended long before."""
        fuses, now = self._fuses, self.engine.now
        while fuses:
            attempt = fuses[0]
            if attempt.ended is None:
                assert attempt.deadline is not None
                if attempt.deadline > now:
                    self.engine.at(attempt.deadline, self._burnt, None)
                    return
                fuses.popleft()  # before a further attempt is started
                self.engine.at(now, self.timed_out, attempt)
            else:
                fuses.popleft()

    def timed_out(self, attempt: Attempt | Question) -> None:
        """Its time is over."""
        if attempt.ended is not None:
            return
        if self.process.stopped:
            self.process.put_off(self.timed_out, attempt)
            return
        attempt.subchannel.cancel(attempt)
        self.ended(attempt, TOO_LATE)

    def _give_up(self, attempt: Attempt, outcome: Outcome) -> None:
        """Ends an attempt of a call that is over."""
        attempt.subchannel.cancel(attempt)
        attempt.ended = now = self.engine.now
        attempt.outcome = outcome
        attempt.call.machine.finished(attempt.number, outcome, now)

    def _woke(self, call: Operating) -> None:
        if self.process.stopped:
            self.process.put_off(self._woke, call)
            return
        wake_at = call.machine.wake_at
        if wake_at is not None and wake_at <= self.engine.now:
            self._perform(call, call.machine.woke(self.engine.now))

    def _finish(self, call: Operating, finish: Finish) -> None:
        call.ended = self.engine.now
        outcome, stream = finish.outcome, call.stream
        if stream.wrong if stream is not None else outcome is OK and call.attempts[finish.attempt - 1].wrong:
            call.code, call.detail = "WRONG_ANSWER", "the answer was 'Hello, somebody else!'"
        elif outcome is OK:
            call.result, call.code = "ok", "OK"
        else:
            call.code = outcome.code.name
            failed = [(a, a.outcome) for a in call.attempts if a.outcome is not None and a.outcome is not OK]
            call.result = "fail" if all(each.definite for _, each in failed) else "info"
            tried = "; ".join(f"{a.subchannel.server.name} {o.code.name} ({o.evidence.value})" for a, o in failed)
            plural = "" if len(failed) == 1 else "s"
            call.detail = f"{outcome.message} [{len(failed)} attempt{plural}: {tried or 'none'}]"
        if stream is not None:
            stream.ended(whole=outcome is OK)
        call.then(call)

    def _key(self, call: Operating, mark: Mark | None) -> str | None:
        assert self._keyed is not None
        metadata: list[tuple[str, Any]] = [(CALL, str(call.id))]
        if call.item is not None:
            metadata.append((ITEM, str(call.item)))
        if mark is not None:
            metadata.extend(mark.metadata)
        request = HelloRequest(name=f"{call.id}") if call.stream is None else call.stream.asked
        return self._keyed.key_of(request, tuple(metadata))

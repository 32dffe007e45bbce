"""The threaded driver of one unary call: performs what its machine says, and tells the machine what happened.

A blocking call runs in its caller's thread: take the lock, ask the machine, leave the lock, do what it says on the
endpoint's own grpc channel. A call made with `.future()` does the same from gRPC's completion callbacks.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import grpc

from stormproof.core.call import Action, Call, Cancel, Finish, Start
from stormproof.core.outcome import OK, Code, Evidence, Outcome
from stormproof.core.policy import Policy
from stormproof.errors import CallError, Tried
from stormproof.observer import AttemptBegan, AttemptEnded, CallBegan, CallEnded, Sent
from stormproof.subchannels import outcome_of

if TYPE_CHECKING:
    from stormproof.channel import Channel

PREVIOUS = "grpc-previous-rpc-attempts"
#: An attempt that our own side broke off.
BROKEN_OFF = Outcome(Code.CANCELLED, Evidence.NEVER_SENT, "the channel was closed")
_now = time.monotonic


class Run:
    """One call under way: its machine, its errors so far, and what the observer is told about it."""

    __slots__ = ("_address", "channel", "failures", "id", "last", "machine", "metadata", "method", "tried")

    def __init__(self, channel: Channel, method: str, policy: Policy, timeout: float | None, metadata: Any) -> None:
        self.channel = channel
        self.method = method
        self.metadata = metadata
        self.machine = Call(channel._pool, policy, timeout)
        self.tried: list[Tried] = []
        self.last: Any = None
        self.id = next(channel._ids) if channel._observer is not None else 0
        self._address = ""

    def begin(self) -> list[Action]:
        now = _now()
        with self.channel._lock:
            actions = self.machine.begin(now)
        if self.channel._observer is not None:
            self.channel._tell(CallBegan(self.id, now, self.method, tuple(self.metadata or ())))
        return actions

    def started(self, start: Start) -> Any:
        """Notes the attempt and returns the metadata to send with it."""
        self._address = start.endpoint.address
        if self.channel._observer is not None:
            self.channel._tell(AttemptBegan(self.id, _now(), start.attempt, start.sent, start.endpoint))
        if start.sent == 1:
            return self.metadata
        return (*(self.metadata or ()), (PREVIOUS, str(start.sent - 1)))  # gRFC A6

    def finished(self, attempt: int, outcome: Outcome, error: Any = None) -> list[Action]:
        if outcome is not OK:
            self.tried.append(Tried(self._address, outcome))
            self.last = error
        now = _now()
        with self.channel._lock:
            actions = self.machine.finished(attempt, outcome, now)
        if self.channel._observer is not None:
            self.channel._tell(AttemptEnded(self.id, now, attempt, outcome))
        return actions

    def woke(self) -> list[Action]:
        with self.channel._lock:
            return self.machine.woke(_now())

    def cancelled(self) -> list[Action]:
        with self.channel._lock:
            return self.machine.cancelled(_now())

    def ended(self, outcome: Outcome) -> CallError | None:
        """Notes the end of the call and returns the error to raise, if any."""
        if self.channel._observer is not None:
            self.channel._tell(CallEnded(self.id, _now(), self.machine.attempts, outcome))
        return None if outcome is OK else CallError(self.method, outcome, self.tried, self.last)


class UnaryUnary(grpc.UnaryUnaryMultiCallable):  # type: ignore[type-arg] # generic in the types only
    """Calls one unary method under its policy. What a generated stub holds."""

    def __init__(self, channel: Channel, method: str, serializer: Any, deserializer: Any, registered: bool) -> None:
        self._channel = channel
        self._method = method
        self._policy = channel._policy_of(method)
        self._on = {
            address: subchannel.unary_unary(method, serializer, deserializer, registered)  # type: ignore[call-arg]
            for address, subchannel in channel._subchannels.items()
        }

    def __call__(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Sent | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        return self._blocking(request, timeout, metadata, (credentials, wait_for_ready, compression), False)

    def with_call(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Sent | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> tuple[Any, grpc.Call]:
        answer = self._blocking(request, timeout, metadata, (credentials, wait_for_ready, compression), True)
        return answer  # type: ignore[no-any-return]

    def future(  # type: ignore[override] # the types know only grpc's own future
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Sent | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> CallFuture:
        self._channel._check_open()
        run = Run(self._channel, self._method, self._policy, timeout, metadata)
        return CallFuture(run, self._on, request, (credentials, wait_for_ready, compression))

    def _blocking(self, request: Any, timeout: float | None, metadata: Any, rest: tuple[Any, ...], whole: bool) -> Any:
        channel = self._channel
        channel._check_open()
        run = Run(channel, self._method, self._policy, timeout, metadata)
        answer: Any = None
        actions = run.begin()
        while True:
            if not actions:  # a wait before the next attempt
                wake_at = run.machine.wake_at
                assert wake_at is not None
                actions = run.cancelled() if channel._closed.wait(max(0.0, wake_at - _now())) else run.woke()
                continue
            action = actions[0]
            if isinstance(action, Finish):
                error = run.ended(action.outcome)
                if error is not None:
                    raise error
                return answer
            assert isinstance(action, Start)
            sent = run.started(action)
            on = self._on[action.endpoint.address]
            try:
                attempt = on.with_call if whole else on
                answer = attempt(request, action.timeout, sent, *rest)
                actions = run.finished(action.attempt, OK)
            except grpc.RpcError as error:
                actions = run.finished(action.attempt, outcome_of(error), error)
            except BaseException as problem:
                self._abandon(run, action.attempt, problem)
                raise

    def _abandon(self, run: Run, attempt: int, problem: BaseException) -> None:
        """Not a gRPC error: a closed channel, a request that cannot be serialized, Ctrl-C. Counters stay right."""
        run.cancelled()
        run.finished(attempt, BROKEN_OFF)
        run.ended(BROKEN_OFF)
        if self._channel._closed.is_set() and isinstance(problem, ValueError):
            raise CallError(self._method, BROKEN_OFF, run.tried) from problem


class CallFuture(grpc.Call, grpc.Future):  # type: ignore[type-arg]
    """A unary call that runs by itself: a `grpc.Future` of its answer and a `grpc.Call`."""

    def __init__(self, run: Run, on: Mapping[str, Any], request: Any, rest: tuple[Any, ...]) -> None:
        self._run = run
        self._on = on
        self._request = request
        self._rest = rest
        self._condition = threading.Condition()
        self._callbacks: list[Callable[[Any], None]] = []
        self._attempt: Any = None
        self._timer: threading.Timer | None = None
        self._answer: Any = None
        self._outcome: Outcome | None = None
        self._error: CallError | None = None
        self._perform(run.begin())

    def _perform(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Start):
                self._start(action)
            elif isinstance(action, Cancel):
                if self._attempt is not None:
                    self._attempt.cancel()
            else:
                self._finish(action.outcome)
        wake_at = self._run.machine.wake_at
        if not actions and wake_at is not None:
            self._timer = threading.Timer(max(0.0, wake_at - _now()), self._woke)
            self._timer.daemon = True
            self._timer.start()

    def _start(self, start: Start) -> None:
        sent = self._run.started(start)
        try:
            attempt = self._on[start.endpoint.address].future(self._request, start.timeout, sent, *self._rest)
        except BaseException:
            self._run.cancelled()
            self._run.finished(start.attempt, BROKEN_OFF)
            self._finish(BROKEN_OFF)
            if self._run.channel._closed.is_set():
                return
            raise
        self._attempt = attempt
        if self.done():  # cancelled while it was being started
            attempt.cancel()
        attempt.add_done_callback(lambda done: self._ended(start.attempt, done))

    def _ended(self, number: int, done: Any) -> None:
        if done.code() is grpc.StatusCode.OK:
            self._answer = done.result()
            self._perform(self._run.finished(number, OK))
        else:
            self._perform(self._run.finished(number, outcome_of(done), done))

    def _woke(self) -> None:
        self._perform(self._run.cancelled() if self._run.channel._closed.is_set() else self._run.woke())

    def _finish(self, outcome: Outcome) -> None:
        with self._condition:
            if self._outcome is not None:
                return
            self._error = self._run.ended(outcome)
            self._outcome = outcome
            self._condition.notify_all()
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)

    def _wait(self, timeout: float | None) -> None:
        with self._condition:
            if not self._condition.wait_for(self.done, timeout):
                raise grpc.FutureTimeoutError

    def cancel(self) -> bool:
        if self.done():
            return False
        if self._timer is not None:
            self._timer.cancel()
        self._perform(self._run.cancelled())
        return True

    def cancelled(self) -> bool:
        return self._outcome is not None and self._outcome.code is Code.CANCELLED

    def running(self) -> bool:
        return not self.done()

    def done(self) -> bool:
        return self._outcome is not None

    def result(self, timeout: float | None = None) -> Any:
        self._wait(timeout)
        if self.cancelled():
            raise grpc.FutureCancelledError
        if self._error is not None:
            raise self._error
        return self._answer

    def exception(self, timeout: float | None = None) -> CallError | None:
        self._wait(timeout)
        if self.cancelled():
            raise grpc.FutureCancelledError
        return self._error

    def traceback(self, timeout: float | None = None) -> Any:
        error = self.exception(timeout)
        return None if error is None else error.__traceback__

    def add_done_callback(self, fn: Callable[[Any], None]) -> None:
        with self._condition:
            if self._outcome is None:
                self._callbacks.append(fn)
                return
        fn(self)

    def add_callback(self, callback: Callable[[], None]) -> bool:
        with self._condition:
            if self._outcome is None:
                self._callbacks.append(lambda _: callback())
                return True
        return False

    def is_active(self) -> bool:
        return not self.done()

    def time_remaining(self) -> float | None:  # type: ignore[override] # None: no limit
        deadline = self._run.machine.deadline
        return None if deadline is None else max(0.0, deadline - _now())

    def code(self) -> grpc.StatusCode:
        self._wait(None)
        return grpc.StatusCode.OK if self._error is None else self._error.code()

    def details(self) -> str:
        self._wait(None)
        return "" if self._error is None else self._error.details()

    def initial_metadata(self) -> Sent:
        self._wait(None)
        return tuple(self._attempt.initial_metadata() or ()) if self._attempt is not None else ()

    def trailing_metadata(self) -> Sent:
        self._wait(None)
        return tuple(self._attempt.trailing_metadata() or ()) if self._attempt is not None else ()

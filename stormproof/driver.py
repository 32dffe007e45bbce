"""The threaded driver of one unary call: performs what its machine says, and tells the machine what happened.

A blocking call runs in its caller's thread: take the lock, ask the machine, leave the lock, do what it says on the
endpoint's own grpc channel. A call made with `.future()` does the same from gRPC's completion callbacks.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import grpc

from stormproof.core.call import Action, Cancel, Finish, Start, State
from stormproof.core.outcome import OK, Code, Evidence, Outcome
from stormproof.core.policy import Policy
from stormproof.deadline import inherited
from stormproof.errors import STATUS, CallError, Tried
from stormproof.metadata import checked
from stormproof.observer import AttemptBegan, AttemptEnded, CallBegan, CallEnded, Sent
from stormproof.orca import report_in
from stormproof.replay import of
from stormproof.subchannels import NOT_SERIALIZED, outcome_of
from stormproof.timers import Timer

if TYPE_CHECKING:
    from stormproof.channel import Channel
    from stormproof.shared import Shared

PREVIOUS = "grpc-previous-rpc-attempts"
KEY = "idempotency-key"
#: An attempt that our own side broke off.
BROKEN_OFF = Outcome(Code.CANCELLED, Evidence.NEVER_SENT, "the channel was closed")
#: What observers know calls by. One count for all channels, so that an observer may serve several.
_ids = itertools.count(1)
_NO_ERRORS: Mapping[int, Any] = {}
_log = logging.getLogger("stormproof")
_now = time.monotonic


def tidy(channel: Shared) -> None:
    """Ends the calls whose streams were dropped. Not done where they are dropped: that may be inside any lock."""
    while channel._abandoned:
        with contextlib.suppress(IndexError):  # another thread was quicker
            channel._abandoned.popleft()()


class Run:
    """One call under way: its machine, its errors so far, and what the observer is told about it."""

    error: type[CallError] = CallError
    __slots__ = ("_errors", "channel", "id", "machine", "metadata", "method", "problem", "stream", "tried")

    def __init__(
        self,
        channel: Shared,
        method: str,
        policy: Policy,
        timeout: float | None,
        metadata: Any,
        *,
        request: Any = None,
        resumable: bool = False,
    ) -> None:
        self.channel = channel
        self.method = method
        if metadata is not None:
            metadata = checked(metadata)
        self.metadata = _with_key(metadata) if policy.idempotency_key else metadata
        key = None if channel._key_of is None else channel._key_of(request, self.metadata)
        self.machine = channel._call_type(channel._pool, policy, inherited(timeout), resumable=resumable, key=key)
        self.stream: Any = None  # the client stream (a Replay), if there is one
        self.problem: BaseException | None = None  # of the caller's own side, which ended the call
        self.tried: tuple[Tried, ...] = ()
        self.id = next(_ids) if channel._observer is not None else 0
        self._errors = _NO_ERRORS  # what gRPC raised for an attempt

    def begin(self, waited: float | None = None) -> list[Action]:
        """The caller called, and has waited for endpoints so long; None: it has not waited yet, and nothing was told."""
        channel = self.channel
        if channel._abandoned:
            tidy(channel)
        now = _now()
        if waited is None:
            if channel._observer is not None:
                self.tell_began(now)
            waited = 0.0
            if not channel._known:
                waited = self._wait_for_endpoints()
                now = _now()
        with channel._lock:
            return self.machine.begin(now, waited)

    def tell_began(self, now: float) -> None:
        self.channel._tell(CallBegan(self.id, now, self.method, self.metadata or ()))

    def _wait_for_endpoints(self) -> float:
        """Seconds that the call waited for the resolver's first answer, within its deadline."""
        known, began = threading.Event(), _now()
        if self.channel._when_known(known.set):
            known.wait(self.machine.timeout)
        return _now() - began

    def reported(self, attempt: int, trailing: Any) -> None:
        """The server's trailing metadata of an attempt; it may hold a report of its load."""
        report = report_in(trailing)
        if report is not None:
            with self.channel._lock:
                self.channel._pool.reported(self.machine.endpoint_of(attempt).address, report, _now())

    def started(self, start: Start) -> Any:
        """Tells that the attempt begins and returns the metadata to send with it."""
        channel, sent = self.channel, self.metadata
        if channel._observer is not None:
            channel._tell(AttemptBegan(self.id, _now(), start.attempt, start.sent, start.endpoint, start.cause))
        if start.sent > 1:
            sent = (*(sent or ()), (PREVIOUS, str(start.sent - 1)))  # gRFC A6
        if channel._adds is not None:
            sent = (*(sent or ()), *channel._adds(self.id, start.attempt))
        return sent

    def finished(self, attempt: int, outcome: Outcome, error: Any = None) -> list[Action]:
        channel = self.channel
        problem = None if outcome is OK or self.stream is None else self.stream.problem
        if problem is not None:  # our own side ended the attempt, and no server is to blame
            outcome = Outcome(Code.UNKNOWN, Evidence.LOST, f"the stream of requests raised {problem!r}")
        now = _now()
        try:
            with channel._lock:
                if outcome is OK:
                    return self.machine.finished(attempt, OK, now)
                return self._failed(attempt, outcome, error, now, problem is not None)
        finally:  # also if the user's balancer failed to choose where the next one goes
            if channel._pool.drained:
                channel._let_go()
            if channel._observer is not None:
                channel._tell(AttemptEnded(self.id, now, attempt, outcome))

    def _failed(self, attempt: int, outcome: Outcome, error: Any, now: float, own: bool) -> list[Action]:
        """Within the lock. `own`: by a mistake of the caller's own."""
        self.tried = (*self.tried, Tried(self.machine.endpoint_of(attempt).address, outcome))
        self._errors = {**self._errors, attempt: error}
        if error is not None:  # its frames hold the caller's stream: a dropped one would never be let go
            error.__traceback__ = None
        if not own and not (outcome.code is Code.CANCELLED and self.channel._closed.is_set()):
            return self.machine.finished(attempt, outcome, now)
        # close() ended the attempts, or a mistake of the caller's own; none is left to cancel.
        actions: list[Action] = [Finish(attempt, outcome)] if self.machine.cancelled(now) else []
        self.machine.finished(attempt, BROKEN_OFF, now)
        return actions

    def unwritten(self, attempt: int, problem: Exception) -> list[Action]:
        """The request cannot be serialized: a mistake of the caller's own."""
        self.problem = problem
        return self.finished(attempt, NOT_SERIALIZED)

    def woke(self) -> list[Action]:
        """If it is time; what has happened meanwhile may have put it off."""
        now = _now()
        with self.channel._lock:
            wake_at = self.machine.wake_at
            return [] if wake_at is None or now < wake_at else self.machine.woke(now)

    def cancelled(self) -> list[Action]:
        with self.channel._lock:
            return self.machine.cancelled(_now())

    def ended(self, finish: Finish) -> CallError | None:
        """Notes the end of the call and returns the error to raise, if any."""
        if self.channel._observer is not None:
            self.channel._tell(CallEnded(self.id, _now(), self.machine.attempts, finish.outcome))
        if self.stream is not None:
            self.stream.close()
        if finish.outcome is OK:
            return None
        error = self.error(self.method, finish.outcome, self.tried, self._errors.get(finish.attempt))
        error.__cause__ = self.problem if self.stream is None else self.problem or self.stream.problem
        return error

    def over(self, actions: list[Action]) -> None:
        """Notes the end of the call, if it is among `actions`: nobody is left to perform them."""
        for action in actions:
            if isinstance(action, Finish):
                self.ended(action)

    def broken_off(self, attempt: int, problem: BaseException) -> CallError | None:
        """Attempt `attempt` (0: none) could not be made at all, for this reason of our own side's. Counters stay right.

        Returns the error that the call ends with, or None if it was over already.
        """
        outcome = self.own(problem)
        ends = self.cancelled()
        if attempt:
            self.finished(attempt, outcome)
        if not ends:
            _log.error("after the end of a call of %s", self.method, exc_info=problem)
            return None
        self.problem = problem
        return self.ended(Finish(attempt, outcome))

    def own(self, problem: BaseException) -> Outcome:
        """What this reason of our own side's is called: of a balancer's, a callback's, an argument that grpc does not take."""
        if self.channel._closed.is_set():
            return BROKEN_OFF
        if not isinstance(problem, Exception):  # Ctrl-C
            return Outcome(Code.CANCELLED, Evidence.LOST, f"broken off by {type(problem).__name__}")
        return Outcome(Code.INTERNAL, Evidence.NEVER_SENT, f"the caller's own side failed: {problem!r}")


def call_back(callbacks: Iterable[Callable[..., None]], method: str, *what: Any) -> None:
    """Calls each. What one raises must not end the thread that other calls need, as in grpc, nor keep it from the next."""
    for callback in callbacks:
        try:
            callback(*what)
        except Exception:
            _log.exception("a callback of %s failed", method)


def refuse_mistake(error: BaseException | None) -> None:
    """Raises a mistake of the caller's own (an argument that grpc does not take, a request that cannot be serialized):
    it is told at once, as grpc does."""
    if error is None:
        return
    if not isinstance(error, CallError) or (error.outcome.code is Code.INTERNAL and error.outcome.ours):
        raise error


def _with_key(metadata: Any) -> Any:
    """Metadata with a key that no other call has, unless the caller brought one."""
    given = tuple(metadata or ())
    return given if any(name == KEY for name, _ in given) else (*given, (KEY, str(uuid.uuid4())))


class UnaryUnary(grpc.UnaryUnaryMultiCallable):  # type: ignore[type-arg] # generic in the types only
    """Calls one unary method under its policy. What a generated stub holds."""

    kind = "unary_unary"
    replays = False  # whether a request can be read only once, and is kept for further attempts

    def __init__(self, channel: Channel, method: str, serializer: Any, deserializer: Any, registered: bool) -> None:
        self._channel = channel
        self._method = method
        self._policy = channel._policy_of(method)
        # A message that its caller uses again must not reach the second attempt: it is serialized once, by us.
        self._serialize = serializer
        kind = self.kind
        self._on = channel._bind(lambda to: getattr(to, kind)(method, None, deserializer, registered))

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
        run = Run(
            self._channel, self._method, self._policy, timeout, metadata, request=None if self.replays else request
        )
        rest = (credentials, wait_for_ready, compression)
        return CallFuture(run, self._on, self._request(run, request), self._writes(), rest)

    def _blocking(self, request: Any, timeout: float | None, metadata: Any, rest: tuple[Any, ...], whole: bool) -> Any:
        channel = self._channel
        if channel._closed.is_set():
            channel._check_open()
        known = None if self.replays else request
        run = Run(channel, self._method, self._policy, timeout, metadata, request=known)
        if self.replays:
            request = self._request(run, request)
        if self._policy.hedge is not None:
            call = CallFuture(run, self._on, request, self._writes(), rest)
            answer = call.answer()
            return (answer, call) if whole else answer
        answer = None
        write = self._writes()
        flying = 0  # the attempt whose end has not been told
        try:
            actions = run.begin()
            while True:
                if not actions:  # a wait before the next attempt
                    wake_at = run.machine.wake_at
                    assert wake_at is not None
                    closed = channel._closed.wait(max(0.0, wake_at - _now()))
                    actions = run.cancelled() if closed else run.woke()
                    continue
                action = actions[0]
                if isinstance(action, Finish):
                    break
                assert isinstance(action, Start)
                flying = action.attempt
                sent = run.started(action)
                if write is not None:
                    try:
                        request, write = write(request), None
                    except Exception as problem:
                        flying = 0
                        actions = run.unwritten(action.attempt, problem)
                        continue
                try:
                    on = self._on[action.endpoint.address]
                    sending = of(request) if self.replays else request
                    if whole or channel._reads_reports:
                        answer, call = on.with_call(sending, action.timeout, sent, *rest)
                        if channel._reads_reports:
                            run.reported(action.attempt, call.trailing_metadata())
                        answer = (answer, call) if whole else answer
                    else:
                        answer = on(sending, action.timeout, sent, *rest)
                except grpc.RpcError as error:
                    flying = 0
                    actions = run.finished(action.attempt, outcome_of(error), error)
                else:
                    flying = 0
                    actions = run.finished(action.attempt, OK)
        except BaseException as problem:
            self._abandon(run, flying, problem)
            raise
        ended = run.ended(action)
        if ended is not None:
            raise ended
        return answer

    def _writes(self) -> Any:
        """What serializes the request of a call, once."""
        return None if self.replays else self._serialize

    def _request(self, run: Run, request: Any) -> Any:  # noqa: ARG002
        """What each attempt sends; a client stream is made to be read again."""
        return request

    def _abandon(self, run: Run, attempt: int, problem: BaseException) -> None:
        """Not a gRPC error: a closed channel, a balancer that failed, Ctrl-C."""
        error = run.broken_off(attempt, problem)
        if error is not None and self._channel._closed.is_set() and isinstance(problem, ValueError):
            raise error from problem


class CallFuture(grpc.Call, grpc.Future):  # type: ignore[type-arg]
    """A unary call that runs by itself: a `grpc.Future` of its answer and a `grpc.Call`."""

    def __init__(
        self,
        run: Run,
        on: Mapping[str, Any],
        request: Any,
        serialize: Callable[[Any], bytes] | None,
        rest: tuple[Any, ...],
    ) -> None:
        self._run = run
        self._on = on
        self._request = request
        self._serialize = serialize  # until it is done
        self._rest = rest
        self._condition = threading.Condition()
        self._callbacks: list[Callable[[Any], None]] = []
        self._attempts: dict[int, Any] = {}
        self._answered: Any = None  # the attempt whose answer or error is the call's
        self._outcome: Outcome | None = None
        self._error: BaseException | None = None
        self._timer: Timer | None = None
        self._perform(run.begin)
        refuse_mistake(self._error)

    def _perform(self, tell: Callable[..., list[Action]], *what: Any) -> None:
        """Tells the machine what happened, and does what it wants then."""
        try:
            for action in tell(*what):
                if isinstance(action, Start):
                    self._start(action)
                elif isinstance(action, Cancel):
                    self._cancel(action.attempt)
                else:
                    self._close(action, self._run.ended(action))
        except BaseException as problem:  # a balancer of the user's has failed
            self._break_off(0, problem)
            if not isinstance(problem, Exception):
                raise
        finally:
            self._set_timer()

    def _set_timer(self) -> None:
        """One timer at a time, none when there is nothing to wait for: it would keep all of this call until it rings."""
        timers = self._run.channel._timers
        with self._condition:  # ends and timers come on different threads: the last one must see the last state
            wake_at, before = self._run.machine.wake_at, self._timer
            if before is not None:
                if before.moment == wake_at and before.armed:
                    return
                timers.forget(before)
            self._timer = None if wake_at is None else timers.at(wake_at, self._woke)

    def _start(self, start: Start) -> None:
        try:
            sent = self._run.started(start)
            if self._serialize is not None:
                try:
                    self._request, self._serialize = self._serialize(self._request), None
                except Exception as problem:
                    self._perform(self._run.unwritten, start.attempt, problem)
                    return
            attempt = self._on[start.endpoint.address].future(of(self._request), start.timeout, sent, *self._rest)
        except grpc.RpcError as error:  # grpc says at once what it cannot send
            self._perform(self._run.finished, start.attempt, outcome_of(error), error)
            return
        except BaseException as problem:
            self._break_off(start.attempt, problem)
            return
        self._attempts[start.attempt] = attempt
        if self._run.machine.state is State.DONE:  # cancelled while it was being started
            attempt.cancel()
        attempt.add_done_callback(lambda done: self._ended(start.attempt, done))

    def _break_off(self, number: int, problem: BaseException) -> None:
        """Our own side failed, maybe far from the caller: the call ends with that, and all that is out."""
        error = self._run.broken_off(number, problem)
        if error is not None:
            for attempt in list(self._attempts.values()):
                attempt.cancel()
            closed = self._run.channel._closed.is_set()
            self._close(Finish(number, error.outcome), error if closed else problem)

    def _cancel(self, number: int) -> None:
        attempt = self._attempts.get(number)
        if attempt is not None:  # else it is just being started, and cancelled there
            attempt.cancel()

    def _ended(self, number: int, done: Any) -> None:
        if self._run.channel._reads_reports:
            self._run.reported(number, done.trailing_metadata())
        if done.code() is grpc.StatusCode.OK:
            self._perform(self._run.finished, number, OK)
        else:
            self._perform(self._run.finished, number, outcome_of(done), done)

    def _woke(self) -> None:
        """A timer of an earlier state may come too; it finds that nothing is due."""
        closed = self._run.channel._closed.is_set()
        self._perform(self._run.cancelled if closed else self._run.woke)

    def _close(self, finish: Finish, error: BaseException | None) -> None:
        with self._condition:
            self._error = error
            self._answered = self._attempts.get(finish.attempt)
            self._outcome = finish.outcome
            self._condition.notify_all()
            callbacks, self._callbacks = self._callbacks, []
        call_back(callbacks, self._run.method, self)

    def answer(self) -> Any:
        """Waits for the end in the caller's thread: the answer, or the error raised (CANCELLED, too)."""
        try:
            self._wait(None)
        except BaseException:  # Ctrl-C: nothing is left running
            self.cancel()
            raise
        if self._error is not None:
            raise self._error
        return self._answered.result()

    def _wait(self, timeout: float | None) -> None:
        with self._condition:
            if not self._condition.wait_for(self.done, timeout):
                raise grpc.FutureTimeoutError

    def cancel(self) -> bool:
        if self.done():
            return False
        self._perform(self._run.cancelled)
        return True

    def cancelled(self) -> bool:
        return self.done() and isinstance(self._error, CallError) and self._error.outcome.code is Code.CANCELLED

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
        return self._answered.result()

    def exception(self, timeout: float | None = None) -> BaseException | None:  # type: ignore[override] # of an argument
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
        assert self._outcome is not None
        return STATUS[int(self._outcome.code)]

    def details(self) -> str:
        self._wait(None)
        return self._error.details() if isinstance(self._error, CallError) else str(self._error or "")

    def initial_metadata(self) -> Sent:
        self._wait(None)
        return tuple(self._answered.initial_metadata() or ()) if self._answered is not None else ()

    def trailing_metadata(self) -> Sent:
        self._wait(None)
        return tuple(self._answered.trailing_metadata() or ()) if self._answered is not None else ()

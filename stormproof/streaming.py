"""The threaded driver of streaming calls: the same machine, and a caller that reads messages one by one.

Before the first message reaches the caller a failed attempt may be followed by another one, as with a unary call; a
client stream is kept for that up to the policy's bound. Afterwards only a method with a `Checkpoint` continues
elsewhere. The work is done in the thread that reads, so a stream costs no thread of its own.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import grpc

from stormproof.core.call import Action, Cancel, Finish, Start
from stormproof.core.outcome import OK, Code, Evidence, Outcome
from stormproof.core.policy import Policy
from stormproof.driver import Run, UnaryUnary, call_back, refuse_mistake
from stormproof.errors import STATUS, CallError
from stormproof.observer import Sent
from stormproof.replay import Replay, of
from stormproof.subchannels import outcome_of
from stormproof.timers import Timer

if TYPE_CHECKING:
    from stormproof.channel import Channel
    from stormproof.shared import Shared

_now = time.monotonic


def stream_policy(channel: Shared, method: str) -> Policy:
    """The policy of an answer stream, as its machine needs it; the limit of silence is kept by the driver."""
    named = channel._named_policy_of(method)
    policy = named or channel._policy
    return replace(
        policy,
        timeout=None if named is None else named.timeout,
        attempt_timeout=None,
        idempotent=policy.repeatable,
        hedge=None,
    )


class StreamUnary(UnaryUnary, grpc.StreamUnaryMultiCallable):  # type: ignore[type-arg,misc]
    """Calls a method with a client stream: like a unary call whose request can be read again."""

    kind = "stream_unary"
    replays = True

    def __init__(self, channel: Channel, method: str, serializer: Any, deserializer: Any, registered: bool) -> None:
        super().__init__(channel, method, None, deserializer, registered)
        # One stream cannot be read by two attempts at once.
        self._policy = replace(self._policy, idempotent=self._policy.repeatable, hedge=None)
        self._serialize = serializer

    def _request(self, run: Run, request: Any) -> Any:
        return _replay(run, request, self._serialize, self._policy.buffer)


class Streaming(grpc.UnaryStreamMultiCallable, grpc.StreamStreamMultiCallable):  # type: ignore[type-arg]
    """Calls a method with an answer stream; with a client stream too, if `kind` says so."""

    def __init__(
        self, channel: Channel, kind: str, method: str, serializer: Any, deserializer: Any, registered: bool
    ) -> None:
        self._channel = channel
        self._method = method
        self._policy = stream_policy(channel, method)
        configured = channel._policy_of(method)
        self._silence = configured.attempt_timeout
        self._resume = configured.checkpoint.after if configured.checkpoint and kind == "unary_stream" else None
        self._serialize = serializer
        self._client_stream = kind == "stream_stream"
        self._on = channel._bind(lambda to: getattr(to, kind)(method, None, deserializer, registered))

    def __call__(  # type: ignore[override] # of either kind
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Sent | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> AnswerStream:
        self._channel._check_open()
        resumable = self._resume is not None
        known = None if self._client_stream else request
        run = Run(self._channel, self._method, self._policy, timeout, metadata, request=known, resumable=resumable)
        if self._client_stream:
            request = _replay(run, request, self._serialize, self._policy.buffer)
        rest = (credentials, wait_for_ready, compression)
        return AnswerStream(run, self._on, request, self._serialize, rest, self._resume, self._silence)


def _replay(run: Run, source: Any, serialize: Any, bound: int) -> Any:
    def outgrown() -> None:
        with run.channel._lock:
            run.machine.committed()

    run.stream = Replay(source, serialize, bound, outgrown)
    return run.stream


class _Flight:
    """One attempt, whose end is told to the machine once: by the reader of the stream, or when it has gone."""

    def __init__(self, run: Run, number: int) -> None:
        self._run = run
        self._number = number
        self._lock = threading.Lock()
        self._timer: Timer | None = None  # of the silence
        self.told = False

    def wake(self, moment: float, callback: Callable[[], None]) -> None:
        """Calls `callback` at `moment` if the attempt has not ended by then."""
        with self._lock:
            if not self.told:
                self._timer = self._run.channel._timers.at(moment, callback)

    def take(self) -> int:
        """Its number for whoever asks first, who then has to tell its end; then 0."""
        with self._lock:
            if self.told:
                return 0
            self.told = True
            if self._timer is not None:
                self._run.channel._timers.forget(self._timer)
        return self._number

    def ended(self, outcome: Outcome, error: Any = None) -> list[Action]:
        return self._run.finished(self._number, outcome, error) if self.take() else []

    def reported(self, trailing: Any) -> None:
        self._run.reported(self._number, trailing)

    def left(self) -> None:
        actions = self._run.cancelled()
        self.ended(Outcome(Code.CANCELLED, Evidence.LOST, "nobody reads the stream any more"))
        self._run.over(actions)


class AnswerStream(grpc.Call, Iterator[Any]):
    """An answer stream under way: iterate over it for its messages. A `grpc.Call`; its error is a `CallError`."""

    def __init__(
        self,
        run: Run,
        on: Mapping[str, Any],
        request: Any,
        serialize: Callable[[Any], bytes] | None,
        rest: tuple[Any, ...],
        resume: Callable[[Any, Any], Any] | None,
        silence: float | None,
    ) -> None:
        self._run = run
        self._on = on
        self._request = request
        self._serialize = serialize
        self._written = serialize is None or isinstance(request, Replay)  # whether `_request` is serialized
        self._rest = rest
        self._resume = resume
        self._silence = silence
        self._first_request = request
        self._attempt: Any = None
        self._flight: _Flight | None = None
        self._waiting: float | None = None  # since when the reader waits for a message
        self._silent: Any = None  # the attempt that was ended for its silence
        self._ending = threading.Condition()
        self._finish: Finish | None = None
        self._error: BaseException | None = None
        self._callbacks: list[Callable[[], None]] = []
        self._perform(run.begin)
        refuse_mistake(self._error)

    def __iter__(self) -> AnswerStream:
        return self

    def __next__(self) -> Any:
        while self._finish is None:
            self._waiting = _now()
            try:
                message = next(self._attempt)
            except StopIteration:
                self._ended(OK, None)
            except grpc.RpcError as error:
                outcome = outcome_of(error)
                if self._silent is self._attempt and outcome.code is Code.CANCELLED:
                    outcome = Outcome(Code.DEADLINE_EXCEEDED, Evidence.LOST, f"no message for {self._silence:g} s")
                self._ended(outcome, error)
            else:
                self._arrived(message)
                return message
        if self._error is not None:
            raise self._error
        raise StopIteration

    def _arrived(self, message: Any) -> None:
        self._waiting = None
        with self._run.channel._lock:
            self._run.machine.progressed(_now())
        if self._resume is not None:
            try:
                self._request, self._written = self._resume(self._first_request, message), self._serialize is None
            except BaseException:
                self.cancel()
                raise

    def _ended(self, outcome: Outcome, error: Any) -> None:
        """The attempt is over; returns once the next one is under way, or the call is over."""
        assert self._flight is not None
        self._waiting = None
        if self._run.channel._reads_reports:
            self._flight.reported(self._attempt.trailing_metadata())
        self._perform(self._following, outcome, error)

    def _following(self, outcome: Outcome, error: Any) -> list[Action]:
        """What the machine wants after the end of the attempt, when it is time for it."""
        assert self._flight is not None
        actions = self._flight.ended(outcome, error)
        while not actions and self._finish is None:
            wake_at = self._run.machine.wake_at
            if wake_at is None:  # cancelled by another thread, which tells the end
                with self._ending:
                    self._ending.wait_for(lambda: self._finish is not None)
                break
            closed = self._run.channel._closed.wait(max(0.0, wake_at - _now()))
            actions = self._run.cancelled() if closed else self._run.woke()
        return actions

    def _perform(self, tell: Callable[..., list[Action]], *what: Any) -> None:
        """Tells the machine what happened, and does what it wants then."""
        try:
            for action in tell(*what):
                if isinstance(action, Start):
                    self._start(action)
                elif isinstance(action, Cancel):
                    self._attempt.cancel()
                else:
                    self._close(action, self._run.ended(action))
        except Exception as problem:  # a balancer of the user's has failed
            self._break_off(problem)

    def _start(self, start: Start) -> None:
        self._flight = flight = _Flight(self._run, start.attempt)
        try:
            sent = self._run.started(start)
            if not self._written:
                assert self._serialize is not None
                try:
                    self._request, self._written = self._serialize(self._request), True
                except Exception as problem:
                    if flight.take():
                        self._perform(self._run.unwritten, start.attempt, problem)
                    return
            self._attempt = self._on[start.endpoint.address](of(self._request), start.timeout, sent, *self._rest)
        except grpc.RpcError as error:  # grpc says at once what it cannot send
            self._perform(flight.ended, outcome_of(error), error)
            return
        except BaseException as problem:
            self._break_off(problem)
            if not isinstance(problem, Exception):
                raise
            return
        # The reader tells how the attempt ended, unless there is none any more: the stream was cancelled or dropped.
        this = weakref.ref(self)
        self._attempt.add_callback(lambda: flight.left() if (stream := this()) is None or stream._finish else None)
        if self._finish is not None:  # cancelled while it was being started
            self._attempt.cancel()
        elif self._silence is not None:
            self._watch(flight)

    def _watch(self, flight: _Flight) -> None:
        """Ends the attempt once its reader has waited for too long; the time that the reader takes itself is no silence."""
        assert self._silence is not None
        attempt = self._attempt  # before the look at the flight: the reader may begin another one meanwhile
        if flight is not self._flight or self._finish is not None:
            return
        now, waiting = _now(), self._waiting
        if waiting is not None and now >= waiting + self._silence:
            self._silent = attempt
            attempt.cancel()
            return
        this = weakref.ref(
            self
        )  # neither the stream nor its attempt must be kept by the watch if nobody reads any more

        def again() -> None:
            if (stream := this()) is not None:
                stream._watch(flight)

        flight.wake((now if waiting is None else waiting) + self._silence, again)

    def _break_off(self, problem: BaseException) -> None:
        """Our own side failed: the call ends with that, and what is out."""
        number = 0 if self._flight is None else self._flight.take()
        error = self._run.broken_off(number, problem)
        if self._attempt is not None:
            self._attempt.cancel()
        if error is not None:
            closed = self._run.channel._closed.is_set()
            self._close(Finish(number, error.outcome), error if closed else problem)

    def _close(self, finish: Finish, error: BaseException | None) -> None:
        with self._ending:
            self._finish = finish
            self._error = error
            self._ending.notify_all()
            callbacks, self._callbacks = self._callbacks, []
        call_back(callbacks, self._run.method)

    def __del__(self) -> None:
        """Nobody will read on: grpc ends the attempt, and the next call on the channel takes it off the books."""
        flight = getattr(self, "_flight", None)
        if flight is not None and (self._finish is None or not flight.told):
            self._run.channel._abandoned.append(flight.left)

    def cancel(self) -> bool:
        if self._finish is not None:
            return False
        self._perform(self._run.cancelled)
        self._attempt.cancel()  # also one that the reader has just started
        return True

    def add_callback(self, callback: Callable[[], None]) -> bool:
        with self._ending:
            if self._finish is None:
                self._callbacks.append(callback)
                return True
        return False

    def is_active(self) -> bool:
        return self._finish is None

    def time_remaining(self) -> float | None:  # type: ignore[override] # None: no limit
        deadline = self._run.machine.deadline
        return None if deadline is None else max(0.0, deadline - _now())

    def initial_metadata(self) -> Sent:
        """Of the attempt that is read now; waits for it, as grpc does."""
        return tuple(self._attempt.initial_metadata() or ()) if self._attempt is not None else ()

    def trailing_metadata(self) -> Sent:
        self._wait()
        return tuple(self._attempt.trailing_metadata() or ()) if self._attempt is not None else ()

    def code(self) -> grpc.StatusCode:
        self._wait()
        assert self._finish is not None
        return STATUS[int(self._finish.outcome.code)]

    def details(self) -> str:
        self._wait()
        return self._error.details() if isinstance(self._error, CallError) else str(self._error or "")

    def _wait(self) -> None:
        """Waits for the end. A stream ends in the thread that reads it: read it to its end first, or cancel it."""
        with self._ending:
            self._ending.wait_for(lambda: self._finish is not None)

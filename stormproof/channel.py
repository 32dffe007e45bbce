"""The threaded driver: a `grpc.Channel` over many endpoints, under any generated stub.

What it decides is decided in stormproof.core; this file performs it. A unary call runs in its caller's thread: take the
lock, ask the machine, leave the lock, do what it says on the endpoint's own grpc channel, tell the machine. A call made
with `.future()` does the same from gRPC's completion callbacks. The streaming kinds are balanced, and have no policy
beyond that yet.

    stub.SayHello(request)                      the generated stub, unchanged
      UnaryUnary.__call__                       this file
        Call.begin -> Pool.begin -> Picker.pick      which endpoint (stormproof.core)
        grpc channel of that endpoint           the attempt, with what is left of the deadline
        Call.finished -> Pool.finished          answer it, or start again elsewhere
"""

from __future__ import annotations

import contextlib
import itertools
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import grpc

from stormproof.core.balancers import Balancer, LeastRequest
from stormproof.core.breaker import Failover, State
from stormproof.core.budget import RetryBudget
from stormproof.core.call import Action, Call, Cancel, Finish, Start
from stormproof.core.check import complain, instance
from stormproof.core.endpoint import Endpoint
from stormproof.core.outcome import OK, Code, Evidence, Outcome
from stormproof.core.policy import Policy
from stormproof.core.pool import Flight, Member, Pool
from stormproof.errors import CallError, Tried
from stormproof.observer import AttemptBegan, AttemptEnded, CallBegan, CallEnded, Ejected, Event, Metadata, Observer, Readmitted
from stormproof.subchannels import Options, open_channel, outcome_of

PREVIOUS = "grpc-previous-rpc-attempts"
_CLOSED = Outcome(Code.CANCELLED, Evidence.NEVER_SENT, "the channel was closed")
_now = time.monotonic
#: How good a channel's state is, for the state of the whole: it is as well connected as its best subchannel.
_BEST = (
    grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.CONNECTING, grpc.ChannelConnectivity.IDLE,
    grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN,
)  # fmt: skip


class Channel(grpc.Channel):  # type: ignore[misc]
    """A channel that balances over `endpoints` and keeps each method's policy.

    endpoints    addresses ("host:port") or `Endpoint`s, at least one, all different.
    balancer     who is called: LeastRequest() unless told otherwise.
    policy       what every method may do; `methods` replaces it for single ones, by full name ("/pkg.Service/Method").
    failover     when endpoints are ejected; None: never, and a further attempt may go where the last one failed.
    budget       how many retries the channel may add in all.
    credentials  as for grpc.secure_channel; None: no encryption.
    options, compression   as for grpc.insecure_channel, for each endpoint's own channel.
    observer     is told every event (stormproof.observer).
    seed         fixes every random draw of this channel; None: different each time.

    Calls raise `CallError`, which is a `grpc.RpcError`. Raises ValueError that names every bad argument.
    Safe for use from many threads. Not for use across a fork: make it after forking.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint | str],
        *,
        balancer: Balancer = LeastRequest(),  # noqa: B008 - a frozen value
        policy: Policy = Policy(),  # noqa: B008
        methods: Mapping[str, Policy] | None = None,
        failover: Failover | None = Failover(),  # noqa: B008
        budget: RetryBudget = RetryBudget(),  # noqa: B008
        credentials: grpc.ChannelCredentials | None = None,
        options: Options = (),
        compression: grpc.Compression | None = None,
        observer: Observer | None = None,
        seed: int | None = None,
    ) -> None:
        members = _checked(endpoints, balancer, policy, methods, failover, budget)
        self._policy = policy
        self._methods = dict(methods or {})
        self._observer = observer
        self._ids = itertools.count(1)
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._notices: deque[Event] = deque()
        self._watchers: dict[Callable[[grpc.ChannelConnectivity], None], _Connectivity] = {}
        self._pool = Pool(
            members,
            balancer=balancer,
            failover=failover,
            budget=budget,
            rng=random.Random(seed),
            changed=self._note if observer is not None else lambda member: None,
        )
        self._subchannels = {e.address: open_channel(e.address, credentials, options, compression) for e in members}

    def unary_unary(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> UnaryUnary:
        return UnaryUnary(self, method, request_serializer, response_deserializer, bool(_registered_method))

    def unary_stream(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> grpc.UnaryStreamMultiCallable:
        return _Balanced(self, "unary_stream", method, request_serializer, response_deserializer, _registered_method)

    def stream_unary(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> grpc.StreamUnaryMultiCallable:
        return _Balanced(self, "stream_unary", method, request_serializer, response_deserializer, _registered_method)

    def stream_stream(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> grpc.StreamStreamMultiCallable:
        return _Balanced(self, "stream_stream", method, request_serializer, response_deserializer, _registered_method)

    def subscribe(
        self, callback: Callable[[grpc.ChannelConnectivity], None], try_to_connect: bool | None = False
    ) -> None:
        """Tells `callback` the state of the channel now and whenever it changes: that of its best endpoint."""
        self._watchers[callback] = _Connectivity(self._subchannels, callback, bool(try_to_connect))

    def unsubscribe(self, callback: Callable[[grpc.ChannelConnectivity], None]) -> None:
        watcher = self._watchers.pop(callback, None)
        if watcher is not None:
            watcher.stop(self._subchannels)

    def close(self) -> None:
        """Ends calls in flight with CANCELLED and closes every connection. A second close does nothing."""
        self._closed.set()
        for callback in list(self._watchers):
            self.unsubscribe(callback)
        for subchannel in self._subchannels.values():
            subchannel.close()

    def __enter__(self) -> Channel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _policy_of(self, method: str) -> Policy:
        return self._methods.get(method, self._policy)

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise ValueError("this Channel was closed: make a new one to call again")

    def _note(self, member: Member) -> None:
        """Runs inside the lock: what the pool says is told to the observer later."""
        breaker, now = member.breaker, _now()
        opened = breaker.state is State.OPEN
        self._notices.append(Ejected(now, member.endpoint, breaker.until - now) if opened else Readmitted(now, member.endpoint))

    def _tell(self, event: Event) -> None:
        if self._observer is not None:
            while self._notices:
                with contextlib.suppress(IndexError):  # another thread was quicker
                    self._observer(self._notices.popleft())
            self._observer(event)


def _checked(
    endpoints: Sequence[Endpoint | str],
    balancer: object,
    policy: object,
    methods: Mapping[str, Policy] | None,
    failover: object,
    budget: object,
) -> list[Endpoint]:
    problems: list[str] = []
    members: list[Endpoint] = []
    if isinstance(endpoints, str):
        problems.append(f"endpoints must be a list of addresses; got the text {endpoints!r} (put it in brackets)")
    else:
        for value in endpoints:
            try:
                members.append(Endpoint.of(value))
            except ValueError as error:
                problems.append(f"endpoints: {error}")
        if not members and not problems:
            problems.append("endpoints must hold at least one address, such as '10.0.0.1:50051'; got none")
    addresses = [member.address for member in members]
    twice = sorted({address for address in addresses if addresses.count(address) > 1}) if len(set(addresses)) < len(addresses) else []
    if twice:
        problems.append(f"endpoints must all be different; {', '.join(twice)} stands there twice (give it a weight instead)")
    if not isinstance(balancer, Balancer):
        problems.append(f"balancer must be a balancer, such as RoundRobin(); got {balancer!r}")
    problems += instance("policy", policy, Policy, "Policy(timeout=1.0)")
    for name, value in (methods or {}).items():
        if not name.startswith("/") or name.count("/") != 2:
            problems.append(f"methods must be named '/package.Service/Method'; got {name!r}")
        problems += instance(f"methods[{name!r}]", value, Policy, "Policy(timeout=1.0)")
    if failover is not None:
        problems += instance("failover", failover, Failover, "Failover(), or None for no failover")
    problems += instance("budget", budget, RetryBudget, "RetryBudget()")
    complain("Channel", problems)
    return members


class _Run:
    """One call under way: its machine, its errors so far, and what the observer is told about it."""

    __slots__ = ("_address", "channel", "failures", "id", "last", "machine", "metadata", "method", "tried")

    def __init__(self, channel: Channel, method: str, policy: Policy, timeout: float | None, metadata: Any) -> None:
        self.channel = channel
        self.method = method
        self.metadata = metadata
        self.machine = Call(channel._pool, policy, timeout)
        self.tried: list[Tried] = []
        self.last: grpc.Call | None = None
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

    def finished(self, attempt: int, outcome: Outcome, error: grpc.Call | None = None) -> list[Action]:
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


class UnaryUnary(grpc.UnaryUnaryMultiCallable):  # type: ignore[misc]
    """Calls one unary method under its policy. What a generated stub holds."""

    def __init__(self, channel: Channel, method: str, serializer: Any, deserializer: Any, registered: bool) -> None:
        self._channel = channel
        self._method = method
        self._policy = channel._policy_of(method)
        self._on = {
            address: subchannel.unary_unary(method, serializer, deserializer, registered)
            for address, subchannel in channel._subchannels.items()
        }

    def __call__(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        return self._blocking(request, timeout, metadata, (credentials, wait_for_ready, compression), False)

    def with_call(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> tuple[Any, grpc.Call]:
        answer = self._blocking(request, timeout, metadata, (credentials, wait_for_ready, compression), True)
        return answer  # type: ignore[no-any-return]

    def future(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> CallFuture:
        self._channel._check_open()
        run = _Run(self._channel, self._method, self._policy, timeout, metadata)
        return CallFuture(run, self._on, request, (credentials, wait_for_ready, compression))

    def _blocking(self, request: Any, timeout: float | None, metadata: Any, rest: tuple[Any, ...], whole: bool) -> Any:
        channel = self._channel
        channel._check_open()
        run = _Run(channel, self._method, self._policy, timeout, metadata)
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

    def _abandon(self, run: _Run, attempt: int, problem: BaseException) -> None:
        """Not a gRPC error: a closed channel, a request that cannot be serialized, Ctrl-C. Counters stay right."""
        run.cancelled()
        run.finished(attempt, _CLOSED)
        run.ended(_CLOSED)
        if self._channel._closed.is_set() and isinstance(problem, ValueError):
            raise CallError(self._method, _CLOSED, run.tried) from problem


class CallFuture(grpc.Call, grpc.Future):  # type: ignore[misc]
    """A unary call that runs by itself: a `grpc.Future` of its answer and a `grpc.Call`."""

    def __init__(self, run: _Run, on: Mapping[str, Any], request: Any, rest: tuple[Any, ...]) -> None:
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
            self._run.finished(start.attempt, _CLOSED)
            self._finish(_CLOSED)
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

    def time_remaining(self) -> float | None:
        deadline = self._run.machine.deadline
        return None if deadline is None else max(0.0, deadline - _now())

    def code(self) -> grpc.StatusCode:
        self._wait(None)
        return grpc.StatusCode.OK if self._error is None else self._error.code()

    def details(self) -> str:
        self._wait(None)
        return "" if self._error is None else self._error.details()

    def initial_metadata(self) -> Metadata:
        self._wait(None)
        return self._attempt.initial_metadata() or () if self._attempt is not None else ()

    def trailing_metadata(self) -> Metadata:
        self._wait(None)
        return self._attempt.trailing_metadata() or () if self._attempt is not None else ()


class _Balanced(grpc.UnaryStreamMultiCallable, grpc.StreamUnaryMultiCallable, grpc.StreamStreamMultiCallable):  # type: ignore[misc]
    """A streaming method: one attempt, on the endpoint that the balancer picks; what it returns is gRPC's own call."""

    def __init__(
        self, channel: Channel, kind: str, method: str, serializer: Any, deserializer: Any, registered: bool | None
    ) -> None:
        self._channel = channel
        self._on = {
            address: getattr(subchannel, kind)(method, serializer, deserializer, bool(registered))
            for address, subchannel in channel._subchannels.items()
        }

    def __call__(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        flight, on = self._begin()
        try:
            call = on(request, *args, **kwargs)
        except BaseException as problem:
            self._ended(flight, outcome_of(problem) if isinstance(problem, grpc.RpcError) else _CLOSED)
            raise
        return self._watched(flight, call)

    def with_call(self, request_iterator: Iterator[Any], *args: Any, **kwargs: Any) -> Any:
        flight, on = self._begin()
        try:
            answer = on.with_call(request_iterator, *args, **kwargs)
        except BaseException as problem:
            self._ended(flight, outcome_of(problem) if isinstance(problem, grpc.RpcError) else _CLOSED)
            raise
        self._ended(flight, OK)
        return answer

    def future(self, request_iterator: Iterator[Any], *args: Any, **kwargs: Any) -> Any:
        flight, on = self._begin()
        return self._watched(flight, on.future(request_iterator, *args, **kwargs))

    def _begin(self) -> tuple[Flight, Any]:
        self._channel._check_open()
        with self._channel._lock:
            flight = self._channel._pool.begin(_now())
        return flight, self._on[flight.member.endpoint.address]

    def _watched(self, flight: Flight, call: Any) -> Any:
        """Reports the end of a call that goes on; a call that is over already returned a plain answer."""
        if not isinstance(call, grpc.Call):
            self._ended(flight, OK)
        elif not call.add_callback(lambda: self._ended(flight, self._outcome(call))):
            self._ended(flight, self._outcome(call))
        return call

    def _outcome(self, call: grpc.Call) -> Outcome:
        return OK if call.code() is grpc.StatusCode.OK else outcome_of(call)

    def _ended(self, flight: Flight, outcome: Outcome) -> None:
        with self._channel._lock:
            self._channel._pool.finished(flight, outcome, _now())


class _Connectivity:
    """Joins the states of all subchannels into one, for one subscriber."""

    def __init__(
        self,
        subchannels: Mapping[str, grpc.Channel],
        callback: Callable[[grpc.ChannelConnectivity], None],
        try_to_connect: bool,
    ) -> None:
        self._callback = callback
        self._states = dict.fromkeys(subchannels, grpc.ChannelConnectivity.IDLE)
        self._told: grpc.ChannelConnectivity | None = None
        self._lock = threading.Lock()
        self._mine = {address: self._hears(address) for address in subchannels}
        for address, subchannel in subchannels.items():
            subchannel.subscribe(self._mine[address], try_to_connect)

    def _hears(self, address: str) -> Callable[[grpc.ChannelConnectivity], None]:
        def changed(state: grpc.ChannelConnectivity) -> None:
            with self._lock:
                self._states[address] = state
                best = min(self._states.values(), key=_BEST.index)
                if best is self._told:
                    return
                self._told = best
            self._callback(best)

        return changed

    def stop(self, subchannels: Mapping[str, grpc.Channel]) -> None:
        for address, subchannel in subchannels.items():
            subchannel.unsubscribe(self._mine[address])

"""The asyncio driver of calls with one answer: performs what a call's machine says in whichever task is there.

Where another task would cost a call the most (two more turns of the loop), none is made: see `UnaryUnaryCall`.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from stormproof.aio_replay import Replay
from stormproof.core.call import Action, Cancel, Finish, Start, State
from stormproof.core.outcome import OK, Code, Evidence, Outcome
from stormproof.driver import BROKEN_OFF, Run
from stormproof.errors import STATUS, CallError
from stormproof.subchannels import FirstStatus, outcome_of

if TYPE_CHECKING:
    from stormproof.aio import Channel

CANCELLED = Outcome(Code.CANCELLED, Evidence.LOST, "cancelled by the caller")
CLOSED = Outcome(Code.CANCELLED, Evidence.LOST, "the channel was closed")
_now = time.monotonic


class AioCallError(CallError, grpc.aio.AioRpcError):
    """A `CallError` that is a `grpc.aio.AioRpcError`, too, so that either is caught where it is expected."""

    def __init__(self, *arguments: Any) -> None:
        CallError.__init__(self, *arguments)

    __str__ = CallError.__str__
    __repr__ = CallError.__str__


class AioRun(Run):
    """A call under way on asyncio."""

    __slots__ = ()
    error = AioCallError
    channel: Channel

    def begin_later(self, begin: Callable[[float], None]) -> None:
        """Calls `begin`, with the seconds that the call waited, once endpoints are known or its time is over."""
        since = _now()
        if self.channel._observer is not None:
            self.tell_began(since)
        self.channel._once_known(lambda: begin(_now() - since), self.machine.timeout)


class UnaryUnary(grpc.aio.UnaryUnaryMultiCallable):  # type: ignore[type-arg] # generic in the types only
    """Calls one unary method under its policy. What a generated stub holds."""

    kind = "unary_unary"

    def __init__(self, channel: Channel, method: str, serializer: Any, deserializer: Any, registered: bool) -> None:
        self._channel = channel
        self._method = method
        self._policy = channel._policy_of(method)
        self._serialize = serializer
        kind = self.kind
        self._on = channel._bind(lambda to: getattr(to, kind)(method, None, deserializer, registered))

    def __call__(
        self,
        request: Any,
        *,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> UnaryUnaryCall:
        if self._channel._closed.is_set():
            self._channel._check_open()
        run = AioRun(self._channel, self._method, self._policy, timeout, metadata, request=request)
        return UnaryUnaryCall(run, self._on, request, self._serialize, (credentials, wait_for_ready, compression))


class StreamUnary(UnaryUnary, grpc.aio.StreamUnaryMultiCallable):  # type: ignore[type-arg]
    """Calls a method with a client stream: like a unary call whose request can be read again."""

    kind = "stream_unary"

    def __init__(self, channel: Channel, method: str, serializer: Any, deserializer: Any, registered: bool) -> None:
        super().__init__(channel, method, serializer, deserializer, registered)
        # One stream cannot be read by two attempts at once.
        self._policy = replace(self._policy, idempotent=self._policy.repeatable, hedge=None)

    def __call__(  # type: ignore[override]
        self,
        request_iterator: Any = None,
        *,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> StreamUnaryCall:
        if self._channel._closed.is_set():
            self._channel._check_open()
        run = AioRun(self._channel, self._method, self._policy, timeout, metadata)
        request = run.stream = Replay(request_iterator, self._serialize, self._policy.buffer, run.machine.committed)
        return StreamUnaryCall(run, self._on, request, None, (credentials, wait_for_ready, compression))


class UnaryUnaryCall(grpc.aio.UnaryUnaryCall):  # type: ignore[type-arg]
    """A unary call under way: await it for its answer. It has all that a call of grpc.aio has.

    While all goes well it costs no task but grpc's own: an attempt runs by itself, and whoever awaits the call waits for
    the first one in their own task. A task of ours watches what nobody awaits: a first attempt once it has ended, so
    that another one can follow it, and every further attempt.
    """

    _replays = False  # whether the request is read by each attempt
    # What most calls never need is not made anew for each.
    _status: FirstStatus | None = None  # of the attempt that sends a stream
    _last: Any = None  # the attempt whose metadata are the call's
    _watched = False  # somebody waits for the end of the first attempt
    _finish: Finish | None = None
    _answer: Any = None
    _error: Exception | None = None
    _cancelled = False  # by the caller: awaiting raises CancelledError, as in grpc.aio
    _timer: asyncio.TimerHandle | None = None
    _change: asyncio.Event | None = None  # set when another attempt has begun, or the call is over
    _callbacks: tuple[Callable[[], Any], ...] = ()

    def __init__(
        self,
        run: AioRun,
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
        self._loop = asyncio.get_running_loop()
        self._attempts: dict[int, Any] = {}
        if run.channel._known:
            self._perform(run.begin)
        else:
            with contextlib.suppress(Exception):  # the first attempt will say so
                self._write()
            run.begin_later(self._begin)

    def _write(self) -> None:
        """A message that its caller uses again must not reach the second attempt: it is serialized once.

        By us, since grpc.aio would send an empty message in place of one that cannot be.
        """
        if self._serialize is not None:
            self._request, self._serialize = self._serialize(self._request), None

    def _begin(self, waited: float) -> None:
        if self._finish is None:  # it may have been cancelled meanwhile
            self._perform(self._run.begin, waited)

    def _perform(self, tell: Callable[..., list[Action]], *what: Any) -> None:
        """Tells the machine what happened, and does what it wants then."""
        try:
            for action in tell(*what):
                if isinstance(action, Start):
                    self._start(action)
                elif isinstance(action, Finish):
                    self._close(action)
                else:
                    self._cancel(action.attempt)
        except Exception as problem:
            self._break_off(problem)
        if self._timer is not None or self._run.machine.wake_at is not None:
            self._set_timer()

    def _start(self, start: Start) -> None:
        sent = self._run.started(start)
        if self._serialize is not None:
            try:
                self._write()
            except Exception as problem:
                self._perform(self._run.unwritten, start.attempt, problem)
                return
        request = self._request.attempt() if self._replays else self._request
        credentials, wait_for_ready, compression = self._rest
        attempt = self._on[start.endpoint.address](
            request,
            timeout=start.timeout,
            metadata=sent,
            credentials=credentials,
            wait_for_ready=wait_for_ready,
            compression=compression,
        )
        if self._finish is not None:  # an observer has cancelled the call just now
            attempt.cancel()
            return
        self._last = self._attempts[start.attempt] = attempt
        if self._replays:
            self._status = FirstStatus(attempt)
        if start.attempt == 1:
            attempt.add_done_callback(self._first_ended)
        else:
            self._loop.create_task(self._end_of(start.attempt))
        if self._change is not None:
            self._changed()

    def _cancel(self, number: int) -> None:
        if number in self._attempts:
            self._attempts[number].cancel()  # whoever watches it tells its end
        else:  # it could not be made
            self._run.finished(number, BROKEN_OFF)

    def _first_ended(self, _: Any) -> None:
        """If nobody awaits it, the call goes on by itself."""
        if not self._watched:
            self._watched = True
            self._loop.create_task(self._end_of(1))

    async def _end_of(self, number: int) -> None:
        """Waits for the end of an attempt, and does what follows from it."""
        try:
            answer = await self._attempts[number]
        except grpc.RpcError as last:
            error = last if self._status is None else self._status.error() or last
            if self._run.channel._reads_reports:
                await self._report_of(number)
            self._perform(self._run.finished, number, outcome_of(error), error)
        except Exception as problem:  # metadata that grpc does not take
            self._break_off(problem)
            self._perform(self._run.finished, number, BROKEN_OFF)
        except BaseException as stop:
            # Either who waits here has to stop, or the attempt was cancelled: by `cancel`, by its channel, or by grpc
            # because the stream of requests raised.
            here = not isinstance(stop, asyncio.CancelledError) or _is_cancelled(asyncio.current_task())
            closed = self._run.channel._closed.is_set()
            raised = self._run.stream is not None and self._run.stream.problem is not None
            if here or not (closed or raised):
                self.cancel()
            self._perform(self._run.finished, number, CLOSED if closed else CANCELLED)
            if here:
                raise
        else:
            if self._finish is None:
                self._answer = answer
            if self._run.channel._reads_reports:
                await self._report_of(number)
            self._perform(self._run.finished, number, OK)

    async def _report_of(self, number: int) -> None:
        """The server's load, if it told it with its answer."""
        self._run.reported(number, await self._attempts[number].trailing_metadata())

    def _set_timer(self) -> None:
        """To wake the machine when it wants to be. What waits for that, `close` wakes at once."""
        waiting, wake_at = self._run.channel._waiting, self._run.machine.wake_at
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            waiting.discard(self)
        if wake_at is not None:
            wait = 0.0 if self._run.channel._closed.is_set() else max(0.0, wake_at - _now())
            self._timer = self._loop.call_later(wait, self._woke)
            waiting.add(self)

    def _woke(self) -> None:
        if not self._run.channel._closed.is_set():
            self._perform(self._run.woke)
        elif self._run.machine.state is State.WAITING:  # an attempt in flight ends with its channel
            self._perform(self._run.cancelled)

    def _break_off(self, problem: Exception) -> None:
        """What went wrong is not gRPC's: a balancer, a wrong argument, a channel closed just now. Nothing stays in flight."""
        for action in self._run.cancelled():
            if isinstance(action, Cancel):
                with contextlib.suppress(Exception):  # the balancer's again: its first problem is told
                    self._cancel(action.attempt)
        if self._finish is None:
            self._close(Finish(0, self._run.own(problem)))
        if self._error is not None and self._run.channel._closed.is_set():
            self._error.__cause__ = problem
        else:
            self._error = problem

    def _close(self, finish: Finish) -> None:
        self._finish = finish
        self._last = self._attempts.get(finish.attempt, self._last)
        if self._change is not None:
            self._changed()
        if self._callbacks:
            for callback in self._callbacks:
                callback()
            self._callbacks = ()
        self._error = self._run.ended(finish)

    def _changed(self) -> None:
        """Wakes those who wait for another attempt, or for the end."""
        if self._change is not None:
            self._change.set()
            self._change = None

    async def _until_changed(self) -> None:
        if self._change is None:
            self._change = asyncio.Event()
        await self._change.wait()

    async def _until_over(self) -> None:
        while self._finish is None:
            await self._until_changed()

    def __await__(self) -> Generator[Any, None, Any]:
        return self._answered().__await__()

    async def _answered(self) -> Any:
        if not self._watched and self._finish is None and self._attempts:
            self._watched = True
            await self._end_of(1)
        if self._finish is None:
            try:
                await self._until_over()
            except BaseException:  # whoever awaits a call and is cancelled cancels the call
                self.cancel()
                raise
        if self._cancelled:
            raise asyncio.CancelledError
        if self._error is not None:
            raise self._error
        return self._answer

    def cancel(self) -> bool:
        if self._finish is not None:
            return False
        self._cancelled = True
        self._perform(self._run.cancelled)
        return True

    def cancelled(self) -> bool:
        return isinstance(self._error, CallError) and self._error.outcome.code is Code.CANCELLED

    def done(self) -> bool:
        return self._finish is not None

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        soon = functools.partial(self._loop.call_soon, callback, self, context=contextvars.copy_context())
        if self._finish is None:
            self._callbacks = (*self._callbacks, soon)
        else:
            soon()

    def time_remaining(self) -> float | None:
        deadline = self._run.machine.deadline
        return None if deadline is None else max(0.0, deadline - _now())

    async def wait_for_connection(self) -> None:
        """Returns once a server has answered, as in grpc.aio; raises if the call fails."""
        await self._until_over()
        await self._answered()

    async def code(self) -> grpc.StatusCode:
        await self._until_over()
        assert self._finish is not None
        return STATUS[int(self._finish.outcome.code)]

    async def details(self) -> str:
        await self._until_over()
        return str(self._error.details()) if isinstance(self._error, CallError) else str(self._error or "")

    async def initial_metadata(self) -> Any:
        await self._until_over()
        return await self._last.initial_metadata() if self._last is not None else grpc.aio.Metadata()

    async def trailing_metadata(self) -> Any:
        await self._until_over()
        return await self._last.trailing_metadata() if self._last is not None else grpc.aio.Metadata()


def _is_cancelled(task: asyncio.Task[Any] | None) -> bool:
    return task is not None and task.cancelling() > 0


class StreamUnaryCall(UnaryUnaryCall, grpc.aio.StreamUnaryCall):  # type: ignore[type-arg]
    """A call with a client stream under way: write to it if it was made without an iterator, then await it."""

    _replays = True

    def _close(self, finish: Finish) -> None:
        super()._close(finish)
        self._request.close()

    async def write(self, request: Any) -> None:
        await self._request.write(request)

    async def done_writing(self) -> None:
        await self._request.done_writing()

    async def wait_for_connection(self) -> None:
        """Returns once an attempt has a connection; raises if the call ends without."""
        while self._finish is None:
            attempt = self._last
            connected = asyncio.ensure_future(attempt.wait_for_connection())
            connected.add_done_callback(self._noted)
            try:
                while self._finish is None and self._last is attempt:
                    if connected.done() and not connected.cancelled() and connected.exception() is None:
                        return
                    await self._until_changed()
            finally:
                connected.cancel()
        await self._answered()

    def _noted(self, connected: asyncio.Future[None]) -> None:
        """An attempt has a connection, or failed, which the call hears from the attempt itself."""
        if not connected.cancelled():
            connected.exception()
        self._changed()

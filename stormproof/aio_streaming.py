"""The asyncio driver of answer streams: the same machine, and a caller that reads messages one by one.

As in stormproof.streaming: before the first message another attempt may follow; afterwards only a method with a
`Checkpoint` continues elsewhere. The work is done in the task that reads.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from stormproof.aio_replay import Replay, of
from stormproof.aio_unary import CANCELLED, CLOSED, AioRun
from stormproof.core.call import Action, Finish, Start
from stormproof.core.outcome import OK, Code, Evidence, Outcome
from stormproof.driver import call_back, refuse_mistake
from stormproof.errors import STATUS, CallError
from stormproof.streaming import stream_policy
from stormproof.subchannels import FirstStatus, outcome_of

if TYPE_CHECKING:
    from stormproof.aio import Channel

_now = time.monotonic


class Streaming(grpc.aio.UnaryStreamMultiCallable, grpc.aio.StreamStreamMultiCallable):  # type: ignore[type-arg]
    """Calls a method with an answer stream; with a client stream too, if `kind` says so."""

    def __init__(self, channel: Channel, kind: str, method: str, serializer: Any, deserializer: Any) -> None:
        self._channel = channel
        self._method = method
        self._policy = stream_policy(channel, method)
        configured = channel._policy_of(method)
        self._silence = configured.attempt_timeout
        self._client_stream = kind == "stream_stream"
        self._resume = configured.checkpoint.after if configured.checkpoint and not self._client_stream else None
        self._serialize = serializer
        self._on = channel._bind(lambda to: getattr(to, kind)(method, None, deserializer))

    def __call__(  # type: ignore[override] # of either kind
        self,
        request: Any = None,
        *,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> AnswerStream:
        self._channel._check_open()
        resumable = self._resume is not None
        known = None if self._client_stream else request
        run = AioRun(self._channel, self._method, self._policy, timeout, metadata, request=known, resumable=resumable)
        if self._client_stream:
            request = run.stream = Replay(request, self._serialize, self._policy.buffer, run.machine.committed)
        rest = {"credentials": credentials, "wait_for_ready": wait_for_ready, "compression": compression}
        return AnswerStream(run, self._on, request, self._serialize, rest, self._resume, self._silence)


class AnswerStream(grpc.aio.UnaryStreamCall, grpc.aio.StreamStreamCall):  # type: ignore[type-arg]
    """An answer stream under way: `async for` over it, or `await read()`. Its error is an `AioCallError`."""

    def __init__(
        self,
        run: AioRun,
        on: Mapping[str, Any],
        request: Any,
        serialize: Callable[[Any], bytes] | None,
        rest: dict[str, Any],
        resume: Callable[[Any, Any], Any] | None,
        silence: float | None,
    ) -> None:
        self._run = run
        self._on = on
        self._request = self._first_request = request
        self._serialize = serialize
        self._written = serialize is None or isinstance(request, Replay)  # whether `_request` is serialized
        self._rest = rest
        self._resume = resume
        self._silence = silence
        self._number = 0
        self._attempt: Any = None
        self._status: FirstStatus | None = None
        self._in_flight = False
        self._finish: Finish | None = None
        self._error: BaseException | None = None
        self._over = asyncio.Event()
        self._callbacks: list[Callable[[Any], None]] = []
        self._begun = asyncio.Event()
        if run.channel._known:
            self._begin(None)
            refuse_mistake(self._error)
        else:
            with contextlib.suppress(Exception):  # the first attempt will say so
                self._write()
            run.begin_later(self._begin)

    def _write(self) -> None:
        """As in a unary call: once, and by us."""
        if not self._written:
            assert self._serialize is not None
            self._request, self._written = self._serialize(self._request), True

    def _begin(self, waited: float | None) -> None:
        if self._finish is None:  # it may have been cancelled meanwhile
            self._perform(self._run.begin, waited)
        self._begun.set()

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._messages()

    async def _messages(self) -> AsyncIterator[Any]:
        while (message := await self.read()) is not grpc.aio.EOF:
            yield message

    async def read(self) -> Any:
        """The next message, or `grpc.aio.EOF` at the end."""
        await self._begun.wait()
        while self._finish is None:
            try:
                message = await asyncio.wait_for(self._attempt.read(), self._silence)
            except TimeoutError:
                self._attempt.cancel()
                await self._ended(Outcome(Code.DEADLINE_EXCEEDED, Evidence.LOST, f"no message for {self._silence:g} s"))
            except grpc.RpcError:
                await self._end_of_attempt()
            except asyncio.CancelledError:
                await self._broken_off()
            else:
                if message is not grpc.aio.EOF:
                    self._arrived(message)
                    return message
                await self._end_of_attempt()
        if self._error is not None:
            raise self._error
        return grpc.aio.EOF

    def _arrived(self, message: Any) -> None:
        with self._run.channel._lock:
            self._run.machine.progressed(_now())
        if self._resume is not None:
            try:
                self._request, self._written = self._resume(self._first_request, message), self._serialize is None
            except BaseException:
                self.cancel()
                raise

    async def _end_of_attempt(self) -> None:
        """It has no more messages: how did it end?"""
        assert self._status is not None
        await self._attempt.code()  # until it is known
        if self._run.channel._reads_reports:
            self._run.reported(self._number, await self._attempt.trailing_metadata())
        error = self._status.error()
        await self._ended(OK if error is None else outcome_of(error), error)

    async def _broken_off(self) -> None:
        """The reader was cancelled, or the attempt under it (by close or cancel)."""
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            self.cancel()
            raise asyncio.CancelledError
        if self._finish is None:
            await self._ended(CLOSED)

    async def _ended(self, outcome: Outcome, error: Any = None) -> None:
        """The attempt is over; returns once the next one is under way, or the call is over."""
        self._perform(self._told, outcome, error)
        while self._finish is None and not self._in_flight:
            wake_at = self._run.machine.wake_at
            assert wake_at is not None
            try:
                await asyncio.sleep(max(0.0, wake_at - _now()))
            except asyncio.CancelledError:
                self.cancel()
                raise
            self._perform(self._run.cancelled if self._run.channel._closed.is_set() else self._run.woke)

    def _told(self, outcome: Outcome, error: Any = None) -> list[Action]:
        """Tells the machine the end of the attempt in flight, once."""
        if not self._in_flight:
            return []
        self._in_flight = False
        return self._run.finished(self._number, outcome, error)

    def _perform(self, tell: Callable[..., list[Action]], *what: Any) -> None:
        """Tells the machine what happened, and does what it wants then."""
        try:
            for action in tell(*what):
                if isinstance(action, Start):
                    self._start(action)
                elif isinstance(action, Finish):
                    self._close(action, self._run.ended(action))
        except BaseException as problem:
            self._break_off(problem)
            if not isinstance(problem, Exception):
                raise

    def _start(self, start: Start) -> None:
        self._number, self._in_flight = start.attempt, True
        sent = self._run.started(start)
        try:
            self._write()
        except Exception as problem:
            self._in_flight = False
            self._perform(self._run.unwritten, start.attempt, problem)
            return
        on = self._on[start.endpoint.address]
        self._attempt = on(of(self._request), timeout=start.timeout, metadata=sent, **self._rest)
        self._status = FirstStatus(self._attempt)

    def _break_off(self, problem: BaseException) -> None:
        """Our own side failed: the call ends with that, and what is out."""
        number, self._in_flight = self._number if self._in_flight else 0, False
        error = self._run.broken_off(number, problem)
        if self._attempt is not None:
            self._attempt.cancel()
        if error is not None:
            closed = self._run.channel._closed.is_set()
            self._close(Finish(number, error.outcome), error if closed else problem)

    def _close(self, finish: Finish, error: BaseException | None) -> None:
        self._finish, self._error = finish, error
        self._over.set()
        callbacks, self._callbacks = self._callbacks, []
        call_back(callbacks, self._run.method, self)

    def cancel(self) -> bool:
        if self._finish is not None:
            return False
        self._perform(self._run.cancelled)
        if self._attempt is not None:
            self._attempt.cancel()
        self._perform(self._told, CANCELLED)
        return True

    def __del__(self) -> None:
        """Nobody will read on: the next call on the channel ends the attempt and takes it off the books."""
        if getattr(self, "_finish", self) is None:
            run, number, in_flight, attempt = self._run, self._number, self._in_flight, self._attempt

            def left() -> None:
                actions = run.cancelled()
                if attempt is not None:
                    attempt.cancel()  # grpc.aio lets it run on, on the server, too
                if in_flight:
                    run.finished(number, CANCELLED)
                run.over(actions)

            run.channel._abandoned.append(left)

    async def write(self, request: Any) -> None:
        await self._request.write(request)

    async def done_writing(self) -> None:
        await self._request.done_writing()

    def cancelled(self) -> bool:
        return self._finish is not None and self._finish.outcome.code is Code.CANCELLED

    def done(self) -> bool:
        return self._finish is not None

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        if self._finish is None:
            self._callbacks.append(callback)
        else:
            callback(self)

    def time_remaining(self) -> float | None:
        deadline = self._run.machine.deadline
        return None if deadline is None else max(0.0, deadline - _now())

    async def wait_for_connection(self) -> None:
        """Returns once the attempt under way has a connection."""
        await self._attempt.wait_for_connection()

    async def initial_metadata(self) -> Any:
        return await self._attempt.initial_metadata()

    async def trailing_metadata(self) -> Any:
        await self._over.wait()
        return await self._attempt.trailing_metadata()

    async def code(self) -> grpc.StatusCode:
        """Waits for the end. A stream ends in the task that reads it: read it to its end first, or cancel it."""
        await self._over.wait()
        assert self._finish is not None
        return STATUS[int(self._finish.outcome.code)]

    async def details(self) -> str:
        await self._over.wait()
        return str(self._error.details()) if isinstance(self._error, CallError) else str(self._error or "")

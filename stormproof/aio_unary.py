"""The asyncio driver of calls with one answer: a task that awaits the attempt, or the moment to start another one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator, Mapping
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from stormproof.aio_replay import Replay, of
from stormproof.core.call import Action, Cancel, Finish, Start
from stormproof.core.outcome import OK, Code, Evidence, Outcome
from stormproof.core.policy import Policy
from stormproof.driver import Run
from stormproof.errors import CallError
from stormproof.subchannels import outcome_of

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

    __slots__ = ("_since",)
    error = AioCallError
    channel: Channel

    def begins_later(self, begin: Callable[[], None]) -> bool:
        """Whether `begin` is called later, because the resolver has not answered yet; if not, the call may begin now."""
        self._since = _now()
        return self.channel._later(begin, self.machine.timeout)

    def _wait_for_endpoints(self) -> float:
        return _now() - self._since


class UnaryUnary(grpc.aio.UnaryUnaryMultiCallable):  # type: ignore[type-arg] # generic in the types only
    """Calls one unary method under its policy. What a generated stub holds."""

    kind = "unary_unary"

    def __init__(self, channel: Channel, method: str, serializer: Any, deserializer: Any) -> None:
        self._channel = channel
        self._method = method
        self._policy = channel._policy_of(method)
        kind = self.kind
        self._on = channel._bind(lambda to: getattr(to, kind)(method, serializer, deserializer))

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
        self._channel._check_open()
        run = AioRun(self._channel, self._method, self._policy, timeout, metadata)
        rest = {"credentials": credentials, "wait_for_ready": wait_for_ready, "compression": compression}
        return UnaryUnaryCall(run, self._policy, self._on, request, rest)


class StreamUnary(UnaryUnary, grpc.aio.StreamUnaryMultiCallable):  # type: ignore[type-arg]
    """Calls a method with a client stream: like a unary call whose request can be read again."""

    kind = "stream_unary"

    def __init__(self, channel: Channel, method: str, serializer: Any, deserializer: Any) -> None:
        super().__init__(channel, method, None, deserializer)
        self._serialize = serializer

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
        self._channel._check_open()
        run = AioRun(self._channel, self._method, self._policy, timeout, metadata)
        rest = {"credentials": credentials, "wait_for_ready": wait_for_ready, "compression": compression}
        request = Replay(request_iterator, self._serialize, self._policy.buffer, run.machine.committed)
        return StreamUnaryCall(run, self._policy, self._on, request, rest)


class UnaryUnaryCall(grpc.aio.UnaryUnaryCall):  # type: ignore[type-arg]
    """A unary call under way: await it for its answer. It has all that a call of grpc.aio has."""

    def __init__(self, run: AioRun, policy: Policy, on: Mapping[str, Any], request: Any, rest: dict[str, Any]) -> None:
        self._run = run
        self._on = on
        self._request = request
        self._rest = rest
        self._attempts: dict[int, Any] = {}
        self._answers: dict[int, Any] = {}
        self._flying: set[int] = set()  # attempts whose end has not been told to the machine
        self._told = False
        self._last: Any = None  # the attempt whose answer or error is the call's
        self._connecting = asyncio.Event()
        self._begun = asyncio.Event()
        if not run.begins_later(self._begun.set):
            self._begun.set()
        work = self._plainly() if policy.hedge is None else self._racing()
        self._task: asyncio.Task[Any] = asyncio.get_running_loop().create_task(work)

    async def _plainly(self) -> Any:
        """One attempt after the other: nothing else can be in flight."""
        try:
            await self._begun.wait()
            actions = self._run.begin()
            while True:
                if not actions:
                    actions = await self._pause()
                    continue
                action = actions[0]
                if isinstance(action, Finish):
                    return self._finish(action)
                assert isinstance(action, Start)
                actions = await self._end_of(action.attempt, self._begin(action))
        finally:
            self._let_go()

    async def _racing(self) -> Any:
        """Attempts end in tasks of their own; the machine's actions are performed here as they come."""
        racing: set[asyncio.Task[list[Action]]] = set()
        try:
            await self._begun.wait()
            actions = self._run.begin()
            while True:
                for action in actions:
                    if isinstance(action, Start):
                        racing.add(asyncio.create_task(self._end_of(action.attempt, self._begin(action))))
                    elif isinstance(action, Cancel):
                        self._attempts[action.attempt].cancel()
                    else:
                        return self._finish(action)
                actions = await self._next(racing)
        finally:
            for task in racing:
                task.cancel()
            await asyncio.gather(*racing, return_exceptions=True)
            self._let_go()

    async def _next(self, racing: set[asyncio.Task[list[Action]]]) -> list[Action]:
        """What the machine wants after the next end of an attempt, or at its next moment."""
        if not racing:
            return await self._pause()
        wake_at = self._run.machine.wake_at
        timeout = None if wake_at is None else max(0.0, wake_at - _now())
        done, _ = await asyncio.wait(racing, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            return self._run.woke()
        racing -= done
        return [action for task in done for action in task.result()]

    async def _pause(self) -> list[Action]:
        wake_at = self._run.machine.wake_at
        assert wake_at is not None
        await asyncio.sleep(max(0.0, wake_at - _now()))
        return self._run.cancelled() if self._run.channel._closed.is_set() else self._run.woke()

    def _begin(self, start: Start) -> Any:
        """Starts an attempt and returns grpc's call."""
        sent = self._run.started(start)
        self._flying.add(start.attempt)
        on = self._on[start.endpoint.address]
        self._last = attempt = on(of(self._request), timeout=start.timeout, metadata=sent, **self._rest)
        self._attempts[start.attempt] = attempt
        self._connecting.set()
        return attempt

    async def _end_of(self, number: int, attempt: Any) -> list[Action]:
        """Waits for the end of an attempt, tells it, and returns what the machine wants then."""
        try:
            self._answers[number] = await attempt
            outcome, failure = OK, None
        except grpc.RpcError as error:
            outcome, failure = outcome_of(error), error
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            outcome, failure = CLOSED, None  # it was the attempt that was cancelled, with its channel
        self._flying.discard(number)
        return self._run.finished(number, outcome, failure)

    def _finish(self, finish: Finish) -> Any:
        self._told = True
        self._last = self._attempts.get(finish.attempt, self._last)
        error = self._run.ended(finish)
        if error is not None:
            raise error from getattr(self._request, "problem", None)
        return self._answers[finish.attempt]

    def _let_go(self) -> None:
        """However the call ended: nothing stays in flight, and every end is told once."""
        self._run.cancelled()  # does nothing if it is over
        for number in self._flying:
            if number in self._attempts:
                self._attempts[number].cancel()
            self._run.finished(number, CANCELLED)
        self._flying.clear()
        if not self._told:
            self._run.ended(Finish(0, CANCELLED))

    def __await__(self) -> Generator[Any, None, Any]:
        return self._task.__await__()

    def cancel(self) -> bool:
        return self._task.cancel()

    def cancelled(self) -> bool:
        return self._task.cancelled()

    def done(self) -> bool:
        return self._task.done()

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        self._task.add_done_callback(lambda _: callback(self))

    def time_remaining(self) -> float | None:
        deadline = self._run.machine.deadline
        return None if deadline is None else max(0.0, deadline - _now())

    async def wait_for_connection(self) -> None:
        """Returns once an attempt has a connection; raises if the call ends without."""
        connected = asyncio.create_task(self._connected())
        await asyncio.wait((connected, self._task), return_when=asyncio.FIRST_COMPLETED)
        connected.cancel()
        if self._task.done():
            await self._task

    async def _connected(self) -> None:
        await self._connecting.wait()
        await self._last.wait_for_connection()

    async def _failure(self) -> grpc.RpcError | None:
        """Waits for the end without raising its error."""
        await asyncio.wait((self._task,))
        if self._task.cancelled():
            return AioCallError(self._run.method, CANCELLED, self._run.tried)
        error = self._task.exception()
        return error if isinstance(error, grpc.RpcError) else None

    async def code(self) -> grpc.StatusCode:
        error = await self._failure()
        return grpc.StatusCode.OK if error is None else error.code()

    async def details(self) -> str:
        error = await self._failure()
        return "" if error is None else str(error.details())

    async def initial_metadata(self) -> Any:
        await self._failure()
        return await self._last.initial_metadata() if self._last is not None else grpc.aio.Metadata()

    async def trailing_metadata(self) -> Any:
        await self._failure()
        return await self._last.trailing_metadata() if self._last is not None else grpc.aio.Metadata()


class StreamUnaryCall(UnaryUnaryCall, grpc.aio.StreamUnaryCall):  # type: ignore[type-arg]
    """A call with a client stream under way: write to it if it was made without an iterator, then await it."""

    async def write(self, request: Any) -> None:
        await self._request.write(request)

    async def done_writing(self) -> None:
        await self._request.done_writing()

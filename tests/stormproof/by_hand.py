"""Both drivers with every moment in a test's hand: time goes on, attempts end and timers fire only when the test says so.

Channel, calls, machine and pool are the real ones. Only what is under them is replaced: grpc's calls by `Attempt` and
`AioAttempt`, which keep the part of grpc's contract that the drivers use, and the clock by a number.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import grpc

from stormproof import Channel, RetryBudget, RoundRobin, aio_unary, driver
from stormproof.aio import Channel as AioChannel
from stormproof.observer import AttemptBegan, AttemptEnded, CallEnded
from stormproof.timers import Timer

OK, CANCELLED = grpc.StatusCode.OK, grpc.StatusCode.CANCELLED
SAY = "/hello.Hello/SayHello"


class Attempt(grpc.RpcError):
    """A future of grpc's: cancelling asks for the end, which comes later, from another thread (here: by `end`)."""

    def __init__(self, address: str, timeout: float | None) -> None:
        self.address = address
        self.timeout = timeout
        self.cancels = 0
        self.callbacks: list[Any] = []
        self._status: tuple[grpc.StatusCode, str] | None = None

    def end(self, code: grpc.StatusCode, said: str = "") -> None:
        """What is on the wire arrives, unless the attempt has ended already."""
        if self._status is None:
            self._status = code, said
            for callback in self.callbacks:
                callback(self)

    def add_done_callback(self, callback: Any) -> None:
        if self._status is None:
            self.callbacks.append(callback)
        else:
            callback(self)

    def cancel(self) -> bool:
        self.cancels += self._status is None
        return self._status is None

    def code(self) -> grpc.StatusCode | None:
        return self._status and self._status[0]

    def details(self) -> str | None:
        return self._status and self._status[1]

    def result(self) -> str | None:
        return self.details()

    def trailing_metadata(self) -> tuple[()]:
        return ()


class AioAttempt:
    """A call of grpc.aio's: a task of its own waits for the wire, and to cancel whoever awaits it is to cancel it."""

    def __init__(self, address: str, timeout: float | None) -> None:
        self.address = address
        self.timeout = timeout
        self.cancels = 0
        self.callbacks: list[Any] = []
        self._status: tuple[grpc.StatusCode, str] | None = None
        self._wire: asyncio.Future[tuple[grpc.StatusCode, str]] = asyncio.get_running_loop().create_future()
        self._task = asyncio.get_running_loop().create_task(self._invoke())

    def end(self, code: grpc.StatusCode, said: str = "") -> None:
        if not self._wire.done():
            self._wire.set_result((code, said))

    async def _invoke(self) -> None:
        try:
            code, said = await self._wire
        except asyncio.CancelledError:
            self.cancel()
        else:
            self._settle(code, said)

    def _settle(self, code: grpc.StatusCode, said: str) -> None:
        self._status = code, said
        for callback in self.callbacks:
            callback(self)

    def add_done_callback(self, callback: Any) -> None:
        if self._status is None:
            self.callbacks.append(callback)
        else:
            callback(self)

    def cancel(self) -> bool:
        if self._status is not None:
            return False
        self.cancels += 1
        self._settle(CANCELLED, "Locally cancelled by application!")
        self._task.cancel()
        return True

    def cancelled(self) -> bool:
        return self._status is not None and self._status[0] is CANCELLED

    def __await__(self) -> Any:
        try:
            yield from self._task
        except asyncio.CancelledError:
            self.cancel()
            raise
        assert self._status is not None
        code, said = self._status
        if self.cancels:
            raise asyncio.CancelledError
        if code is not OK:
            raise grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), said)
        return said


class Timers:
    """The timers of a channel, fired by hand."""

    def __init__(self) -> None:
        self._waiting: list[Timer] = []

    def at(self, moment: float, callback: Any) -> Timer:
        self._waiting.append(timer := Timer(moment, callback))
        return timer

    def forget(self, timer: Timer) -> None:
        timer.callback = None

    def fire(self, now: float) -> None:
        while due := [timer for timer in self._waiting if timer.moment <= now]:
            timer = min(due, key=lambda timer: timer.moment)
            self._waiting.remove(timer)
            callback, timer.callback = timer.callback, None
            if callback is not None:
                callback()

    def close(self) -> None:
        self.fire(float("inf"))


class Threads:
    """The threaded driver: a call made with `.future()`."""

    def __init__(self, policy: Any, **options: Any) -> None:
        self.now = 100.0
        self.attempts: list[Any] = []
        self.events: list[Any] = []
        self.heard = 0
        self.begins: Any = lambda: None  # is called while each attempt is begun
        self._options = {
            "policy": policy, "balancer": RoundRobin(), "seed": 1, "budget": RetryBudget.unlimited(),
            "failover": None, "observer": self.events.append, **options,
        }  # fmt: skip
        self.open()

    def open(self) -> None:
        self.channel: Any = Channel(["a:1", "b:1"], **self._options)
        self.channel._timers = Timers()
        self._method: Any = self.channel.unary_unary(SAY)
        for address in ("a:1", "b:1"):
            self._method._on[address] = self._Endpoint(self, address)

    class _Endpoint:
        def __init__(self, hands: Threads, address: str) -> None:
            self._hands = hands
            self._address = address

        def future(self, request: Any, timeout: float | None, *_: Any) -> Attempt:
            return self._hands.begin(Attempt, self._address, timeout)

    def begin(self, kind: Any, address: str, timeout: float | None) -> Any:
        attempt = kind(address, timeout)
        self.attempts.append(attempt)
        self.begins()
        return attempt

    def call(self) -> None:
        self.made = self._method.future(b"")
        self.made.add_done_callback(self.hear)

    def hear(self, _: Any) -> None:
        self.heard += 1

    def end(self, number: int, code: grpc.StatusCode = OK, said: str = "hi") -> None:
        """Attempt `number` (from 1) ends so, unless it has ended already."""
        self.attempts[number - 1].end(code, said)

    def advance(self, seconds: float) -> None:
        self.now += seconds
        self.channel._timers.fire(self.now)

    def cancel(self) -> bool:
        return self.made.cancel()

    def close(self) -> None:
        """The channel is closed, which ends what is in flight on it."""
        self.channel.close()
        for attempt in self.attempts:
            attempt.end(CANCELLED, "Channel closed!")

    def result(self) -> str:
        """The answer, or the name of the code that the call ended with."""
        for attempt in self.attempts:  # what was asked to end ends
            if attempt.cancels:
                attempt.end(CANCELLED, "Locally cancelled by application!")
        try:
            return self.made.result(0)
        except grpc.FutureCancelledError:
            return "CANCELLED"
        except grpc.RpcError as error:
            return error.code().name

    def leave(self) -> None:
        self.channel.close()

    def count(self, kind: type) -> int:
        return sum(isinstance(event, kind) for event in self.events)

    def ended_once(self) -> bool:
        """Whether the call ended once, whoever was told, and nothing is left in flight."""
        assert self.made.done()
        assert [member.in_flight for member in self.channel._pool.members] == [0, 0]
        assert self.count(AttemptBegan) == self.count(AttemptEnded) == len(self.attempts)
        assert (self.count(CallEnded), self.heard) == (1, 1)
        return True


class _Loop(asyncio.SelectorEventLoop):
    """A loop whose time is the test's."""

    def __init__(self, hands: Asyncio) -> None:
        self._hands = hands
        super().__init__()

    def time(self) -> float:
        return self._hands.now


class Asyncio(Threads):
    """The asyncio driver: a call that nobody awaits before its end."""

    task: Any = None

    def open(self) -> None:
        self.loop = _Loop(self)
        self.complaints: list[Any] = []
        self.loop.set_exception_handler(lambda _, context: self.complaints.append(context))
        self.do(self._open)

    def do(self, work: Any, *arguments: Any) -> Any:
        """Does it in the loop, and then all that follows from it."""

        async def doing() -> Any:
            result = work(*arguments)
            if asyncio.iscoroutine(result):
                result = await result
            for _ in range(20):
                await asyncio.sleep(0)
            return result

        return self.loop.run_until_complete(doing())

    def _open(self) -> None:
        self.channel = AioChannel(["a:1", "b:1"], **self._options)
        self._method = self.channel.unary_unary(SAY)
        for address in ("a:1", "b:1"):
            self._method._on[address] = self._endpoint(address)

    def _endpoint(self, address: str) -> Any:
        return lambda _, *, timeout, **__: self.begin(AioAttempt, address, timeout)

    def call(self) -> None:
        self.do(self._call)

    def _call(self) -> None:
        self.made = self._method(b"")
        self.made.add_done_callback(self.hear)

    def end(self, *what: Any) -> None:
        self.do(super().end, *what)

    def advance(self, seconds: float) -> None:
        self.now += seconds
        self.do(lambda: None)

    def cancel(self) -> bool:
        return self.do(self.made.cancel)

    def close(self) -> None:
        self.do(self._close)

    async def _close(self) -> None:
        await self.channel.close()
        for attempt in self.attempts:
            attempt.cancel()

    def result(self) -> str:
        return self.do(self._result)

    async def _result(self) -> str:
        try:
            return await (self.task or self.made)
        except asyncio.CancelledError:
            return "CANCELLED"
        except grpc.RpcError as error:
            return error.code().name

    def leave(self) -> None:
        self.do(self.channel.close)
        self.loop.close()
        assert self.complaints == []


class Awaited(Asyncio):
    """The asyncio driver: a call that a task awaits from the beginning."""

    def _call(self) -> None:
        super()._call()
        self.task = asyncio.ensure_future(self.made)


DRIVERS = {"threads": Threads, "asyncio": Asyncio, "asyncio, awaited": Awaited}


@contextlib.contextmanager
def by_hand(monkeypatch: Any, name: str, policy: Any, **options: Any):
    """A driver in the test's hands."""
    hands = DRIVERS[name](policy, **options)
    for module in (driver, aio_unary):
        monkeypatch.setattr(module, "_now", lambda: hands.now)
    try:
        yield hands
    finally:
        hands.leave()

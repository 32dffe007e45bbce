"""The Hello service: each call is journaled, misbehaves as told, works, and ends early when its caller goes.

A call waits for one of `workers` places before it works, in the order of arrival, as it would in a server with
a pool of threads. Unlike there it is journaled, with the time its caller left it, when
it arrives and not when it gets its place, and a call whose caller has gone while it waited is seen to end.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc

from harness.node.conduct import Conduct, Manner
from harness.node.journal import Journal
from harness.service_time import Draws
from harness.wire import HelloReply, HelloRequest

#: Invocation metadata by which a call says which attempt it is (the second is gRFC A6's).
OPERATION, PREVIOUS, ITEM, REPEAT = (
    "stormproof-call", "grpc-previous-rpc-attempts", "stormproof-item", "stormproof-repeat",
)  # fmt: skip

#: What the health service beside it knows of: the server as a whole, and this service.
SERVICES = ("", "hello.Hello")
#: What a call is told that finds no worker free and as many calls waiting as may.
QUEUE_FULL = "too many calls wait here already"

Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(slots=True)
class Call:
    """One call in the server: its number in the journal, its manner, and its id where the caller said one."""

    number: int
    manner: Manner
    operation: int
    sent: int
    code: str = "UNKNOWN"


class Hello:
    """Serves hello.proto on one event loop.

    Each reply takes its `work`; `workers` calls work at once, and up to `queue` more wait (None: all).
    """

    def __init__(
        self, *, journal: Journal, conduct: Conduct, workers: int, work: Draws, queue: int | None = None
    ) -> None:
        self._journal = journal
        self._conduct = conduct
        self._places = asyncio.Semaphore(workers)
        self._draws = work
        self._queue = queue
        self._waiting = 0
        self._running = 0

    async def SayHello(self, request: HelloRequest, context: Context) -> HelloReply:  # noqa: N802
        async with self._attended(context) as call:
            await self._work(call)
            self._journal.executed(call.number)
            return _greeting(call, request.name)

    async def SayHelloToEach(self, request: HelloRequest, context: Context) -> None:  # noqa: N802
        async with self._attended(context) as call:
            last = len(request.name)
            for number in range(max(request.after, 0) + 1, last + 1):
                await self._work(call, number)
                if number == last:
                    self._journal.executed(call.number)
                self._journal.sent(call.number)
                await context.write(_greeting(call, request.name, number))
            if request.after >= last:
                self._journal.executed(call.number)

    async def SayHelloToAll(self, requests: AsyncIterator[HelloRequest], context: Context) -> HelloReply:  # noqa: N802
        async with self._attended(context) as call:
            names = [request.name async for request in requests]
            await self._work(call)
            self._journal.executed(call.number)
            return _greeting(call, _listed(names))

    async def Chat(self, requests: AsyncIterator[HelloRequest], context: Context) -> None:  # noqa: N802
        async with self._attended(context) as call:
            part = 0
            async for request in requests:
                part += 1
                await self._work(call, part)
                await context.write(_greeting(call, request.name))
            self._journal.executed(call.number)

    @asynccontextmanager
    async def _attended(self, context: Context) -> AsyncIterator[Call]:
        """Around all that is done for one call, from its arrival to its end."""
        call = self._arrived(context)
        self._running += 1
        try:
            await self._refuse_or_hang(call, context)
            self._waiting += 1
            try:
                await self._places.acquire()
            finally:
                self._waiting -= 1
            try:
                if call.manner.delay:
                    await asyncio.sleep(call.manner.delay)
                yield call
            finally:
                self._places.release()
            call.code = "OK"
        except asyncio.CancelledError:
            call.code = "CANCELLED"
            raise
        finally:
            self._running -= 1
            self._journal.ended(call.number, call.code)

    def _arrived(self, context: Context) -> Call:
        told = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        operation = _whole(told.get(OPERATION))
        operation = -1 if operation is None else operation
        sent = 1 + (_whole(told.get(PREVIOUS)) or 0)
        number = self._journal.received(
            operation=operation,
            sent=sent,
            remaining=context.time_remaining(),
            item=_whole(told.get(ITEM)),
            repeat=told.get(REPEAT) == "1",
        )
        return Call(number, self._conduct.decide(operation, sent, self._running, time.monotonic()), operation, sent)

    async def _refuse_or_hang(self, call: Call, context: Context) -> None:
        if call.manner.code is not None:
            call.code = call.manner.code.name
            await context.abort(call.manner.code, call.manner.why)
        if call.manner.hang:
            await asyncio.Event().wait()  # until the caller goes, which cancels it
        if self._queue is not None and self._places.locked() and self._waiting >= self._queue:
            call.code = grpc.StatusCode.RESOURCE_EXHAUSTED.name
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, QUEUE_FULL)

    async def _work(self, call: Call, part: int = 0) -> None:
        seconds = self._draws.seconds(call.operation, call.sent, part)
        if seconds:
            await asyncio.sleep(seconds)


def _greeting(call: Call, name: str, number: int = 0) -> HelloReply:
    return HelloReply(message=f"Hello, {'somebody else' if call.manner.wrong else name}!", number=number)


def _listed(names: Sequence[str]) -> str:
    """'A', 'A and B', 'A, B and C'."""
    *firsts, last = names or [""]
    return f"{', '.join(firsts)} and {last}" if firsts else last


def _whole(text: str | None) -> int | None:
    """A number of somebody's metadata; None where it is missing or no number."""
    return int(text) if text is not None and text.isdecimal() else None

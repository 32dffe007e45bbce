"""The drivers of active health checks: one thread, or one asyncio task, asks all endpoints of a channel.

Whom to ask when, and what an answer means, is decided in stormproof.core.health; here questions are sent and answers
awaited. They are calls of their own on the endpoints' channels, under no policy, and no observer hears of them.
"""

from __future__ import annotations

import asyncio
import functools
import queue
import random
import threading
import time
from collections.abc import Iterable
from typing import Any, Protocol

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from stormproof.core.health import Answer, Health, HealthCheck, Round, answer_of
from stormproof.core.outcome import Code
from stormproof.messages import TEXT, WHOLE, message_class

METHOD = "/grpc.health.v1.Health/Check"
#: Seconds that `close` waits for the thread: a `checked` that itself waits for who closes must not hang it.
PATIENCE = 1.0
_now = time.monotonic


class Checked(Protocol):
    """Whose endpoints are checked. On threads all are called from one thread of the checks, on asyncio in the loop; never
    while the checks hold a lock."""

    def members(self) -> Iterable[str]:
        """The addresses of the endpoints now."""
        ...

    def subchannel(self, address: str) -> Any:
        """The grpc channel (or grpc.aio channel) to that address; ValueError if there is none any more."""
        ...

    def checked(self, address: str, answer: Answer, serving: bool) -> None:
        """An endpoint was asked, with this answer. `serving`: whether it counts as serving now."""
        ...


@functools.cache
def _messages() -> tuple[Any, Any]:
    request = message_class("grpc.health.v1.HealthCheckRequest", {"service": (1, TEXT)})
    return request, message_class("grpc.health.v1.HealthCheckResponse", {"status": (1, WHOLE)})


def _status(reply: bytes) -> int | None:
    try:
        return int(_messages()[1].FromString(reply).status)
    except DecodeError:
        return None


class _Checks:
    """What both drivers share: the round, and one question from its sending to what is told of it."""

    def __init__(self, checked: Checked, config: HealthCheck, rng: random.Random) -> None:
        self._checked = checked
        self._timeout = config.timeout
        self._request: bytes = _messages()[0](service=config.service).SerializeToString()
        self._round = Round(config, rng)
        self._calls: dict[Health, Any] = {}  # under way

    def _ask(self) -> None:
        """Sends what is due."""
        if self._round.looks(_now()):
            self._round.members(self._checked.members(), _now())
        for health in self._round.ask(_now()):
            try:
                call = self._send(self._checked.subchannel(health.address).unary_unary(METHOD))
            except (ValueError, grpc.aio.UsageError):  # it was closed: it goes, or everything does
                self._round.answered(health, Answer.ABANDONED, _now())
                continue
            self._calls[health] = call
            call.add_done_callback(functools.partial(self._end, health))

    def _send(self, ask: Any) -> Any:
        return ask(self._request, timeout=self._timeout)

    def _end(self, health: Health, call: Any) -> None:
        """A call has ended. On threads this runs in one of grpc's."""
        raise NotImplementedError

    def _answered(self, health: Health, code: grpc.StatusCode, reply: bytes | None) -> None:
        del self._calls[health]
        answer = answer_of(Code(code.value[0]), None if reply is None else _status(reply))
        if self._round.answered(health, answer, _now()):
            self._checked.checked(health.address, answer, health.serving)

    def _pause(self) -> float:
        return max(0.0, self._round.wake_at - _now())

    def _cancel(self) -> None:
        for call in self._calls.values():
            call.cancel()
        self._calls.clear()


class HealthChecks(_Checks):
    """Checks the endpoints of `checked` in one thread until `close()`. `rng` draws when they are asked."""

    def __init__(self, checked: Checked, config: HealthCheck, rng: random.Random) -> None:
        super().__init__(checked, config, rng)
        self._ended: queue.SimpleQueue[tuple[Health, Any] | None] = queue.SimpleQueue()  # None: close
        self._thread = threading.Thread(target=self._run, name="stormproof-health-checks", daemon=True)
        self._thread.start()

    def _send(self, ask: Any) -> Any:
        return ask.future(self._request, timeout=self._timeout)

    def _run(self) -> None:
        while True:
            self._ask()
            try:
                ended = self._ended.get(timeout=self._pause())
            except queue.Empty:
                continue
            if ended is None:
                return self._cancel()
            health, call = ended
            code = call.code()
            self._answered(health, code, call.result() if code is grpc.StatusCode.OK else None)

    def _end(self, health: Health, call: Any) -> None:
        self._ended.put((health, call))

    def close(self) -> None:
        """Stops at once, cancels what is under way and ends the thread. A second close does nothing.

        Call it without a lock that `checked` or `members` may want, and before the channels of the endpoints are closed.
        """
        self._ended.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join(PATIENCE)


class AioHealthChecks(_Checks):
    """The same in one task of the running event loop; each question is a call of grpc.aio."""

    def __init__(self, checked: Checked, config: HealthCheck, rng: random.Random) -> None:
        super().__init__(checked, config, rng)
        self._ended: asyncio.Queue[tuple[Health, Any]] = asyncio.Queue()
        self._task = asyncio.get_running_loop().create_task(self._run(), name="stormproof-health-checks")

    async def _run(self) -> None:
        try:
            while True:
                self._ask()
                try:
                    async with asyncio.timeout(self._pause()):
                        health, call = await self._ended.get()
                except TimeoutError:
                    continue
                code = await call.code()
                self._answered(health, code, await call if code is grpc.StatusCode.OK else None)
        finally:
            self._cancel()

    def _end(self, health: Health, call: Any) -> None:
        self._ended.put_nowait((health, call))

    def stop(self) -> None:
        """Ends the task, without waiting for its end."""
        self._task.cancel()

    async def close(self) -> None:
        """Stops at once, cancels what is under way and ends the task. A second close does nothing."""
        self.stop()
        if asyncio.current_task() is not self._task:
            await asyncio.gather(self._task, return_exceptions=True)

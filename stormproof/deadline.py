"""How much time the work at hand has left, for everything that is called from here: Finagle's deadline context.

A server's handler runs inside its caller's deadline (stormproof.server.Deadlines); calls of a stormproof channel made
there get no more time than is left, whatever their own timeout, so that nobody works for a caller who has gone. It
travels in a context variable: into coroutines, tasks and `asyncio.to_thread` by itself, into a thread of one's own
with `contextvars.copy_context().run`. Moments are seconds of time.monotonic(), so a step of the wall clock changes
nothing; over the wire goes what is left, as gRPC's own `grpc-timeout`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_deadline: ContextVar[float | None] = ContextVar("stormproof_deadline", default=None)


def remaining() -> float | None:
    """Seconds that the work at hand has left, 0.0 when they are over; None: nobody set a limit."""
    moment = _deadline.get()
    return None if moment is None else max(0.0, moment - time.monotonic())


def inherited(timeout: float | None) -> float | None:
    """The seconds that a call may take which was given `timeout` (None: no limit): the smaller of it and `remaining()`."""
    if _deadline.get() is None:
        return timeout
    left = remaining()
    return left if timeout is None or left is None else min(timeout, left)


@contextmanager
def until(moment: float) -> Iterator[None]:
    """Inside, the work has time until `moment` of time.monotonic(), or until an earlier one that was set already.

    Finagle's `Deadline.combined`: of two deadlines the earlier one holds.
    """
    before = _deadline.get()
    token = _deadline.set(moment if before is None else min(before, moment))
    try:
        yield
    finally:
        _deadline.reset(token)


@contextmanager
def lifted() -> Iterator[None]:
    """Inside, the work has no limit: it is not only for whoever set one."""
    token = _deadline.set(None)
    try:
        yield
    finally:
        _deadline.reset(token)

"""How much time the work at hand has left, for everything that is called from here: Finagle's deadline context.

A server's handler runs inside its caller's deadline (stormproof.server.Deadlines); calls of a stormproof channel made
there get no more time than is left, whatever their own timeout, so that nobody works for a caller who has gone. It
travels in a context variable: into coroutines, tasks and `asyncio.to_thread` by itself, into a thread of one's own
with `contextvars.copy_context().run`. Moments are seconds of time.monotonic(), so a step of the wall clock changes
nothing; over the wire goes what is left, as gRPC's own `grpc-timeout`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from numbers import Real

from stormproof.core.check import LONGEST

_NUMBERS = (float, int)
_deadline: ContextVar[float | None] = ContextVar("stormproof_deadline", default=None)


def remaining() -> float | None:
    """Seconds that the work at hand has left, 0.0 when they are over; None: nobody set a limit."""
    moment = _deadline.get()
    return None if moment is None else max(0.0, moment - time.monotonic())


def inherited(timeout: float | None) -> float | None:
    """The seconds that a call may take which was given `timeout` (None: no limit): the smaller of it and `remaining()`.

    Raises ValueError for what is no length of time. 1e9 seconds and more are no limit: gRPC would end such a call at once.
    """
    if timeout is not None and not (type(timeout) in _NUMBERS and timeout < LONGEST):
        timeout = _unusual(timeout)
    if _deadline.get() is None:
        return timeout
    left = remaining()
    return left if timeout is None or left is None else min(timeout, left)


def _unusual(timeout: object) -> float | None:
    """What a timeout means that is no plain number, or a very large one."""
    if not isinstance(timeout, Real) or isinstance(timeout, bool) or math.isnan(timeout):
        raise ValueError(f"timeout must be a number of seconds, or None for no limit; got {timeout!r}")
    return float(timeout) if timeout < LONGEST else None


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

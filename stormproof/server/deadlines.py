"""Deadlines that travel: a handler knows what its caller's deadline has left, and what it calls inherits it.

Finagle's DeadlineFilter, and gRPC's own deadline propagation, which Python does not have. What is decided is only
whether the time is over before the handler begins; the arithmetic is in stormproof.deadline.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from typing import Any

import grpc

from stormproof.deadline import until
from stormproof.server.interceptor import Interceptor, Refusal, Visit

#: `grpc.server` tells some 9e18 seconds for a call without a deadline. gRPC itself sends 8 digits of hours at most.
FOREVER = 1e12
_LATE = Refusal(grpc.StatusCode.DEADLINE_EXCEEDED, "the deadline had passed before the handler began")


class Deadlines(Interceptor):
    """An interceptor that hands the caller's deadline to handlers and to the calls that they make.

    In a handler, `remaining()` is what its caller's deadline has left, in seconds; None: the caller set none. A call on
    a stormproof channel made there, on threads or asyncio, ends with it at the latest (its `timeout=` and policy may
    end it earlier), and is not even begun if nothing is left: DEADLINE_EXCEEDED, without an attempt.

    A call whose deadline has passed before its handler begins (it waited for a thread, or for a busy event loop) is
    answered DEADLINE_EXCEEDED and its handler does not run. A handler that is running is not stopped: it may ask
    `remaining()` between steps. All four kinds of call. Put it first in the list of interceptors; work that several attempts
    share (Idempotency) is then not bound by the deadline of one.
    """

    def admit(self, method: str, context: Any, *, stream: bool) -> Visit | Refusal:  # noqa: ARG002
        left = context.time_remaining()
        if left is None or left > FOREVER:
            return Visit()
        return _Timed(time.monotonic() + left) if left > 0 else _LATE


class _Timed(Visit):
    def __init__(self, deadline: float) -> None:
        self._deadline = deadline

    def running(self) -> AbstractContextManager[None]:
        return until(self._deadline)

"""A limit on the calls that a server works on at once; what is too much is refused quickly instead of queued.

How high the limit is, fixed or adaptive, is decided in stormproof.core.limit. Refusing early is what keeps the
accepted calls quick: "Handling Overload", Google SRE book; Netflix's concurrency-limits; Envoy's adaptive concurrency.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from fnmatch import fnmatchcase
from threading import Lock
from types import TracebackType
from typing import Any

import grpc

from stormproof.core.check import complain, seconds
from stormproof.core.limit import FixedLimit, Gauge, GradientLimit
from stormproof.server.interceptor import Interceptor, Refusal, Visit
from stormproof.subchannels import PUSHBACK

#: Health checks ask whether the server lives, and not whether it has time.
HEALTH = ("/grpc.health.*",)
_FINE = (None, grpc.StatusCode.OK, 0)


class Limit(Interceptor):
    """An interceptor that lets at most `limit` calls in at once and answers RESOURCE_EXHAUSTED to the others.

    limit     FixedLimit(calls=64), or GradientLimit(), which finds the right number by itself.
    pushback  mean seconds after which a refused caller may come back, told as `grpc-retry-pushback-ms` (gRFC A6), at
              random from half to one and a half times as much, so that those refused together do not come back together.
              None (the default): nothing is told, and a stormproof client with its default policy does not try again.
              That is the safe default, because a pushback makes clients retry, and when all servers are full that is
              more load on all; set one (0.05, say) where another server will usually have room.
    exempt    methods that are always let in and never counted: patterns as of fnmatch over full names. The default is
              gRPC's health service; add your own readiness methods, and those that wait long by design.

    `in_flight` and `limit` tell how it stands, `refused` how many were turned away. The refused call's handler does
    not run, so the answer is proof that nothing was done. `grpc.server` needs a thread even to refuse: give it more
    threads than the highest limit, or calls wait in its queue, where nobody sees them. Raises ValueError that names
    every bad argument.
    """

    def __init__(
        self, limit: FixedLimit | GradientLimit, *, pushback: float | None = None, exempt: Sequence[str] = HEALTH
    ) -> None:
        problems = seconds("pushback", pushback, optional=True)
        if not isinstance(limit, FixedLimit | GradientLimit):
            problems.append(f"limit must be a FixedLimit(calls=64) or a GradientLimit(); got {limit!r}")
        if isinstance(exempt, str):
            problems.append(f"exempt must be a list of patterns; got the text {exempt!r} (put it in brackets)")
        complain("Limit", problems)
        self._gauge: Gauge = limit.gauge()
        self._pushback = pushback
        self._exempt = tuple(exempt)
        self._lock = Lock()
        self.refused = 0

    @property
    def in_flight(self) -> int:
        """Calls being worked on now, exempt ones not counted."""
        return self._gauge.in_flight

    @property
    def limit(self) -> int:
        """How many there may be now."""
        return self._gauge.limit

    def around(self, handler: Any, details: Any) -> Any:
        if any(fnmatchcase(details.method, pattern) for pattern in self._exempt):
            return handler
        return super().around(handler, details)

    def admit(self, method: str, context: Any, *, stream: bool) -> Visit | Refusal:  # noqa: ARG002
        with self._lock:
            now = time.monotonic()
            if self._gauge.begin(now, stream=stream):
                return _Counted(self, context, now, stream)
            self.refused += 1
        return self._refusal()

    def _refusal(self) -> Refusal:
        details = f"the server is working on as many calls as it can ({self.limit}); this one was not begun"
        if self._pushback is None:
            return Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, details)
        wait = self._pushback * random.uniform(0.5, 1.5)
        return Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, details, ((PUSHBACK, str(round(wait * 1000))),))

    def _finished(self, began: float, stream: bool, tells: bool) -> None:
        with self._lock:
            self._gauge.finished(began, time.monotonic(), stream=stream, tells=tells)


class _Counted(Visit):
    def __init__(self, limit: Limit, context: Any, began: float, stream: bool) -> None:
        self._limit = limit
        self._context = context
        self._began = began
        self._stream = stream

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, at: TracebackType | None
    ) -> None:
        self._limit._finished(self._began, self._stream, self._expired() or (problem is None and self._went_well()))

    def _expired(self) -> bool:
        """Whether the caller's time ran out: then the work takes at least as long as it did."""
        left = self._context.time_remaining()
        return left is not None and left <= 0

    def _went_well(self) -> bool:
        code = getattr(self._context, "code", None)  # a sync handler's context on an asyncio server has none
        return code is None or code() in _FINE

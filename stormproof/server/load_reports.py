"""Load reports: each answer tells the client how busy the server is, so that clients give more to those who have room.

What is told is a standard OrcaLoadReport in the trailing metadata (gRFC A51): any gRPC client with weighted round robin
understands it (A58), and a stormproof channel with `LoadReports`. What clients make of it: stormproof.core.reports; why it
is told twice: stormproof.orca.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from dataclasses import replace
from threading import Lock
from types import TracebackType
from typing import Any

import grpc

from stormproof.core.breaker import FAILURES
from stormproof.core.check import complain
from stormproof.core.outcome import Code
from stormproof.core.rates import Rate
from stormproof.core.reports import LoadReport
from stormproof.orca import COPY, TRAILER, trailers
from stormproof.server.interceptor import Interceptor, Visit

_log = logging.getLogger(__name__)
_HEALTH = "/grpc.health."


class LoadReporter(Interceptor):
    """An interceptor that reports the server's load in the trailing metadata of every call.

    measure   says how busy the server is, as a `LoadReport`: a function that is called at the end of each call, in its
              thread or in the event loop, so it must be quick. None (the default): the CPU that this process uses, as a
              fraction of the cores it may run on, over the last 5 to 10 seconds.

    Where a report says no `qps`, the calls and errors that this interceptor has seen in the same time are filled in. Errors
    are those that speak against a server (UNAVAILABLE, INTERNAL, UNKNOWN, RESOURCE_EXHAUSTED, DATA_LOSS, DEADLINE_EXCEEDED).
    Health checks (`/grpc.health.*`) are not counted and carry no report.

    The handler's own trailing metadata is kept, and so is a report of its own. A measure that fails is logged, and the call
    goes on without a report. grpc.aio sends an abort's status at once and does not show plain (not async) handlers their
    metadata: such calls carry no report, and count. List it before `Limit`, so that refused calls count as errors, and before
    `Idempotency`, which would store the report with the outcome. Raises ValueError if `measure` cannot be called.
    """

    def __init__(self, measure: Callable[[], LoadReport] | None = None) -> None:
        if measure is not None and not callable(measure):
            complain(
                "LoadReporter", [f"measure must be a function that returns a LoadReport, or None; got {measure!r}"]
            )
        self._measure = measure
        self._broken = False
        self._lock = Lock()
        self._calls = self._errors = 0
        now = time.monotonic()
        self._qps, self._eps, self._cpu = Rate(0, now), Rate(0, now), Rate(time.process_time(), now)
        self._cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

    def around(self, handler: Any, details: Any) -> Any:
        return handler if details.method.startswith(_HEALTH) else super().around(handler, details)

    def admit(self, method: str, context: Any, *, stream: bool) -> Visit:  # noqa: ARG002
        return _Reported(self, context)

    def _ended(self, context: Any, problem: BaseException | None) -> None:
        report = self._report(failed=_failed(context, problem))
        told = getattr(context, "trailing_metadata", None)
        if report is None or told is None:
            return
        trailing = tuple(told() or ())
        if all(key not in (TRAILER, COPY) for key, _ in trailing):
            context.set_trailing_metadata((*trailing, *trailers(report)))

    def _report(self, *, failed: bool) -> LoadReport | None:
        with self._lock:
            now = time.monotonic()
            self._calls += 1
            self._errors += failed
            qps, eps = self._qps.at(self._calls, now), self._eps.at(self._errors, now)
            cpu = max(0.0, self._cpu.at(time.process_time(), now)) / self._cores  # it begins anew in a forked process
        report = LoadReport(cpu_utilization=cpu) if self._measure is None else self._measured(self._measure)
        if report is None or report.qps > 0.0:
            return report
        return replace(report, qps=qps, eps=eps)

    def _measured(self, measure: Callable[[], LoadReport]) -> LoadReport | None:
        try:
            report = measure()
            if not isinstance(report, LoadReport):
                raise TypeError(f"measure must return a LoadReport; got {report!r}")
        except Exception as problem:
            if not self._broken:  # once, not with every call
                _log.error("the measure of the server's load failed; calls carry no report", exc_info=problem)
            self._broken = True
            return None
        self._broken = False
        return report


class _Reported(Visit):
    def __init__(self, reporter: LoadReporter, context: Any) -> None:
        self._reporter = reporter
        self._context = context

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, at: TracebackType | None
    ) -> None:
        self._reporter._ended(self._context, problem)


def _failed(context: Any, problem: BaseException | None) -> bool:
    """Whether a call ended in a way that speaks against the server."""
    if isinstance(problem, asyncio.CancelledError | GeneratorExit):
        return False  # the caller has gone
    code = context.code() if hasattr(context, "code") else None
    number = code.value[0] if isinstance(code, grpc.StatusCode) else code or 0
    return number in FAILURES if number != Code.OK else problem is not None

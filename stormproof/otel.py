"""What a channel does, told to OpenTelemetry: metrics as gRFC A66 and A96 name them, spans as gRFC A72 does.

Needs `pip install 'stormproof[otel]'`, and an SDK to receive what is told. All of it comes from the observer's hook
(stormproof.observer), which knows of calls and attempts, and not of messages: sizes and message events are not recorded.
"""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable, Collection
from typing import Any

from stormproof.core.call import Cause
from stormproof.core.check import complain
from stormproof.core.outcome import Code, Evidence, Outcome
from stormproof.observer import AttemptBegan, AttemptEnded, CallBegan, CallEnded, Ejected, Event, Sent

try:
    from opentelemetry import metrics, propagate, trace
    from opentelemetry.context import Context
    from opentelemetry.propagators.textmap import Setter
    from opentelemetry.trace import Span, SpanKind, Status, StatusCode
    from opentelemetry.util.types import AttributeValue
except ImportError as error:
    raise ImportError("stormproof.otel needs OpenTelemetry: pip install 'stormproof[otel]'") from error

__all__ = ["OpenTelemetry"]

#: Seconds; gRFC A66's bounds for latencies.
LATENCY = (
    0, 0.00001, 0.00005, 0.0001, 0.0003, 0.0006, 0.0008, 0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.008, 0.01, 0.013,
    0.016, 0.02, 0.025, 0.03, 0.04, 0.05, 0.065, 0.08, 0.1, 0.13, 0.16, 0.2, 0.25, 0.3, 0.4, 0.5, 0.65, 0.8, 1, 2, 5, 10,
    20, 50, 100,
)  # fmt: skip
#: gRFC A96's bounds for retries and hedges, and for transparent retries.
FEW, SOME = (1, 2, 3, 4, 5), (1, 2, 3, 4, 5, 10)
#: How an attempt ends that is still out when its call is over.
LEFT = Outcome(Code.CANCELLED, Evidence.LOST, "the call was over")
_METHOD = re.compile(r"/[^/\s]+/[^/\s]*")


class OpenTelemetry:
    """An observer for `Channel(..., observer=OpenTelemetry())`. One may serve several channels.

    target    the label grpc.target of every metric: what these channels reach, in one word. "other" unless given, as gRFC
              A66 has it for targets that are addresses: they come and go, and each would be a series of its own.
    methods   whose names are told in the label grpc.method, as in `Channel(methods=)`: "/pkg.Service/Method", or
              "/pkg.Service/" for all of one; all others are "other". None: every method has its name, since the program
              itself names what it calls. Give them where it calls methods that somebody else names, as a proxy does.
    tracer_provider, meter_provider   None: the global ones, also if they are set later.

    Spans: "Sent.pkg.Service/Method" for a call, as a child of its caller's current span, and below it one
    "Attempt.pkg.Service/Method" for each attempt, with `previous-rpc-attempts`, `transparent-retry` and
    `stormproof.endpoint`. The global propagator puts the attempt's context into its metadata (W3C `traceparent`, unless
    configured otherwise); a header that the caller sends himself is left as it is.

    Metrics, with the labels grpc.method and grpc.target: grpc.client.attempt.started; grpc.client.attempt.duration and
    grpc.client.call.duration, with grpc.status, too; grpc.client.call.retries, .transparent_retries, .hedges and
    .retry_delay, for calls that had any. stormproof.client.ejections has grpc.target and stormproof.endpoint.

    An attempt that is still out when its call ends (it lost to another, or the caller gave up) ends then, as CANCELLED.
    Raises ValueError that names every bad argument. Safe for use from many threads.
    """

    def __init__(
        self,
        *,
        target: str = "other",
        methods: Collection[str] | None = None,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
    ) -> None:
        problems = _problems(target, methods)
        for name, given, kind in (
            ("tracer_provider", tracer_provider, trace.TracerProvider),
            ("meter_provider", meter_provider, metrics.MeterProvider),
        ):
            if given is not None and not isinstance(given, kind):
                problems.append(
                    f"{name} must be a {kind.__name__} of OpenTelemetry, or None for the global one; got {given!r}"
                )
        complain(self, problems)
        self._target = target
        self._methods = None if methods is None else frozenset(methods)
        self._tracer = trace.get_tracer("stormproof", tracer_provider=tracer_provider)
        meter = metrics.get_meter("stormproof", meter_provider=meter_provider)
        self._started = meter.create_counter(
            "grpc.client.attempt.started", "{attempt}", "Attempts started, including those that have not ended."
        )
        self._attempts = meter.create_histogram(
            "grpc.client.attempt.duration", "s", "Time that an attempt took.",
            explicit_bucket_boundaries_advisory=LATENCY,
        )  # fmt: skip
        self._durations = meter.create_histogram(
            "grpc.client.call.duration", "s", "Time that a call took, as its caller sees it.",
            explicit_bucket_boundaries_advisory=LATENCY,
        )  # fmt: skip
        self._further = {
            cause: meter.create_histogram(
                f"grpc.client.call.{name}", unit, f"{said} of a call that had any.",
                explicit_bucket_boundaries_advisory=bounds,
            )
            for cause, name, unit, said, bounds in (
                (Cause.RETRY, "retries", "{retry}", "Retries", FEW),
                (Cause.TRANSPARENT, "transparent_retries", "{transparent_retry}", "Transparent retries", SOME),
                (Cause.HEDGE, "hedges", "{hedge}", "Hedges", FEW),
            )
        }  # fmt: skip
        self._delays = meter.create_histogram(
            "grpc.client.call.retry_delay", "s", "Time in which a call that went on had no attempt under way.",
            explicit_bucket_boundaries_advisory=LATENCY,
        )  # fmt: skip
        self._ejections = meter.create_counter(
            "stormproof.client.ejections", "{ejection}", "Times that an endpoint was ejected, failed trials included."
        )
        self._calls: dict[int, _Call] = {}
        self._on: dict[type, Callable[[Any], None]] = {
            CallBegan: self._call_began,
            AttemptBegan: self._attempt_began,
            AttemptEnded: self._attempt_ended,
            CallEnded: self._call_ended,
            Ejected: self._ejected,
        }

    def __call__(self, event: Event) -> None:
        tell = self._on.get(type(event))
        if tell is not None:
            tell(event)

    def metadata_for(self, call: int, attempt: int) -> Sent:
        under_way = self._calls.get(call)
        span = under_way.span_of(attempt) if under_way is not None else None
        if under_way is None or span is None:
            return ()
        headers: list[tuple[str, str]] = []
        propagate.inject(headers, trace.set_span_in_context(span, under_way.context), _HEADERS)
        return tuple(header for header in headers if header[0] not in under_way.own)

    def _call_began(self, event: CallBegan) -> None:
        name = event.method[1:]
        span = self._tracer.start_span(f"Sent.{name}")
        labels = {"grpc.method": name if self._knows(event.method) else "other", "grpc.target": self._target}
        own = frozenset(key for key, _ in event.metadata)
        self._calls[event.call] = _Call(name, labels, event.at, span, trace.set_span_in_context(span), own)

    def _attempt_began(self, event: AttemptBegan) -> None:
        call = self._calls.get(event.call)
        if call is None:
            return
        with call.lock:
            if call.over:
                return
            attributes: dict[str, AttributeValue] = {
                "previous-rpc-attempts": event.sent - 1,
                "transparent-retry": event.cause is Cause.TRANSPARENT,
                "stormproof.endpoint": event.endpoint.address,
            }
            span = self._tracer.start_span(f"Attempt.{call.name}", call.context, SpanKind.CLIENT, attributes)
            call.began(event, span)
        self._started.add(1, call.labels, call.context)

    def _attempt_ended(self, event: AttemptEnded) -> None:
        call = self._calls.get(event.call)
        if call is None:
            return
        with call.lock:
            attempt = call.attempts.pop(event.attempt, None)
            if not call.attempts:
                call.idle_since = event.at
        if attempt is not None:
            self._end(call, attempt, event.at, event.outcome)

    def _call_ended(self, event: CallEnded) -> None:
        call = self._calls.pop(event.call, None)
        if call is None:
            return
        with call.lock:
            call.over = True
            left, call.attempts = call.attempts, {}
        for attempt in left.values():
            self._end(call, attempt, event.at, LEFT)
        _close(call.span, event.outcome)
        labels = {**call.labels, "grpc.status": event.outcome.code.name}
        self._durations.record(event.at - call.at, labels, call.context)
        for cause, count in call.further.items():
            self._further[cause].record(count, call.labels, call.context)
        if call.delay > 0.0:
            self._delays.record(call.delay, call.labels, call.context)

    def _ejected(self, event: Ejected) -> None:
        if event.wait > 0.0:  # else a trial was cancelled and says nothing
            self._ejections.add(1, {"grpc.target": self._target, "stormproof.endpoint": event.endpoint.address})

    def _end(self, call: _Call, attempt: tuple[float, Span], at: float, outcome: Outcome) -> None:
        began, span = attempt
        _close(span, outcome)
        labels = {**call.labels, "grpc.status": outcome.code.name}
        self._attempts.record(at - began, labels, trace.set_span_in_context(span, call.context))

    def _knows(self, method: str) -> bool:
        known = self._methods
        return known is None or method in known or method[: method.rfind("/") + 1] in known


class _Call:
    """One call under way. The lock guards what its attempts change, since they may begin and end in several threads."""

    __slots__ = (
        "at", "attempts", "context", "delay", "further", "idle_since", "labels", "lock", "name", "over", "own", "span",
    )  # fmt: skip

    def __init__(
        self, name: str, labels: dict[str, str], at: float, span: Span, context: Context, own: frozenset[str]
    ) -> None:
        self.name = name
        self.labels = labels
        self.at = at
        self.span = span
        self.context = context  # the caller's, with the call's span in it
        self.own = own  # headers that the caller sends himself
        self.lock = threading.Lock()
        self.over = False
        self.attempts: dict[int, tuple[float, Span]] = {}  # those under way: when they began
        self.further: Counter[Cause] = Counter()  # attempts after the first
        self.idle_since: float | None = None
        self.delay = 0.0

    def began(self, event: AttemptBegan, span: Span) -> None:
        self.attempts[event.attempt] = (event.at, span)
        if event.cause is not Cause.FIRST:
            self.further[event.cause] += 1
        if self.idle_since is not None:
            self.delay += event.at - self.idle_since
            self.idle_since = None

    def span_of(self, attempt: int) -> Span | None:
        with self.lock:
            found = self.attempts.get(attempt)
        return found[1] if found is not None else None


class _Headers(Setter[list[tuple[str, str]]]):
    """Adds to gRPC metadata, whose keys are in small letters."""

    def set(self, carrier: list[tuple[str, str]], key: str, value: str) -> None:
        carrier.append((key.lower(), value))


_HEADERS = _Headers()


def _close(span: Span, outcome: Outcome) -> None:
    if not outcome.ok:
        span.set_status(Status(StatusCode.ERROR, str(outcome)))
    span.end()


def _problems(target: object, methods: object) -> list[str]:
    problems: list[str] = []
    if not isinstance(target, str) or not target:
        problems.append(f"target must be a name, such as 'shop'; got {target!r}")
    if methods is None:
        return problems
    if isinstance(methods, str) or not isinstance(methods, Collection):
        return [*problems, f"methods must be a list of names, or None for all; got {methods!r}"]
    return problems + [
        f"methods must be named '/package.Service/Method', or '/package.Service/' for all of one; got {name!r}"
        for name in methods
        if not isinstance(name, str) or not _METHOD.fullmatch(name)
    ]

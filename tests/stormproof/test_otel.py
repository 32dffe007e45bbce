"""stormproof.otel against the SDK of OpenTelemetry: real calls, and what its exporters were given."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest
from greeters import DRIVERS, calling, closed_port, until
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from stormproof import Backoff, CallError, Code, Endpoint, Evidence, Hedge, Outcome, Policy, Retry, RoundRobin
from stormproof.core.call import Cause
from stormproof.core.outcome import OK
from stormproof.observer import AttemptBegan, AttemptEnded, CallBegan, CallEnded, Ejected, Readmitted
from stormproof.otel import OpenTelemetry

METHOD = "hello.Hello/SayHello"
LABELS = {"grpc.method": METHOD, "grpc.target": "shop"}
AT_ONCE = Retry(attempts=3, backoff=Backoff(base=0.0))
#: gRFC A66: "Latency" buckets, in seconds.
BUCKETS = (
    0, 0.00001, 0.00005, 0.0001, 0.0003, 0.0006, 0.0008, 0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.008, 0.01, 0.013,
    0.016, 0.02, 0.025, 0.03, 0.04, 0.05, 0.065, 0.08, 0.1, 0.13, 0.16, 0.2, 0.25, 0.3, 0.4, 0.5, 0.65, 0.8, 1, 2, 5, 10,
    20, 50, 100,
)  # fmt: skip
HERE = Endpoint("a:1")
ROOT = Path(__file__).parents[2]


@pytest.fixture(params=DRIVERS)
def driver(request):
    return request.param


class Sdk(SpanProcessor):
    """An SDK that exports to memory, and counts spans that began and that ended."""

    def __init__(self) -> None:
        self.began = self.ended = 0
        self._exporter, self._reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracers, self.meters = TracerProvider(), MeterProvider([self._reader])
        self.tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracers.add_span_processor(self)

    def on_start(self, span, parent_context=None) -> None:
        self.began += 1

    def on_end(self, span) -> None:
        self.ended += 1

    def observer(self, **options) -> OpenTelemetry:
        return OpenTelemetry(target="shop", tracer_provider=self.tracers, meter_provider=self.meters, **options)

    def spans(self):
        """The call's span, and those of its attempts in their order."""
        every = sorted(self._exporter.get_finished_spans(), key=lambda span: span.start_time)
        [call] = [span for span in every if span.name.startswith("Sent.")]
        return call, [span for span in every if span.name.startswith("Attempt.")]

    def metrics(self):
        data = self._reader.get_metrics_data()
        scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics] if data else []
        return {metric.name: metric for scope in scopes for metric in scope.metrics}

    def points(self, name):
        """Each point of a metric: its labels beyond method and target, or all where these are not ours, and its value."""
        found = []
        for point in self.metrics()[name].data.data_points if name in self.metrics() else ():
            labels = {k: v for k, v in point.attributes.items() if LABELS.get(k) != v}
            found.append((labels, point.value if hasattr(point, "value") else (point.count, point.sum)))
        return sorted(found, key=str)

    def counts(self, name):
        """As `points`, without the sums, which are times."""
        return [(labels, value[0]) for labels, value in self.points(name)]


@pytest.fixture
def sdk():
    return Sdk()


def traced(span) -> str:
    """The traceparent of this span (W3C)."""
    return f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-{span.context.trace_flags:02x}"


@contextmanager
def tenant_a():
    """Code that runs for tenant a, as baggage says."""
    token = context.attach(baggage.set_baggage("tenant", "a"))
    try:
        yield
    finally:
        context.detach(token)


def test_a_call_is_a_child_of_its_callers_span_and_each_attempt_a_child_of_the_call(driver, one, sdk):
    """Names, kinds, attributes and parents (gRFC A72), for a call that is answered by its first attempt."""
    with calling(driver, one.addresses, observer=sdk.observer()) as client:
        with trace.use_span(sdk.tracers.get_tracer("handler").start_span("handler")) as handler:
            client.call("x")
    call, [attempt] = sdk.spans()
    assert (call.name, call.kind, dict(call.attributes)) == (f"Sent.{METHOD}", SpanKind.INTERNAL, {})
    assert (attempt.name, attempt.kind) == (f"Attempt.{METHOD}", SpanKind.CLIENT)
    assert dict(attempt.attributes) == {
        "previous-rpc-attempts": 0, "transparent-retry": False, "stormproof.endpoint": one.addresses[0],
    }  # fmt: skip
    assert call.parent.span_id == handler.get_span_context().span_id
    assert attempt.parent.span_id == call.context.span_id
    assert attempt.context.trace_id == handler.get_span_context().trace_id
    assert (call.status.status_code, attempt.status.status_code) == (StatusCode.UNSET, StatusCode.UNSET)


def test_each_server_hears_of_the_attempt_that_reached_it(driver, three, sdk):
    """Three attempts of one call: three traceparents, each of its own attempt's span, in one trace; baggage travels, too."""
    with calling(driver, three.addresses, policy=Policy(retry=AT_ONCE), observer=sdk.observer()) as client:
        with tenant_a(), pytest.raises(CallError):
            client.call("fail")
    call, attempts = sdk.spans()
    by_number = {g.metadata[0].get("grpc-previous-rpc-attempts", "0"): g.metadata[0] for g in three.greeters}
    assert [by_number[n]["traceparent"] for n in "012"] == [traced(attempt) for attempt in attempts]
    assert [by_number[n]["baggage"] for n in "012"] == ["tenant=a"] * 3
    assert len({attempt.context.span_id for attempt in attempts}) == 3
    assert {attempt.parent.span_id for attempt in attempts} == {call.context.span_id}
    assert [attempt.attributes["previous-rpc-attempts"] for attempt in attempts] == [0, 1, 2]


def test_a_header_of_the_callers_own_is_left_as_it_is(driver, one, sdk):
    """Whoever sends a traceparent himself is not sent a second one."""
    own = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with calling(driver, one.addresses, observer=sdk.observer()) as client:
        client.call("x", metadata=(("traceparent", own),))
    [sent] = one.greeters[0].metadata
    assert sent["traceparent"] == own


def test_calls_and_attempts_are_counted_and_timed(driver, one, sdk):
    """30 calls, a third refused: names, units, labels, counts and buckets of gRFC A66."""
    with calling(driver, one.addresses, policy=Policy(retry=None), observer=sdk.observer()) as client:
        for number in range(30):
            if number % 3 == 0:
                with pytest.raises(CallError):
                    client.call("refuse")
            else:
                client.call("x")
    outcomes = [({"grpc.status": "INVALID_ARGUMENT"}, 10), ({"grpc.status": "OK"}, 20)]
    assert sdk.points("grpc.client.attempt.started") == [({}, 30)]
    assert sdk.counts("grpc.client.attempt.duration") == outcomes
    assert sdk.counts("grpc.client.call.duration") == outcomes
    metrics = sdk.metrics()
    assert {name: metric.unit for name, metric in metrics.items()} == {
        "grpc.client.attempt.started": "{attempt}",
        "grpc.client.attempt.duration": "s",
        "grpc.client.call.duration": "s",
    }  # nothing was retried, hedged or ejected: nothing is said of it
    for name in ("grpc.client.attempt.duration", "grpc.client.call.duration"):
        for point in metrics[name].data.data_points:
            assert tuple(point.explicit_bounds) == BUCKETS
            assert 0 < point.sum < 30 * 5.0


def test_retries_are_counted_for_each_call(driver, three, sdk):
    """Two calls of three attempts each: a histogram of retries a call (gRFC A96), each attempt with its own status."""
    with calling(driver, three.addresses, policy=Policy(retry=AT_ONCE), observer=sdk.observer()) as client:
        for _ in range(2):
            with pytest.raises(CallError):
                client.call("fail")
    assert sdk.points("grpc.client.attempt.started") == [({}, 6)]
    assert sdk.counts("grpc.client.attempt.duration") == [({"grpc.status": "UNAVAILABLE"}, 6)]
    assert sdk.counts("grpc.client.call.duration") == [({"grpc.status": "UNAVAILABLE"}, 2)]
    assert sdk.points("grpc.client.call.retries") == [({}, (2, 4))]
    assert sdk.counts("grpc.client.call.retry_delay") == [({}, 2)]
    assert "grpc.client.call.transparent_retries" not in sdk.metrics()
    assert "grpc.client.call.hedges" not in sdk.metrics()
    assert tuple(sdk.metrics()["grpc.client.call.retries"].data.data_points[0].explicit_bounds) == (1, 2, 3, 4, 5)


def test_a_failed_call_says_what_was_known(driver, one, sdk):
    """The spans of attempt and call are errors, with code, evidence and message."""
    with calling(driver, one.addresses, policy=Policy(retry=None), observer=sdk.observer()) as client:
        with pytest.raises(CallError):
            client.call("fail")
    call, [attempt] = sdk.spans()
    for span in (call, attempt):
        assert span.status.status_code is StatusCode.ERROR
        assert span.status.description == "UNAVAILABLE (answered): not now"


def test_a_transparent_retry_is_no_retry(driver, one, sdk):
    """From a closed port on to the server behind it: counted apart, and the attempt says so. The port is ejected, once."""
    closed = closed_port()
    endpoints = [Endpoint(closed), Endpoint(one.addresses[0], priority=1)]
    with calling(driver, endpoints, observer=sdk.observer()) as client:
        client.call("x")
    call, attempts = sdk.spans()
    assert [
        (span.attributes["previous-rpc-attempts"], span.attributes["transparent-retry"]) for span in attempts
    ] == [(0, False), (0, True)]  # fmt: skip
    assert [span.attributes["stormproof.endpoint"] for span in attempts] == [closed, one.addresses[0]]
    assert call.status.status_code is StatusCode.UNSET
    assert sdk.points("grpc.client.call.transparent_retries") == [({}, (1, 1))]
    assert "grpc.client.call.retries" not in sdk.metrics()
    assert sdk.points("stormproof.client.ejections") == [({"stormproof.endpoint": closed}, 1)]
    assert sdk.metrics()["stormproof.client.ejections"].unit == "{ejection}"


def test_a_hedge_that_loses_ends_with_its_call(driver, three, sdk):
    """A silent first server and a copy that answers: two attempts, of which the loser ends as CANCELLED; nothing is kept."""
    for greeter in three.greeters[1:]:
        greeter.release.set()  # "hang" hangs on the first server only
    endpoints = [Endpoint(address, priority=tier) for tier, address in enumerate(three.addresses)]
    telemetry = sdk.observer()
    with calling(driver, endpoints, policy=Policy(hedge=Hedge(after=0.05)), observer=telemetry) as client:
        with tenant_a():
            client.call("hang")
        until(lambda: sdk.began == sdk.ended == 3, "the end of three spans")
        assert telemetry._calls == {}
    call, attempts = sdk.spans()
    [copy] = three.greeters[1].metadata
    assert (copy["traceparent"], copy["baggage"]) == (traced(attempts[1]), "tenant=a")
    assert [span.status.description for span in attempts] == ["CANCELLED (lost): the call was over", None]
    assert {span.parent.span_id for span in attempts} == {call.context.span_id}
    assert all(span.end_time <= call.end_time for span in attempts)
    assert sdk.points("grpc.client.call.hedges") == [({}, (1, 1))]
    assert sdk.points("grpc.client.attempt.started") == [({}, 2)]
    assert sdk.counts("grpc.client.attempt.duration") == [({"grpc.status": "CANCELLED"}, 1), ({"grpc.status": "OK"}, 1)]
    assert sdk.counts("grpc.client.call.duration") == [({"grpc.status": "OK"}, 1)]


def test_nothing_is_left_behind(driver, one, sdk):
    """Answered, refused, cancelled and dropped calls, and some that the closing of their channel ends: every span that began
    has ended, and no call is remembered."""
    telemetry = sdk.observer()
    client = DRIVERS[driver](one.addresses, policy=Policy(timeout=30.0, retry=None), observer=telemetry)
    client.call("x")
    for name in ("refuse", "fail"):
        with pytest.raises(CallError):
            client.call(name)
    assert [reply.message for reply in client.each("abc")] == ["a", "b", "c"]
    cancelled, dropped = client.each("abc"), client.each("abc")
    next(cancelled), next(dropped)
    cancelled.cancel()
    del cancelled, dropped
    gc.collect()
    hanging = [client.start("hang") for _ in range(4)]
    for _ in hanging:
        assert one.greeters[0].hanging.acquire(timeout=5)
    hanging[0].cancel()
    assert len(telemetry._calls) >= 3
    client.close()
    until(lambda: telemetry._calls == {} and sdk.began == sdk.ended, "the end of every call")
    assert sdk.began == 2 * 10
    assert sum(count for _, count in sdk.counts("grpc.client.call.duration")) == 10
    assert sum(count for _, count in sdk.counts("grpc.client.attempt.duration")) == 10


def test_methods_that_are_not_listed_are_other(driver, one, sdk):
    """grpc.method has as many values as were listed, and one more; spans keep the name."""
    with calling(driver, one.addresses, observer=sdk.observer(methods=["/hello.Hello/Chat", "/shop.Cart/"])) as client:
        client.call("x")
    assert sdk.points("grpc.client.attempt.started") == [({"grpc.method": "other"}, 1)]
    assert sdk.spans()[0].name == f"Sent.{METHOD}"


@pytest.mark.parametrize("methods", [None, ["/hello.Hello/SayHello"], {"/hello.Hello/"}])
def test_methods_that_are_listed_have_their_names(one, sdk, methods):
    """By name, or by service; all of them if there is no list."""
    with calling("threads", one.addresses, observer=sdk.observer(methods=methods)) as client:
        client.call("x")
    assert sdk.points("grpc.client.attempt.started") == [({}, 1)]


def test_the_target_is_other_unless_it_is_named(one, sdk):
    """Addresses come and go: they are no label (gRFC A66 has "other" for such targets)."""
    telemetry = OpenTelemetry(tracer_provider=sdk.tracers, meter_provider=sdk.meters)
    with calling("threads", one.addresses, observer=telemetry) as client:
        client.call("x")
    assert sdk.points("grpc.client.attempt.started") == [({"grpc.target": "other"}, 1)]


def test_calls_in_many_threads_through_two_channels_are_told_apart(three, sdk):
    """One observer, two channels, 8 threads, 400 calls of which some are retried: every count is exact."""
    telemetry, failed = sdk.observer(), Counter()
    policy = Policy(retry=Retry(attempts=2, backoff=Backoff(base=0.0)))

    def work(client, number) -> None:
        for turn in range(50):
            try:
                client.call("refuse" if (turn + number) % 5 == 0 else "x")
            except CallError:
                failed[number] += 1

    with calling("threads", three.addresses, balancer=RoundRobin(), policy=policy, observer=telemetry) as first:
        with calling("threads", three.addresses, balancer=RoundRobin(), policy=policy, observer=telemetry) as second:
            threads = [threading.Thread(target=work, args=(client, n)) for n in range(4) for client in (first, second)]
            [thread.start() for thread in threads]
            [thread.join() for thread in threads]
    assert telemetry._calls == {}
    assert sdk.began == sdk.ended == 800
    assert sdk.points("grpc.client.attempt.started") == [({}, 400)]
    assert sdk.counts("grpc.client.call.duration") == [
        ({"grpc.status": "INVALID_ARGUMENT"}, 80), ({"grpc.status": "OK"}, 320),
    ]  # fmt: skip


def began(attempt, at, cause, sent=None) -> AttemptBegan:
    return AttemptBegan(1, at, attempt, attempt if sent is None else sent, HERE, cause)


BROKEN = Outcome(Code.UNAVAILABLE, Evidence.ANSWERED, "no")


def test_times_are_those_of_the_events(sdk):
    """A timetable: two attempts of 0.5 s with 0.25 s between them, and a call of 1.5 s."""
    telemetry = sdk.observer()
    for event in (
        CallBegan(1, 10.0, f"/{METHOD}", ()),
        began(1, 10.25, Cause.FIRST),
        AttemptEnded(1, 10.75, 1, BROKEN),
        began(2, 11.0, Cause.RETRY),
        AttemptEnded(1, 11.5, 2, OK),
        CallEnded(1, 11.5, 2, OK),
    ):
        telemetry(event)
    assert sdk.points("grpc.client.call.duration") == [({"grpc.status": "OK"}, (1, 1.5))]
    assert sdk.points("grpc.client.call.retry_delay") == [({}, (1, 0.25))]
    assert sdk.points("grpc.client.attempt.duration") == [
        ({"grpc.status": "OK"}, (1, 0.5)), ({"grpc.status": "UNAVAILABLE"}, (1, 0.5)),
    ]  # fmt: skip


def test_what_comes_after_the_end_of_a_call_changes_nothing(sdk):
    """A loser that ends late, an attempt that begins late, a second end: no span, no metric, no metadata, nothing kept."""
    telemetry = sdk.observer()
    for event in (CallBegan(1, 0.0, f"/{METHOD}", ()), began(1, 0.0, Cause.FIRST), CallEnded(1, 1.0, 1, OK)):
        telemetry(event)
    before = sdk.points("grpc.client.attempt.duration"), sdk.points("grpc.client.attempt.started"), sdk.ended
    for late in (AttemptEnded(1, 2.0, 1, OK), began(2, 2.0, Cause.HEDGE), CallEnded(1, 3.0, 2, BROKEN)):
        telemetry(late)
    assert telemetry.metadata_for(1, 2) == ()
    assert before == ([({"grpc.status": "CANCELLED"}, (1, 1.0))], [({}, 1)], 2)
    assert before == (
        sdk.points("grpc.client.attempt.duration"), sdk.points("grpc.client.attempt.started"), sdk.ended,
    )  # fmt: skip
    assert (sdk.began, telemetry._calls) == (2, {})


def test_only_ejections_count_as_ejections(sdk):
    """A trial that was cancelled says nothing, and neither does a readmission."""
    telemetry = sdk.observer()
    for event in (Ejected(0.0, HERE, 0.5), Ejected(1.0, HERE, -1e-6), Readmitted(2.0, HERE), Ejected(3.0, HERE, 1.0)):
        telemetry(event)
    assert sdk.points("stormproof.client.ejections") == [({"stormproof.endpoint": "a:1"}, 2)]


def test_no_delay_is_counted_while_another_attempt_is_under_way(sdk):
    """A timetable: a copy is out when the first attempt ends, so that the third begins after no delay."""
    telemetry = sdk.observer()
    for event in (
        CallBegan(1, 0.0, f"/{METHOD}", ()),
        began(1, 0.0, Cause.FIRST),
        began(2, 1.0, Cause.HEDGE),
        AttemptEnded(1, 2.0, 1, BROKEN),
        began(3, 3.0, Cause.HEDGE),
        AttemptEnded(1, 4.0, 3, OK),
        CallEnded(1, 4.0, 3, OK),
    ):
        telemetry(event)
    assert sdk.points("grpc.client.call.hedges") == [({}, (1, 2))]
    assert "grpc.client.call.retry_delay" not in sdk.metrics()


@pytest.mark.parametrize("late", [began(2, 1.0, Cause.HEDGE), AttemptEnded(1, 1.0, 1, OK), None])
def test_a_call_may_end_at_any_moment_of_its_attempts(sdk, late):
    """Another thread ends the call just when an attempt of it begins, ends, or asks for metadata: every span ends once."""
    telemetry = sdk.observer()
    telemetry(CallBegan(1, 0.0, f"/{METHOD}", ()))
    telemetry(began(1, 0.0, Cause.FIRST))

    class Ends(dict):
        """Between finding the call and locking it, the call ends."""

        def get(self, call, default=None):
            found = super().get(call, default)
            telemetry(CallEnded(1, 1.0, 1, OK))
            return found

    telemetry._calls = Ends(telemetry._calls)
    assert telemetry(late) is None if late else telemetry.metadata_for(1, 1) == ()
    assert (telemetry._calls, sdk.began, sdk.ended) == ({}, 2, 2)
    assert sdk.points("grpc.client.attempt.started") == [({}, 1)]
    assert sdk.counts("grpc.client.attempt.duration") == [({"grpc.status": "CANCELLED"}, 1)]


def test_arguments_that_make_no_sense_are_all_named():
    """One ValueError, with the way out."""
    with pytest.raises(ValueError, match="OpenTelemetry: ") as caught:
        OpenTelemetry(target="", methods=["Chat"], tracer_provider=MeterProvider(), meter_provider=7)
    said = str(caught.value)
    assert "target must be a name, such as 'shop'; got ''" in said
    assert "methods must be named '/package.Service/Method', or '/package.Service/' for all of one; got 'Chat'" in said
    assert "tracer_provider must be a TracerProvider of OpenTelemetry, or None for the global one; got" in said
    assert "meter_provider must be a MeterProvider of OpenTelemetry, or None for the global one; got 7" in said
    with pytest.raises(ValueError, match="methods must be a list of names, or None for all; got '/shop.Cart/'"):
        OpenTelemetry(methods="/shop.Cart/")


BLOCKED = """
import sys

class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "opentelemetry":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Nothing())
import stormproof, stormproof.aio, stormproof.server
try:
    import stormproof.otel
except ImportError as error:
    print(error)
"""


def python(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_library_works_without_opentelemetry():
    """Where it is not installed, only stormproof.otel cannot be imported, and it says what to install."""
    assert python(BLOCKED) == "stormproof.otel needs OpenTelemetry: pip install 'stormproof[otel]'"


def test_the_library_does_not_import_opentelemetry():
    """Who does not ask for it does not pay for it."""
    program = "import sys, stormproof, stormproof.aio, stormproof.observer; print('opentelemetry' in sys.modules)"
    assert python(program) == "False"


def test_without_an_sdk_calls_work_and_a_context_from_elsewhere_travels(driver, one):
    """The API alone records nothing; the caller's own trace goes on through the servers."""
    parent = trace.NonRecordingSpan(trace.SpanContext(0xABC, 0xDEF, is_remote=True, trace_flags=trace.TraceFlags(1)))
    with calling(driver, one.addresses, observer=OpenTelemetry()) as client, trace.use_span(parent):
        client.call("x")
    [sent] = one.greeters[0].metadata
    assert sent["traceparent"] == "00-00000000000000000000000000000abc-0000000000000def-01"

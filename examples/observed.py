"""Greets under observation: spans and metrics by OpenTelemetry, and failed attempts by a function of our own.

Start one server (see hello.py), install an SDK (pip install opentelemetry-sdk), and name a port where nobody listens, too:

    python examples/observed.py 50051 50052
"""

import sys

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, MetricsData, PeriodicExportingMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

from protos.hello_pb2 import HelloRequest
from protos.hello_pb2_grpc import HelloStub
from stormproof import Channel, Endpoint
from stormproof.observer import AttemptEnded, Ejected, Event, observers
from stormproof.otel import OpenTelemetry


def span_line(span: ReadableSpan) -> str:
    return f"span: {span.name} {span.status.status_code.name}\n"


def metric_lines(data: MetricsData) -> str:
    scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics]
    return "".join(f"metric: {metric.name} ({metric.unit})\n" for scope in scopes for metric in scope.metrics)


# To see it here, spans and metrics go to standard output; in production they go where your SDK is configured to send them.
tracers = TracerProvider()
tracers.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(formatter=span_line)))
trace.set_tracer_provider(tracers)
meters = MeterProvider([PeriodicExportingMetricReader(ConsoleMetricExporter(formatter=metric_lines))])
metrics.set_meter_provider(meters)

# The first port is asked first; the others stand by.
endpoints = [Endpoint(f"127.0.0.1:{port}", priority=tier) for tier, port in enumerate(sys.argv[1:])]


def watch(event: Event) -> None:
    match event:
        case AttemptEnded(outcome=outcome) if not outcome.ok:
            print(f"attempt {event.attempt} failed: {outcome.code.name}, {outcome.evidence.value}")
        case Ejected(endpoint=endpoint):
            print(f"{endpoint.address} is left out for now")


with Channel(endpoints, observer=observers(OpenTelemetry(target="hello"), watch)) as channel:
    print(HelloStub(channel).SayHello(HelloRequest(name="Ada")).message)

meters.shutdown()
tracers.shutdown()

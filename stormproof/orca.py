"""Load reports as they travel: an xds.data.orca.v3.OrcaLoadReport in the trailing metadata of a call (gRFC A51).

What a report means for an endpoint's weight is decided in stormproof.core.reports. Field numbers: cncf/xds,
xds/data/orca/v3/orca_load_report.proto. Its `rps` (3), deprecated for `rps_fractional`, is not read: gRPC does not either.

gRPC's C core takes the standard trailer for itself: on the wire it is there, but no Python client is shown it (grpcio 1.85.1;
PublishToAppEncoder drops every name that it knows and does not list). So a report travels twice: under the standard name,
for clients in Go, Java and C++, and under the first name that it had in gRPC and Envoy, for us. A server in another
language needs one line to be heard: the same bytes under that name.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any

from google.protobuf.message import DecodeError

from stormproof.core.reports import LoadReport
from stormproof.messages import DOUBLE, message_class

#: Where a report stands in the trailing metadata.
TRAILER = "endpoint-load-metrics-bin"
#: The same, where gRPC for Python lets it be seen.
COPY = "x-endpoint-load-metrics-bin"


@functools.cache
def _message() -> Any:
    return message_class(
        "xds.data.orca.v3.OrcaLoadReport",
        {
            "cpu_utilization": (1, DOUBLE),
            "mem_utilization": (2, DOUBLE),
            "rps_fractional": (6, DOUBLE),
            "eps": (7, DOUBLE),
            "application_utilization": (9, DOUBLE),
        },
        {"request_cost": 4, "utilization": 5, "named_metrics": 8},
    )


def encode(report: LoadReport) -> bytes:
    """The bytes of a report."""
    message = _message()(
        cpu_utilization=report.cpu_utilization,
        mem_utilization=report.mem_utilization,
        application_utilization=report.application_utilization,
        rps_fractional=report.qps,
        eps=report.eps,
        utilization=report.utilization,
        request_cost=report.request_cost,
        named_metrics=report.named_metrics,
    )
    return message.SerializeToString()  # type: ignore[no-any-return]


def decode(data: bytes) -> LoadReport | None:
    """The report in these bytes; None if they are none, or say what cannot be: a server must not break its caller."""
    try:
        message = _message().FromString(data)
        return LoadReport(
            cpu_utilization=message.cpu_utilization,
            mem_utilization=message.mem_utilization,
            application_utilization=message.application_utilization,
            qps=message.rps_fractional,
            eps=message.eps,
            utilization=_dict(message.utilization),
            request_cost=_dict(message.request_cost),
            named_metrics=_dict(message.named_metrics),
        )
    except (DecodeError, ValueError, TypeError):
        return None


def _dict(metrics: Mapping[str, float]) -> dict[str, float]:
    return dict(metrics) if len(metrics) else {}  # a protobuf map is slow to copy, and mostly empty


def trailers(report: LoadReport) -> tuple[tuple[str, bytes], ...]:
    """What to add to the trailing metadata of a call."""
    data = encode(report)
    return (TRAILER, data), (COPY, data)


def report_in(trailing: Iterable[tuple[str, str | bytes]] | None) -> LoadReport | None:
    """The report in the trailing metadata of a call, or None."""
    for key, value in trailing or ():
        if key in (COPY, TRAILER):
            return decode(value) if isinstance(value, bytes) else None
    return None

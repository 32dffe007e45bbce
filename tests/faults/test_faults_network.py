"""Each network fault, written out as the toxics that Toxiproxy's API is sent: its types, streams and units."""

from __future__ import annotations

import pytest

from faults import (
    Bandwidth,
    Blackhole,
    Latency,
    PacketLoss,
    Partition,
    Refuse,
    Reset,
    Slice,
    SlowClose,
    Toxic,
    Truncate,
)
from faults.network import NetworkFault

DOWN, UP = "downstream", "upstream"


@pytest.mark.parametrize(
    ("fault", "toxics"),
    [
        (Latency(0.3), [("latency", DOWN, {"latency": 300, "jitter": 0})]),
        (Latency(0.3, jitter=0.05), [("latency", DOWN, {"latency": 300, "jitter": 50})]),
        (Latency(1, towards="server"), [("latency", UP, {"latency": 1000, "jitter": 0})]),
        (
            Latency(0.25, towards="both"),
            [("latency", UP, {"latency": 250, "jitter": 0}), ("latency", DOWN, {"latency": 250, "jitter": 0})],
        ),
        (Bandwidth(250_000), [("bandwidth", UP, {"rate": 250}), ("bandwidth", DOWN, {"rate": 250})]),
        (Bandwidth(1000, towards="client"), [("bandwidth", DOWN, {"rate": 1})]),
        (Blackhole(), [("timeout", UP, {"timeout": 0}), ("timeout", DOWN, {"timeout": 0})]),
        (Blackhole(towards="client"), [("timeout", DOWN, {"timeout": 0})]),
        (Blackhole(towards="server"), [("timeout", UP, {"timeout": 0})]),
        (Reset(), [("reset_peer", DOWN, {"timeout": 0})]),
        (Reset(after=0.5, towards="server"), [("reset_peer", UP, {"timeout": 500})]),
        (SlowClose(0.5), [("slow_close", DOWN, {"delay": 500})]),
        (
            Slice(10, variation=3, delay=0.001, towards="client"),
            [("slicer", DOWN, {"average_size": 10, "size_variation": 3, "delay": 1000})],
        ),
        (Truncate(100), [("limit_data", DOWN, {"bytes": 100})]),
        (PacketLoss(0.1, towards="server"), [("packet_loss", UP, {"loss_rate": 0.1, "correlation": 0.0})]),
        (Partition(), [("timeout", UP, {"timeout": 0}), ("timeout", DOWN, {"timeout": 0})]),
        (Refuse(), []),
    ],
    ids=str,
)
def test_a_network_fault_is_these_toxics(fault: NetworkFault, toxics: list[tuple[str, str, dict[str, int]]]) -> None:
    """Promise: seconds become milliseconds, bytes a second become KB/s, and harmed replies are `downstream`."""
    assert [(toxic.type, toxic.stream, toxic.attributes) for toxic in fault.toxics()] == toxics
    assert fault.kind == "network"


@pytest.mark.parametrize(
    ("seconds", "milliseconds"),
    [(0.000001, 1), (0.0004, 1), (0.001, 1), (0.0014, 1), (0.0016, 2), (0.29, 290), (3600, 3_600_000)],
)
def test_a_short_time_is_rounded_but_never_to_nothing(seconds: float, milliseconds: int) -> None:
    """Promise: a fault that should act does: what is shorter than a millisecond becomes one."""
    (toxic,) = Latency(seconds, jitter=seconds).toxics()
    assert toxic.attributes == {"latency": milliseconds, "jitter": milliseconds}
    (toxic,) = Reset(after=seconds).toxics()
    assert toxic.attributes == {"timeout": milliseconds}


def test_a_rate_is_rounded_to_kilobytes_of_a_thousand_bytes() -> None:
    """Promise: KB/s are Toxiproxy's: 1000 bytes a second each."""
    assert [Bandwidth(rate, towards="client").toxics()[0].attributes["rate"] for rate in (1499, 1501, 2048)] == [
        1,
        2,
        2,
    ]


def test_the_toxics_of_a_fault_have_names_of_their_own() -> None:
    """Promise: a toxic's name says whose it is, and both directions can be in one proxy together."""
    assert [toxic.name for toxic in Latency(0.3, towards="both").toxics()] == [
        "stormproof_latency_upstream",
        "stormproof_latency_downstream",
    ]


def test_a_toxic_is_a_value() -> None:
    """Promise: equal toxics are one in a set, and a toxic without attributes is fine."""
    assert len({*Reset().toxics(), *Reset(after=0).toxics()}) == 1
    assert Toxic(type="timeout", stream=UP).attributes == {}

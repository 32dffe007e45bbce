"""Faults as values: how they are named, compared and kept, and what is said about bad ones."""

# mypy: disable-error-code="arg-type"
# Wrong types are the point of some tests here.

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, dataclass, fields, replace

import pytest

import faults
from faults import (
    Bandwidth,
    Blackhole,
    ColdStart,
    CpuHog,
    Drain,
    Errors,
    Fault,
    FileDescriptors,
    Hang,
    Kill,
    Latency,
    MemoryHog,
    MemoryLimit,
    Overload,
    PacketLoss,
    Partition,
    Pause,
    Refuse,
    Reset,
    Restart,
    Slice,
    SlowClose,
    StaleHealth,
    Truncate,
    WrongAnswer,
)

NAMED: list[tuple[Fault, str]] = [
    (Latency(0.3), "Latency(0.3)"),
    (Latency(0.300, jitter=0.050), "Latency(0.3, jitter=0.05)"),
    (Latency(0.1 + 0.2, towards="both"), "Latency(0.3, towards='both')"),
    (Latency(1), "Latency(1)"),
    (Bandwidth(250_000), "Bandwidth(250000)"),
    (Bandwidth(1_234_567.0), "Bandwidth(1234567)"),
    (Blackhole(), "Blackhole()"),
    (Blackhole(towards="client"), "Blackhole(towards='client')"),
    (Reset(), "Reset()"),
    (Reset(after=0.5), "Reset(after=0.5)"),
    (Partition(), "Partition()"),
    (MemoryLimit(1000), "MemoryLimit(1000)"),
    (Refuse(), "Refuse()"),
    (Kill(), "Kill()"),
    (Drain(), "Drain()"),
    (Drain(grace=0.5), "Drain(grace=0.5)"),
    (Pause(), "Pause()"),
    (Restart(), "Restart()"),
    (Restart(downtime=2, graceful=False), "Restart(downtime=2, graceful=False)"),
    (Errors(), "Errors(1)"),
    (Errors(0.2, code="INTERNAL"), "Errors(0.2, code='INTERNAL')"),
    (Overload(0, delay=0.5), "Overload(0, delay=0.5)"),
    (SlowClose(0.5), "SlowClose(0.5)"),
    (Slice(10, variation=3, delay=0.001), "Slice(10, variation=3, delay=0.001)"),
    (Truncate(100, towards="server"), "Truncate(100, towards='server')"),
    (PacketLoss(0.1, correlation=0.5), "PacketLoss(0.1, correlation=0.5)"),
    (CpuHog(0.8), "CpuHog(0.8)"),
    (FileDescriptors(left=3), "FileDescriptors(left=3)"),
    (Hang(0.5), "Hang(0.5)"),
    (WrongAnswer(), "WrongAnswer(1)"),
    (ColdStart(0.2, lasting=3), "ColdStart(0.2, lasting=3)"),
    (StaleHealth(), "StaleHealth()"),
    (MemoryHog(1000), "MemoryHog(1000)"),
]


@pytest.mark.parametrize(("fault", "name"), NAMED)
def test_a_fault_is_named_as_it_would_be_written(fault: Fault, name: str) -> None:
    """Promise: a report shows a fault as short Python: positional fields, then what differs from the defaults."""
    assert str(fault) == name
    assert f"{fault}" == name


@pytest.mark.parametrize(("fault", "name"), NAMED)
def test_the_name_of_a_fault_says_all_of_it(fault: Fault, name: str) -> None:
    """Promise: what the report shows can be pasted into a scenario and is the same fault (to 12 digits)."""
    pasted = eval(name)
    assert type(pasted) is type(fault)
    assert [getattr(pasted, f.name) for f in fields(pasted)] == pytest.approx(
        [getattr(fault, f.name) for f in fields(fault)]
    )


@pytest.mark.parametrize("fault", [fault for fault, _ in NAMED], ids=str)
def test_a_fault_is_a_value(fault: Fault) -> None:
    """Promise: faults can be compared, kept in sets, copied and sent to another process, and not be changed."""
    assert copy.deepcopy(fault) == pickle.loads(pickle.dumps(fault)) == replace(fault) == fault
    assert hash(copy.deepcopy(fault)) == hash(fault)
    assert not hasattr(fault, "__dict__")
    for field in fields(fault):
        with pytest.raises(FrozenInstanceError):
            setattr(fault, field.name, 1)


def test_each_kind_of_fault_is_told_apart() -> None:
    """Promise: a fleet can say by kind which faults it can apply."""
    kinds = {type(fault).__name__: fault.kind for fault, _ in NAMED}
    assert kinds == {
        "Latency": "network", "Bandwidth": "network", "Blackhole": "network", "Reset": "network", "Refuse": "network",
        "SlowClose": "network", "Slice": "network", "Truncate": "network", "PacketLoss": "network", "Partition": "network",
        "Kill": "process", "Drain": "process", "Pause": "process", "Restart": "process",
        "CpuHog": "process", "FileDescriptors": "process", "MemoryLimit": "process",
        "Errors": "server", "Overload": "server", "Hang": "server", "WrongAnswer": "server", "ColdStart": "server",
        "StaleHealth": "server", "MemoryHog": "server",
    }  # fmt: skip
    shipped = [getattr(faults, name) for name in faults.__all__]
    assert set(kinds) == {
        f.__name__ for f in shipped if isinstance(f, type) and issubclass(f, Fault) and f is not Fault
    }


def test_somebody_elses_fault_is_named_the_same_way() -> None:
    """Promise: a subclass gets its name in the report without doing anything for it."""

    @dataclass(frozen=True, slots=True)
    class DiskFull(Fault):
        path: str
        left: int = 0

    assert str(DiskFull("/var/lib")) == "DiskFull('/var/lib', 0)"


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Latency(-0.1), "Latency: delay must be a number, from 0 to 3600; got -0.1 (seconds)"),
        (lambda: Latency(3601), "Latency: delay must be a number, from 0 to 3600; got 3601 (seconds)"),
        (lambda: Latency(NAN), "Latency: delay must be a number, from 0 to 3600; got nan (seconds)"),
        (lambda: Latency("0.3"), "Latency: delay must be a number, from 0 to 3600; got '0.3' (seconds)"),
        (lambda: Latency(True), "Latency: delay must be a number, from 0 to 3600; got True (seconds)"),
        (
            lambda: Latency(10**400),
            f"Latency: delay must be a number, from 0 to 3600; got 1{'0' * 400} (seconds)",
        ),
        (
            lambda: Latency(0),
            "Latency: delay or jitter must be more than 0; got 0, which does nothing (leave the fault out instead)",
        ),
        (
            lambda: Errors(0),
            "Errors: rate must be more than 0; got 0, which does nothing (leave the fault out instead)",
        ),
        (
            lambda: Overload(0),
            "Overload: limit or delay must be more than 0; got 0, which does nothing (leave the fault out instead)",
        ),
        (lambda: Latency(0.1, jitter=-1), "Latency: jitter must be a number, from 0 to 3600; got -1 (seconds)"),
        (lambda: Latency(0.1, towards="up"), "Latency: towards must be one of client, server, both; got 'up'"),
        (
            lambda: Latency(-1, jitter=-2, towards="x"),
            "Latency: delay must be a number, from 0 to 3600; got -1 (seconds); "
            "jitter must be a number, from 0 to 3600; got -2 (seconds); "
            "towards must be one of client, server, both; got 'x'",
        ),
        (
            lambda: Bandwidth(999),
            "Bandwidth: rate must be a number, 1000 or more; got 999 "
            "(bytes a second; use Blackhole() to stop all bytes)",
        ),
        (
            lambda: Bandwidth(INF),
            "Bandwidth: rate must be a number, 1000 or more; got inf "
            "(bytes a second; use Blackhole() to stop all bytes)",
        ),
        (lambda: Bandwidth(1000, towards=""), "Bandwidth: towards must be one of client, server, both; got ''"),
        (lambda: Blackhole(towards="all"), "Blackhole: towards must be one of client, server, both; got 'all'"),
        (lambda: Reset(after=-1), "Reset: after must be a number, from 0 to 3600; got -1 (seconds)"),
        (lambda: Reset(towards=None), "Reset: towards must be one of client, server, both; got None"),
        (lambda: Drain(grace=-1), "Drain: grace must be a number, from 0 to 3600; got -1 (seconds)"),
        (lambda: Restart(downtime=-1), "Restart: downtime must be a number, from 0 to 3600; got -1 (seconds)"),
        (lambda: Restart(graceful="no"), "Restart: graceful must be True or False; got 'no'"),
        (
            lambda: SlowClose(0),
            "SlowClose: delay must be more than 0; got 0, which does nothing (leave the fault out instead)",
        ),
        (
            lambda: Slice(10, variation=10),
            "Slice: variation must be a whole number, from 0 to 9; got 10 (bytes, less than size)",
        ),
        (lambda: Slice(0), "Slice: size must be a whole number, from 1 to 2147483647; got 0 (bytes)"),
        (
            lambda: Truncate(1.5),
            "Truncate: after must be a whole number, from 0 to 100000000000; got 1.5 (bytes)",
        ),
        (lambda: PacketLoss(1.5), "PacketLoss: rate must be a number, from 0 to 1; got 1.5 (a fraction)"),
        (
            lambda: PacketLoss(0.1, correlation=-1),
            "PacketLoss: correlation must be a number, from 0 to 1; got -1 (a fraction)",
        ),
        (
            lambda: CpuHog(1),
            "CpuHog: share must be a number, from 0.01 to 0.99; got 1 (a fraction; Pause() takes all of it)",
        ),
        (
            lambda: FileDescriptors(left=-1),
            "FileDescriptors: left must be a whole number, from 0 to 1000000; got -1 (files and connections)",
        ),
        (lambda: Hang(2), "Hang: rate must be a number, from 0 to 1; got 2 (a fraction)"),
        (lambda: WrongAnswer(-1), "WrongAnswer: rate must be a number, from 0 to 1; got -1 (a fraction)"),
        (
            lambda: ColdStart(0.1, lasting=0),
            "ColdStart: lasting must be more than 0; got 0, which does nothing (leave the fault out instead)",
        ),
        (lambda: StaleHealth(serving=1), "StaleHealth: serving must be True or False; got 1"),
        (lambda: MemoryHog(0), "MemoryHog: size must be a whole number, from 1 to 100000000000; got 0 (bytes)"),
        (lambda: Errors(1.5), "Errors: rate must be a number, from 0 to 1; got 1.5 (a fraction)"),
        (
            lambda: Overload(2.5),
            "Overload: limit must be a whole number, from 0 to 1000000; got 2.5 (calls at once; 0 is no limit)",
        ),
        (
            lambda: Overload(-1, delay=-1),
            "Overload: limit must be a whole number, from 0 to 1000000; got -1 (calls at once; 0 is no limit); "
            "delay must be a number, from 0 to 3600; got -1 (seconds)",
        ),
    ],
)
def test_a_bad_value_is_told_with_its_argument_and_bound(make: Callable[[], Fault], message: str) -> None:
    """Promise: the error names fault, argument, bound and value, and every problem at once."""
    with pytest.raises(ValueError, match="^") as error:
        make()
    assert str(error.value) == message


def test_one_of_two_numbers_is_enough_for_a_fault() -> None:
    """Promise: a fault is refused only if it would do nothing at all."""
    assert Latency(0, jitter=0.05).toxics()[0].attributes == {"latency": 0, "jitter": 50}
    assert str(Overload(1)) == "Overload(1)"


@pytest.mark.parametrize("code", ["OK", "unavailable", "NOT_A_CODE", 14])
def test_a_code_that_is_no_error_of_grpc_is_refused(code: str) -> None:
    """Promise: a typo in a status name is found where it is written, with the names there are."""
    with pytest.raises(ValueError, match=rf"Errors: code must be one of CANCELLED, .*, UNAUTHENTICATED; got {code!r}"):
        Errors(code=code)


def test_every_error_status_of_grpc_can_be_injected() -> None:
    """Promise: the list of codes is gRPC's, without OK."""
    import grpc

    assert {Errors(code=status.name).code for status in grpc.StatusCode if status.name != "OK"} == {
        status.name for status in grpc.StatusCode
    } - {"OK"}

"""When a fault acts: spans written out, and the times that make no sense."""

# mypy: disable-error-code="arg-type"
# Wrong types are the point of some tests here.

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from faults import (
    Injection,
    Kill,
    Latency,
    Pause,
    Restart,
    at,
    during,
    every,
    every_so_often,
    named,
    one,
    rolling,
    some,
)
from faults.target import Some


def test_a_fault_acts_during_a_span() -> None:
    """Promise: `during` begins and ends once, on one server unless told otherwise."""
    injection = during(5, 15, Latency(0.3))
    assert injection.spans() == ((5, 15),)
    assert injection.on == one


def test_a_fault_acts_from_a_moment_to_the_end_of_the_run() -> None:
    """Promise: `at` has no end of its own."""
    assert at(2.5, Restart(), on=every).spans() == ((2.5, None),)


@pytest.mark.parametrize(
    ("period", "lasting", "start", "end", "spans"),
    [
        (10, 2, 5, 30, ((5, 7), (15, 17), (25, 27))),
        (10, 2, 0, 20, ((0, 2), (10, 12))),
        (10, 8, 0, 15, ((0, 8), (10, 15))),
        (2, 1, 0, 1.5, ((0, 1),)),
        (10, 9, 1, 3, ((1, 3),)),
        (0.5, 0.25, 1, 2, ((1, 1.25), (1.5, 1.75))),
    ],
)
def test_a_fault_comes_back_every_so_often(
    period: float, lasting: float, start: float, end: float, spans: tuple[tuple[float, float], ...]
) -> None:
    """Promise: it comes back a period after it came, and never acts at or after `end`."""
    injection = every_so_often(period, Pause(), lasting=lasting, start=start, end=end, on=some(2))
    assert injection.spans() == spans


def test_a_period_that_fits_exactly_makes_no_sliver_at_the_end() -> None:
    """Promise: rounding of binary fractions adds no span: tenths of a second fit n times into n tenths."""
    for turns in range(1, 200):
        spans = every_so_often(0.1, Pause(), lasting=0.05, start=0, end=turns * 0.1).spans()
        assert len(spans) == turns
        assert all(end is not None and end - start > 0.04 for start, end in spans)


def test_a_rolling_fault_hits_each_server_in_its_turn() -> None:
    """Promise: server-0 first, each next one a period later; without `lasting` each acts until the run ends."""
    assert [(str(i.on), i.spans()) for i in rolling(1, 2, Pause(), count=3, lasting=0.5)] == [
        ("server-0", ((1, 1.5),)),
        ("server-1", ((3, 3.5),)),
        ("server-2", ((5, 5.5),)),
    ]
    assert rolling(1, 2, Restart(), count=1) == [at(1, Restart(), on=named("server-0"))]
    with pytest.raises(ValueError, match="rolling: count must be a whole number, from 1 to 10000; got 0"):
        rolling(1, 2, Pause(), count=0)


INF = float("inf")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: during(-1, 5, Kill()),
            "start must be a number, 0 or more; got -1 (seconds from the start of the workload)",
        ),
        (
            lambda: at(INF, Kill()),
            "start must be a number, 0 or more; got inf (seconds from the start of the workload)",
        ),
        (lambda: during(5, 5, Kill()), "end must be later than start, 5; got 5"),
        (lambda: during(5, 4.5, Kill()), "end must be later than start, 5; got 4.5"),
        (lambda: during(5, INF, Kill()), "end must be a number, 0 or more; got inf (seconds)"),
        (lambda: during(5, "9", Kill()), "end must be a number, 0 or more; got '9' (seconds)"),
        (
            lambda: during(1, 2, Latency),
            "fault must be one of faults.*, such as Latency(0.3); got <class 'faults.network.Latency'>",
        ),
        (
            lambda: during(1, 2, Kill(), on="server-1"),
            "on must be a target: one, some(n), majority, every or named(...); got 'server-1'",
        ),
        (
            lambda: during(1, 2, Kill(), on=Some),
            "on must be a target: one, some(n), majority, every or named(...); got <class 'faults.target.Some'>",
        ),
        (
            lambda: every_so_often(2, Kill(), lasting=2, start=0, end=9),
            "lasting must be more than 0 and less than period, 2; got 2",
        ),
        (
            lambda: every_so_often(2, Kill(), lasting=0, start=0, end=9),
            "lasting must be more than 0 and less than period, 2; got 0",
        ),
        (
            lambda: every_so_often(0, Kill(), lasting=1, start=0, end=9),
            "lasting must be more than 0 and less than period, 0; got 1",
        ),
        (
            lambda: every_so_often(INF, Kill(), lasting=1, start=0, end=9),
            "period must be a number, 0 or more; got inf (seconds)",
        ),
        (
            lambda: every_so_often("2", Kill(), lasting="1", start=0, end=9),
            "period must be a number, 0 or more; got '2' (seconds); "
            "lasting must be a number, 0 or more; got '1' (seconds)",
        ),
        (
            lambda: Injection(fault=Kill(), on=one, start=0, period=2, lasting=1),
            "end must be given together with period",
        ),
        (
            lambda: Injection(fault=Kill(), on=one, start=0, end=9, lasting=1),
            "period must be given together with lasting",
        ),
        (
            lambda: Injection(fault=Kill(), on=one, start=0, end=9, period=2),
            "lasting must be more than 0 and less than period, 2; got None",
        ),
    ],
)
def test_times_that_make_no_sense_are_refused(make: Callable[[], Injection], message: str) -> None:
    """Promise: the error names the argument, its bound and its value, where the scenario is written."""
    with pytest.raises(ValueError, match="^") as error:
        make()
    assert str(error.value) == f"Injection: {message}"


def test_an_injection_is_a_value() -> None:
    """Promise: injections can be compared, kept in sets and varied."""
    injection = during(5, 15, Latency(0.3), on=named("server-1"))
    assert {injection, during(5, 15, Latency(0.3), on=named("server-1"))} == {injection}
    assert replace(injection, end=20).spans() == ((5, 20),)
    with pytest.raises(ValueError, match="end must be later than start, 5; got 1"):
        replace(injection, end=1)

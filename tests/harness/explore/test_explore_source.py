"""A scenario as Python: what is printed is what was meant."""

from __future__ import annotations

import ast
from dataclasses import dataclass

import pytest
from hypothesis import given, settings

from faults import Errors, Kill, Latency, at, during, every, every_so_often, majority, named, one, some
from harness import (
    Available,
    Client,
    Closed,
    Fast,
    GrpcClient,
    LogNormal,
    NoStrays,
    Poisson,
    Scenario,
    Servers,
    Steady,
)  # fmt: skip
from harness.explore.source import WIDTH, Source, suite
from harness.strategies import scenarios
from stormproof import Code, Failover, PeakEwma, Policy, Retry


def executed(text):
    """What a suite's source defines."""
    names = {}
    exec(compile(text, "a suite", "exec"), names)
    return names


@settings(max_examples=60, deadline=None, database=None)
@given(day=scenarios())
def test_what_is_printed_is_equal_to_the_day(day):
    """Promise: pasted into a suite, the text is the scenario that was found, and there is a test of it."""
    text = suite(day, about="About.", seed=7)
    names = executed(text)
    assert names["BAD_DAY"] == day
    assert callable(names["test_bad_day"])
    assert max(map(len, text.splitlines())) <= WIDTH + 20  # a name may stand over, an argument does not


EVERYTHING = Scenario(
    servers=Servers(
        3, service_time=LogNormal(0.01, sigma=1.0), workers=4, weights=(1.0, 2.0, 0.5), priorities=(0, 0, 1)
    ),
    client=Client(
        balancer=PeakEwma(decay=5.0),
        policy=Policy(timeout=None, retry=Retry(attempts=4, on=frozenset({Code.UNAVAILABLE, Code.ABORTED}))),
        failover=Failover(consecutive=3),
    ),
    workload=Poisson(rate=50, seconds=10),
    faults=[
        at(1.0, Kill()),
        at(2.0, Kill(), on=some(2)),
        during(3.0, 4.0, Errors(0.5, code="ABORTED"), on=majority),
        during(3.0, 4.0, Latency(0.0, jitter=0.1), on=every),
        every_so_often(1.0, Latency(0.1), lasting=0.5, start=1.0, end=9.0, on=named("server-0", "server-2")),
    ],
    guarantees=[Available(0.9), Fast(p99=0.5), NoStrays()],
    patience=2.0,
)


@pytest.mark.parametrize(
    "day",
    [
        EVERYTHING,
        Scenario(
            servers=Servers(1, command=("./my-server", "--port", "{port}", 'a "quoted" word')),
            client=GrpcClient(timeout=1.0),
            workload=Closed(callers=3, seconds=2.0),
            guarantees=[Available(0.5)],
        ),
        Scenario(
            servers=Servers(1),
            client=Client(failover=None),
            workload=Steady(rate=1, seconds=1),
            guarantees=[Available(1)],
        ),
    ],
    ids=["everything", "a server of somebody else's", "no failover"],
)
def test_whatever_can_be_in_a_scenario_can_be_printed(day):
    """Promise: weights, distributions, codes, every kind of target and time, None in place of a default."""
    assert executed(suite(day, about="About.", seed=1))["BAD_DAY"] == day


def test_it_reads_as_one_would_have_written_it():
    """Promise: defaults are left out, arguments named as in the docs, lines folded where they are long, imports sorted."""
    day = Scenario(
        servers=Servers(2),
        client=Client(policy=Policy(timeout=1.0, idempotent=True)),
        workload=Steady(rate=100, seconds=6.0),
        faults=[during(0.5, 1.0, Errors(), on=named("server-0")), at(1.0, Latency(0.3), on=one)],
        guarantees=[NoStrays()],
    )
    assert (
        suite(day, about="About.", seed=7)
        == '''"""About."""

from faults import Errors, Latency, at, during, named
from harness import Client, NoStrays, Scenario, Servers, Steady
from stormproof import Policy

BAD_DAY = Scenario(
    servers=Servers(2),
    client=Client(policy=Policy(timeout=1.0, idempotent=True)),
    workload=Steady(rate=100, seconds=6.0),
    faults=[during(0.5, 1.0, Errors(), on=named("server-0")), at(1.0, Latency(0.3))],
    guarantees=[NoStrays()],
)


def test_bad_day(run):
    run(BAD_DAY).check()  # found with seed 7
'''
    )


@dataclass(frozen=True)
class Errors_(Errors):  # noqa: N801
    """A fault of one's own."""


@dataclass(frozen=True, kw_only=True)
class Policy_:  # noqa: N801
    limit: float = float("inf")


class Home:
    """Where a class of the same name as one of ours lives."""

    @dataclass(frozen=True)
    class Inner:
        value: tuple[int, ...] = ()


@pytest.mark.parametrize("value", [Policy_(limit=float("-inf")), Home.Inner((1,)), Home.Inner((1, 2)), Errors_(0.5)])
def test_classes_of_ones_own_are_imported_from_where_they_are(value):
    """Promise: a client or fault that we do not know is written by its own module and name."""
    source = Source()
    text = source.of(value)
    names = {}
    exec("\n".join(source.imports()), names)
    assert eval(text, names) == value


def test_two_classes_of_one_name_do_not_hide_each_other():
    """Promise: the second is named with its module."""
    source = Source()
    stranger = dataclass(frozen=True)(type("Kill", (), {"__module__": __name__, "__qualname__": "Kill"}))
    assert (source.of(Kill()), source.of(stranger())) == ("Kill()", f"{__name__}.Kill()")
    assert source.imports() == [f"import {__name__}", "from faults import Kill"]
    ast.parse("\n".join(source.imports()))

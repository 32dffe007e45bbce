"""Scenarios go to JSON and back, and say what is wrong with them when they are built."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import suites.test_batch_client_killed as batch
import suites.test_priority_tiers as tiers
import suites.test_quiet_day as quiet
import suites.test_slow_server as slow
import suites.test_torn_stream as torn
from faults import Drain, Errors, Kill, Latency, at, during, every, every_so_often, majority, named, one, some
from harness import (
    Available,
    Batch,
    Client,
    Closed,
    Fast,
    GrpcClient,
    Poisson,
    Scenario,
    Servers,
    Steady,
    Streams,
    Trace,
)
from harness.saboteurs import AlwaysFirst
from harness.scenario import Plan
from harness.values import decode, encode, from_json, to_json
from stormproof import Code, PeakEwma, Policy, Retry, RetryBudget

DAYS = [quiet.QUIET_DAY, slow.SLOW_SERVER, tiers.PRIORITY_TIERS, batch.BATCH_CLIENT_KILLED, torn.READER_KILLED]


@pytest.mark.parametrize("scenario", DAYS, ids=["quiet", "slow", "tiers", "batch", "torn"])
def test_a_scenario_survives_json(scenario):
    """Encoded and decoded it is equal, and the same day is drawn from it."""
    again = decode(encode(scenario))
    assert again == scenario
    assert Plan.draw(again, 7) == Plan.draw(scenario, 7)


def test_json_names_classes_as_people_write_them():
    """What stormproof ships is named shortly; anybody else's class by module and name."""
    assert to_json(Latency(0.3, jitter=0.05)) == {"type": "Latency", "delay": 0.3, "jitter": 0.05, "towards": "client"}
    assert to_json(Client(balancer=AlwaysFirst()))["balancer"] == {"type": "harness.saboteurs.turns:AlwaysFirst"}
    assert from_json({"type": "harness.saboteurs.turns:AlwaysFirst"}) == AlwaysFirst()


@pytest.mark.parametrize(
    "value",
    [
        RetryBudget.unlimited(),
        Retry(on={Code.ABORTED, Code.UNAVAILABLE}),
        every_so_often(2.0, Errors(0.5), lasting=1.0, start=0, end=9, on=some(2)),
        at(1.0, Drain(grace=0.5), on=every),
        [during(1, 2, Latency(0.1), on=target) for target in (one, majority, every, named("server-1"))],
        GrpcClient(timeout=1.0),
        Servers(3, service_time=Trace((0.001, 0.02)), queue=4),
    ],
    ids=["infinity", "sets", "timeline", "drain", "targets", "foreign", "service time"],
)
def test_odd_values_survive_json(value):
    """Infinite budgets, sets of codes, every target."""
    back = decode(encode(value))
    assert back == (tuple(value) if isinstance(value, list) else value)


@dataclass
class NotFrozenButMine:
    """A class of a test's own."""

    answer: int = 42


def test_foreign_classes_are_found_by_module():
    """A class in an importable module needs no registration."""
    assert decode(encode(NotFrozenButMine(7))) == NotFrozenButMine(7)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"type": "Latencyy"}', "no class is named 'Latencyy'"),
        ('{"type": "os:system"}', "'os:system' must be a dataclass"),
        ('{"type": "Latency", "dela": 1}', "Latency cannot be made of dela"),
        ('{"type": "Latency", "delay": -1}', "Latency: delay must be a number"),
    ],
)
def test_bad_json_says_what_is_wrong(text, says):
    """A name that does not exist, one that is no value, and arguments that do not fit."""
    with pytest.raises(ValueError, match=says):
        decode(text)


def test_values_that_are_no_values_are_refused():
    """A scenario with a lambda in it cannot be stored, and says so."""
    with pytest.raises(TypeError, match="cannot be written as JSON"):
        encode({"f": lambda: 1})


GOOD = {
    "servers": Servers(3),
    "client": Client(),
    "workload": Steady(rate=10, seconds=2),
    "guarantees": [Available(0.9)],
}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"servers": 3}, r"servers must be Servers\(n\); got 3"),
        ({"client": None}, "client must be a Client"),
        ({"workload": 5}, "workload must be Poisson, Steady, Closed, Batch or Streams; got 5"),
        (
            {"workload": Streams(rate=1, seconds=1, messages=5), "client": Client(checkpoint_every=5)},
            r"client must say how a stream goes on, .*: Policy\(checkpoint=GREETINGS\); got checkpoint=None",
        ),
        ({"guarantees": []}, "guarantees must hold at least one"),
        ({"guarantees": [Available]}, r"guarantees must be guarantees such as Available\(0.99\)"),
        ({"faults": [Latency(0.3)]}, r"faults\[0\] must be made by at, during or every_so_often"),
        ({"faults": [at(2.0, Latency(0.3))]}, r"faults\[0\] starts at 2 s, when the workload of 2 s is over"),
        ({"patience": -1}, "patience must be a number"),
        ({"patience": 10**400}, "patience must be a number, from 0 to 3600; got 1000"),
        ({"client": Client}, r"client must be a Client\(...\).*; got <class"),
        ({"faults": None}, r"faults must be a list, such as \[at\(1.0, Kill\(\)\)\]; got None"),
        ({"faults": at(1.0, Kill())}, "faults must be a list"),
        ({"guarantees": Available(0.9)}, r"guarantees must be a list, such as \[Available\(0.99\)\]; got Available"),
        (
            {"faults": [at(1.0, Kill()), at(1.0, Kill(), on=named("server-9"))]},
            r"faults\[1\]: Named: no server is named server-9; there are server-0, server-1, server-2, and client",
        ),
        (
            {"faults": [at(1.0, Kill(), on=some(7))]},
            r"faults\[0\]: Some: count must be at most the number of servers, 3; got 7",
        ),
        (
            {"workload": Batch(items=9, seconds=5), "faults": [at(6, Kill())]},
            r"faults\[0\] starts at 6 s, when the workload of 5 s is over",
        ),
    ],
)
def test_a_bad_scenario_says_what_is_wrong(changes, says):
    """Argument, value and way out, when it is built."""
    with pytest.raises(ValueError, match=says):
        Scenario(**{**GOOD, **changes})


def test_a_fault_may_end_after_the_workload():
    """It ends with the run; any iterable of faults will do."""
    day = Scenario(**GOOD, faults=iter([during(1, 60, Kill(), on=named("server-2", "client"))]))
    assert [(planned.on, planned.end) for planned in Plan.draw(day, 1).faults] == [("server-2", 60), ("client", 60)]


def test_all_that_is_wrong_with_a_scenario_is_told_at_once():
    """One error names every argument, those that cannot be looked into, too."""
    with pytest.raises(ValueError, match="^Scenario: ") as error:
        Scenario(servers=3, client=None, workload=None, faults=None, guarantees=None, patience=None)
    for name in ("servers", "client", "workload", "faults", "guarantees", "patience"):
        assert f"{name} must be" in str(error.value)


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: Servers(0), "count must be"),
        (lambda: Servers(3, weights=(1, 2)), "weights must hold one value for each of the 3 servers; got 2"),
        (lambda: Servers(2.5), "count must be a whole number, from 1 to 10000; got 2.5"),
        (lambda: Servers(3, workers=2.5), "workers must be a whole number, from 1 to 10000; got 2.5"),
        (lambda: Servers(2, weights=1), "weights must be a tuple of one number for each server, .*; got 1"),
        (lambda: Servers(2, weights=(-1, 1)), r"weights\[0\] must be a number, from 0 to 1e\+12; got -1"),
        (
            lambda: Servers(2, weights=("a", "b")),
            r"weights\[0\] must be .* got 'a' .*; weights\[1\] must be .* got 'b'",
        ),
        (lambda: Servers(2, priorities=(0.5, 0)), r"priorities\[0\] must be a whole number, from 0 to 1000; got 0.5"),
        (lambda: Servers(1, command=("run",)), r"command must say where the port goes, with \{port\}"),
        (lambda: Servers(1, command=1), r'command must be a tuple of texts, as in \("./my-server", .*; got 1'),
        (lambda: Servers(1, command="run {port}"), "command must be a tuple of texts.*; got 'run {port}'"),
        (lambda: Poisson(rate=0, seconds=1), "rate must be"),
        (lambda: Closed(callers=0, seconds=1), "callers must be"),
        (lambda: Closed(callers=2.5, seconds=1), "callers must be a whole number, from 1 to 1000; got 2.5"),
        (lambda: Batch(items=0), "items must be"),
        (lambda: Streams(rate=1, seconds=1, messages=0), "messages must be a whole number, from 1 to 1000; got 0"),
        (lambda: Streams(rate=0, seconds=0, messages=5), "rate must be .* seconds must be"),
        (lambda: Batch(items=2.5), "items must be a whole number, from 1 to 10000000; got 2.5"),
        (lambda: Poisson(rate=10**400, seconds=1), "rate must be a number, from 0.001 to 100000; got 1000"),
        (lambda: Client(checkpoint_every=0), "checkpoint_every must be"),
        (lambda: Client(policy=None), "policy must be a Policy"),
        (
            lambda: Client(checkpoint_every=2.5),
            "checkpoint_every must be a whole number, from 1 to 1000000000; got 2.5",
        ),
        (lambda: GrpcClient(service_config="{"), "service_config must be JSON"),
        (lambda: GrpcClient(service_config=None), "service_config must be JSON text, such as '{}' .*; got None"),
        (lambda: GrpcClient(timeout="x"), "timeout must be a number, from 0.001 to 86400; got 'x'"),
        (lambda: GrpcClient(timeout=-1), r"timeout must be .*; got -1 \(seconds, or None for no limit\)"),
    ],
)
def test_bad_parts_say_what_is_wrong(build, says):
    """Every value is checked where it is built."""
    with pytest.raises(ValueError, match=says):
        build()


@given(seed=st.integers(0, 2**32))
def test_a_seed_fixes_arrivals_and_targets(seed):
    """The same seed draws the same plan; what is drawn lies within the workload and the fleet."""
    day = replace(slow.SLOW_SERVER, client=Client(balancer=PeakEwma(), policy=Policy()))
    plan = Plan.draw(day, seed)
    assert plan == Plan.draw(day, seed)
    assert list(plan.arrivals) == sorted(plan.arrivals)
    assert 0 <= plan.arrivals[0] <= plan.arrivals[-1] < day.seconds
    assert {planned.on for planned in plan.faults} <= {server.name for server in day.servers.all()}


def test_different_seeds_hit_different_servers():
    """Over twenty seeds every server of four is hit at least once."""
    hit = {Plan.draw(slow.SLOW_SERVER, seed).faults[0].on for seed in range(20)}
    assert hit == {"server-0", "server-1", "server-2", "server-3"}


def test_a_plan_is_a_timetable():
    """What comes back is planned turn by turn, on the same server; in order of time."""
    day = Scenario(
        **{**GOOD, "workload": Steady(rate=10, seconds=9)},
        faults=[
            every_so_often(2.0, Errors(), lasting=0.5, start=1, end=6, on=named("server-2")),
            during(2, 4, Latency(0.1), on=named("server-0")),
        ],
    )
    assert [(str(p.fault), p.on, p.start, p.end) for p in Plan.draw(day, 1).faults] == [
        ("Errors(1)", "server-2", 1.0, 1.5),
        ("Latency(0.1)", "server-0", 2, 4),
        ("Errors(1)", "server-2", 3.0, 3.5),
        ("Errors(1)", "server-2", 5.0, 5.5),
    ]


def test_steady_and_poisson_arrivals():
    """Steady is exact; Poisson has its rate: 10 000 expected arrivals within 6 sigma, seed 1."""
    import random

    assert Steady(rate=4, seconds=1).arrivals(random.Random(1)) == [0.0, 0.25, 0.5, 0.75]
    assert abs(len(Poisson(rate=100, seconds=100).arrivals(random.Random(1))) - 10_000) < 600


def test_failure_messages_show_guarantees_as_people_write_them():
    """Names in reports can be pasted into a suite."""
    assert str(Fast(p99=0.05, grace=1.0)) == "Fast(p99=0.050, grace=1.0)"
    assert json.loads(encode(Available(0.99)))["type"] == "Available"

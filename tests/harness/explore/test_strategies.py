"""Hypothesis strategies for scenarios."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, find, given, settings
from hypothesis import strategies as st

from faults import Errors, Named
from harness import Available, Batch, Client, NoStrays, Scenario, Servers, Steady
from harness.explore.fair import BACK, JUDGED
from harness.fleet.sim.fleet import SimFleet
from harness.runner import run
from harness.strategies import clients, scenarios
from harness.values import decode, encode
from stormproof import LeastRequest, Policy

QUICK = settings(max_examples=50, deadline=None, database=None, suppress_health_check=list(HealthCheck))
MINE = Client(policy=Policy(timeout=0.7))


@QUICK
@given(day=scenarios(servers=(2, 3), faults=(1, 2)))
def test_a_day_is_as_large_as_it_was_asked_to_be_and_goes_to_json_and_back(day):
    """Promise: 2 or 3 servers, 1 or 2 faults, each healed, on servers that are there; a value like any scenario."""
    assert day.servers.count in (2, 3)
    assert len(day.faults) in (1, 2)
    known = {"client", *(server.name for server in day.servers.all())}
    assert all(isinstance(i.on, Named) and set(i.on.names) <= known for i in day.faults)
    assert decode(encode(day)) == day


@QUICK
@given(day=scenarios(client=MINE, guarantees=[Available(0.5)]))
def test_whose_promises_and_which_are_ones_own(day):
    """Promise: a fixed client and fixed guarantees are taken as they are."""
    assert (day.client, day.guarantees) == (MINE, (Available(0.5),))
    assert isinstance(day.workload, Steady)


@QUICK
@given(day=scenarios(client=st.just(Client(checkpoint_every=5))))
def test_a_client_with_checkpoints_works_through_a_batch(day):
    """Promise: its days are batches, on which the client itself may be killed."""
    assert isinstance(day.workload, Batch)


@QUICK
@given(day=scenarios(client=MINE, faults=(1, 3)))
def test_a_day_is_as_long_as_its_faults_need(day):
    """Promise: after the last healing there is time to come back, and time to be judged."""
    last = max(i.start + 1.0 if i.end is None else i.end for i in day.faults)
    assert day.seconds == last + BACK + JUDGED


def test_a_kind_of_fault_on_the_client_is_met_too():
    """Promise: among the days of a batch there are some on which the client is hit."""
    day = find(scenarios(client=Client(checkpoint_every=5)), lambda day: any(str(i.on) == "client" for i in day.faults))
    assert len(day.faults) == 1


def test_the_smallest_day_is_one_that_people_can_read():
    """Promise: shrunk with no reason to be anything else: one server, no fault, the plainest client."""
    assert find(scenarios(guarantees=[NoStrays()]), lambda _: True) == Scenario(
        servers=Servers(1),
        client=Client(policy=Policy(timeout=1.0)),
        workload=Steady(rate=100, seconds=4.0),
        guarantees=[NoStrays()],
    )
    assert find(scenarios(client=MINE, servers=(2, 5), faults=(1, 3)), lambda _: True).faults[0].fault == Errors()
    assert find(clients(), lambda _: True).balancer == LeastRequest()


def test_given_a_day_that_breaks_a_promise_is_looked_for_and_shrunk():
    """Promise: `@given(scenarios(...))` is all that a test needs; it fails with the smallest day."""
    seen = []

    @settings(max_examples=200, deadline=None, database=None, report_multiple_bugs=False)
    @given(day=scenarios(client=MINE, guarantees=[Available(0.95)]))
    def no_day_breaks_it(day):
        if "Available" in run(day, SimFleet(), seed=1, name="a day").broken:
            seen.append(day)
            raise AssertionError("broken")

    with pytest.raises(AssertionError, match="broken"):
        no_day_breaks_it()
    assert (seen[-1].servers.count, len(seen[-1].faults)) == (1, 1)

"""Each suite turns to "broken" when what it is about is taken away from its client: real processes, real faults.

A suite that nothing can break proves nothing. The messages must say what broke, when and where.
"""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from faults import Blackhole, Kill
from harness import GREETINGS
from harness.fleet.sim.fleet import SimFleet
from harness.runner import run as run_once
from harness.saboteurs import AlwaysFirst
from harness.saboteurs.streams import OneEarly
from stormproof import Policy, Retry, RetryBudget
from suites import test_every_kind as every_kind
from suites.test_batch_client_killed import BATCH_CLIENT_KILLED
from suites.test_black_hole import BLACK_HOLE
from suites.test_errors_at_a_rate import ERRORS_AT_A_RATE
from suites.test_lost_acknowledgement import LOST_ACKNOWLEDGEMENT
from suites.test_paused_server import PAUSED_SERVER
from suites.test_quiet_day import QUIET_DAY
from suites.test_torn_stream import TORN_STREAM
from suites.test_total_outage import TOTAL_OUTAGE
from suites.test_unequal_weights import UNEQUAL_WEIGHTS


def without(scenario, **changes):
    """`scenario` with a client that lacks something."""
    return replace(scenario, client=replace(scenario.client, **changes))


NO_TIMEOUT = replace(PAUSED_SERVER.client.policy, timeout=None, attempt_timeout=None)
NO_CARE = replace(TORN_STREAM.client.policy, checkpoint=replace(GREETINGS, resume=OneEarly()))
REPEATS = replace(LOST_ACKNOWLEDGEMENT.client.policy, idempotent=True)


broken = pytest.mark.parametrize(
    ("what", "scenario", "guarantee", "says"),
    [
        pytest.param(
            "the retry", without(ERRORS_AT_A_RATE, policy=Policy(timeout=1.0, retry=None)), "Available",
            r"call \d+ began at \d+\.\d+ s.*server-\d", id="retry",
        ),
        pytest.param(
            "the timeout", without(PAUSED_SERVER, policy=NO_TIMEOUT), "WithinDeadline",
            r"call \d+ began at \d+\.\d+ s", id="timeout",
        ),
        pytest.param(
            "the failover", without(BLACK_HOLE, failover=None), "AvoidsFaulty",
            r"server-\d got 0\.\d+ of \d+ attempts", id="failover",
        ),
        pytest.param(
            "the checkpoint", without(BATCH_CLIENT_KILLED, checkpoint_every=None), "Resumes",
            r"item \d+", id="checkpoint",
        ),
        pytest.param(
            "care with where a stream goes on", without(TORN_STREAM, policy=NO_CARE), "Uncut",
            r"message \d+ came again; heard 1.* from server-\d, \d+.* from server-\d", id="stream",
        ),
        pytest.param(
            "round robin", without(QUIET_DAY, balancer=AlwaysFirst()), "EvenShare",
            r"server-\d got", id="balancer",
        ),
        pytest.param(
            "the weights", without(UNEQUAL_WEIGHTS, balancer=AlwaysFirst()), "WeightedShare",
            r"server-\d got", id="weights",
        ),
        pytest.param(
            "care with what may be done", without(LOST_ACKNOWLEDGEMENT, policy=REPEATS), "AtMostOnce",
            r"call \d+", id="idempotence",
        ),
        pytest.param(
            "the retry budget",
            without(TOTAL_OUTAGE, budget=RetryBudget.unlimited(), policy=Policy(timeout=1.0, retry=Retry(attempts=4))),
            "NoRetryStorm", r"\d\.\d+ attempts", id="budget",
        ),
    ],
)  # fmt: skip


@broken
def test_a_suite_without_what_it_is_about_is_broken(run, what, scenario, guarantee, says):
    """Without it the guarantee is broken, and the message names guarantee, place and time, and how to see it again."""
    result = run(scenario)
    assert guarantee in result.broken, f"without {what}: {result.message()}"
    message = result.message()
    assert re.search(says, message), message
    assert re.search(r"^  " + guarantee + r"\(.*\)  broken: ", message, re.MULTILINE), message
    assert re.search(r"again: stormproof replay --fleet=\w+ --seed=", message)
    with pytest.raises(AssertionError, match=guarantee):
        result.check()


@pytest.mark.servers(every_kind.SERVERS)
@pytest.mark.parametrize(
    ("lacks", "trouble", "method", "driver", "says"),
    [
        ({"checkpoint": None}, Kill(), "SayHelloToEach", "asyncio", "SayHelloToEach failed with UNAVAILABLE"),
        ({"retry": None}, Kill(), "SayHelloToEach", "threads", "SayHelloToEach failed with UNAVAILABLE"),
        ({"idempotent": False}, Blackhole(), "SayHelloToAll", "asyncio", "SayHelloToAll failed with DEADLINE_EXCEEDED"),
    ],
    ids=["checkpoint", "retry", "idempotence"],
)
def test_no_kind_of_call_outlives_what_its_policy_does_not_cover(
    fleet, monkeypatch, lacks, trouble, method, driver, says
):
    """Each part of the policy is needed: without it the suite of all kinds says which call failed, and of what."""
    monkeypatch.setattr(every_kind, "POLICY", replace(every_kind.POLICY, **lacks))
    with pytest.raises(AssertionError, match=says):
        every_kind.test_every_kind_of_call_outlives_every_trouble(fleet, trouble, method, driver)


@broken
@pytest.mark.parametrize("seed", range(1, 6))
def test_it_is_broken_in_virtual_time_too(what, scenario, guarantee, says, seed):
    """The simulator is no place where everything holds: the same guarantee is broken there, on each of five days."""
    result = run_once(scenario, SimFleet(), seed=seed, name="in virtual time")
    assert guarantee in result.broken, f"without {what}: {result.message()}"
    assert re.search(says, result.message()), result.message()

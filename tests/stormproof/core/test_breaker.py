"""Breakers and the pool that asks them, as timetables."""

from __future__ import annotations

import random

import pytest
from machines import ANSWERED, CANCELLED, LOST, REFUSED, WRONG, pool_of

from stormproof.core.breaker import Breaker, State
from stormproof.core.endpoint import Endpoint
from stormproof.core.failover import Failover
from stormproof.core.outcome import OK

RNG = random.Random(1)


def fed(*outcomes, config: Failover | None = None, now: float = 0.0) -> Breaker:
    breaker = Breaker(config or Failover())
    for outcome in outcomes:
        breaker.finished(outcome, now, now, RNG, trial=False)
    return breaker


def test_five_failures_in_a_row_eject():
    """Four are bad luck, five are a dead server; a success in between starts the count anew."""
    assert fed(*[ANSWERED] * 4).state is State.CLOSED
    assert fed(*[ANSWERED] * 5).state is State.OPEN
    assert fed(*[ANSWERED] * 4, OK, *[ANSWERED] * 4).state is State.CLOSED


def test_one_refused_connection_ejects():
    """No connection is no chance: nothing is gained by asking four more times."""
    assert fed(REFUSED).state is State.OPEN


@pytest.mark.guarantee(40, 105)
def test_a_failure_rate_ejects_once_there_are_enough_calls():
    """Two failures in every five calls eject at the twentieth call, and not before."""
    pattern = [ANSWERED, ANSWERED, OK, OK, OK]
    assert fed(*pattern * 3, *pattern[:4]).state is State.CLOSED
    assert fed(*(pattern * 4)[::-1]).state is State.OPEN


@pytest.mark.guarantee(80)
def test_answers_to_bad_requests_and_cancelled_calls_are_no_evidence():
    """INVALID_ARGUMENT and CANCELLED say nothing against the endpoint."""
    assert fed(*[WRONG] * 50, *[CANCELLED] * 50).state is State.CLOSED


def test_old_failures_fade():
    """Failures older than the window do not count with today's."""
    breaker = Breaker(Failover(consecutive=1000))
    for _ in range(15):
        breaker.finished(ANSWERED, 0.0, 0.0, RNG, trial=False)
    for _ in range(15):
        breaker.finished(OK, 20.0, 20.0, RNG, trial=False)
    breaker.finished(ANSWERED, 20.1, 20.1, RNG, trial=False)
    assert breaker.state is State.CLOSED


def test_the_wait_doubles_up_to_its_cap_and_is_shortened_at_random():
    """0.5, 1.0, 1.5, 1.5 seconds, each shortened by up to a fifth."""
    breaker, now, waits = fed(REFUSED), 0.0, []
    for _ in range(4):
        waits.append(breaker.until - now)
        now = breaker.until
        breaker.trial()
        breaker.finished(LOST, now, now, RNG, trial=True)
    for wait, bound in zip(waits, [0.5, 1.0, 1.5, 1.5], strict=True):
        assert 0.8 * bound <= wait <= bound


@pytest.mark.guarantee(78)
def test_a_trial_alone_decides():
    """While half open, what began earlier changes nothing; the trial's success closes, its cancelling makes another due."""
    breaker = fed(REFUSED)
    breaker.trial()
    assert not breaker.finished(LOST, -1.0, 1.0, RNG, trial=False)
    assert breaker.finished(CANCELLED, 1.0, 1.2, RNG, trial=True)
    assert (breaker.state, breaker.until) == (State.OPEN, 1.2)
    breaker.trial()
    assert breaker.finished(OK, 1.2, 1.3, RNG, trial=True)
    assert breaker.state is State.CLOSED


@pytest.mark.guarantee(41, 77, 78)
def test_one_trial_at_a_time_and_none_before_its_time():
    """An ejected endpoint gets no call before its wait is over, then exactly one until that one has ended."""
    pool = pool_of("a", "b")
    flight = pool.begin(0.0)
    pool.finished(flight, REFUSED, 0.0)
    until = pool.members[0].breaker.until
    assert [pool.begin(until - 0.001).member.index for _ in range(3)] == [1, 1, 1]
    trial = pool.begin(until)
    assert (trial.member.index, trial.trial) == (0, True)
    assert [pool.begin(until + 9.0).member.index for _ in range(3)] == [1, 1, 1]
    pool.finished(trial, OK, until + 9.0)
    assert pool.begin(until + 9.0).member.index == 0


def test_all_ejected_is_panic_and_a_success_ends_it_at_once():
    """With every endpoint ejected all are used; the first answer readmits its endpoint without waiting for a trial."""
    pool = pool_of("a", "b")
    for _ in range(2):
        pool.finished(pool.begin(0.0), REFUSED, 0.0)
    assert [m.breaker.state for m in pool.members] == [State.OPEN, State.OPEN]
    flight = pool.begin(0.1)
    pool.finished(flight, OK, 0.2)
    assert pool.members[flight.member.index].breaker.state is State.CLOSED


def test_a_lower_tier_serves_only_when_no_higher_one_can():
    """Priority 1 gets no call while priority 0 lives, all of them while it is ejected, none once it is back."""
    pool = pool_of(Endpoint("near:1"), Endpoint("far:1", priority=1))
    first = pool.begin(0.0)
    assert first.member.index == 0
    pool.finished(first, REFUSED, 0.0)
    assert [pool.begin(0.1).member.index for _ in range(3)] == [1, 1, 1]
    trial = pool.begin(0.6)
    assert trial.member.index == 0
    pool.finished(trial, OK, 0.7)
    assert [pool.begin(0.8).member.index for _ in range(3)] == [0, 0, 0]


def test_a_further_attempt_leaves_its_tier_rather_than_repeat_itself():
    """With every endpoint of the tier tried, a healthy one of the next tier is better than a failed one."""
    pool = pool_of(Endpoint("near:1"), Endpoint("far:1", priority=1))
    flight = pool.begin(0.0)
    pool.finished(flight, ANSWERED, 0.0)
    assert pool.begin(0.0, [flight.member]).member.index == 1


def test_without_failover_nobody_is_ejected():
    """failover=None: failures change nothing, and a further attempt may go where the last one failed."""
    pool = pool_of("a", "b", failover=None)
    for _ in range(20):
        flight = pool.begin(0.0)
        pool.finished(flight, LOST, 0.0)
    assert pool.begin(0.0, [pool.members[0]]).member.index == 0


def test_weight_nought_serves_only_when_no_other_can():
    """An endpoint of weight 0 is never picked while another can be."""
    pool = pool_of(Endpoint("none:1", weight=0.0), Endpoint("all:1"))
    flight = pool.begin(0.0)
    assert flight.member.index == 1
    pool.finished(flight, REFUSED, 0.0)
    assert pool.begin(0.1).member.index == 0


def test_healthy_hosts_are_hardly_ever_ejected():
    """Hosts that fail 1 % of their calls by chance: no ejection in 2000 sweeps of 100 calls, 20 seeds (bound 1e-4 a sweep)."""
    ejected = 0
    for seed in range(20):
        rng, breaker = random.Random(seed), Breaker(Failover())
        for call in range(100 * 100):
            ejected += breaker.finished(ANSWERED if rng.random() < 0.01 else OK, call / 10, call / 10, rng, trial=False)
    assert ejected == 0


def test_hosts_that_fail_half_their_calls_are_found():
    """Failing half of 200 calls (two sweeps of 100) ejects at least 99 % of 1000 hosts; seed 3."""
    rng, found = random.Random(3), 0
    for _ in range(1000):
        breaker = Breaker(Failover())
        found += any(
            breaker.finished(ANSWERED if rng.random() < 0.5 else OK, call / 20, call / 20, rng, trial=False)
            for call in range(200)
        )
    assert found >= 990


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("consecutive", 0, "consecutive must be a whole number, from 1 to 1000"),
        ("rate", 0, "rate"),
        ("base", 0, "base"),
    ],
)
def test_a_bad_failover_names_the_argument_and_its_bound(field, value, says):
    """The message says what was wrong with which argument."""
    with pytest.raises(ValueError, match=says):
        Failover(**{field: value})

"""Endpoints that come and go, as timetables over the pool."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machines import REFUSED, pool_of

from stormproof.core.balancers import LeastRequest, PeakEwma, RandomChoice, RoundRobin
from stormproof.core.breaker import State
from stormproof.core.call import Call, Finish
from stormproof.core.endpoint import Endpoint
from stormproof.core.outcome import OK, Code, Evidence
from stormproof.core.policy import Policy

BALANCERS = [RoundRobin(), RandomChoice(), LeastRequest(), LeastRequest(choices=None), PeakEwma()]


def endpoints(names: str) -> list[Endpoint]:
    return [Endpoint(f"{name}:1") for name in names]


def served(pool, count: int, now: float = 0.0) -> Counter[str]:
    """Who serves `count` calls, one after the other."""
    seen: Counter[str] = Counter()
    for _ in range(count):
        flight = pool.begin(now)
        seen[flight.member.endpoint.address[0]] += 1
        pool.finished(flight, OK, now)
    return seen


@pytest.mark.guarantee(4)
def test_a_new_endpoint_has_its_share_within_one_turn():
    """Round robin over a, b; c joins: of the next three calls each gets one."""
    pool = pool_of("a", "b", balancer=RoundRobin())
    served(pool, 5)
    assert pool.update(endpoints("abc"), 1.0) == (endpoints("c"), [])
    assert served(pool, 3) == {"a": 1, "b": 1, "c": 1}


@pytest.mark.guarantee(3)
@pytest.mark.parametrize("balancer", BALANCERS, ids=str)
def test_an_endpoint_that_left_gets_no_call_and_its_last_ones_finish(balancer):
    """b leaves with a call in flight: no pick returns it, its call finishes, and only then is it let go."""
    pool = pool_of("a", "b", "c", balancer=balancer)
    flights = [pool.begin(0.0) for _ in range(30)]
    on_b = [flight for flight in flights if flight.member.endpoint.address == "b:1"]
    assert on_b
    assert pool.update(endpoints("ac"), 1.0) == ([], endpoints("b"))
    assert "b" not in served(pool, 200, 1.0)
    assert pool.drained == []
    assert pool.knows("b:1")
    for flight in flights:
        pool.finished(flight, OK, 2.0)
    assert [member.endpoint.address for member in pool.drained] == ["b:1"]
    assert not pool.knows("b:1")


def test_an_idle_endpoint_that_left_is_let_go_at_once():
    """b leaves with nothing in flight on it."""
    pool = pool_of("a", "b")
    pool.update(endpoints("a"), 1.0)
    assert [member.endpoint.address for member in pool.drained] == ["b:1"]


def test_one_that_comes_back_while_its_last_call_runs_is_the_same():
    """a leaves and returns before its call ends: the counters stay right, and it is not let go."""
    pool = pool_of("a", "b")
    flight = pool.begin(0.0)
    pool.update(endpoints("b"), 1.0)
    pool.update(endpoints("ab"), 2.0)
    assert [member.in_flight for member in pool.members] == [1, 0]
    pool.finished(flight, OK, 3.0)
    assert [member.in_flight for member in pool.members] == [0, 0]
    assert pool.drained == []


def test_who_stays_keeps_what_is_known_of_it():
    """a is ejected; an update that changes its weight leaves it so, and its trial comes on time."""
    pool = pool_of("a", "b")
    pool.finished(pool.begin(0.0), REFUSED, 0.0)
    pool.update([Endpoint("a:1", weight=3.0), Endpoint("b:1")], 0.1)
    assert served(pool, 10, 0.2) == {"b": 10}
    assert pool.members[0].breaker.state is State.OPEN
    assert served(pool, 1, 1.0) == {"a": 1}


@pytest.mark.guarantee(4, 13)
def test_a_new_weight_counts_from_the_next_turn_on():
    """a and b take turns; then a weighs 3: of each four calls it gets three."""
    pool = pool_of("a", "b", balancer=RoundRobin())
    served(pool, 4)
    pool.update([Endpoint("a:1", weight=3.0), Endpoint("b:1")], 1.0)
    assert [served(pool, 4) for _ in range(5)] == [{"a": 3, "b": 1}] * 5


@pytest.mark.guarantee(2)
def test_a_call_without_endpoints_fails_at_once():
    """Nobody to call: the call finishes with UNAVAILABLE, never sent, in its first step."""
    pool = pool_of()
    [finish] = Call(pool, Policy(timeout=1.0)).begin(0.0)
    assert isinstance(finish, Finish)
    assert (finish.attempt, finish.outcome.code, finish.outcome.evidence) == (0, Code.UNAVAILABLE, Evidence.NEVER_SENT)


def test_a_retry_looks_among_those_who_are_there_now():
    """a refuses, and meanwhile b was replaced by c: the second attempt is on c."""
    pool = pool_of("a", "b")
    call = Call(pool, Policy(timeout=1.0))
    call.begin(0.0)
    pool.update(endpoints("ac"), 0.1)
    [start] = call.finished(1, REFUSED, 0.1)
    assert start.endpoint.address == "c:1"


@pytest.mark.guarantee(3, 5)
@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(BALANCERS),
    st.lists(st.one_of(st.sets(st.sampled_from("abcde"), min_size=1), st.integers(0, 30)), max_size=60),
)
def test_whatever_comes_and_goes_counters_are_right_and_nobody_gone_is_picked(balancer, steps):
    """Hypothesis: any order of updates, begins and ends; the model is a set of names and a list of flights."""
    rng, now = random.Random(1), 0.0
    names, flights, gone = set("abc"), [], set()
    pool = pool_of("a", "b", "c", balancer=balancer)
    for step in steps:
        now += 0.01
        if isinstance(step, set):
            pool.update(endpoints("".join(sorted(step))), now)
            gone |= names - step
            names = step
        elif step % 2 or not flights:
            flights.append(pool.begin(now))
            assert flights[-1].member.endpoint.address[0] in names
        else:
            flight = flights.pop(step % len(flights))
            pool.finished(flight, rng.choice([OK, REFUSED]), now)
        flying = Counter(flight.member.endpoint.address[0] for flight in flights)
        assert {m.endpoint.address[0]: m.in_flight for m in pool.members} == {name: flying[name] for name in names}
        assert all(pool.knows(f"{name}:1") for name in flying)
    for flight in flights:
        pool.finished(flight, OK, now)
    assert {member.endpoint.address[0] for member in pool.drained} <= gone
    assert pool._leaving == {}

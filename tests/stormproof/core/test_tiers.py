"""Priority tiers, zones, spilling over and panic: who may be picked, as tables."""

from __future__ import annotations

from collections import Counter

import pytest
from machines import ANSWERED, REFUSED, pool_of

from stormproof.core.balancers import RandomChoice, RoundRobin
from stormproof.core.breaker import State
from stormproof.core.eligible import tier_loads, tiers
from stormproof.core.endpoint import Endpoint
from stormproof.core.failover import Failover
from stormproof.core.outcome import OK

ENVOY = Failover(spill=1 / 1.4, panic=0.5)


def pool_with(well: dict[str, tuple[int, int]], failover: Failover, balancer=None):
    """A pool whose tiers, named by their addresses' first letter, have so many endpoints, of which so many are well."""
    members = [
        Endpoint(f"{name}{number}:1", priority=tier)
        for tier, (name, (_, count)) in enumerate(well.items())
        for number in range(count)
    ]
    pool = pool_of(*members, failover=failover, balancer=balancer)
    for member in pool.members:
        name, number = member.endpoint.address[0], int(member.endpoint.address[1:-2])
        if number >= well[name][0]:
            member.breaker.state = State.OPEN
    pool._rebuild()
    return pool


def shares(pool) -> list[tuple[int, int]]:
    """Of each tier that serves: its share in per cent, and how many endpoints may be picked."""
    return [(round(share * 100), len(eligible.members)) for share, eligible in tiers(pool.members, pool._failover)]


@pytest.mark.guarantee(46)
@pytest.mark.parametrize(
    ("well", "loads"),
    [  # Envoy's documentation, "Priority levels", overprovisioning factor 1.4
        ((100, 100), [100]),
        ((72, 100), [100]),
        ((71, 100), [99, 1]),
        ((50, 100), [70, 30]),
        ((25, 100), [35, 65]),
        ((25, 25), [50, 50]),
        ((0, 100), [100]),
        ((5, 65), [7, 93]),
        ((100, 100, 100), [100]),
        ((72, 72, 100), [100]),
        ((71, 71, 100), [99, 1]),
        ((50, 50, 100), [70, 30]),
        ((25, 100, 100), [35, 65]),
        ((25, 25, 100), [35, 35, 30]),
    ],
)
def test_tier_loads_are_those_that_envoy_publishes(well, loads):
    """Of so many in 100 that are well in each tier, the tiers that serve get these shares, which sum to 100."""
    names = "abc"
    pool = pool_with({names[i]: (count, 100) for i, count in enumerate(well)}, ENVOY)
    found = [share for share, _ in shares(pool) if share]
    assert sum(found) == 100
    assert all(abs(share - wanted) <= 1 for share, wanted in zip(found, loads, strict=True))


@pytest.mark.guarantee(46)
def test_tier_loads_sum_to_one_or_to_nothing():
    """The formula itself, and the case in which nobody is well."""
    assert tier_loads([1.0, 1.0]) == [1.0, 0.0]
    assert tier_loads([0.5, 0.25]) == pytest.approx([2 / 3, 1 / 3])
    assert tier_loads([0.0, 0.0]) == [0.0, 0.0]


@pytest.mark.guarantee(45)
@pytest.mark.parametrize(("well", "picked"), [(10, 10), (6, 6), (5, 5), (4, 10), (1, 10), (0, 10)])
def test_below_the_panic_threshold_all_are_picked(well, picked):
    """Ten endpoints, threshold 0.5: with five well only these may be picked, with four all ten."""
    pool = pool_with({"a": (well, 10)}, Failover(panic=0.5))
    assert shares(pool) == [(100, picked)]


@pytest.mark.guarantee(45)
def test_a_tier_does_not_panic_while_another_can_serve_its_calls():
    """One of four well in the first tier, all in the second: the ejected of the first stay out."""
    pool = pool_with({"a": (1, 4), "b": (4, 4)}, ENVOY)
    assert shares(pool) == [(35, 1), (65, 4)]


def test_both_tiers_panic_if_they_cannot_serve_together():
    """A quarter of each is well (Envoy's table: panic, 50 : 50)."""
    pool = pool_with({"a": (1, 4), "b": (1, 4)}, ENVOY)
    assert shares(pool) == [(50, 4), (50, 4)]


@pytest.mark.guarantee(47)
def test_without_spill_a_tier_serves_alone_until_nobody_of_it_is_left():
    """The default. The choice is a function of the states: the same states, the same tiers."""
    assert shares(pool_with({"a": (1, 10), "b": (10, 10)}, Failover())) == [(100, 1)]
    assert shares(pool_with({"a": (0, 10), "b": (10, 10)}, Failover())) == [(100, 10)]
    assert shares(pool_with({"a": (0, 10), "b": (0, 10)}, Failover())) == [(100, 20)]


@pytest.mark.guarantee(10, 46)
def test_calls_are_spread_by_the_loads_and_in_turn_within_each_tier():
    """35 : 65 over 20,000 calls of round robin (4 standard deviations: 1.4 %), and even to within one call in each tier."""
    pool = pool_with({"a": (1, 4), "b": (4, 4)}, ENVOY, RoundRobin())
    seen: Counter[str] = Counter()
    for _ in range(20_000):
        flight = pool.begin(0.0)
        seen[flight.member.endpoint.address] += 1
        pool.finished(flight, OK, 0.0)
    assert abs(seen["a0:1"] / 20_000 - 0.35) < 0.0135
    second = [seen[f"b{n}:1"] for n in range(4)]
    assert max(second) - min(second) <= 1


def test_the_own_zone_serves_first():
    """Two zones of one priority: the client's own serves; when it is gone, the other; a lower priority comes last."""
    near, far = Endpoint("near:1", zone="eu"), Endpoint("far:1", zone="us")
    pool = pool_of(far, near, Endpoint("reserve:1", zone="eu", priority=1), failover=Failover(zone="eu"))
    assert pool.begin(0.0).member.endpoint == near
    pool.finished(pool.begin(0.0), REFUSED, 0.0)
    assert pool.begin(0.1).member.endpoint == far


def test_without_a_zone_of_its_own_a_client_prefers_nobody():
    """Failover(zone="") over endpoints of two zones: both are of one tier."""
    pool = pool_of(Endpoint("a:1", zone="eu"), Endpoint("b:1", zone="us"))
    assert shares(pool) == [(100, 2)]


@pytest.mark.guarantee(39)
def test_no_more_than_the_allowed_fraction_is_ejected():
    """Ten endpoints, all refuse in turn: with max_ejected 0.3 three are ejected; with 0 still one."""
    for most, ejected in ((0.3, 3), (0.0, 1), (1.0, 10)):
        pool = pool_of(*"abcdefghij", balancer=RoundRobin(), failover=Failover(max_ejected=most, base=50, cap=50))
        for number in range(40):
            pool.finished(pool.begin(number * 0.001), REFUSED, number * 0.001)
        assert sum(member.breaker.state is State.OPEN for member in pool.members) == ejected


@pytest.mark.guarantee(7)
def test_a_single_endpoint_is_always_picked():
    """Ejected or not, failing or not."""
    pool = pool_of("a", balancer=RandomChoice())
    for number in range(100):
        flight = pool.begin(number * 0.01)
        assert flight.member.endpoint.address == "a:1"
        pool.finished(flight, ANSWERED, number * 0.01)

"""Who is ejected by chance and who is found, over many seeded sweeps; benchmarks/ejection.py measures it at length."""

from __future__ import annotations

import random

import pytest
from machines import ANSWERED, pool_of

from stormproof.core.balancers import RoundRobin
from stormproof.core.breaker import State, by_chance, usual_rate
from stormproof.core.outcome import OK

SWEEP = 10.0


def ejected(chances: list[float], *, calls: int, sweeps: int, seed: int) -> list[int]:
    """The hosts that are ejected, in order, where each fails its calls with its chance."""
    hosts, rng, now = len(chances), random.Random(seed), 0.0
    found: list[int] = []

    def changed(member) -> None:
        if member.breaker.state is State.OPEN:
            found.append(member.index)

    pool = pool_of(*(f"host-{n}" for n in range(hosts)), balancer=RoundRobin(), seed=seed, changed=changed)
    for _ in range(hosts * calls * sweeps):
        flight = pool.begin(now)
        now += SWEEP / (hosts * calls)
        pool.finished(flight, ANSWERED if rng.random() < chances[flight.member.index] else OK, now)
    return found


@pytest.mark.guarantee(43)
@pytest.mark.parametrize("chance", [0.001, 0.01, 0.1, 0.3, 0.5])
def test_of_equally_good_hosts_none_is_ejected_by_chance(chance):
    """No ejection in 20 seeds x 100 host-sweeps of 100 calls. A rule that flags 5 % would pass with 10^-45 (binomial)."""
    assert [ejected([chance] * 10, calls=100, sweeps=10, seed=seed) for seed in range(20)] == [[]] * 20


@pytest.mark.guarantee(44)
@pytest.mark.parametrize("others", [0.0, 0.01, 0.1])
def test_a_host_that_fails_half_its_calls_is_found_within_two_sweeps(others):
    """In all 50 seeds: if it were found in less than 75 % of them, this would pass with a chance under 10^-6."""
    found = [ejected([0.5, *[others] * 9], calls=100, sweeps=2, seed=seed) for seed in range(50)]
    assert all(set(hosts) == {0} for hosts in found)


@pytest.mark.guarantee(44)
def test_two_of_three_dead_hosts_are_found():
    """Most of the pool is down: the third is what is usual, and the two are the outliers."""
    assert set(ejected([1.0, 1.0, 0.0], calls=100, sweeps=1, seed=1)) == {0, 1}


@pytest.mark.guarantee(40, 105)
def test_below_the_minimum_volume_no_rate_counts():
    """Nineteen calls, 10 failed, no five in a row: nothing happens; failures of a mere 1 in 3 never do."""
    pool = pool_of("a", "b")
    for number in range(19):
        pool.finished(pool.begin(number * 0.01), ANSWERED if number % 2 == 0 else OK, number * 0.01)
    assert pool.members[0].breaker.state is State.CLOSED


def test_chance_is_ruled_out_by_chernoffs_bound():
    """Five failures in a row where 1 % is usual: 10^-10. Where a tenth is usual, it takes eight in a row."""
    assert not by_chance(5, 5, 0.01)
    assert by_chance(5, 5, 0.1)
    assert [row for row in range(1, 12) if by_chance(row, row, 0.1)] == [1, 2, 3, 4, 5, 6, 7]
    assert by_chance(10, 20, 0.3)
    assert not by_chance(10, 20, 0.01)


def test_what_is_usual_is_what_the_better_half_does():
    """To one of three, the better one of its two fellows; that is at least 1 %, and more if little is known of failing ones."""
    assert usual_rate([(10, 10), (0, 100)]) == 0.01
    assert usual_rate([(50, 500), (50, 500), (500, 500)]) == pytest.approx(0.1, rel=0.3)
    assert usual_rate([(1, 10)]) == pytest.approx(0.07 + 3 * (0.07 * 0.93 / 15) ** 0.5)
    assert usual_rate([]) == 0.01

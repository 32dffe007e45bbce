"""What Adaptive promises: bad news at once, good news at once, noise believed never, and nobody starved.

Its figures against PeakEwma are made by benchmarks/balancers_sim.py; here are the laws, each over 20 seeds where chance
plays a part.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from itertools import pairwise

import pytest
from machines import ANSWERED, CANCELLED, LOST, pool_of
from scipy.stats import chisquare
from test_balancers import settled, share, simulate

from stormproof.core.balancers import Adaptive
from stormproof.core.balancers.adaptive import DEPTHS, FAILURE
from stormproof.core.endpoint import Endpoint
from stormproof.core.outcome import OK
from stormproof.core.pool import Flight

SEEDS = range(20)


def answer(pool, seconds, now, outcome=OK):
    """One call that took so long."""
    pool.finished(pool.begin(now), outcome, now + seconds)


def test_one_odd_answer_is_noise_and_two_are_a_change():
    """Answers of 10 ms; one of 300 ms moves the belief by a little; a second one is believed; and so is the way back."""
    pool = pool_of("a", balancer=Adaptive())
    load = pool.members[0].load
    for turn in range(200):
        answer(pool, 0.010 * (1.1 if turn % 2 else 0.9), turn)
    answer(pool, 0.300, 200)
    assert 0.009 < load.speed < 0.020
    answer(pool, 0.300, 201)
    assert load.speed == pytest.approx(0.300)
    answer(pool, 0.010, 202)
    assert load.speed > 0.2
    answer(pool, 0.010, 203)
    assert load.speed == pytest.approx(0.010)


@pytest.mark.parametrize("between", [0.0003, 0.010], ids=["fast", "usual"])
def test_odd_answers_by_turns_are_noise(between):
    """Slow and fast, or slow and usual, by turns: neither is believed. It takes two running on the same side."""
    pool = pool_of("a", balancer=Adaptive())
    for turn in range(100):
        answer(pool, 0.010 * (1.1 if turn % 2 else 0.9), turn)
    for turn in range(100, 110):
        answer(pool, 0.300 if turn % 2 else between, turn)
        assert 0.005 < pool.members[0].load.speed < 0.020


def test_what_is_odd_is_asked_again_at_once():
    """An idle endpoint whose answer was odd gets the next call; after a usual one it waits its second."""
    pool = pool_of("a", "b", balancer=Adaptive())
    for turn in range(200):
        answer(pool, 0.010, turn * 0.02)
    flight = pool.begin(4.0)
    pool.finished(flight, OK, 4.3)
    again = pool.begin(4.3)
    assert again.member is flight.member
    pool.finished(again, OK, 4.6)
    assert {pool.begin(4.6).member, pool.begin(4.601).member} == set(pool.members) - {flight.member}


@pytest.mark.guarantee(32)
def test_a_healed_endpoint_whose_odd_answers_disagreed_is_asked_until_it_is_believed():
    """One answers in about 3 ms, the other in 100. That one heals: answers of 20 and 1.5 ms are both odd and are believed by
    their mean, from where 3 ms are not odd. But each answer so quick asks for another at once: no second's rest between."""
    pool = pool_of("a", "b", balancer=Adaptive())
    rng, (ill, well) = random.Random(1), pool.members

    def answers(member, seconds, now):
        flight = Flight(member, now, False)
        member.load.started(flight, now)
        member.load.finished(flight, OK, now + seconds)

    for turn in range(300):
        answers(well, 0.003 * rng.uniform(0.7, 1.4), turn)
        answers(ill, 0.100 * rng.uniform(0.7, 1.4), turn)
    answers(ill, 0.020, 300.0)
    answers(ill, 0.0015, 301.0)
    now, believed = 302.0, [ill.load.speed]
    while believed[-1] > 1.2 * well.load.speed:
        answers(ill, 0.003, now)
        now += 0.003
        believed.append(ill.load.speed)
        assert ill.load.due <= now
    assert 0.005 < believed[0] < 0.006
    assert len(believed) < 10


@pytest.mark.parametrize(("drift", "depth"), [(0.0, 64), (0.1, 8), (0.6, 2)])
def test_the_memory_that_foretells_best_is_learned(drift, depth):
    """Latency with noise of 0.5 that also wanders by `drift` an answer (both of its logarithm): 3000 answers tell."""
    for seed in SEEDS:
        rng, pool, level = random.Random(seed), pool_of("a", balancer=Adaptive()), math.log(0.010)
        for turn in range(3000):
            level += rng.gauss(0.0, drift) - 0.02 * (level - math.log(0.010))
            answer(pool, math.exp(level + rng.gauss(0.0, 0.5)), turn * 10.0)
        assert DEPTHS[pool.picker._learned.depth] == depth


@pytest.mark.guarantee(28)
def test_the_unknown_is_asked_one_call_at_a_time():
    """Of an endpoint never heard from, one call is outstanding until it answers, while others are proven."""
    pool = pool_of(*"abcd", balancer=Adaptive(), seed=4)
    known = [pool.begin(0.0) for _ in range(4)]
    assert {flight.member.index for flight in known} == {0, 1, 2, 3}
    for flight in known:
        pool.finished(flight, CANCELLED if flight.member.index == 2 else OK, 0.010)
    seen = Counter(pool.begin(0.5).member.index for _ in range(200))
    assert seen[2] == 1


@pytest.mark.guarantee(34)
def test_an_endpoint_whose_calls_do_not_end_is_left():
    """Latencies of 10 ms: a call out for 60 outweighs four fresh ones elsewhere, and nobody follows it to the end."""
    pool = pool_of("a", "b", balancer=Adaptive(probe=1e6), seed=2)
    for turn in range(300):
        answer(pool, 0.010, turn * 0.02)
    stuck = pool.begin(6.0).member
    fresh = [pool.begin(6.060) for _ in range(4)]
    assert stuck not in {flight.member for flight in fresh}
    for flight in fresh:
        pool.finished(flight, OK, 6.070)
    for turn in range(200):
        flight = pool.begin(6.1 + turn * 0.02)
        assert flight.member is not stuck
        pool.finished(flight, OK, 6.1 + turn * 0.02 + 0.010)


@pytest.mark.guarantee(32)
@pytest.mark.parametrize(("rate", "took"), [(200, 0.010), (1000, 0.100)], ids=["light", "busy"])
def test_a_slow_server_is_left_and_has_its_share_back_in_a_moment(rate, took):
    """Twelve times slower from 3 to 8 s: under 1.5 % of the calls from 4 to 8 s, a tenth at least (of five) from 10 s."""
    for seed in SEEDS[: 4000 // rate]:
        rng = random.Random(seed)
        slow = lambda index, now: (rng.gauss(took, took / 30) * (12 if index == 0 and 3 <= now < 8 else 1), OK)  # noqa: B023, E731
        seen = simulate(Adaptive(), slow, seconds=12, rate=rate, seed=seed)
        assert share(seen, 0, 4, 8) < 0.015
        assert share(seen, 0, 10, 12) > 0.1


@pytest.mark.guarantee(29)
def test_equal_servers_are_even_whatever_the_noise():
    """Log-normal latencies, sigma 0.5, one call at a time and ten: each of five gets half its fair share at least."""
    for seed in SEEDS:
        for rate in (100, 1000):
            rng = random.Random(seed)
            noisy = lambda index, now: (0.010 * rng.lognormvariate(0, 0.5), OK)  # noqa: ARG005, B023, E731
            seen = simulate(Adaptive(), noisy, seconds=1000 / rate, rate=rate, seed=seed)
            assert min(share(seen, index, 0, 100) for index in range(5)) > 0.1


@pytest.mark.guarantee(30)
def test_slow_ones_are_left_alone_when_there_is_room():
    """Two of five three times slower, calls one at a time: each has under 4 % of the calls, its probes among them."""
    for seed in SEEDS:
        rng = random.Random(seed)
        uneven = lambda index, now: (0.003 * rng.lognormvariate(0, 0.2) * (3 if index > 2 else 1), OK)  # noqa: ARG005, B023, E731
        seen = simulate(Adaptive(), uneven, seconds=10, rate=100, seed=seed)
        assert max(share(seen, 3, 2, 10), share(seen, 4, 2, 10)) < 0.04


@pytest.mark.guarantee(33)
@pytest.mark.parametrize("outcome", [ANSWERED, LOST], ids=["answered", "lost"])
def test_a_server_that_fails_fast_does_not_draw_calls(outcome):
    """It fails in 1 ms where others answer in 10: under a quarter of its fair share, and a failure counts eightfold."""
    sink = lambda index, now: (0.001, outcome) if index == 0 else (0.010, OK)  # noqa: ARG005, E731
    for seed in SEEDS:
        assert share(simulate(Adaptive(), sink, seconds=10, seed=seed), 0, 1, 10) < 0.05
    pool = pool_of("a", balancer=Adaptive())
    answer(pool, 0.010, 0.0)
    for turn in range(1, 20):
        answer(pool, 0.001, turn, outcome)
    assert pool.members[0].load.speed == pytest.approx(0.010 * FAILURE, rel=0.01)


@pytest.mark.guarantee(31)
def test_nobody_is_starved():
    """Every server is asked in every span of two seconds, although one is twenty times slower (probe: one second)."""
    uneven = lambda index, now: (0.200 if index == 4 else 0.010 + 0.004 * index, OK)  # noqa: ARG005, E731
    for seed in SEEDS:
        seen = simulate(Adaptive(), uneven, seconds=12, seed=seed)
        for index in range(5):
            times = [now for now, i in seen if i == index]
            assert max(b - a for a, b in pairwise([0.0, *times, 12.0])) < 2.0


def test_idle_and_alike_they_are_drawn_by_weight():
    """Chi-square over 20 000 calls, one at a time, alpha 1e-6."""
    pool = pool_of(
        *(Endpoint(f"{n}:1", weight=w) for n, w in zip("abcd", (4, 2, 1, 1), strict=True)), balancer=Adaptive()
    )
    settled(pool, [0.010] * 4)
    seen: Counter[int] = Counter()
    for turn in range(20_000):
        flight = pool.begin(turn * 0.02)
        seen[flight.member.index] += 1
        pool.finished(flight, OK, turn * 0.02 + 0.010)
    assert chisquare([seen[index] for index in range(4)], [10_000, 5_000, 2_500, 2_500]).pvalue > 1e-6


def test_busy_and_alike_they_are_filled_by_weight():
    """Weights 4, 2, 1, 1 and 800 calls that stay: in flight are 400, 200, 100, 100, to within 5."""
    pool = pool_of(
        *(Endpoint(f"{n}:1", weight=w) for n, w in zip("abcd", (4, 2, 1, 1), strict=True)), balancer=Adaptive()
    )
    settled(pool, [0.010] * 4)
    for _ in range(800):
        pool.begin(0.010)
    assert [member.in_flight for member in pool.members] == pytest.approx([400, 200, 100, 100], abs=5)


@pytest.mark.guarantee(35)
def test_a_clock_that_jumps_does_no_lasting_harm():
    """Steps of an hour, back and forth: speeds stay finite and positive, and a slow server is still left afterwards."""
    pool, now, rng = pool_of(*"abc", balancer=Adaptive()), 10_000.0, random.Random(1)
    for turn in range(600):
        flight = pool.begin(now)
        if turn in (200, 300, 400):
            now += 3600.0 if turn == 300 else -3600.0
        now += 0.001
        pool.finished(flight, OK, now)
        assert all(0.0 <= member.load.speed < math.inf for member in pool.members)
    seen: Counter[int] = Counter()
    for _ in range(400):
        flight = pool.begin(now)
        now += 0.100 if flight.member.index == 0 else rng.gauss(0.001, 0.0001)
        pool.finished(flight, OK, now)
        seen[flight.member.index] += 1
    assert seen[0] < 40


def test_a_probe_that_makes_no_sense_is_refused():
    """At construction, with the way out."""
    for probe in (0, -1, math.inf, "1"):
        with pytest.raises(ValueError, match="^Adaptive: probe must be a number, from 0.001 to 1e.09 .seconds.; got"):
            Adaptive(probe=probe)

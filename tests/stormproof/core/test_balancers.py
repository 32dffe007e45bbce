"""What each balancer promises about its picks. Claims about chance: chi-square at alpha 1e-6, seeds as written."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machines import ANSWERED, CANCELLED, LOST, picks, pool_of
from scipy.stats import chisquare

from stormproof.core.balancers import Adaptive, ConsistentHash, LeastRequest, PeakEwma, RandomChoice, RoundRobin
from stormproof.core.eligible import whole
from stormproof.core.endpoint import Endpoint
from stormproof.core.outcome import OK

ALL = [
    RoundRobin(), RandomChoice(), LeastRequest(), LeastRequest(choices=3), LeastRequest(choices=None), PeakEwma(),
    Adaptive(), ConsistentHash(header="user-id"),
]  # fmt: skip
ALPHA = 1e-6


def weighted(*weights: float):
    return [Endpoint(f"{chr(97 + i)}:1", weight=w) for i, w in enumerate(weights)]


@pytest.mark.parametrize("balancer", ALL, ids=repr)
@pytest.mark.parametrize("weights", [(1, 1, 1), (5, 1, 1), (1,), (0, 0), (0, 3)], ids=repr)
def test_every_pick_is_one_that_may_be_picked(balancer, weights):
    """Any weights, any number of endpoints: the pick is eligible, and weight 0 is left out while it can be."""
    pool = pool_of(*weighted(*weights), balancer=balancer)
    allowed = {e.address for e in weighted(*weights) if e.weight > 0 or not any(weights)}
    for turn in range(300):
        flight = pool.begin(turn * 0.01)
        assert flight.member.endpoint.address in allowed
        if turn % 3:
            pool.finished(flight, OK, turn * 0.01 + 0.005)


@pytest.mark.parametrize("balancer", ALL, ids=repr)
def test_the_same_seed_picks_the_same(balancer):
    """For every seed and trace of events, picks repeat."""

    def trace(seed: int) -> list[str]:
        pool, rng, now, seen, flying = pool_of(*"abcde", balancer=balancer, seed=seed), random.Random(9), 0.0, [], []
        for _ in range(300):
            now += 0.01
            flying.append(pool.begin(now))
            seen.append(flying[-1].member.endpoint.address)
            if rng.random() < 0.9:
                pool.finished(flying.pop(rng.randrange(len(flying))), rng.choice([OK, OK, ANSWERED]), now)
        return seen

    assert trace(1) == trace(1)
    assert trace(1) != trace(2)


@pytest.mark.parametrize("balancer", ALL, ids=repr)
@pytest.mark.parametrize("outcome", [OK, ANSWERED, LOST, CANCELLED], ids=lambda o: o.code.name)
def test_attempts_in_flight_are_counted_back_to_nought(balancer, outcome):
    """However an attempt ends, its endpoint's count goes down once."""
    pool = pool_of(*"abc", balancer=balancer)
    flights = [pool.begin(0.0) for _ in range(30)]
    assert sum(member.in_flight for member in pool.members) == 30
    for flight in flights:
        pool.finished(flight, outcome, 1.0)
    assert [member.in_flight for member in pool.members] == [0, 0, 0]


@given(count=st.integers(1, 12), seed=st.integers(0, 99), start=st.integers(0, 30))
def test_round_robin_windows_are_permutations(count, seed, start):
    """Every window of n picks over n equal endpoints holds each once."""
    seen = picks(pool_of(*(f"h{i}" for i in range(count)), balancer=RoundRobin(), seed=seed), start + count)
    assert len(set(seen[start:])) == count


@settings(max_examples=60)
@given(weights=st.lists(st.integers(1, 9), min_size=1, max_size=7), seed=st.integers(0, 9), start=st.integers(0, 20))
def test_smooth_round_robin_windows_follow_the_weights_exactly(weights, seed, start):
    """Any window of sum(W) picks holds endpoint i exactly w_i times, and no prefix strays by more than 2 (grpc-go)."""
    pool = pool_of(*weighted(*weights), balancer=RoundRobin(), seed=seed)
    shares = whole(weights)
    seen = picks(pool, start + sum(shares))
    assert sorted(Counter(seen[start:]).items()) == [(f"{chr(97 + i)}:1", w) for i, w in enumerate(shares)]
    for length in range(1, len(seen) + 1):
        for index, share in enumerate(shares):
            assert abs(seen[:length].count(f"{chr(97 + index)}:1") - length * share / sum(shares)) <= 2


def test_smooth_round_robin_does_not_burst():
    """Weights 5, 1, 1: the heavy one is interleaved as in nginx, never called more than three times running."""
    seen = "".join(address[0] for address in picks(pool_of(*weighted(5, 1, 1), balancer=RoundRobin()), 700))
    assert "aaaa" not in seen


@given(weights=st.lists(st.integers(1, 9), min_size=1, max_size=6), scale=st.sampled_from([0.1, 3.0, 1e6, 1 / 3]))
def test_only_the_proportion_of_weights_matters(weights, scale):
    """Weights c * W give the same sequence for every c > 0."""
    plain = picks(pool_of(*weighted(*weights), balancer=RoundRobin()), 60)
    assert plain == picks(pool_of(*weighted(*(w * scale for w in weights)), balancer=RoundRobin()), 60)


def test_fresh_round_robin_channels_start_anywhere():
    """The first pick of 10 000 fresh channels is uniform over 10 endpoints."""
    first = Counter(
        picks(pool_of(*(f"h{i}" for i in range(10)), balancer=RoundRobin(), seed=s), 1)[0] for s in range(10_000)
    )
    assert chisquare(list(first.values())).pvalue > ALPHA
    assert len(first) == 10


@pytest.mark.parametrize("weights", [(1, 1, 1, 1), (5, 2, 1)], ids=repr)
@pytest.mark.parametrize("seed", range(20))
def test_random_choice_follows_the_weights(weights, seed):
    """Chi-square over 20 000 picks; and pairs of picks show no memory (lag-1 transitions)."""
    seen = picks(pool_of(*weighted(*weights), balancer=RandomChoice(), seed=seed), 20_000)
    names = [f"{chr(97 + i)}:1" for i in range(len(weights))]
    due = [w / sum(weights) for w in weights]
    counts = Counter(seen)
    assert chisquare([counts[n] for n in names], [d * len(seen) for d in due]).pvalue > ALPHA
    pairs = Counter(pairwise(seen))
    expected = [x * y * (len(seen) - 1) for x in due for y in due]
    assert chisquare([pairs[a, b] for a in names for b in names], expected, sum_check=False).pvalue > ALPHA


def test_two_choices_take_the_less_loaded():
    """The strictly worst endpoint is never picked, because two different ones are always compared."""
    pool = pool_of(*"abc", balancer=LeastRequest())
    pool.members[0].in_flight = 100
    assert "a:1" not in picks(pool, 60)


def test_scanning_all_finds_the_minimum_with_even_ties():
    """LeastRequest(None) picks a minimum; over ties it is uniform (chi-square, 10 000 picks)."""
    pool = pool_of(*"abcd", balancer=LeastRequest(choices=None))
    pool.members[2].in_flight = 1
    seen: Counter[str] = Counter()
    for _ in range(10_000):
        flight = pool.begin(0.0)
        seen[flight.member.endpoint.address] += 1
        pool.finished(flight, OK, 0.0)
    assert sorted(seen) == ["a:1", "b:1", "d:1"]
    assert chisquare(list(seen.values())).pvalue > ALPHA


@pytest.mark.parametrize("seed", range(20))
def test_two_choices_keep_the_fullest_near_the_mean(seed):
    """Balls into bins, n = 100, m = 100 n: the fullest is at most 5 over the mean (Mitzenmacher; one choice: about 23)."""
    pool = pool_of(*(f"h{i}" for i in range(100)), balancer=LeastRequest(), seed=seed)
    picks(pool, 10_000)
    assert max(member.in_flight for member in pool.members) - 100 <= 5


def test_least_request_draws_idle_endpoints_by_weight():
    """With nothing in flight the shares follow the weights (chi-square, 20 000 picks)."""
    pool = pool_of(*weighted(4, 2, 1, 1), balancer=LeastRequest())
    seen: Counter[str] = Counter()
    for _ in range(20_000):
        flight = pool.begin(0.0)
        seen[flight.member.endpoint.address] += 1
        pool.finished(flight, OK, 0.0)
    assert chisquare([seen[f"{n}:1"] for n in "abcd"], [10_000, 5_000, 2_500, 2_500]).pvalue > ALPHA


def test_choices_out_of_bounds_are_refused():
    """gRFC A48: choice_count from 2 to 10."""
    for choices in (1, 11, 2.5):
        with pytest.raises(ValueError, match="choices must be a whole number, from 2 to 10"):
            LeastRequest(choices=choices)


def settled(pool, latencies, now=0.0):
    """Every member has answered once, in the given times."""
    for member, latency in zip(pool.members, latencies, strict=True):
        while True:
            flight = pool.begin(now)
            if flight.member is member:
                break
            pool.finished(flight, CANCELLED, now)
        pool.finished(flight, OK, now + latency)


def test_peak_ewma_believes_bad_news_at_once_and_good_news_slowly():
    """A slower answer is the estimate at once; a faster one fades it by exp(-dt / decay), to 1e-9 of the model."""
    pool = pool_of("a", balancer=PeakEwma(decay=10.0, probe=100.0))
    load, now, estimate = pool.members[0].load, 0.0, None
    import math

    observed = 0.0
    for gap, latency in [(0, 0.1), (1, 0.5), (2, 0.1), (3, 0.2), (1, 0.9), (4, 0.05)]:
        now += gap
        flight = pool.begin(now)
        pool.finished(flight, OK, now + latency)
        if estimate is None or latency >= estimate:
            estimate = latency
        else:
            keep = math.exp(-(now + latency - observed) / 10.0)
            estimate = estimate * keep + latency * (1 - keep)
        observed = now + latency
        assert load.estimate == pytest.approx(estimate, abs=1e-9)


def test_peak_ewma_asks_the_unknown_one_call_at_a_time():
    """Of an endpoint never heard from, one call is outstanding until it answers, while others are proven."""
    pool = pool_of(*"abc", balancer=PeakEwma(), seed=4)
    settled(pool, [0.01, 0.01, 0.01])
    pool.members[2].load.estimate = None
    seen = Counter(flight.member.index for flight in [pool.begin(1.0) for _ in range(200)])
    assert seen[2] == 1


def test_peak_ewma_leaves_an_endpoint_whose_calls_do_not_end():
    """A call in flight counts with its age: after it has been out for longer than the others take, nobody follows it."""
    pool = pool_of(*"ab", balancer=PeakEwma(), seed=2)
    settled(pool, [0.010, 0.010])
    while pool.begin(1.0).member.index != 0:
        pass
    stuck = pool.members[0]
    for member in pool.members[1:]:
        for flight in list(member.load._flights):
            pool.finished(flight, OK, 1.010)
    before = stuck.in_flight
    for turn in range(100):
        flight = pool.begin(1.1 + turn * 0.02)
        assert flight.member.index == 1
        pool.finished(flight, OK, 1.1 + turn * 0.02 + 0.010)
    assert stuck.in_flight == before


def simulate(balancer, latency, *, seconds, rate=200, count=5, seed=1):
    """Calls at a fixed rate against servers of `latency(index, start)`; the endpoint of each call, by its start."""
    import heapq

    pool, seen, ends = pool_of(*(f"h{i}" for i in range(count)), balancer=balancer, seed=seed, failover=None), [], []
    for call in range(int(seconds * rate)):
        now = call / rate
        while ends and ends[0][0] <= now:
            at, _, flight, outcome = heapq.heappop(ends)
            pool.finished(flight, outcome, at)
        flight = pool.begin(now)
        took, outcome = latency(flight.member.index, now)
        heapq.heappush(ends, (now + took, call, flight, outcome))
        seen.append((now, flight.member.index))
    return seen


def share(seen, index, begin, end):
    window = [i for now, i in seen if begin <= now < end]
    return window.count(index) / len(window)


def test_peak_ewma_leaves_a_slow_server_and_comes_back_in_a_moment():
    """Slow from 5 to 15 s: under 1.5 % of the calls from 6 to 15 s; from 17 s on at least half of its fair share."""
    slow = lambda index, now: (0.6 if index == 0 and 5 <= now < 15 else 0.010, OK)  # noqa: E731
    for seed in range(20):
        seen = simulate(PeakEwma(), slow, seconds=20, seed=seed)
        assert share(seen, 0, 6, 15) < 0.015
        assert share(seen, 0, 17, 20) > 0.1


def test_peak_ewma_is_not_led_by_noise():
    """Equal servers whose latency is noisy (log-normal, sigma 0.5): each gets a tenth of the calls at least, of five."""
    for seed in range(20):
        rng = random.Random(seed)
        noisy = lambda index, now: (0.010 * rng.lognormvariate(0, 0.5), OK)  # noqa: ARG005, B023, E731
        seen = simulate(PeakEwma(), noisy, seconds=10, rate=100, seed=seed)
        assert min(share(seen, index, 0, 10) for index in range(5)) > 0.1


def test_peak_ewma_is_not_drawn_to_a_server_that_fails_fast():
    """A server that fails in 1 ms gets less than its fair share: a failure is no quick answer."""
    sink = lambda index, now: (0.001, ANSWERED) if index == 0 else (0.010, OK)  # noqa: ARG005, E731
    for seed in range(20):
        assert share(simulate(PeakEwma(), sink, seconds=10, seed=seed), 0, 1, 10) < 0.05


def test_peak_ewma_starves_nobody():
    """Every healthy server is asked in every span of two seconds, although one always is a little slower."""
    uneven = lambda index, now: (0.010 + 0.004 * index, OK)  # noqa: ARG005, E731
    for seed in range(20):
        seen = simulate(PeakEwma(), uneven, seconds=12, seed=seed)
        for index in range(5):
            times = [now for now, i in seen if i == index]
            assert max(b - a for a, b in pairwise([0.0, *times, 12.0])) < 2.0

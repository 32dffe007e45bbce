"""What ConsistentHash promises: who a key belongs to, what moves, and how much an endpoint takes.

Hashes of fixed names are no chance: what is said of shares is true or false for good. 5 sigma are those of the ring.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machines import pool_of
from scipy.stats import chisquare

from stormproof.core.balancers import ConsistentHash, Keyed
from stormproof.core.balancers import consistent_hash as module
from stormproof.core.eligible import Eligible
from stormproof.core.endpoint import Endpoint
from stormproof.core.outcome import OK
from stormproof.core.pool import Flight

KEYS = [f"user-{number}" for number in range(500)]
UNBOUND = ConsistentHash(header="user-id", bound=None)


def ring_of(*weights: float, balancer=UNBOUND, names=None, seed=1):
    """A pool of weighted endpoints h0, h1, ..., and all of them as the eligible."""
    names = names or [f"h{index}:1" for index in range(len(weights))]
    endpoints = [Endpoint(name, weight=weight) for name, weight in zip(names, weights, strict=True)]
    pool = pool_of(*endpoints, balancer=balancer, seed=seed, failover=None)
    return pool, Eligible(pool.members)


def begin(pool, key, eligible, tried=()):
    """An attempt for a key, as the pool begins one."""
    member = pool.picker.pick_for(key, eligible, tried, 0.0)
    flight = Flight(member, 0.0, False)
    member.in_flight += 1
    if member.load is not None:
        member.load.started(flight, 0.0)
    return flight


def homes(pool, eligible, keys=KEYS):
    """The address of each key, with nothing in flight."""
    return {key: pool.picker.pick_for(key, eligible, (), 0.0).endpoint.address for key in keys}


@pytest.mark.guarantee(1, 36)
@settings(max_examples=60, deadline=None)
@given(weights=st.lists(st.sampled_from([0.25, 1.0, 2.0, 7.5]), min_size=2, max_size=9), data=st.data())
def test_only_the_keys_of_who_came_or_went_move(weights, data):
    """r goes: only its keys move. It comes back: exactly they move back. And a ring never changed agrees with both."""
    gone = data.draw(st.integers(0, len(weights) - 1))
    pool, everybody = ring_of(*weights)
    others = Eligible(member for member in pool.members if member.index != gone)
    address = f"h{gone}:1"
    before, without, again = (homes(pool, eligible) for eligible in (everybody, others, Eligible(pool.members)))
    assert {key for key in KEYS if before[key] != without[key]} == {key for key in KEYS if before[key] == address}
    assert address not in without.values()
    assert again == before
    assert homes(ring_of()[0], others) == without


@pytest.mark.guarantee(36)
def test_keys_move_only_to_a_new_endpoint_or_one_that_grew():
    """Three become four, then the first gets weight 3: whatever moves, moves there, and something does."""
    small, all_three = ring_of(1, 1, 1)
    grown, all_four = ring_of(1, 1, 1, 1)
    heavy, all_heavy = ring_of(3, 1, 1, 1)
    three, four, uneven = homes(small, all_three), homes(grown, all_four), homes(heavy, all_heavy)
    assert {four[key] for key in KEYS if four[key] != three[key]} == {"h3:1"}
    assert {uneven[key] for key in KEYS if uneven[key] != four[key]} == {"h0:1"}
    grown.members[0].endpoint = Endpoint(
        "h0:1", weight=3
    )  # and the same where a member changes on a ring that is there
    assert homes(grown, Eligible(grown.members)) == uneven
    grown.members[0].endpoint = Endpoint("h0:1")
    assert homes(grown, Eligible(grown.members)) == four


@pytest.mark.guarantee(36)
def test_all_clients_find_the_same_endpoint():
    """Whatever the order of their lists, their seeds, and who was there before: the address and weight decide."""
    pool, everybody = ring_of(1, 2, 1, 0.5)
    names = ["h3:1", "h1:1", "h0:1", "h2:1"]
    other, shuffled = ring_of(0.5, 2, 1, 1, names=names, seed=9)
    homes(other, Eligible(other.members[:1]))
    homes(other, Eligible(other.members[:3]))
    assert homes(other, shuffled) == homes(pool, everybody)
    assert homes(pool, everybody, ["Ada", "Grace", "Edsger", "Tony", "", "\udcff"]) == {
        "Ada": "h1:1", "Grace": "h0:1", "Edsger": "h2:1", "Tony": "h3:1", "": "h1:1", "\udcff": "h0:1",
    }  # fmt: skip


@pytest.mark.guarantee(36)
def test_all_clients_break_ties_alike(monkeypatch):
    """With hashes of six bits most points coincide; still the order of the list does not matter."""
    monkeypatch.setattr(module, "_HASH", 63 << 58)
    pool, everybody = ring_of(1, 1, 1, 1)
    other, reversed_list = ring_of(1, 1, 1, 1, names=["h3:1", "h2:1", "h1:1", "h0:1"])
    assert homes(other, reversed_list) == homes(pool, everybody)


@pytest.mark.guarantee(37)
@pytest.mark.parametrize("weights", [(1,) * 10, (5, 1, 1), (0.5, 1, 2, 4, 8), (0, 0)], ids=repr)
@pytest.mark.parametrize("points", [16, 128, 1000])
def test_shares_follow_the_weights_within_the_variance_of_points(weights, points):
    """50 000 keys: each share is within 5 sigma, the ring's (k of N random points) and the sample's added up."""
    pool, everybody = ring_of(*weights, balancer=ConsistentHash(header="k", bound=None, points=points))
    count = Counter(homes(pool, everybody, [f"k{number}" for number in range(50_000)]).values())
    parts = [(weight or 1) * points for weight in weights]
    for index, part in enumerate(parts):
        mean = part / sum(parts)
        variance = mean * (1 - mean) * (1 / (sum(parts) + 1) + 1 / 50_000)
        assert abs(count[f"h{index}:1"] / 50_000 - mean) < 5 * math.sqrt(variance)


@pytest.mark.guarantee(37)
def test_the_spread_of_shares_is_one_by_the_root_of_the_points():
    """Over 500 equal endpoints the relative standard deviation is within 15 % of that: 4.8 of its own standard errors."""
    for points in (16, 128):
        pool, everybody = ring_of(*[1] * 500, balancer=ConsistentHash(header="k", bound=None, points=points))
        homes(pool, everybody, ["any"])
        ring, share = list(pool.picker._ring), Counter()
        for low, high in zip([ring[-1] - 2**64, *ring], ring, strict=False):
            share[int(high) >> module._SHIFT & module._PLACE] += (high - low) / 2**64
        spread = math.sqrt(sum((part * 500 - 1) ** 2 for part in share.values()) / 500)
        assert spread * math.sqrt(points) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("bound", [1.0, 1.25, 2.0])
def test_nobody_takes_more_than_its_cap_and_nobody_moves_without_need(bound, seed):
    """A trace with hot keys, weights, ejections, returns: a pick keeps ceil(bound * share * calls in flight), or is home."""
    pool, eligible = ring_of(3, 1, 1, 2, 1, balancer=ConsistentHash(header="k", bound=bound))
    at_rest = ring_of()[0].picker
    rng, flying, moved = random.Random(seed), [], Counter()
    for _ in range(3000):
        if rng.random() < 0.01:
            eligible = Eligible(rng.sample(pool.members, rng.randint(1, 5)))
        if flying and rng.random() < 0.48:
            pool.finished(flying.pop(rng.randrange(len(flying))), OK, 0.0)
            continue
        key = f"k{int(rng.paretovariate(2))}"
        flying.append(begin(pool, key, eligible))
        member, home = flying[-1].member, at_rest.pick_for(key, eligible, (), 0.0)
        whole = sum(Fraction(m.endpoint.weight) for m in eligible.members) / sum(m.in_flight for m in eligible.members)
        cap = {m: math.ceil(Fraction(bound) * Fraction(m.endpoint.weight) / whole) for m in (member, home)}
        assert member.in_flight <= cap[member]
        assert member is home or home.in_flight >= cap[home]
        moved[member is not home] += 1
    assert min(moved[False], moved[True]) > 20


def test_a_hot_key_goes_on_round_the_ring_and_comes_home():
    """Ten calls of one key over five endpoints: caps grow with them, and the overflow goes where a retry would."""
    pool, everybody = ring_of(1, 1, 1, 1, 1, balancer=ConsistentHash(header="k"))
    order, tried = [], []
    for _ in range(5):
        tried.append(pool.picker.pick_for("hot", everybody, tried, 0.0))
        order.append(tried[-1].index)
    flights = [begin(pool, "hot", everybody) for _ in range(10)]
    assert [order.index(flight.member.index) for flight in flights] == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]
    for flight in flights:
        pool.finished(flight, OK, 1.0)
    assert begin(pool, "hot", everybody).member.index == order[0]


def test_without_a_bound_a_key_stays_whatever_it_costs():
    """bound=None: a hundred calls at once of one key are on one endpoint."""
    pool, everybody = ring_of(1, 1, 1)
    assert len({begin(pool, "hot", everybody).member for _ in range(100)}) == 1


@pytest.mark.guarantee(36)
@pytest.mark.parametrize("bound", [None, 1.25])
def test_a_retry_goes_where_the_key_would_belong_without_the_tried(bound):
    """And no ring is built for it, nor for an ejection. With all tried it starts again. Untried but full beats tried."""
    pool, everybody = ring_of(1, 1, 1, 1, balancer=ConsistentHash(header="k", bound=bound))
    fresh, _ = ring_of(1, 1, 1, 1)
    home = homes(pool, everybody)
    ring = pool.picker._ring
    for key in KEYS[:100]:
        tried = [pool.picker.pick_for(key, everybody, (), 0.0)]
        rest = Eligible(m for m in fresh.members if m.index != tried[0].index)
        assert pool.picker.pick_for(key, everybody, tried, 0.0).index == fresh.picker.pick_for(key, rest, (), 0.0).index
        assert pool.picker.pick_for(key, everybody, pool.members, 0.0).endpoint.address == home[key]
    homes(pool, Eligible(pool.members[1:]))
    assert pool.picker._ring is ring
    everybody, full = Eligible(pool.members), pool.members[2]
    full.in_flight = 100
    assert pool.picker.pick_for("any", everybody, [m for m in pool.members if m is not full], 0.0) is full
    key = next(key for key in KEYS if home[key] == full.endpoint.address)
    assert (pool.picker.pick_for(key, everybody, pool.members, 0.0) is full) == (bound is None)


def test_who_is_long_gone_leaves_the_ring():
    """A channel whose endpoints all change, a hundred times over, keeps a ring of at most twice who is there."""
    pool, _ = ring_of(*[1] * 100)
    for turn in range(98):
        homes(pool, Eligible(pool.members[turn : turn + 3]), ["any"])
        assert len(pool.picker._ring) <= 2 * 3 * 128
        assert len(pool.picker._owners) <= 6


def test_large_weights_do_not_make_a_large_ring(monkeypatch):
    """Weights of a billion: points are halved until the ring is within its limit, and shares stay in proportion."""
    monkeypatch.setattr(module, "LARGEST_RING", 2**17)  # a sixteenth of it, to be quick
    pool, everybody = ring_of(3e9, 1e9)
    count = Counter(homes(pool, everybody, [f"k{number}" for number in range(2000)]).values())
    assert module.LARGEST_RING / 2 <= len(pool.picker._ring) <= module.LARGEST_RING
    assert 1400 < count["h0:1"] < 1600


@pytest.mark.guarantee(8)
def test_the_same_trace_picks_the_same():
    """Keys, calls without a key, ends, retries: on replay with the same seed every pick is the same."""

    def trace(seed: int) -> list[int]:
        pool, everybody = ring_of(1, 2, 1, 1, balancer=ConsistentHash(header="k"), seed=seed)
        rng, flying, seen = random.Random(3), [], []
        for _ in range(1000):
            if rng.random() < 0.3:
                seen.append(pool.picker.pick(everybody, 0.0).index)
            elif flying and rng.random() < 0.45:
                pool.finished(flying.pop(rng.randrange(len(flying))), OK, 0.0)
            else:
                tried = rng.sample(pool.members, rng.randrange(3))
                flying.append(begin(pool, rng.choice(KEYS), everybody, tried))
                seen.append(flying[-1].member.index)
        return seen

    assert trace(1) == trace(1)
    assert trace(1) != trace(2)  # those without a key


@pytest.mark.guarantee(1, 7)
@pytest.mark.parametrize("weights", [(1,), (0,), (0, 0)], ids=repr)
def test_one_endpoint_and_weights_of_nought(weights):
    """Whatever is in flight or tried, a pick is one that may be picked; two of weight 0 share the keys."""
    pool, everybody = ring_of(*weights, balancer=ConsistentHash(header="k"))
    seen = {begin(pool, key, everybody, tried).member for key in KEYS for tried in ((), pool.members)}
    assert seen == set(pool.members)


def test_calls_without_a_key_go_anywhere_by_weight():
    """Chi-square over 20 000 picks, alpha 1e-6."""
    pool, everybody = ring_of(4, 2, 1, 1, balancer=ConsistentHash(header="k"))
    count = Counter(pool.picker.pick(everybody, 0.0).index for _ in range(20_000))
    assert chisquare([count[index] for index in range(4)], [10_000, 5_000, 2_500, 2_500]).pvalue > 1e-6


def test_the_key_of_a_call():
    """From its metadata, the first of that name, as text; or from a function of request and metadata."""
    by_header = ConsistentHash(header="user-id")
    assert isinstance(by_header, Keyed)
    assert by_header.key_of("request", [("a", "1"), ("user-id", "Ada"), ("user-id", "Grace")]) == "Ada"
    assert by_header.key_of("request", [("user", "Ada")]) is None
    assert by_header.key_of(None, None) is None
    assert ConsistentHash(header="user-bin").key_of(None, (("user-bin", b"\x00\xff"),)) == "\x00\xff"
    by_function = ConsistentHash(key=lambda request, metadata: request and request + metadata[0][1])
    assert by_function.key_of("a", [("b", "c")]) == "ac"
    assert by_function.key_of(None, None) is None
    with pytest.raises(TypeError, match="key must give a text, or None for no key; got 7"):
        ConsistentHash(key=lambda *_: 7).key_of(None, None)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            {},
            "one of header and key must be given, such as header='user-id', and not both; got header=None and key=None",
        ),
        ({"header": "user-id", "key": print}, "one of header and key must be given"),
        ({"header": "User-Id"}, "header must be a metadata name in lower case, such as 'user-id'; got 'User-Id'"),
        ({"header": ""}, "header must be a metadata name in lower case, such as 'user-id'; got ''"),
        ({"header": 3}, "header must be a metadata name .*; got 3"),
        ({"key": "user-id"}, "key must be a function of .request, metadata.; got 'user-id'"),
        ({"header": "k", "bound": 0.9}, "bound must be a number, 1 or more .times the fair share, .*; got 0.9"),
        ({"header": "k", "bound": math.inf}, "bound must be a number"),
        ({"header": "k", "points": 0}, "points must be a whole number, from 1 to 10000 .*; got 0"),
        ({"header": "K", "points": 0.5}, "header must be .*; points must be"),
    ],
)
def test_bad_arguments_say_what_is_wrong(arguments, says):
    """One ValueError, at construction, with all of it."""
    with pytest.raises(ValueError, match=says):
        ConsistentHash(**arguments)

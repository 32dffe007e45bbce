"""What becomes of an answer about endpoints, and when the next one is asked for, as timetables."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from stormproof.core.endpoint import Endpoint
from stormproof.core.resolution import Schedule, endpoints_in, subset

A, B = [Endpoint("a:1")], [Endpoint("a:1"), Endpoint("b:1")]
GOOD, BAD = "good", "bad"


class Undisturbed(random.Random):
    """Chance that takes nothing away."""

    def random(self) -> float:
        return 0.0


def begun(period: float = 10.0, rng: random.Random | None = None) -> Schedule:
    schedule = Schedule(period, rng or Undisturbed())
    schedule.began()
    return schedule


def dues(schedule: Schedule, *ends: str, takes: float = 0.0) -> list[float]:
    """Has resolutions begin whenever one is due, and end so, `takes` seconds later. When the next ones were due."""
    now, found = 0.0, []
    for end in ends:
        schedule.began()
        now += takes
        schedule.found(A, now) if end is GOOD else schedule.failed(now)
        now = schedule.due
        found.append(round(now, 6))
    return found


def test_the_first_resolution_is_due_at_once_and_none_while_one_is_under_way():
    """Nobody waits a period for the first endpoints, and a slow resolver is not asked twice at a time."""
    schedule = Schedule(10.0, Undisturbed())
    assert schedule.due == float("-inf")
    schedule.began()
    assert schedule.due == float("inf")


def test_a_good_answer_is_asked_for_again_a_period_after_it_came():
    """Also while everything is well; the period counts from the end, so that a slow resolver has a rest."""
    assert dues(Schedule(10.0, Undisturbed()), GOOD, GOOD, GOOD) == [10.0, 20.0, 30.0]
    assert dues(Schedule(10.0, Undisturbed()), GOOD, GOOD, takes=4.0) == [14.0, 28.0]


def test_failures_are_tried_again_from_a_tenth_of_a_second_doubling_to_the_period():
    """0.1, 0.2, 0.4 ... and then every period; one success, and the next failure begins at 0.1 again."""
    waits = dues(Schedule(1.0, Undisturbed()), *[BAD] * 6, GOOD, BAD)
    assert waits == [0.1, 0.3, 0.7, 1.5, 2.5, 3.5, 4.5, 4.6]


def test_a_period_under_a_tenth_of_a_second_is_the_longest_wait():
    """Failing does not make anybody wait longer than succeeding."""
    assert dues(Schedule(0.05, Undisturbed()), BAD, BAD, GOOD) == [0.05, 0.1, 0.15]


def test_waits_are_shortened_evenly_by_up_to_a_tenth():
    """Kolmogorov-Smirnov against the uniform distribution on 9 to 10 s, N = 2000 clients, seeds 0 to 1999, alpha 1e-6."""
    waits = [dues(Schedule(10.0, random.Random(seed)), GOOD)[0] for seed in range(2000)]
    assert stats.kstest(waits, stats.uniform(9.0, 1.0).cdf).pvalue > 1e-6


def test_clients_that_begin_together_do_not_stay_together():
    """After ten periods 100 clients are spread over more than a second. The same seed is the same timetable."""
    tenth = [dues(Schedule(10.0, random.Random(seed)), *[GOOD] * 10)[-1] for seed in range(100)]
    assert max(tenth) - min(tenth) > 1.0
    assert tenth[7] == dues(Schedule(10.0, random.Random(7)), *[GOOD] * 10)[-1]


def test_soon_is_a_second_after_the_last_one_and_never_later_than_planned():
    """Twenty calls that fail at once ask once; where the next one is due before that, nothing changes."""
    schedule = begun()
    schedule.found(A, 0.0)
    schedule.soon(0.25)
    schedule.soon(0.5)
    assert schedule.due == 1.0
    schedule.began()
    schedule.found(A, 1.0)
    schedule.soon(7.0)
    assert schedule.due == 7.0
    schedule.began()
    schedule.failed(7.0)
    schedule.soon(7.0)
    assert schedule.due == 7.1


def test_soon_during_a_resolution_asks_for_another_one():
    """Its answer may be older than the reason for asking. One is enough, however often it was asked for."""
    schedule = begun()
    schedule.soon(1.0)
    schedule.soon(2.0)
    schedule.found(A, 3.0)
    assert schedule.due == 4.0
    schedule.began()
    schedule.found(A, 4.0)
    assert schedule.due == 14.0


def test_soon_before_the_first_resolution_changes_nothing():
    """That one is due at once anyway, and the one after it in a period."""
    schedule = Schedule(10.0, Undisturbed())
    schedule.soon(0.0)
    assert dues(schedule, GOOD) == [10.0]


@pytest.mark.parametrize(
    ("after", "news"),
    [
        (B, False),
        (B[::-1], False),
        (A, True),
        ([*B, Endpoint("c:1")], True),
        ([B[0], Endpoint("b:1", weight=2.0)], True),
        ([B[0], Endpoint("b:1", priority=1)], True),
    ],
)
def test_news_is_another_set_of_endpoints(after, news):
    """One more, one less, another weight or tier; the order is none, because DNS turns it each time."""
    schedule = begun()
    assert schedule.found(B, 0.0)
    assert schedule.found(after, 10.0) is news


def test_a_failure_is_no_news():
    """What was told stays, and is not told again when the same comes back."""
    schedule = begun()
    assert not schedule.knows
    assert schedule.found(A, 0.0)
    schedule.failed(10.0)
    assert schedule.knows
    assert not schedule.found(A, 20.0)


def test_what_was_not_taken_is_news_again():
    """An answer that the channel failed to take must not be lost until the next change."""
    schedule = begun()
    assert schedule.found(A, 0.0)
    schedule.not_taken()
    assert schedule.found(A, 10.0)


def read(*values: object) -> tuple[list[Endpoint], list[str]]:
    return endpoints_in((f"[{index}]", value) for index, value in enumerate(values))


@pytest.mark.guarantee(9)
def test_an_address_that_is_named_twice_is_one_endpoint_and_its_weights_add_up():
    """ "It is intended to indicate that the address should be more heavily weighted" (gRFC A48)."""
    assert read("a:1", "b:1", Endpoint("a:1", weight=2.0)) == ([Endpoint("a:1", weight=3.0), Endpoint("b:1")], [])


def test_an_address_in_two_tiers_is_refused():
    """There is no telling which is meant."""
    found, (problem,) = read("a:1", Endpoint("a:1", priority=1))
    assert found == A
    assert problem.startswith("[1]: a:1 is named before with other properties; got Endpoint(address='a:1'")


@pytest.mark.parametrize(
    "address",
    ["10.0.0.1:50051", "[::1]:1", "[fe80::1%eth0]:65535", "my_cart.shop-1:80", "unix:/run/cart", "dns:///cart:50051"],
)
def test_addresses_as_grpc_writes_them_are_taken(address):
    """IPv4, IPv6 in brackets, names, and the schemes that gRPC resolves itself."""
    assert read(address) == ([Endpoint(address)], [])


@pytest.mark.parametrize(
    "value",
    [
        "10.0.0.1", "10.0.0.1:", "10.0.0.1:5005x", "a:0", "a:65536", ":50051", "::1:50051", "http://a:1", "- a:1", '"a:1"',
        "a:1,b:1", "", 50051, None, ("a", 1), {"address": "a:1"}, b"a:1",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused_with_its_place(value):
    """Cut off, something else, or of another type: it would be an endpoint that nobody can reach."""
    (problem,) = read("a:1", value)[1]
    assert problem.startswith("[1]: ")
    assert "address must be" in problem
    assert problem.endswith(f"got {value!r}")


def test_an_answer_without_an_address_is_refused():
    """Nobody wants to call nobody: an empty answer is a mistake of whoever gives it."""
    assert read() == ([], ["no address is in it; at least one is needed, such as '10.0.0.1:50051'"])


names = st.integers(0, 200).map(lambda n: f"server-{n}:1")
fleets = st.sets(st.builds(Endpoint, names, priority=st.integers(0, 2)), min_size=1, max_size=60).map(
    lambda found: list({endpoint.address: endpoint for endpoint in found}.values())
)


def part(endpoints: list[Endpoint], size: int, identity: str = "client-7") -> set[Endpoint]:
    return set(subset(endpoints, size, identity))


@pytest.mark.guarantee(38)
@given(fleets, st.integers(1, 70), st.text(st.characters(exclude_categories=["Cs"])))
def test_a_subset_has_its_size_in_each_tier_or_the_whole_tier(fleet, size, identity):
    """size == min(k, n), of endpoints that are there, each once."""
    chosen = subset(fleet, size, identity)
    assert set(chosen) <= set(fleet)
    for tier in range(3):
        there = sum(endpoint.priority == tier for endpoint in fleet)
        assert sum(endpoint.priority == tier for endpoint in chosen) == min(size, there)


@pytest.mark.guarantee(38)
@settings(max_examples=300)
@given(fleets, st.integers(1, 70), st.integers(0, 2))
def test_one_endpoint_more_or_less_changes_at_most_one_of_a_subset(fleet, size, tier):
    """Whoever comes takes at most one place, and whoever goes leaves at most one free."""
    without, joined = part(fleet, size), part([*fleet, Endpoint("another:1", priority=tier)], size)
    assert len(joined - without) <= 1
    assert len(without - joined) <= 1


@pytest.mark.guarantee(38)
@given(fleets, st.integers(1, 70), st.randoms(use_true_random=False))
def test_a_subset_does_not_depend_on_the_order_of_the_answer(fleet, size, rng):
    """DNS turns its answers; that must not cost a connection. Nor does anything but the address choose."""
    turned = rng.sample(fleet, len(fleet))
    assert part(turned, size) == part(fleet, size)


@pytest.mark.guarantee(38)
def test_many_clients_together_are_even():
    """Chi-square of clients per server: 20 fleets x 50 servers, subsets of 10, 600 clients each; alpha 1e-6 each.

    Without replacement the counts vary less: (n-1)/(n-k) of the statistic has the chi-square distribution with n-1 degrees
    of freedom. Expected are 120 clients a server. A server with 1.6 times its share is found in half of the fleets: with
    power > 0.99 in the twenty.
    """
    servers, size, clients = 50, 10, 600
    expected = clients * size / servers
    for seed in range(20):
        fleet = [Endpoint(f"10.{seed}.0.{n}:50051") for n in range(servers)]
        counts = dict.fromkeys(fleet, 0)
        for client in range(clients):
            for chosen in subset(fleet, size, f"client-{client}"):
                counts[chosen] += 1
        statistic = sum((count - expected) ** 2 / expected for count in counts.values())
        scaled = statistic * (servers - 1) / (servers - size)
        assert stats.chi2.sf(scaled, servers - 1) > 1e-6, (seed, counts)

"""EvenShare and WeightedShare."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from histories import call, changed, fault, history, journal, steady

from harness.guarantees import EvenShare, WeightedShare
from harness.history import Server

UNEQUAL = (Server(name="server-0", weight=3.0), Server(name="server-1"), Server(name="server-2", weight=0.0))


@pytest.mark.parametrize("seed", range(20))
def test_random_choice_keeps_it(seed):
    """2000 calls at random over five servers, 20 seeds; error rate 1e-6 each."""
    rng = random.Random(seed)
    calls = steady(2000, on=lambda _: f"server-{rng.randrange(5)}")
    assert EvenShare().check(history(calls)).verdict == "held"


def test_round_robin_keeps_it():
    """More even than chance is no breach."""
    verdict = EvenShare().check(history(steady(2000)))
    assert (verdict.verdict, verdict.bound) == ("held", "the same share for each")
    assert verdict.measured == "server-0 got 0.200, due 0.200, of 2000 calls, furthest from its due"


def test_a_hot_spot_breaks_it():
    """Every second call of server-0 goes to server-4."""
    verdict = EvenShare().check(history(steady(2000, on=lambda n: "server-4" if n % 10 == 0 else f"server-{n % 5}")))
    assert verdict.verdict == "broken"
    assert verdict.measured == "server-0 got 0.100, due 0.200, of 2000 calls, furthest from its due"
    assert verdict.why == (
        "server-0 got 0.100, due 0.200",
        "server-4 got 0.300, due 0.200",
        "server-1 got 0.200, due 0.200",
        "chance explains such counts with probability 4e-42 (chi-square)",
        "while no fault acted, nor within 2 s of a healing",
    )


def test_a_server_without_any_call_is_found_at_once():
    """Long before chi-square may be asked: 80 calls over four of five servers."""
    verdict = EvenShare().check(history(steady(80, servers=4)))
    assert (verdict.verdict, verdict.why[0]) == ("broken", "no call at all of 80: server-4")
    assert EvenShare(within=0.5).check(history(steady(80, servers=4))).verdict == "broken"


def test_few_calls_do_not_tell():
    """Fifty are expected on each server, or none can be judged; none at all say nothing."""
    verdict = EvenShare().check(history(steady(245)))
    assert (verdict.verdict, verdict.why) == (
        "unknown",
        ("245 calls counted, 250 needed to expect 50 on every server",),
    )
    assert EvenShare().check(history([])).why == (
        "no first attempt of a call that was due while no fault acted, nor within 2 s of a healing",
    )


def test_within_allows_a_stated_bias_and_no_more():
    """server-0 gets 0.22 instead of 0.20: a tenth more. within=0.1 allows it, 0.02 does not."""
    calls = steady(20_000, on=lambda n: "server-0" if n % 40 == 1 else f"server-{n % 5}")
    assert EvenShare(within=0.15).check(history(calls)).verdict == "held"
    verdict = EvenShare(within=0.02).check(history(calls))
    assert (verdict.verdict, verdict.bound) == ("broken", "the same share for each, within 0.02 of it")
    assert verdict.measured == "server-0 got 0.225, due 0.200, of 20000 calls, furthest from its due"


def test_a_bias_that_chance_may_have_made_is_unknown():
    """0.210 instead of 0.200 of a thousand calls: out of the band of 0.02, within its interval."""
    calls = steady(1000, on=lambda n: "server-0" if n % 100 == 1 else f"server-{n % 5}")
    verdict = EvenShare(within=0.02).check(history(calls))
    assert verdict.verdict == "unknown"
    assert verdict.why == (
        "server-0 is off its due, but 1000 calls cannot tell that from chance (broken is below 1e-06)",
    )


def test_retries_and_calls_under_a_fault_do_not_count():
    """All first attempts are even; second ones go to server-0, as do all calls while a fault acts."""
    calls = [call(n, [f"server-{n % 5}", "server-0"]) for n in range(2000)]
    calls = changed(calls, lambda o: 5 <= o.due < 15, lambda o: call(o.id, "server-0"))
    assert EvenShare().check(history(calls, faults=[fault()])).verdict == "held"
    assert EvenShare().check(history(calls)).verdict == "broken"


def test_a_healed_server_has_two_seconds_to_get_its_share_back():
    """Nothing goes to server-4 until 1.9 s after the healing; `grace` says how long that may take."""
    calls = [call(n, f"server-{n % (4 if 300 <= n < 3380 else 5)}", at=n / 200) for n in range(3600)]
    for promise in (EvenShare, WeightedShare):
        assert promise().check(history(calls, faults=[fault(1.5)])).verdict == "held"
        assert promise(grace=0.0).check(history(calls, faults=[fault(1.5)])).verdict == "broken"
    never = EvenShare().check(history(calls, faults=[fault(1.5, None)]))
    assert (never.verdict, never.measured.split(", ")[2]) == ("held", "of 300 calls")


def test_servers_of_a_higher_priority_number_are_not_due_a_share():
    """Two reserves that nobody calls."""
    fleet = [Server(name=f"server-{n}", priority=int(n > 2)) for n in range(5)]
    assert EvenShare().check(history(steady(2000, servers=3), fleet)).verdict == "held"


def test_journals_tell_where_the_client_does_not():
    """Somebody else's client: the first request of each call counts."""
    calls = [call(n, [f"server-{n % 5}", "server-0"]) for n in range(2000)]
    silent = [replace(o, attempts=()) for o in calls]
    assert EvenShare().check(history(silent, executions=journal(calls))).verdict == "held"
    hot = journal(steady(2000, servers=4))
    assert EvenShare().check(history(silent, executions=hot)).verdict == "broken"


def test_weights_are_kept():
    """3 : 1 : 0 as asked."""
    calls = steady(2000, on=lambda n: "server-1" if n % 4 == 0 else "server-0")
    assert WeightedShare().check(history(calls, UNEQUAL)).verdict == "held"
    assert WeightedShare(within=0.1).check(history(calls, UNEQUAL)).verdict == "held"
    assert EvenShare().check(history(calls, UNEQUAL)).verdict == "broken"


def test_weights_that_are_ignored_are_found():
    """Even shares in place of 3 : 1."""
    verdict = WeightedShare().check(history(steady(2000, servers=2), UNEQUAL))
    assert verdict.verdict == "broken"
    assert verdict.measured == "server-1 got 0.500, due 0.250, of 2000 calls, furthest from its due"


@pytest.mark.parametrize("promise", [WeightedShare(), WeightedShare(within=0.5)])
def test_weight_zero_means_never_while_another_can(promise):
    """One call of 2000 on it is one too many."""
    calls = steady(2000, on=lambda n: "server-1" if n % 4 == 0 else "server-0")
    calls[77] = call(77, "server-2")
    verdict = promise.check(history(calls, UNEQUAL))
    assert verdict.verdict == "broken"
    assert verdict.why[0].startswith("server-2 got 0.001, due 0.000")


def test_few_weighted_calls_do_not_tell():
    """Fifty expected on the lightest server that is due anything: 200 calls."""
    calls = steady(196, on=lambda n: "server-1" if n % 4 == 0 else "server-0")
    verdict = WeightedShare().check(history(calls, UNEQUAL))
    assert (verdict.verdict, verdict.why) == (
        "unknown",
        ("196 calls counted, 200 needed to expect 50 on every server",),
    )

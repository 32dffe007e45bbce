"""HealthyShare."""

from __future__ import annotations

from histories import fault, history, steady

from harness.guarantees import HealthyShare
from harness.history import Server

DOWN = fault(5.0, None, name="Refuse()")


def elsewhere(id):
    """Round robin over five; from 5 s on over four, as server-4 is down."""
    return f"server-{id % 5}" if id < 500 else f"server-{id % 4}"


def to_the_next(id):
    """Round robin over five, and server-0 takes the turns of server-4."""
    return f"server-{id % 5}" if id < 500 or id % 5 < 4 else "server-0"


def test_the_others_sharing_alike_keep_it():
    """server-4 is down, and 500 calls each go to the others; before it went there were fewer."""
    verdict = HealthyShare().check(history(steady(2000, on=elsewhere), faults=[DOWN]))
    assert (verdict.verdict, verdict.bound) == ("held", "a share by weight for each without a fault, within 0.5 of it")
    assert verdict.measured == "server-0 got 0.200, due 0.200, of 450 calls, furthest from its due"


def test_a_neighbour_that_takes_all_of_the_dead_ones_calls_breaks_it():
    """server-0 has twice what the others have: too little for a slice to tell, enough over all of it."""
    verdict = HealthyShare(within=0.3).check(history(steady(2000, on=to_the_next), faults=[DOWN]))
    assert (verdict.verdict, verdict.measured) == (
        "broken",
        "server-0 got 0.396, due 0.250, of 1540 calls, furthest from its due",
    )
    assert verdict.why[0] == "server-0 got 0.396, due 0.250"


def test_a_healthy_server_that_is_left_out_for_a_moment_breaks_it():
    """Half a second without a call among 20 s: the slice is told."""

    def on(id):
        return f"server-{id % 3 if 1200 <= id < 1400 else id % 4}"

    day = history([each for each in steady(4000, servers=4, on=on)], servers=4)
    assert HealthyShare(every=100.0).check(day).verdict == "held"
    verdict = HealthyShare(every=1.0).check(day)
    assert (verdict.verdict, verdict.why[0]) == ("broken", "no call at all of 100: server-3")
    assert "from 12.000 to 13.000 s" in verdict.why


def test_who_is_faulty_or_was_a_moment_ago_owes_and_gets_nothing():
    """server-4 has no call until 4 s after its healing, and the second tier and who weighs nothing never have one."""
    fleet = [Server(name=f"server-{n}") for n in range(5)]
    fleet += [Server(name="server-5", priority=1), Server(name="server-6", weight=0.0)]
    calls = steady(2000, on=lambda id: f"server-{id % 4}" if id < 1890 else f"server-{id % 5}")
    faults = [fault(0.0, 15.0)]
    assert HealthyShare(grace=4.0, every=2.0).check(history(calls, servers=fleet, faults=faults)).verdict == "held"
    assert HealthyShare(grace=0.0, every=2.0).check(history(calls, servers=fleet, faults=faults)).verdict == "broken"


def test_shares_are_by_weight():
    """6 to 1 to 1: an even share is not theirs."""
    fleet = [Server(name="server-0", weight=6.0), Server(name="server-1"), Server(name="server-2")]
    fair = steady(2000, on=lambda id: f"server-{max(0, id % 8 - 5)}")
    assert HealthyShare().check(history(fair, servers=fleet)).verdict == "held"
    assert HealthyShare().check(history(steady(2000, servers=3), servers=fleet)).verdict == "broken"


def test_few_calls_or_one_healthy_server_do_not_tell():
    """249 calls on five servers; two servers of which one is down."""
    few = HealthyShare().check(history(steady(249)))
    assert (few.verdict, few.why) == ("unknown", ("at no time were 50 attempts due to each of two servers",))
    alone = history(steady(2000, servers=1), servers=2, faults=[fault(0.0, None, on="server-1")])
    assert HealthyShare().check(alone).verdict == "unknown"

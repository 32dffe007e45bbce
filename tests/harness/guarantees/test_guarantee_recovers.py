"""Recovers."""

from __future__ import annotations

from dataclasses import replace

from histories import call, changed, failed, fault, history, journal, steady

from harness.guarantees import Recovers
from harness.history import Server

KILL = fault(5.0, 15.0, name="Kill()")


def away(count=2000, until=15.0):
    """Nothing goes to server-4 from 5 s until `until`."""
    return changed(steady(count), lambda o: 5 <= o.due < until, lambda o: call(o.id, f"server-{o.id % 4}"))


def test_a_server_that_comes_back_to_its_share_keeps_it():
    """Killed for ten seconds, back at once."""
    verdict = Recovers(within=2.0).check(history(away(), faults=[KILL]))
    assert verdict.verdict == "held"
    assert verdict.measured == "1.0000 were ok, server-4 got 1.00 of its fair share, over 300 calls from 17.000 s"
    assert verdict.bound == "2 s after the healing: 0.99 ok, healed servers at 0.5 of their fair share"


def test_a_server_that_nobody_returns_to_breaks_it():
    """No failback: pick_first, or a breaker that never closes."""
    verdict = Recovers(within=2.0).check(history(away(until=20.0), faults=[KILL]))
    assert verdict.verdict == "broken"
    assert verdict.measured == "1.0000 were ok, server-4 got 0.00 of its fair share, over 300 calls from 17.000 s"
    assert verdict.why == (
        "server-4 got 0.00 of its fair share: 0 of 300 attempts, 60 would be fair",
        "after Kill() on server-4 from 5.0 to 15.0 s",
    )


def test_calls_that_go_on_failing_break_it():
    """Metastable: the trigger is gone, the failures stay."""
    calls = changed(steady(2000), lambda o: o.due >= 5 and o.id % 4 == 0, failed)
    verdict = Recovers(within=2.0).check(history(calls, faults=[KILL]))
    assert verdict.verdict == "broken"
    assert verdict.why == (
        "not ok: 75 UNAVAILABLE",
        "last: call 1996 began at 19.960 s, took 0.003 s, 1 attempt, server-1, fail: UNAVAILABLE",
        "after Kill() on server-4 from 5.0 to 15.0 s",
    )


def test_failures_within_the_time_allowed_are_forgiven():
    """Everything fails until 16.9 s."""
    calls = changed(steady(2000), lambda o: 5 <= o.due < 16.9, failed)
    assert Recovers(within=2.0).check(history(calls, faults=[KILL])).verdict == "held"
    assert Recovers(within=1.0).check(history(calls, faults=[KILL])).verdict == "broken"


def test_a_fault_that_comes_and_goes_is_judged_after_its_last_time():
    """Every second for half a second: no calm of within=1.0 lies between, so only the end counts."""
    beats = [fault(5.0 + n, 5.5 + n, name="Refuse()") for n in range(5)]
    calls = changed(steady(2000), lambda o: 5 <= o.due < 10.4, failed)
    assert Recovers(within=1.0).check(history(calls, faults=beats)).verdict == "held"
    worse = changed(calls, lambda o: o.due >= 12, failed)
    verdict = Recovers(within=1.0).check(history(worse, faults=beats))
    assert (verdict.verdict, verdict.why[-1]) == ("broken", "after Refuse() on server-4 from 9.0 to 9.5 s")


def test_each_of_two_faults_far_apart_is_judged():
    """Bad between them, well after the second."""
    faults = [fault(2.0, 3.0, name="Pause()"), fault(10.0, 11.0, name="Kill()", on="server-1")]
    calls = changed(steady(2000), lambda o: 2 <= o.due < 10, failed)
    verdict = Recovers(within=1.0).check(history(calls, faults=faults))
    assert (verdict.verdict, verdict.why[-1]) == ("broken", "after Pause() on server-4 from 2.0 to 3.0 s")
    assert verdict.measured.startswith(
        "0.0000 were ok, server-4 got 1.00 of its fair share, over 600 calls from 4.000 s"
    )


def test_the_client_and_reserves_are_judged_by_success_only():
    """Nobody is due to call them."""
    fleet = [Server(name=f"server-{n}", priority=int(n == 4)) for n in range(5)]
    calls = steady(2000, servers=4)
    assert Recovers(within=1.0).check(history(calls, fleet, faults=[KILL])).verdict == "held"
    assert Recovers(within=1.0).check(history(calls, 4, faults=[replace(KILL, on="client")])).verdict == "held"


def test_a_fair_share_is_by_weight():
    """A server of a ninth of the weight is back with a ninth of the calls."""
    fleet = [Server(name="server-0", weight=8.0), Server(name="server-4")]
    calls = steady(2000, on=lambda n: "server-4" if n % 9 == 0 else "server-0")
    assert Recovers(within=2.0).check(history(calls, fleet, faults=[KILL])).verdict == "held"


def test_journals_tell_where_the_client_does_not():
    """Somebody else's client, seen from the servers."""
    silent = [replace(o, attempts=()) for o in steady(2000)]
    back = history(silent, faults=[KILL], executions=journal(away()))
    gone = history(silent, faults=[KILL], executions=journal(away(until=20.0)))
    assert [Recovers(within=2.0).check(h).verdict for h in (back, gone)] == ["held", "broken"]


def test_a_server_that_may_be_back_by_chance_says_how_much_it_lacks():
    """17 of 200 attempts after the fault, on a server of whose fair 40 a half is needed."""
    calls = changed(away(1900), lambda o: o.due >= 17, lambda o: call(o.id, f"server-{4 * (o.id % 200 < 17)}"))
    verdict = Recovers(within=2.0).check(history(calls, faults=[KILL]))
    assert (verdict.verdict, verdict.why) == (
        "unknown",
        (
            "server-4 got 17 of 200 attempts, 20 needed (0.5 of its fair share); "
            "chance alone explains that with p = 0.3 (broken is below 1e-06)",
        ),
    )


def test_what_never_healed_or_ended_too_soon_does_not_tell():
    """No healing; 40 calls after it; no fault at all."""
    never = Recovers(within=2.0).check(history(steady(2000), faults=[fault(5.0, None)]))
    assert (never.verdict, never.why) == (
        "unknown",
        ("Latency(0.300, jitter=0.050) on server-4 from 5.0 s until the end was never healed",),
    )
    short = Recovers(within=2.0).check(history(steady(1740), faults=[KILL]))
    assert (short.verdict, short.why) == (
        "unknown",
        ("40 calls from 2 s after Kill() on server-4 from 5.0 to 15.0 s, 50 needed to judge",),
    )
    none = Recovers(within=2.0).check(history(steady(2000)))
    assert (none.verdict, none.why) == ("unknown", ("there was no fault to recover from",))

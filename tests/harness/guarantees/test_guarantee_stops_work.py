"""StopsWork."""

from __future__ import annotations

from dataclasses import replace

from histories import changed, failed, fault, history, journal, steady

from harness.guarantees import StopsWork


def worked_on(calls, seconds, every=10):
    """Honest journals, but that every tenth request is worked on for `seconds` too long, a bit less each time."""
    over = {call.id: call.ended + seconds - call.id / 1e5 for call in calls if call.id % every == 0}
    return tuple(replace(e, ended=over.get(e.operation, e.ended)) for e in journal(calls))


def test_servers_that_stop_with_their_callers_keep_it():
    """And those that need a moment to hear of it."""
    calls = steady(500)
    verdict = StopsWork().check(history(calls, executions=worked_on(calls, 0.09)))
    assert (verdict.verdict, verdict.measured) == (
        "held",
        "0 of 500 requests were worked on after their caller had gone",
    )
    assert verdict.bound == "at most 0.01 of the requests for more than 0.1 s"


def test_work_for_nobody_breaks_it():
    """Every tenth request: the longest is told, with its call."""
    calls = changed(steady(500), lambda o: o.id % 10 == 0, failed)
    slow = fault(0.0, 5.0, name="Overload(0, delay=0.3)")
    verdict = StopsWork().check(history(calls, executions=worked_on(calls, 0.3), faults=[slow]))
    assert (verdict.verdict, verdict.measured) == (
        "broken",
        "50 of 500 requests were worked on after their caller had gone",
    )
    assert verdict.why == (
        "worst: server-0 worked 0.300 s too long, until 0.303 s",
        "its call: call 0 began at 0.000 s, took 0.003 s, 1 attempt, server-0, fail: UNAVAILABLE",
        "active: Overload(0, delay=0.3) on server-4 from 0.0 to 5.0 s",
    )


def test_what_a_killed_server_never_ended_does_not_count():
    """Its process was gone, and worked for nobody."""
    calls = steady(500)
    killed = tuple(replace(e, ended=None, executed=None) if e.operation % 10 == 0 else e for e in journal(calls))
    verdict = StopsWork().check(history(calls, executions=killed))
    assert (verdict.verdict, verdict.measured) == (
        "held",
        "0 of 450 requests were worked on after their caller had gone",
    )


def test_few_requests_or_no_journal_do_not_tell():
    """99 cannot promise one in a hundred; two of 100 may be chance; and nobody wrote anything down."""
    few = StopsWork().check(history(steady(99)))
    assert (few.verdict, few.why) == ("unknown", ("99 requests counted, 100 needed to promise at most 0.01",))
    calls = steady(100)
    two = StopsWork().check(history(calls, executions=worked_on(calls, 0.3, every=50)))
    assert (two.verdict, two.why) == (
        "unknown",
        (
            "2 of 100 requests were worked on, 1 allowed; "
            "chance alone explains that with p = 0.3 (broken is below 1e-06)",
        ),
    )
    silent = StopsWork().check(history(steady(500), executions=()))
    assert (silent.verdict, silent.why) == ("unknown", ("no server kept a journal of what it executed",))

"""NoRetryStorm."""

from __future__ import annotations

from dataclasses import replace

import pytest
from histories import call, changed, fault, history, journal, steady

from harness.guarantees import NoRetryStorm


def thrice(o):
    return call(o.id, ["server-4", "server-0", "server-1"])


def test_a_retry_now_and_then_keeps_it():
    """One call in ten is tried a second time: 1.10 of 1.2."""
    calls = changed(steady(1000), lambda o: o.id % 10 == 0, lambda o: call(o.id, ["server-0", "server-1"]))
    verdict = NoRetryStorm(attempts_per_call=1.2).check(history(calls))
    assert (verdict.verdict, verdict.bound) == ("held", "at most 1.2 a call")
    assert verdict.measured == "1.10 attempts and 1.10 requests a call over 1000 calls due from 0.000 to 9.990 s"


def test_a_storm_while_a_fault_acts_breaks_it_though_the_whole_run_looks_well():
    """Three attempts a call for one second of twenty: 1.10 over all, 2.00 over it and the next second."""
    calls = changed(steady(2000), lambda o: 5 <= o.due < 6, thrice)
    verdict = NoRetryStorm(attempts_per_call=1.2).check(history(calls, faults=[fault(5.0, 6.0, name="Errors()")]))
    assert verdict.verdict == "broken"
    assert verdict.measured == "2.00 attempts and 2.00 requests a call over 200 calls due from 5.000 to 6.990 s"
    assert verdict.why == (
        "most: call 500 began at 5.000 s, took 0.003 s, 3 attempts, server-4, server-0, server-1",
        "active: Errors() on server-4 from 5.0 to 6.0 s",
    )


def test_requests_that_the_client_did_not_tell_of_break_it():
    """The client says one attempt a call, the servers received two: they are believed."""
    calls = steady(1000)
    twice = journal(calls) + tuple(replace(e, sent=2, executed=None) for e in journal(calls))
    verdict = NoRetryStorm(attempts_per_call=1.2).check(history(calls, executions=twice))
    assert verdict.verdict == "broken"
    assert verdict.measured == "1.00 attempts and 2.00 requests a call over 1000 calls due from 0.000 to 9.990 s"


def test_attempts_that_never_left_the_client_are_no_load():
    """Refused connections are tried again for nothing."""

    def refused(o):
        tries = thrice(o).attempts
        return replace(o, attempts=(*(replace(a, sent=0) for a in tries[:2]), replace(tries[2], sent=1)))

    assert NoRetryStorm(attempts_per_call=1.0).check(history([refused(o) for o in steady(100)])).verdict == "held"


def test_few_calls_do_not_tell():
    """49 calls; a fault that met fewer is not judged by itself."""
    verdict = NoRetryStorm(attempts_per_call=1.2).check(history([thrice(o) for o in steady(49)]))
    assert (verdict.verdict, verdict.why) == ("unknown", ("49 calls counted, 50 needed to judge",))
    calls = changed(steady(1000), lambda o: o.due >= 9.8, thrice)
    short = history(calls, faults=[fault(9.8, None)])
    assert NoRetryStorm(attempts_per_call=1.2).check(short).verdict == "held"


def test_a_run_without_attempts_and_journals_does_not_tell():
    """Nobody told of any attempt."""
    silent = history([replace(o, attempts=()) for o in steady(100)])
    verdict = NoRetryStorm(attempts_per_call=2.0).check(silent)
    assert (verdict.verdict, verdict.why) == (
        "unknown",
        ("neither the client nor any server told of an attempt",),
    )


def test_less_than_the_first_attempt_cannot_be_promised():
    """The first attempt counts."""
    with pytest.raises(ValueError, match=r"attempts_per_call must be a number, 1 or more; got 0.5 \(the first attempt"):
        NoRetryStorm(attempts_per_call=0.5)

"""RetriesElsewhere."""

from __future__ import annotations

from dataclasses import replace

from histories import call, changed, fault, history, journal, steady

from harness.guarantees import RetriesElsewhere

ERRORS = fault(0.5, 19.0, name="Errors(1)")


def retried(to, count=2000, every=10):
    """Every tenth call fails on server-4 and is tried again on `to`."""
    return changed(steady(count), lambda o: o.id % every == 0, lambda o: call(o.id, ["server-4", to], took=0.02))


def test_retries_elsewhere_keep_it():
    """All 200 of them went to server-0."""
    verdict = RetriesElsewhere().check(history(retried("server-0"), faults=[ERRORS]))
    assert (verdict.verdict, verdict.measured) == (
        "held",
        "0 of 200 further attempts went where their call was tried before",
    )
    assert verdict.bound == "at most 0.01 of the further attempts where the call was tried before"


def test_retries_on_the_server_that_failed_break_it():
    """The first such call is told, with its fault."""
    verdict = RetriesElsewhere().check(history(retried("server-4"), faults=[ERRORS]))
    assert (verdict.verdict, verdict.measured) == (
        "broken",
        "200 of 200 further attempts went where their call was tried before",
    )
    assert verdict.why == (
        "first: call 0 went to server-4 again at 0.010 s",
        "its call: call 0 began at 0.000 s, took 0.020 s, 2 attempts, server-4",
        "active: no fault",
    )


def test_who_had_no_choice_is_not_blamed():
    """The others are faulty as well, or have been until two seconds ago."""
    others = [fault(0.0, healed, on=f"server-{n}") for n in range(4) for healed in (None,)]
    verdict = RetriesElsewhere().check(history(retried("server-4"), faults=others))
    assert (verdict.verdict, verdict.why) == (
        "unknown",
        ("no call was tried again while an untried server was well",),
    )
    healed = [fault(0.0, 5.0, on=f"server-{n}") for n in range(4)]
    word = {
        grace: RetriesElsewhere(grace=grace).check(history(retried("server-4"), faults=healed)) for grace in (0, 16)
    }
    assert [verdict.verdict for verdict in word.values()] == ["broken", "unknown"]


def test_few_retries_do_not_tell():
    """19 retries; and 99, which cannot promise one in a hundred."""
    few = RetriesElsewhere().check(history(retried("server-0", count=990), faults=[ERRORS]))
    assert (few.verdict, few.why) == ("unknown", ("99 further attempts counted, 100 needed to promise at most 0.01",))
    assert RetriesElsewhere(share=0.1).check(history(retried("server-0", count=190))).verdict == "unknown"


def test_journals_tell_where_the_client_does_not():
    """A client of somebody else's: the requests that arrived, in their order."""
    calls = retried("server-4")
    silent = [replace(operation, attempts=()) for operation in calls]
    assert RetriesElsewhere().check(history(silent, executions=journal(calls))).verdict == "broken"

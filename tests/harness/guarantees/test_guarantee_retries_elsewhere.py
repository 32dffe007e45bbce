"""RetriesElsewhere."""

from __future__ import annotations

from dataclasses import replace

from histories import call, changed, history, steady

from harness.guarantees import RetriesElsewhere


def again_on(*servers):
    """Every tenth of 1000 calls on these servers in turn; the others go well on server-0 to server-3."""
    calls = steady(1000, on=lambda id: f"server-{id % 4}")
    return changed(calls, lambda o: o.id % 10 == 0, lambda o: call(o.id, list(servers)))


def test_going_elsewhere_keeps_it():
    """Server-4 fails a hundred calls, which are answered by another."""
    verdict = RetriesElsewhere().check(history(again_on("server-4", "server-1")))
    assert (verdict.verdict, verdict.measured) == ("held", "0 of 100 further attempts went where their call had been")


def test_asking_the_same_server_again_breaks_it():
    """It failed the call, and server-0 had failed nobody."""
    verdict = RetriesElsewhere().check(history(again_on("server-4", "server-4")))
    assert (verdict.verdict, verdict.measured) == (
        "broken",
        "100 of 100 further attempts went where their call had been",
    )
    assert verdict.why[:2] == (
        "first: attempt 2 of call 0 went to server-4 again at 0.002 s, though server-0 had failed nobody",
        "it: call 0 began at 0.000 s, took 0.003 s, 2 attempts, server-4",
    )


def test_who_has_failed_somebody_need_not_be_asked():
    """With two servers that both fail calls now and then, going back is no breach: the other may be ejected."""
    first = [call(0, "server-0", result="fail")]
    calls = [*first, *[call(id, ["server-1", "server-1"]) for id in range(20, 120)]]
    verdict = RetriesElsewhere().check(history(calls, servers=2))
    assert (verdict.verdict, verdict.measured) == ("unknown", "0 of 0 further attempts went where their call had been")


def test_what_fails_a_moment_later_may_have_been_known():
    """Clocks of two threads: a failure within `tolerance` of the further attempt counts as before it."""
    calls = [call(0, ["server-1", "server-1"]), call(1, "server-0", result="fail", at=0.05)]
    assert RetriesElsewhere().check(history(calls, servers=2)).verdict == "unknown"
    assert RetriesElsewhere(tolerance=0.01).check(history(calls, servers=2)).verdict == "broken"


def test_once_all_have_been_tried_any_may_be_asked_again():
    """Two servers, three attempts: only the second had a choice, and server-1 had failed somebody before."""
    calls = [call(0, "server-1", result="fail"), call(50, ["server-0", "server-1", "server-0"])]
    verdict = RetriesElsewhere().check(history(calls, servers=2))
    assert (verdict.verdict, verdict.measured) == ("unknown", "0 of 0 further attempts went where their call had been")


def test_a_client_that_tells_of_no_attempts_is_unknown():
    """Servers' journals alone do not say where an attempt went that never arrived."""
    verdict = RetriesElsewhere().check(history([replace(o, attempts=()) for o in steady(100)]))
    assert (verdict.verdict, verdict.why) == ("unknown", ("the client told of no attempts",))

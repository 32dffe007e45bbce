"""WithinBudget."""

from __future__ import annotations

from dataclasses import replace

from histories import call, changed, history, steady

from harness.guarantees import WithinBudget


def twice(o):
    return call(o.id, ["server-4", "server-0"])


def test_a_retry_in_ten_keeps_it():
    """100 further attempts of 1000 calls: 100 are earned, and 10 are saved from the beginning."""
    calls = changed(steady(1000), lambda o: o.id % 10 == 0, twice)
    verdict = WithinBudget(attempts=3).check(history(calls))
    assert (verdict.verdict, verdict.measured) == ("held", "the most that one of 1000 calls took is 2 attempts")
    assert verdict.bound == "at most 3 attempts a call; 0.1 retries a success, 1 a second"


def test_a_storm_breaks_it_when_it_has_spent_what_was_earned_and_saved():
    """From 1.0 s on each call is tried twice: 10 earned and 11 saved, and a success more for each."""
    calls = changed(steady(400), lambda o: o.due >= 1.0, twice)
    verdict = WithinBudget(attempts=3).check(history(calls))
    assert verdict.verdict == "broken"
    assert verdict.measured == "24 further attempts until 1.232 s, 23.5 allowed; 300 further attempts in all"
    assert verdict.why[0].startswith("first too many: call 123 began at 1.230 s")


def test_one_attempt_more_than_the_policy_allows_breaks_it():
    """Three attempts where two are allowed, once among 1000 calls."""
    calls = changed(steady(1000), lambda o: o.id == 7, lambda _: call(7, ["server-1", "server-2", "server-3"]))
    verdict = WithinBudget(attempts=2).check(history(calls))
    assert (verdict.verdict, verdict.measured) == ("broken", "the most that one of 1000 calls took is 3 attempts")
    assert verdict.why[0].startswith("most: call 7 began at 0.070 s")


def test_attempts_that_never_left_the_client_are_free():
    """A dead server is left at once, for nothing, as often as it is picked."""

    def refused(o):
        first, second = twice(o).attempts
        return replace(twice(o), attempts=(replace(first, sent=0), replace(second, sent=1)))

    calls = changed(steady(1000), lambda _: True, refused)
    assert WithinBudget(attempts=1).check(history(calls)).verdict == "held"


def test_a_client_that_was_started_again_has_its_savings_again():
    """25 further attempts in the first calls: more than one window of 10, less than three."""
    calls = changed(steady(1000), lambda o: o.id < 25, twice)
    assert WithinBudget(attempts=2).check(history(calls)).verdict == "broken"
    assert WithinBudget(attempts=2).check(history(calls, client_starts=3)).verdict == "held"


def test_too_little_or_nothing_tells_nothing():
    """19 calls; or a client that tells of no attempts."""
    assert WithinBudget(attempts=2).check(history(steady(19))).verdict == "unknown"
    silent = [replace(o, attempts=()) for o in steady(100)]
    verdict = WithinBudget(attempts=2).check(history(silent))
    assert (verdict.verdict, verdict.why) == ("unknown", ("the client told of no attempts",))

"""NoStrays."""

from __future__ import annotations

from dataclasses import replace

import pytest
from histories import changed, fault, history, steady

from harness.guarantees import NoStrays
from harness.history import Attempt


def outlived_by(seconds, started=0.001):
    """A copy that goes on for so long after the call of 3 ms, or for ever."""

    def worse(o):
        ended = None if seconds is None else o.ended + seconds
        copy = Attempt(number=2, server="server-4", started=o.due + started, ended=ended, code="OK", sent=2)
        return replace(o, attempts=(*o.attempts, copy))

    return changed(steady(100), lambda o: o.id == 50, worse)


def test_attempts_that_end_with_their_calls_keep_it():
    """100 calls; one has a copy that is cancelled 5 ms after it."""
    verdict = NoStrays().check(history(outlived_by(0.005)))
    assert (verdict.verdict, verdict.measured) == ("held", "0 of 100 calls were outlived by an attempt of theirs")


@pytest.mark.parametrize(
    ("calls", "by"),
    [
        (outlived_by(0.4), "0.400 s"),
        (outlived_by(None), "for ever"),
        (outlived_by(0.301, started=0.300), "0.301 s"),
    ],
    ids=["not cancelled", "never ends", "begun late"],
)
def test_an_attempt_that_goes_on_or_begins_after_its_call_breaks_it(calls, by):
    """A hedge that lost, one that nobody ever ends, a retry that comes when the caller has gone."""
    verdict = NoStrays().check(history(calls))
    assert (verdict.verdict, verdict.measured) == ("broken", "1 of 100 calls were outlived by an attempt of theirs")
    assert verdict.why[0] == f"by up to {by}"
    assert verdict.why[1].startswith("worst: call 50 began at 0.500 s")


def test_a_client_that_is_stopped_ends_nothing():
    """The fault acts on the client itself while the call runs."""
    away = fault(0.4, 1.0, name="Pause()", on="client")
    assert NoStrays().check(history(outlived_by(0.4), faults=[away])).verdict == "held"


def test_too_little_or_nothing_tells_nothing():
    """19 calls; or a client that tells of no attempts."""
    assert NoStrays().check(history(steady(19))).verdict == "unknown"
    verdict = NoStrays().check(history([replace(o, attempts=()) for o in steady(100)]))
    assert (verdict.verdict, verdict.why) == ("unknown", ("the client told of no attempts",))

"""Available."""

from __future__ import annotations

from dataclasses import replace

import pytest
from histories import changed, failed, fault, history, steady
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.guarantees import Available

ORDER = {"held": 0, "unknown": 1, "broken": 2}


def test_calls_that_are_answered_keep_it():
    """2000 good calls, and one bad one of a thousand allowed."""
    verdict = Available(0.999).check(history(changed(steady(2000), lambda o: o.id in (5, 900), failed)))
    assert (verdict.verdict, verdict.measured) == ("held", "1998 of 2000 calls were ok (0.9990)")
    assert (verdict.guarantee, verdict.bound, verdict.why) == ("Available(0.999)", "at least 0.999", ())


def test_failing_calls_break_it():
    """Every call on one of five servers fails while it is down: the first is named, and what acted."""
    down = changed(steady(2000), lambda o: o.id % 5 == 4 and 5 <= o.due < 15, failed)
    verdict = Available(0.999).check(history(down, faults=[fault(name="Refuse()")]))
    assert (verdict.verdict, verdict.measured) == ("broken", "1800 of 2000 calls were ok (0.9000)")
    assert verdict.why == (
        "not ok: 200 UNAVAILABLE",
        "first: call 504 began at 5.040 s, took 0.003 s, 1 attempt, server-4, fail: UNAVAILABLE",
        "active: Refuse() on server-4 from 5.0 to 15.0 s",
    )


def test_a_wrong_answer_is_no_answer():
    """The status is OK, the greeting is for somebody else: the call is not ok, and its detail is told."""

    def wrong(o):
        return replace(o, result="fail", code="WRONG_ANSWER", detail="the answer was 'Hello, you!'")

    verdict = Available(1.0).check(history(changed(steady(100), lambda o: o.id == 7, wrong)))
    assert verdict.verdict == "broken"
    assert verdict.why[1].endswith("server-2, fail: WRONG_ANSWER (the answer was 'Hello, you!')")


def test_grace_forgives_the_first_seconds_of_a_fault_and_no_more():
    """Failures in [5, 6) are forgiven with grace 1.0; one at 6.0 s is not."""
    forgiven = history(changed(steady(2000), lambda o: 5 <= o.due < 6, failed), faults=[fault()])
    late = history(changed(steady(2000), lambda o: 5 <= o.due <= 6, failed), faults=[fault()])
    assert Available(1.0, grace=1.0).check(forgiven).verdict == "held"
    assert Available(1.0, grace=1.0).check(late).verdict == "broken"
    assert Available(1.0).check(forgiven).verdict == "broken"


def test_grace_that_hides_the_whole_fault_does_not_tell():
    """Every call under the fault is forgiven, so nothing is known of the fault; what fails without it still breaks."""
    forgiven = changed(steady(2000), lambda o: 5 <= o.due < 15, failed)
    verdict = Available(0.99, grace=100.0).check(history(forgiven[:1500], faults=[fault()]))
    assert (verdict.verdict, verdict.why) == (
        "unknown",
        ("grace=100 leaves out all 1000 calls that were due while a fault acted; give less",),
    )
    before = changed(forgiven, lambda o: o.due < 5, failed)
    assert Available(0.99, grace=100.0).check(history(before, faults=[fault()])).verdict == "broken"
    assert Available(0.99, grace=100.0).check(history(steady(500), faults=[fault(5.0, 5.1)])).verdict == "held"


@pytest.mark.parametrize(
    ("detail", "told"),
    [
        (
            "the server has more to do than it can, says so at length, and is then asked again by everybody",
            "the server has more to do than it can, says so at length, and is then asked ...",
        ),
        (
            "Stream removed (Socket closed) [2 attempts: 127.0.0.1:32236 UNAVAILABLE, 127.0.0.1:32237 UNAVAILABLE]",
            "Stream removed (Socket closed)",
        ),
        (
            "Socket closed [1 attempt: 127.0.0.1:32236 UNAVAILABLE]",
            "Socket closed [1 attempt: 127.0.0.1:32236 UNAVAILABLE]",
        ),
    ],
)
def test_a_long_detail_is_cut_before_its_list_of_attempts_or_at_a_word(detail, told):
    """Eighty characters at most, no word that is not told whole, and no bracket left open."""
    calls = changed(steady(100), lambda o: o.id == 7, lambda o: replace(failed(o), detail=detail))
    assert Available(1.0).check(history(calls)).why[1].endswith(f"server-2, fail: UNAVAILABLE ({told})")


def test_few_calls_do_not_tell():
    """A promise of a thousandth needs a thousand calls."""
    verdict = Available(0.999).check(history(steady(999)))
    assert (verdict.verdict, verdict.why) == ("unknown", ("999 calls counted, 1000 needed to promise 0.999",))
    assert Available(0.5).check(history([])).verdict == "unknown"


@settings(deadline=None)  # the first use of scipy.stats loads it
@given(st.sets(st.integers(0, 299)), st.integers(0, 299), st.floats(0.5, 1))
def test_one_more_failure_never_makes_it_better(bad, one, at_least):
    """Whichever calls failed already."""
    before = Available(at_least).check(history(changed(steady(300), lambda o: o.id in bad, failed)))
    after = Available(at_least).check(history(changed(steady(300), lambda o: o.id in bad | {one}, failed)))
    assert ORDER[before.verdict] <= ORDER[after.verdict]


@pytest.mark.parametrize("arguments", [{"at_least": 1.5}, {"at_least": 0.9, "grace": -1.0}])
def test_impossible_bounds_are_refused(arguments):
    """The message names the argument, its bound and what was given."""
    with pytest.raises(ValueError, match=r"Available: (at_least|grace) must be a number, .*; got"):
        Available(**arguments)

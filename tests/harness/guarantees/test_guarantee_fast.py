"""Fast."""

from __future__ import annotations

from dataclasses import replace

import pytest
from histories import SLOW, call, changed, failed, fault, history, steady
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.guarantees import Fast

ORDER = {"held": 0, "unknown": 1, "broken": 2}


def taking(seconds):
    return lambda o: replace(o, ended=o.due + seconds)


def test_quick_calls_keep_it():
    """One call in a hundred may be slow under p99; the quantile is the longest of the others."""
    slow = changed(steady(2000), lambda o: o.id % 100 == 0, taking(0.9))
    verdict = Fast(p50=0.01, p99=0.050).check(history(slow))
    assert verdict.verdict == "held"
    assert verdict.measured == "p50 was 0.003 s, p99 was 0.003 s over 2000 calls"
    assert verdict.bound == "p50 at most 0.010 s, p99 at most 0.050 s"


def test_a_slow_server_breaks_it():
    """One call in five is slow for half of the time: the worst is told as a report shows it."""
    slow = changed(steady(2000), lambda o: o.id % 5 == 4 and 5 <= o.due < 15, taking(0.212))
    slow[844] = replace(call(844, ["server-4", "server-4"], took=0.497))
    verdict = Fast(p99=0.050, grace=1.0).check(history(slow, faults=[fault()]))
    assert verdict.guarantee == "Fast(p99=0.050, grace=1.0)"
    assert (verdict.verdict, verdict.measured) == ("broken", "p99 was 0.212 s over 1900 calls")
    assert verdict.why == (
        "worst: call 844 began at 8.440 s, took 0.497 s, 2 attempts, server-4",
        f"active: {SLOW} on server-4 from 5.0 to 15.0 s",
    )


def test_latency_counts_from_when_a_call_was_due():
    """Sent 0.3 s late and then answered at once, a call took 0.303 s."""
    late = changed(steady(100), lambda o: o.id == 50, lambda o: replace(o, invoked=o.due + 0.3, ended=o.due + 0.303))
    verdict = Fast(max=0.1).check(history(late))
    assert verdict.verdict == "broken"
    assert verdict.why == (
        "worst: call 50 was due at 0.500 s, began 0.300 s late, ended 0.303 s after it was due, 1 attempt, server-0",
        "active: no fault",
    )


def test_a_call_that_never_ended_is_slower_than_anything():
    """No bound is wide enough for it."""
    hung = changed(steady(100), lambda o: o.id == 50, lambda o: replace(o, ended=None, result="info", code="UNKNOWN"))
    verdict = Fast(max=3600.0).check(history(hung))
    assert (verdict.verdict, verdict.measured) == ("broken", "max was for ever over 100 calls")
    assert verdict.why[0] == "worst: call 50 began at 0.500 s, never ended, 1 attempt, server-0, info: UNKNOWN"


def test_a_failed_call_counts_with_its_time():
    """Failing slowly is not fast."""
    slow = changed(steady(100), lambda o: o.id < 10, lambda o: failed(taking(0.9)(o)))
    assert Fast(p90=0.5).check(history(slow)).verdict == "held"
    assert Fast(p50=0.5, max=0.5).check(history(slow)).verdict == "broken"


def test_grace_that_hides_the_whole_fault_does_not_tell():
    """Slow for as long as the fault acts, and every such call forgiven."""
    slow = changed(steady(1500), lambda o: o.due >= 5, taking(0.9))
    verdict = Fast(p99=0.050, grace=10.0).check(history(slow, faults=[fault()]))
    assert (verdict.verdict, verdict.why) == (
        "unknown",
        ("grace=10 leaves out all 1000 calls that were due while a fault acted; give less",),
    )
    assert Fast(p99=0.050, grace=9.0).check(history(slow, faults=[fault()])).verdict == "broken"


def test_few_calls_do_not_tell():
    """A hundredth needs a hundred calls."""
    verdict = Fast(p99=0.05).check(history(steady(99)))
    assert (verdict.verdict, verdict.why) == ("unknown", ("99 calls counted, 100 needed to promise p99",))
    assert Fast(p99=0.05).check(history([])).measured == "p99 was not seen over 0 calls"


@settings(deadline=None)  # the first use of scipy.stats loads it
@given(st.lists(st.floats(0, 2), min_size=20, max_size=200), st.floats(0, 2), st.floats(0.01, 1))
def test_a_slower_call_never_makes_it_better(times, more, bound):
    """Whichever call gets slower, and by how much."""
    calls = [call(id, took=took) for id, took in enumerate(times)]
    slower = [call(0, took=times[0] + more), *calls[1:]]
    promise = Fast(p50=bound, p90=bound, max=2.0)
    assert ORDER[promise.check(history(calls)).verdict] <= ORDER[promise.check(history(slower)).verdict]


def test_a_promise_of_nothing_is_refused():
    """Fast() says nothing, so it must not hold."""
    with pytest.raises(
        ValueError, match=r"Fast: one of p50, p90, p99 and max must be given, such as Fast\(p99=0.050\)"
    ):
        Fast(grace=1.0)
    with pytest.raises(ValueError, match=r"Fast: p99 must be a number, 0 or more; got -1 \(seconds\)"):
        Fast(p99=-1)

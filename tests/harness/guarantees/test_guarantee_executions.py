"""AtMostOnce and NothingLost."""

from __future__ import annotations

from dataclasses import replace

from histories import call, changed, failed, fault, history, journal, steady

from harness.guarantees import AtMostOnce, NothingLost


def test_calls_that_are_done_once_keep_it():
    """A retry of a call that was surely not done is well."""
    calls = changed(steady(100), lambda o: o.id == 7, lambda _: call(7, ["server-4", "server-0"]))
    verdict = AtMostOnce().check(history(calls))
    assert (verdict.guarantee, verdict.verdict) == ("AtMostOnce()", "held")
    assert verdict.measured == "0 of 100 executed calls were executed more than once"


def test_a_call_that_was_done_twice_breaks_it():
    """server-4 did the work, its answer was lost, server-0 did it again."""
    calls = changed(steady(100), lambda o: o.id == 74, lambda _: call(74, ["server-4", "server-0"], took=0.2))
    twice = tuple(replace(e, executed=e.received + 0.001) for e in journal(calls))
    reset = fault(0.5, 1.0, name="Reset()")
    verdict = AtMostOnce().check(history(calls, executions=twice, faults=[reset]))
    assert (verdict.verdict, verdict.measured) == (
        "broken",
        "1 of 100 executed calls were executed more than once",
    )
    assert verdict.why == (
        "worst: call 74 was executed 2 times: at 0.742 s on server-4, at 0.842 s on server-0",
        "its caller: call 74 began at 0.740 s, took 0.200 s, 2 attempts, server-4, server-0",
        "active: Reset() on server-4 from 0.5 to 1.0 s",
    )


def test_few_executions_or_no_journal_do_not_tell_of_repeats():
    """19 calls; a hundred that no server wrote down; a hundred that failed."""
    few = AtMostOnce().check(history(steady(19)))
    assert (few.verdict, few.why) == ("unknown", ("19 executed calls counted, 20 needed to promise it",))
    silent = AtMostOnce().check(history(steady(100), executions=()))
    assert (silent.verdict, silent.why) == ("unknown", ("no server kept a journal of what it executed",))
    assert AtMostOnce().check(history([failed(o) for o in steady(100)])).verdict == "unknown"


def test_acknowledged_calls_that_were_executed_keep_nothing_lost():
    """A call that failed may be lost."""
    verdict = NothingLost().check(history(changed(steady(100), lambda o: o.id == 7, failed)))
    assert (verdict.verdict, verdict.measured) == ("held", "0 of 99 acknowledged calls were executed nowhere")


def test_an_acknowledged_call_that_nobody_executed_breaks_it():
    """The caller was told ok, no journal knows of it."""
    calls = steady(100)
    forgotten = tuple(replace(e, executed=None) if e.operation == 42 else e for e in journal(calls))
    verdict = NothingLost().check(history(calls, executions=forgotten))
    assert (verdict.verdict, verdict.measured) == (
        "broken",
        "1 of 100 acknowledged calls were executed nowhere",
    )
    assert verdict.why == (
        "first: call 42 began at 0.420 s, took 0.003 s, 1 attempt, server-2",
        "active: no fault",
    )


def test_a_batch_that_skips_items_breaks_it():
    """Items 3 to 9 were never begun, though every call that was made is well."""
    calls = [call(n, item=n) for n in range(100) if not 3 <= n <= 9]
    assert NothingLost().check(history(calls)).verdict == "held"
    verdict = NothingLost().check(history(calls, items=100))
    assert (verdict.verdict, verdict.measured) == ("broken", "7 of 100 items were not done")
    assert verdict.why == ("never done: item 3, 4, 5, 6, 7 and 2 more",)


def test_a_batch_that_is_done_to_its_end_keeps_it():
    """Item 5 failed at first, and was done by a later call."""
    calls = changed([call(n, item=n) for n in range(100)], lambda o: o.id == 5, failed)
    assert NothingLost().check(history([*calls, call(100, item=5)], items=100)).verdict == "held"
    assert NothingLost().check(history(calls, items=100)).verdict == "broken"


def test_items_count_where_one_call_does_many():
    """A stream: one call, an execution an item."""
    stream = call(0, took=1.0)
    served = journal([stream])[0]
    done = tuple(replace(served, item=n) for n in range(100))
    calls = [replace(stream, item=0), *(call(n, item=n) for n in range(1, 100))]
    assert NothingLost().check(history(calls, executions=done + journal(calls[1:]), items=100)).verdict == "held"


def test_few_acknowledged_calls_or_no_journal_do_not_tell_of_losses():
    """19 calls; a batch of ten; a hundred that no server wrote down."""
    few = NothingLost().check(history(steady(19)))
    assert (few.verdict, few.why) == ("unknown", ("19 acknowledged calls counted, 20 needed to promise it",))
    small = NothingLost().check(history([call(n, item=n % 10) for n in range(30)], items=10))
    assert (small.verdict, small.why) == ("unknown", ("10 items counted, 20 needed to promise it",))
    assert NothingLost().check(history(steady(100), executions=())).verdict == "unknown"

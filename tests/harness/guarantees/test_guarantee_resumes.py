"""Resumes."""

from __future__ import annotations

from dataclasses import replace

from histories import call, failed, fault, history, journal

from harness.guarantees import Resumes

KILL = fault(0.655, 0.9, on="client", name="Kill()")


def batch(first, second, items=100, marked=True, **more):
    """A batch whose client did `first`, was killed, and did `second` after its restart."""
    plan = [*first, *second]
    calls = [call(id, item=item) for id, item in enumerate(plan)]
    seen: set[int] = set()
    executions = []
    for execution in journal(calls):
        executions.append(replace(execution, repeat=marked and execution.item in seen))
        seen.add(execution.item if execution.item is not None else -1)
    parts = {"client_starts": 2, "faults": [KILL], "executions": tuple(executions)} | more
    return history(calls, items=items, **parts)


def test_a_batch_that_goes_on_where_it_was_keeps_it():
    """Killed at item 65 with a checkpoint every 10: items 60 to 65 are done again, and marked."""
    verdict = Resumes(every=10).check(batch(range(66), range(60, 100)))
    assert (verdict.guarantee, verdict.verdict) == ("Resumes(every=10)", "held")
    assert verdict.measured == "100 of 100 items were done"
    assert verdict.bound == "every item done, at most 10 repeated an interruption, marked and in order"


def test_a_client_that_starts_again_from_the_beginning_breaks_it():
    """66 items repeated where 10 are allowed."""
    verdict = Resumes(every=10).check(batch(range(66), range(100)))
    assert (verdict.verdict, verdict.measured) == (
        "broken",
        "66 items were executed again after 1 interruptions",
    )
    assert verdict.why == ("executed again: items 0, 1, 2, 3, 4 ...; allowed are 10",)


def test_repeats_in_silence_break_it():
    """Few enough, but the server was not told that they are repeats."""
    verdict = Resumes(every=10).check(batch(range(66), range(60, 100), marked=False))
    assert (verdict.verdict, verdict.measured) == ("broken", "6 repeats were not marked as such")
    assert verdict.why == ("first: item 60 (call 66) again at 0.662 s on server-0",)


def test_a_further_attempt_of_the_same_call_says_so_itself():
    """Its number travels with it (gRFC A6), so it is marked without a flag."""
    day = batch(range(66), range(66, 100))
    again = tuple(replace(e, sent=2, executed=e.received + 0.002) for e in day.executions if e.item == 7)
    touched = fault(0.05, 0.2, on="server-0", name="Reset()")
    both = replace(day, executions=day.executions + again, faults=(KILL, touched))
    assert Resumes(every=1).check(both).verdict == "held"


def test_a_gap_breaks_it():
    """The checkpoint ran ahead of the work: items 66 to 69 were skipped."""
    verdict = Resumes(every=10).check(batch(range(66), range(70, 100)))
    assert (verdict.verdict, verdict.measured) == ("broken", "96 of 100 items were done")
    assert verdict.why == ("never done: items 66, 67, 68, 69",)


def test_a_client_that_leaves_the_order_breaks_it():
    """Item 71 before item 70 within one start."""
    verdict = Resumes(every=10).check(batch(range(66), [*range(60, 70), 71, 70, *range(72, 100)]))
    assert (verdict.verdict, verdict.measured) == ("broken", "the client went back 2 times in 2 starts")
    assert verdict.why == ("last: item 70 (call 77) at 0.770 s, after item 71",)


def test_a_fault_on_a_server_is_an_interruption_too():
    """The client was never killed; its server was, with one item in flight, which was begun again."""
    crash = fault(0.3, 0.5, on="server-0", name="Kill()")
    day = batch(range(31), range(30, 100), client_starts=1, faults=[crash])
    lost = replace(day, operations=tuple(failed(o) if o.id == 30 else o for o in day.operations))
    assert Resumes(every=1).check(lost).verdict == "held"


def test_a_client_that_was_stopped_was_interrupted_once():
    """Paused with one item in flight, which it begins again: one start, one interruption, one repeat allowed."""
    pause = fault(0.305, 0.5, on="client", name="Pause()")
    retried = batch(range(31), range(30, 100), client_starts=1, faults=[pause])
    lost = replace(retried, operations=tuple(failed(o) if o.id == 30 else o for o in retried.operations))
    assert Resumes(every=1).check(lost).verdict == "held"
    twice = batch(range(66), range(55, 100))
    assert Resumes(every=10).check(twice).measured == "11 items were executed again after 1 interruptions"


def test_what_was_not_interrupted_is_small_or_no_batch_does_not_tell():
    """No batch; one start and no fault; ten items; no journal."""
    days = {
        "no batch": batch(range(66), range(60, 100), items=None),
        "calm": batch(range(100), [], client_starts=1, faults=[]),
        "small": batch(range(6), range(6, 10), items=10),
        "silent": batch(range(66), range(60, 100), executions=()),
    }
    found = {name: Resumes(every=10).check(day) for name, day in days.items()}
    assert {verdict.verdict for verdict in found.values()} == {"unknown"}
    assert {name: verdict.why for name, verdict in found.items()} == {
        "no batch": ("the workload is not a batch",),
        "calm": ("nothing interrupted the batch",),
        "small": ("10 items, 20 needed to judge",),
        "silent": ("no server kept a journal of what it executed",),
    }

"""WithinDeadline."""

from __future__ import annotations

from dataclasses import replace

from histories import call, changed, fault, history, journal, steady

from harness.guarantees import WithinDeadline


def test_calls_that_end_in_time_keep_it():
    """Calls of 3 ms, and one that took all of its second and a little for the scheduler."""
    calls = [*steady(99), call(99, took=1.05)]
    verdict = WithinDeadline(1.0).check(history(calls))
    assert (verdict.verdict, verdict.measured) == ("held", "the longest of 100 calls lasted 1.050 s")
    assert verdict.bound == "1.100 s, and every server told so"


def test_a_call_that_outlives_its_deadline_breaks_it():
    """One is enough; it is named, with what acted."""
    calls = changed(steady(100), lambda o: o.id == 50, lambda _: call(50, took=1.3))
    verdict = WithinDeadline(1.0).check(history(calls, faults=[fault(0.2, 0.7, on="server-0", name="Pause()")]))
    assert (verdict.verdict, verdict.measured) == ("broken", "the longest of 100 calls lasted 1.300 s")
    assert verdict.why == (
        "too long: 1 of 100 calls",
        "worst, 1.300 s: call 50 began at 0.500 s, took 1.300 s, 1 attempt, server-0",
        "active: Pause() on server-0 from 0.2 to 0.7 s",
    )


def test_waiting_before_the_invocation_is_not_the_deadlines_matter():
    """A call that was due long ago has its whole deadline from when it is made."""
    late = changed(steady(100), lambda o: o.id == 50, lambda o: replace(o, due=o.due - 5))
    assert WithinDeadline(1.0).check(history(late)).verdict == "held"


def test_a_call_that_never_ended_breaks_it():
    """No deadline at all."""
    hung = changed(steady(100), lambda o: o.id == 50, lambda o: replace(o, ended=None, result="info"))
    assert WithinDeadline(60.0).check(history(hung)).measured == "the longest of 100 calls lasted for ever"
    assert WithinDeadline(60.0).check(history(hung)).verdict == "broken"


def test_an_attempt_that_outlives_its_call_breaks_it_unless_it_lost():
    """The caller got its error, the attempt goes on; a hedge's loser is no breach."""

    def running(lost):
        def change(o):
            return replace(o, attempts=(replace(o.attempts[0], ended=None, lost=lost),))

        return history(changed(steady(100), lambda o: o.id == 50, change))

    assert WithinDeadline(1.0).check(running(lost=False)).verdict == "broken"
    assert WithinDeadline(1.0).check(running(lost=True)).verdict == "held"


def test_a_server_that_heard_of_no_deadline_breaks_it():
    """The caller gave up in time, but the server does not know."""
    calls = steady(100)
    deaf = tuple(replace(e, remaining=None) if e.operation == 7 else e for e in journal(calls))
    verdict = WithinDeadline(1.0).check(history(calls, executions=deaf))
    assert verdict.verdict == "broken"
    assert verdict.measured == "1 of 100 requests came with no deadline or too late a one"
    assert verdict.why == (
        "first: call 7 came to server-2 at 0.071 s with no deadline",
        "its call: call 7 began at 0.070 s, took 0.003 s, 1 attempt, server-2",
        "active: no fault",
    )


def test_a_deadline_that_starts_anew_with_a_retry_breaks_it():
    """0.41 s are left to the second attempt, but its server was told a whole second."""
    calls = [*steady(99), call(99, ["server-0", "server-1"], took=1.0)]
    calls[99] = replace(calls[99], attempts=(calls[99].attempts[0], replace(calls[99].attempts[1], started=1.59)))
    honest = journal(calls)
    anew = tuple(replace(e, remaining=0.999) if e.operation == 99 else e for e in honest)
    assert WithinDeadline(1.0).check(history(calls, executions=honest)).verdict == "held"
    verdict = WithinDeadline(1.0).check(history(calls, executions=anew))
    assert verdict.verdict == "broken"
    assert verdict.why[0] == "first: call 99 came to server-1 at 1.591 s with 0.999 s left"


def test_a_client_that_was_stopped_itself_keeps_no_deadline():
    """Calls under way when the client's process was killed say nothing about its deadlines."""
    killed = changed(steady(100), lambda o: o.id == 50, lambda o: replace(o, ended=None, result="info"))
    kill = fault(0.502, 0.6, on="client", name="Kill()")
    day = history(killed, faults=[kill], executions=journal(killed, timeout=0.1))
    assert WithinDeadline(0.1, tolerance=0.01).check(day).verdict == "held"
    assert WithinDeadline(0.1, tolerance=0.01).check(replace(day, faults=())).verdict == "broken"


def test_few_calls_or_no_journal_do_not_tell():
    """19 calls; and a hundred of which no server kept a record."""
    few = WithinDeadline(1.0).check(history(steady(19)))
    assert (few.verdict, few.why) == ("unknown", ("19 calls counted, 20 needed to promise it",))
    silent = WithinDeadline(1.0).check(history(steady(100), executions=()))
    assert (silent.verdict, silent.why) == (
        "unknown",
        ("no server kept a journal of what it executed, so nobody knows what deadline it heard of",),
    )

"""Uncut."""

from __future__ import annotations

from dataclasses import replace

import pytest
from histories import call, fault, history, journal

from harness.guarantees import Uncut
from harness.history import pieces, reconcile

KILL = fault(0.1, 0.2, on="server-0", name="Kill()")
WHOLE = list(range(1, 11))


def stream(item, *parts, result="ok", repeats=(), id=None):
    """A stream of ten messages, read in an attempt for each of `parts`, on servers of their numbers."""
    heard = [(n, place, n in repeats) for place, part in enumerate(parts, 1) for n in part]
    made = call(item if id is None else id, [f"server-{n}" for n in range(len(parts))], result=result, item=item)
    return replace(made, messages=10, heard=pieces(heard))


def torn(*streams, **more):
    """These streams, and thirty good ones, of which one was cut after its fourth message."""
    good = [stream(100 + n, WHOLE) for n in range(29)] + [stream(200, range(1, 5), range(5, 11))]
    return history([*streams, *good], faults=[KILL], **more)


def found(*streams, every=0, **more):
    verdict = Uncut(every=every).check(torn(*streams, **more))
    return verdict.verdict, verdict.measured, verdict.why[:1]


def test_streams_that_were_continued_where_they_broke_keep_it():
    """Cut after any message, twice, before the first one, and without an end of its own: all that was heard is in order."""
    cut = [stream(n, range(1, n + 1), range(n + 1, 11)) for n in range(10)]
    twice = stream(10, range(1, 4), [4], range(5, 11))
    failed = stream(11, range(1, 8), result="info")
    verdict = Uncut().check(torn(*cut, twice, failed))
    assert (verdict.guarantee, verdict.verdict, verdict.why) == ("Uncut()", "held", ())
    assert verdict.measured == "all 41 streams that ended ok are whole, 12 were cut"
    assert verdict.bound == "every stream whole and in order, no message repeated"


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        (([1, 2, 3], range(3, 11)), "message 3 came again; heard 1 to 3 from server-0, 3 to 10 from server-1"),
        (([1, 2, 3], range(1, 11)), "message 1 came again; heard 1 to 3 from server-0, 1 to 10 from server-1"),
        (([1, 2, 3], range(5, 11)), "message 4 was due, 5 came; heard 1 to 3 from server-0, 5 to 10 from server-1"),
        (([1, 2, 3], [5, 4, *range(6, 11)]), "message 4 was due, 5 came; heard 1 to 3 from server-0, 5 from server-1, "
         "4 from server-1, 6 to 10 from server-1"),
        ((range(2, 11),), "message 1 was due, 2 came; heard 2 to 10 from server-0"),
        (([1, 2, 3],), "it ended ok after message 3 of 10; heard 1 to 3 from server-0"),
        (([],), "it ended ok after message 0 of 10; heard nothing"),
        ((range(1, 12),), "message 11 came of a stream of 10; heard 1 to 11 from server-0"),
        ((range(11),), "message 0 came of a stream of 10; heard 0 to 10 from server-0"),
    ],
    ids=["early", "again", "late", "reordered", "beginning", "truncated", "empty", "too long", "unnumbered"],
)  # fmt: skip
def test_a_stream_that_is_not_the_uncut_one_breaks_it(parts, says):
    """One of 31, whatever is wrong with it, and the first of them is told with where it was heard."""
    verdict = Uncut().check(torn(stream(7, *parts)))
    assert (verdict.verdict, verdict.measured) == ("broken", "1 of 31 streams are not the uncut ones")
    assert verdict.why[0] == f"first: {says}"
    assert verdict.why[1].startswith("its call: call 7 began at 0.070 s, took 0.003 s, ")


def test_a_failed_stream_must_have_a_good_beginning():
    """Its end is missing, and nothing else: a hole before the break is a lost message."""
    assert found(stream(7, [1, 2, 4], result="info"))[0] == "broken"
    assert found(stream(7, [], result="fail"))[0] == "held"


def read_again(first, second, **more):
    """A stream whose client was killed after it had heard `first`, and then heard `second`."""
    killed = replace(stream(7, first, result="info"), ended=None)
    return [killed, stream(7, second, id=1000, **more)]


def test_after_its_clients_death_a_stream_may_repeat_what_is_marked():
    """Killed after message 7 with a checkpoint each five: 6 and 7 come again, marked."""
    assert found(*read_again(range(1, 8), range(6, 11), repeats=(6, 7)), every=5) == (
        "held", "all 31 streams that ended ok are whole, 2 were cut", (),
    )  # fmt: skip
    assert (
        found(*read_again(range(1, 8), range(6, 11), repeats=range(1, 11)), every=5)[0] == "held"
    )  # marked to be safe
    assert found(*read_again(range(1, 8), range(8, 11)), every=5)[0] == "held"


@pytest.mark.parametrize(
    ("second", "repeats", "every", "says"),
    [
        (range(6, 11), (), 5, "message 6 came again, not marked as a repeat; heard 6 to 10 from server-0"),
        (range(6, 11), (6,), 5, "message 7 came again, not marked as a repeat"),
        (range(2, 11), range(2, 8), 5, "6 messages came again, 5 allowed"),
        (range(6, 11), (6, 7), 0, "2 messages came again, 0 allowed"),
        (range(9, 11), (), 5, "message 8 was due, 9 came; heard 9 to 10 from server-0"),
        ([6, 7, 7, *range(8, 11)], (6, 7), 5, "message 7 came again; heard 6 to 7 from server-0, 7 from server-0"),
    ],
    ids=["silent", "half silent", "too many", "none allowed", "lost", "twice"],
)
def test_what_comes_twice_is_marked_and_no_more_than_allowed(second, repeats, every, says):
    """Exactly once is not promised over a client's death, and what is not is never silent."""
    verdict, measured, (why,) = found(*read_again(range(1, 8), second, repeats=repeats), every=every)
    assert (verdict, measured) == ("broken", "1 of 31 streams are not the uncut ones")
    assert why.startswith(f"first: {says}")


def test_within_one_run_a_mark_excuses_nothing():
    """Only a further start of the client may bring a message again."""
    assert found(stream(7, range(1, 8), range(6, 11), repeats=(6, 7)), every=5)[2][0].startswith(
        "first: message 6 came again"
    )


def test_a_client_that_tells_of_no_attempts_is_judged_by_the_journals():
    """Somebody else's client: two servers sent parts of a stream, so it was cut."""
    silent = [
        replace(s, attempts=(), heard=pieces([(n, 0, False) for n in WHOLE]))
        for s in torn().operations
        if s.item != 200
    ]
    parts = journal(torn().operations)
    calm = history(silent, executions=tuple(replace(e, messages=10) for e in parts))
    assert Uncut().check(calm).why == ("no stream was cut in its midst",)
    twice = replace(calm, executions=(*calm.executions, replace(calm.executions[0], messages=4)))
    assert Uncut().check(twice).verdict == "held"


def test_what_was_not_cut_is_small_or_has_no_streams_does_not_tell():
    """Calls; nothing cut; too few that ended ok."""
    cut = stream(1, [1, 2], range(3, 11))
    days = {
        "calls": history([call(n) for n in range(30)]),
        "calm": history([stream(n, WHOLE) for n in range(30)]),
        "small": history([cut, *(stream(n, WHOLE) for n in range(2, 20))]),
    }
    verdicts = {name: Uncut().check(day) for name, day in days.items()}
    assert {verdict.verdict for verdict in verdicts.values()} == {"unknown"}
    assert {name: verdict.why for name, verdict in verdicts.items()} == {
        "calls": ("the workload has no streams",),
        "calm": ("no stream was cut in its midst",),
        "small": ("19 streams that ended ok counted, 20 needed to promise it",),
    }


def test_nobody_hears_more_than_was_sent():
    """The three tales must fit: a caller that heard ten messages of which servers sent nine proves nothing."""
    day = history([stream(1, WHOLE)])
    sent = replace(day, executions=tuple(replace(e, messages=10) for e in day.executions))
    assert reconcile(sent) == ()
    short = replace(day, executions=tuple(replace(e, messages=9) for e in day.executions))
    assert reconcile(short) == ("operation 1 heard 10 messages, and servers sent 9",)
    assert reconcile(replace(day, executions=())) == ()  # servers of somebody else's keep no journal


@pytest.mark.parametrize("every", [-1, 1.5, None])
def test_a_bound_that_makes_no_sense_is_refused(every):
    """Argument, value and bound, when it is built."""
    with pytest.raises(ValueError, match="every must be a whole number, 0 or more"):
        Uncut(every=every)

"""SpreadsRetries."""

from __future__ import annotations

import random
from dataclasses import replace

from histories import call, history, steady

from harness.guarantees import SpreadsRetries


def waiting(waits, *, first=None):
    """One call for each of `waits`: it fails within a millisecond, waits so long and is tried again."""
    calls = []
    for id, wait in enumerate(waits):
        one = call(id, ["server-0", "server-1"], at=id / 10, took=0.002)
        failed, again = one.attempts
        again = replace(again, started=failed.ended + wait, ended=failed.ended + wait + 0.001)
        changes = {} if first is None else first
        calls.append(replace(one, attempts=(replace(failed, **changes), again), ended=again.ended))
    return calls


def drawn(count, longest=0.025, seed=1):
    """Waits with full jitter."""
    rng = random.Random(seed)
    return [rng.random() * longest for _ in range(count)]


def test_full_jitter_keeps_it():
    """200 waits drawn from 0 to 25 ms (seed 1): 26 % of them in the fullest 5 ms."""
    verdict = SpreadsRetries().check(history(waiting(drawn(200))))
    assert (verdict.verdict, verdict.measured) == (
        "held",
        "52 of 200 waits before retry 1 were 0.010 s, within 0.005 s",
    )
    assert verdict.bound == "at most 0.5 of the waits within 0.005 s of each other"


def test_the_same_wait_for_all_breaks_it():
    """25 ms each time; and none at all."""
    for wait, told in ((0.025, "0.025"), (0.0, "0.000")):
        verdict = SpreadsRetries().check(history(waiting([wait] * 100)))
        assert (verdict.verdict, verdict.measured) == (
            "broken",
            f"100 of 100 waits before retry 1 were {told} s, within 0.005 s",
        )
        assert verdict.why == (verdict.measured,)


def test_few_waits_or_more_alike_than_chance_explains_do_not_tell():
    """19 waits; 40 of which 36 are alike (9e-8 for one window, but there are 40); a client that tells of no attempt."""
    few = SpreadsRetries().check(history(waiting([0.025] * 19)))
    assert (few.verdict, few.why) == ("unknown", ("19 waits counted, 20 needed to judge",))
    doubtful = SpreadsRetries().check(history(waiting([0.025] * 36 + [0.1 * n for n in range(1, 5)])))
    assert (doubtful.verdict, doubtful.why) == (
        "unknown",
        (
            "36 of 40 waits before retry 1 were 0.025 s, within 0.005 s; "
            "chance explains that in one window of 40 with p = 4e-06 (broken is below 1e-06)",
        ),
    )
    silent = [replace(operation, attempts=()) for operation in steady(100)]
    assert SpreadsRetries().check(history(silent)).why == ("the client told of no attempt",)


def test_moves_that_are_no_retries_do_not_count():
    """An attempt that never left the client moves on at once; the copy of a hedge starts while the first is out."""
    moved = history(waiting([0.0] * 100, first={"sent": 0}))
    hedged = history(waiting([0.0] * 100, first={"ended": 99.0}))
    for day in (moved, hedged):
        assert SpreadsRetries().check(day).why == ("0 waits counted, 20 needed to judge",)


def test_each_retry_is_judged_for_itself():
    """The first retry has jitter, the second none."""
    calls = []
    for one, wait in zip(waiting(drawn(100)), drawn(100), strict=True):
        second = one.attempts[1]
        third = replace(second, number=3, started=second.ended + 0.050, ended=second.ended + 0.051 + wait)
        calls.append(replace(one, attempts=(*one.attempts[:1], replace(second, code="UNAVAILABLE"), third)))
    verdict = SpreadsRetries().check(history(calls))
    assert (verdict.verdict, verdict.measured) == (
        "broken",
        "100 of 100 waits before retry 2 were 0.050 s, within 0.005 s",
    )

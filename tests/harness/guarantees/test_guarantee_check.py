"""All guarantees together: how they are spelled, and when none of them may say anything."""

from __future__ import annotations

import dataclasses
import pickle
from dataclasses import replace

import pytest
from histories import SLOW, call, changed, fault, history, steady

from harness.guarantees import (
    GUARANTEES,
    AtMostOnce,
    Available,
    AvoidsFaulty,
    EvenShare,
    Fast,
    Guarantee,
    HealthyShare,
    NoRetryStorm,
    NoStrays,
    NothingLost,
    Recovers,
    Resumes,
    RetriesElsewhere,
    SpreadsRetries,
    StopsWork,
    Uncut,
    Verdict,
    WeightedShare,
    WithinBudget,
    WithinDeadline,
    check_all,
)

ALL: list[Guarantee] = [
    Available(0.999),
    Fast(p99=0.050, grace=1.0),
    WithinDeadline(1.0),
    EvenShare(),
    WeightedShare(within=0.1),
    NoRetryStorm(attempts_per_call=1.2),
    AtMostOnce(),
    NothingLost(),
    Recovers(within=2.0, share=0.25),
    AvoidsFaulty(within=1.0, share=0.0001),
    Resumes(every=10),
    HealthyShare(),
    RetriesElsewhere(),
    SpreadsRetries(),
    StopsWork(within=0.2),
    Uncut(every=5),
    WithinBudget(attempts=3, ratio=0.2),
    NoStrays(),
]


def test_a_guarantee_is_spelled_as_one_would_write_it():
    """Only arguments that differ from their defaults; milliseconds and shares with three digits."""
    assert [str(guarantee) for guarantee in ALL] == [
        "Available(0.999)",
        "Fast(p99=0.050, grace=1.0)",
        "WithinDeadline(1.0)",
        "EvenShare()",
        "WeightedShare(within=0.100)",
        "NoRetryStorm(attempts_per_call=1.2)",
        "AtMostOnce()",
        "NothingLost()",
        "Recovers(within=2.0, share=0.250)",
        "AvoidsFaulty(within=1.0, share=0.0001)",
        "Resumes(every=10)",
        "HealthyShare()",
        "RetriesElsewhere()",
        "SpreadsRetries()",
        "StopsWork(within=0.200)",
        "Uncut(every=5)",
        "WithinBudget(attempts=3, ratio=0.200)",
        "NoStrays()",
    ]


def test_every_guarantee_is_a_value_with_its_statistics_stated():
    """Frozen, equal by value, fit for another process; the docstring says which test, at which rate."""
    assert [type(guarantee) for guarantee in ALL] == list(GUARANTEES)
    for guarantee in ALL:
        assert isinstance(guarantee, Guarantee)
        assert pickle.loads(pickle.dumps(guarantee)) == guarantee == eval(str(guarantee))
        assert "Statistics:" in (type(guarantee).__doc__ or "")
        for field in dataclasses.fields(guarantee):  # type: ignore[arg-type]
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(guarantee, field.name, 1)


def test_a_clean_run_is_judged():
    """One verdict for each, in their order; nothing to recover from, to avoid, to resume or to retry in it."""
    verdicts = check_all(history(steady(2000)), ALL)
    assert [verdict.guarantee for verdict in verdicts] == [str(guarantee) for guarantee in ALL]
    assert [verdict.verdict for verdict in verdicts] == ["held"] * 8 + ["unknown"] * 3 + ["held"] + ["unknown"] * 2 + [
        "held",
        "unknown",
        "held",
        "held",
    ]


@pytest.mark.parametrize(
    ("sabotage", "reason"),
    [
        ({"problems": ("the journal of server-2 was lost",)}, "the journal of server-2 was lost"),
        ({"operations": (steady(1)[0], *steady(2000))}, "1 operations share an id with another"),
        (
            {"faults": (fault(None, None, problem="no such toxic"),)},
            f"{SLOW} on server-4 at 0.0 s could not be applied: no such toxic",
        ),
        (
            {"faults": (fault(5.0, problem="it was not healed"),)},
            f"{SLOW} on server-4 at 5.0 s could not be applied: it was not healed",
        ),
        (
            {"faults": (fault(None, None),)},
            f"{SLOW} on server-4 at 0.0 s could not be applied: it was never seen to act",
        ),
        ({"faults": (fault(touched=0),)}, f"{SLOW} on server-4 at 5.0 s touched no traffic"),
    ],
)
def test_a_run_that_proves_nothing_is_unknown_to_all(sabotage, reason):
    """Lost history, tales that do not fit, a fault that was not applied or touched nothing."""
    verdicts = check_all(replace(history(steady(2000)), **sabotage), ALL)
    assert {verdict.verdict for verdict in verdicts} == {"unknown"}
    assert {verdict.why for verdict in verdicts} == {(reason,)}


def late(o, by=0.3):
    return replace(o, invoked=o.due + by, ended=o.due + by + 0.003, attempts=())


def test_a_harness_that_cannot_keep_the_rate_proves_nothing():
    """More than a hundredth of the calls began more than 0.1 s late, while the client had workers free."""
    slow = changed(steady(2000), lambda o: o.id >= 1979, late)
    verdict = check_all(history(slow), [Fast(p99=0.050)])[0]
    assert (verdict.verdict, verdict.why) == (
        "unknown",
        (
            "the harness could not keep the rate: 21 of 2000 calls began more than 0.1 s late, the worst by 0.300 s, "
            "though the client had workers free; use a lower rate or more cores",
        ),
    )
    few = changed(steady(2000), lambda o: o.id >= 1980, late)
    assert check_all(history(few), [Fast(max=0.050)])[0].verdict == "broken"


@pytest.mark.parametrize(("held", "verdict"), [(512, "broken"), (511, "unknown")])
def test_calls_that_wait_because_all_workers_of_the_client_hang_are_the_clients_own(held, verdict):
    """All 512 hang from 1 s until 3 s, so what is due meanwhile begins at 3 s; with one free it need not have."""
    hung = [call(id, at=1.0, took=2.0) for id in range(held)]
    waiting = [late(call(held + n, at=1.5 + n / 1000), by=1.5 - n / 1000) for n in range(300)]
    after = [call(held + 300 + n, at=4.0 + n / 100) for n in range(300)]
    assert check_all(history([*hung, *waiting, *after]), [Fast(p90=0.050)])[0].verdict == verdict


def test_a_check_that_raises_is_unknown_with_its_error():
    """And the others are judged all the same."""

    class Mine:
        def check(self, history: object) -> Verdict:
            raise KeyError("server-9")

        def __str__(self) -> str:
            return "Mine()"

    mine, held = check_all(history(steady(100)), [Mine(), Available(0.9)])
    assert (mine.guarantee, mine.verdict) == ("Mine()", "unknown")
    assert mine.why == ("the check itself failed: KeyError: 'server-9'",)
    assert held.verdict == "held"


def test_a_verdict_is_told_in_a_few_lines():
    """Ten servers fall silent at ten times: the worst is told, not all of it."""
    faults = [fault(5.0 + n, 15.0 + n, on=f"server-{n}") for n in range(5)]
    verdict = AvoidsFaulty(within=0.5, share=0.01).check(history(steady(3000), faults=faults))
    assert verdict.verdict == "broken"
    assert len(verdict.why) == 6

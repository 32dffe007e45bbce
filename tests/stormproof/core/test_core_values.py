"""Configuration is checked where it is built, and its messages name argument, value, bound and way out."""

from __future__ import annotations

import pytest

from stormproof.core.balancers import PeakEwma
from stormproof.core.budget import RetryBudget
from stormproof.core.endpoint import Endpoint
from stormproof.core.failover import Failover
from stormproof.core.outcome import Code, Evidence, Outcome
from stormproof.core.policy import Backoff, Checkpoint, Policy, Retry


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: Endpoint(""), "address must be a text such as '10.0.0.1:50051'; got ''"),
        (lambda: Endpoint("a:1", weight=-1), "weight must be a number, from 0 to 1e.12 .*; got -1"),
        (lambda: Endpoint("a:1", weight=float("nan")), "weight must be a number.*; got nan"),
        (lambda: Endpoint("a:1", priority=-1), "priority must be a whole number, from 0 to 1000"),
        (
            lambda: Policy(timeout=0),
            "timeout must be a number, from 0.001 to 1e.09 .seconds, or None for no limit.; got 0",
        ),
        (lambda: Policy(timeout="1s"), "timeout must be a number.*; got '1s'"),
        (lambda: Policy(attempt_timeout=-1), "attempt_timeout must be a number"),
        (lambda: Policy(retry=3), r"retry must be a Retry, such as Retry\(attempts=3\), or None for no retry; got 3"),
        (lambda: Retry(attempts=0), "attempts must be a whole number, from 1 to 10 .with the first one in.; got 0"),
        (
            lambda: Retry(on={"UNAVAILABEL"}),
            "on must hold gRPC status codes, such as Code.UNAVAILABLE; got 'UNAVAILABEL'",
        ),
        (lambda: Retry(on={Code.OK}), "on must not hold OK"),
        (lambda: Retry(on=Code.UNAVAILABLE), "on must be a set of gRPC status codes"),
        (lambda: Policy(timeout=float("inf")), "timeout must be a number"),
        (lambda: Policy(timeout=10**400), "timeout must be a number"),
        (lambda: Backoff(base=-1), "base must be a number, from 0 to 1e.09 .seconds.; got -1"),
        (lambda: Backoff(multiplier=0.5), "multiplier must be a number, from 1 to 100"),
        (
            lambda: Checkpoint(resume="page", cursor="id"),
            "resume must be a function of .request, cursor.; got 'page'; cursor must be a function of a message, or None",
        ),
    ],
)
def test_bad_values_say_what_is_wrong(build, says):
    """One ValueError, at construction."""
    with pytest.raises(ValueError, match=says):
        build()


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 10**400], ids=["inf", "nan", "huge"])
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (PeakEwma, "decay"), (PeakEwma, "failure"), (PeakEwma, "probe"), (Backoff, "base"), (Backoff, "multiplier"),
        (Backoff, "cap"), (Failover, "base"), (Failover, "cap"), (Failover, "rate"), (Failover, "minimum"),
        (RetryBudget, "per_second"), (RetryBudget, "window"),
    ],
)  # fmt: skip
def test_what_has_no_end_is_refused(kind, name, value):
    """Infinity, NaN and what no float can hold would fail long after, in the middle of a call."""
    with pytest.raises(ValueError, match=f"^{kind.__name__}: {name} must be a"):
        kind(**{name: value})


def test_all_problems_are_told_together():
    """Nobody fixes a configuration one error at a time."""
    with pytest.raises(ValueError, match="timeout must be .*; attempt_timeout must be .*; idempotent must be"):
        Policy(timeout=-1, attempt_timeout=0, idempotent="yes")


@pytest.mark.parametrize(
    ("outcome", "definite"),
    [
        (Outcome(Code.OK), True),
        (Outcome(Code.UNAVAILABLE, Evidence.NEVER_SENT), True),
        (Outcome(Code.UNAVAILABLE, Evidence.ANSWERED), True),
        (Outcome(Code.INTERNAL, Evidence.ANSWERED), False),
        (Outcome(Code.UNAVAILABLE, Evidence.LOST), False),
        (Outcome(Code.DEADLINE_EXCEEDED, Evidence.LOST), False),
    ],
)
def test_an_outcome_knows_whether_the_work_may_be_done(outcome, definite):
    """Definite: surely done, or surely not. Everything else is not."""
    assert outcome.definite is definite


def test_codes_may_be_given_by_name():
    """Retry(on={"ABORTED"}) is Retry(on={Code.ABORTED})."""
    assert Retry(on={"ABORTED"}) == Retry(on={Code.ABORTED})

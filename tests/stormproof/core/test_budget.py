"""Retry budgets against their bound, and against the storms they are there for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stormproof.core.budget import RetryBudget


@pytest.mark.guarantee(56)
@given(
    steps=st.lists(st.tuples(st.floats(0, 3), st.booleans()), max_size=300),
    ratio=st.sampled_from([0.0, 0.1, 0.5]),
    per_second=st.sampled_from([0.0, 1.0, 10.0]),
)
def test_retries_never_exceed_the_published_bound(steps, ratio, per_second):
    """Retries <= ratio * successes + per_second * (seconds + window), for every history (Finagle's RetryBudgetTest)."""
    budget = RetryBudget(ratio=ratio, per_second=per_second, window=10.0)
    account, now, successes, retries = budget.account(), 0.0, 0, 0
    for passed, success in steps:
        now += passed
        if success:
            account.succeeded(now)
            successes += 1
        else:
            retries += account.withdraw(now)
        assert retries <= ratio * successes + per_second * (now + 10.0) + 1e-6


@pytest.mark.guarantee(56)
def test_an_outage_earns_nothing():
    """1000 calls a second fail for a minute after a good minute: at most 1.05 attempts a call, not 3."""
    account = RetryBudget().account()
    for call in range(60_000):
        account.succeeded(call / 1000)
    retries = sum(account.withdraw(60 + call / 1000) for call in range(60_000))
    assert 1 + retries / 60_000 <= 1.05


def test_isolated_failures_are_all_retried():
    """One call in a hundred fails: every one of them may be retried."""
    account, refused = RetryBudget().account(), 0
    for call in range(10_000):
        if call % 100:
            account.succeeded(call / 1000)
        else:
            refused += not account.withdraw(call / 1000)
    assert refused == 0


def test_a_quiet_channel_can_retry_too():
    """One failing call every two seconds, never a success: the reserve pays for each."""
    account = RetryBudget().account()
    assert all(account.withdraw(2.0 * call) for call in range(500))


def test_an_unlimited_budget_never_says_no():
    """The null object for comparisons."""
    account = RetryBudget.unlimited().account()
    assert all(account.withdraw(0.0) for _ in range(10_000))


def test_a_bad_budget_names_everything_that_is_wrong():
    """All problems of a value are reported together."""
    with pytest.raises(ValueError, match=r"ratio must be .* from 0 to 1 .*; per_second must be .*; window must be"):
        RetryBudget(ratio=2.0, per_second=-1.0, window=0.0)

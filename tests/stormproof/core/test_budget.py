"""Retry budgets against their bound, and against the storms they are there for."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from machines import ANSWERED, pool_of

from stormproof.core.balancers import RoundRobin
from stormproof.core.budget import RetryBudget
from stormproof.core.call import Call, Start
from stormproof.core.outcome import OK
from stormproof.core.policy import Backoff, Policy, Retry


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


@pytest.mark.guarantee(55)
@given(
    steps=st.lists(st.tuples(st.floats(0, 3) | st.floats(0, 0.2), st.integers(0, 3)), max_size=200),
    ratio=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    per_second=st.sampled_from([0.0, 0.3, 1.0, 10.0]),
)
def test_the_account_is_its_model(steps, ratio, per_second):
    """Two purses. What successes earned fades to 1/e in 10 s, a step of 0.1 s at the least, and is spent first; the reserve
    starts full, at 10 s of its rate, and refills. Each retry takes one coin from one of them, whole, or there is none."""
    account = RetryBudget(ratio=ratio, per_second=per_second, window=10.0).account()
    now, earned, faded, successes = 0.0, 0.0, 0.0, 0
    reserve, refilled = 10.0 * per_second, None
    for passed, what in steps:
        now += passed
        if now - faded > 0.1:
            earned, faded = earned * math.exp((faded - now) / 10.0), now
        if what:
            account.succeeded(now)
            earned, successes = earned + ratio, successes + 1
            continue
        may = earned >= 1.0
        earned -= may
        if not may:
            reserve = min(10.0 * per_second, reserve + per_second * (now - (now if refilled is None else refilled)))
            refilled = now
            may = reserve >= 1.0
            reserve -= may
        assert account.withdraw(now) is may
        assert account._earned == pytest.approx(earned, abs=1e-9)
        assert account._reserve == pytest.approx(reserve, abs=1e-9)
        assert 0.0 <= account._earned <= ratio * successes + 1e-9
        assert 0.0 <= account._reserve <= 10.0 * per_second


class Layers:
    """Clients that call clients that call servers: each layer is a pool with a budget, each attempt a call of the next one."""

    def __init__(self, count: int, budget: RetryBudget) -> None:
        self.pools = [pool_of("a", "b", "c", balancer=RoundRobin(), budget=budget, seed=n) for n in range(count)]
        self.policy = Policy(timeout=None, retry=Retry(attempts=3, backoff=Backoff(base=0.0)))
        self.leaves = 0
        self.down = True

    def call(self, now: float, layer: int = 0):
        if layer == len(self.pools):
            self.leaves += 1
            return ANSWERED if self.down else OK
        call = Call(self.pools[layer], self.policy)
        actions = call.begin(now)
        while isinstance(actions[0], Start):
            actions = call.finished(actions[0].attempt, self.call(now, layer + 1), now)
        return actions[0].outcome


@pytest.mark.guarantee(57)
@pytest.mark.parametrize("good", [0.0, 20.0])
def test_in_a_total_outage_layers_do_not_multiply_their_retries(good):
    """Three layers of three attempts, every server answers UNAVAILABLE, 200 calls a second for 60 s, after 20 good seconds or
    from the start. Unbound that is 27 attempts a call. Of ours the retries of the layers add up, to their budgets: 3 times 10
    of the reserve, 1 a second, and what the good seconds earned, 0.1 * 200 * 10 * (1 - exp(-2)) = 173; at most 1.06 attempts
    a call."""
    layers = Layers(3, RetryBudget())
    layers.down = False
    for number in range(int(200 * good)):
        assert layers.call(number / 200) is OK
    layers.down, layers.leaves = True, 0
    for number in range(12_000):
        layers.call(good + number / 200)
    earned = 173 if good else 0
    assert 12_000 < layers.leaves <= 12_000 + 3 * (10 + 60 + earned + 1)
    assert layers.leaves / 12_000 <= 1.061

    storm = Layers(3, RetryBudget.unlimited())
    for number in range(100):
        storm.call(number / 200)
    assert storm.leaves == 2700


@pytest.mark.guarantee(57)
def test_at_the_first_moment_of_an_outage_layers_do_not_multiply_either():
    """Frozen time: 1000 calls at once into an outage. Each layer has its 10 retries, all three 30: 1030 attempts, not 27000."""
    layers = Layers(3, RetryBudget())
    for _ in range(1000):
        layers.call(5.0)
    assert layers.leaves == 1030

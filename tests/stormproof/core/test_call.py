"""The machine of one call, as timetables: what happened and when goes in, the actions are compared to literal lists."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machines import ANSWERED, CANCELLED, LOST, REFUSED, TIMED_OUT, WRONG, picks, pool_of

from stormproof.core.balancers import Adaptive, LeastRequest, PeakEwma
from stormproof.core.budget import RetryBudget
from stormproof.core.call import Call, Cancel, Cause, Finish, Start, State
from stormproof.core.endpoint import Endpoint
from stormproof.core.failover import Failover
from stormproof.core.outcome import OK, Code, Evidence, Outcome
from stormproof.core.policy import Backoff, Hedge, Policy, Retry

A, B, C = Endpoint("a:1"), Endpoint("b:1"), Endpoint("c:1")
AT_ONCE = Backoff(base=0.0)
PUSHED = Outcome(Code.UNAVAILABLE, pushback=0.25)


def start(
    attempt: int, endpoint: Endpoint, timeout: float | None, cause: Cause | None = None, sent: int | None = None
) -> Start:
    """An attempt; those after the first are retries unless said otherwise."""
    if cause is None:
        cause = Cause.FIRST if attempt == 1 else Cause.RETRY
    return Start(attempt, endpoint, timeout, attempt if sent is None else sent, cause)


def test_a_success_is_one_attempt_and_one_finish():
    """The plain case: one attempt with all of the deadline, and its answer."""
    call = Call(pool_of("a", "b"), Policy(timeout=1.0))
    assert call.begin(10.0) == [start(1, A, 1.0)]
    assert call.finished(1, OK, 10.2) == [Finish(1, OK)]
    assert call.state is State.DONE


@pytest.mark.guarantee(58, 65)
def test_a_retry_goes_elsewhere_with_what_is_left_of_the_deadline():
    """Attempt 2 avoids the endpoint that failed, and gets the remaining time, not a fresh deadline (gRFC A6)."""
    call = Call(pool_of("a", "b"), Policy(timeout=1.0, retry=Retry(backoff=AT_ONCE)))
    assert call.begin(0.0) == [start(1, A, 1.0)]
    assert call.finished(1, ANSWERED, 0.4) == [start(2, B, 0.6)]
    assert call.finished(2, OK, 0.5) == [Finish(2, OK)]


@pytest.mark.guarantee(65)
def test_an_attempt_gets_the_smaller_of_its_own_limit_and_what_is_left():
    """timeout = min(per attempt, remaining): 0.4, 0.4, then the 0.2 that are left."""
    policy = Policy(timeout=1.0, attempt_timeout=0.4, idempotent=True, retry=Retry(backoff=AT_ONCE))
    call = Call(pool_of("a", "b", "c"), policy)
    assert call.begin(0.0) == [start(1, A, 0.4)]
    assert call.finished(1, TIMED_OUT, 0.4) == [start(2, B, 0.4)]
    [third] = call.finished(2, TIMED_OUT, 0.8)
    assert third == start(3, C, pytest.approx(0.2))


def test_the_callers_own_timeout_counts_when_it_is_smaller():
    """The smaller of the policy's and the caller's timeout wins, whichever it is."""
    assert Call(pool_of("a"), Policy(timeout=5.0), 1.5).begin(0.0) == [start(1, A, 1.5)]
    assert Call(pool_of("a"), Policy(timeout=0.5), 1.5).begin(0.0) == [start(1, A, 0.5)]
    assert Call(pool_of("a"), Policy(timeout=None), None).begin(0.0) == [start(1, A, None)]


@pytest.mark.guarantee(65, 106)
def test_a_deadline_that_has_passed_starts_nothing():
    """A caller that asks with no time left gets DEADLINE_EXCEEDED, and no server hears of it."""
    [finish] = Call(pool_of("a"), Policy(), 0.0).begin(0.0)
    assert (finish.attempt, finish.outcome.code, finish.outcome.definite) == (0, Code.DEADLINE_EXCEEDED, True)


@pytest.mark.guarantee(49)
def test_attempts_count_with_the_first_one_in():
    """attempts=3 is three attempts, and the third failure is the caller's."""
    call = Call(pool_of("a", "b", "c"), Policy(retry=Retry(attempts=3, backoff=AT_ONCE)))
    call.begin(0.0)
    call.finished(1, ANSWERED, 0.1)
    call.finished(2, ANSWERED, 0.2)
    assert call.finished(3, ANSWERED, 0.3) == [Finish(3, ANSWERED)]


@pytest.mark.guarantee(49, 100)
def test_no_retry_is_exactly_one_attempt():
    """retry=None and attempts=1 both mean: never again."""
    for policy in (Policy(retry=None), Policy(retry=Retry(attempts=1))):
        call = Call(pool_of("a", "b"), policy)
        call.begin(0.0)
        assert call.finished(1, ANSWERED, 0.1) == [Finish(1, ANSWERED)]


@pytest.mark.guarantee(100)
@pytest.mark.parametrize(
    ("policy", "timeout", "attempts", "limit", "wait"),
    [
        (Policy(timeout=None, retry=None), None, 1, None, None),
        (Policy(timeout=None, retry=Retry(attempts=1)), None, 1, None, None),
        (Policy(timeout=None, retry=Retry(on=set())), None, 1, None, None),
        (Policy(timeout=None, retry=Retry(attempts=2, backoff=AT_ONCE)), None, 2, None, None),
        (Policy(timeout=None, retry=Retry(attempts=2, backoff=Backoff(cap=0.0))), None, 2, None, None),
        (Policy(timeout=None, attempt_timeout=None, retry=None), 3.0, 1, 3.0, None),
        (Policy(timeout=2.0, attempt_timeout=None, retry=None), None, 1, 2.0, None),
        (Policy(timeout=None, attempt_timeout=0.5, retry=None), None, 1, 0.5, None),
        (Policy(timeout=9.0, retry=None), 0.0, 0, None, None),
        (Policy(timeout=9.0, retry=None), -1.0, 0, None, None),
        (Policy(timeout=None, retry=None, hedge=None), None, 1, None, None),
        (Policy(timeout=None, retry=None, hedge=Hedge(after=0.0)), None, 1, None, 0.0),
    ],
)
def test_nought_and_none_mean_what_they_say(policy, timeout, attempts, limit, wait):
    """None is "no such thing" (no limit, no retry, no copy), 0 is nought (no wait, no time, no further attempt)."""
    call, made = Call(pool_of("a", "b"), policy, timeout), 0
    actions = call.begin(0.0)
    assert call.wake_at == wait
    while isinstance(actions[0], Start):
        made += 1
        assert actions[0].timeout == limit
        actions = call.finished(made, ANSWERED, 0.0) if wait is None else [None]
    assert made == attempts


@pytest.mark.guarantee(100)
@pytest.mark.parametrize(
    ("build", "name"),
    [
        (lambda value: Retry(attempts=value), "attempts"),
        (lambda value: Policy(timeout=value), "timeout"),
        (lambda value: Policy(attempt_timeout=value), "attempt_timeout"),
        (lambda value: Hedge(after=1, attempts=value), "attempts"),
    ],
)
@pytest.mark.parametrize("value", [0, float("inf"), float("nan"), -1])
def test_what_nought_and_no_end_cannot_mean_is_refused(build, name, value):
    """Attempts count with the first one in, so 0 of them makes no sense; no limit is None and not infinity."""
    with pytest.raises(ValueError, match=f"{name} must be"):
        build(value)


@pytest.mark.guarantee(100)
def test_no_budget_is_no_retry_and_no_copy():
    """RetryBudget(ratio=0, per_second=0) allows none, however many calls went well before."""
    pool = pool_of("a", "b", budget=RetryBudget(ratio=0.0, per_second=0.0))
    for policy in (Policy(retry=Retry(backoff=AT_ONCE)), HEDGED):
        for _ in range(100):
            call = Call(pool, policy)
            call.begin(0.0)
            call.finished(1, OK, 0.0)
        call = Call(pool, policy)
        call.begin(0.0)
        assert call.finished(1, ANSWERED, 0.0) == [Finish(1, ANSWERED)]


@pytest.mark.guarantee(50)
def test_a_code_that_is_not_listed_is_not_retried():
    """INVALID_ARGUMENT is an answer: exactly one attempt."""
    call = Call(pool_of("a", "b"), Policy())
    call.begin(0.0)
    assert call.finished(1, WRONG, 0.1) == [Finish(1, WRONG)]


@pytest.mark.guarantee(60)
@pytest.mark.parametrize("outcome", [LOST, TIMED_OUT])
def test_work_that_may_be_done_is_repeated_only_where_that_is_harmless(outcome):
    """A lost attempt of a plain method is the end of its call; of an idempotent one it is followed by another."""
    call = Call(pool_of("a", "b"), Policy(retry=Retry(backoff=AT_ONCE)))
    call.begin(0.0)
    assert call.finished(1, outcome, 0.1) == [Finish(1, outcome)]

    call = Call(pool_of("a", "b"), Policy(idempotent=True, retry=Retry(backoff=AT_ONCE)))
    call.begin(0.0)
    assert [type(action) for action in call.finished(1, outcome, 0.1)] == [Start]


@pytest.mark.guarantee(59)
def test_what_was_never_sent_goes_elsewhere_for_free():
    """No connection: the next endpoint at once. Not counted, not waited for, not paid for, and no server is told of it."""
    pool = pool_of("a", "b", "c", budget=RetryBudget(ratio=0.0, per_second=0.0))
    call = Call(pool, Policy(timeout=1.0, retry=None))
    assert call.begin(0.0) == [start(1, A, 1.0)]
    assert call.finished(1, REFUSED, 0.0) == [start(2, B, 1.0, Cause.TRANSPARENT, sent=1)]
    assert call.finished(2, REFUSED, 0.0) == [start(3, C, 1.0, Cause.TRANSPARENT, sent=1)]
    assert call.finished(3, REFUSED, 0.0) == [Finish(3, REFUSED)]


def test_an_attempt_says_why_it_starts():
    """When nobody is left untried, an attempt after one that was never sent is a retry like any other, not transparent."""
    call = Call(pool_of("a", "b"), Policy(timeout=1.0, retry=Retry(backoff=AT_ONCE)))
    started = call.begin(0.0) + call.finished(1, REFUSED, 0.0) + call.finished(2, REFUSED, 0.0)
    assert [start.cause for start in started] == [Cause.FIRST, Cause.TRANSPARENT, Cause.RETRY]


def test_without_failover_nothing_moves_for_free():
    """failover=None: an attempt that could not be sent is a failed attempt like any other."""
    call = Call(pool_of("a", "b", failover=None), Policy(retry=None))
    call.begin(0.0)
    assert call.finished(1, REFUSED, 0.0) == [Finish(1, REFUSED)]


@pytest.mark.guarantee(52)
def test_the_wait_before_a_retry_is_drawn_from_nothing_to_its_bound():
    """Full jitter: uniform on [0, min(cap, base * multiplier ** (n - 1))], by KS test over 2000 draws at alpha 1e-6."""
    from scipy.stats import kstest

    backoff, rng = Backoff(base=0.1, multiplier=2.0, cap=0.3), random.Random(7)
    for failed, bound in ((1, 0.1), (2, 0.2), (3, 0.3), (9, 0.3)):
        draws = [backoff.delay(failed, rng) for _ in range(2000)]
        assert kstest(draws, "uniform", args=(0, bound)).pvalue > 1e-6


def test_a_call_waits_and_is_woken():
    """With a backoff the machine says when to wake it, does nothing until then, and starts the next attempt then."""
    call = Call(pool_of("a", "b"), Policy(timeout=1.0, retry=Retry(backoff=Backoff(base=0.1))))
    call.begin(0.0)
    assert call.finished(1, ANSWERED, 0.5) == []
    assert call.state is State.WAITING
    assert call.wake_at is not None
    assert 0.5 <= call.wake_at <= 0.6
    assert call.woke(0.6) == [start(2, B, 0.4)]
    assert call.wake_at is None


@pytest.mark.guarantee(65)
def test_a_wait_past_the_deadline_is_not_begun():
    """If the next attempt could only start when the call is over, the caller hears of the failure now."""
    call = Call(pool_of("a", "b"), Policy(timeout=1.0, retry=Retry(backoff=Backoff(base=50.0, cap=50.0))))
    call.begin(0.0)
    assert call.finished(1, ANSWERED, 0.9) == [Finish(1, ANSWERED)]


@pytest.mark.guarantee(65)
def test_a_driver_that_wakes_too_late_gets_the_last_failure():
    """No attempt starts with nothing left of the deadline, however late the machine is woken."""
    call = Call(pool_of("a", "b"), Policy(timeout=1.0, retry=Retry(backoff=Backoff(base=0.1))))
    call.begin(0.0)
    call.finished(1, ANSWERED, 0.5)
    assert call.woke(1.0) == [Finish(1, ANSWERED)]


@pytest.mark.guarantee(54)
def test_a_server_says_when_to_come_back():
    """grpc-retry-pushback-ms: exactly that wait, whatever the backoff; negative: not at all (gRFC A6)."""
    for pushback, wake_at in ((0.25, 0.35), (-1.0, None)):
        call = Call(pool_of("a", "b"), Policy(timeout=1.0))
        call.begin(0.0)
        actions = call.finished(1, Outcome(Code.UNAVAILABLE, pushback=pushback), 0.1)
        assert call.wake_at == (pytest.approx(wake_at) if wake_at else None)
        assert len(actions) == (0 if wake_at else 1)


@pytest.mark.guarantee(54)
def test_after_a_pushback_the_waits_begin_anew():
    """Waits grow 1, 2, 4; after a pushback the next one is at most 1 again (gRFC A6); 200 seeds."""
    policy = Policy(timeout=None, retry=Retry(attempts=6, backoff=Backoff(base=1.0, cap=100.0)))
    longest = [0.0] * 5
    for seed in range(200):
        call, now = Call(pool_of(*"abcdef", budget=RetryBudget.unlimited(), seed=seed), policy), 0.0
        call.begin(now)
        for number, outcome in enumerate([ANSWERED, ANSWERED, PUSHED, ANSWERED, ANSWERED]):
            call.finished(number + 1, outcome, now)
            longest[number] = max(longest[number], call.wake_at - now)
            now = call.wake_at
            call.woke(now)
    assert longest == [pytest.approx(most, rel=0.1) for most in (1.0, 2.0, 0.25, 1.0, 2.0)]


@pytest.mark.guarantee(54)
def test_a_pushback_moves_the_next_copy_or_forbids_it():
    """Copy 2 at 0.1 s. At 0.15 s copy 1 says 0.25 s: copy 3 starts at 0.4 s. It says no: none does, and copy 2 may win."""
    for pushback, wake_at in ((0.25, 0.4), (-1.0, None)):
        call = Call(pool_of("a", "b", "c"), HEDGED)
        call.begin(0.0)
        call.woke(0.1)
        assert call.finished(1, Outcome(Code.UNAVAILABLE, pushback=pushback), 0.15) == []
        assert call.wake_at == (pytest.approx(wake_at) if wake_at else None)
        if wake_at:
            assert call.woke(0.4) == [start(3, C, pytest.approx(0.6), Cause.HEDGE)]
        else:
            assert call.finished(2, OK, 0.2) == [Finish(2, OK)]


@pytest.mark.guarantee(54)
def test_no_pushback_adds_an_attempt():
    """Two attempts are two, whatever the server says to the second one."""
    call = Call(pool_of("a", "b", "c"), Policy(retry=Retry(attempts=2, backoff=AT_ONCE)))
    call.begin(0.0)
    call.finished(1, ANSWERED, 0.1)
    assert call.finished(2, PUSHED, 0.2) == [Finish(2, PUSHED)]


@pytest.mark.guarantee(106)
def test_a_retry_needs_the_channels_budget():
    """An empty budget ends the call; nothing else is changed by asking."""
    pool = pool_of("a", "b", budget=RetryBudget(ratio=0.0, per_second=0.1, window=10.0))
    first, second = Call(pool, Policy(retry=Retry(backoff=AT_ONCE))), Call(pool, Policy(retry=Retry(backoff=AT_ONCE)))
    first.begin(0.0)
    assert len(first.finished(1, ANSWERED, 0.0)) == 1
    second.begin(0.0)
    assert second.finished(1, ANSWERED, 0.0) == [Finish(1, ANSWERED)]


def test_a_call_that_a_server_cancels_is_one_that_nobody_answered():
    """A server that stops cancels what it cannot finish: repeated where that is harmless, told otherwise."""
    for idempotent, kinds in ((True, [Start]), (False, [Finish])):
        call = Call(pool_of("a", "b"), Policy(idempotent=idempotent, retry=Retry(backoff=AT_ONCE)))
        call.begin(0.0)
        assert [type(action) for action in call.finished(1, CANCELLED, 0.1)] == kinds


@pytest.mark.guarantee(80, 106)
def test_our_own_mistakes_are_told_at_once_and_nobody_is_blamed():
    """A request that cannot be serialized: one attempt, and no endpoint's breaker hears of it."""
    pool = pool_of("a", "b")
    for _ in range(9):
        call = Call(pool, Policy(idempotent=True))
        call.begin(0.0)
        mistake = Outcome(Code.INTERNAL, Evidence.NEVER_SENT, "Exception serializing request!")
        assert call.finished(1, mistake, 0.1) == [Finish(1, mistake)]
    assert pool.begin(1.0).member.index == 0


@pytest.mark.guarantee(68, 99)
def test_cancelling_ends_the_attempt_and_the_call():
    """The attempt in flight is cancelled, the caller is answered at once, and the late end of the attempt does nothing."""
    pool = pool_of("a", "b")
    call = Call(pool, Policy())
    call.begin(0.0)
    cancel, finish = call.cancelled(0.1)
    assert (cancel, finish.outcome.code) == (Cancel(1), Code.CANCELLED)
    assert pool.members[0].in_flight == 1
    assert call.finished(1, CANCELLED, 0.2) == []
    assert pool.members[0].in_flight == 0
    assert call.cancelled(0.3) == []


@pytest.mark.guarantee(61)
def test_cancelling_during_a_wait_starts_nothing_more():
    """Zero further attempts after a cancellation, also when the driver's timer fires all the same."""
    call = Call(pool_of("a", "b"), Policy(timeout=1.0))
    call.begin(0.0)
    call.finished(1, ANSWERED, 0.0)
    assert [type(action) for action in call.cancelled(0.001)] == [Finish]
    assert call.woke(0.5) == []


def test_a_single_endpoint_is_tried_again():
    """A retry with nowhere else to go goes where it can."""
    call = Call(pool_of("a"), Policy(timeout=1.0, retry=Retry(backoff=AT_ONCE)))
    call.begin(0.0)
    assert call.finished(1, ANSWERED, 0.1) == [start(2, A, 0.9)]


HEDGED = Policy(timeout=1.0, hedge=Hedge(after=0.1, attempts=3), retry=Retry(attempts=2, backoff=AT_ONCE))


@pytest.mark.guarantee(69, 73)
def test_copies_start_on_time_on_other_endpoints_until_one_answers():
    """Copy k starts k * after later unless a result came; the first success wins, the others are cancelled (gRFC A6)."""
    call = Call(pool_of("a", "b", "c"), HEDGED)
    assert call.begin(0.0) == [start(1, A, 1.0)]
    assert call.wake_at == 0.1
    assert call.woke(0.1) == [start(2, B, 0.9, Cause.HEDGE)]
    assert call.woke(0.2) == [start(3, C, 0.8, Cause.HEDGE)]
    assert call.wake_at is None
    assert call.finished(2, OK, 0.25) == [Cancel(1), Cancel(3), Finish(2, OK)]
    assert call.finished(1, CANCELLED, 0.26) == [] == call.finished(3, CANCELLED, 0.26)


@pytest.mark.guarantee(69, 99)
def test_an_answer_in_time_starts_no_copy():
    """No second copy when the first one answers before `after`, also when the timer fires all the same."""
    call = Call(pool_of("a", "b"), HEDGED)
    call.begin(0.0)
    assert call.finished(1, OK, 0.05) == [Finish(1, OK)]
    assert call.woke(0.1) == []


@pytest.mark.guarantee(69)
def test_a_copy_that_fails_harmlessly_starts_the_next_at_once():
    """UNAVAILABLE from one of two copies in flight: the third starts now, not at its time."""
    call = Call(pool_of("a", "b", "c"), HEDGED)
    call.begin(0.0)
    call.woke(0.1)
    assert call.finished(1, ANSWERED, 0.12) == [start(3, C, 0.88, Cause.HEDGE)]
    assert call.finished(3, OK, 0.2) == [Cancel(2), Finish(3, OK)]


@pytest.mark.guarantee(71)
def test_a_fatal_answer_ends_the_race():
    """INVALID_ARGUMENT would be the answer of every server: all copies are cancelled and it is told."""
    call = Call(pool_of("a", "b", "c"), HEDGED)
    call.begin(0.0)
    call.woke(0.1)
    assert call.finished(2, WRONG, 0.15) == [Cancel(1), Finish(2, WRONG)]


def test_if_all_copies_fail_the_first_error_is_told():
    """The caller hears of the first failure, after the retries that are left."""
    call = Call(pool_of("a", "b", "c"), Policy(timeout=1.0, hedge=Hedge(after=0.1), retry=None))
    call.begin(0.0)
    call.woke(0.1)
    assert call.finished(2, LOST, 0.2) == []
    assert call.finished(1, ANSWERED, 0.3) == [Finish(2, LOST)]


@pytest.mark.guarantee(72)
def test_copies_are_paid_for_from_the_budget():
    """An empty budget starts no copy; the call goes on with the one it has."""
    call = Call(pool_of("a", "b", budget=RetryBudget(ratio=0.0, per_second=0.0)), HEDGED)
    call.begin(0.0)
    assert call.woke(0.1) == []
    assert call.finished(1, OK, 0.5) == [Finish(1, OK)]


@pytest.mark.guarantee(72)
def test_the_cap_on_copies_is_exact_when_latencies_jump_a_hundredfold():
    """1000 fast calls, then 1000 that all need a copy: copies never exceed ratio * successes + the reserve."""
    pool = pool_of("a", "b", budget=RetryBudget(ratio=0.02, per_second=0.0))
    policy = Policy(timeout=9.0, hedge=Hedge(after=0.01))
    for number in range(1000):
        call = Call(pool, policy)
        call.begin(number * 0.001)
        call.finished(1, OK, number * 0.001 + 0.0005)
    copies = 0
    for number in range(1000):
        call, now = Call(pool, policy), 1.0 + number * 0.001
        call.begin(now)
        copies += len(call.woke(now + 0.01))
    assert 10 <= copies <= 20


@pytest.mark.guarantee(74)
@pytest.mark.parametrize("balancer", [PeakEwma(), LeastRequest()], ids=repr)
@pytest.mark.parametrize("known", [True, False])
def test_a_loser_changes_no_statistics_but_its_place_in_flight(balancer, known):
    """A cancelled copy: in-flight goes back; breaker, failure rate, latency estimate and budget stay as they were. Here the
    endpoint takes 0.5 s, if it was heard from, and was silent for 0.3."""
    pool = pool_of("a", "b", balancer=balancer, seed=1)
    for _ in range(30 if known else 0):
        flight = pool.begin(0.0)
        pool.finished(flight, ANSWERED if flight.member.index and not flight.member.breaker._row else OK, 0.5)

    def statistics(member):
        load, breaker = member.load, member.breaker
        latency = load and (load.estimate, load.observed, load.idle, load.expected(9.9))
        return breaker.state, breaker.recent(9.9), breaker._row, latency, (account._earned, account._reserve)

    call, account = Call(pool, HEDGED), pool.account
    before = [statistics(member) for member in pool.members]
    [first] = call.begin(5.0)
    [second] = call.woke(5.1)
    winner, loser = (next(m for m in pool.members if m.endpoint == s.endpoint) for s in (second, first))
    call.finished(2, OK, 5.2)
    paid = statistics(loser)[-1]
    assert (winner.in_flight, loser.in_flight) == (0, 1)
    call.finished(1, CANCELLED, 5.3)
    assert loser.in_flight == 0
    assert statistics(loser) == (*before[loser.index][:-1], paid)


@pytest.mark.guarantee(74)
@pytest.mark.parametrize("balancer", [PeakEwma(), Adaptive()], ids=repr)
def test_a_loser_was_silent_for_so_long_and_that_is_believed(balancer):
    """An endpoint that answers in 20 ms loses three races after 300 ms of silence each: it takes 300 ms at least, and no
    call follows. (Else hedged calls would never learn that it is slow: it cannot answer before it is cancelled.)"""
    pool = pool_of("a", "b", balancer=balancer, failover=None, seed=1)
    for turn in range(60):
        pool.finished(pool.begin(turn * 0.1), OK, turn * 0.1 + 0.02)
    slow = pool.members[0]
    flights = [pool.begin(6.0) for _ in range(6)]
    for flight in sorted(flights, key=lambda flight: flight.member is slow):
        pool.finished(flight, *((CANCELLED, 6.3) if flight.member is slow else (OK, 6.02)))
    assert slow.in_flight == 0
    assert {pool.begin(6.31 + turn * 0.001).member.index for turn in range(50)} == {1}


@pytest.mark.guarantee(74)
def test_a_trial_that_loses_a_race_is_no_verdict():
    """An ejected endpoint's trial is cancelled since the other copy was quicker: it stays ejected, and is tried next."""
    pool = pool_of("a", "b")
    pool.finished(pool.begin(0.0), REFUSED, 0.0)
    call = Call(pool, HEDGED)
    assert [call.begin(1.0), call.woke(1.1)] == [[start(1, A, 1.0)], [start(2, B, pytest.approx(0.9), Cause.HEDGE)]]
    call.finished(2, OK, 1.2)
    call.finished(1, CANCELLED, 1.3)
    assert pool.members[0].breaker.state.name == "OPEN"
    assert pool.begin(1.3).member.index == 0


@pytest.mark.guarantee(68)
def test_cancelling_a_race_cancels_every_copy():
    """All copies in flight are cancelled, and none starts afterwards."""
    call = Call(pool_of("a", "b", "c"), HEDGED)
    call.begin(0.0)
    call.woke(0.1)
    assert call.cancelled(0.15)[:2] == [Cancel(1), Cancel(2)]
    assert call.woke(0.2) == []


@pytest.mark.guarantee(5, 70)
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_race_ends_once_and_lets_go_of_everything(data):
    """Any order of ends and timers: one Finish, at most the allowed copies in flight, nothing in flight at the end."""
    pool = pool_of("a", "b", "c", budget=RetryBudget.unlimited())
    call, now, flying, finishes = Call(pool, HEDGED), 0.0, set(), 0

    def perform(actions):
        nonlocal finishes
        for action in actions:
            flying.update({action.attempt} if isinstance(action, Start) else ())
            finishes += isinstance(action, Finish)

    perform(call.begin(now))
    for _ in range(60):
        if not flying and call.wake_at is None:
            break
        assert len(flying) <= 3
        if call.wake_at is not None and (not flying or data.draw(st.booleans())):
            now = max(now, call.wake_at)
            perform(call.woke(now))
        else:
            ended = data.draw(st.sampled_from(sorted(flying)))
            flying.discard(ended)
            now += 0.001
            perform(call.finished(ended, data.draw(OUTCOMES), now))
    assert finishes == 1
    assert [member.in_flight for member in pool.members] == [0, 0, 0]


OUTCOMES = st.sampled_from(
    [OK, REFUSED, ANSWERED, LOST, TIMED_OUT, WRONG, CANCELLED, Outcome(Code.UNAVAILABLE, pushback=0.0)]
)


@pytest.mark.guarantee(5, 49, 53, 60, 65)
@settings(max_examples=400, deadline=None)
@given(
    outcomes=st.lists(st.tuples(OUTCOMES, st.floats(0, 0.5)), min_size=30, max_size=30),
    attempts=st.integers(1, 5),
    base=st.sampled_from([0.0, 0.0005, 0.1]),
    idempotent=st.booleans(),
    failover=st.sampled_from([None, Failover()]),
)
def test_every_call_ends_once_in_time_and_lets_go_of_everything(outcomes, attempts, base, idempotent, failover):
    """Whatever happens: exactly one Finish, attempts within bounds, no start at or past the deadline, nothing in flight,
    and no second attempt after one that may have been executed unless the method is idempotent."""
    pool = pool_of("a", "b", "c", failover=failover, budget=RetryBudget.unlimited())
    policy = Policy(timeout=2.0, attempt_timeout=0.5, idempotent=idempotent,
                    retry=Retry(attempts=attempts, backoff=Backoff(base=base)))  # fmt: skip
    call = Call(pool, policy)
    now, actions, counted, lost = 0.0, call.begin(0.0), 0, False
    steps = iter(outcomes)
    while not (actions and isinstance(actions[0], Finish)):
        if not actions:
            assert call.wake_at is not None
            now = max(now, call.wake_at)
            actions = call.woke(now)
            continue
        [action] = actions
        assert isinstance(action, Start)
        assert action.timeout is not None
        assert 0 < action.timeout <= min(0.5, 2.0 - now + 1e-9)
        assert not lost or idempotent
        outcome, took = next(steps)
        now += min(took, action.timeout)
        counted += outcome.evidence is not Evidence.NEVER_SENT
        lost = lost or outcome.evidence is Evidence.LOST
        actions = call.finished(action.attempt, outcome, now)
    assert len(actions) == 1
    assert counted <= attempts
    assert [member.in_flight for member in pool.members] == [0, 0, 0]
    assert call.woke(now + 9) == [] == call.cancelled(now + 9)


def test_the_first_message_of_a_stream_proves_its_endpoint():
    """A trial that is a stream of hours lets others in as soon as it is answered; its end is one call like any other."""
    pool = pool_of("a", "b")
    broken = Call(pool, Policy(retry=None))
    broken.begin(0.0)
    broken.finished(1, REFUSED, 0.0)
    stream = Call(pool, Policy())
    assert stream.begin(1.0)[0].endpoint.address == "a:1"
    assert picks(pool, 2, 1.1) == ["b:1", "b:1"]
    stream.progressed(1.2)
    assert picks(pool, 2, 1.3) == ["a:1", "a:1"]
    stream.finished(1, LOST, 3600.0)
    assert picks(pool, 1, 3600.1) == ["a:1"]

"""The drivers' races, in every order, with hand-advanced time: one result, told once, and nothing left in flight."""

from __future__ import annotations

import functools
import logging
import threading

import grpc
import pytest
from by_hand import DRIVERS, by_hand

from stormproof import Backoff, Hedge, Policy, Retry
from stormproof.observer import AttemptEnded, CallEnded

ONCE = Policy(timeout=10.0, retry=None)
RETRIED = Policy(timeout=10.0, retry=Retry(backoff=Backoff(base=1.0)))
HEDGED = Policy(timeout=10.0, hedge=Hedge(after=1.0))
LATE, GONE = grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE


@pytest.fixture(params=DRIVERS)
def hold(request, monkeypatch):
    """Makes a driver, of each kind, that the test holds in its hands."""
    return functools.partial(by_hand, monkeypatch, request.param)


def during(hands, attempt: int, then) -> None:
    """`then` happens just when the end of the attempt is known, before anybody who waits for it hears of it."""
    hands.attempts[attempt - 1].callbacks.insert(0, lambda _: then())


def together(*works) -> None:
    """Each in a thread of its own, as much at once as can be."""
    ready = threading.Barrier(len(works))
    threads = [threading.Thread(target=lambda work=work: (ready.wait(5), work())) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)


# A cancelling and an end


@pytest.mark.guarantee(5, 70, 99)
@pytest.mark.parametrize("code", [grpc.StatusCode.OK, GONE], ids=lambda code: code.name)
def test_an_end_before_the_cancelling_counts(hold, code):
    """The attempt ended first: cancelling comes too late and says so."""
    with hold(ONCE) as hands:
        hands.call()
        hands.end(1, code)
        assert not hands.cancel()
        assert hands.result() == ("hi" if code is grpc.StatusCode.OK else "UNAVAILABLE")
        assert hands.attempts[0].cancels == 0
        assert hands.ended_once()


@pytest.mark.guarantee(5, 68, 70, 99)
@pytest.mark.parametrize("policy", [ONCE, RETRIED, HEDGED], ids=["plain", "retried", "hedged"])
@pytest.mark.parametrize("code", [grpc.StatusCode.OK, GONE], ids=lambda code: code.name)
def test_an_end_after_the_cancelling_changes_nothing(hold, policy, code):
    """The attempt is cancelled; the end that was on its way already brings no answer, no retry and no second callback."""
    with hold(policy) as hands:
        hands.call()
        assert hands.cancel()
        hands.end(1, code)
        hands.advance(5.0)
        assert hands.result() == "CANCELLED"
        assert not hands.cancel()
        assert (len(hands.attempts), hands.attempts[0].cancels) == (1, 1)
        assert hands.ended_once()


@pytest.mark.guarantee(5, 70, 99)
@pytest.mark.parametrize("policy", [ONCE, RETRIED, HEDGED], ids=["plain", "retried", "hedged"])
@pytest.mark.parametrize("code", [grpc.StatusCode.OK, GONE], ids=lambda code: code.name)
def test_an_end_that_arrives_under_the_cancelling(hold, policy, code):
    """Cancelled while the end of the attempt is being told: the call is cancelled, once, and nothing follows."""
    with hold(policy) as hands:
        hands.call()
        during(hands, 1, hands.made.cancel)
        hands.end(1, code)
        hands.advance(5.0)
        assert hands.result() == "CANCELLED"
        assert len(hands.attempts) == 1
        assert hands.ended_once()


@pytest.mark.guarantee(70)
@pytest.mark.parametrize("winner", [1, 2])
def test_a_task_is_cancelled_just_after_the_end_of_the_call_that_it_awaits(monkeypatch, winner):
    """The task is cancelled, as it was told; the call has its answer, and others who await it get that."""
    with by_hand(monkeypatch, "asyncio, awaited", HEDGED) as hands:
        hands.call()
        hands.advance(1.0)
        hands.made.add_done_callback(lambda _: hands.task.cancel())
        hands.end(winner)
        if winner == 2:  # the task waits for the first attempt, whose cancelling it has not heard of
            assert hands.task.cancelled()
        assert (hands.made.done(), hands.made.cancelled()) == (True, False)
        hands.task = None
        assert hands.result() == "hi"
        assert hands.ended_once()


# A close and an end


@pytest.mark.guarantee(5, 70, 99)
def test_an_end_before_the_close_counts(hold):
    """What was answered stays answered."""
    with hold(RETRIED) as hands:
        hands.call()
        hands.end(1)
        hands.close()
        assert hands.result() == "hi"
        assert hands.ended_once()


@pytest.mark.guarantee(5, 70, 99)
@pytest.mark.parametrize("policy", [ONCE, RETRIED, HEDGED], ids=["plain", "retried", "hedged"])
def test_an_end_after_the_close_changes_nothing(hold, policy):
    """The close ended the attempt with CANCELLED, and the call with it; no further attempt is made."""
    with hold(policy) as hands:
        hands.call()
        hands.close()
        hands.end(1)
        hands.advance(5.0)
        assert hands.result() == "CANCELLED"
        assert len(hands.attempts) == 1
        assert hands.ended_once()


@pytest.mark.guarantee(5, 70, 99)
@pytest.mark.parametrize("first", ["cancel", "close"])
def test_a_cancelling_meets_a_close(hold, first):
    """Either way it is CANCELLED, told once."""
    with hold(HEDGED) as hands:
        hands.call()
        hands.advance(1.0)
        for step in ("cancel", "close") if first == "cancel" else ("close", "cancel"):
            getattr(hands, step)()
        assert hands.result() == "CANCELLED"
        assert len(hands.attempts) == 2
        assert hands.ended_once()


# The wait before a retry


def wait_of(hands) -> float:
    """Seconds until the next attempt."""
    return hands.made._run.machine.wake_at - hands.now


@pytest.mark.guarantee(61, 99)
@pytest.mark.parametrize("stop", ["cancel", "close"])
@pytest.mark.parametrize("first", ["the time", "the stop"])
def test_a_retry_that_is_due_meets_its_stop(hold, stop, first):
    """Stopped before it is due: no further attempt, and CANCELLED at once. Stopped after: that attempt is cancelled."""
    with hold(RETRIED) as hands:
        hands.call()
        hands.end(1, GONE)
        wait = wait_of(hands)
        if first == "the time":
            hands.advance(wait)
            getattr(hands, stop)()
        else:
            hands.advance(wait * 0.999)
            getattr(hands, stop)()
            assert hands.made.done()
            hands.advance(wait)
        assert hands.result() == "CANCELLED"
        assert len(hands.attempts) == (2 if first == "the time" else 1)
        assert hands.ended_once()


def test_a_retry_that_wakes_after_the_deadline_is_not_made(hold):
    """The loop, or the thread, was held up for longer than the call has: it ends with the failure there was."""
    with hold(RETRIED) as hands:
        hands.call()
        hands.end(1, GONE)
        hands.advance(10.0)
        assert hands.result() == "UNAVAILABLE"
        assert len(hands.attempts) == 1
        assert hands.ended_once()


@pytest.mark.guarantee(104)
def test_an_answer_is_there_at_once_whatever_timers_are_set(hold):
    """Neither a backoff that is over nor a hedge that is still to come holds an answer up: no time passes."""
    for policy, failures in (RETRIED, 1), (HEDGED, 0):
        with hold(policy) as hands:
            hands.call()
            if failures:
                hands.end(1, GONE)
                hands.advance(wait_of(hands))
            before = hands.now
            hands.end(1 + failures)
            assert hands.made.done()
            assert hands.result() == "hi"
            assert hands.now == before
            assert hands.ended_once()


# A hedge


@pytest.mark.guarantee(69, 70, 99)
@pytest.mark.parametrize("first", ["the answer", "the time"])
def test_a_copy_that_is_due_meets_the_answer(hold, first):
    """Answered before the copy is due: there is none. After: it is cancelled, and what it says later is not heard."""
    with hold(HEDGED) as hands:
        hands.call()
        if first == "the answer":
            hands.advance(0.999)
            hands.end(1)
            hands.advance(0.001)
            assert len(hands.attempts) == 1
        else:
            hands.advance(1.0)
            assert [attempt.address for attempt in hands.attempts] in (["a:1", "b:1"], ["b:1", "a:1"])
            hands.end(1)
            assert hands.attempts[1].cancels == 1
            hands.end(2, grpc.StatusCode.OK, "too late")
        assert hands.result() == "hi"
        assert hands.ended_once()


@pytest.mark.guarantee(5, 70, 99)
@pytest.mark.parametrize("winner", [1, 2])
def test_two_copies_answer_at_once(hold, winner):
    """The first answer to be told is the call's, the other copy is cancelled, whichever of them it is."""
    with hold(HEDGED) as hands:
        hands.call()
        hands.advance(1.0)
        loser = 3 - winner
        hands.end(winner, grpc.StatusCode.OK, "first")
        hands.end(loser, grpc.StatusCode.OK, "second")
        assert hands.result() == "first"
        assert [hands.attempts[number - 1].cancels for number in (winner, loser)] == [0, 1]
        assert hands.ended_once()


@pytest.mark.guarantee(5, 70, 99)
@pytest.mark.parametrize("first", [1, 2])
def test_two_copies_answer_in_the_same_moment(hold, first):
    """Both answers have arrived before either is told: the first that is told is the call's, and stays it."""
    with hold(HEDGED) as hands:
        hands.call()
        hands.advance(1.0)
        during(hands, first, lambda: hands.attempts[2 - first].end(grpc.StatusCode.OK, f"from {3 - first}"))
        hands.end(first, grpc.StatusCode.OK, f"from {first}")
        [told, _] = [event.attempt for event in hands.events if isinstance(event, AttemptEnded)]
        assert hands.result() == hands.result() == f"from {told}"
        assert hands.ended_once()


@pytest.mark.guarantee(70, 99)
@pytest.mark.parametrize("first", ["the deadline", "the time"])
def test_a_copy_that_is_due_at_the_deadline_is_not_made(hold, first):
    """Hedge and deadline are due in the same moment, in either order: DEADLINE_EXCEEDED, and no copy."""
    with hold(Policy(timeout=1.0, hedge=Hedge(after=1.0))) as hands:
        hands.call()
        if first == "the deadline":
            hands.end(1, LATE)
            hands.advance(1.0)
        else:
            hands.advance(1.0)
            hands.end(1, LATE)
        assert hands.result() == "DEADLINE_EXCEEDED"
        assert len(hands.attempts) == 1
        assert hands.ended_once()


@pytest.mark.guarantee(64, 65, 70)
@pytest.mark.parametrize("first", [1, 2])
def test_a_copy_just_before_the_deadline_ends_with_it(hold, first):
    """The copy gets what is left, 0.5 s; both copies run into the deadline, in either order: it is told once."""
    with hold(Policy(timeout=1.5, hedge=Hedge(after=1.0))) as hands:
        hands.call()
        hands.advance(1.0)
        assert [attempt.timeout for attempt in hands.attempts] == [1.5, 0.5]
        hands.advance(0.5)
        hands.end(first, LATE)
        assert not hands.made.done()
        hands.end(3 - first, LATE)
        assert hands.result() == "DEADLINE_EXCEEDED"
        assert hands.ended_once()


@pytest.mark.guarantee(68, 69, 99)
@pytest.mark.parametrize("stop", ["cancel", "close"])
@pytest.mark.parametrize("first", ["the stop", "the time"])
def test_a_copy_that_is_due_meets_the_stop(hold, stop, first):
    """Stopped before the copy is due: there is none. After: both are cancelled."""
    with hold(HEDGED) as hands:
        hands.call()
        for step in (stop, "advance") if first == "the stop" else ("advance", stop):
            hands.advance(1.0) if step == "advance" else getattr(hands, step)()
        assert hands.result() == "CANCELLED"
        assert len(hands.attempts) == (1 if first == "the stop" else 2)
        assert hands.ended_once()


@pytest.mark.guarantee(69)
def test_a_timer_that_was_put_off_starts_nothing(hold):
    """The third copy came early, because the first failed: the fourth is due a second after it, not when it was."""
    with hold(Policy(timeout=10.0, hedge=Hedge(after=1.0, attempts=4))) as hands:
        hands.call()
        hands.advance(1.0)
        hands.advance(0.75)
        hands.end(1, GONE)
        assert len(hands.attempts) == 3
        hands.advance(0.25)
        assert len(hands.attempts) == 3
        hands.advance(0.75)
        assert len(hands.attempts) == 4
        hands.end(2)
        assert hands.result() == "hi"
        assert hands.ended_once()


# An attempt that is just being started


@pytest.mark.guarantee(68, 70, 99)
@pytest.mark.parametrize("then", ["it starts", "it cannot start"])
@pytest.mark.parametrize("policy", [RETRIED, HEDGED], ids=["retry", "copy"])
def test_a_call_is_cancelled_while_an_attempt_is_being_started(hold, then, policy):
    """It is cancelled, once; the new attempt is cancelled too, or never was."""
    with hold(policy) as hands:
        hands.call()

        def begins() -> None:
            hands.made.cancel()
            if then == "it cannot start":
                hands.attempts.pop()
                raise ValueError("Cannot invoke RPC on closed channel!")

        hands.begins = begins
        if policy is RETRIED:
            hands.end(1, GONE)
        hands.advance(1.0)
        assert hands.result() == "CANCELLED"
        assert sum(attempt.cancels for attempt in hands.attempts) == len(hands.attempts) - (policy is RETRIED)
        assert hands.made.done()
        assert [member.in_flight for member in hands.channel._pool.members] == [0, 0]
        assert (hands.count(CallEnded), hands.heard) == (1, 1)


@pytest.mark.guarantee(68)
def test_an_attempt_is_cancelled_that_was_started_under_the_cancelling(monkeypatch):
    """Thread one has cancelled all it saw, but has not told so yet; thread two has just started another attempt."""
    cancelling, started = threading.Event(), threading.Event()

    def observer(event):
        if isinstance(event, CallEnded):
            cancelling.set()
            assert started.wait(5)

    with by_hand(monkeypatch, "threads", HEDGED, observer=observer) as hands:
        hands.call()
        one = threading.Thread(target=hands.cancel)

        def begins() -> None:
            one.start()
            assert cancelling.wait(5)

        hands.begins = begins
        hands.advance(1.0)  # starts the copy, under which the call is cancelled
        started.set()
        one.join(5)
        assert [attempt.cancels for attempt in hands.attempts] == [1, 1]
        assert hands.result() == "CANCELLED"
        assert [member.in_flight for member in hands.channel._pool.members] == [0, 0]


@pytest.mark.guarantee(5, 6, 70, 99)
@pytest.mark.parametrize("policy", [ONCE, HEDGED], ids=["plain", "hedged"])
def test_threads_that_cancel_close_and_answer_agree_on_one_end(monkeypatch, policy):
    """300 calls, each cancelled, closed and answered by threads that start together: one end, whichever it is."""
    ends = set()
    for _ in range(300):
        with by_hand(monkeypatch, "threads", policy) as hands:
            hands.call()
            hands.advance(1.0)
            answers = [functools.partial(attempt.end, grpc.StatusCode.OK, "hi") for attempt in hands.attempts]
            together(hands.cancel, hands.channel.close, *answers)
            ends.add(hands.result())
            assert hands.ended_once()
    assert ends <= {"hi", "CANCELLED"}


# What others raise


@pytest.mark.guarantee(70, 107)
@pytest.mark.parametrize("policy", [RETRIED, HEDGED], ids=["retry", "copy"])
def test_what_is_raised_while_another_attempt_starts_is_the_calls(hold, policy):
    """Not the timer's, which other calls need: the exception surfaces in whoever waits, and nothing stays in flight."""
    with hold(policy) as hands:
        hands.call()

        def begins() -> None:
            hands.attempts.pop()
            raise ZeroDivisionError

        hands.begins = begins
        if policy is RETRIED:
            hands.end(1, GONE)
        hands.advance(1.0)
        assert hands.attempts[0].cancels == (policy is HEDGED)
        with pytest.raises(ZeroDivisionError):
            hands.result()
        assert not hands.made.cancelled()
        assert [member.in_flight for member in hands.channel._pool.members] == [0, 0]
        assert (hands.count(CallEnded), hands.heard) == (1, 1)


@pytest.mark.guarantee(107)
def test_a_callback_that_raises_keeps_nothing_from_the_others(monkeypatch, caplog):
    """It is logged, as in grpc, and the next one is called."""
    with by_hand(monkeypatch, "threads", ONCE) as hands, caplog.at_level(logging.ERROR):
        hands.call()
        hands.made.add_done_callback(lambda _: 1 / 0)
        hands.made.add_done_callback(hands.hear)
        hands.end(1)
        assert hands.heard == 2
    assert "a callback of /hello.Hello/SayHello failed" in caplog.text

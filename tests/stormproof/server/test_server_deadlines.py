"""Deadlines travel: handlers know what their callers have left, what they call inherits it, and the late are not served."""

from __future__ import annotations

import asyncio
import threading
import time

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving import ALL, CHAT, DO, EACH, KINDS, call, on_end, serving, until

from stormproof import CallError, Channel, Code, Hedge, Policy
from stormproof.aio import Channel as AioChannel
from stormproof.deadline import inherited
from stormproof.deadline import until as deadline_at
from stormproof.observer import AttemptBegan
from stormproof.server import Deadlines, remaining
from stormproof.server.interceptor import Interceptor, Refusal, Visit


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def left(*_) -> bytes:
    """What a handler believes to have left."""
    return str(remaining()).encode()


def test_a_handler_knows_what_its_caller_has_left(kind):
    """With a deadline of 2 s: something up to 2 s. Without a deadline: None."""
    with serving(kind, Deadlines(), do=left) as address:
        assert 1.0 < float(call(address, timeout=2.0)[0]) <= 2.02  # grpc rounds a timeout up
        assert call(address, timeout=None)[0] == b"None"


def test_all_four_kinds_of_call_have_it_with_each_message(kind):
    """It is there from the first message of a stream to the last, whichever thread makes it."""

    def each(*_):
        for _ in range(3):
            yield left()

    with serving(kind, Deadlines(), do=left, each=each) as address, grpc.insecure_channel(address) as channel:
        answers = [
            *channel.unary_stream(EACH)(b"x", timeout=2.0),
            channel.stream_unary(ALL)(iter([b"x"]), timeout=2.0),
            *channel.stream_stream(CHAT)(iter([b"x", b"y"]), timeout=2.0),
        ]
    assert len(answers) == 10
    assert all(1.0 < float(answer) <= 2.02 for answer in answers)


def test_no_deadline_stays_behind_in_a_thread(kind):
    """A server with one thread: the call after one with a deadline has none."""
    with serving(kind, Deadlines(), do=left, threads=1) as address:
        call(address, timeout=2.0)
        assert call(address, timeout=None)[0] == b"None"


@pytest.mark.guarantee(66)
def test_a_nested_call_has_no_more_time_than_its_caller(kind):
    """Guarantee 66: caller 1 s, policy of the nested call 60 s, so the inner server is told at most 1 s."""
    with serving("threads", Deadlines(), do=left) as inner, Channel([inner], policy=Policy(timeout=60)) as channel:
        with serving(kind, Deadlines(), do=lambda request, _: channel.unary_unary(DO)(request)) as outer:
            assert 0.5 < float(call(outer, timeout=1.0)[0]) <= 1.02
            assert 50 < float(call(outer, timeout=None)[0]) <= 61  # grpc rounds more, the longer it is


@pytest.mark.guarantee(66)
def test_a_nested_stream_has_no_more_time_than_its_caller(kind):
    """Guarantee 66 for a streaming method that a handler calls."""
    with serving("threads", Deadlines(), each=lambda *_: iter([left()])) as inner:
        with Channel([inner], policy=Policy(timeout=60)) as channel:
            with serving(kind, Deadlines(), do=lambda request, _: next(channel.unary_stream(EACH)(request))) as outer:
                assert 0.5 < float(call(outer, timeout=1.0)[0]) <= 1.02


@pytest.mark.guarantee(66)
def test_a_nested_call_on_asyncio_inherits_too():
    """The same with coroutines all the way: a task has the deadline of the handler that started it."""
    channels: list[AioChannel] = []

    async def nested(request, _):
        async with AioChannel([inner], policy=Policy(timeout=60)) as channel:
            channels.append(channel)
            return await asyncio.create_task(_ask(channel, request))

    async def _ask(channel, request):
        return await channel.unary_unary(DO)(request)

    with serving("asyncio", Deadlines(), do=left) as inner, serving("asyncio", Deadlines(), do=nested) as outer:
        assert 0.5 < float(call(outer, timeout=1.0)[0]) <= 1.02


@pytest.mark.guarantee(66)
@given(st.lists(st.floats(0.001, 100), min_size=1, max_size=5), st.none() | st.floats(0.001, 100))
def test_of_all_deadlines_the_earliest_holds(deadlines, timeout):
    """Guarantee 66, Finagle's combine: nested in any order, a call has the smallest of all and its own timeout."""

    def inside(rest):
        if not rest:
            return inherited(timeout)
        with deadline_at(now + rest[0]):
            return inside(rest[1:])

    now = time.monotonic()
    smallest = min([*deadlines, *([] if timeout is None else [timeout])])
    assert smallest - 1.0 < inside(deadlines) <= smallest
    assert remaining() is None


class Busy(Interceptor):
    """A server that is too busy to get to a call before its deadline: it blocks until that has passed."""

    def admit(self, method, context, *, stream):
        while context.time_remaining() > 0:
            time.sleep(0.001)
        return Visit()


@pytest.mark.guarantee(67)
@pytest.mark.parametrize("late", [True, False])
def test_a_call_whose_deadline_has_passed_is_not_run(kind, late):
    """Guarantee 67: its handler does not run. Without the interceptor it does, for nobody."""
    asked, ran = [], []

    class Telling(Deadlines if late else Interceptor):
        def admit(self, method, context, *, stream):
            asked.append(super().admit(method, context, stream=stream) if late else Visit())
            return asked[-1]

    def do(request, _):
        ran.append(request)
        return request

    with serving(kind, Busy(), Telling(), do=do) as address:
        codes = []
        try:
            call(address, timeout=0.05)
        except grpc.RpcError as error:
            codes.append(error.code().name)
        until(lambda: asked and (late or ran), "the server got to the call")
    assert not late or codes == ["DEADLINE_EXCEEDED"]
    assert isinstance(asked[0], Refusal) is late
    assert len(ran) == (0 if late else 1)


@pytest.mark.guarantee(68)
@pytest.mark.parametrize("policy", [Policy(), Policy(hedge=Hedge(after=0.01))])
def test_the_server_hears_that_its_caller_has_gone(kind, policy):
    """Guarantee 68: a cancelled call is cancelled in all its attempts, and each server observes it."""
    waiting, gone, release = threading.Semaphore(0), [threading.Event(), threading.Event()], threading.Event()

    def hang(which):
        def do(request, context):
            on_end(context, gone[which])
            waiting.release()
            release.wait(10)
            return request

        return do

    copies = 2 if policy.hedge else 1
    with serving(kind, Deadlines(), do=hang(0)) as one, serving(kind, Deadlines(), do=hang(1)) as two:
        with Channel([one, two][:copies], policy=policy) as channel:
            future = channel.unary_unary(DO).future(b"x")
            assert all(waiting.acquire(timeout=5) for _ in range(copies))
            assert future.cancel()
            assert all(event.wait(5) for event in gone[:copies])
        release.set()


@pytest.mark.guarantee(106)
def test_a_call_with_no_time_left_is_not_begun_and_nobody_is_blamed():
    """Guarantee 106: refused by the client itself, with DEADLINE_EXCEEDED and no attempt; every endpoint as it was."""
    events = []
    with Channel(["127.0.0.1:1"], observer=events.append) as channel:
        with deadline_at(time.monotonic()):
            with pytest.raises(CallError) as caught:
                channel.unary_unary(DO)(b"x", timeout=5)
        assert (caught.value.outcome.code, caught.value.attempts) == (Code.DEADLINE_EXCEEDED, 0)
        assert caught.value.may_have_happened is False
        [member] = channel._pool.members
        assert (member.in_flight, member.breaker.state.name) == (0, "CLOSED")
    assert not any(isinstance(event, AttemptBegan) for event in events)


def test_until_is_over_when_its_block_is():
    """remaining() counts down to 0.0 and not below, and outside nothing is left of it."""
    with deadline_at(time.monotonic() + 0.02):
        until(lambda: remaining() == 0.0, "the time is over")
        assert inherited(5.0) == 0.0
    assert remaining() is None
    assert inherited(5.0) == 5.0

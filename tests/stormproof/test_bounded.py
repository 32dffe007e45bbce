"""Nothing piles up: what a channel keeps is bounded by what is under way, not by what has been."""

from __future__ import annotations

import gc
import threading
import time
import weakref

import grpc
import pytest
from greeters import Servers, calling, named, until
from hypothesis import given
from hypothesis import strategies as st

from protos import hello_pb2_grpc
from stormproof import Channel, Hedge, Policy, RetryBudget
from stormproof.observer import AttemptBegan, CallEnded, Ejected
from stormproof.timers import FEW, Timers


@pytest.mark.guarantee(102)
def test_timers_of_finished_calls_do_not_pile_up(one):
    """500 hedged calls that answer at once, each with a copy due in ten minutes: few timers are left, and no request."""
    policy = Policy(timeout=600.0, hedge=Hedge(after=300.0))
    with calling("threads", one.addresses, policy=policy) as client:
        stub = hello_pb2_grpc.HelloStub(client.channel)
        calls = [stub.SayHello.future(named(str(number))) for number in range(500)]
        for call in calls:
            call.result(10)
        kept = [weakref.ref(call) for call in calls]
        del calls, call
        until(lambda: gc.collect() >= 0 and not any(ref() for ref in kept), "all calls let go")
        assert len(client.channel._timers._waiting) <= 2 * FEW + 2


@pytest.mark.guarantee(102)
def test_a_dropped_stream_is_not_kept_by_its_limit_of_silence(one):
    """attempt_timeout of ten minutes: nobody reads the stream any more, and it is gone at once."""
    with Channel(one.addresses, policy=Policy(attempt_timeout=600.0)) as channel:
        stub = hello_pb2_grpc.HelloStub(channel)
        stream = stub.SayHelloToEach(named("abc"))
        assert next(stream).message == "a"
        gone = weakref.ref(stream)
        del stream
        until(lambda: gc.collect() >= 0 and gone() is None, "the stream let go")
        for _ in range(300):
            assert len(list(stub.SayHelloToEach(named("ab")))) == 2
        assert len(channel._timers._waiting) <= 2 * FEW + 2


@pytest.mark.guarantee(102)
@given(steps=st.lists(st.integers(0, 3), max_size=400))
def test_forgotten_timers_are_swept_and_the_others_ring(steps):
    """Any order of setting and forgetting: at most half of the queue, or 64, is dead, and what is left rings, in order."""
    timers, alive, rung = Timers(), [], []
    timers._thread = threading.current_thread()  # nothing rings until we say so
    for number, step in enumerate(steps):
        if step or not alive:
            moment = float(number * 7919 % 101)
            alive.append((moment, number, timers.at(moment, lambda n=number: rung.append(n))))
        else:
            timers.forget(alive.pop(number % len(alive))[2])
        dead = len(timers._waiting) - len(alive)
        assert dead == timers._needless <= max(FEW, len(timers._waiting) // 2)
    timers.close()
    timers._run()
    assert rung == [number for _, number, _ in sorted(alive, key=lambda timer: timer[:2])]


@pytest.mark.guarantee(102)
def test_whoever_comes_after_the_end_is_woken_at_once():
    """A call that begins to wait while its channel is being closed is not forgotten."""
    timers, rung = Timers(), threading.Event()
    timers.at(time.monotonic(), lambda: None)
    timers.close()
    until(lambda: timers._thread is None, "the thread's end")
    timers.at(time.monotonic() + 600.0, rung.set)
    assert rung.wait(5)


@pytest.mark.guarantee(102)
def test_what_is_to_be_told_does_not_wait_and_what_was_dropped_is_taken_off(one):
    """Ejections are told with the event that caused them, and 50 dropped streams are off the books with the next call."""
    events = []
    with Channel([*one.addresses, "127.0.0.1:1"], policy=Policy(retry=None), observer=events.append) as channel:
        stub = hello_pb2_grpc.HelloStub(channel)
        for _ in range(50):
            next(stub.SayHelloToEach(named("abc")))
        gc.collect()
        assert len(channel._abandoned) <= 50

        def settled():
            stub.SayHello(named("x"))
            return not channel._abandoned and all(member.in_flight == 0 for member in channel._pool.members)

        until(settled, "every dropped stream let go, the one whose first attempt failed as well")
        assert any(isinstance(event, Ejected) for event in events)
        assert not channel._notices


@pytest.mark.guarantee(104)
@pytest.mark.parametrize("driver", ["threads", "asyncio"])
def test_a_success_is_told_at_once_whatever_timers_are_armed(driver):
    """Copies due in 20 s, 1000 armed timers, and a limit of 60 s: 20 calls are answered within 2 s together."""
    servers = Servers(2)
    try:
        policy = Policy(timeout=60.0, attempt_timeout=30.0, hedge=Hedge(after=20.0))
        with calling(driver, servers.addresses, policy=policy, budget=RetryBudget.unlimited()) as client:
            for _ in range(1000):
                client.channel._timers.at(time.monotonic() + 30.0, lambda: None)
            client.call("warm")
            began = time.monotonic()
            assert [client.call(str(n)) for n in range(20)] == [f"Hello, {n}!" for n in range(20)]
            assert time.monotonic() - began < 2.0
    finally:
        servers.stop()


@pytest.mark.guarantee(79)
@pytest.mark.parametrize("driver", ["threads", "asyncio"])
def test_calls_through_a_closed_breaker_overlap_freely(driver, one):
    """Twelve calls to one endpoint are all on its server at the same time, and none waits for another."""
    greeter = one.greeters[0]
    with calling(driver, one.addresses) as client:
        calls = [client.start("hang") for _ in range(12)]
        assert all(greeter.hanging.acquire(timeout=5) for _ in range(12))
        assert [member.in_flight for member in client.channel._pool.members] == [12]
        greeter.release.set()
        assert [call.result(10).message for call in calls] == ["Hello, hang!"] * 12


@pytest.mark.guarantee(63)
@pytest.mark.parametrize("driver", ["threads", "asyncio"])
def test_one_budget_holds_for_all_calls_together(driver, three):
    """200 calls at once from eight threads, all fail, three attempts each allowed, ten retries in the budget: 210 attempts."""
    events: list[object] = []
    budget = RetryBudget(ratio=0.0, per_second=1e-5, window=1e6)
    with calling(driver, three.addresses, budget=budget, failover=None, observer=events.append) as client:

        def some():
            for _ in range(25):
                with pytest.raises(grpc.RpcError):
                    client.call("fail")

        threads = [threading.Thread(target=some) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert sum(len(greeter.metadata) for greeter in three.greeters) == 210
    assert sum(isinstance(event, AttemptBegan) for event in events) == 210
    assert sum(event.attempts for event in events if isinstance(event, CallEnded)) == 210

"""Unary calls of the asyncio driver, awaited, dropped, cancelled and closed in every order: they are as grpc.aio's own.

The server runs in the same loop and answers when it is told to, so nothing here waits for time to pass.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import time
import weakref

import grpc
import pytest
from greeters import named

from protos import hello_pb2, hello_pb2_grpc
from stormproof import Backoff, Hedge, Policy, Retry, RoundRobin
from stormproof.aio import AioCallError, Channel
from stormproof.observer import AttemptBegan, AttemptEnded, CallBegan, CallEnded

ONCE = Policy(retry=None)
AT_ONCE = Policy(retry=Retry(backoff=Backoff(base=0.0)))
IN_MINUTES = Policy(timeout=900.0, retry=Retry(backoff=Backoff(base=300.0, cap=300.0)))
TWO_AT_ONCE = Policy(timeout=60.0, hedge=Hedge(after=0.0))
HEDGED_LATER = Policy(timeout=60.0, hedge=Hedge(after=50.0))
UNAVAILABLE, INVALID = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INVALID_ARGUMENT


class Greeter(hello_pb2_grpc.HelloServicer):
    """Each call waits to be told its answer, or the status that it fails with. It notes those that are cancelled."""

    def __init__(self) -> None:
        self.calls: asyncio.Queue[asyncio.Future] = asyncio.Queue()
        self.gone = asyncio.Semaphore(0)
        self.count = 0

    async def SayHello(self, request, context):  # noqa: N802
        told = asyncio.get_running_loop().create_future()
        self.count += 1
        self.calls.put_nowait(told)
        try:
            answer = await told
        except asyncio.CancelledError:
            self.gone.release()
            raise
        if isinstance(answer, grpc.StatusCode):
            await context.abort(answer, "as told", (("why", "told"),))
        return hello_pb2.HelloReply(message=answer)

    async def SayHelloToAll(self, request_iterator, context):  # noqa: N802
        return hello_pb2.HelloReply(message=" ".join([request.name async for request in request_iterator]))

    async def arrived(self) -> asyncio.Future:
        """The next call that has arrived."""
        return await asyncio.wait_for(self.calls.get(), 5)

    async def tell(self, *answers: str | grpc.StatusCode) -> None:
        for answer in answers:
            told = await self.arrived()
            if not told.done():  # else it was cancelled meanwhile
                told.set_result(answer)

    async def lost_one(self) -> None:
        await asyncio.wait_for(self.gone.acquire(), 5)


@contextlib.asynccontextmanager
async def serving(addresses: int = 1):
    """A greeter, and the addresses of its server."""
    greeter, server = Greeter(), grpc.aio.server()
    hello_pb2_grpc.add_HelloServicer_to_server(greeter, server)
    ports = [server.add_insecure_port("127.0.0.1:0") for _ in range(addresses)]
    await server.start()
    try:
        yield greeter, [f"127.0.0.1:{port}" for port in ports]
    finally:
        await server.stop(None)


@contextlib.asynccontextmanager
async def calling(policy: Policy, **options):
    """A greeter, a channel to it, and its stub. In the end nothing is in flight, and the loop has nothing to complain of."""
    complaints: list[dict] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    async with serving(2) as (greeter, addresses):
        async with Channel(addresses, policy=policy, balancer=RoundRobin(), **options) as channel:
            yield greeter, channel, hello_pb2_grpc.HelloStub(channel)
            await let_go(channel)
            assert channel._waiting == set()
        gc.collect()
        assert complaints == []


async def let_go(channel: Channel) -> None:
    await until(lambda: not any(member.in_flight for member in channel._pool.members), "every attempt let go")


async def until(happened, what: str) -> None:
    deadline = time.monotonic() + 5
    while not happened():
        assert time.monotonic() < deadline, f"not within 5 s: {what}"
        await asyncio.sleep(0.002)


async def turns(count: int = 10) -> None:
    """Lets everything happen that needs nobody else."""
    for _ in range(count):
        await asyncio.sleep(0)


async def answer_of(call) -> str:
    return (await call).message


def story(scenario):
    """A coroutine as a test."""

    @functools.wraps(scenario)
    def test(**given):
        asyncio.run(asyncio.wait_for(scenario(**given), 30))

    return test


# Awaiting


@story
async def test_an_awaited_call_needs_no_task_of_ours():
    """While a call is out, there are as many tasks as with a channel of grpc.aio's own."""
    counts = []
    async with serving() as (greeter, addresses):
        for channel in (grpc.aio.insecure_channel(addresses[0]), Channel(addresses)):
            async with channel:
                waiting = asyncio.create_task(answer_of(hello_pb2_grpc.HelloStub(channel).SayHello(named("x"))))
                told = await greeter.arrived()
                counts.append(len(asyncio.all_tasks()))
                told.set_result("hi")
                assert await waiting == "hi"
    assert counts[0] == counts[1]


@pytest.mark.guarantee(70)
@pytest.mark.parametrize("policy", [ONCE, TWO_AT_ONCE], ids=["plain", "hedged"])
@pytest.mark.parametrize("end", ["hi", INVALID], ids=str)
@pytest.mark.parametrize("awaited", ["at once", "once it has arrived", "once it has ended"])
@story
async def test_all_who_await_a_call_get_the_same(policy, end, awaited):
    """Two tasks await one call, whenever they begin to, and a third does after its end: one answer, or one error."""
    async with calling(policy) as (greeter, _, stub):
        call = stub.SayHello(named("x"))
        if awaited == "at once":
            tasks = [asyncio.create_task(answer_of(call)) for _ in range(2)]
            await turns()
        told = await greeter.arrived()
        if awaited == "once it has arrived":
            tasks = [asyncio.create_task(answer_of(call)) for _ in range(2)]
            await turns()
        told.set_result(end)
        if awaited == "once it has ended":
            await until(call.done, "its end")
            tasks = [asyncio.create_task(answer_of(call)) for _ in range(2)]
        tasks.append(asyncio.create_task(answer_of(call)))
        results = await asyncio.gather(*tasks, return_exceptions=True)
        if end == "hi":
            assert results == ["hi", "hi", "hi"]
        else:
            assert isinstance(results[0], AioCallError)
            assert results[0].code() is INVALID
            assert results[0] is results[1] is results[2]


@pytest.mark.parametrize("policy", [AT_ONCE, TWO_AT_ONCE], ids=["plain", "hedged"])
@story
async def test_calls_go_on_while_nobody_awaits_them(policy):
    """Calls that are made first and gathered later: each is retried meanwhile, and answered before anybody asks."""
    async with calling(policy) as (greeter, _, stub):
        calls = [stub.SayHello(named(str(n))) for n in range(3)]
        for _ in calls:
            await greeter.tell(UNAVAILABLE)
        while not all(call.done() for call in calls):
            if greeter.calls.empty():
                await asyncio.sleep(0.002)
            else:
                await greeter.tell("hi")
        assert [reply.message for reply in await asyncio.gather(*calls)] == ["hi", "hi", "hi"]


@pytest.mark.parametrize("end", ["hi", INVALID, UNAVAILABLE], ids=str)
@story
async def test_a_call_that_is_dropped_leaves_nothing_behind(end):
    """Nobody awaits it or holds it, however it ends: nothing stays in flight, and asyncio has nothing to complain of."""
    events = []
    async with calling(AT_ONCE, observer=events.append) as (greeter, _, stub):
        stub.SayHello(named("x"))
        gc.collect()
        await greeter.tell(*[end] * (3 if end is UNAVAILABLE else 1))
        await until(lambda: isinstance(events[-1], CallEnded), "its end")
    assert sum(isinstance(event, CallEnded) for event in events) == 1


@pytest.mark.parametrize("name", ["hang", "fail"])
@pytest.mark.parametrize("policy", [ONCE, IN_MINUTES, TWO_AT_ONCE], ids=["once", "retried", "hedged"])
@pytest.mark.parametrize("last", ["nothing", "cancel", "close"])
def test_a_loop_that_ends_takes_its_calls_with_it(one, policy, name, last, caplog):
    """Its last calls are in flight, in a wait, just cancelled or closed: no complaint, and nothing stays in flight."""
    [greeter] = one.greeters

    async def leave():
        channel = Channel(one.addresses, policy=policy)
        call = hello_pb2_grpc.HelloStub(channel).SayHello(named(name))
        await until(lambda: greeter.metadata, "the call")
        if name == "fail":
            await let_go(channel)
        if last == "cancel":
            call.cancel()
        if last == "close":
            await channel.close()
        return channel

    channel = asyncio.run(leave())
    gc.collect()
    # grpc's poller may complain of the loop itself, as it does without us.
    assert [said for said in map(str, caplog.messages) if "Task" in said or "retrieved" in said] == []
    assert [member.in_flight for member in channel._pool.members] == [0]


@pytest.mark.parametrize("policy", [ONCE, HEDGED_LATER], ids=["plain", "hedged"])
@story
async def test_a_call_that_is_over_is_let_go_at_once(policy):
    """Whatever timer was set for it: no cycle keeps a call, its request and its answer for the garbage collector."""
    async with calling(policy) as (greeter, _, stub):
        call = stub.SayHello(named("x"))
        call.add_done_callback(lambda _: None)
        task = asyncio.create_task(answer_of(call))
        await greeter.tell("hi")
        await task
        gone = weakref.ref(call)
        gc.disable()
        try:
            del call, task
            await turns()
            assert gone() is None
        finally:
            gc.enable()


# Cancelling


@pytest.mark.guarantee(68)
@pytest.mark.parametrize("policy", [ONCE, TWO_AT_ONCE], ids=["plain", "hedged"])
@pytest.mark.parametrize("how", ["call", "task", "second task", "wait_for", "gather", "unawaited call"])
@story
async def test_cancelling_reaches_the_server(policy, how):
    """The call, or a task that awaits it: everybody who awaits it gets CancelledError, and the server is told."""
    async with calling(policy) as (greeter, _, stub):
        call = stub.SayHello(named("x"))
        tasks = [asyncio.create_task(answer_of(call)) for _ in range(0 if how == "unawaited call" else 2)]
        if how == "wait_for":
            tasks.append(asyncio.create_task(asyncio.wait_for(call, 0.01)))
        if how == "gather":
            tasks.append(asyncio.create_task(asyncio.wait_for(asyncio.gather(call), 0.01)))
        for _ in range(1 if policy is ONCE else 2):
            await greeter.arrived()
        if how in ("call", "unawaited call"):
            assert call.cancel()
        elif how in ("task", "second task"):
            tasks[how == "second task"].cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(result) for result in results} <= {asyncio.CancelledError, TimeoutError}
        with pytest.raises(asyncio.CancelledError):
            await call
        assert (call.done(), call.cancelled(), call.cancel()) == (True, True, False)
        assert await call.code() is grpc.StatusCode.CANCELLED
        assert "cancelled by the caller" in await call.details()
        for _ in range(1 if policy is ONCE else 2):
            await greeter.lost_one()


@story
async def test_a_call_can_be_cancelled_before_it_has_left():
    """Cancelled right after it was made, by itself or with the task that awaits it: no server hears of it."""
    async with calling(ONCE) as (greeter, channel, stub):
        call = stub.SayHello(named("x"))
        assert call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        task = asyncio.create_task(answer_of(stub.SayHello(named("x"))))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await let_go(channel)
        assert greeter.count == 0


@pytest.mark.guarantee(70, 99)
@pytest.mark.parametrize("first", ["the answer", "the cancelling"])
@pytest.mark.parametrize("how", ["call", "task"])
@story
async def test_an_answer_and_a_cancelling_meet(first, how):
    """The call ends as the first of them says, once, and what comes second changes nothing."""
    heard, events = [], []
    async with calling(ONCE, observer=events.append) as (greeter, channel, stub):
        call = stub.SayHello(named("x"))
        call.add_done_callback(heard.append)
        task = asyncio.create_task(answer_of(call))
        told = await greeter.arrived()
        if first == "the answer":
            told.set_result("hi")
            await until(call.done, "the answer")
        assert (call if how == "call" else task).cancel() is (first == "the cancelling")
        if first == "the cancelling":
            with pytest.raises(asyncio.CancelledError):
                await task
            if not told.done():
                told.set_result("hi")
            await until(call.done, "its end")
            assert call.cancelled()
            with pytest.raises(asyncio.CancelledError):
                await call
        else:
            assert (await call).message == "hi"
            assert not call.cancelled()
        await let_go(channel)
        await turns()
    assert heard == [call]
    assert [type(event) for event in events].count(CallEnded) == 1
    assert [type(event) for event in events].count(AttemptEnded) == 1


@pytest.mark.guarantee(61)
@pytest.mark.parametrize("how", ["call", "task", "unawaited call"])
@story
async def test_cancelling_in_the_wait_before_a_retry_ends_it(how):
    """A backoff of minutes: the call is over at once, and no further attempt is made."""
    async with calling(IN_MINUTES) as (greeter, channel, stub):
        call = stub.SayHello(named("x"))
        task = None if how == "unawaited call" else asyncio.create_task(answer_of(call))
        await greeter.tell(UNAVAILABLE)
        await until(lambda: channel._waiting, "the wait")
        (task if how == "task" else call).cancel()
        with pytest.raises(asyncio.CancelledError):
            await (task or call)
        assert call.cancelled()
        assert greeter.count == 1


# Closing


@pytest.mark.guarantee(99)
@pytest.mark.parametrize("policy", [ONCE, AT_ONCE, TWO_AT_ONCE], ids=["plain", "retried", "hedged"])
@pytest.mark.parametrize("awaited", [True, False])
@story
async def test_closing_ends_a_call_in_flight(policy, awaited):
    """It ends with CANCELLED, told once, whether or not somebody awaits it; no further attempt is made."""
    events = []
    async with calling(policy, observer=events.append) as (greeter, channel, stub):
        call = stub.SayHello(named("x"))
        task = asyncio.create_task(answer_of(call)) if awaited else call
        for _ in range(2 if policy is TWO_AT_ONCE else 1):
            await greeter.arrived()
        await channel.close()
        with pytest.raises(AioCallError) as caught:
            await task
        assert caught.value.code() is await call.code() is grpc.StatusCode.CANCELLED
        assert (call.done(), call.cancelled(), call.cancel()) == (True, True, False)
        await let_go(channel)
        assert greeter.count == (2 if policy is TWO_AT_ONCE else 1)
    assert [type(event) for event in events].count(CallEnded) == 1


@pytest.mark.guarantee(61)
@pytest.mark.parametrize("grace", [None, 60.0])
@pytest.mark.parametrize("awaited", [True, False])
@story
async def test_closing_ends_the_wait_before_a_retry(awaited, grace):
    """A backoff of minutes: CANCELLED at once, although there would be grace for what is in flight."""
    async with calling(IN_MINUTES) as (greeter, channel, stub):
        call = stub.SayHello(named("x"))
        task = asyncio.create_task(answer_of(call)) if awaited else call
        await greeter.tell(UNAVAILABLE)
        await until(lambda: channel._waiting, "the wait")
        await asyncio.wait_for(channel.close(grace), 5)
        with pytest.raises(AioCallError) as caught:
            await asyncio.wait_for(task, 5)
        assert caught.value.code() is grpc.StatusCode.CANCELLED
        assert greeter.count == 1


@pytest.mark.parametrize("policy", [AT_ONCE, IN_MINUTES, HEDGED_LATER], ids=["at once", "in minutes", "hedged"])
@pytest.mark.parametrize("end", ["hi", UNAVAILABLE], ids=str)
@story
async def test_a_close_with_grace_lets_calls_end(policy, end):
    """What is in flight may still be answered; if it fails, no further attempt follows it, and nobody waits for one."""
    async with calling(policy) as (greeter, channel, stub):
        task = asyncio.create_task(answer_of(stub.SayHello(named("x"))))
        told = await greeter.arrived()
        closing = asyncio.create_task(channel.close(60.0))
        await turns()
        told.set_result(end)
        if end == "hi":
            assert await task == "hi"
        else:
            with pytest.raises(AioCallError) as caught:
                await task
            assert caught.value.code() is grpc.StatusCode.CANCELLED
        await asyncio.wait_for(closing, 5)
        assert greeter.count == 1


# Asking


@story
async def test_a_call_can_be_asked_without_being_awaited():
    """Code, details and metadata wait for the end, done callbacks hear of it, and the call goes on for them."""
    async with calling(AT_ONCE) as (greeter, _, stub):
        for ends, code in (["hi"], grpc.StatusCode.OK), ([UNAVAILABLE, INVALID], INVALID):
            heard: list = []
            call = stub.SayHello(named("x"), timeout=5.0)
            call.add_done_callback(heard.append)
            assert (call.done(), call.cancelled()) == (False, False)
            assert 4.0 < call.time_remaining() <= 5.0
            asking = [asyncio.create_task(ask()) for ask in (call.code, call.details, call.trailing_metadata)]
            connected = asyncio.create_task(call.wait_for_connection())
            await greeter.tell(*ends)
            assert await asking[0] is code
            assert ("as told" in await asking[1]) is (code is INVALID)
            assert dict(await asking[2]) == ({"why": "told"} if code is INVALID else {})
            assert dict(await call.initial_metadata()) == {}
            if code is INVALID:
                with pytest.raises(AioCallError):
                    await connected
            else:
                await connected
            call.add_done_callback(heard.append)
            await turns()
            assert heard == [call, call]


@story
async def test_asking_may_be_given_up_and_the_call_goes_on():
    """A task that waits for the code of a call, not for its answer, may be cancelled: the call is not."""
    async with calling(ONCE) as (greeter, _, stub):
        call = stub.SayHello(named("x"))
        told = await greeter.arrived()
        for ask in (call.code, call.details, call.initial_metadata, call.wait_for_connection):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(ask(), 0.001)
        told.set_result("hi")
        assert (await call).message == "hi"


@story
async def test_a_deadline_that_has_passed_is_told_by_awaiting():
    """No server hears of it; the error is an AioCallError like any other."""
    async with calling(ONCE) as (greeter, _, stub):
        call = stub.SayHello(named("x"), timeout=-1.0)
        with pytest.raises(AioCallError) as caught:
            await call
        assert caught.value.code() is await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert (greeter.count, call.done(), dict(await call.initial_metadata())) == (0, True, {})


@pytest.mark.guarantee(107)
@pytest.mark.parametrize("at", [CallBegan, AttemptBegan, AttemptEnded, CallEnded])
@pytest.mark.parametrize("end", ["hi", UNAVAILABLE], ids=str)
@story
async def test_what_an_observer_raises_is_logged_and_changes_nothing(at, end, caplog):
    """Whichever event it chokes on: the call ends as it would, for everybody who awaits it, and nothing stays in flight."""

    def observer(event):
        if isinstance(event, at):
            raise ZeroDivisionError

    async with calling(AT_ONCE, observer=observer) as (greeter, _, stub):
        call = stub.SayHello(named("x"))
        task = asyncio.create_task(answer_of(call))
        await greeter.tell(*[end] * (3 if end is UNAVAILABLE else 1))
        if end == "hi":
            assert (await task, (await call).message) == ("hi", "hi")
        for who in (task, call) if end is UNAVAILABLE else ():
            with pytest.raises(AioCallError) as caught:
                await who
            assert caught.value.attempts == 3
    told = [record.getMessage() for record in caplog.records if record.name == "stormproof"]
    assert len(told) == (3 if end is UNAVAILABLE and at in (AttemptBegan, AttemptEnded) else 1)
    assert all(at.__name__ in message for message in told)


@pytest.mark.guarantee(107)
@pytest.mark.parametrize("bad", [1, 2])
@story
async def test_metadata_that_an_observer_fails_to_add_surfaces_in_whoever_awaits(bad):
    """Its exception is the call's, everybody gets it, and nothing stays in flight."""

    class Adding:
        def __call__(self, event):
            pass

        def metadata_for(self, call, attempt):
            return () if attempt != bad else 1 / 0

    async with calling(AT_ONCE, observer=Adding()) as (greeter, _, stub):
        call = stub.SayHello(named("x"))
        task = asyncio.create_task(answer_of(call))
        if bad == 2:
            await greeter.tell(UNAVAILABLE)
        for who in (task, call):
            with pytest.raises(ZeroDivisionError):
                await who
        assert await call.code() is grpc.StatusCode.INTERNAL


@story
async def test_metadata_of_an_observer_that_grpc_does_not_take_surfaces_as_it_is():
    """It is raised to who awaits the call; nothing stays in flight, and nobody is blamed."""

    class Adding:
        wrong: tuple = ()

        def __call__(self, event):
            pass

        def metadata_for(self, call, attempt):
            return self.wrong

    observer = Adding()
    async with calling(AT_ONCE, observer=observer) as (greeter, _, stub):
        for observer.wrong in ((("a", 1),), (("A b", "x"),)):
            for _ in range(3):
                call = stub.SayHello(named("x"))
                with pytest.raises((TypeError, grpc.aio.BaseError)):
                    await call
                assert call.done()
        observer.wrong = ()
        task = asyncio.create_task(answer_of(stub.SayHello(named("x"))))
        await greeter.tell("hi")
        assert await task == "hi"


# Client streams


@pytest.mark.parametrize("how", ["iterator", "writes"])
@story
async def test_a_client_stream_can_be_connected_first(how):
    """wait_for_connection returns while the stream is still written; then it is written and awaited."""

    async def names():
        for name in "ab":
            yield named(name)

    async with calling(AT_ONCE) as (_, _, stub):
        call = stub.SayHelloToAll(names() if how == "iterator" else None)
        await asyncio.wait_for(call.wait_for_connection(), 5)
        if how == "writes":
            for name in "ab":
                await call.write(named(name))
            await call.done_writing()
        assert (await call).message == "a b"


@story
async def test_a_client_stream_is_not_read_on_after_the_end():
    """The call is cancelled: the caller's iterator is let go, and the server is told."""
    ended = asyncio.Event()

    async def names():
        try:
            yield named("a")
            await asyncio.sleep(600)
        finally:
            ended.set()

    async with calling(AT_ONCE) as (_, _, stub):
        call = stub.SayHelloToAll(names())
        await asyncio.wait_for(call.wait_for_connection(), 5)
        call.cancel()
        await asyncio.wait_for(ended.wait(), 5)
        with pytest.raises(asyncio.CancelledError):
            await call.wait_for_connection()

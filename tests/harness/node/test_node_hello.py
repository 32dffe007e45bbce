"""What a well-behaved Hello server does with calls, and what its journal tells of them afterwards."""

from __future__ import annotations

import time
from queue import SimpleQueue

import grpc
import pytest

from harness import Trace
from harness.service_time import Draws
from harness.values import to_json
from protos.hello_pb2 import HelloRequest

ADA, BOB, CLEO = HelloRequest(name="Ada"), HelloRequest(name="Bob"), HelloRequest(name="Cleo")


def test_a_name_is_greeted(start):
    """One request, one reply."""
    assert start().hello.SayHello(ADA).message == "Hello, Ada!"


def test_a_name_is_greeted_once_for_each_of_its_characters(start):
    """One request, a stream of a known length."""
    replies = list(start().hello.SayHelloToEach(CLEO))
    assert [reply.message for reply in replies] == ["Hello, Cleo!"] * 4
    assert [reply.number for reply in replies] == [1, 2, 3, 4]


@pytest.mark.parametrize(("after", "numbers"), [(1, [2, 3, 4]), (3, [4]), (4, []), (9, []), (-1, [1, 2, 3, 4])])
def test_a_stream_of_greetings_can_be_asked_for_from_its_middle_on(start, after, numbers):
    """What was heard already is left out, and the others keep their numbers; nothing is left after the last one."""
    server = start()
    request = HelloRequest(name="Cleo", after=after)
    assert [reply.number for reply in server.hello.SayHelloToEach(request)] == numbers
    (execution,) = server.wait_for(lambda told: told[0].code is not None)
    assert (execution.code, execution.executed is not None) == ("OK", True)
    assert execution.messages == len(numbers)


@pytest.mark.parametrize(
    ("requests", "message"),
    [
        ([ADA], "Hello, Ada!"),
        ([ADA, BOB], "Hello, Ada and Bob!"),
        ([ADA, BOB, CLEO], "Hello, Ada, Bob and Cleo!"),
    ],
)
def test_many_names_are_greeted_in_one_reply(start, requests, message):
    """A stream of requests, one reply."""
    assert start().hello.SayHelloToAll(iter(requests)).message == message


def test_a_chat_greets_each_name_as_it_arrives(start):
    """Each name is sent only after the one before was greeted; None ends the stream."""
    names = SimpleQueue()
    replies = start().hello.Chat(iter(names.get, None))
    for request, message in ((ADA, "Hello, Ada!"), (BOB, "Hello, Bob!"), (CLEO, "Hello, Cleo!")):
        names.put(request)
        assert next(replies).message == message
    names.put(None)
    assert list(replies) == []


def test_an_attempt_is_journaled_with_what_it_carried(start):
    """The id of the attempt, its place in the batch, whether it repeats, and the time its caller left it."""
    server = start()
    metadata = (
        ("stormproof-call", "841"),
        ("grpc-previous-rpc-attempts", "2"),
        ("stormproof-item", "7"),
        ("stormproof-repeat", "1"),
    )
    server.hello.SayHello(ADA, timeout=3.0, metadata=metadata)
    (execution,) = server.executions()
    assert (execution.operation, execution.sent, execution.item, execution.repeat) == (841, 3, 7, True)
    assert execution.server == "server-0"
    assert 2.0 < execution.remaining < 3.02  # gRPC rounds a timeout up, to 0.01 s above 1 s
    assert execution.received <= execution.executed <= execution.ended
    assert execution.code == "OK"


def test_a_call_that_carries_nothing_is_journaled_too(start):
    """Somebody else's client sends no ids and no deadline; metadata that is no number counts as none."""
    server = start()
    server.hello.SayHello(ADA, metadata=(("stormproof-call", "first"),))
    (execution,) = server.executions()
    assert (execution.operation, execution.sent, execution.item, execution.repeat) == (-1, 1, None, False)
    assert execution.remaining is None


@pytest.mark.parametrize("kind", ["SayHelloToEach", "SayHelloToAll", "Chat"])
def test_calls_of_every_kind_are_journaled(start, kind):
    """Received, executed and ended well, once each."""
    server = start()
    result = getattr(server.hello, kind)(ADA if kind == "SayHelloToEach" else iter([ADA, BOB]))
    if kind != "SayHelloToAll":
        list(result)
    (execution,) = server.wait_for(lambda told: told[0].code is not None)
    assert execution.code == "OK"
    assert execution.executed is not None


def test_a_caller_that_goes_away_ends_the_work(start):
    """The work of 60 s is not done, and the journal tells that the call was cancelled, at once."""
    server = start(service_time=60.0)
    call = server.hello.SayHello.future(ADA)
    server.wait_for(lambda told: len(told) == 1)
    call.cancel()
    (execution,) = server.wait_for(lambda told: told[0].ended is not None)
    assert execution.code == "CANCELLED"
    assert execution.executed is None


@pytest.mark.parametrize("kind", ["SayHello", "SayHelloToEach", "SayHelloToAll", "Chat"])
def test_a_deadline_ends_the_work_of_every_kind(start, kind):
    """Nobody is left to answer."""
    server = start(service_time=60.0)
    request = ADA if kind in ("SayHello", "SayHelloToEach") else iter([ADA])
    with pytest.raises(grpc.RpcError) as caught:
        list(getattr(server.hello, kind)(request, timeout=0.2))
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    (execution,) = server.wait_for(lambda told: bool(told) and told[0].ended is not None)
    assert (execution.code, execution.executed) == ("CANCELLED", None)


def test_a_torn_stream_leaves_no_call_behind(start):
    """A caller that leaves a stream after its first message is seen to go."""
    server = start(service_time=0.01)
    replies = server.hello.SayHelloToEach(HelloRequest(name="x" * 10_000))
    next(replies)
    replies.cancel()
    (execution,) = server.wait_for(lambda told: told[0].ended is not None)
    assert (execution.code, execution.executed) == ("CANCELLED", None)


def test_no_more_calls_work_at_once_than_there_are_workers(start):
    """Four calls of 0.2 s on two workers: the second pair is done 0.2 s after the first."""
    server = start(workers=2, service_time=0.2)
    calls = [server.hello.SayHello.future(ADA) for _ in range(4)]
    assert [call.result().message for call in calls] == ["Hello, Ada!"] * 4
    done = sorted(execution.executed for execution in server.executions())
    assert done[2] - done[0] >= 0.199
    assert done[3] - done[1] >= 0.199


def test_a_call_is_journaled_when_it_arrives_not_when_a_worker_is_free(start):
    """Whose caller gave up while it waited is told of too, with its deadline, and not as if it never came."""
    server = start(workers=1, service_time=60.0)
    working = server.hello.SayHello.future(ADA)
    server.wait_for(lambda told: len(told) == 1)
    waiting = server.hello.SayHello.future(BOB, timeout=30.0)
    executions = server.wait_for(lambda told: len(told) == 2)
    assert 25.0 < executions[1].remaining < 30.2  # gRPC rounds a timeout up, to 0.1 s above 10 s
    waiting.cancel()
    server.wait_for(lambda told: told[1].code == "CANCELLED")
    working.cancel()
    assert server.executions()[0].executed is None


def test_a_call_that_finds_the_queue_full_is_refused(start):
    """One works, one waits, and the third is told at once that there is no room; it was surely not done."""
    server = start(workers=1, queue=1, service_time=60.0)
    calls = [server.hello.SayHello.future(name) for name in (ADA, BOB)]
    server.wait_for(lambda told: len(told) == 2)
    with pytest.raises(grpc.RpcError) as refused:
        server.hello.SayHello(CLEO, timeout=30)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    third = server.wait_for(lambda told: told[2].ended is not None)[2]
    assert (third.code, third.executed) == ("RESOURCE_EXHAUSTED", None)
    for call in calls:
        call.cancel()
    server.wait_for(lambda told: all(execution.ended is not None for execution in told))
    calls = [server.hello.SayHello.future(name) for name in (ADA, BOB)]  # there is room again, once
    server.wait_for(lambda told: len([t for t in told if t.ended is None]) == 2)


def test_a_service_time_may_be_drawn_by_the_id_of_the_attempt(start):
    """The server draws what Draws says for its seed and the attempt's id: here 0.3 s for one call, nothing for another."""
    times = Trace((0.0, 0.3))
    draws = Draws(times, 7)
    slow, fast = (next(n for n in range(100) if draws.seconds(n, 1) == wanted) for wanted in (0.3, 0.0))
    server = start(service_time=to_json(times), seed=7)
    for number in (slow, fast):
        server.hello.SayHello(ADA, metadata=[("stormproof-call", str(number))])
    took = [execution.executed - execution.received for execution in server.executions()]
    assert took[0] >= 0.3
    assert took[1] < took[0]


def test_a_cold_server_takes_its_time_until_it_listens(start):
    """It says that it is ready, and can be reached, only then."""
    began = time.monotonic()
    server = start(cold_start=0.3)
    assert time.monotonic() - began >= 0.3
    assert server.hello.SayHello(ADA).message == "Hello, Ada!"

"""Streams on real sockets: what a caller reads is what the uncut stream holds, whatever breaks on the way."""

from __future__ import annotations

import asyncio
import gc
import itertools
import threading
import time
from concurrent import futures

import grpc
import pytest
from greeters import DRIVERS, calling, closed_port, named, until

from protos import hello_pb2, hello_pb2_grpc
from stormproof import (
    Backoff,
    CallError,
    Channel,
    Checkpoint,
    Code,
    Endpoint,
    Evidence,
    Hedge,
    Policy,
    Retry,
    RetryBudget,
)
from stormproof.aio import Channel as AioChannel
from stormproof.core.breaker import State

EACH = "/hello.Hello/SayHelloToEach"
AT_ONCE = Retry(attempts=3, backoff=Backoff(base=0.0))


class Counter(hello_pb2_grpc.HelloServicer):
    """SayHelloToEach("FROM..TO") counts; it breaks after each of the numbers in `cuts`, once for each. Others echo."""

    def __init__(self, cuts, before: int, pause: float) -> None:
        self._cuts = cuts
        self._before = before  # calls that fail before their first message
        self._pause = pause  # seconds between two messages
        self._lock = threading.Lock()
        self.calls = 0
        self.received: list[list[str]] = []

    def _fails(self) -> bool:
        with self._lock:
            self.calls += 1
            self._before -= 1
            return self._before >= 0

    def SayHelloToEach(self, request, context):  # noqa: N802
        if self._fails():
            context.abort(grpc.StatusCode.UNAVAILABLE, "not yet")
        first, last = map(int, request.name.split(".."))
        for number in range(first, last + 1):
            yield hello_pb2.HelloReply(message=str(number))
            with self._lock:
                cut = number in self._cuts
                self._cuts.discard(number)
            if cut:
                context.abort(grpc.StatusCode.UNAVAILABLE, f"broke after {number}")
            time.sleep(self._pause)
        if request.name == "1..0":
            time.sleep(20)

    def SayHelloToAll(self, request_iterator, context):  # noqa: N802
        names = []
        for request in request_iterator:
            names.append(request.name)
            if len(names) == 2 and self._fails():
                context.abort(grpc.StatusCode.UNAVAILABLE, "broke after two")
        self.received.append(names)
        return hello_pb2.HelloReply(message=" ".join(names))

    def Chat(self, request_iterator, context):  # noqa: N802
        if self._fails():
            time.sleep(self._pause)
            context.abort(grpc.StatusCode.UNAVAILABLE, "not yet")
        for request in request_iterator:
            yield hello_pb2.HelloReply(message=request.name.upper())


@pytest.fixture
def serving():
    """Starts counters that share `cuts` and failures; gives their servicer and addresses (and keeps them in `servers`)."""
    servers = []

    def start(*, cuts=(), before=0, count=3, pause=0.0):
        counter, addresses = Counter(set(cuts), before, pause), []
        for _ in range(count):
            server = grpc.server(futures.ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
            hello_pb2_grpc.add_HelloServicer_to_server(counter, server)
            addresses.append(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
            server.start()
            servers.append(server)
        return counter, addresses

    start.servers = servers
    yield start
    for server in servers:
        server.stop(0)


@pytest.fixture(params=DRIVERS)
def driver(request):
    return request.param


def resume(request, last):
    """Counting goes on after the last number that arrived."""
    return named(f"{int(last.message) + 1}..{request.name.split('..')[1]}")


def resume_after(request, number):
    """The same, for those who do not want to hand the whole message on."""
    return named(f"{number + 1}..{request.name.split('..')[1]}")


CHECKPOINTS = [
    Checkpoint(resume=resume),
    Checkpoint(resume=resume_after, cursor=lambda reply: int(reply.message)),
]


def numbers(replies) -> list[int]:
    return [int(reply.message) for reply in replies]


@pytest.mark.guarantee(90)
@pytest.mark.parametrize("checkpoint", CHECKPOINTS, ids=["message", "cursor"])
@pytest.mark.parametrize("cuts", [[1], [5], [10], [1, 2, 3], [3, 7, 9, 10], range(1, 11)], ids=str)
def test_a_stream_cut_anywhere_yields_what_the_uncut_one_yields(driver, serving, cuts, checkpoint):
    """Broken after any messages and continued on another server: nothing lost, repeated or reordered."""
    counter, addresses = serving(cuts=cuts)
    each = Policy(timeout=10.0, retry=AT_ONCE, checkpoint=checkpoint)
    with calling(driver, addresses, methods={EACH: each}, failover=None, budget=RetryBudget.unlimited()) as client:
        assert numbers(client.each("1..10")) == list(range(1, 11))
    assert counter.calls == 1 + len(list(cuts))


@pytest.mark.guarantee(51)
def test_without_a_checkpoint_a_torn_stream_ends_with_its_error(driver, serving):
    """What has been read cannot be read again (gRFC A6): one attempt, and a CallError after the third message."""
    counter, addresses = serving(cuts=[3])
    with calling(driver, addresses, policy=Policy(retry=AT_ONCE)) as client:
        replies, read = client.each("1..9"), []
        with pytest.raises(CallError) as caught:  # noqa: PT012
            for reply in replies:
                read.append(int(reply.message))
    assert read == [1, 2, 3]
    assert (caught.value.code(), caught.value.attempts, counter.calls) == (grpc.StatusCode.UNAVAILABLE, 1, 1)


@pytest.mark.guarantee(108)
def test_a_request_that_is_used_again_does_not_reach_the_second_attempt(serving):
    """The first attempt fails, and meanwhile the caller's message says something else: the stream is what was asked for."""
    _, addresses = serving(before=1)
    with Channel(addresses, policy=Policy(retry=AT_ONCE)) as channel:
        request = named("1..3")
        replies = hello_pb2_grpc.HelloStub(channel).SayHelloToEach(request)
        request.name = "4..6"
        assert numbers(replies) == [1, 2, 3]


@pytest.mark.parametrize("method", ["SayHelloToEach", "Chat"])
def test_a_failure_before_the_first_message_is_retried(driver, serving, method):
    """Two servers fail at once, the third one streams; the caller sees one whole stream."""
    counter, addresses = serving(before=2)
    with calling(driver, addresses, policy=Policy(idempotent=True, retry=AT_ONCE)) as client:
        replies = client.each("1..3") if method == "SayHelloToEach" else client.chat(map(named, ["1", "2", "3"]))
        assert numbers(replies) == [1, 2, 3]
        assert replies.code() is grpc.StatusCode.OK
    assert counter.calls == 3


def test_a_dead_endpoint_costs_a_stream_nothing(driver, serving):
    """No connection: the stream starts elsewhere, although it may not be retried."""
    _, addresses = serving(count=1)
    endpoints = [Endpoint(closed_port()), Endpoint(addresses[0], priority=1)]
    with calling(driver, endpoints, policy=Policy(retry=None)) as client:
        assert numbers(client.each("1..3")) == [1, 2, 3]


def test_a_client_stream_is_sent_again_from_its_first_message(driver, serving):
    """The first attempt breaks after two of four messages; the second one gets all four, in order.

    Declared idempotent, because grpc.aio may lose the status of a server that answers while it is still written to.
    """
    counter, addresses = serving(before=1)
    with calling(driver, addresses, policy=Policy(idempotent=True, retry=AT_ONCE)) as client:
        assert client.all(named(name) for name in "abcd") == "a b c d"
    assert counter.received == [["a", "b", "c", "d"]]


@pytest.mark.parametrize("how", ["with_call", "future"])
def test_a_client_stream_is_sent_again_however_it_is_called(serving, how):
    """with_call and future of the threaded stub, likewise."""
    counter, addresses = serving(before=1)
    with Channel(addresses, policy=Policy(retry=AT_ONCE)) as channel:
        call, source = hello_pb2_grpc.HelloStub(channel).SayHelloToAll, (named(name) for name in "abcd")
        reply = call.with_call(source)[0] if how == "with_call" else call.future(source).result(5)
    assert reply.message == "a b c d"
    assert counter.received == [["a", "b", "c", "d"]]


def test_a_client_stream_that_outgrew_its_buffer_is_not_sent_again(driver, serving):
    """Two messages of 8 bytes into a buffer of 10: committed to the first attempt, whose error is told."""
    counter, addresses = serving(before=1)
    with calling(driver, addresses, policy=Policy(retry=AT_ONCE, buffer=10)) as client:
        with pytest.raises(CallError) as caught:
            client.all(iter([named("abcdef"), named("ghijkl"), named("x")]))
    assert (caught.value.attempts, counter.received) == (1, [])


@pytest.mark.guarantee(107)
def test_a_client_streams_own_mistake_surfaces_with_its_cause(driver, serving):
    """An iterator of the caller's that raises ends the call: it is not tried again, and no server is blamed for it."""
    counter, addresses = serving()

    def broken():
        yield named("a")
        raise RuntimeError("my own mistake")

    with calling(driver, addresses, policy=Policy(idempotent=True, retry=Retry(on={Code.UNKNOWN}))) as client:
        for _ in range(18):  # five failures in a row would eject a server
            with pytest.raises(CallError, match="the stream of requests raised RuntimeError") as caught:
                list(client.chat(broken()))
            assert str(caught.value.__cause__) == "my own mistake"
            assert (caught.value.outcome.code, caught.value.outcome.evidence) == (Code.UNKNOWN, Evidence.LOST)
            assert caught.value.attempts == 1
        assert all(member.breaker.state is State.CLOSED for member in client.channel._pool.members)
    assert counter.calls <= 18


@pytest.mark.parametrize("how", ["blocking", "future"])
def test_a_mistake_in_an_upload_surfaces_with_its_cause(serving, how):
    """Likewise where the answer is a single message; a message that cannot be serialized is such a mistake."""
    _, addresses = serving()
    with Channel(addresses) as channel:
        upload = hello_pb2_grpc.HelloStub(channel).SayHelloToAll
        source = iter([named("a"), "no message"])
        with pytest.raises(CallError, match="the stream of requests raised TypeError") as caught:
            upload(source) if how == "blocking" else upload.future(source).result(5)
    assert isinstance(caught.value.__cause__, TypeError)
    assert (caught.value.attempts, caught.value.may_have_happened) == (1, True)


def test_a_request_of_a_stream_that_cannot_be_serialized_is_its_callers_mistake(driver, serving):
    """INTERNAL, at once, nothing was done: as with a blocking call. grpc.aio by itself would send an empty message."""
    counter, addresses = serving()
    with calling(driver, addresses) as client:
        for _ in range(6):
            with pytest.raises(CallError, match="Exception serializing request!") as caught:
                client.stream("SayHelloToEach", "no message")
        assert (caught.value.outcome.code, caught.value.outcome.evidence) == (Code.INTERNAL, Evidence.NEVER_SENT)
        assert (caught.value.attempts, caught.value.may_have_happened) == (1, False)
        assert all(member.breaker.state is State.CLOSED for member in client.channel._pool.members)
    assert counter.calls == 0


def test_a_resume_whose_request_cannot_be_serialized_ends_the_stream(driver, serving):
    """The messages so far are read; then the mistake is told, and it stays the end of the stream."""
    _, addresses = serving(cuts=[2])
    policy = Policy(retry=AT_ONCE, checkpoint=Checkpoint(resume=lambda *_: "no message"))
    with calling(driver, addresses, methods={EACH: policy}) as client:
        replies = client.each("1..9")
        assert [next(replies).message, next(replies).message] == ["1", "2"]
        for _ in range(2):
            with pytest.raises(CallError, match="Exception serializing request!"):
                next(replies)
        assert replies.code() is grpc.StatusCode.INTERNAL


def test_a_conversation_whose_requests_wait_for_replies_is_begun_elsewhere(driver, serving):
    """The first attempt fails while the caller's iterator waits for the reply to its first request; the second brings it."""
    counter, addresses = serving(before=1, pause=0.1)
    replied = threading.Event()

    def asking():
        yield named("a")
        assert replied.wait(5), "no reply to the first request"
        yield named("b")

    async def asking_in_a_loop():
        requests = asking()
        yield next(requests)
        yield await asyncio.to_thread(next, requests)

    with calling(driver, addresses, policy=Policy(idempotent=True, retry=AT_ONCE)) as client:
        replies = client.chat(asking() if driver == "threads" else asking_in_a_loop())
        assert next(replies).message == "A"
        replied.set()
        assert [reply.message for reply in replies] == ["B"]
    assert counter.calls == 2


def test_the_answer_of_a_server_that_is_still_written_to_is_heard(driver, serving):
    """Refused while requests are under way, the caller gets the server's own word (grpc.aio mostly loses it)."""
    _, addresses = serving(before=100)
    with calling(driver, addresses, policy=Policy(retry=None), failover=None) as client:
        for _ in range(25):
            with pytest.raises(CallError) as caught:
                list(client.chat(iter([named("x" * 100)] * 20)))
            assert caught.value.outcome.message == "not yet"
            assert (caught.value.outcome.evidence, caught.value.may_have_happened) == (Evidence.ANSWERED, False)


def test_an_upload_is_never_hedged(serving):
    """Two attempts cannot read one stream: each server that answers has got all of it."""
    counter, addresses = serving()

    def slowly():
        for name in "abcd":
            yield named(name)
            time.sleep(0.02)

    with Channel(addresses, policy=Policy(hedge=Hedge(after=0.01))) as channel:
        assert hello_pb2_grpc.HelloStub(channel).SayHelloToAll(slowly()).message == "a b c d"
    assert counter.received == [["a", "b", "c", "d"]]


def test_a_stream_goes_on_elsewhere_when_its_servers_grace_is_over(driver, serving):
    """A server stops, and gives its calls less time than they need."""
    counter, addresses = serving(pause=0.01)
    with calling(
        driver, addresses, methods={EACH: Policy(timeout=10.0, retry=AT_ONCE, checkpoint=CHECKPOINTS[0])}
    ) as client:
        replies = client.each("1..60")
        first = numbers(itertools.islice(replies, 5))
        (hit,) = [index for index, member in enumerate(client.channel._pool.members) if member.in_flight]
        serving.servers[hit].stop(0.05)
        assert first + numbers(replies) == list(range(1, 61))
    assert counter.calls == 2


def test_a_silent_stream_is_left_after_its_limit(driver, serving):
    """attempt_timeout is the longest silence: each silent attempt ends after it, and the last error says so."""
    _, addresses = serving()
    policy = Policy(attempt_timeout=0.1, idempotent=True, retry=Retry(attempts=2, backoff=Backoff(base=0.0)))
    with calling(driver, addresses, policy=policy) as client:
        began = time.monotonic()
        with pytest.raises(CallError, match=r"no message for 0\.1 s") as caught:
            list(client.each("1..0"))
        assert 0.2 <= time.monotonic() - began < 5.0
    assert (caught.value.code(), caught.value.attempts) == (grpc.StatusCode.DEADLINE_EXCEEDED, 2)


def test_a_reader_that_takes_its_time_is_no_silence(driver, serving):
    """The caller is busy with the first message for longer than attempt_timeout, while the server sends on."""
    counter, addresses = serving(pause=0.03)
    with calling(driver, addresses, policy=Policy(attempt_timeout=0.2)) as client:
        replies = client.each("1..20")
        assert next(replies).message == "1"
        time.sleep(0.4)
        assert numbers(replies) == list(range(2, 21))
    assert counter.calls == 1


def test_the_channels_timeout_does_not_cut_streams_short(driver, serving):
    """A default of 50 ms is for unary calls; a method's own policy, and the caller's own timeout, count for its streams."""
    _, addresses = serving()
    with calling(driver, addresses, policy=Policy(timeout=0.05)) as client:
        replies = client.each("1..2")
        assert next(replies).message == "1"
        time.sleep(0.1)
        assert next(replies).message == "2"
        assert replies.time_remaining() is None
        assert list(replies) == []
        with pytest.raises(CallError) as caught:
            list(client.each("1..0", timeout=0.1))
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_a_streams_own_timeout_counts_also_where_it_is_the_channels_policy(driver, serving):
    """Named for the method, the very same value is the method's own."""
    _, addresses = serving()
    short = Policy(timeout=0.1)
    with calling(driver, addresses, policy=short, methods={EACH: short}) as client:
        with pytest.raises(CallError) as caught:
            list(client.each("1..0"))
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


@pytest.mark.guarantee(68)
def test_a_stream_can_be_cancelled_by_another_thread(driver, serving):
    """The reader gets CANCELLED, the server's attempt ends, and nothing stays in flight."""
    _, addresses = serving()
    with calling(driver, addresses) as client:
        replies = client.each("1..0")
        with futures.ThreadPoolExecutor(1) as pool:
            reading = pool.submit(list, replies)
            until(lambda: any(m.in_flight for m in client.channel._pool.members), "the stream to begin")
            assert replies.cancel()
            with pytest.raises(CallError) as caught:
                reading.result(5)
        assert caught.value.code() is grpc.StatusCode.CANCELLED
        assert not replies.cancel()
        until(lambda: all(m.in_flight == 0 for m in client.channel._pool.members), "the attempt let go")


def test_a_stream_that_is_cancelled_while_an_attempt_starts_leaves_none_behind(serving):
    """The second attempt is just being started when another thread cancels: it is cancelled, too."""
    _, addresses = serving(before=1)
    with Channel(addresses, policy=Policy(idempotent=True, retry=AT_ONCE)) as channel:
        replies = hello_pb2_grpc.HelloStub(channel).SayHelloToEach(named("1..0"))
        started = []

        def start(address, made):
            def starting(*arguments):
                assert replies.cancel()
                started.append(made(*arguments))
                return started[0]

            replies._on[address] = starting

        for address in addresses:
            start(address, replies._on[address])
        with pytest.raises(CallError) as caught:
            next(replies)
        assert caught.value.code() is grpc.StatusCode.CANCELLED
        until(started[0].done, "the attempt to end")
        assert started[0].code() is grpc.StatusCode.CANCELLED
        until(lambda: all(m.in_flight == 0 for m in channel._pool.members), "the attempt let go")


@pytest.mark.parametrize("limit", [None, 0.05])
def test_a_stream_that_is_dropped_is_taken_off_the_books(serving, limit):
    """Nobody reads on, nobody cancels: once it is collected, the next call finds nothing in flight."""
    _, addresses = serving()
    with Channel(addresses, policy=Policy(attempt_timeout=limit)) as channel:
        stub = hello_pb2_grpc.HelloStub(channel)
        replies = stub.SayHelloToEach(named("1..9"))
        assert next(replies).message == "1"
        del replies
        gc.collect()

        def settled():
            numbers(stub.SayHelloToEach(named("1..1")))
            return all(member.in_flight == 0 for member in channel._pool.members)

        until(settled, "the dropped stream let go")


def test_closing_the_channel_ends_streams_as_cancelled(driver, serving):
    """close() under a reader: CANCELLED, at once."""
    _, addresses = serving()
    client = DRIVERS[driver](addresses)
    replies = client.each("1..0")
    with futures.ThreadPoolExecutor(1) as pool:
        reading = pool.submit(list, replies)
        until(lambda: any(m.in_flight for m in client.channel._pool.members), "the stream to begin")
        client.close()
        with pytest.raises(CallError) as caught:
            reading.result(5)
    assert caught.value.code() is grpc.StatusCode.CANCELLED


@pytest.mark.guarantee(107)
@pytest.mark.parametrize("broken", ["resume", "cursor"])
def test_a_resume_that_raises_surfaces(driver, serving, broken):
    """A function of the user's that raises surfaces in the caller as it is."""
    _, addresses = serving()
    policy = Policy(checkpoint=Checkpoint(**{"resume": resume, broken: lambda *_: 1 / 0}))
    with calling(driver, addresses, methods={EACH: policy}) as client:
        with pytest.raises(ZeroDivisionError):
            list(client.each("1..3"))


def test_writing_to_a_stream_that_has_broken_ends_soon(serving):
    """The server is through with a stream that outgrew its buffer: the writer is told, and the reader why."""
    _, addresses = serving(before=1)

    async def talk():
        async with AioChannel(addresses, policy=Policy(buffer=10)) as channel:
            chat = hello_pb2_grpc.HelloStub(channel).Chat()
            with pytest.raises(asyncio.InvalidStateError, match="over, or broken"):  # noqa: PT012
                while True:
                    await asyncio.wait_for(chat.write(named("x" * 20)), 5)
            with pytest.raises(CallError, match="not yet"):
                await chat.read()
            with pytest.raises(asyncio.InvalidStateError, match="over, or broken"):
                await chat.write(named("y"))

    asyncio.run(talk())


def test_asyncio_streams_can_be_written_to(serving):
    """Without an iterator: write and done_writing, for both kinds; and a broken attempt gets all that was written."""
    counter, addresses = serving(before=1)

    async def talk():
        async with AioChannel(addresses, policy=Policy(idempotent=True, retry=AT_ONCE)) as channel:
            stub = hello_pb2_grpc.HelloStub(channel)
            chat, said = stub.Chat(), []
            for word in ("a", "b"):
                await chat.write(named(word))
                said.append((await chat.read()).message)
            await chat.done_writing()
            assert await chat.read() is grpc.aio.EOF
            call = stub.SayHelloToAll()
            for word in ("x", "y"):
                await call.write(named(word))
            await call.done_writing()
            return said, (await call).message, [reply.message async for reply in stub.SayHelloToEach(named("1..3"))]

    assert asyncio.run(talk()) == (["A", "B"], "x y", ["1", "2", "3"])
    assert counter.calls >= 4

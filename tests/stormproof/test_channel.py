"""The threaded driver on real sockets: what a generated stub gets from a `Channel`, and what gRPC's errors prove."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent import futures

import grpc
import pytest
from greeters import closed_port, named, until

from protos import hello_pb2_grpc
from stormproof import (
    CallError,
    Channel,
    Code,
    Endpoint,
    Evidence,
    Hedge,
    Policy,
    RandomChoice,
    Retry,
    RoundRobin,
)
from stormproof.core.breaker import State
from stormproof.observer import AttemptBegan
from stormproof.subchannels import outcome_of


def test_a_generated_stub_works_unchanged_with_all_four_kinds(three):
    """Unary and streaming methods, blocking, with_call and future."""
    with Channel(three.addresses, balancer=RoundRobin()) as channel:
        stub = hello_pb2_grpc.HelloStub(channel)
        assert stub.SayHello(named("Ada")).message == "Hello, Ada!"
        reply, call = stub.SayHello.with_call(named("Ada"))
        assert (reply.message, call.code()) == ("Hello, Ada!", grpc.StatusCode.OK)
        assert stub.SayHello.future(named("Ada")).result(5).message == "Hello, Ada!"
        assert [r.message for r in stub.SayHelloToEach(named("Ada"))] == ["A", "d", "a"]
        assert stub.SayHelloToAll(iter([named("Ada"), named("Bob")])).message == "Ada and Bob"
        assert stub.SayHelloToAll.future(iter([named("Ada")])).result(5).message == "Ada"
        assert [r.message for r in stub.Chat(iter([named("Ada"), named("Bob")]))] == ["Hello, Ada!", "Hello, Bob!"]
        until(lambda: all(member.in_flight == 0 for member in channel._pool.members), "all calls let go")
    assert {len(greeter.metadata) for greeter in three.greeters} <= {0, 1, 2, 3}


@pytest.mark.guarantee(62)
@pytest.mark.parametrize("how", ["blocking", "future"])
def test_a_failure_says_what_was_tried_and_who_must_act(three, how):
    """A CallError is a grpc.RpcError with code and details, and knows attempts, endpoints, and whether work was done."""
    with Channel(three.addresses, policy=Policy(retry=Retry(attempts=2))) as channel:
        stub = hello_pb2_grpc.HelloStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.SayHello(named("fail")) if how == "blocking" else stub.SayHello.future(named("fail")).result(5)
    error = caught.value
    assert isinstance(error, CallError)
    assert (error.code(), error.attempts, error.may_have_happened) == (grpc.StatusCode.UNAVAILABLE, 2, False)
    assert str(error) == (
        f"/hello.Hello/SayHello failed with UNAVAILABLE: not now [2 attempts: {error.endpoints[0]} UNAVAILABLE (answered); "
        f"{error.endpoints[1]} UNAVAILABLE (answered); the work was not done: call again later, or look after the servers]"
    )


def test_a_connection_that_is_accepted_and_closed_sent_nothing():
    """What a proxy with a dead server behind it does: accept, then close. No request left, so the evidence says so."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepting = threading.Thread(target=lambda: [listener.accept()[0].close() for _ in range(2)], daemon=True)
        accepting.start()
        assert failure_of(f"127.0.0.1:{listener.getsockname()[1]}").evidence is Evidence.NEVER_SENT


def test_a_listener_that_never_speaks_sent_nothing():
    """A black hole met while connecting: the connection attempt times out before any request is sent."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        outcome = failure_of(f"127.0.0.1:{listener.getsockname()[1]}", timeout=8.0)
    assert (outcome.code, outcome.evidence) == (Code.UNAVAILABLE, Evidence.NEVER_SENT)


def failure_of(address: str, name: str = "x", timeout: float = 2.0):
    with Channel([address], policy=Policy(timeout=timeout, retry=None)) as channel:
        with pytest.raises(CallError) as caught:
            hello_pb2_grpc.HelloStub(channel).SayHello(named(name))
    return caught.value.outcome


SERVER = """
import sys, time, grpc
from concurrent import futures
from protos import hello_pb2, hello_pb2_grpc
class Greeter(hello_pb2_grpc.HelloServicer):
    def SayHello(self, request, context):
        print("called", flush=True)
        time.sleep(20)
server = grpc.server(futures.ThreadPoolExecutor(2))
hello_pb2_grpc.add_HelloServicer_to_server(Greeter(), server)
print(server.add_insecure_port("127.0.0.1:0"), flush=True)
server.start()
server.wait_for_termination()
"""


def test_a_server_killed_in_the_middle_of_a_call_is_no_proof_of_anything():
    """SIGKILL with the call on the server: the evidence is LOST, and the error says that the work may have been done."""
    process = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
    try:
        address = f"127.0.0.1:{process.stdout.readline().strip()}"
        with Channel([address], policy=Policy(timeout=10.0)) as channel:
            call = hello_pb2_grpc.HelloStub(channel).SayHello.future(named("x"))
            assert process.stdout.readline() == "called\n"
            process.kill()
            error = call.exception(5)
    finally:
        process.kill()
        process.wait()
    assert (error.outcome.code, error.outcome.evidence) == (Code.UNAVAILABLE, Evidence.LOST)
    assert error.may_have_happened
    assert "call again only if doing it twice is harmless" in str(error)


def test_a_server_whose_grace_is_over_is_no_proof_of_anything(three):
    """It stops with a call in hand, in words that look like a refusal: LOST, so that only idempotent work is repeated."""
    with Channel(three.addresses, policy=Policy(timeout=10.0)) as channel:
        call = hello_pb2_grpc.HelloStub(channel).SayHello.future(named("hang"))
        until(lambda: any(greeter.metadata for greeter in three.greeters), "the call to arrive")
        hit = next(index for index, greeter in enumerate(three.greeters) if greeter.metadata)
        three.servers[hit].stop(0)
        error = call.exception(5)
    assert (error.outcome.code, error.outcome.evidence) == (Code.UNAVAILABLE, Evidence.LOST)
    assert (error.attempts, error.may_have_happened) == (1, True)


@pytest.mark.parametrize("how", ["blocking", "future"])
def test_a_request_that_cannot_be_serialized_is_its_callers_mistake(three, how):
    """INTERNAL, as with grpc, at once, with the word that nothing was done; nobody is called, blamed or left in flight."""
    with Channel(three.addresses) as channel:
        method = hello_pb2_grpc.HelloStub(channel).SayHello
        for _ in range(6):
            with pytest.raises(CallError, match="Exception serializing request!") as caught:
                method("no message") if how == "blocking" else method.future("no message")
        assert (caught.value.outcome.code, caught.value.outcome.evidence) == (Code.INTERNAL, Evidence.NEVER_SENT)
        assert (caught.value.attempts, caught.value.may_have_happened) == (1, False)
        assert all(member.in_flight == 0 for member in channel._pool.members)
        assert all(member.breaker.state is State.CLOSED for member in channel._pool.members)
    assert [greeter.metadata for greeter in three.greeters] == [[], [], []]


@pytest.mark.parametrize("how", ["blocking", "future"])
def test_closing_ends_calls_in_flight_as_cancelled(one, how):
    """close() with a call on the server: its caller gets CANCELLED, at once."""
    channel = Channel(one.addresses)
    stub = hello_pb2_grpc.HelloStub(channel)
    with futures.ThreadPoolExecutor(1) as pool:
        if how == "blocking":
            call = pool.submit(stub.SayHello, named("hang"))
        else:
            call = stub.SayHello.future(named("hang"))
        assert one.greeters[0].hanging.acquire(timeout=5)
        channel.close()
        with pytest.raises((CallError, grpc.FutureCancelledError)) as caught:
            call.result(5)
    if how == "blocking":
        assert caught.value.code() is grpc.StatusCode.CANCELLED


def test_a_closed_channel_says_so(one):
    """Calling on a closed channel is the caller's mistake, and the message says what to do."""
    channel = Channel(one.addresses)
    stub = hello_pb2_grpc.HelloStub(channel)
    channel.close()
    channel.close()
    for call in (stub.SayHello, stub.SayHello.future, stub.SayHelloToEach):
        with pytest.raises(ValueError, match="this Channel was closed: make a new one"):
            call(named("x"))


def test_a_future_can_be_cancelled(one):
    """Cancelling reaches the server, the future says so, and the counters go back to nought."""
    with Channel(one.addresses) as channel:
        call = hello_pb2_grpc.HelloStub(channel).SayHello.future(named("hang"))
        done = threading.Event()
        call.add_done_callback(lambda _: done.set())
        assert one.greeters[0].hanging.acquire(timeout=5)
        assert call.running()
        assert call.cancel()
        assert done.wait(5)
        assert call.cancelled()
        assert not call.cancel()
        with pytest.raises(grpc.FutureCancelledError):
            call.result()
        until(lambda: channel._pool.members[0].in_flight == 0, "the attempt let go")


@pytest.mark.guarantee(107)
def test_a_request_that_cannot_be_serialized_changes_no_counter(one):
    """The caller's own mistake surfaces as it is, and the endpoint is not blamed for it."""
    with Channel(one.addresses) as channel:
        stub = hello_pb2_grpc.HelloStub(channel)
        for _ in range(9):
            with pytest.raises((TypeError, AttributeError, grpc.RpcError)):
                stub.SayHello("not a message")
        assert [m.in_flight for m in channel._pool.members] == [0]
        assert stub.SayHello(named("x")).message == "Hello, x!"


def test_a_request_that_cannot_be_serialized_was_surely_not_done(one):
    """The error tells that nothing was sent: whoever counts payments need not look them up."""
    with Channel(one.addresses, policy=Policy(retry=Retry(on={Code.INTERNAL}), idempotent=True)) as channel:
        with pytest.raises(CallError, match="the work was not done") as caught:
            hello_pb2_grpc.HelloStub(channel).SayHello("not a message")
        assert (caught.value.code(), caught.value.may_have_happened) == (grpc.StatusCode.INTERNAL, False)
        assert one.greeters[0].metadata == []


def test_eight_threads_keep_every_promise_together(three):
    """8 threads x 150 calls: every call is answered, every pick is counted, nothing stays in flight, shares are even."""
    with Channel(three.addresses, balancer=RoundRobin()) as channel:
        stub = hello_pb2_grpc.HelloStub(channel)
        with futures.ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda n: stub.SayHello(named(str(n))).message, range(1200)))
        assert answers == [f"Hello, {n}!" for n in range(1200)]
        assert [m.in_flight for m in channel._pool.members] == [0, 0, 0]
    assert [len(greeter.metadata) for greeter in three.greeters] == [400, 400, 400]


def test_waiting_for_the_channel_to_be_ready_works(one):
    """grpc.channel_ready_future, as with any channel: ready when one endpoint is."""
    with Channel([closed_port(), *one.addresses]) as channel:
        grpc.channel_ready_future(channel).result(timeout=5)


@pytest.mark.guarantee(8)
def test_random_channels_with_one_seed_choose_the_same(three):
    """A seed fixes every draw of a channel."""
    orders = []
    for _ in range(2):
        events = []
        with Channel(three.addresses, balancer=RandomChoice(), seed=7, observer=events.append) as channel:
            stub = hello_pb2_grpc.HelloStub(channel)
            for _ in range(30):
                stub.SayHello(named("x"))
        orders.append([event.endpoint.address for event in events if isinstance(event, AttemptBegan)])
    assert orders[0] == orders[1]
    assert len(Counter(orders[0])) == 3


@pytest.mark.guarantee(9)
def test_bad_arguments_are_all_told_at_once():
    """One ValueError that names every argument that is wrong."""
    with pytest.raises(ValueError, match=r"^Channel: ") as caught:
        Channel(
            ["nowhere", "a:1", "a:1"],
            balancer=RoundRobin,
            policy=3,
            methods={"SayHello": Policy()},
            failover="yes",
            budget=0.2,
        )
    for part in (
        "address must be a text such as '10.0.0.1:50051'; got 'nowhere'",
        "a:1 stands there twice (give it a weight instead)",
        "balancer must be a balancer, such as RoundRobin(); got <class",
        "policy must be a Policy, such as Policy(timeout=1.0); got 3",
        "methods must be named '/package.Service/Method', or '/package.Service/' for all of one; got 'SayHello'",
        "failover must be a Failover, such as Failover(), or None for no failover; got 'yes'",
        "budget must be a RetryBudget, such as RetryBudget(); got 0.2",
    ):
        assert part in str(caught.value)
    for none in ([], "a:1"):
        with pytest.raises(ValueError, match="endpoints must"):
            Channel(none)


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ({"credentials": "x"}, r"credentials must be a ChannelCredentials, such as grpc.ssl_channel_credentials\(\)"),
        ({"options": None}, r"options must be a list of pairs, such as \('grpc.keepalive_time_ms', 10000\); got None"),
        ({"options": [("grpc.keepalive_time_ms",)]}, r"options\[0\] must be a name and a text or whole number"),
        (
            {"options": [("grpc.keepalive_time_ms", 2**31)]},
            r"options\[0\] must be .*\(of 32 bits\).*; got .*2147483648",
        ),
        (
            {"compression": "gzip"},
            "compression must be a Compression, such as grpc.Compression.Gzip, or None; got 'gzip'",
        ),
        ({"observer": "x"}, "observer must be a function of an event, such as print, or None; got 'x'"),
        ({"methods": "x"}, "methods must be a dict of policies by method, or None for none; got 'x'"),
        ({"methods": []}, r"methods must be a dict of policies by method, or None for none; got \[\]"),
        ({"seed": "x"}, "seed must be a whole number, or None for another one each time; got 'x'"),
        ({"endpoints": None}, "endpoints must be a list of addresses, such as .*; got None"),
    ],
)
def test_what_grpc_would_choke_on_later_is_refused_at_once(argument, says):
    """Argument, value and way out, whatever grpc itself would have said, and when."""
    with pytest.raises(ValueError, match=f"^Channel: {says}"):
        Channel(**{"endpoints": ["a:1"], **argument})


def test_options_and_compression_of_grpc_are_taken(one):
    """Texts, whole numbers and grpc's own compression reach each endpoint's channel."""
    options = [("grpc.primary_user_agent", "me"), ["grpc.keepalive_time_ms", 10_000]]
    with Channel(one.addresses, options=options, compression=grpc.Compression.Gzip) as channel:
        assert hello_pb2_grpc.HelloStub(channel).SayHello(named("x")).message == "Hello, x!"
    assert one.greeters[0].metadata[0]["user-agent"].startswith("me ")


def test_unknown_words_of_grpc_are_no_proof():
    """outcome_of on an UNAVAILABLE in a server's own words is ANSWERED, on a transport's words LOST."""

    class Said(grpc.RpcError):
        def __init__(self, details):
            self._details = details

        def code(self):
            return grpc.StatusCode.UNAVAILABLE

        def details(self):
            return self._details

        def trailing_metadata(self):
            return ()

    assert outcome_of(Said("come back tomorrow")).evidence is Evidence.ANSWERED
    for words in (
        "Stream removed (Socket closed)",
        "GOAWAY received",
        "recvmsg:Connection reset by peer",
        "keepalive timeout",
    ):
        assert outcome_of(Said(words)).evidence is Evidence.LOST


@pytest.mark.parametrize("how", ["blocking", "with_call", "future"])
def test_a_second_server_is_asked_when_the_first_is_silent(three, how):
    """Hedge: one server hangs, a copy 50 ms later answers, and the copy on the hanging server is cancelled."""
    for greeter in three.greeters[1:]:
        greeter.release.set()  # "hang" hangs on the first server only
    policy = Policy(timeout=5.0, hedge=Hedge(after=0.05))
    endpoints = [Endpoint(address, priority=tier) for tier, address in enumerate(three.addresses)]
    with Channel(endpoints, policy=policy) as channel:
        stub, began = hello_pb2_grpc.HelloStub(channel), time.monotonic()
        if how == "blocking":
            reply = stub.SayHello(named("hang"))
        elif how == "with_call":
            reply, call = stub.SayHello.with_call(named("hang"))
            assert call.code() is grpc.StatusCode.OK
        else:
            reply = stub.SayHello.future(named("hang")).result(5)
        assert reply.message == "Hello, hang!"
        assert 0.05 <= time.monotonic() - began < 2.0
        until(lambda: all(m.in_flight == 0 for m in channel._pool.members), "the loser let go")
    assert three.greeters[1].metadata[0]["grpc-previous-rpc-attempts"] == "1"


@pytest.mark.guarantee(54)
@pytest.mark.parametrize(
    ("value", "seconds"),
    [("0", 0.0), ("30", 0.03), ("007", 0.007), ("-1", -1.0), ("", -1.0), ("soon", -1.0), ("1.5", -1.0), ("+5", -1.0),
     (" 5", -1.0), ("1e3", -1.0), ("9" * 10, -1.0), (None, None)],
)  # fmt: skip
def test_a_pushback_is_a_number_of_milliseconds_or_a_no(value, seconds):
    """gRFC A6: negative or unparseable is the server asking not to retry at all."""

    class Said(grpc.RpcError):
        def code(self):
            return grpc.StatusCode.UNAVAILABLE

        def details(self):
            return "not now"

        def trailing_metadata(self):
            return () if value is None else (("grpc-retry-pushback-ms", value),)

    assert outcome_of(Said()).pushback == seconds

"""Misbehaviour: each kind acts when told to, is counted, and ends when the server is told to behave."""

from __future__ import annotations

import time

import grpc
import pytest

from harness.node.conduct import Conduct
from protos.control_pb2 import Behaviour, Observed, ObserveRequest
from protos.hello_pb2 import HelloRequest

ADA = HelloRequest(name="Ada")
RESOURCE_EXHAUSTED, UNAVAILABLE = 8, 14


def codes(server, calls):
    """The status of `calls` calls, one after the other, numbered from 0."""
    seen = []
    for number in range(calls):
        try:
            server.hello.SayHello(ADA, timeout=10, metadata=(("stormproof-call", str(number)),))
            seen.append("OK")
        except grpc.RpcError as error:
            seen.append(error.code().name)
    return seen


@pytest.fixture
def server(start):
    """A server that ends every test by behaving well again: the promise that all misbehaviour ends."""
    server = start()
    yield server
    server.control.Behave(Behaviour())
    assert server.hello.SayHello(ADA, timeout=10).message == "Hello, Ada!"


def test_errors_are_answered_instead_of_working(server):
    """With the status that was asked for; nothing is executed."""
    server.control.Behave(Behaviour(error_rate=1.0, error_code=UNAVAILABLE))
    with pytest.raises(grpc.RpcError) as caught:
        server.hello.SayHello(ADA)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert caught.value.details() == "server-0 is told to fail"
    assert server.control.Observe(ObserveRequest()) == Observed(received=1, errors=1)
    (execution,) = server.executions()
    assert (execution.code, execution.executed) == ("UNAVAILABLE", None)


@pytest.mark.parametrize("kind", ["SayHelloToEach", "SayHelloToAll", "Chat"])
def test_errors_hit_calls_of_every_kind(server, kind):
    """Before the first message of a stream."""
    server.control.Behave(Behaviour(error_rate=1.0, error_code=UNAVAILABLE))
    with pytest.raises(grpc.RpcError) as caught:
        list(getattr(server.hello, kind)(ADA if kind == "SayHelloToEach" else iter([ADA])))
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_seed_makes_the_same_calls_fail_again(server):
    """Half of them, whatever came before and in whichever order they arrive."""
    half = Behaviour(error_rate=0.5, error_code=UNAVAILABLE, seed=8123)
    server.control.Behave(half)
    first = codes(server, 20)
    server.control.Behave(half)
    assert codes(server, 20) == first
    assert 0 < first.count("OK") < 20
    server.control.Behave(Behaviour(error_rate=0.5, error_code=UNAVAILABLE, seed=8124))
    assert codes(server, 20) != first


def test_a_delay_comes_before_the_work(server):
    """A call takes at least so much longer."""
    server.control.Behave(Behaviour(delay=0.2))
    began = time.monotonic()
    server.hello.SayHello(ADA)
    assert time.monotonic() - began >= 0.2
    assert server.control.Observe(ObserveRequest()) == Observed(received=1, delayed=1)


def test_a_hanging_call_ends_when_its_caller_goes(server):
    """No answer until the deadline; then the server is through with it."""
    server.control.Behave(Behaviour(hang_rate=1.0))
    with pytest.raises(grpc.RpcError) as caught:
        server.hello.SayHello(ADA, timeout=0.2)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert server.control.Observe(ObserveRequest()) == Observed(received=1, hung=1)
    server.wait_for(lambda told: told[0].code == "CANCELLED")


def test_calls_above_the_limit_are_refused(server):
    """At once, with RESOURCE_EXHAUSTED, while the ones below it go on."""
    server.control.Behave(Behaviour(limit=2, delay=60.0))
    running = [server.hello.SayHello.future(ADA) for _ in range(2)]
    server.wait_for(lambda told: len(told) == 2)
    with pytest.raises(grpc.RpcError) as caught:
        server.hello.SayHello(ADA, timeout=10)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert server.control.Observe(ObserveRequest()) == Observed(received=3, refused=1, delayed=2)
    for call in running:
        call.cancel()


def test_a_wrong_answer_greets_somebody_else(server):
    """Status OK and a message that a checking caller must not take."""
    server.control.Behave(Behaviour(wrong_rate=1.0))
    assert server.hello.SayHello(ADA).message == "Hello, somebody else!"
    assert server.control.Observe(ObserveRequest()) == Observed(received=1, wrong=1)


def test_a_server_whose_workers_are_all_busy_can_still_be_told(start):
    """Control answers while one call works and twenty wait."""
    server = start(workers=1, service_time=60.0)
    calls = [server.hello.SayHello.future(ADA) for _ in range(21)]
    server.wait_for(lambda told: len(told) == 21)
    assert server.control.Behave(Behaviour(), timeout=5).received == 21
    for call in calls:
        call.cancel()


def test_a_behaviour_out_of_bounds_changes_nothing(server):
    """All that is wrong with it is named, and the server goes on as before."""
    with pytest.raises(grpc.RpcError) as caught:
        server.control.Behave(Behaviour(error_rate=1.5, hang_rate=0.5, delay=-1))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details() == (
        "Behaviour: error_rate must be a number, from 0 to 1; got 1.5; error_code must be the number of a "
        "gRPC status, from 1 to 16; got 0; delay must be seconds, from 0 to 3600; got -1"
    )
    assert codes(server, 20) == ["OK"] * 20


def test_an_attempt_is_drawn_anew_when_it_is_repeated():
    """A retry (sent 2) of the same operation may fare better than its first try; a replay fares the same."""
    asked = Behaviour(error_rate=0.5, error_code=UNAVAILABLE, seed=1)

    def drawn():
        conduct = Conduct("server-0")
        conduct.behave(asked, 0.0)
        return [[conduct.decide(operation, sent, 0, 0.0).code is None for sent in (1, 2)] for operation in range(50)]

    assert drawn() == drawn()
    assert [True, False] in drawn()
    assert [False, True] in drawn()


def test_rates_are_kept():
    """10,000 calls at rate 0.2, seed 7: 2000 errors, give or take 5 standard deviations."""
    conduct = Conduct("server-0")
    conduct.behave(Behaviour(error_rate=0.2, error_code=RESOURCE_EXHAUSTED, seed=7), 0.0)
    for operation in range(10_000):
        conduct.decide(operation, 1, 0, 0.0)
    assert 1800 <= conduct.observed().errors <= 2200

"""The Hello server's standard health service: what containers and balancing clients ask."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from protos.control_pb2 import Behaviour, DrainRequest
from protos.hello_pb2 import HelloRequest

SERVING, NOT_SERVING = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING
ASK, ADA = HealthCheckRequest(), HelloRequest(name="Ada")


def health_of(server) -> HealthStub:
    return HealthStub(server._channel(server.ready.port))


@pytest.mark.parametrize("service", ["", "hello.Hello"])
def test_a_ready_server_serves(start, service):
    """From the moment that it says it is ready, for the server as a whole and for its service, to Check and to Watch."""
    health = health_of(start())
    assert health.Check(HealthCheckRequest(service=service), timeout=5).status == SERVING
    assert next(health.Watch(HealthCheckRequest(service=service), timeout=5)).status == SERVING


def test_a_service_that_it_does_not_have_is_not_known(start):
    """NOT_FOUND from Check, SERVICE_UNKNOWN from Watch, as the protocol has it."""
    health = health_of(start())
    with pytest.raises(grpc.RpcError) as caught:
        health.Check(HealthCheckRequest(service="shop.Cart"), timeout=5)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    answers = health.Watch(HealthCheckRequest(service="shop.Cart"), timeout=5)
    assert next(answers).status == HealthCheckResponse.SERVICE_UNKNOWN


@pytest.mark.parametrize(
    "behaviour", [Behaviour(error_rate=1.0, error_code=14), Behaviour(hang_rate=1.0), Behaviour(delay=30.0)]
)
def test_it_answers_normally_while_hello_misbehaves(start, behaviour):
    """Errors, silence and slowness concern Hello only: SERVING comes as ever, and is not counted as a call."""
    server = start()
    server.control.Behave(behaviour)
    hello = server.hello.SayHello.future(ADA, timeout=20)
    server.wait_for(lambda told: len(told) == 1)
    assert health_of(server).Check(ASK, timeout=5).status == SERVING
    hello.cancel()
    assert len(server.executions()) == 1


def test_it_answers_while_every_worker_is_busy(start):
    """Calls wait for a place to work; the question does not."""
    server = start(workers=1, service_time=30.0)
    calls = [server.hello.SayHello.future(ADA, timeout=20) for _ in range(3)]
    server.wait_for(lambda told: len(told) == 3)
    assert health_of(server).Check(ASK, timeout=5).status == SERVING
    for call in calls:
        call.cancel()


@pytest.mark.parametrize("how", ["SIGTERM", "Drain"])
def test_who_watches_is_told_that_it_drains_and_does_not_hold_it_up(start, how):
    """NOT_SERVING while a call is finished, then the end of the stream; the server is gone long before the grace of 5 s."""
    server = start(service_time=0.5)
    watch = health_of(server).Watch(ASK, timeout=20)
    assert next(watch).status == SERVING
    call = server.hello.SayHello.future(ADA)
    server.wait_for(lambda told: len(told) == 1)
    began = time.monotonic()
    if how == "SIGTERM":
        server.process.signal(signal.SIGTERM)
    else:
        server.control.Drain(DrainRequest(grace=5.0))
    assert [answer.status for answer in watch] == [NOT_SERVING]
    assert call.result().message == "Hello, Ada!"
    assert server.process.wait(5.0) == 0
    assert time.monotonic() - began < 4.0


def test_whoever_starts_servers_does_not_have_its_messages_in_the_pool():
    """A client that is forked from the same keeper may bring a health.proto of its own: two in one process clash."""
    program = "import sys, harness, harness.node.server; print('grpc_health.v1.health_pb2' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout == "False\n"

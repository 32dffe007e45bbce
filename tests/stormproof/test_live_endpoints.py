"""Endpoints that come and go under a channel, are asked for their health and report their load: real servers, both drivers."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections import Counter
from concurrent import futures

import grpc
import pytest
from greeters import DRIVERS, Greeter, Servers, calling, closed_port, named, until
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from protos import hello_pb2_grpc
from stormproof import (
    CallError,
    Channel,
    ConsistentHash,
    Endpoint,
    Failover,
    HealthCheck,
    Hedge,
    LoadReports,
    Policy,
    Polled,
    RoundRobin,
    SlowStart,
)
from stormproof.core.reports import LoadReport
from stormproof.observer import Ejected, HealthChanged, Joined, Left, Readmitted, Unresolved
from stormproof.server import LoadReporter

QUICK = HealthCheck(interval=0.05, timeout=0.5, failures=2)


@pytest.fixture(params=DRIVERS)
def driver(request):
    return request.param


@pytest.fixture
def two():
    servers = Servers(2)
    yield servers
    servers.stop()


class Registry:
    """What a resolver's function answers; it can be changed, made to fail, and held back."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = list(addresses)
        self.problem: Exception | None = None
        self.open = threading.Event()
        self.open.set()

    def __call__(self) -> list[str]:
        self.open.wait(20)
        if self.problem is not None:
            raise self.problem
        return list(self.addresses)


def polled(registry: Registry) -> Polled:
    return Polled(registry, period=0.02)


def counts(servers: Servers) -> list[int]:
    return [len(greeter.metadata) for greeter in servers.greeters]


@pytest.mark.guarantee(3, 4)
def test_an_endpoint_joins_and_another_leaves_while_calls_run(driver, two):
    """a alone, then a and b, then b alone: each time the calls follow, none fails, and a's connection is closed."""
    a, b = two.addresses
    registry, events = Registry(a), []
    with calling(driver, polled(registry), balancer=RoundRobin(), observer=events.append) as client:
        client.call("x")
        registry.addresses = [a, b]
        until(
            lambda: (
                Joined in map(type, events[2:]) and any(getattr(e, "endpoint", None) == Endpoint(b) for e in events)
            ),
            "b",
        )
        before = counts(two)
        for _ in range(10):
            client.call("x")
        assert [now - then for now, then in zip(counts(two), before, strict=True)] == [5, 5]
        registry.addresses = [b]
        until(lambda: Left in map(type, events), "a's leave")
        before = counts(two)
        for _ in range(10):
            client.call("x")
        assert [now - then for now, then in zip(counts(two), before, strict=True)] == [0, 10]
        until(lambda: list(client.channel._subchannels) == [b], "the channel to a closed")


@pytest.mark.guarantee(3)
def test_a_call_in_flight_on_an_endpoint_that_leaves_finishes(driver, two):
    """a leaves while it works: its call gets its answer, and only then its channel is closed."""
    a, b = two.addresses
    registry, events = Registry(a), []
    with calling(driver, polled(registry), policy=Policy(timeout=20.0), observer=events.append) as client:
        call = client.start("hang")
        assert two.greeters[0].hanging.acquire(timeout=5)
        registry.addresses = [b]
        until(lambda: Left in map(type, events), "a's leave")
        assert client.call("x") == "Hello, x!"
        assert counts(two) == [1, 1]
        two.greeters[0].release.set()
        assert call.result(5).message == "Hello, hang!"
        until(lambda: list(client.channel._subchannels) == [b], "the channel to a closed")


def test_a_stub_finds_an_endpoint_that_comes_back(driver, one):
    """It leaves, its channel is closed, it comes back: the same stub calls it through a new one."""
    other = closed_port()
    registry, events = Registry(*one.addresses), []
    with calling(driver, polled(registry), observer=events.append) as client:
        client.call("x")
        registry.addresses = [other]
        until(lambda: Left in map(type, events), "its leave")
        registry.addresses = one.addresses
        until(lambda: [type(e) for e in events].count(Left) == 2, "its return")
        assert client.call("y") == "Hello, y!"


@pytest.mark.guarantee(64)
def test_calls_wait_for_the_first_answer_within_their_deadline(driver, one):
    """The resolver is slow: a call made before its first answer is made once that is there; another ends by its deadline."""
    registry = Registry(*one.addresses)
    registry.open.clear()
    with calling(driver, polled(registry)) as client:
        began = time.monotonic()
        with pytest.raises(CallError) as caught:
            client.call("late", timeout=0.2)
        assert 0.19 <= time.monotonic() - began < 2.0
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        with futures.ThreadPoolExecutor(2) as pool:
            call = pool.submit(client.call, "x")
            stream = pool.submit(lambda: [m.message for m in client.each("abc")])
            registry.open.set()
            assert call.result(5) == "Hello, x!"
            assert stream.result(5) == ["a", "b", "c"]


@pytest.mark.guarantee(2, 107)
def test_without_any_answer_a_call_fails_at_once_and_says_why(driver):
    """The first answer is an error: UNAVAILABLE, no attempt, the resolver's own words; the observer hears it, too."""
    registry, events = Registry(), []
    registry.problem = OSError("the registry is down")
    with calling(driver, polled(registry), observer=events.append) as client:
        with pytest.raises(CallError) as caught:
            client.call("x")
    assert (caught.value.code(), caught.value.attempts) == (grpc.StatusCode.UNAVAILABLE, 0)
    assert "the registry is down" in caught.value.details()
    assert not caught.value.may_have_happened
    assert isinstance(next(e for e in events if isinstance(e, Unresolved)).problem.__cause__, OSError)


def test_what_was_known_stays_if_the_resolver_fails_later(driver, one):
    """The registry goes down after its first answer: calls go on."""
    registry, events = Registry(*one.addresses), []
    with calling(driver, polled(registry), observer=events.append) as client:
        client.call("x")
        registry.problem = OSError("the registry is down")
        until(lambda: Unresolved in map(type, events), "the failure told")
        assert client.call("y") == "Hello, y!"


def test_closing_ends_a_call_that_waits_for_endpoints(driver):
    """No answer ever comes: close() frees the caller."""
    registry = Registry()
    registry.open.clear()
    client = DRIVERS[driver](polled(registry), policy=Policy(timeout=60.0))
    call = futures.ThreadPoolExecutor(1).submit(client.call, "x")
    time.sleep(0.05)  # not needed to pass: a call that comes after the close is refused
    client.close()
    with pytest.raises((CallError, ValueError)):
        call.result(5)
    registry.open.set()


def test_a_channel_that_is_dropped_unclosed_is_collected(one):
    """The threads of its resolver, its health checks and its timers hold no channel, and end."""
    hedged = Policy(hedge=Hedge(after=0.01))
    channel = Channel(polled(Registry(*one.addresses)), policy=hedged, failover=Failover(health=QUICK))
    assert hello_pb2_grpc.HelloStub(channel).SayHello(named("x"), timeout=5).message == "Hello, x!"
    gone = weakref.ref(channel)
    del channel

    def collected() -> bool:
        gc.collect()
        return gone() is None

    until(collected, "the channel collected")
    ours = ("stormproof-resolver", "stormproof-health-checks", "stormproof-timers")
    until(lambda: not [t for t in threading.enumerate() if t.name in ours], "their threads ended")


class Healthy:
    """A greeter with the standard health service."""

    def __init__(self) -> None:
        self.greeter, self.health = Greeter(), health.HealthServicer()
        self.server = grpc.server(futures.ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)])
        hello_pb2_grpc.add_HelloServicer_to_server(self.greeter, self.server)
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self.server)
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.serves(True)
        self.server.start()

    def serves(self, well: bool) -> None:
        status = health_pb2.HealthCheckResponse
        self.health.set("", status.SERVING if well else status.NOT_SERVING)


def test_a_server_that_says_it_does_not_serve_is_left_before_a_call_fails_on_it(driver):
    """NOT_SERVING, then SERVING again: the calls go elsewhere and come back, and not one of them has failed."""
    servers, events = [Healthy(), Healthy()], []
    addresses = [server.address for server in servers]
    with calling(
        driver, addresses, balancer=RoundRobin(), failover=Failover(health=QUICK), observer=events.append
    ) as client:
        client.call("x")
        servers[0].serves(False)
        until(lambda: any(isinstance(e, HealthChanged) and not e.serving for e in events), "the news")
        before = len(servers[0].greeter.metadata)
        for _ in range(10):
            client.call("x")
        assert len(servers[0].greeter.metadata) == before
        servers[0].serves(True)
        until(lambda: any(isinstance(e, HealthChanged) and e.serving for e in events), "the good news")
        for _ in range(10):
            client.call("x")
        assert len(servers[0].greeter.metadata) == before + 5
    for server in servers:
        server.server.stop(0)


def test_with_health_checks_no_call_is_spent_on_a_server_that_is_still_dead(driver):
    """A dead server is ejected by the first call that finds it; then 200 calls over 3 s are answered in one attempt each."""
    server, events, dead = Healthy(), [], closed_port()
    failover = Failover(health=QUICK)
    with calling(
        driver, [dead, server.address], balancer=RoundRobin(), failover=failover, observer=events.append
    ) as client:
        for _ in range(4):
            client.call("x")
        until(lambda: any(isinstance(e, HealthChanged) and not e.serving for e in events), "its silence noticed")
        attempts = client.channel._pool.members[0].breaker.times
        deadline = time.monotonic() + 2.0
        while time.monotonic() < deadline:
            client.call("x")
        assert client.channel._pool.members[0].breaker.times == attempts
        assert [type(e) for e in events].count(Ejected) <= 1
    server.server.stop(0)


def test_a_server_without_a_health_service_is_called_and_tried_as_ever(driver, two):
    """UNIMPLEMENTED is no bad word; an ejected one has its trial by a call."""
    events = []
    failover = Failover(health=QUICK, base=0.05, cap=0.05)
    with calling(
        driver, [closed_port(), *two.addresses], balancer=RoundRobin(), failover=failover, observer=events.append
    ) as c:
        until(lambda: [c.call("x") for _ in range(3)] and counts(two)[0] > 3, "calls served")
    assert not any(
        isinstance(e, HealthChanged) and e.serving is False and e.endpoint.address in two.addresses for e in events
    )


@pytest.mark.guarantee(18)
def test_servers_that_report_their_load_get_their_share(driver):
    """a says 80 % utilization, b 20 %, both the same rate: b gets four calls of five."""
    loads = [0.8, 0.2]
    greeters = [Greeter(), Greeter()]
    servers, addresses = [], []
    for greeter, load in zip(greeters, loads, strict=True):
        report = LoadReport(application_utilization=load, qps=100.0)
        interceptor = LoadReporter(lambda report=report: report)
        server = grpc.server(
            futures.ThreadPoolExecutor(4), interceptors=[interceptor], options=[("grpc.so_reuseport", 0)]
        )
        hello_pb2_grpc.add_HelloServicer_to_server(greeter, server)
        addresses.append(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
        server.start()
        servers.append(server)
    reports = LoadReports(blackout=0.0, period=0.1)
    with calling(driver, addresses, balancer=RoundRobin(), load_reports=reports) as client:
        until(lambda: client.call("x") and client.channel._pool.members[0].weight != 1.0, "weights")
        before = [len(greeter.metadata) for greeter in greeters]
        for _ in range(50):
            client.call("x")
        assert [len(g.metadata) - b for g, b in zip(greeters, before, strict=True)] == [10, 40]
    for server in servers:
        server.stop(0)


@pytest.mark.guarantee(36)
def test_a_key_in_the_metadata_chooses_the_server(driver, three):
    """20 users, 5 calls each: every user's calls are all on one server, and not all users on the same."""
    with calling(driver, three.addresses, balancer=ConsistentHash(header="user")) as client:
        for _ in range(5):
            for user in range(20):
                client.call("x", metadata=(("user", str(user)),))
    seen = [Counter(sent["user"] for sent in greeter.metadata) for greeter in three.greeters]
    assert sum(len(users) for users in seen) == 20
    assert all(count == 5 for users in seen for count in users.values())
    assert sum(bool(users) for users in seen) >= 2


def test_a_function_of_the_request_chooses_the_server(driver, three):
    """Keyed by the name in the request; a stream with one request, too."""
    balancer = ConsistentHash(key=lambda request, _: request.name)
    with calling(driver, three.addresses, balancer=balancer) as client:
        for _ in range(5):
            client.call("Ada")
            assert len(list(client.each("Ada"))) == 3
    assert sorted(len(greeter.metadata) for greeter in three.greeters) == [0, 0, 5]


def test_an_endpoint_that_joins_warms_up(driver, two):
    """With a window of 100 s the new one gets about a tenth of an equal share: 1 call of 11."""
    a, b = two.addresses
    registry, events = Registry(a), []
    failover = Failover(slow_start=SlowStart(window=100.0))
    with calling(driver, polled(registry), balancer=RoundRobin(), failover=failover, observer=events.append) as client:
        client.call("x")
        registry.addresses = [a, b]
        until(lambda: any(isinstance(e, Joined) and e.endpoint.address == b for e in events), "b")
        for _ in range(110):
            client.call("x")
        assert 9 <= counts(two)[1] <= 14
    assert Readmitted not in map(type, events)

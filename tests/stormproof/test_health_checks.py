"""The drivers of health checks on real sockets: what becomes of an endpoint, on threads and on asyncio."""

from __future__ import annotations

import asyncio
import random
import socket
import threading
import time
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
from greeters import closed_port, until
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from stormproof.core.health import Answer, HealthCheck
from stormproof.health_checks import AioHealthChecks, HealthChecks

#: Quick, so that tests are.
QUICK = HealthCheck(interval=0.05, timeout=1.0)
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


class Endpoints:
    """A channel's endpoints as the checks see them; what they tell is kept."""

    def __init__(self, api: Any = grpc) -> None:
        self._api = api
        self.addresses: list[str] = []
        self.channels: dict[str, Any] = {}
        self.told: list[tuple[str, bool, bool]] = []
        self.threads: set[str] = set()

    def members(self) -> list[str]:
        return list(self.addresses)

    def subchannel(self, address: str) -> Any:
        if address not in self.channels:
            self.channels[address] = self._api.insecure_channel(address)
        return self.channels[address]

    def checked(self, address: str, answer: Answer, serving: bool) -> None:
        self.told.append((address, serving, answer is Answer.SERVING))
        self.threads.add(threading.current_thread().name)

    def last(self, address: str) -> tuple[bool, bool] | None:
        return next(((serving, ok) for told, serving, ok in reversed(self.told) if told == address), None)


class Threads:
    """The checks on threads."""

    def __init__(self, config: HealthCheck) -> None:
        self.endpoints = Endpoints()
        self.checks = HealthChecks(self.endpoints, config, random.Random(1))

    def close(self) -> None:
        self.checks.close()

    def end(self) -> None:
        for channel in self.endpoints.channels.values():
            channel.close()

    def close_channel(self, address: str) -> None:
        self.endpoints.channels[address].close()


class Asyncio:
    """The checks on asyncio, in a loop of their own."""

    def __init__(self, config: HealthCheck) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.endpoints = Endpoints(grpc.aio)
        self.checks = self._do(self._start(config))

    async def _start(self, config: HealthCheck) -> AioHealthChecks:
        return AioHealthChecks(self.endpoints, config, random.Random(1))

    def _do(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def close(self) -> None:
        self._do(self.checks.close())

    def tasks(self) -> set[str]:
        async def names() -> set[str]:
            return {task.get_name() for task in asyncio.all_tasks()}

        return self._do(names())

    def end(self) -> None:
        for address in self.endpoints.channels:
            self.close_channel(address)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def close_channel(self, address: str) -> None:
        self._do(self.endpoints.channels[address].close(None))


DRIVERS = {"threads": Threads, "asyncio": Asyncio}


@pytest.fixture(params=DRIVERS)
def driver(request):
    return request.param


@contextmanager
def checking(driver: str, *addresses: str, config: HealthCheck = QUICK):
    """Checks of these endpoints."""
    client = DRIVERS[driver](config)
    client.endpoints.addresses = list(addresses)
    try:
        yield client
    finally:
        client.close()
        client.end()


class Server:
    """A server with the standard health service, or without one."""

    def __init__(self, *, service: Any = None, has_service: bool = True) -> None:
        self.health = service or health.HealthServicer()
        self.port = 0
        self._has_service = has_service
        self.start()

    def start(self) -> None:
        self._server = grpc.server(futures.ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
        if self._has_service:
            health_pb2_grpc.add_HealthServicer_to_server(self.health, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        self._server.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def set(self, status: Any, service: str = "") -> None:
        self.health.set(service, status)

    def stop(self) -> None:
        self._server.stop(0).wait(5)


@pytest.fixture
def servers():
    started: list[Server] = []

    def start(**options: Any) -> Server:
        started.append(Server(**options))
        return started[-1]

    yield start
    for server in started:
        server.stop()


def test_the_word_of_each_server_is_told_as_it_changes(driver, servers):
    """Two servers; one says NOT_SERVING, then SERVING again, and the other is not touched by that."""
    one, other = servers(), servers()
    with checking(driver, one.address, other.address) as client:
        last = client.endpoints.last
        until(lambda: last(one.address) == last(other.address) == (True, True), "both serve")
        one.set(NOT_SERVING)
        until(lambda: last(one.address) == (False, False), "one does not")
        assert last(other.address) == (True, True)
        one.set(SERVING)
        until(lambda: last(one.address) == (True, True), "it does again")


def test_the_service_that_was_asked_for_is_what_counts(driver, servers):
    """shop.Cart is not known, then SERVING, then NOT_SERVING, whatever the server as a whole says."""
    server = servers()
    config = HealthCheck(service="shop.Cart", interval=0.05)
    with checking(driver, server.address, config=config) as client:
        until(lambda: client.endpoints.last(server.address) == (False, False), "NOT_FOUND does not serve")
        server.set(SERVING, "shop.Cart")
        until(lambda: client.endpoints.last(server.address) == (True, True), "it serves")
        server.set(NOT_SERVING, "shop.Cart")
        until(lambda: client.endpoints.last(server.address) == (False, False), "it does not")


def test_a_server_that_dies_is_left_and_found_again(driver, servers):
    """Refused connections are silence; the next good answer on the same address brings it back."""
    server = servers()
    with checking(driver, server.address) as client:
        until(lambda: client.endpoints.last(server.address) == (True, True), "it serves")
        server.stop()
        until(lambda: client.endpoints.last(server.address) == (False, False), "it is left")
        server.start()
        until(lambda: client.endpoints.last(server.address) == (True, True), "it is back")


def test_a_port_where_nobody_listens_and_one_where_nobody_answers(driver):
    """Neither serves, after the second silence. Both were told as serving still after the first."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        silent, closed = f"127.0.0.1:{mute.getsockname()[1]}", closed_port()
        config = HealthCheck(interval=0.05, timeout=0.1)
        with checking(driver, silent, closed, config=config) as client:
            for address in (silent, closed):
                until(lambda address=address: client.endpoints.last(address) == (False, False), f"{address} is left")
                told = [entry[1:] for entry in client.endpoints.told if entry[0] == address]
                assert told[:2] == [(True, False), (False, False)]


class Hanging(health.HealthServicer):
    """Does not answer until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.release = threading.Event()
        self.asked = threading.Event()
        self.let_go = threading.Event()  # by who asked

    def Check(self, request, context):  # noqa: N802
        self.asked.set()
        context.add_callback(self.let_go.set)
        self.release.wait(30)
        return super().Check(request, context)


def test_one_that_hangs_does_not_delay_the_others(driver, servers):
    """While one keeps its question, for 30 s if need be, the other is asked ten times."""
    hanging, well = servers(service=Hanging()), servers()
    with checking(driver, hanging.address, well.address, config=HealthCheck(interval=0.05, timeout=30.0)) as client:
        until(lambda: client.endpoints.told.count((well.address, True, True)) >= 10, "the other is asked", 20.0)
        assert client.endpoints.last(hanging.address) is None
        hanging.health.release.set()
        until(lambda: client.endpoints.last(hanging.address) == (True, True), "it is heard when it speaks")


def test_a_server_without_a_health_service_serves_and_is_left_in_peace(driver, servers):
    """UNIMPLEMENTED: serving, without a good word of its own; in the time of five other questions it is asked once."""
    without, well = servers(has_service=False), servers()
    with checking(driver, without.address, well.address, config=HealthCheck(interval=0.1)) as client:
        until(lambda: client.endpoints.last(without.address), "it is asked")
        until(lambda: client.endpoints.told.count((well.address, True, True)) >= 5, "the other is asked")
        assert [entry for entry in client.endpoints.told if entry[0] == without.address] == [
            (without.address, True, False)
        ]


class Babbling(grpc.GenericRpcHandler):
    """Answers Check with bytes that are no message."""

    def service(self, handler_call_details):
        return grpc.unary_unary_rpc_method_handler(lambda _request, _context: b"\xff\xff")


def test_an_answer_that_cannot_be_read_is_no_answer(driver, servers):
    """Silence, twice, and the checks live on."""
    server = grpc.server(futures.ThreadPoolExecutor(4), (Babbling(),))
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    well = servers()
    with checking(driver, address, well.address) as client:
        until(lambda: client.endpoints.last(address) == (False, False), "it is left")
        until(lambda: client.endpoints.last(well.address) == (True, True), "the other serves")
    server.stop(0).wait(5)


def test_endpoints_may_come_and_go(driver, servers):
    """A new one is asked; one that has gone is not told of any more, also if its channel is closed under a question."""
    one, other = servers(service=Hanging()), servers()
    with checking(driver, one.address) as client:
        until(lambda: one.address in client.endpoints.channels, "it is asked")
        client.endpoints.addresses = [other.address]
        client.close_channel(one.address)
        until(lambda: client.endpoints.last(other.address) == (True, True), "the new one is asked")
        assert client.endpoints.last(one.address) is None
        one.health.release.set()


@pytest.mark.guarantee(106)
def test_a_channel_that_is_closed_already_is_no_evidence(driver, servers):
    """The member is there, its channel is not: nothing is told of it, and the others are asked on."""
    one, other = servers(), servers()
    with checking(driver, one.address, other.address) as client:
        until(lambda: client.endpoints.last(one.address) == (True, True), "it serves")
        client.close_channel(one.address)
        count = len(client.endpoints.told)
        until(lambda: len(client.endpoints.told) > count + 10, "the other is asked on")
        assert all(serving for _, serving, _ in client.endpoints.told)


def test_close_stops_at_once_and_leaves_nothing_behind(driver, servers):
    """With a question under way: no 30 s of waiting for it, no thread, no task, nothing told any more; twice is once."""
    hanging, well = servers(service=Hanging()), servers()
    config = HealthCheck(interval=0.05, timeout=30.0)
    with checking(driver, hanging.address, well.address, config=config) as client:
        until(lambda: client.endpoints.last(well.address) and hanging.health.asked.is_set(), "both asked")
        began = time.monotonic()
        client.close()
        took, told = time.monotonic() - began, len(client.endpoints.told)
        assert took < 10.0
        assert hanging.health.let_go.wait(10.0), "the question is taken back"
        if driver == "threads":
            assert "stormproof-health-checks" not in {thread.name for thread in threading.enumerate()}
        else:
            assert "stormproof-health-checks" not in client.tasks()
        hanging.health.release.set()
        client.close()
        assert len(client.endpoints.told) == told


class Names(Endpoints):
    """Many names for one server, each with a channel and a connection of its own."""

    def __init__(self, address: str, names: int) -> None:
        super().__init__()
        self._address = address
        self.addresses = [f"{n}:1" for n in range(names)]

    def subchannel(self, address: str) -> Any:
        if address not in self.channels:
            alone = [("grpc.use_local_subchannel_pool", 1)]
            self.channels[address] = grpc.insecure_channel(self._address, options=alone)
        return self.channels[address]


def test_many_endpoints_need_one_thread(servers):
    """30 endpoints: all that is told comes from one thread, and none of grpc's stays for an endpoint that has answered."""
    endpoints = Names(servers().address, 30)
    checks = HealthChecks(endpoints, HealthCheck(interval=10.0), random.Random(1))
    try:
        until(lambda: len(endpoints.told) == 30, "all have answered")
        assert endpoints.threads == {"stormproof-health-checks"}
        names = [thread.name for thread in threading.enumerate()]
        assert names.count("stormproof-health-checks") == 1
        until(lambda: not any("(_run)" in thread.name for thread in threading.enumerate()), "grpc's threads end", 3.0)
    finally:
        checks.close()
        for channel in endpoints.channels.values():
            channel.close()

"""Greeters on loopback ports, and one way to call them through either driver, for tests of the channels."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import grpc

from protos import hello_pb2, hello_pb2_grpc
from stormproof import Channel
from stormproof.aio import Channel as AioChannel

HELLO = "/hello.Hello/SayHello"


class Greeter(hello_pb2_grpc.HelloServicer):
    """Greets; a name such as "fail", "hang" or "wait" makes it do that instead. Remembers what it was sent."""

    def __init__(self) -> None:
        self.metadata: list[dict[str, str]] = []
        self.sent: list[tuple[str, list[str]]] = []  # the name, and each `tenant` that came along
        self.remaining: list[float] = []
        self.hanging = threading.Semaphore(0)
        self.release = threading.Event()
        self.failing = True

    def SayHello(self, request, context):  # noqa: N802
        self.metadata.append(dict(context.invocation_metadata()))
        self.sent.append((request.name, [value for key, value in context.invocation_metadata() if key == "tenant"]))
        self.remaining.append(context.time_remaining())
        if request.name == "fail" and self.failing:
            context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
        if request.name == "pushback" and self.failing:
            context.set_trailing_metadata((("grpc-retry-pushback-ms", "30"),))
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "in a moment")
        if request.name == "refuse":
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no such name")
        if request.name == "hang":
            self.hanging.release()
            self.release.wait(20)
        return hello_pb2.HelloReply(message=f"Hello, {request.name}!")

    def SayHelloToEach(self, request, context):  # noqa: N802
        for letter in request.name:
            yield hello_pb2.HelloReply(message=letter)

    def SayHelloToAll(self, request_iterator, context):  # noqa: N802
        return hello_pb2.HelloReply(message=" and ".join(r.name for r in request_iterator))

    def Chat(self, request_iterator, context):  # noqa: N802
        for request in request_iterator:
            yield hello_pb2.HelloReply(message=f"Hello, {request.name}!")


class Servers:
    """Greeters on loopback ports of their own."""

    def __init__(self, count: int) -> None:
        self.greeters = [Greeter() for _ in range(count)]
        self.servers, self.addresses = [], []
        for greeter in self.greeters:
            server = grpc.server(futures.ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)])
            hello_pb2_grpc.add_HelloServicer_to_server(greeter, server)
            self.addresses.append(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
            server.start()
            self.servers.append(server)

    def stop(self) -> None:
        for greeter, server in zip(self.greeters, self.servers, strict=True):
            greeter.release.set()
            server.stop(0).wait(5)


def named(name: str) -> hello_pb2.HelloRequest:
    return hello_pb2.HelloRequest(name=name)


def closed_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def until(happened, what: str, seconds: float = 5.0) -> None:
    """Waits for an event with a deadline, and says what was missing."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.002)


class Threads:
    """The threaded driver."""

    def __init__(self, endpoints, **options: Any) -> None:
        self.channel = Channel(endpoints, **options)
        self._stub = hello_pb2_grpc.HelloStub(self.channel)

    def call(self, name: str, **options: Any) -> str:
        return self._stub.SayHello(named(name), **options).message

    def raw(self, request: Any) -> Any:
        return self._stub.SayHello(request)

    def start(self, name: str, **options: Any) -> Any:
        return self._stub.SayHello.future(named(name), **options)

    def stream(self, method: str, request: Any, **options: Any) -> Any:
        return getattr(self._stub, method)(request, **options)

    def each(self, name: str, **options: Any) -> Any:
        return self.stream("SayHelloToEach", named(name), **options)

    def chat(self, requests: Any, **options: Any) -> Any:
        return self.stream("Chat", requests, **options)

    def all(self, requests: Any, **options: Any) -> str:
        return self._stub.SayHelloToAll(requests, **options).message

    def close(self) -> None:
        self.channel.close()


class Asyncio:
    """The asyncio driver, in a loop of its own in a thread; `call` and `start` are used as those of Threads."""

    def __init__(self, endpoints, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        try:
            self.channel = self._do(self._open(endpoints, options))
        except BaseException:
            self._loop.call_soon_threadsafe(self._loop.stop)
            raise
        self._stub = hello_pb2_grpc.HelloStub(self.channel)

    async def _open(self, endpoints, options: dict[str, Any]) -> AioChannel:
        return AioChannel(endpoints, **options)

    def _do(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _call(self, name: str, options: dict[str, Any]) -> Any:
        return await self._stub.SayHello(named(name), **options)

    def call(self, name: str, **options: Any) -> str:
        return self._do(self._call(name, options)).message

    async def _raw(self, request: Any) -> Any:
        return await self._stub.SayHello(request)

    def raw(self, request: Any) -> Any:
        return self._do(self._raw(request))

    def start(self, name: str, **options: Any) -> futures.Future[Any]:
        return asyncio.run_coroutine_threadsafe(self._call(name, options), self._loop)

    def tasks(self) -> int:
        """How many there are in the loop."""
        return self._do(self._count())

    async def _count(self) -> int:
        return len(asyncio.all_tasks())

    async def _begin(self, method: str, argument: Any, options: dict[str, Any]) -> Any:
        return getattr(self._stub, method)(argument, **options)

    def stream(self, method: str, request: Any, **options: Any) -> Reader:
        return Reader(self, self._do(self._begin(method, request, options)))

    def each(self, name: str, **options: Any) -> Reader:
        return self.stream("SayHelloToEach", named(name), **options)

    def chat(self, requests: Any, **options: Any) -> Reader:
        return self.stream("Chat", requests, **options)

    async def _all(self, requests: Any, options: dict[str, Any]) -> Any:
        return await self._stub.SayHelloToAll(requests, **options)

    def all(self, requests: Any, **options: Any) -> str:
        return self._do(self._all(requests, options)).message

    def close(self) -> None:
        self._do(self.channel.close())


class Reader:
    """A stream of the asyncio driver, read and asked as a threaded one is."""

    def __init__(self, client: Asyncio, call: Any) -> None:
        self._client = client
        self._call = call

    def __iter__(self) -> Reader:
        return self

    def __next__(self) -> Any:
        message = self._client._do(self._call.read())
        if message is grpc.aio.EOF:
            raise StopIteration
        return message

    async def _cancel(self) -> bool:
        return self._call.cancel()

    def cancel(self) -> bool:
        return self._client._do(self._cancel())

    def code(self) -> grpc.StatusCode:
        return self._client._do(self._call.code())

    def time_remaining(self) -> float | None:
        return self._call.time_remaining()


DRIVERS = {"threads": Threads, "asyncio": Asyncio}


@contextmanager
def calling(driver: str, endpoints, **options: Any):
    """A channel of this driver over `endpoints`, closed at the end; nothing may be in flight on it then."""
    client = DRIVERS[driver](endpoints, **options)
    try:
        yield client
        until(lambda: all(m.in_flight == 0 for m in client.channel._pool.members), "every attempt let go")
    finally:
        client.close()

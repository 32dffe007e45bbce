"""A small service on a loopback port, on threads or on asyncio, from the same plain handlers: bytes in, bytes out."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import grpc

KINDS = ("threads", "asyncio")
DO, EACH, ALL, CHAT = (f"/test.Service/{name}" for name in ("Do", "Each", "All", "Chat"))
HEALTH = "/grpc.health.v1.Health/Check"


class Fails(Exception):
    """What a handler raises to abort, whatever kind of server it runs on."""

    def __init__(self, code: grpc.StatusCode, details: str, trailing: tuple[tuple[str, Any], ...] = ()) -> None:
        super().__init__(details)
        self.code, self.details, self.trailing = code, details, trailing


@contextmanager
def serving(kind: str, *interceptors: Any, do: Any = None, each: Any = None, threads: int = 16):
    """The address of a server. `do(request, context)` answers a call, `each(request, context)` yields answers.

    On asyncio a plain `do` runs in a thread, so that it may block; a coroutine function runs as it is.
    """
    start = _start if kind == "threads" else _start_aio
    with start(
        _handlers(kind, do or (lambda request, _: request), each or (lambda request, _: iter([request]))),
        interceptors,
        threads,
    ) as address:
        yield address


def call(address: str, method: str = DO, request: bytes = b"x", **options: Any) -> tuple[bytes, dict[str, Any]]:
    """One call of a plain grpc client: the reply, and the trailing metadata."""
    with grpc.insecure_channel(address) as channel:
        reply, done = channel.unary_unary(method).with_call(request, **{"timeout": 10, **options})
        return reply, dict(done.trailing_metadata() or ())


def keyed(key: str) -> dict[str, Any]:
    """The options of a call with this idempotency key."""
    return {"metadata": (("idempotency-key", key),)}


def told(error: grpc.RpcError) -> tuple[str, str]:
    """Code and details of an error."""
    return error.code().name, error.details()


def on_end(context: Any, happened: threading.Event) -> None:
    """Sets `happened` when the server hears that the call is over."""
    if hasattr(context, "add_callback"):
        context.add_callback(happened.set)
    else:
        context.add_done_callback(lambda _: happened.set())


def until(happened, what: str, seconds: float = 5.0) -> None:
    """Waits for an event with a deadline, and says what was missing."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.002)


def _handlers(kind: str, do: Any, each: Any) -> list[grpc.GenericRpcHandler]:
    make = _handlers_aio if kind == "asyncio" else _handlers_threads
    one, many, collect, chat = make(do, each)
    methods = {
        "Do": grpc.unary_unary_rpc_method_handler(one),
        "Each": grpc.unary_stream_rpc_method_handler(many),
        "All": grpc.stream_unary_rpc_method_handler(collect),
        "Chat": grpc.stream_stream_rpc_method_handler(chat),
    }
    check = {"Check": grpc.unary_unary_rpc_method_handler(one)}
    return [
        grpc.method_handlers_generic_handler("test.Service", methods),
        grpc.method_handlers_generic_handler("grpc.health.v1.Health", check),
    ]


def _handlers_threads(do: Any, each: Any) -> tuple[Any, ...]:
    def one(request, context):
        try:
            return do(request, context)
        except Fails as fails:
            context.set_trailing_metadata(fails.trailing)
            context.abort(fails.code, fails.details)

    def many(request, context):
        yield from each(request, context)

    def collect(requests, context):
        return one(b"".join(requests), context)

    def chat(requests, context):
        for request in requests:
            yield from each(request, context)

    return one, many, collect, chat


def _handlers_aio(do: Any, each: Any) -> tuple[Any, ...]:
    async def one(request, context):
        try:
            if inspect.iscoroutinefunction(do):
                return await do(request, context)
            return await asyncio.to_thread(do, request, context)
        except Fails as fails:
            context.set_trailing_metadata(fails.trailing)
            await context.abort(fails.code, fails.details)

    async def many(request, context):
        answers = each(request, context)
        while (answer := await asyncio.to_thread(next, answers, None)) is not None:
            yield answer

    async def collect(requests, context):
        return await one(b"".join([request async for request in requests]), context)

    async def chat(requests, context):
        async for request in requests:
            async for answer in many(request, context):
                yield answer

    return one, many, collect, chat


@contextmanager
def _start(handlers: Any, interceptors: Any, threads: int):
    server = grpc.server(futures.ThreadPoolExecutor(threads), handlers, interceptors, [("grpc.so_reuseport", 0)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        assert server.stop(0).wait(5)


@contextmanager
def _start_aio(handlers: Any, interceptors: Any, threads: int):
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> tuple[Any, int]:
        loop.set_default_executor(futures.ThreadPoolExecutor(threads))
        server = grpc.aio.server(handlers=handlers, interceptors=interceptors, options=[("grpc.so_reuseport", 0)])
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        return server, port

    def run(work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(10)

    server, port = run(start())
    try:
        yield f"127.0.0.1:{port}"
    finally:
        run(server.stop(0))
        run(loop.shutdown_default_executor())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)

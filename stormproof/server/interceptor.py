"""What the server's interceptors share: one class for `grpc.server` and `grpc.aio.server`, and all four kinds of call.

An interceptor decides with `admit` whether the handler of a call runs. It is asked in the place and at the moment
where the handler would begin, because only there gRPC tells the deadline; so a refused call of `grpc.server` still
needs one of its threads for a moment.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, aclosing, closing, nullcontext
from functools import wraps
from types import TracebackType
from typing import Any, NamedTuple

import grpc

from stormproof.observer import Sent


class Refusal(NamedTuple):
    """The handler does not run; the caller gets this status and this trailing metadata."""

    code: grpc.StatusCode
    details: str
    trailing: Sent = ()


class Visit:
    """One call that was let in: entered before its handler begins, left when the last line of it has run."""

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, at: TracebackType | None
    ) -> None:
        return None

    def running(self) -> AbstractContextManager[None]:
        """Is entered whenever code of the handler runs: once, or for a stream with each of its messages."""
        return nullcontext()


class Interceptor(grpc.ServerInterceptor, grpc.aio.ServerInterceptor):
    """Runs a handler, or refuses to. Works in `grpc.server(interceptors=)` and in `grpc.aio.server(interceptors=)`."""

    def admit(self, method: str, context: Any, *, stream: bool) -> Visit | Refusal:
        """Whether this call's handler runs. `stream`: any side of the method streams."""
        raise NotImplementedError

    def intercept_service(self, continuation: Callable[[Any], Any], handler_call_details: Any) -> Any:
        found = continuation(handler_call_details)
        if inspect.isawaitable(found):
            return self._later(found, handler_call_details)
        return None if found is None else self.around(found, handler_call_details)

    async def _later(self, found: Awaitable[Any], details: Any) -> Any:
        handler = await found
        return None if handler is None else self.around(handler, details)

    def around(self, handler: Any, details: Any) -> Any:
        """`handler` with our word on whether it runs."""
        stream = handler.request_streaming or handler.response_streaming
        return rebuilt(handler, lambda run: self._guarded(run, details.method, stream, handler.response_streaming))

    def _guarded(self, run: Callable[..., Any], method: str, stream: bool, many: bool) -> Callable[..., Any]:
        def admit(context: Any) -> Visit | Refusal:
            return self.admit(method, context, stream=stream)

        if inspect.isasyncgenfunction(run):
            return _aio_many(run, admit)
        if inspect.iscoroutinefunction(run):
            return _aio_one(run, admit)
        return _many(run, admit) if many else _one(run, admit)


def rebuilt(handler: Any, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Any:
    """A method handler like `handler`, with its behaviour wrapped."""
    kind = f"{'stream' if handler.request_streaming else 'unary'}_{'stream' if handler.response_streaming else 'unary'}"
    make = getattr(grpc, f"{kind}_rpc_method_handler")
    return make(wrap(getattr(handler, kind)), handler.request_deserializer, handler.response_serializer)


def refuse(context: Any, refusal: Refusal) -> Any:
    """Aborts the call; in asyncio, what it returns must be awaited."""
    if refusal.trailing:
        context.set_trailing_metadata(refusal.trailing)
    return context.abort(refusal.code, refusal.details)


def _one(run: Callable[..., Any], admit: Callable[[Any], Visit | Refusal]) -> Callable[..., Any]:
    @wraps(run)
    def guarded(request: Any, context: Any) -> Any:
        visit = admit(context)
        if isinstance(visit, Refusal):
            return refuse(context, visit)
        with visit, visit.running():
            return run(request, context)

    return guarded


def _many(run: Callable[..., Any], admit: Callable[[Any], Visit | Refusal]) -> Callable[..., Any]:
    @wraps(run)
    def guarded(request: Any, context: Any) -> Iterator[Any]:
        visit = admit(context)
        if isinstance(visit, Refusal):
            refuse(context, visit)
            return
        with visit:
            with visit.running():
                replies = run(request, context)
            with closing(replies) if hasattr(replies, "close") else nullcontext():
                replies = iter(replies)
                while True:
                    with visit.running():
                        try:
                            reply = next(replies)
                        except StopIteration:
                            return
                    yield reply

    return guarded


def _aio_one(run: Callable[..., Any], admit: Callable[[Any], Visit | Refusal]) -> Callable[..., Any]:
    @wraps(run)
    async def guarded(request: Any, context: Any) -> Any:
        visit = admit(context)
        if isinstance(visit, Refusal):
            return await refuse(context, visit)
        with visit, visit.running():
            return await run(request, context)

    return guarded


def _aio_many(run: Callable[..., Any], admit: Callable[[Any], Visit | Refusal]) -> Callable[..., Any]:
    @wraps(run)
    async def guarded(request: Any, context: Any) -> AsyncIterator[Any]:
        visit = admit(context)
        if isinstance(visit, Refusal):
            await refuse(context, visit)
            return
        with visit:
            async with aclosing(run(request, context)) as replies:
                while True:
                    with visit.running():
                        try:
                            reply = await anext(replies)
                        except StopAsyncIteration:
                            return
                    yield reply

    return guarded

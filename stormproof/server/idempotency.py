"""Idempotency keys: however often a call arrives, its work is done once and its outcome told every time.

All attempts of one call carry the same `idempotency-key`: `Policy(idempotency_key=True)`, or the Mark of `checkpointed`.
What a call with a key gets is decided in stormproof.core.once, and done in holder.py; here handlers are run and calls
answered. Whose idea: Stripe's, of its API ("Idempotent requests").
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import json
import logging
import threading
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial, wraps
from typing import Any

import grpc

from stormproof.core.check import complain
from stormproof.core.once import Answer
from stormproof.core.outcome import Code
from stormproof.deadline import lifted
from stormproof.driver import KEY
from stormproof.errors import STATUS
from stormproof.server.deadlines import FOREVER
from stormproof.server.held import Aborted, AioHeld, Held
from stormproof.server.holder import OTHER_PAYLOAD, End, Holder, Ticket
from stormproof.server.interceptor import Interceptor, Refusal, refuse
from stormproof.server.outcomes import MemoryOutcomes, Outcomes, Record

_log = logging.getLogger(__name__)

#: In the trailing metadata of an answer that was not worked for just now. Stripe's name.
REPLAYED = ("idempotent-replayed", "true")
#: Stripe's bound. A longer key is a mistake, and would fill the store.
LONGEST = 255
_BAD_KEY = Refusal(grpc.StatusCode.INVALID_ARGUMENT, f"an idempotency-key must have 1 to {LONGEST} characters")
_WAITED = Refusal(grpc.StatusCode.DEADLINE_EXCEEDED, "another call with this idempotency-key is still running")


def canonical(request: Any) -> bytes:
    """The bytes of a request: those of a bytes object itself, or of a protobuf message, maps in a fixed order."""
    if isinstance(request, bytes):
        return request
    if not hasattr(request, "SerializeToString"):
        raise TypeError(f"{type(request).__name__} is no protobuf message: give Idempotency(payload=...)")
    return request.SerializeToString(deterministic=True)  # type: ignore[no-any-return]


def authenticated(context: Any) -> str:
    """Whom gRPC knows the caller to be: the names in a TLS client's certificate; "" for everybody without one."""
    return " ".join(name.decode(errors="replace") for name in context.peer_identities() or ())


class Idempotency(Interceptor):
    """An interceptor that runs the handler of a unary call with an `idempotency-key` once, and repeats its outcome.

    store    where outcomes are kept: MemoryOutcomes(), SqliteOutcomes(path), or your own (`Outcomes`). Servers that share no
             store do not know each other's keys: a retry that goes to another server is worked for again.
    caller   whose key it is, from the call's context: two callers' equal keys are different. The TLS client unless
             told otherwise; if yours are told apart by a token, say how, or one may read another's reply.
    payload  the bytes of a request, for "the same payload".

    The same key, method, caller and payload: the handler runs once, also for calls that come at the same time (the later
    ones wait, and their deadlines go on), and every answer is the same: reply or status, details, trailing metadata. One
    that is repeated says `idempotent-replayed: true` in its trailing metadata. Another payload: FAILED_PRECONDITION.
    A key longer than 255 characters or empty: INVALID_ARGUMENT. Calls without a key, and streaming ones, pass through.

    Kept are successes and errors, UNKNOWN and INTERNAL included: such a handler may have done half of its work, and must
    not be run again. Not kept, so that a later call runs it again, are CANCELLED, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED,
    ABORTED and UNAVAILABLE: a handler that answers so must have undone what it did. A handler that was broken off by the
    end of its server leaves nothing. One whose caller is gone goes on, because a retry is on its way to the outcome; on
    asyncio its context then knows no more than metadata and time. A store that fails is INTERNAL.

    List it after interceptors that authenticate: a repeated answer runs nothing that comes behind it. And after Deadlines:
    the work is for all attempts, so the deadline of the first does not bind it, and `remaining()` is None. (Listed before
    Deadlines it does, and calls that the handler makes may be cut off in the middle.) Interceptors before it see the
    bytes of replies instead of messages. Raises ValueError for a bad argument.
    """

    def __init__(
        self,
        store: Outcomes | None = None,
        *,
        caller: Callable[[Any], str] = authenticated,
        payload: Callable[[Any], bytes] = canonical,
    ) -> None:
        store = MemoryOutcomes() if store is None else store
        if not isinstance(store, Outcomes):
            complain("Idempotency", [f"store must be a store of outcomes, such as MemoryOutcomes(); got {store!r}"])
        complain(
            "Idempotency",
            [
                f"{name} must be a function, such as {example}; got {value!r}"
                for name, value, example in (("caller", caller, "authenticated"), ("payload", payload, "canonical"))
                if not callable(value)
            ],
        )
        self._caller = caller
        self._payload = payload
        self._holder = Holder(store)
        self._tasks: set[asyncio.Task[End]] = set()  # a task that nobody holds may be collected before it is done

    def around(self, handler: Any, details: Any) -> Any:
        key = next((value for name, value in details.invocation_metadata or () if name == KEY), None)
        if key is None or handler.request_streaming or handler.response_streaming:
            return handler
        work = _Work(handler.unary_unary, handler.response_serializer, details.method, key)
        once = self._aio_once(work) if inspect.iscoroutinefunction(work.run) else self._once(work)
        # What we answer are bytes, be they fresh or from the store.
        return grpc.unary_unary_rpc_method_handler(once, handler.request_deserializer, None)

    def _once(self, work: _Work) -> Callable[[Any, Any], Any]:
        @wraps(work.run)
        def once(request: Any, context: Any) -> Any:
            if not 0 < len(work.key) <= LONGEST:
                return refuse(context, _BAD_KEY)
            name, digest = self._identify(work, request, context)
            while True:
                answer, ticket = self._holder.arrived(name, digest)
                if answer is Answer.CONFLICT:
                    return refuse(context, OTHER_PAYLOAD)
                if answer is Answer.LOOK:
                    doing = partial(work, Held(context), digest, request)
                    return _tell(context, self._holder.hold(name, digest, ticket, doing))
                end = _wait(ticket, context)
                if end is not None:
                    return _tell(context, end._replace(fresh=False))

        return once

    def _aio_once(self, work: _Work) -> Callable[[Any, Any], Awaitable[Any]]:
        @wraps(work.run)
        async def once(request: Any, context: Any) -> Any:
            if not 0 < len(work.key) <= LONGEST:
                return await refuse(context, _BAD_KEY)
            name, digest = self._identify(work, request, context)
            while True:
                answer, ticket = self._holder.arrived(name, digest)
                if answer is Answer.CONFLICT:
                    return await refuse(context, OTHER_PAYLOAD)
                if answer is Answer.LOOK:
                    held = AioHeld(context)
                    doing = partial(work.aio, held, digest, request)
                    end = await self._outliving(self._holder.aio_hold(name, digest, ticket, doing), held)
                    return await _aio_tell(context, end)
                waited = await asyncio.wrap_future(ticket)
                if waited is not None:
                    return await _aio_tell(context, waited._replace(fresh=False))

        return once

    def _identify(self, work: _Work, request: Any, context: Any) -> tuple[str, bytes]:
        """The full name of the call's key, and the digest of its payload."""
        name = json.dumps([self._caller(context), work.method, work.key])
        return name, hashlib.sha256(self._payload(request)).digest()

    async def _outliving(self, holding: Coroutine[Any, Any, End], held: Held) -> End:
        """Waits for `holding`, which goes on when this call is cancelled: half-done work could not be repeated."""
        task = asyncio.create_task(holding)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            return await asyncio.shield(task)
        finally:
            held.over = True


class _Work:
    """The handler's part of one call with a key: what it returns or raises becomes a record."""

    def __init__(
        self, run: Callable[..., Any], serialize: Callable[[Any], bytes] | None, method: str, key: str
    ) -> None:
        self.run = run
        self.method = method
        self.key = key
        self._serialize = serialize

    def __call__(self, held: Held, digest: bytes, request: Any) -> Record:
        try:
            with lifted():
                return self._returned(held, digest, self.run(request, held))
        except Exception as problem:
            return self._raised(held, digest, problem)

    async def aio(self, held: Held, digest: bytes, request: Any) -> Record:
        try:
            with lifted():
                return self._returned(held, digest, await self.run(request, held))
        except Exception as problem:
            return self._raised(held, digest, problem)

    def _returned(self, held: Held, digest: bytes, reply: Any) -> Record:
        record = held.record(digest, b"")
        if record.code is not Code.OK:
            return record
        return held.record(digest, reply if self._serialize is None else self._serialize(reply))

    def _raised(self, held: Held, digest: bytes, problem: Exception) -> Record:
        if isinstance(problem, Aborted):
            return held.record(digest, b"")
        _log.error("%s raised", self.method, exc_info=problem)
        return held.failed(digest, problem)


def _wait(ticket: Ticket, context: Any) -> End | None:
    """Waits until the call that holds the key is over, for as long as this call's own caller waits."""
    woken = threading.Event()
    ticket.add_done_callback(lambda _: woken.set())
    if context.add_callback(woken.set) is False:  # the call is over already
        woken.set()
    left = context.time_remaining()
    woken.wait(None if left is None or left > FOREVER else left)
    return ticket.result() if ticket.done() else End(_WAITED)


def _tell(context: Any, end: End) -> Any:
    """Answers a call; in asyncio, what it returns for an error must be awaited."""
    told = end.told
    if isinstance(told, Refusal):
        return refuse(context, told)
    trailing = told.trailing if end.fresh else (*told.trailing, REPLAYED)
    if told.code is not Code.OK:
        return refuse(context, Refusal(STATUS[told.code], told.details, trailing))
    if trailing:
        context.set_trailing_metadata(trailing)
    if told.details:
        context.set_details(told.details)
    return told.reply


async def _aio_tell(context: Any, end: End) -> Any:
    told = _tell(context, end)
    return await told if inspect.isawaitable(told) else told

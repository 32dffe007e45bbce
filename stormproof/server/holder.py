"""Who holds an idempotency key, what its work ended with, and what the store is told: on threads and on asyncio.

The decisions are those of stormproof.core.once. Here are the store, which may raise, and the tickets on which later calls
wait. Nothing waits inside the lock.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any, NamedTuple

import grpc

from stormproof.core.once import Answer, Keys, found, kept
from stormproof.server.interceptor import Refusal
from stormproof.server.outcomes import Outcomes, Record

_log = logging.getLogger(__name__)

OTHER_PAYLOAD = Refusal(
    grpc.StatusCode.FAILED_PRECONDITION,
    "this idempotency-key came before with another payload: a key belongs to one call and its attempts",
)


class End(NamedTuple):
    """What all calls with a key are told. `fresh`: its handler has run just now."""

    told: Record | Refusal
    fresh: bool = False


#: Is done when the call that holds a key is over; None: it was broken off, and the key is free.
Ticket = Future[End | None]


class Holder:
    """The keys under way in this process, over one store."""

    def __init__(self, store: Outcomes) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._keys: Keys[Ticket] = Keys()

    def arrived(self, key: str, digest: bytes) -> tuple[Answer, Ticket]:
        """A call came: LOOK (then `hold` must follow), WAIT for the ticket, or CONFLICT."""
        ticket: Ticket = Future()
        ticket.set_running_or_notify_cancel()  # so that nobody who waits for it can cancel it
        with self._lock:
            return self._keys.arrived(key, digest, ticket)

    def hold(self, key: str, digest: bytes, ticket: Ticket, work: Callable[[], Record]) -> End:
        """Looks in the store, works if nothing is there, and keeps the outcome before anybody is told."""
        end: End | None = None
        try:
            stored = self._store.begin(key)
            if stored is not None:
                end = _stored(digest, stored)
                return end
            record: Record | None = None
            try:
                record = work()
            finally:
                self._store.end(key, record if record is not None and kept(record.code) else None)
            end = End(record, fresh=True)
        except Exception as problem:
            end = _fault(problem)
        finally:
            self._let_go(key, ticket, end)
        return end

    async def aio_hold(self, key: str, digest: bytes, ticket: Ticket, work: Callable[[], Awaitable[Record]]) -> End:
        """The same on an event loop."""
        end: End | None = None
        try:
            stored = await self._ask(self._store.begin, key)
            if stored is not None:
                end = _stored(digest, stored)
                return end
            record: Record | None = None
            try:
                record = await work()
            finally:
                await self._ask(self._store.end, key, record if record is not None and kept(record.code) else None)
            end = End(record, fresh=True)
        except Exception as problem:
            end = _fault(problem)
        finally:
            self._let_go(key, ticket, end)
        return end

    async def _ask(self, question: Callable[..., Any], *arguments: Any) -> Any:
        if self._store.blocking:
            return await asyncio.to_thread(question, *arguments)
        return question(*arguments)

    def _let_go(self, key: str, ticket: Ticket, end: End | None) -> None:
        with self._lock:
            self._keys.ended(key)
        ticket.set_result(end)


def _stored(digest: bytes, stored: Record) -> End:
    return End(stored if found(digest, stored.digest) is Answer.REPEAT else OTHER_PAYLOAD)


def _fault(problem: Exception) -> End:
    """The store failed. Work that was done is not told of, because a later call could not be told the same."""
    _log.error("the store of idempotency keys failed", exc_info=problem)
    return End(Refusal(grpc.StatusCode.INTERNAL, f"the store of idempotency keys failed: {problem}"))

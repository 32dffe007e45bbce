"""Where the outcomes of calls with an idempotency key are kept: what a store promises, and the one in memory.

Which outcomes are kept and what they answer is decided in stormproof.core.once.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Protocol, runtime_checkable

from stormproof.core.check import complain, number, seconds
from stormproof.core.outcome import Code
from stormproof.observer import Sent

#: Seconds that outcomes are kept unless told otherwise: Stripe keeps them for at least 24 hours.
DAY = 24 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """How the one run of a key ended: `digest` of the payload it ran with, status, reply bytes, trailing metadata."""

    digest: bytes
    code: Code
    details: str = ""
    reply: bytes = b""
    trailing: Sent = ()


@runtime_checkable
class Outcomes(Protocol):
    """A store of outcomes. Write one over a database that your servers share, and a retry may go to any of them.

    Used from many threads. Of one key, `begin` and `end` are called in turn within a process. A store that several
    processes share must see to that between them: its `begin` waits while another process holds the key. What it
    raises ends the call with INTERNAL; the handler does not run, or its outcome is not told.
    """

    blocking: bool
    """Whether its methods wait for a disk or a network: an asyncio server then calls them in a thread."""

    def begin(self, key: str) -> Record | None:
        """The outcome of `key`; None if there is none, and then the key is the caller's until `end`."""
        ...

    def end(self, key: str, record: Record | None) -> None:
        """Keeps the outcome of `key`, so that it is safe when this returns; None: none came that is to be kept."""
        ...


class MemoryOutcomes:
    """Outcomes in this process's memory: they do not survive it, and no other server knows them.

    capacity  how many are kept (default 10,000). At most; the oldest goes first, and `dropped` counts those that went
              before their time: their keys would run again. One takes about 500 bytes and its reply.
    ttl       seconds that each is kept (default a day).
    clock     seconds from any origin, never going back.
    """

    blocking = False

    def __init__(
        self, *, capacity: int = 10_000, ttl: float = DAY, clock: Callable[[], float] = time.monotonic
    ) -> None:
        complain("MemoryOutcomes", bounds(capacity, ttl))
        self._capacity = capacity
        self._ttl = ttl
        self._clock = clock
        self._lock = Lock()
        self._records: OrderedDict[str, tuple[float, Record]] = OrderedDict()  # the oldest first
        self.dropped = 0

    def begin(self, key: str) -> Record | None:
        with self._lock:
            self._expire()
            there = self._records.get(key)
        return None if there is None else there[1]

    def end(self, key: str, record: Record | None) -> None:
        if record is None:
            return
        with self._lock:
            self._expire()
            self._records[key] = (self._clock(), record)
            if len(self._records) > self._capacity:
                self._records.popitem(last=False)
                self.dropped += 1

    def __len__(self) -> int:
        return len(self._records)

    def _expire(self) -> None:
        old = self._clock() - self._ttl
        while self._records and next(iter(self._records.values()))[0] <= old:
            self._records.popitem(last=False)


def bounds(capacity: int, ttl: float) -> list[str]:
    """What is wrong with the bounds of a store; empty if nothing is."""
    problems = number("capacity", capacity, 1, 10**9, unit="outcomes", whole=True)
    return problems + seconds("ttl", ttl, low=0.001)

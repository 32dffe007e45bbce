"""A client stream of the asyncio driver that can be sent again: from an iterator, or from `write`.

As in stormproof.replay, what was given is kept, serialized, up to a bound; once it is passed the call is committed to
its attempt, and a writer waits until the attempt has taken what was written before.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any


class Replay:
    """The requests of one call. `outgrown` is called once, when they no longer fit into `bound` bytes."""

    def __init__(
        self,
        source: Any,
        serialize: Callable[[Any], bytes] | None,
        bound: int,
        outgrown: Callable[[], None],
    ) -> None:
        self._serialize = serialize
        self._room = bound
        self._outgrown = outgrown
        self._kept: list[bytes] = []
        self._dropped = 0  # taken by the attempt after the bound was passed, and not kept
        self._replays = True
        self._written = source is None
        self._over = False  # there are no more requests
        self._closed = False  # nobody takes any more
        self._reader = 0
        self._change = asyncio.Event()
        self.problem: BaseException | None = None  # what the caller's iterator raised
        self._pump = None if source is None else asyncio.get_running_loop().create_task(self._pull(source))

    async def _pull(self, source: Any) -> None:
        try:
            if hasattr(source, "__aiter__"):
                async for request in source:
                    await self._add(request)
            else:
                for request in source:
                    await self._add(request)
        except Exception as problem:
            self.problem = problem
        self._end()

    async def _add(self, request: Any) -> None:
        item: bytes = request if self._serialize is None else self._serialize(request)
        self._room -= len(item)
        if self._replays and self._room < 0:
            self._replays = False
            self._outgrown()
        self._kept.append(item)
        self._changed()
        while not self._replays and self._kept and not self._over and not self._closed:
            await self._change.wait()

    def _changed(self) -> None:
        """Wakes all that wait for a change, once."""
        self._change.set()
        self._change = asyncio.Event()

    def _end(self) -> None:
        self._over = True
        self._changed()

    async def write(self, request: Any) -> None:
        """One more request; returns once it is kept, or taken."""
        if not self._written:
            raise asyncio.InvalidStateError("this call has an iterator of requests: it cannot be written to as well")
        if self._over:
            raise asyncio.InvalidStateError("the writing of this call is done: nothing can be written to it any more")
        if not self._closed:
            await self._add(request)
            if not self._closed or self._replays or not self._kept:
                return
        raise asyncio.InvalidStateError("this call is over, or broken: what is written to it reaches nobody")

    async def done_writing(self) -> None:
        """There are no more requests."""
        self._end()

    def close(self) -> None:
        """Nobody takes any more: the caller's iterator is not read on, and who waits in `write` is told."""
        self._closed = True
        self._changed()
        if self._pump is not None:
            self._pump.cancel()

    async def attempt(self) -> AsyncIterator[bytes]:
        """All requests, from the first one on. The readers before stop."""
        self._reader += 1
        reader, place = self._reader, 0
        self._changed()
        try:
            while True:
                while reader == self._reader and place - self._dropped >= len(self._kept) and not self._over:
                    await self._change.wait()
                if reader != self._reader:
                    return
                if place - self._dropped >= len(self._kept):
                    if self.problem is not None:
                        raise self.problem
                    return
                item = self._kept[place - self._dropped]
                place += 1
                if not self._replays:  # nobody will need it again
                    del self._kept[: place - self._dropped]
                    self._dropped = place
                    self._changed()
                yield item
        finally:
            if reader == self._reader and not self._replays:
                self.close()  # no further attempt will read


def of(request: Any) -> Any:
    """What one attempt sends of `request`."""
    return request.attempt() if isinstance(request, Replay) else request

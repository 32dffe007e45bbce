"""A client stream that can be sent again: what the caller's iterator gave is kept, serialized, up to a bound.

Once the bound is passed nothing more is kept, and the call is told that it is committed to its attempt (gRFC A6:
"if the buffer size is exceeded ... the RPC is committed"). Attempts read one after the other, from threads of grpc's;
an attempt that was replaced stops reading, and an item that it was just waiting for is not lost.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any


class Replay:
    """The requests of one call. `outgrown` is called once, when they no longer fit into `bound` bytes."""

    def __init__(
        self,
        source: Iterator[Any],
        serialize: Callable[[Any], bytes] | None,
        bound: int,
        outgrown: Callable[[], None],
    ) -> None:
        self._source = iter(source)
        self._serialize = serialize
        self._room = bound
        self._outgrown = outgrown
        self._kept: list[bytes] = []
        self._replays = True
        self._lock = threading.Lock()
        self._reader = 0
        self.problem: BaseException | None = None  # what the caller's iterator raised

    def attempt(self) -> Iterator[bytes]:
        """All requests, from the first one on. The readers before stop."""
        with self._lock:
            self._reader += 1
            reader = self._reader
        return self._read(reader)

    def _read(self, reader: int) -> Iterator[bytes]:
        place = 0
        while True:
            with self._lock:
                if reader != self._reader:
                    return
                if self._replays and place < len(self._kept):
                    item = self._kept[place]
                else:
                    try:
                        item = self._pull()
                    except StopIteration:
                        return
            place += 1
            yield item

    def _pull(self) -> bytes:
        try:
            request = next(self._source)
            item: bytes = request if self._serialize is None else self._serialize(request)
        except StopIteration:
            raise
        except BaseException as problem:
            self.problem = problem
            raise
        if self._replays:
            self._room -= len(item)
            if self._room >= 0:
                self._kept.append(item)
            else:
                self._replays = False
                self._kept.clear()
                self._outgrown()
        return item


def of(request: Any) -> Any:
    """What one attempt sends of `request`."""
    return request.attempt() if isinstance(request, Replay) else request

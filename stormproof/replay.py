"""A client stream that can be sent again: what the caller's iterator gave is kept, serialized, up to a bound.

Once the bound is passed the call is told that it is committed to its attempt (gRFC A6: "if the buffer size is exceeded
... the RPC is committed"), and what the attempt has taken is no longer kept. Attempts read one after the other, from
threads of grpc's. The caller's iterator may itself wait for an answer, so nothing is locked while it is asked: an
attempt can be replaced meanwhile, and the item that comes at last goes to its successor.
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
        self._change = threading.Condition()
        self._kept: list[bytes] = []
        self._dropped = 0  # taken by the attempt after the bound was passed, and not kept
        self._replays = True
        self._asking = False  # an attempt waits for the caller's iterator
        self._over = False  # the caller's iterator has ended, well or not
        self._reader = 0
        self.problem: BaseException | None = None  # what the caller's iterator raised

    def attempt(self) -> Iterator[bytes]:
        """All requests, from the first one on. The readers before stop."""
        with self._change:
            self._reader += 1
            self._change.notify_all()
            return self._read(self._reader)

    def close(self) -> None:
        """The call is over: nobody reads on."""
        with self._change:
            self._reader += 1
            self._change.notify_all()

    def _read(self, reader: int) -> Iterator[bytes]:
        place = 0
        while (item := self._item(reader, place)) is not None:
            place += 1
            yield item

    def _item(self, reader: int, place: int) -> bytes | None:
        """The item at `place` once it is there; None if there is none, or none for this reader any more."""
        while True:
            with self._change:
                while reader == self._reader and self._asking and place - self._dropped >= len(self._kept):
                    self._change.wait()
                if reader != self._reader:
                    return None
                if place - self._dropped < len(self._kept):
                    return self._take(place)
                if self._over:
                    if self.problem is not None:
                        raise self.problem
                    return None
                self._asking = True
            self._ask()

    def _take(self, place: int) -> bytes:
        item = self._kept[place - self._dropped]
        if not self._replays:  # nobody will need it again
            del self._kept[: place + 1 - self._dropped]
            self._dropped = place + 1
        return item

    def _ask(self) -> None:
        """Takes one more item from the caller's iterator."""
        item: bytes | None = None
        try:
            request = next(self._source)
            item = request if self._serialize is None else self._serialize(request)
        except StopIteration:
            pass
        except BaseException as problem:
            self.problem = problem
        with self._change:
            self._asking = False
            if item is None:
                self._over = True
            else:
                self._kept.append(item)
                self._room -= len(item)
                if self._replays and self._room < 0:
                    self._replays = False
                    self._outgrown()
            self._change.notify_all()


def of(request: Any) -> Any:
    """What one attempt sends of `request`."""
    return request.attempt() if isinstance(request, Replay) else request

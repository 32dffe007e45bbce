"""One thread that wakes calls which run by themselves: for hedges, and for waits before a retry.

It starts with the first timer and ends when the channel is closed; then it wakes whatever still waits, once, so that
nothing waits for ever.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable


class Timers:
    """Calls back at given moments of time.monotonic(), in one daemon thread. A callback must not block."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._waiting: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()
        self._thread: threading.Thread | None = None
        self._closed = False

    def at(self, moment: float, callback: Callable[[], None]) -> None:
        """Calls `callback` at `moment`, or soon after; at once if this was closed."""
        with self._condition:
            heapq.heappush(self._waiting, (moment, next(self._count), callback))
            if self._thread is None or self._closed:  # its thread may have ended with the close
                self._thread = threading.Thread(target=self._run, name="stormproof-timers", daemon=True)
                self._thread.start()
            elif self._waiting[0][0] == moment:
                self._condition.notify()

    def close(self) -> None:
        """Wakes all that wait, and ends the thread."""
        with self._condition:
            self._closed = True
            self._condition.notify()

    def _run(self) -> None:
        while (callback := self._next()) is not None:
            callback()

    def _next(self) -> Callable[[], None] | None:
        with self._condition:
            while True:
                if self._waiting and (self._closed or self._waiting[0][0] <= time.monotonic()):
                    return heapq.heappop(self._waiting)[2]
                if self._closed:
                    return None
                self._condition.wait(self._waiting[0][0] - time.monotonic() if self._waiting else None)

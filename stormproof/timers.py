"""One thread that wakes calls which run by themselves: for hedges, and for waits before a retry.

It starts with the first timer and ends when the channel is closed; then it wakes whatever still waits, once, so that
nothing waits for ever. A timer that is not needed any more lets go at once of all that it holds, and such timers are
swept out as soon as they are more than half: otherwise calls that have ended would be kept for as long as their timers.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable

#: So many timers that nobody needs are kept without sweeping.
FEW = 64
_log = logging.getLogger(__name__)


class Timer:
    """One moment that somebody waits for. `callback` is None once it has rung or is not needed any more."""

    __slots__ = ("callback", "moment")

    def __init__(self, moment: float, callback: Callable[[], None]) -> None:
        self.moment = moment
        self.callback: Callable[[], None] | None = callback

    @property
    def armed(self) -> bool:
        return self.callback is not None


class Timers:
    """Calls back at given moments of time.monotonic(), in one daemon thread. A callback must not block."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._waiting: list[tuple[float, int, Timer]] = []  # a heap
        self._needless = 0  # of them
        self._count = itertools.count()
        self._thread: threading.Thread | None = None
        self._closed = False

    def at(self, moment: float, callback: Callable[[], None]) -> Timer:
        """Calls `callback` at `moment`, or soon after (at once if this was closed), unless `forget` is called before."""
        timer = Timer(moment, callback)
        with self._condition:
            heapq.heappush(self._waiting, (moment, next(self._count), timer))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="stormproof-timers", daemon=True)
                self._thread.start()
            elif self._waiting[0][0] == moment:
                self._condition.notify()
        return timer

    def forget(self, timer: Timer) -> None:
        """It is not needed any more. Does nothing if it has rung."""
        with self._condition:
            if not timer.armed:
                return
            timer.callback = None
            self._needless += 1
            if self._needless > max(FEW, len(self._waiting) // 2):
                self._waiting = [entry for entry in self._waiting if entry[2].armed]
                heapq.heapify(self._waiting)
                self._needless = 0

    def close(self) -> None:
        """Wakes all that wait, and ends the thread."""
        with self._condition:
            self._closed = True
            self._condition.notify()

    def _run(self) -> None:
        while (callback := self._next()) is not None:
            try:
                callback()
            except Exception:  # one call's trouble must not take the timers of all others
                _log.exception("what a timer woke has failed")
            del callback  # what it holds is let go now, not when the next timer rings

    def _next(self) -> Callable[[], None] | None:
        with self._condition:
            while True:
                if self._waiting and (self._closed or self._waiting[0][0] <= time.monotonic()):
                    timer = heapq.heappop(self._waiting)[2]
                    callback, timer.callback = timer.callback, None
                    if callback is not None:
                        return callback
                    self._needless -= 1
                elif self._closed:
                    self._thread = None  # whoever comes later starts another one, and is woken at once
                    return None
                else:
                    self._condition.wait(self._waiting[0][0] - time.monotonic() if self._waiting else None)

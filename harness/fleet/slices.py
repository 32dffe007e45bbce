"""Processor time in slices: of every period a process is stopped for a share, and goes on for the rest.

As the quota of a control group does it (cpu.max), without one: it works for any process, and for nobody but root's or one's
own. Shares of several add up, as far as a process can be stopped at all.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

#: Seconds of a whole turn: the kernel's default period for quotas.
PERIOD = 0.1
#: What is left to the process whatever happens.
LEAST = 0.01


class Slices:
    """`tell(True)` stops the process, `tell(False)` lets it go on; called from one thread of its own."""

    def __init__(self, tell: Callable[[bool], None]) -> None:
        self._tell = tell
        self._shares: dict[str, float] = {}
        self._changed = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, tag: str, share: float) -> float:
        """From now on this share of the time is taken, too; returns when that began (time.monotonic())."""
        self._shares[tag] = share
        if self._thread is None:
            self._changed.clear()
            self._thread = threading.Thread(target=self._turn, daemon=True)
            self._thread.start()
        return time.monotonic()

    def remove(self, tag: str) -> None:
        """The share of this tag is given back; when none is left the process has gone on for good."""
        self._shares.pop(tag, None)
        if not self._shares:
            self.close()

    def close(self) -> None:
        """Gives all back."""
        self._shares.clear()
        thread, self._thread = self._thread, None
        if thread is not None:
            self._changed.set()
            thread.join()

    def _turn(self) -> None:
        while not self._changed.is_set():
            taken = min(1.0 - LEAST, sum(list(self._shares.values()))) * PERIOD
            self._tell(True)
            self._changed.wait(taken)
            self._tell(False)
            self._changed.wait(PERIOD - taken)

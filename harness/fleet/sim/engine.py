"""Virtual time: what is due stands in a heap, and time is whatever is due next. An event costs O(log n).

Events of one moment happen in the order in which they were planned, so nothing depends on chance. Seconds count from the
start of the workload.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from heapq import heappop, heappush
from itertools import count
from typing import Any

Action = Callable[[Any], object]


class Engine:
    """Runs actions at their moments. `now` is the moment of the one that runs."""

    __slots__ = ("_count", "_heap", "_stopped", "now")

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, Action, Any]] = []
        self._count = count()
        self._stopped = False

    def at(self, moment: float, action: Action, argument: Any = None) -> None:
        """Calls `action(argument)` at `moment`, which is not in the past."""
        heappush(self._heap, (moment, next(self._count), action, argument))

    def task(self, steps: Iterator[float]) -> None:
        """Does `steps` one after the other: each says after how many seconds the next one is due."""
        seconds = next(steps, None)
        if seconds is not None:
            self.at(self.now + seconds, self.task, steps)

    def run(self, until: float) -> None:
        """Lets everything happen that is due up to `until`, and then it is `until`; or up to a `stop`."""
        heap, self._stopped = self._heap, False
        while heap and heap[0][0] <= until:
            self.now, _, action, argument = heappop(heap)
            action(argument)
            if self._stopped:
                return
        self.now = until

    def stop(self) -> None:
        """Ends `run` after the action that runs now."""
        self._stopped = True

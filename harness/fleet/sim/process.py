"""What a process can be: it runs, it is paused (SIGSTOP) and does later what happens meanwhile, or it is gone."""

from __future__ import annotations

from collections import deque
from typing import Any

from harness.fleet.sim.engine import Action


class Process:
    """`stopped`: nothing happens in it now; whoever is about to do something in it says so to `put_off` instead."""

    __slots__ = ("_held", "gone", "stopped")

    def __init__(self) -> None:
        self.stopped = False
        self.gone = False
        self._held: deque[tuple[Action, Any]] | None = None  # most processes are never paused

    @property
    def paused(self) -> bool:
        return self.stopped and not self.gone

    def put_off(self, action: Action, argument: Any) -> None:
        """`action(argument)` happens in it when it goes on, in the order of these calls; never, if it is gone."""
        if not self.gone:
            if self._held is None:
                self._held = deque()
            self._held.append((action, argument))

    def pause(self) -> None:
        self.stopped = True

    def go_on(self) -> None:
        """Does all that was put off; no effect on one that is gone."""
        self.stopped = self.gone
        while self._held and not self.stopped:
            action, argument = self._held.popleft()
            action(argument)

    def end(self) -> None:
        self.stopped = self.gone = True
        self._held = None

"""Applies a plan's faults on time, and always heals them: at their end, at the run's end, and when anything fails.

Each fault is applied and healed by a thread of its own, because some take their time (a graceful restart waits for the
calls in flight) and must not delay the others. What is recorded is what was seen, not what was meant.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Sequence
from typing import Protocol

from faults import Fault, Restart
from harness.deed import Deed, acting
from harness.history import Acted
from harness.scenario import Planned


class Victims(Protocol):
    """What a nemesis needs of a fleet. The first two return when it was seen (time.monotonic()), and raise if it was not."""

    def apply(self, fault: Fault, on: str) -> float: ...
    def heal(self, fault: Fault, on: str) -> float: ...
    def touched(self, fault: Fault, on: str) -> int | None:
        """How often the target itself counted the fault to act since it was applied; None where it does not count."""
        ...


class Nemesis:
    """Carries out `planned` from `origin` (of time.monotonic()) on, once it is started."""

    def __init__(self, planned: Sequence[Planned], victims: Victims, origin: float) -> None:
        self._origin = origin
        self._victims = victims
        self._over = threading.Event()
        self._deeds = [Deed(plan) for plan in planned]
        self._threads = [threading.Thread(target=self._carry_out, args=(deed,), daemon=True) for deed in self._deeds]

    def start(self) -> None:
        """Begins to carry out the plan."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> tuple[Acted, ...]:
        """Heals whatever still acts, and tells what happened. Later calls only tell it again."""
        self._over.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()
        return tuple(deed.acted() for deed in self._deeds)

    def active(self) -> tuple[str, ...]:
        """The faults that act now, for people to read."""
        return acting(self._deeds)

    def _carry_out(self, deed: Deed) -> None:
        plan = deed.plan
        if self._waits_until(plan.start):
            deed.never_came()
            return
        try:
            deed.began = self._victims.apply(plan.fault, plan.on) - self._origin
        except Exception as error:
            deed.problem = str(error)
            self._heal(deed)
            return
        # A restart is over when it has been applied.
        cut_short = not isinstance(plan.fault, Restart) and self._waits_until(plan.end)
        with contextlib.suppress(Exception):  # a target that cannot be asked has not counted
            deed.touched = self._victims.touched(plan.fault, plan.on)
        healed = self._heal(deed)
        # One that was only healed because the run is over acted until its end.
        deed.healed = None if cut_short else healed
        deed.over = True

    def _waits_until(self, moment: float | None) -> bool:
        """Returns at `moment`, or when the run is over, and then True. None never comes."""
        return self._over.wait(None if moment is None else max(0.0, self._origin + moment - time.monotonic()))

    def _heal(self, deed: Deed) -> float | None:
        try:
            return self._victims.heal(deed.plan.fault, deed.plan.on) - self._origin
        except Exception as error:
            deed.problem = deed.problem or f"it could not be healed: {error}"
            return None

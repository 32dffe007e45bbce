"""Applies a plan's faults on time, and always heals them: what harness/nemesis.py does with threads, in virtual time.

Faults of one kind on one target take turns, as with real ones (harness/fleet/victim.py): a kill in the middle of a
restart waits until that is through.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from faults import Fault, Restart
from harness.deed import Deed, acting
from harness.fleet.errors import FleetError
from harness.fleet.sim.engine import Engine
from harness.history import Acted
from harness.scenario import Planned

#: Seconds between two looks whether it is a fault's turn.
LOOK = 0.001
#: Seconds that healing everything may take at the end of a run: two graceful stops.
LONG = 30.0


class Victim(Protocol):
    """What faults act on. `apply` and `heal` are steps: each gives the seconds until the next one."""

    name: str

    def apply(self, fault: Fault, tag: str) -> Iterator[float]: ...
    def heal(self, fault: Fault, tag: str) -> Iterator[float]: ...
    def touched(self, fault: Fault, tag: str) -> int | None: ...


class Nemesis:
    """Carries out `planned` once it is started."""

    def __init__(self, engine: Engine, planned: Sequence[Planned], victims: Mapping[str, Victim]) -> None:
        self._engine = engine
        self._turns: set[tuple[str, str]] = set()
        self._deeds = [_Deed(plan, victims[plan.on], str(tag)) for tag, plan in enumerate(planned, start=1)]
        self._left = len(self._deeds)
        self._stopping = False

    def start(self) -> None:
        """Begins to carry out the plan."""
        for deed in self._deeds:
            self._engine.at(deed.plan.start, self._begin, deed)

    def stop(self) -> tuple[Acted, ...]:
        """Heals whatever still acts, and tells what happened."""
        self._stopping = True
        for deed in self._deeds:
            if deed.stage == "waits":
                deed.never_came()
                self._is_over(deed)
            elif deed.stage == "acts":
                self._end(deed)
        if self._left:
            self._engine.run(self._engine.now + LONG)
        return tuple(deed.acted() for deed in self._deeds)

    def active(self) -> tuple[str, ...]:
        """The faults that act now, for people to read."""
        return acting(self._deeds)

    def _begin(self, deed: _Deed) -> None:
        if deed.stage == "waits":
            deed.stage = "begins"
            self._engine.task(self._apply(deed))

    def _apply(self, deed: _Deed) -> Iterator[float]:
        fault, turn = deed.plan.fault, deed.turn
        yield from self._wait_for(turn)
        began = self._engine.now
        try:
            yield from deed.victim.apply(fault, deed.tag)
        except FleetError as error:
            deed.problem = str(error)
            yield from deed.victim.heal(fault, deed.tag)
            self._turns.discard(turn)
            self._is_over(deed)
            return
        self._turns.discard(turn)
        deed.stage, deed.began = "acts", began
        if isinstance(fault, Restart) or self._stopping:  # a restart is over when it has been applied
            self._end(deed)
        elif deed.plan.end is not None:
            self._engine.at(max(self._engine.now, deed.plan.end), self._end, deed)

    def _end(self, deed: _Deed) -> None:
        if deed.stage == "acts":
            deed.stage = "ends"
            self._engine.task(self._heal(deed))

    def _heal(self, deed: _Deed) -> Iterator[float]:
        # One that is only healed because the run is over acted until its end.
        cut_short = self._stopping and not isinstance(deed.plan.fault, Restart)
        yield from self._wait_for(deed.turn)
        deed.touched = deed.victim.touched(deed.plan.fault, deed.tag)
        yield from deed.victim.heal(deed.plan.fault, deed.tag)
        self._turns.discard(deed.turn)
        deed.healed = None if cut_short else self._engine.now
        self._is_over(deed)

    def _wait_for(self, turn: tuple[str, str]) -> Iterator[float]:
        while turn in self._turns:
            yield LOOK
        self._turns.add(turn)

    def _is_over(self, deed: _Deed) -> None:
        deed.stage, deed.over = "over", True
        self._left -= 1
        if self._stopping and not self._left:
            self._engine.stop()


class _Deed(Deed):
    """Where it is, as well. `stage`: waits, begins, acts, ends, over."""

    def __init__(self, plan: Planned, victim: Victim, tag: str) -> None:
        super().__init__(plan)
        self.victim = victim
        self.tag = tag
        self.turn = (plan.on, plan.fault.kind)
        self.stage = "waits"

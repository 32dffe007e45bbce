"""A bad day that was found, and what it takes to find one: a day is run and its promises are judged.

A run that raises is a find as well, whatever was promised: in virtual time nothing but the code of the library and of the
harness can raise, and both are wrong then.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace

from harness.fleet.base import Fleet
from harness.guarantees.base import Guarantee, Verdict
from harness.history import History
from harness.runner import run
from harness.scenario import Scenario

NAME = "bad day"
#: The `kind` of a day whose run raised.
CRASH = "crash"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A day that breaks `verdict.guarantee`, with that guarantee alone.

    `kind` is the name of the guarantee's class, or CRASH. `at`: seconds of the search when it was found.
    """

    scenario: Scenario
    seed: int
    verdict: Verdict
    kind: str
    at: float = 0.0

    @property
    def guarantee(self) -> Guarantee:
        """What the day is judged by."""
        return self.scenario.guarantees[0]

    @property
    def title(self) -> str:
        """In a few words, what is wrong on that day."""
        return "the run itself crashed" if self.kind == CRASH else f"{self.verdict.guarantee} is broken"


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """What came of one day. `judged`: anything could be said of it at all. `history` None: the run raised."""

    history: History | None
    found: Found | None
    judged: bool


def met(scenario: Scenario, fleet: Fleet, seed: int, wanted: Callable[[str], bool] = lambda _: True) -> Day:
    """Runs one day. It is bad if it breaks a guarantee of a `wanted` kind (the first that it does), or raises."""
    try:
        result = run(scenario, fleet, seed=seed, name=NAME)
    except Exception as error:
        return Day(history=None, found=_crash(scenario, seed, error) if wanted(CRASH) else None, judged=True)
    found = None
    for guarantee, verdict in zip(scenario.guarantees, result.verdicts, strict=True):
        kind = type(guarantee).__name__
        if verdict.verdict == "broken" and wanted(kind):
            alone = replace(scenario, guarantees=(guarantee,))
            found = Found(scenario=alone, seed=seed, verdict=verdict, kind=kind)
            break
    judged = any(verdict.verdict != "unknown" for verdict in result.verdicts)
    return Day(history=result.history, found=found, judged=judged)


def _crash(scenario: Scenario, seed: int, error: Exception) -> Found:
    alone = replace(scenario, guarantees=scenario.guarantees[:1])
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    where = tuple(f"in {frame.name}, {frame.filename}:{frame.lineno}" for frame in reversed(frames))
    verdict = Verdict(
        guarantee=str(alone.guarantees[0]),
        verdict="unknown",
        measured=f"{type(error).__name__}: {error}",
        bound="",
        why=where,
    )
    return Found(scenario=alone, seed=seed, verdict=verdict, kind=CRASH)

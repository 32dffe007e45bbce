"""One run of a scenario: draw the plan, let the fleet carry it out, judge the history, and say what was found.

A run that the machine spoiled (it was too busy to keep the workload's rate, see guarantees/punctual.py) says nothing about
anybody. It is made again, and that is told; one that was broken never is.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from harness.fleet.base import Fleet, Progress, Watcher
from harness.guarantees.base import Verdict, Word, overall
from harness.guarantees.check import check_all, spoiled
from harness.history import History, touching
from harness.report import Report, ScenarioReport, write_all
from harness.scenario import Plan, Scenario

#: How often a scenario is run at most, while the machine spoils it.
RUNS = 3


class Broken(AssertionError):
    """A guarantee was broken, or could not be judged. The message says what, when, where, and how to see it again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of a run: its history, and one verdict for each guarantee. `spoiled`: why earlier runs said nothing."""

    name: str
    scenario: Scenario
    history: History
    verdicts: tuple[Verdict, ...]
    again: str
    started: datetime
    spoiled: tuple[str, ...] = ()
    _asked: set[str] = field(default_factory=set, compare=False, repr=False)

    @property
    def verdict(self) -> Word:
        """broken if any guarantee is, else unknown if any is, else held. To ask is to judge oneself, see `asked`."""
        self._asked.add("verdict")
        return self._overall()

    @property
    def broken(self) -> list[str]:
        """The names of the guarantees that are broken, such as ["Fast"]. To ask is to judge oneself, see `asked`."""
        self._asked.add("broken")
        return self._named("broken")

    @property
    def unknown(self) -> list[str]:
        """The names of the guarantees that could not be judged. To ask is to judge oneself, see `asked`."""
        self._asked.add("unknown")
        return self._named("unknown")

    @property
    def asked(self) -> bool:
        """Whether a test looked at what was found, and so expects it if it passes. `check` is no such look."""
        return bool(self._asked)

    def check(self) -> None:
        """Returns if every guarantee held; raises `Broken`, with a message for people, if not."""
        if self._overall() != "held":
            raise Broken(self.message())

    def message(self) -> str:
        """What was found, as it is shown when a check fails."""
        bad = [verdict for verdict in self.verdicts if verdict.verdict != "held"]
        history = self.history
        broken = self._named("broken")
        word = "broken" if broken else "unknown"
        count = f"{len(broken or bad)} of {len(self.verdicts)} guarantees {word}"
        lines = [f"{self.name}: {count} ({history.fleet}, seed {history.seed}, {history.proxy})"]
        for verdict in bad:
            found = verdict.measured if verdict.verdict == "broken" else ""
            lines.append(f"  {verdict.guarantee}  {verdict.verdict}" + (f": {found}" if found else ""))
            lines += [f"      {line}" for line in verdict.why]
        lines += [f"  run {number}, made again: {why}" for number, why in enumerate(self.spoiled, start=1)]
        return "\n".join([*lines, f"  again: {self.again}"])

    def _overall(self) -> Word:
        return overall([verdict.verdict for verdict in self.verdicts])

    def _named(self, word: Word) -> list[str]:
        return [
            type(g).__name__ for g, v in zip(self.scenario.guarantees, self.verdicts, strict=True) if v.verdict == word
        ]


def run(
    scenario: Scenario,
    fleet: Fleet,
    *,
    seed: int,
    name: str,
    again: str = "",
    watch: Watcher = lambda _: None,
) -> Result:
    """Runs `scenario`, and again while the machine spoils it, up to `RUNS` times in all.

    FleetError if it could not begin; ValueError for targets that the fleet does not have.
    """
    plan = Plan.draw(scenario, seed)
    reasons: list[str] = []
    while True:
        started = datetime.now(UTC)
        history = touching(fleet.run(scenario, plan, name=name, watch=watch))
        reason = spoiled(history)
        if not reason or len(reasons) == RUNS - 1:
            break
        reasons.append(reason)
    return Result(
        name=name,
        scenario=scenario,
        history=history,
        verdicts=check_all(history, scenario.guarantees),
        again=again,
        started=started,
        spoiled=tuple(reasons),
    )


def replay_command(fleet: str, seed: int, test: str) -> str:
    """What to type to meet the same day again."""
    return f"stormproof replay --fleet={fleet} --seed={seed} {shlex.quote(test)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A run as the report tells it: with its one line of documentation, and the verdicts as its test sees them."""

    name: str
    doc: str
    history: History
    verdicts: tuple[Verdict, ...]
    again: str
    started: datetime
    spoiled: tuple[str, ...] = ()

    @staticmethod
    def of(result: Result, doc: str, verdicts: tuple[Verdict, ...]) -> Told:
        """`verdicts` differ from the result's own where the test expected a guarantee to be broken."""
        return Told(
            name=result.name,
            doc=doc,
            history=result.history,
            verdicts=verdicts,
            again=result.again,
            started=result.started,
            spoiled=result.spoiled,
        )

    @staticmethod
    def missing(name: str, doc: str, why: str, *, fleet: str, proxy: str, seed: int) -> Told:
        """A test that came to no result: nothing is claimed of it, and the report says why."""
        history = History(
            scenario=name, fleet=fleet, proxy=proxy, seed=seed, seconds=0.0, servers=(), operations=(), problems=(why,)
        )
        return Told(name=name, doc=doc, history=history, verdicts=(), again="", started=datetime.now(UTC))


def report_on(told: Sequence[Told], *, fleet: str, proxy: str, seed: int, started: datetime) -> Report:
    """All results of a session as one report."""
    scenarios = [
        ScenarioReport.of(
            t.history, t.verdicts, name=t.name, doc=t.doc, again=t.again,
            started=t.started.isoformat(timespec="seconds"), spoiled=t.spoiled,
        )
        for t in told
    ]  # fmt: skip
    seconds = (datetime.now(UTC) - started).total_seconds()
    return Report.of(
        scenarios, fleet=fleet, proxy=proxy, seed=seed, started=started.isoformat(timespec="seconds"), seconds=seconds
    )


def write_report(report: Report, told: Sequence[Told], folder: Path) -> None:
    """Writes the report in every form, and the histories."""
    write_all(report, [t.history for t in told], folder)


__all__ = ["Broken", "Progress", "Result", "Told", "replay_command", "report_on", "run", "write_report"]

"""One run of a scenario: draw the plan, let the fleet carry it out, judge the history, and say what was found."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from harness.fleet.base import Fleet, Progress, Watcher
from harness.guarantees.base import Verdict, Word, overall
from harness.guarantees.check import check_all
from harness.history import History, touching
from harness.report import Report, ScenarioReport, write_all
from harness.scenario import Plan, Scenario


class Broken(AssertionError):
    """A guarantee was broken, or could not be judged. The message says what, when, where, and how to see it again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of a run: its history, and one verdict for each guarantee."""

    name: str
    scenario: Scenario
    history: History
    verdicts: tuple[Verdict, ...]
    again: str
    started: datetime

    @property
    def verdict(self) -> Word:
        """broken if any guarantee is, else unknown if any is, else held."""
        return overall([verdict.verdict for verdict in self.verdicts])

    @property
    def broken(self) -> list[str]:
        """The names of the guarantees that are broken, such as ["Fast"]."""
        return self._named("broken")

    @property
    def unknown(self) -> list[str]:
        """The names of the guarantees that could not be judged."""
        return self._named("unknown")

    def check(self) -> None:
        """Returns if every guarantee held; raises `Broken`, with a message for people, if not."""
        if self.verdict != "held":
            raise Broken(self.message())

    def message(self) -> str:
        """What was found, as it is shown when a check fails."""
        bad = [verdict for verdict in self.verdicts if verdict.verdict != "held"]
        history = self.history
        word = "broken" if self.broken else "unknown"
        count = f"{len(self.broken or bad)} of {len(self.verdicts)} guarantees {word}"
        lines = [f"{self.name}: {count} ({history.fleet}, seed {history.seed}, {history.proxy})"]
        for verdict in bad:
            found = verdict.measured if verdict.verdict == "broken" else ""
            lines.append(f"  {verdict.guarantee}  {verdict.verdict}" + (f": {found}" if found else ""))
            lines += [f"      {line}" for line in verdict.why]
        return "\n".join([*lines, f"  again: {self.again}"])

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
    """Runs `scenario` once. FleetError if it could not begin; ValueError for targets that the fleet does not have."""
    started = datetime.now(UTC)
    history = touching(fleet.run(scenario, Plan.draw(scenario, seed), name=name, watch=watch))
    verdicts = check_all(history, scenario.guarantees)
    return Result(name=name, scenario=scenario, history=history, verdicts=verdicts, again=again, started=started)


def replay_command(fleet: str, seed: int, test: str) -> str:
    """What to type to meet the same day again."""
    return f"stormproof replay --fleet={fleet} --seed={seed} {shlex.quote(test)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A result as the report tells it: with its one line of documentation, and the word of the test that ran it.

    `verdicts` may differ from the result's own where the test expected a guarantee to be broken.
    """

    result: Result
    doc: str
    verdicts: tuple[Verdict, ...]


def report_on(told: Sequence[Told], *, fleet: str, proxy: str, seed: int, started: datetime) -> Report:
    """All results of a session as one report."""
    scenarios = [
        ScenarioReport.of(
            t.result.history, t.verdicts, name=t.result.name, doc=t.doc, again=t.result.again,
            started=t.result.started.isoformat(timespec="seconds"),
        )
        for t in told
    ]  # fmt: skip
    seconds = (datetime.now(UTC) - started).total_seconds()
    return Report.of(
        scenarios, fleet=fleet, proxy=proxy, seed=seed, started=started.isoformat(timespec="seconds"), seconds=seconds
    )


def write_report(report: Report, told: Sequence[Told], folder: Path) -> None:
    """Writes the report in every form, and the histories."""
    write_all(report, [t.result.history for t in told], folder)


__all__ = ["Broken", "Progress", "Result", "Told", "replay_command", "report_on", "run", "write_report"]

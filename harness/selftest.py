"""Whether the guarantees find what they are for: every saboteur against the one that names it, its clean twin against all.

Days are run in virtual time, each with several seeds. A saboteur is found with a seed if its guarantee is broken; its clean
twin holds if every guarantee of the day does. Only both together say that a guarantee can be trusted.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from difflib import get_close_matches

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from harness.fleet.keeper_child import die_with
from harness.fleet.sim.fleet import SimFleet
from harness.guarantees.base import Verdict, Word
from harness.runner import Result, run
from harness.saboteurs import SABOTEURS, Saboteur

#: The most seeds of one self-test: at 10 s of a core for all saboteurs and one seed, three hours.
MOST = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What one seed said of one saboteur, and of its clean twin.

    `verdict` is that of the guarantee that should find it, `measured` what that found. `twin` is the verdict of all
    guarantees of the day on the clean twin, `complaint` what they said if they did not hold.
    """

    name: str
    seed: int
    verdict: Word
    measured: str
    twin: Word
    complaint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """All trials of one saboteur, in the order of their seeds."""

    saboteur: Saboteur
    trials: tuple[Trial, ...]

    @property
    def found(self) -> int:
        """With how many seeds it was found."""
        return sum(trial.verdict == "broken" for trial in self.trials)

    @property
    def held(self) -> int:
        """With how many seeds its clean twin kept every guarantee of the day."""
        return sum(trial.twin == "held" for trial in self.trials)

    @property
    def good(self) -> bool:
        """Whether nothing was missed, and nobody blamed who is innocent."""
        return self.found == self.held == len(self.trials)

    @property
    def measured(self) -> str:
        """What its guarantee measured with the first seed."""
        return self.trials[0].measured

    def problems(self) -> Iterator[str]:
        """One line for each seed with which it was not found, and each with which its clean twin was blamed."""
        for trial in self.trials:
            if trial.verdict != "broken":
                promise = self.saboteur.found_by.__name__
                yield f"{trial.name}, seed {trial.seed}: {promise} is {trial.verdict}: {trial.measured}"
            if trial.twin != "held":
                yield f"{trial.name}, seed {trial.seed}: its clean twin did not hold: {trial.complaint}"


def chosen(only: Sequence[str], among: Sequence[Saboteur] = SABOTEURS) -> tuple[Saboteur, ...]:
    """The saboteurs of these names; all, if there are none. ValueError that lists near ones for a name that is unknown."""
    names = [saboteur.name for saboteur in among]
    for name in only:
        if name not in names:
            alike = [each for each in names if name in each] + get_close_matches(name, names, n=4, cutoff=0.4)
            near = ", ".join(dict.fromkeys(alike))
            way_out = f"near are {near}" if near else "docs/saboteurs.md lists all, and so does selftest without --only"
            raise ValueError(f"there is no saboteur {name!r}; {way_out}")
    return tuple(saboteur for saboteur in among if not only or saboteur.name in only)


def trials(saboteurs: Sequence[Saboteur], seeds: Sequence[int], *, jobs: int) -> Iterator[Trial]:
    """All of them, as they are done, in `jobs` processes."""
    tasks = [(group, seed) for seed in seeds for group in _by_day(saboteurs)]
    if jobs == 1:
        for group, seed in tasks:
            yield from tried(group, seed)
        return
    # Not forked: gRPC, which the harness imports, does not survive that for sure.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=spawn, initializer=die_with, initargs=(os.getpid(),)) as pool:
        try:
            for done in as_completed([pool.submit(tried, group, seed) for group, seed in tasks]):
                yield from done.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def rows(saboteurs: Iterable[Saboteur], done: Sequence[Trial]) -> tuple[Row, ...]:
    """One for each saboteur, in their order."""
    by_name: dict[str, list[Trial]] = {}
    for trial in sorted(done, key=_seed):
        by_name.setdefault(trial.name, []).append(trial)
    return tuple(Row(saboteur=s, trials=tuple(by_name[s.name])) for s in saboteurs)


def tried(saboteurs: Sequence[Saboteur], seed: int) -> list[Trial]:
    """These saboteurs, all of the same day, and their clean twin, once."""
    clean = run(saboteurs[0].day, SimFleet(), seed=seed, name="clean")
    twin = clean.verdict
    complaint = "" if twin == "held" else "; ".join(line.strip() for line in clean.message().splitlines()[1:-1])
    return [_trial(each, seed, twin, complaint) for each in saboteurs]


def _trial(saboteur: Saboteur, seed: int, twin: Word, complaint: str) -> Trial:
    result = run(saboteur.sabotaged, SimFleet(), seed=seed, name=saboteur.name)
    verdict = _named(result, saboteur)
    measured = verdict.measured if verdict.verdict == "broken" else "; ".join((verdict.measured, *verdict.why))
    return Trial(
        name=saboteur.name, seed=seed, verdict=verdict.verdict, measured=measured, twin=twin, complaint=complaint
    )


def _named(result: Result, saboteur: Saboteur) -> Verdict:
    """What the guarantee said that should find it."""
    told = zip(result.scenario.guarantees, result.verdicts, strict=True)
    return next(verdict for guarantee, verdict in told if isinstance(guarantee, saboteur.found_by))


def _by_day(saboteurs: Iterable[Saboteur]) -> list[list[Saboteur]]:
    """Those of one day together: they have their clean twin in common."""
    groups: list[list[Saboteur]] = []
    for saboteur in saboteurs:
        same = next((group for group in groups if group[0].day == saboteur.day), None)
        if same is None:
            groups.append([saboteur])
        else:
            same.append(saboteur)
    return groups


def _seed(trial: Trial) -> int:
    return trial.seed


# What the terminal shows.


def show(console: Console, saboteurs: Sequence[Saboteur], seeds: int, jobs: int) -> bool:
    """Runs them with the seeds from 1 to `seeds`, tells how far it is and then the matrix; whether all is well."""
    done: list[Trial] = []
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console,
        transient=True,
    ) as progress:  # fmt: skip
        bar = progress.add_task("saboteurs", total=len(saboteurs) * seeds)
        for trial in trials(saboteurs, range(1, seeds + 1), jobs=jobs):
            done.append(trial)
            progress.update(bar, advance=1, description=f"seed {trial.seed}: {trial.name}")
    found = rows(saboteurs, done)
    console.print(_table(found, seeds))
    for problem in [line for row in found for line in row.problems()]:
        console.print(Text(f"✗ {problem}", style="red"), soft_wrap=True)
    good = all(row.good for row in found)
    console.print(Text(summary(found, seeds), style="bold green" if good else "bold red"))
    return good


def summary(found: Sequence[Row], seeds: int) -> str:
    """How many were found with every seed, and of how many the clean twin held with every seed."""
    caught = sum(row.found == seeds for row in found)
    innocent = sum(row.held == seeds for row in found)
    return (
        f"{'✓' if caught == innocent == len(found) else '✗'} {caught} of {len(found)} saboteurs found with {seeds} of "
        f"{seeds} seeds, {innocent} of {len(found)} clean twins held with {seeds} of {seeds}"
    )


def _table(found: Sequence[Row], seeds: int) -> Table:
    table = Table("saboteur", "found by", "found", "clean held", "with seed 1 it measured", box=None, pad_edge=False)
    for row in found:
        table.add_row(
            row.saboteur.name,
            row.saboteur.found_by.__name__,
            f"{row.found} of {seeds}",
            f"{row.held} of {seeds}",
            row.measured,
            style=None if row.good else "red",
        )
    return table

"""A campaign on a terminal: one live line while it runs, then a table, the first bad seeds, and the exit status."""

from __future__ import annotations

import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from harness.campaign import report, workers
from harness.campaign.part import Bad, Row
from harness.campaign.run import Campaign, Run, SuitesError
from harness.campaign.tally import Tally, rate
from harness.cli import BROKEN, HELD, NOTHING, UNKNOWN, console
from harness.live import SIGN, STYLE

#: Bad seeds that are told of each row; the report has them all.
FIRST = 3


def run(
    suites: tuple[str, ...],
    *,
    seeds: int,
    first: int = 1,
    only: str = "",
    jobs: int | None = None,
    address: str = "",
    folder: Path | None = None,
) -> int:
    """Carries a campaign out and tells of it. The exit status: 0 held, 1 broken, 2 unknown or could not be run."""
    if address and jobs is not None:
        print("stormproof: --jobs is for this machine's cores; with --dask its workers' threads count", file=sys.stderr)
        return UNKNOWN
    where: AbstractContextManager[workers.Workers] = workers.dask(address) if address else workers.local(jobs)
    campaign = Campaign(suites=suites, seeds=seeds, first=first, only=only)
    try:
        with where as there:
            return _run(campaign, there, folder)
    except (workers.NoWorkersError, SuitesError) as error:
        print(f"stormproof: {error}", file=sys.stderr)
        return UNKNOWN
    except KeyboardInterrupt:
        print("stormproof: stopped by a signal", file=sys.stderr)
        return UNKNOWN


def _run(campaign: Campaign, there: workers.Workers, folder: Path | None) -> int:
    out = console()
    began = time.monotonic()
    with _Live(out, campaign.seeds) as live:
        under_way = Run(campaign, there, live.told)
        under_way.carry_out()
    tally, seconds = under_way.tally, time.monotonic() - began
    if not tally.rows and not tally.lost and not under_way.stopped:
        print(NOTHING, file=sys.stderr)
        return UNKNOWN
    for line in tally.left_out:
        out.print(Text(f"? {line}", style=STYLE["unknown"]), soft_wrap=True)
    out.print(_table(tally))
    for row in tally.rows:
        _tell_bad(out, row)
    for line in (*tally.lost, *filter(None, [under_way.stopped])):
        out.print(Text(line, style=STYLE["unknown"]), soft_wrap=True)
    verdict = "unknown" if under_way.stopped and tally.verdict == "held" else tally.verdict
    last = Text(f"{SIGN[verdict]} {verdict}", style=f"bold {STYLE[verdict]}")
    pace = f"{tally.runs / seconds:.1f} a second" if seconds else ""
    last.append(
        f"  {tally.runs:,} runs in {seconds:.1f} s ({pace}), {tally.seeds} of {campaign.seeds} seeds from "
        f"{campaign.first} on, fleet sim, {there.name}",
        style="default",
    )
    status = {"held": HELD, "broken": BROKEN, "unknown": UNKNOWN}[verdict]
    if folder is not None:
        status, told = _written(campaign, under_way, folder, status)
        last.append(f", {told}", style="default")
    out.print(last, soft_wrap=True)
    return UNKNOWN if under_way.stopped else status


def _written(campaign: Campaign, done: Run, folder: Path, status: int) -> tuple[int, str]:
    try:
        report.write(campaign, done, folder)
    except OSError as error:
        why = error.strerror or error
        return UNKNOWN, f"but the report could not be written to {folder}: {why}; give --report a folder with room"
    return status, f"report in {folder / 'campaign.md'}"


class _Live:
    """The line that lives; a log or a pipe gets the lines for people only."""

    def __init__(self, out: Console, seeds: int) -> None:
        self._out = out
        self._progress = Progress(
            TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("seeds"),
            TextColumn("{task.fields[counts]}"), TimeElapsedColumn(), TimeRemainingColumn(),
            console=out, transient=True, disable=not out.is_terminal,
        )  # fmt: skip
        self._task = self._progress.add_task("the first seed", total=seeds, counts="")

    def __enter__(self) -> _Live:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def told(self, tally: Tally, line: str) -> None:
        """What is found so far, and what happened."""
        if line:
            self._out.print(Text(f"! {line}", style=STYLE["unknown"]), soft_wrap=True)
        counts = " ".join(f"[{STYLE[word]}]{count:,} {word}[/]" for word, count in tally.counts.items())
        what = "running" if tally.seeds else "the first seed"
        self._progress.update(self._task, completed=tally.seeds, counts=counts, description=what)


def _table(tally: Tally) -> Table:
    table = Table(
        "test", "guarantee", "held", "broken", "unknown", "rate of broken (at 1e-6)", box=None, pad_edge=False
    )
    table.columns[0].overflow = table.columns[1].overflow = "fold"
    for column in table.columns[2:5]:
        column.justify = "right"
    before = ""
    for row in tally.rows:
        style = STYLE["broken" if row.broken else "unknown" if row.unknown else "held"]
        name = row.test if row.test != before else ""
        numbers = [f"{row.held:,}", f"{row.broken:,}", f"{row.unknown:,}"]
        table.add_row(Text(name), Text(row.guarantee), *numbers, spelled(row), style=style)
        before = row.test
    return table


def spelled(row: Row) -> str:
    """The rate of broken runs with its bounds, as in "0.0030, surely 0.0001 to 0.0182"."""
    found = rate(row)
    if found is None:
        return "none could be judged"
    value, low, high = found
    return f"{value:.4f}, below {high:.4f}" if not row.broken else f"{value:.4f}, from {low:.4f} to {high:.4f}"


def _tell_bad(out: Console, row: Row) -> None:
    # What is broken comes before what is unknown: it says more.
    first = sorted(row.bad, key=lambda bad: (bad.verdict != "broken", bad.seed))[:FIRST]
    if not first:
        return
    others = len(row.bad) - len(first)
    more = f" (and {others:,} more)" if others else ""
    seeds = ", ".join(str(bad.seed) for bad in first)
    out.print(Text(f"\n{row.test}\n  {row.guarantee}: seeds {seeds}{more}"), soft_wrap=True)
    for bad in first[:1]:
        for line in _lines(bad):
            out.print(Text(f"      {line}"), soft_wrap=True)
        out.print(Text(f"    again: {bad.again}"), soft_wrap=True)


def _lines(bad: Bad) -> list[str]:
    return [f"seed {bad.seed} {bad.verdict}: {bad.measured}", *bad.why]

"""What `stormproof explore` shows: how far the search is, the smallest bad day as Python, and what real servers say of it.

Exit status: 0 nothing was found, 1 a bad day was, 2 the search could not be made.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.syntax import Syntax
from rich.text import Text

from harness.explore.corpus import Corpus, Entry
from harness.explore.found import Found, met
from harness.explore.source import suite
from harness.fleet.base import open_fleet
from harness.fleet.errors import FleetError
from harness.proxy.errors import ToxiproxyError
from harness.proxy.install import cache_folder
from harness.runner import run

if TYPE_CHECKING:  # it needs Hypothesis
    from harness.explore.search import Search, Tally

NOTHING, BAD_DAY, IMPOSSIBLE = 0, 1, 2
MISSING = "stormproof: explore needs Hypothesis, which is not installed: pip install 'stormproof[explore]'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What was asked for. `seconds`: of the search; `client` None: clients are drawn, too."""

    seconds: float
    seed: int
    guarantees: Sequence[str]
    client: str | None
    corpus: Path
    local: bool


def explore(wish: Wish, console: Console) -> int:
    """Carries out the search and tells what comes of it. Returns the exit status."""
    # Hypothesis keeps what it learns of the program's source there, and not in the folder where one happens to be.
    os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", str(cache_folder().parents[1] / "hypothesis"))
    try:
        from harness.explore import search
    except ModuleNotFoundError as error:
        if error.name != "hypothesis":
            raise
        console.print(MISSING, markup=False, highlight=False)
        return IMPOSSIBLE
    from harness.explore import asked

    try:
        client = None if wish.client is None else asked.client(wish.client)
        judge = asked.judges(wish.guarantees)
    except asked.Misasked as error:
        console.print(f"stormproof: {error}", markup=False, highlight=False, soft_wrap=True)
        return IMPOSSIBLE
    corpus = Corpus(folder=wish.corpus)
    try:
        corpus.prepare()
    except OSError as error:
        told = f"stormproof: --corpus={wish.corpus} must be a folder that can be written to: {error.strerror or error}"
        console.print(told, markup=False, highlight=False, soft_wrap=True)
        return IMPOSSIBLE
    found = _again(corpus, console)
    if found is None:
        work = search.Search(client=client, judge=judge, seed=wish.seed, seconds=wish.seconds)
        found = _searched(work, wish, corpus, console)
        if found is None:
            return IMPOSSIBLE if work.tally.stopped else NOTHING
    _show(found, console)
    if wish.local:
        _locally(found, console)
    return BAD_DAY


def _again(corpus: Corpus, console: Console) -> Found | None:
    """The first day of the corpus that is still bad; each is met once more."""
    entries, told = corpus.read()
    for line in told:
        _say(console, "? ", f"{line}", "yellow")
    still: Found | None = None
    for entry in entries:
        found = _met(entry)
        if found is None:
            _say(console, "✓ ", f"{entry.file}: {entry.scenario.guarantees[0]} is not broken there any more", "green")
        else:
            _say(console, "✗ ", f"{entry.file}: still: {found.title}", "red")
            still = still or found
    return still


def _met(entry: Entry) -> Found | None:
    with open_fleet("sim") as fleet:
        return met(entry.scenario, fleet, entry.seed).found


def _searched(search: Search, wish: Wish, corpus: Corpus, console: Console) -> Found | None:
    began = time.monotonic()
    first: float | None = None

    def watch(tally: Tally) -> None:
        nonlocal first
        if tally.found is not None and first is None:
            first = time.monotonic() - began
            when = f"after {first:.1f} s, on day {tally.days} ({_much(tally)})"
            _say(console, "✗ ", f"{tally.found.title} {when}; looking for a smaller day", "red")

    def line() -> Text:
        return _line(search.tally, time.monotonic() - began, wish.seconds)

    search.watch = watch
    with Live(console=console, refresh_per_second=4, transient=True, get_renderable=line):
        found = search.carry_out()
    took, tally = time.monotonic() - began, search.tally
    if found is None:
        sign, style = ("? stopped by a signal; ", "yellow") if tally.stopped else ("✓ ", "green")
        unjudged = f", {tally.unjudged} of which nothing could be said" if tally.unjudged else ""
        worst = f"worst p99 {tally.p99:.3f} s, most attempts a call {tally.attempts:.2f}"
        days = f"no bad day among {tally.days:,} in {took:.0f} s{unjudged}; {tally.calls:,} calls"
        _say(console, sign, f"{days}, seed {wish.seed}; {worst}", style)
        return None
    file = corpus.keep(found)
    more = f"smallest after {took - (first or 0.0):.1f} s more and {tally.days} days in all"
    _say(console, "  ", f"{more}; kept as {file}")
    return found


def _show(found: Found, console: Console) -> None:
    day = found.scenario
    servers = f"{day.servers.count} server" + "s" * (day.servers.count != 1)
    faults = f"{len(day.faults)} fault" + "s" * (len(day.faults) != 1)
    text = suite(day, about=f"{found.title} on a day of {servers} and {faults} (stormproof explore).", seed=found.seed)
    console.print()
    # Not folded at the terminal's width: it is there to be copied.
    console.print(Syntax(text, "python", background_color="default").highlight(text), soft_wrap=True, end="\n")
    _say(console, "", f"{found.title}: {found.verdict.measured}", "red")
    for line in found.verdict.why:
        _say(console, "    ", line)


def _locally(found: Found, console: Console) -> None:
    """The same day with real servers. What it says changes nothing: virtual time has broken a promise of real code."""
    console.print()
    try:
        with console.status("the same day on real servers ..."), open_fleet("local") as fleet:
            result = run(found.scenario, fleet, seed=found.seed, name="the same day")
    except (FleetError, ToxiproxyError, OSError) as error:
        _say(console, "? ", f"local: could not be tried: {error}", "yellow")
        return
    (verdict,) = result.verdicts
    sign, style = {"held": ("✓ ", "green"), "broken": ("✗ ", "red"), "unknown": ("? ", "yellow")}[verdict.verdict]
    _say(console, sign, f"local ({result.history.proxy}): {verdict.verdict}: {verdict.measured}", style)
    for line in verdict.why:
        _say(console, "    ", line)


def _line(tally: Tally, now: float, seconds: float) -> Text:
    """The line that lives. It is made in a thread of its own, while days are counted."""
    found = tally.found
    if found is None:
        line = Text(f"  {now:.0f} of {seconds:.0f} s  ", style="cyan")
        line.append(_much(tally), style="default")
        line.append(f"  worst p99 {tally.p99:.3f} s, {tally.attempts:.2f} attempts a call", style="dim")
        return line
    day = found.scenario
    line = Text(f"  {now:.0f} s  ", style="cyan")
    line.append(f"{_much(tally)}  ", style="default")
    best = f"best so far: {day.servers.count} servers, {len(day.faults)} faults, {found.kind}"
    line.append(best, style="red")
    return line


def _much(tally: Tally) -> str:
    return f"{tally.days:,} days, {tally.calls:,} calls"


def _say(console: Console, sign: str, text: str, style: str = "default") -> None:
    console.print(Text(f"{sign}{text}", style=style), soft_wrap=True)

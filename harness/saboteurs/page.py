"""docs/saboteurs.md: the matrix of a self-test, and what of the published mistakes it covers.

`python -m harness.saboteurs.page` runs every saboteur with 20 seeds (some minutes) and writes the page; a test keeps the
names and defects in it current.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from harness.saboteurs import SABOTEURS, Saboteur
from harness.saboteurs.published import ELSEWHERE, PUBLISHED
from harness.selftest import Row, rows, summary, trials

PAGE = Path(__file__).parents[2] / "docs" / "saboteurs.md"
SEEDS, JOBS = 20, 2
_INTRODUCTION = """\
# Saboteurs

Who guards the guards? A guarantee that cannot be broken proves nothing, and one that blames a good client is no use. So there
are clients with one planted defect each, most of them mistakes that others made and published. Each has a bad day on which its
defect shows, a guarantee that must find it, and a clean twin: the same client on the same day without the defect, which must
keep every guarantee of that day.

```sh
stormproof selftest                                  # all of them, with 20 seeds each
stormproof selftest --only=half-open-crowd --seeds=3
```

Exit status: 0 all found and all clean twins held, 1 not so, 2 it could not run. Days run in virtual time, with the code that
decides in real runs, too.

The saboteurs are in `harness/saboteurs/`, a few lines each: a subclass of the part that it spoils. To plant a defect of your
own, give a subclass of `Client` a `POOL` (who is called), a `CALL` (when another attempt follows), a `READER` (what of a stream
reaches its caller) or a `LEDGER` (what a checkpoint says), or give a `Client` a balancer, policy or budget. One with a `LEDGER`
of its own runs in virtual time only.

Made by `python -m harness.saboteurs.page`.

"""


def page(found: Sequence[Row], seeds: int) -> str:
    """The text of docs/saboteurs.md, with the figures of a run."""
    lines = [_INTRODUCTION + f"{summary(found, seeds)}.\n"]
    lines += [
        "| saboteur | what is wrong with it | found by | found | clean twin held | with seed 1 it measured |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"{start(row.saboteur)} {row.found} of {seeds} | {row.held} of {seeds} | {row.measured} |" for row in found
    ]
    lines += [
        "",
        "## Published mistakes",
        "",
        "| | mistake | published by | saboteurs, or where it is tested |",
        "|---|---|---|---|",
    ]
    lines += [_mistake(number, [row.saboteur for row in found]) for number in PUBLISHED]
    return "\n".join(lines) + "\n"


def start(saboteur: Saboteur) -> str:
    """What a row begins with: all of it that does not come from a run."""
    return f"| {saboteur.name} | {saboteur.defect} | `{_spelled(saboteur)}` |"


def _spelled(saboteur: Saboteur) -> str:
    return next(str(promise) for promise in saboteur.day.guarantees if isinstance(promise, saboteur.found_by))


def _mistake(number: int, saboteurs: Sequence[Saboteur]) -> str:
    mistake, by = PUBLISHED[number]
    names = ", ".join(s.name for s in saboteurs if number in s.published)
    return f"| {number} | {mistake} | {by} | {names or ELSEWHERE.get(number, 'nowhere yet')} |"


def main() -> None:
    """Runs the self-test and writes the page, whatever it found."""
    console = Console()
    done = []
    for trial in trials(SABOTEURS, range(1, SEEDS + 1), jobs=JOBS):
        done.append(trial)
        if len(done) % len(SABOTEURS) == 0:
            console.print(f"{len(done)} of {len(SABOTEURS) * SEEDS}")
    found = rows(SABOTEURS, done)
    PAGE.write_text(page(found, SEEDS))
    console.print(summary(found, SEEDS))


if __name__ == "__main__":
    main()

"""The command line: `stormproof run`, `list`, `replay`, `campaign`, `selftest`, `explore`, `clean` and `toxiproxy`.

Exit status: 0 every guarantee held, 1 one was broken, 2 one could not be judged or the run could not be made.
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Annotated

import pytest
import typer
from rich.console import Console

from harness.live import Live
from harness.proxy.commands import toxiproxy

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Starts a fleet of gRPC servers, breaks it on purpose, and proves what a client's policies promise.",
)
app.add_typer(toxiproxy, name="toxiproxy")

HELD, BROKEN, UNKNOWN = 0, 1, 2

FleetOption = Annotated[
    str, typer.Option("--fleet", help="Where scenarios run: local, sim (in virtual time) or docker.")
]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="What every chance of the run is drawn from.")]
ReportOption = Annotated[
    Path | None, typer.Option("--report", metavar="DIR", help="Write report.json, .html, .md, junit.xml there.")
]


@app.command()
def run(
    suites: Annotated[list[Path], typer.Argument(help="Folders or files with suites.", metavar="SUITES...")],
    fleet: FleetOption = "local",
    seed: SeedOption = 1,
    report: ReportOption = None,
    only: Annotated[str, typer.Option("-k", help="Only tests whose names match, as in pytest.")] = "",
    marked: Annotated[str, typer.Option("-m", help="Only tests with this marker, as in pytest.")] = "",
) -> None:
    """Run suites, with live progress, and tell one verdict per scenario."""
    for path in suites:
        _must_exist(path)
    arguments = [str(path) for path in suites] + (["-k", only] if only else []) + (["-m", marked] if marked else [])
    raise typer.Exit(_pytest(arguments, fleet, seed, report))


@app.command()
def replay(
    test: Annotated[
        str, typer.Argument(help='One test, as a report names it: "suites/test_slow_server.py::test_x[y]".')
    ],
    fleet: FleetOption = "local",
    seed: SeedOption = 1,
    report: ReportOption = None,
    of: Annotated[
        Path | None, typer.Option("--of", metavar="REPORT", help="A report.json: take fleet and seed from there.")
    ] = None,
) -> None:
    """Run one test again on the same day: the same arrivals and targets."""
    _must_exist(Path(test.split("::")[0]))
    if of is not None:
        fleet, seed = _as_reported(of)
    raise typer.Exit(_pytest([test], fleet, seed, report))


@app.command()
def campaign(
    suites: Annotated[list[Path], typer.Argument(help="Folders or files with suites.", metavar="SUITES...")],
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="How many seeds: as many days for each scenario.")] = 100,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The first of them.")] = 1,
    jobs: Annotated[int | None, typer.Option("--jobs", min=1, help="Processes at once (default: one a core).")] = None,
    dask: Annotated[
        str,
        typer.Option("--dask", metavar="ADDRESS", help="A Dask scheduler whose workers do it, as tcp://10.0.0.1:8786."),
    ] = "",
    report: Annotated[
        Path | None, typer.Option("--report", metavar="DIR", help="Write campaign.json and campaign.md there.")
    ] = None,
    only: Annotated[str, typer.Option("-k", help="Only tests whose names match, as in pytest.")] = "",
) -> None:
    """Run suites on many seeds in virtual time, on all cores or on a Dask cluster, and tell how often what was broken."""
    from harness.campaign.show import run as run_campaign

    for path in suites:
        _must_exist(path)
    paths = tuple(map(str, suites))
    raise typer.Exit(run_campaign(paths, seeds=seeds, first=seed, only=only, jobs=jobs, address=dask, folder=report))


@app.command()
def clean(
    everything: Annotated[
        bool, typer.Option("--all", help="Also what belongs to runs that may be alive (in containers, say).")
    ] = False,
) -> None:
    """Remove the containers, networks and volumes that killed runs of --fleet=docker have left."""
    from harness.fleet.docker.clean import clean as clean_up
    from harness.fleet.errors import FleetError

    try:
        swept = clean_up(everything=everything)
    except FleetError as error:
        print(f"stormproof: {error}", file=sys.stderr)
        raise typer.Exit(UNKNOWN) from error
    for line in [*(f"removed {name}" for name in swept.removed), *(f"put back {name}" for name in swept.restored)]:
        print(line)
    if swept.spared:
        print(f"left alone: {len(swept.spared)} runs that may be alive; --all removes what they have, too")
    if not (swept.removed or swept.restored or swept.spared):
        print("nothing of ours is left")


@app.command("list")
def list_(
    suites: Annotated[list[Path], typer.Argument(help="Folders or files with suites.", metavar="SUITES...")],
) -> None:
    """List the tests of suites, and what each promises."""
    for path in suites:
        _must_exist(path)
    found = _Collected()
    status = pytest.main([*QUIET, "-o", "addopts=", "--collect-only", *map(str, suites)], plugins=[found])
    raise typer.Exit(found.tell(console(), int(status)))


@app.command()
def selftest(
    seeds: Annotated[int, typer.Option(min=1, max=1000, help="With how many seeds each one runs.")] = 20,
    only: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Only this saboteur; may be repeated.")] = None,
    jobs: Annotated[int, typer.Option(min=1, max=64, help="Processes that run at once.")] = 2,
) -> None:
    """Prove the guarantees themselves: each must find the clients with its planted defect, and pass their clean twins."""
    from harness.selftest import chosen, show

    try:
        saboteurs = chosen(only or ())
    except ValueError as error:
        print(f"stormproof: {error}", file=sys.stderr)
        raise typer.Exit(UNKNOWN) from error
    try:
        good = show(console(), saboteurs, seeds, jobs)
    except (Exception, KeyboardInterrupt) as error:  # of whatever it was made: nothing was proved, and nothing refuted
        reason = "stopped by a signal" if isinstance(error, KeyboardInterrupt) else f"{type(error).__name__}: {error}"
        print(f"stormproof: the self-test could not be run to its end: {reason}", file=sys.stderr)
        raise typer.Exit(UNKNOWN) from error
    raise typer.Exit(HELD if good else BROKEN)


@app.command()
def explore(
    minutes: Annotated[float, typer.Option(min=0.01, max=10_000, help="How long to look.")] = 1.0,
    guarantee: Annotated[
        list[str] | None,
        typer.Option(
            help="What to break: a name, or with bounds 'Fast(p99=0.5)'. Default: all that the client promises."
        ),
    ] = None,
    client: Annotated[
        str | None,
        typer.Option(metavar="MODULE:NAME", help="Whose promises: a Client or Scenario. Default: any of ours."),
    ] = None,
    seed: SeedOption = 1,
    corpus: Annotated[Path, typer.Option(metavar="DIR", help="What was found is kept there, and met first.")] = Path(
        "stormproof-corpus"
    ),
    local: Annotated[bool, typer.Option(help="Try what was found on real servers, too.")] = True,
) -> None:
    """Look for a bad day in virtual time: one on which a promise breaks. Exit status: 1 if there is one, else 0."""
    from harness.explore.command import Wish
    from harness.explore.command import explore as carry_out

    wish = Wish(
        seconds=minutes * 60, seed=seed, guarantees=tuple(guarantee or ()), client=client, corpus=corpus, local=local
    )
    raise typer.Exit(carry_out(wish, console()))


def main() -> None:
    """The console script. SIGTERM ends a run like Ctrl-C: everything is stopped, and what was found so far is kept."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    app()


# Plugins of other people stay out: a run of suites is ours from its first line to its last.
QUIET = ["-p", "no:terminal", "-p", "no:cacheprovider", "-p", "no:faulthandler", "-p", "no:logging"]


def _pytest(arguments: list[str], fleet: str, seed: int, report: Path | None) -> int:
    from harness.fleet.base import open_fleet
    from harness.fleet.errors import FleetError

    try:
        open_fleet(fleet)  # only by its name: nothing is started, and no report of before is written over
    except FleetError as error:
        print(f"stormproof: {error}", file=sys.stderr)
        return UNKNOWN
    options = [f"--fleet={fleet}", f"--seed={seed}", *([] if report is None else [f"--report={report}"])]
    live = Live(console())
    status = pytest.main([*QUIET, "-o", "addopts=", *options, *arguments], plugins=[live])
    return live.finish(int(status))


def console() -> Console:
    """The terminal; a log or a pipe is taken to be wide, so that tables keep their words."""
    console = Console()
    return console if console.is_terminal else Console(width=160)


class _Collected:
    """Gathers what pytest collects."""

    def __init__(self) -> None:
        self._items: list[pytest.Item] = []
        self._errors: list[str] = []

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._items = session.items

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._errors.append(str(report.longrepr))

    def tell(self, console: Console, status: int) -> int:
        from rich.table import Table

        from harness.pytest_plugin import _doc

        for error in self._errors:
            console.print(error, style="red", highlight=False, markup=False)
        table = Table("test", "promise", box=None, pad_edge=False)
        for item in self._items:
            table.add_row(item.nodeid, _doc(item))
        if self._items:
            console.print(table, highlight=False, markup=False)
        elif not self._errors:
            print(NOTHING, file=sys.stderr)
        return UNKNOWN if self._errors or not self._items or status not in (0, 5) else HELD


NOTHING = "stormproof: no scenarios found there: a suite is a file test_*.py with tests that use the fixture `run`"


def _must_exist(path: Path) -> None:
    if not path.exists():
        print(f"stormproof: there is no {path}; give a folder or a file with suites", file=sys.stderr)
        raise typer.Exit(UNKNOWN)


def _as_reported(path: Path) -> tuple[str, int]:
    """Fleet and seed of a report.json. One of another version is told: the same seed may be another day now."""
    from harness.report.model import _version

    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        fleet, seed, version = str(told["fleet"]), int(told["seed"]), str(told["stormproof"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(
            f"stormproof: --of: {path} is no report.json of stormproof; give one that --report wrote", file=sys.stderr
        )
        raise typer.Exit(UNKNOWN) from error
    if version != _version():
        print(
            f"stormproof: {path} was written by stormproof {version}, and this is {_version()}: "
            f"seed {seed} may be another day here",
            file=sys.stderr,
        )
    return fleet, seed


if __name__ == "__main__":
    main()

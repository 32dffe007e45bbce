"""The pytest plugin: fixture `run` for scenarios, fixture `fleet` for tests that assert by hand, and their options.

It is loaded wherever stormproof is installed, so it imports the harness only when a test asks for it. A test decides
itself what it expects: where it passes although a guarantee was broken, the report says "held, as expected".
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from harness.fleet.base import Fleet, Progress
    from harness.fleet.deployment import Deployment
    from harness.runner import Result, Told
    from harness.scenario import Scenario, Servers

SESSION = pytest.StashKey["Session"]()


class Session:
    """What the tests of one pytest session share: the fleet, and the results so far."""

    def __init__(self, config: pytest.Config) -> None:
        self.fleet_name: str = config.getoption("--fleet")
        self.seed: int = config.getoption("--seed")
        self.folder: Path | None = config.getoption("--report")
        self.started = datetime.now(UTC)
        self.told: list[Told] = []
        self.fleet_error = ""
        self.watch: Callable[[Progress], None] = lambda _: None
        self._fleet: Fleet | None = None
        self.proxy = "none started"
        self._in_test: list[Result] = []

    def fleet(self) -> Fleet:
        """The fleet, started when first asked for. FleetError stops the session: the next test would fare no better."""
        from harness.fleet.base import open_fleet
        from harness.fleet.errors import FleetError

        if self._fleet is None:
            try:
                fleet = open_fleet(self.fleet_name)
                fleet.__enter__()
            except FleetError as error:
                self.fleet_error = str(error)
                raise
            self._fleet = fleet
            self.proxy = fleet.proxy
        return self._fleet

    def run(self, scenario: Scenario, test: str) -> Result:
        """One run of one scenario, within `test`."""
        from harness.fleet.errors import FleetError
        from harness.runner import replay_command, run

        again = replay_command(self.fleet_name, self.seed, test)
        try:
            result = run(scenario, self.fleet(), seed=self.seed, name=short(test), again=again, watch=self.watch)
        except FleetError as error:
            self.fleet_error = str(error)
            raise
        self._in_test.append(result)
        return result

    def tested(self, doc: str, failure: str | None) -> None:
        """A test is over: what it ran goes into the report."""
        from harness.report import histories
        from harness.runner import Told

        for result in self._in_test:
            told = Told(result=result, doc=doc, verdicts=_as_expected(result, failure))
            self.told.append(told)
            if self.folder is not None:  # a run that is killed later leaves what it knew
                self.folder.mkdir(parents=True, exist_ok=True)
                histories.write(result.history, self.folder / "history" / f"{len(self.told):03d}.partial.jsonl.gz")
        self._in_test = []

    def report(self) -> Any:
        """Everything so far as one report."""
        from harness.runner import report_on

        return report_on(self.told, fleet=self.fleet_name, proxy=self.proxy, seed=self.seed, started=self.started)

    def close(self) -> None:
        """Stops the fleet, and writes the report if one was asked for."""
        if self._fleet is not None:
            self._fleet.__exit__(None, None, None)
            self._fleet = None
        if self.folder is not None and (self.told or self.fleet_error):
            from harness.runner import write_report

            write_report(self.report(), self.told, self.folder)
            for partial in (self.folder / "history").glob("*.partial.jsonl.gz"):
                partial.unlink()


def _as_expected(result: Result, failure: str | None) -> tuple[Any, ...]:
    """The verdicts, seen by a test that passed or failed with `failure`."""
    from harness.guarantees.base import Verdict

    if failure is None:
        return tuple(
            v if v.verdict == "held" else replace(v, verdict="held", why=(f"{v.verdict}, as this test expects", *v.why))
            for v in result.verdicts
        )
    if result.verdict != "held":
        return result.verdicts
    said = Verdict(guarantee="the test itself", verdict="broken", measured=failure[:300], bound="passes")
    return (*result.verdicts, said)


def _address(item: pytest.Item) -> str:
    """How to name this test on a command line in the folder where pytest was started."""
    file, _, rest = item.nodeid.partition("::")
    return f"{os.path.relpath(item.path)}::{rest}" if rest else file


def short(test: str) -> str:
    """A test's name without its folders: "test_slow_server.py::test_x[y]" """
    return test.rsplit("/", 1)[-1]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("stormproof")
    group.addoption("--fleet", default="local", help="where scenarios run: local (default)")
    group.addoption("--seed", type=_seed, default=1, help="what every chance of a run is drawn from (default 1)")
    group.addoption(
        "--report", type=Path, default=None, metavar="DIR", help="write report.json, .html, .md and junit.xml there"
    )


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise pytest.UsageError(f"--seed must be a whole number, 0 or more; got {text!r}")
    return int(text)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "servers(servers): the servers that the fixture `fleet` starts")
    config.stash[SESSION] = Session(config)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    if call.when == "call":
        failure = str(call.excinfo.value) if call.excinfo is not None else None
        item.config.stash[SESSION].tested(_doc(item), failure)
    return report


def _doc(item: pytest.Item) -> str:
    text = getattr(getattr(item, "obj", None), "__doc__", None) or ""
    return " ".join(text.split("\n\n")[0].split())


def pytest_sessionfinish(session: pytest.Session) -> None:
    session.config.stash[SESSION].close()


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    session = config.stash[SESSION]
    if session.told:
        told = f"fleet {session.fleet_name}, {session.proxy}, seed {session.seed}"
        terminalreporter.write_line(f"stormproof: {len(session.told)} scenarios, {told}")
    if session.folder is not None and session.told:
        terminalreporter.write_line(f"stormproof: report in {session.folder / 'report.html'}")


@pytest.fixture
def run(request: pytest.FixtureRequest) -> Callable[[Scenario], Result]:
    """Runs a scenario on the session's fleet, and returns its `Result`: `run(SLOW_SERVER).check()`."""
    session: Session = request.config.stash[SESSION]
    return lambda scenario: _stopping(request, lambda: session.run(scenario, _address(request.node)))


@pytest.fixture
def fleet(request: pytest.FixtureRequest) -> Iterator[Deployment]:
    """Three Hello servers behind Toxiproxy, for a test that asserts by hand: `fleet.addresses`, `fleet.fault(...)`.

    A marker changes them: `@pytest.mark.servers(Servers(5, service_time=0.01))`.
    """
    from harness.fleet.local import LocalFleet
    from harness.scenario import Servers

    session: Session = request.config.stash[SESSION]
    marker = request.node.get_closest_marker("servers")
    servers: Servers = marker.args[0] if marker else Servers(3)
    local = _stopping(request, session.fleet)
    if not isinstance(local, LocalFleet):
        pytest.skip(
            f"the fixture fleet needs real servers; run with --fleet=local instead of --fleet={session.fleet_name}"
        )
    with local.deploy(servers) as deployment:
        yield deployment


def _stopping(request: pytest.FixtureRequest, act: Callable[[], Any]) -> Any:
    """What `act` returns. A fleet that cannot work ends the whole session with its one message."""
    from harness.fleet.errors import FleetError

    try:
        return act()
    except FleetError as error:
        request.session.shouldstop = str(error)
        pytest.fail(str(error), pytrace=False)

"""The pytest plugin: fixture `run` for scenarios, fixture `fleet` for tests that assert by hand, and their options.

It is loaded wherever stormproof is installed, so it imports the harness only when a test asks for it. A test decides
itself what it expects: where it looks at `result.broken` and passes, the report says "held, as this test expects". A
result that nobody looked at counts as it is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from harness.fleet.base import Fleet, Progress
    from harness.fleet.deployment import Deployment
    from harness.guarantees.base import Verdict
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
        self.by_hand = 0  # tests that used the fixture `fleet`
        self.unseen: list[str] = []  # what came of scenarios that their tests never looked at
        self.fleet_error = ""
        self.report_error = ""
        self.watch: Callable[[Progress], None] = lambda _: None
        self._fleet: Fleet | None = None
        self.proxy = "none started"
        self._in_test: list[Result] = []

    def fleet(self) -> Fleet:
        """The fleet, started when first asked for. FleetError if it cannot work."""
        from harness.fleet.base import open_fleet

        if self._fleet is None:
            fleet = open_fleet(self.fleet_name)
            fleet.__enter__()
            self._fleet = fleet
            self.proxy = fleet.proxy
        return self._fleet

    def run(self, scenario: Scenario, test: str) -> Result:
        """One run of one scenario, within `test`. FleetError if it could not begin."""
        from harness.runner import replay_command, run
        from harness.scenario import Scenario

        if not isinstance(scenario, Scenario):
            raise TypeError(f"run takes a Scenario, as in run(Scenario(servers=Servers(3), ...)); got {scenario!r}")
        again = replay_command(self.fleet_name, self.seed, test)
        result = run(scenario, self.fleet(), seed=self.seed, name=short(test), again=again, watch=self.watch)
        self._in_test.append(result)
        return result

    def tested(self, doc: str, *, passed: bool, expected: bool = False, failure: str = "") -> None:
        """A test is over: what it ran goes into the report. One that neither `passed` nor has a `failure` was left early.

        `expected`: a break was expected without a look at the result (an xfail).
        """
        if not self._in_test:
            return
        from harness.report import histories
        from harness.runner import Told

        for result, verdicts in zip(self._in_test, _seen(self._in_test, passed, expected, failure), strict=True):
            self.told.append(Told.of(result, doc, verdicts))
            if passed and any(verdict.verdict != "held" for verdict in verdicts):
                self.unseen.append(
                    f"{result.message()}\n  the test passed without a look at this: end it with run(...).check()"
                )
            if self.folder is not None:  # a run that is killed later leaves what it knew
                with suppress(OSError):  # told at the end, when the report cannot be written either
                    histories.write(result.history, self.folder / "history" / f"{len(self.told):03d}.partial.jsonl.gz")
        self._in_test = []

    def missing(self, name: str, doc: str, why: str) -> None:
        """A test that should have run a scenario came to none: the report must not look as if it had held."""
        from harness.runner import Told

        first = (why.strip().splitlines() or ["no reason was given"])[-1]
        self.told.append(Told.missing(name, doc, first[:500], fleet=self.fleet_name, proxy=self.proxy, seed=self.seed))

    @property
    def in_test(self) -> bool:
        """Whether the test under way has run a scenario."""
        return bool(self._in_test)

    def report(self) -> Any:
        """Everything so far as one report."""
        from harness.runner import report_on

        return report_on(self.told, fleet=self.fleet_name, proxy=self.proxy, seed=self.seed, started=self.started)

    def close(self, interrupted: str = "") -> None:
        """Stops the fleet, and writes the report if one was asked for. `interrupted` says why not all tests ran."""
        self.tested("", passed=False)  # of a test that a signal ended
        if interrupted and self.told:
            self.missing("the rest of the tests", "", interrupted)
        if self._fleet is not None:
            from harness.fleet.errors import FleetError

            fleet, self._fleet = self._fleet, None
            try:
                fleet.__exit__(None, None, None)
            except FleetError as error:  # of what could not be stopped people must hear, whatever held
                self.report_error = f"stormproof: {error}"
        if self.folder is not None and (self.told or self.fleet_error):
            from harness.runner import write_report

            try:
                write_report(self.report(), self.told, self.folder)
                for partial in (self.folder / "history").glob("*.partial.jsonl.gz"):
                    partial.unlink()
            except OSError as error:
                self.report_error = (
                    f"stormproof: the report could not be written to {self.folder}: {error.strerror or error}; "
                    "give --report a folder that can be written to, with room"
                )


def _seen(results: list[Result], passed: bool, expected: bool, failure: str) -> list[tuple[Verdict, ...]]:
    """The verdicts of the scenarios that one test ran, as that test sees them."""
    from harness.guarantees.base import Verdict

    if passed:  # what a test never looked at it cannot have expected
        return [
            tuple(map(_as_expected, result.verdicts)) if result.asked or expected else result.verdicts
            for result in results
        ]
    verdicts = [result.verdicts for result in results]
    if failure and all(result.verdict == "held" for result in results):
        said = Verdict(guarantee="the test itself", verdict="broken", measured=failure[:300], bound="passes")
        verdicts[-1] = (*verdicts[-1], said)
    return verdicts


def _as_expected(verdict: Verdict) -> Verdict:
    if verdict.verdict == "held":
        return verdict
    return replace(verdict, verdict="held", why=(f"{verdict.verdict}, as this test expects", *verdict.why))


def _address(item: pytest.Item) -> str:
    """How to name this test on a command line in the folder where pytest was started."""
    file, _, rest = item.nodeid.partition("::")
    return f"{os.path.relpath(item.path)}::{rest}" if rest else file


def short(test: str) -> str:
    """A test's name without its folders: "test_slow_server.py::test_x[y]" """
    file, colons, rest = test.partition("::")
    return file.rsplit("/", 1)[-1] + colons + rest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("stormproof")
    group.addoption(
        "--fleet",
        default="local",
        help="where scenarios run: local (default), sim or docker",
    )
    group.addoption("--seed", type=_seed, default=1, help="what every chance of a run is drawn from (default 1)")
    group.addoption(
        "--report", type=_folder, default=None, metavar="DIR", help="write report.json, .html, .md and junit.xml there"
    )


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise pytest.UsageError(f"--seed must be a whole number, 0 or more; got {text!r}")
    return int(text)


def _folder(text: str) -> Path:
    if Path(text).exists() and not Path(text).is_dir():
        raise pytest.UsageError(f"--report must be a folder, which need not be there yet; {text} is none")
    return Path(text)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "servers(servers): the servers that the fixture `fleet` starts")
    config.addinivalue_line("markers", "docker: holds on --fleet=docker, too, where CI runs it")
    config.stash[SESSION] = Session(config)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    # What a fixture ran is told with its test, unless it comes to none.
    if call.when != "setup" or not report.passed:
        failure = (str(call.excinfo.value) if call.excinfo else "") or report.longreprtext
        expected = hasattr(report, "wasxfail")
        session = item.config.stash[SESSION]
        if call.when != "teardown" and not session.in_test and "run" in getattr(item, "fixturenames", ()):
            if report.failed:
                session.missing(short(_address(item)), _doc(item), f"the test came to no result: {failure}")
            elif report.passed and call.when == "call" and not expected:
                session.missing(short(_address(item)), _doc(item), "the test ran no scenario: call its fixture run")
        passed = report.passed or expected
        session.tested(_doc(item), passed=passed, expected=expected, failure=failure if report.failed else "")
    return report


def _doc(item: pytest.Item) -> str:
    text = getattr(getattr(item, "obj", None), "__doc__", None) or ""
    return " ".join(text.split("\n\n")[0].split())


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A report that cannot be written makes status 2: who asked for it must not take its absence for success."""
    ours = session.config.stash[SESSION]
    stopped = exitstatus == pytest.ExitCode.INTERRUPTED
    ours.close(f"stopped after {session.testscollected} were found: not all ran" if stopped else "")
    if ours.report_error:
        session.exitstatus = pytest.ExitCode.INTERRUPTED


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    session = config.stash[SESSION]
    for message in (*session.unseen, *filter(None, [session.report_error])):
        terminalreporter.write_line(message, yellow=True)
    for t in session.told:
        for why in t.spoiled:
            terminalreporter.write_line(f"{t.name} was run again: {why}", yellow=True)
    if session.told:
        told = f"fleet {session.fleet_name}, {session.proxy}, seed {session.seed}"
        terminalreporter.write_line(f"stormproof: {len(session.told)} scenarios, {told}")
    if session.folder is not None and session.told and not session.report_error:
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
    from harness.fleet.real import RealFleet
    from harness.scenario import Servers

    session: Session = request.config.stash[SESSION]
    marker = request.node.get_closest_marker("servers")
    servers: Servers = marker.args[0] if marker else Servers(3)
    real = _stopping(request, session.fleet)
    if not isinstance(real, RealFleet):
        pytest.skip(
            f"the fixture fleet needs real servers; run with --fleet=local instead of --fleet={session.fleet_name}"
        )
    if reason := real.refuses(servers):
        pytest.skip(reason)
    session.by_hand += 1
    with ExitStack() as stack:
        yield _stopping(request, lambda: stack.enter_context(real.deploy(servers, seed=session.seed)))


def _stopping(request: pytest.FixtureRequest, act: Callable[[], Any]) -> Any:
    """What `act` returns. A fleet that cannot work ends the whole session: the next test would fare no better."""
    from harness.fleet.errors import FleetError

    try:
        return act()
    except FleetError as error:
        request.config.stash[SESSION].fleet_error = str(error)
        request.session.shouldstop = "stormproof: the fleet cannot work"
        raise pytest.fail.Exception(str(error), pytrace=False) from None

"""What a terminal shows while suites run: one line that lives, one line for each test that is over, a table at the end."""

from __future__ import annotations

import time
from typing import Any

import pytest
from rich.console import Console
from rich.live import Live as RichLive
from rich.table import Table
from rich.text import Text

from harness.fleet.base import Progress
from harness.guarantees.base import Word, overall
from harness.pytest_plugin import SESSION, Session, short

STYLE = {"held": "green", "broken": "red", "unknown": "yellow"}
SIGN = {"held": "✓", "broken": "✗", "unknown": "?"}


class Live:
    """A pytest plugin in place of pytest's own terminal output."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = RichLive(console=console, refresh_per_second=8, transient=True)
        self._session: Session | None = None
        self._count = self._done = 0
        self._errors: list[str] = []
        self._failures: list[str] = []
        self._words: list[Word] = []
        self._shown = 0.0

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        self._session = session.config.stash[SESSION]
        self._session.watch = self._progress

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._count = len(session.items)
        if self._count:
            self._live.start()

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._errors.append(str(report.longrepr))

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._done += 1
        self._live.update(Text(f"  {self._done}/{self._count} {short(nodeid)}: starting the fleet", style="dim"))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._failures.append(str(report.longrepr) if report.when != "call" else self._plain(report))
        if report.skipped and isinstance(report.longrepr, tuple):
            self._line("unknown", f"{short(report.nodeid)} skipped: {report.longrepr[2]}")
        elif report.when == "call":
            self._over(self._word(report), f"{short(report.nodeid)}  {report.duration:.1f} s")
        elif report.failed:
            self._over("unknown", short(report.nodeid))

    def pytest_sessionfinish(self) -> None:
        self._live.stop()

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        if excinfo.type is KeyboardInterrupt:  # pytest's own interruptions have been told already
            self._errors.append("stopped by a signal; what was found so far is kept")

    def finish(self, status: int) -> int:
        """Prints what there is to say at the end, and returns the exit status."""
        self._live.stop()
        session = self._session
        for text in (*self._errors, *self._failures):
            self._console.print(Text(text.strip() + "\n"), soft_wrap=True)
        told = session.told if session is not None else []
        for message in session.unseen if session is not None else ():
            self._console.print(Text(message + "\n"), soft_wrap=True)
        if told:
            self._console.print(self._table())
        if session is not None and session.fleet_error and not self._failures:
            self._console.print(Text(session.fleet_error))
        if session is not None and session.report_error:
            self._console.print(Text(session.report_error), soft_wrap=True)
        return self._status(status)

    def _status(self, status: int) -> int:
        from harness.cli import BROKEN, HELD, NOTHING, UNKNOWN

        session = self._session
        if self._errors or session is None or session.fleet_error or (status in (2, 3, 4) and not session.report_error):
            return UNKNOWN
        if not session.told and not session.by_hand:
            if not self._failures:
                self._console.print(Text(NOTHING))
            return UNKNOWN
        verdict = overall([*self._words, *([session.report().verdict] if session.told else [])])
        self._console.print(self._last_line(verdict))
        if session.report_error:
            return UNKNOWN
        return {"held": HELD, "broken": BROKEN, "unknown": UNKNOWN}[verdict]

    def _last_line(self, verdict: Word) -> Text:
        session = self._session
        assert session is not None
        line = Text(f"{SIGN[verdict]} {verdict}", style=f"bold {STYLE[verdict]}")
        by_hand = f", {session.by_hand} tests by hand" if session.by_hand else ""
        line.append(
            f"  {len(session.told)} scenarios{by_hand}, fleet {session.fleet_name}, {session.proxy}, seed {session.seed}",
            style="default",
        )
        if session.folder is not None and not session.report_error:
            line.append(f", report in {session.folder / 'report.html'}", style="default")
        return line

    def _word(self, report: pytest.TestReport) -> Word:
        """What a test says that has run; one that failed although its scenarios held is broken itself."""
        told = [t for t in self._session.told if t.name == short(report.nodeid)] if self._session else []
        words = [verdict.verdict for t in told for verdict in t.verdicts]
        if report.passed or hasattr(report, "wasxfail"):
            return overall(words) if words else "held"  # a pass that never looked at its result is none
        return "unknown" if told and "broken" not in words else "broken"

    def _over(self, word: Word, text: str) -> None:
        self._words.append(word)
        self._line(word, text)

    def _line(self, word: Word, text: str) -> None:
        self._console.print(Text(f"{SIGN[word]} {text}", style=STYLE[word]))

    def _plain(self, report: pytest.TestReport) -> str:
        """The message of a failed check as it is; of anything else, what pytest says."""
        crash = getattr(report.longrepr, "reprcrash", None)
        message = getattr(crash, "message", "")
        return (
            message.split("harness.runner.Broken: ", 1)[-1]
            if "harness.runner.Broken" in message
            else str(report.longrepr)
        )

    def _progress(self, progress: Progress) -> None:
        if time.monotonic() - self._shown < 0.1:
            return
        self._shown = time.monotonic()
        text = Text(f"  {self._done}/{self._count} {progress.name}  ", style="bold")
        text.append(f"{max(0.0, progress.at):4.1f} of {progress.seconds:.0f} s  ", style="cyan")
        text.append(f"{progress.ok} ok", style="green")
        text.append(
            f" {progress.fail} failed {progress.info} unknown", style="red" if progress.fail + progress.info else "dim"
        )
        text.append("".join(f"  ⚡ {fault}" for fault in progress.faults), style="yellow")
        self._live.update(text)

    def _table(self) -> Any:
        assert self._session is not None
        table = Table(
            "scenario", "verdict", "calls", "ok", "attempts/call", "p50", "p99", "guarantees", box=None, pad_edge=False
        )
        table.columns[0].overflow = "fold"
        for column in table.columns[2:7]:
            column.justify = "right"
        for scenario in self._session.report().scenarios:
            calls = scenario.calls or 1
            held = sum(1 for guarantee in scenario.guarantees if guarantee.verdict == "held")
            table.add_row(
                Text(scenario.name),
                Text(f"{SIGN[scenario.verdict]} {scenario.verdict}", style=STYLE[scenario.verdict]),
                str(scenario.calls),
                f"{scenario.outcomes.ok / calls:.2%}",
                f"{scenario.attempts / calls:.2f}",
                _milliseconds(scenario.latency.p50),
                _milliseconds(scenario.latency.p99),
                f"{held} of {len(scenario.guarantees)} held",
            )
        return table


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.1f} ms"

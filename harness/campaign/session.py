"""The program that does a part: reads it from its standard input, runs its tests for each seed, writes what it found.

One pytest session collects the tests once and then runs all of them again for each seed, on `--fleet=sim`. The fixture
`run` draws everything from the session's seed, so to set that is all there is to a further seed. Fixtures of any scope are
torn down between two seeds. It ends when its standard input does: so it never outlives whoever started it.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import Counter
from typing import Any

import msgspec
import pytest

from harness.campaign.part import ITSELF, Bad, Found, Part, Row
from harness.cli import QUIET
from harness.guarantees.base import Word
from harness.pytest_plugin import SESSION, short
from harness.runner import Told, replay_command

#: Lines of a verdict that are kept.
LINES = 3


class Seeds:
    """The pytest plugin that runs the collected tests for each seed of `part`."""

    def __init__(self, part: Part) -> None:
        self._part = part
        self._counts: dict[tuple[str, str], Counter[Word]] = {}
        self._bad: dict[tuple[str, str], list[Bad]] = {}
        self._left_out: dict[str, str] = {}
        self._errors: list[str] = []
        self._failure: str | None = None  # of the test that runs now
        self._runs = 0
        self._seconds = 0.0

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._errors.append(str(report.longrepr))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """In place of pytest's own loop: all tests, for each seed."""
        began = time.monotonic()
        for seed in range(self._part.first, self._part.first + self._part.count) if not self._errors else ():
            session.config.stash[SESSION].seed = seed
            for item, following in zip(session.items, [*session.items[1:], None], strict=True):
                self._one(session, item, following, seed)
                if session.shouldstop or session.shouldfail:
                    self._errors.append(str(session.shouldstop or session.shouldfail))
                    return True
        self._seconds = time.monotonic() - began
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and isinstance(report.longrepr, tuple) and not hasattr(report, "wasxfail"):
            self._left_out[short(report.nodeid)] = report.longrepr[2].removeprefix("Skipped: ")
        if report.failed:
            self._failure = str(report.longrepr).strip() or "it failed"

    def found(self, where: str) -> Found:
        """What all of it came to."""
        rows = tuple(
            Row(
                test=test, guarantee=guarantee, held=counts["held"], broken=counts["broken"],
                unknown=counts["unknown"], bad=tuple(self._bad.get((test, guarantee), ())),
            )
            for (test, guarantee), counts in self._counts.items()
        )  # fmt: skip
        return Found(
            where=where, seconds=self._seconds, runs=self._runs, rows=rows, left_out=self._left_out,
            errors=tuple(self._errors),
        )  # fmt: skip

    def _one(self, session: pytest.Session, item: pytest.Item, following: pytest.Item | None, seed: int) -> None:
        told: list[Told] = session.config.stash[SESSION].told
        self._failure = None
        session.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        name = short(item.nodeid)
        again = replay_command("sim", seed, item.nodeid)
        for number, result in enumerate(told, start=1):
            again = result.again or again
            self._runs += bool(result.verdicts)
            for verdict in result.verdicts:
                which = name if number == 1 else f"{name} (its scenario {number})"
                self._count(
                    which, verdict.guarantee, verdict.verdict, seed, verdict.measured, verdict.why, again
                )  # what the test asserts by hand is among them, where it failed
        words = [verdict.verdict for result in told for verdict in result.verdicts]
        came_to_nothing = [problem for result in told if not result.verdicts for problem in result.history.problems]
        if came_to_nothing:
            self._count(name, ITSELF, "unknown", seed, "not judged", came_to_nothing, again)
        elif self._failure is not None and all(word == "held" for word in words):
            self._count(name, ITSELF, "broken", seed, "it failed", self._failure.splitlines()[-1:], again)
        elif told and not any(verdict.guarantee == ITSELF for result in told for verdict in result.verdicts):
            self._count(name, ITSELF, "held", seed, "", (), again)
        told.clear()  # with the histories

    def _count(self, test: str, guarantee: str, word: Word, seed: int, measured: str, why: Any, again: str) -> None:
        key = (test, guarantee)
        self._counts.setdefault(key, Counter())[word] += 1
        if word != "held":
            bad = Bad(seed=seed, verdict=word, measured=measured, why=tuple(why)[:LINES], again=again)
            self._bad.setdefault(key, []).append(bad)


def do(part: Part, where: str) -> Found:
    """Does `part` in this process."""
    seeds = Seeds(part)
    arguments = [*part.suites, *(["-k", part.only] if part.only else [])]
    options = [*QUIET, "-o", "addopts=", "--fleet=sim", f"--seed={part.first}"]
    pytest.main([*options, *arguments], plugins=[seeds])
    return seeds.found(where)


def _end_with_whoever_waits() -> None:
    """Standard input is held open by who waits for this process; it ends when they do, however that was."""
    while os.read(0, 4096):
        pass
    os._exit(1)


def main() -> None:
    """The program. What tests print goes to standard error, so that nothing comes between."""
    answer = os.dup(1)
    os.dup2(2, 1)
    where, text = sys.stdin.buffer.readline().decode().strip(), sys.stdin.buffer.readline()
    threading.Thread(target=_end_with_whoever_waits, daemon=True).start()
    found = do(msgspec.json.decode(text, type=Part), where)
    with open(answer, "wb") as out:
        out.write(msgspec.json.encode(found))


if __name__ == "__main__":
    main()

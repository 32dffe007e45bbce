"""Suites for the tests of campaigns, and campaigns as a user starts them: by the command line, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[3]

#: A hundred calls; every third seed is a bad day of test_by_hand, and AtMostOnce cannot be kept by Repeats.
SUITE = """
from dataclasses import replace

import pytest

from faults import Reset, during, one
from harness import AtMostOnce, Available, Client, Scenario, Servers, Steady
from stormproof import Policy, Retry, RoundRobin

DAY = Scenario(
    servers=Servers(3),
    client=Client(balancer=RoundRobin(), policy=Policy(timeout=1.0, idempotent=True, retry=Retry(attempts=3))),
    workload=Steady(rate=100, seconds=1),
    faults=[during(0.3, 0.7, Reset(), on=one)],
    guarantees=[Available(0.9)],
)


def test_held(run):
    run(DAY).check()


def test_by_hand(run):
    assert run(DAY).history.seed % 3, "a third of the seeds is bad"


def test_done_twice(run):
    run(replace(DAY, guarantees=[AtMostOnce()])).check()


def test_expects_it(run):
    assert run(replace(DAY, guarantees=[AtMostOnce()])).broken == ["AtMostOnce"]


def test_needs_servers(fleet):
    raise AssertionError
"""


def suite(folder: Path, text: str = SUITE) -> Path:
    """A folder `suites` in `folder`, with one file."""
    (folder / "suites").mkdir()
    (folder / "suites" / "test_days.py").write_text(text)
    return folder


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "harness.cli", "campaign", "suites", *map(str, arguments)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}


def campaign(folder: Path, *arguments: object, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """`stormproof campaign suites` in `folder`, to its end, with a report in its folder `out`."""
    return subprocess.run(
        command("--report=out", *arguments), cwd=folder, env=environment(), capture_output=True, text=True,
        timeout=timeout, check=False,
    )  # fmt: skip


def started(folder: Path, *arguments: object) -> subprocess.Popen[str]:
    """The same, under way."""
    return subprocess.Popen(
        command("--report=out", *arguments), cwd=folder, env=environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def told(folder: Path) -> dict:
    """campaign.json of the campaign in `folder`."""
    return json.loads((folder / "out" / "campaign.json").read_text())


def counts(report: dict) -> dict[tuple[str, str], tuple[int, int, int]]:
    """Held, broken and unknown of each row."""
    return {
        (row["test"].removeprefix("test_days.py::"), row["guarantee"]): (row["held"], row["broken"], row["unknown"])
        for row in report["rows"]
    }


def sessions(parents: list[int]) -> list[psutil.Process]:
    """The processes below `parents` that run a part of a campaign."""
    found = []
    for child in [child for pid in parents for child in psutil.Process(pid).children(recursive=True)]:
        with suppress(psutil.Error):  # it has just ended
            if "harness.campaign.session" in child.cmdline():
                found.append(child)
    return found


def until(happened, what: str, seconds: float = 60.0):
    """Waits for something with a deadline, and says what was missing."""
    deadline = time.monotonic() + seconds
    while not (found := happened()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.02)
    return found


def gone(processes: list[psutil.Process]) -> bool:
    return not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes)

"""SIGKILL at random moments: benchmarks/kill_points.py, in small; and what it looks for."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "kill_points.py"
PROBLEMS = runpy.run_path(str(SCRIPT))["problems"]


@pytest.mark.guarantee(87, 88, 89, 90, 91, 98)
@pytest.mark.parametrize("kind", ["batch", "stream"])
def test_a_client_that_is_killed_again_and_again_gets_all_of_it(kind):
    """30 SIGKILLs, uniform over a run (seed 8): the final result is that of an uninterrupted run, each repeat marked."""
    command = [sys.executable, str(SCRIPT), "--kills=30", "--seed=8", f"--only={kind}"]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 30 kills, " in done.stdout
    assert " 0 failures, " in done.stdout
    assert " 0 repeats, " not in done.stdout  # else no kill ever hit a client in the middle of its work


def given(*numbers: int, marked: tuple[int, ...] = ()) -> list[tuple[int, str, bool]]:
    return [(number, str(number), number in marked) for number in numbers]


@pytest.mark.parametrize(
    ("runs", "says"),
    [
        ([given(0, 1, 2), [], given(2, 3, 4, 5, marked=(2, 3))], "[]"),
        ([given(0, 1, 2), given(4, 5)], "run 1 began at 4, and 3 is lost"),
        ([given(0, 1, 2), given(3, 4)], "the result is not that of an uninterrupted run: 5 of 6"),
        ([given(0, 2, 1, 3, 4, 5)], "run 0 is out of order or has a gap"),
        ([given(0, 1), given(1, 2, 3, 4, 5)], "run 1 repeats without a mark, among [1]"),
        ([given(0, 1, 2), given(0, 1, 2, 3, 4, 5, marked=(0, 1, 2))], "run 1 repeats 3"),
        ([given(0, 1, 2, 3, 4, 5, marked=(0, 1, 2))], "run 0 marks more than 2"),
        ([[*given(0, 1, 2, 3, 4), (5, "7", False)]], "the result is not that of an uninterrupted run"),
    ],
)
def test_what_it_looks_for_it_finds(runs, says):
    """Runs with one planted defect each (of 6 items, at most 2 may come again), and one without."""
    found = PROBLEMS(runs, 6, 2)
    assert says in str(found)

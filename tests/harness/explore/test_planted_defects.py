"""Defects planted into the library's own code are found by the real command: benchmarks/planted_defects.py, in small."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from faults import Errors, Pause, during, named
from harness import Client, NoStrays, RetriesElsewhere, Scenario, Servers, Steady
from harness.explore.source import suite
from harness.fleet.sim.fleet import SimFleet
from harness.runner import run
from stormproof import Hedge, Policy, RandomChoice

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "benchmarks" / "planted_defects.py"
DEFECTS = runpy.run_path(str(SCRIPT))["DEFECTS"]


def test_ten_defects_can_be_planted(tmp_path):
    """Promise: each changes one place of the library as it is now, and what is left is Python."""
    assert len({defect.name for defect in DEFECTS}) == 10
    for defect in DEFECTS:
        folder = tmp_path / defect.name
        defect.plant(folder)
        text = (folder / "stormproof" / defect.file).read_text()
        compile(text, defect.file, "exec")
        assert text != (ROOT / "stormproof" / defect.file).read_text()


@pytest.mark.parametrize(("name", "by"), [("budget", "WithinBudget(attempts="), ("in flight", "Recovers(within=3.0)")])
def test_a_planted_defect_is_found_and_made_small(name, by):
    """Promise: within a minute, and to at most 3 servers with 2 faults. (All ten: the benchmark.)"""
    done = subprocess.run([sys.executable, str(SCRIPT), name], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert by in done.stdout


#: What the search found, for guarantees that no configuration of a client breaks.
KNOWN = {
    "hedge": Scenario(
        servers=Servers(2),
        client=Client(policy=Policy(timeout=1.0, hedge=Hedge(after=0.05))),
        workload=Steady(rate=100, seconds=3.0),
        faults=[during(0.5, 2.0, Pause(), on=named("server-0"))],
        guarantees=[NoStrays()],
    ),
    "elsewhere": Scenario(
        servers=Servers(2),
        client=Client(balancer=RandomChoice(), policy=Policy(timeout=1.0)),
        workload=Steady(rate=100, seconds=3.0),
        faults=[during(0.5, 2.0, Errors(0.3), on=named("server-0"))],
        guarantees=[RetriesElsewhere()],
    ),
}
JUDGE = """
from harness.fleet.sim.fleet import SimFleet
from harness.runner import run
print(*run(BAD_DAY, SimFleet(), seed=1, name="a day").broken)
"""


@pytest.mark.parametrize("name", KNOWN)
def test_a_known_day_tells_the_library_with_a_defect_from_the_one_without(name, tmp_path):
    """Promise: NoStrays and RetriesElsewhere hold of the library as it is, and break as soon as the defect is planted."""
    day = KNOWN[name]
    assert run(day, SimFleet(), seed=1, name="a day").verdict == "held"
    (defect,) = [defect for defect in DEFECTS if defect.name == name]
    defect.plant(tmp_path)
    done = subprocess.run(
        [sys.executable, "-P", "-c", suite(day, about="A day.", seed=1) + JUDGE],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.stdout.split() == [type(day.guarantees[0]).__name__], done.stdout + done.stderr

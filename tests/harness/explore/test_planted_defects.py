"""Defects planted into the library's own code are found by the real command: benchmarks/planted_defects.py, in small."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

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

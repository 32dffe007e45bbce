"""`stormproof explore` as a user meets it: what it prints can be pasted, what it found is met again, its exit status."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness.values import from_json

ROOT = Path(__file__).parents[3]

MINE = """
from harness import Client
from harness.saboteurs import AlwaysFirst
from stormproof import Policy, RoundRobin

FIRST = Client(balancer=AlwaysFirst(), policy=Policy(timeout=1.0))
FAIR = Client(balancer=RoundRobin(), policy=Policy(timeout=1.0))
"""


def explore(
    folder: Path, *arguments: object, before: str = "", timeout: float = 200
) -> subprocess.CompletedProcess[str]:
    """The command, run in `folder` with the clients above, after the Python text `before`."""
    (folder / "mine.py").write_text(MINE)
    command = [sys.executable, "-c", f"{before}\nfrom harness.cli import main; main()", "explore", *map(str, arguments)]
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", "XDG_CACHE_HOME": str(folder / "cache")}
    return subprocess.run(
        command, cwd=folder, env=environ, capture_output=True, text=True, timeout=timeout, check=False
    )


LOOK = ("--client=mine:FIRST", "--guarantee=EvenShare()", "--corpus=corpus", "--seed=3", "--minutes=2", "--no-local")


def pasted(output: str) -> object:
    """The scenario that the printed suite defines, executed as it stands."""
    text = output[output.index('"""EvenShare') :]
    names: dict[str, object] = {}
    exec(text[: text.index("\nEvenShare() is broken")], names)
    return names["BAD_DAY"]


def test_a_bad_day_is_printed_kept_and_met_again(tmp_path):
    """Promise: status 1; the printed suite defines the very day that was kept; the next search meets it before all others."""
    done = explore(tmp_path, *LOOK)
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(r"✗ EvenShare\(\) is broken after \d+\.\d s, on day \d+ \(", done.stdout)
    assert "on a day of 2 servers and 0 faults (stormproof explore)." in done.stdout
    assert "EvenShare() is broken: server-" in done.stdout
    assert "no call at all of 400: server-1" in done.stdout
    (file,) = (tmp_path / "corpus").iterdir()
    kept = json.loads(file.read_text())
    assert (pasted(done.stdout), kept["seed"]) == (from_json(kept["scenario"]), 3)
    assert {path.name for path in tmp_path.iterdir()} - {"cache", "__pycache__"} == {"corpus", "mine.py"}

    again = explore(tmp_path, *LOOK)
    assert again.returncode == 1
    assert f"✗ corpus/{file.name}: still: EvenShare() is broken" in again.stdout
    assert pasted(again.stdout) == pasted(done.stdout)
    assert "looking for a smaller day" not in again.stdout

    kept["stormproof"] = "0.0.1"
    file.write_text(json.dumps(kept))
    other = explore(tmp_path, "--client=mine:FAIR", "--guarantee=EvenShare", "--corpus=corpus", "--minutes=0.01")
    assert other.returncode == 0, other.stdout + other.stderr
    assert f"? corpus/{file.name}: was found by stormproof 0.0.1, schema 1, and this is stormproof" in other.stdout
    assert re.search(r"✓ no bad day among \d+ in \d+ s.*; [\d,]+ calls, seed 1; worst p99 \d", other.stdout)


def test_the_day_is_tried_on_real_servers(tmp_path):
    """Promise: what virtual time found is then run with real processes, and their verdict is told: broken as well.

    On a machine that is too busy for a hundred calls a second, it is told that they could not be made.
    """
    done = explore(tmp_path, *LOOK[:-1])
    assert done.returncode == 1, done.stdout + done.stderr
    told = done.stdout[done.stdout.index(" local (") :]
    assert re.match(r" local \(.*\): broken: server-\d got", told) or "could not keep the rate" in told, done.stdout


@pytest.mark.parametrize(
    ("arguments", "before", "says"),
    [
        (("--guarantee=Fast",), "", "stormproof: --guarantee=Fast: what it asks depends on you; give its bounds"),
        (("--client=mine:NOBODY",), "", "stormproof: --client=mine:NOBODY is not there"),
        ((), "import sys; sys.modules['hypothesis'] = None", "pip install 'stormproof[explore]'"),
    ],
    ids=["guarantee", "client", "hypothesis"],
)
def test_what_cannot_be_searched_ends_with_status_2_and_the_way_out(tmp_path, arguments, before, says):
    """Promise: 2, one line of what to do, and no traceback. Without Hypothesis only this command is missing."""
    done = explore(tmp_path, *arguments, before=before)
    assert (done.returncode, "Traceback" in done.stdout + done.stderr) == (2, False)
    assert says in done.stdout


def test_the_harness_does_not_need_hypothesis():
    """Promise: it is an extra; importing all that suites use does not load it."""
    text = "import sys, harness, harness.cli, harness.explore.command, stormproof; from harness import *; "
    done = subprocess.run(
        [sys.executable, "-c", text + "print('hypothesis' in sys.modules)"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"

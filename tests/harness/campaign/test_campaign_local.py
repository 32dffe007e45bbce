"""`stormproof campaign` on this machine's cores, as a user meets it: counts, bounds, bad seeds, and processes that die."""

from __future__ import annotations

import re
import signal
import subprocess
import sys

import pytest

from tests.harness.campaign.days import (
    campaign,
    command,
    counts,
    environment,
    gone,
    sessions,
    started,
    suite,
    told,
    until,
)

SEEDS = 9
#: What SUITE comes to on seeds 1 to 9: 3, 6 and 9 are bad days of test_by_hand; a torn answer is always asked for again.
EXPECTED = {
    ("test_by_hand", "Available(0.900)"): (9, 0, 0),
    ("test_by_hand", "the test itself"): (6, 3, 0),
    ("test_done_twice", "AtMostOnce()"): (0, 9, 0),
    ("test_expects_it", "AtMostOnce()"): (9, 0, 0),
    ("test_held", "Available(0.900)"): (9, 0, 0),
}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """One campaign with something broken: its folder, its report, what it said, and its exit status."""
    folder = suite(tmp_path_factory.mktemp("campaign"))
    run = campaign(folder, f"--seeds={SEEDS}", "--jobs=2")
    return folder, told(folder), run.stdout + run.stderr, run.returncode


def test_every_test_runs_on_every_seed_as_it_would_alone(done):
    """Promise: verdicts as each test sees them, what it asserts by hand and what it expects included; status 1."""
    _, report, said, status = done
    assert counts(report) == EXPECTED
    assert (status, report["verdict"], report["runs"], report["seeds"]) == (1, "broken", 36, {"asked": 9, "run": 9})
    assert "1 test left out, such as test_days.py::test_needs_servers: the fixture fleet needs real servers" in said
    assert re.search(r"✗ broken  36 runs in \S+ s .*, 9 of 9 seeds from 1 on, fleet sim, 2 processes at once", said)


def test_the_first_bad_seeds_come_with_the_command_that_shows_them(done):
    """Promise: seeds in their order, the reason, and a replay that finds the same."""
    folder, report, said, _ = done
    [row] = [row for row in report["rows"] if row["guarantee"] == "the test itself"]
    assert [bad["seed"] for bad in row["bad"]] == [3, 6, 9]
    assert "the test itself: seeds 3, 6, 9" in said
    assert "AtMostOnce(): seeds 1, 2, 3 (and 6 more)" in said
    assert "a third of the seeds is bad" in said
    again = row["bad"][0]["again"]
    assert again == "stormproof replay --fleet=sim --seed=3 suites/test_days.py::test_by_hand"
    replay = [*command()[:3], *again.split()[1:]]
    run = subprocess.run(replay, cwd=folder, env=environment(), capture_output=True, text=True, check=False)
    assert (run.returncode, "a third of the seeds is bad" in run.stdout) == (1, True)


def test_the_table_tells_the_rate_with_its_bounds(done):
    """Promise: 3 of 9 were broken; at 1e-6 the true rate may be 0.0013 to 0.9415. campaign.md says the same."""
    folder, report, said, _ = done
    [row] = [row for row in report["rows"] if row["guarantee"] == "the test itself"]
    rate = row["rate_of_broken"]
    assert rate["measured"] == pytest.approx(1 / 3)
    line = r"the test itself .*0\.3333, from {at_least:.4f} to {at_most:.4f}".format(**rate)
    assert re.search(line, said), said
    assert re.search(line, (folder / "out" / "campaign.md").read_text())


def test_how_the_work_is_shared_out_changes_nothing(done, tmp_path):
    """Promise: one process comes to the same report as two, to the last character."""
    campaign(suite(tmp_path), f"--seeds={SEEDS}", "--jobs=1")
    assert (tmp_path / "out" / "campaign.json").read_bytes() == (done[0] / "out" / "campaign.json").read_bytes()


UNKNOWN = """
from dataclasses import replace
from harness import GrpcClient
from test_days import DAY

def test_of_another_client(run):
    run(replace(DAY, client=GrpcClient())).check()
"""


@pytest.mark.parametrize(
    ("only", "status", "verdict"),
    [("held or expects", 0, "✓ held  2 runs"), ("another", 2, "? unknown  1 runs"), ("nothing", 2, "no scenarios")],
)
def test_the_exit_status_is_that_of_every_run(tmp_path, only, status, verdict):
    """Promise: 0 all held; 2 where something could not be judged, or there was nothing."""
    suite(tmp_path)
    (tmp_path / "suites" / "test_other.py").write_text(UNKNOWN)
    run = campaign(tmp_path, "--seeds=1", "-k", only)
    assert (run.returncode, verdict in run.stdout + run.stderr) == (status, True), run.stdout + run.stderr
    if only == "another":
        assert "the sim fleet has no model of the client GrpcClient(" in run.stdout
        assert "none could be judged" in run.stdout


def test_a_suite_with_a_mistake_is_told_by_the_first_seed(tmp_path):
    """Promise: status 2, the file and the line."""
    run = campaign(suite(tmp_path, "from faults import Latencyy\n"), "--seeds=1000")
    assert run.returncode == 2
    assert "test_days.py:1: in <module>" in run.stderr
    assert "cannot import name 'Latencyy' from 'faults'" in run.stderr


DEADLY = """
import os
import signal
from pathlib import Path

from test_days import DAY

def test_deadly(run):
    result = run(DAY)
    if result.history.seed == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    if result.history.seed == 7 and not Path("once").exists():
        Path("once").touch()
        print("out of memory", flush=True)
        os._exit(9)
    result.check()
"""


def test_a_seed_whose_process_dies_is_told_and_takes_no_other_with_it(tmp_path):
    """Promise: the part is done again seed by seed; who dies twice is named, and the verdict is unknown."""
    suite(tmp_path)
    (tmp_path / "suites" / "test_deadly.py").write_text(DEADLY)
    run = campaign(tmp_path, "--seeds=8", "-k", "deadly", "--jobs=1")
    assert run.returncode == 2, run.stdout
    report = told(tmp_path)
    assert (report["seeds"], report["verdict"]) == ({"asked": 8, "run": 7}, "unknown")
    assert report["problems"] == ["seed 5 could not be run: the process ended with SIGKILL"]
    assert re.search(r"seeds 2 to 8, .*: the process ended with SIGKILL; done again", run.stdout.replace("\n", " "))
    assert "the process ended with status 9" in run.stdout
    assert [(row["held"], row["broken"]) for row in report["rows"]] == [(7, 0)]


ENDLESS = """
import time

from test_days import DAY

def test_endless(run):
    result = run(DAY)
    if result.history.seed > 2:
        time.sleep(600)
    result.check()
"""


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda signum: signum.name)
def test_a_signal_ends_a_campaign_and_leaves_nothing_running(tmp_path, signum):
    """Promise: Ctrl-C and SIGTERM keep what was found, with status 2; after a SIGKILL its processes end by themselves."""
    suite(tmp_path)
    (tmp_path / "suites" / "test_endless.py").write_text(ENDLESS)
    run = started(tmp_path, "--seeds=50", "-k", "endless", "--jobs=2")
    try:
        family = until(lambda: len(found := sessions([run.pid])) == 2 and found, "two processes of the campaign")
        run.send_signal(signum)
        said, _ = run.communicate(timeout=20)
    finally:
        run.kill()
    until(lambda: gone(family), "both processes to be gone", 5.0)
    if signum != signal.SIGKILL:
        assert run.returncode == 2, said
        assert "stopped by a signal; what was found so far is kept" in said
        assert told(tmp_path)["seeds"]["run"] == 1


def test_what_a_campaign_runs_is_what_is_installed_here():
    """Promise: a part that is meant for another stormproof is refused, and says which is where."""
    program = (
        "from harness.campaign.part import Part; from harness.campaign.process import perform;"
        "print(perform(Part(campaign='c', identity='0.0.9', suites=('nowhere',), first=1, count=1, folder='.')).refused)"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert re.search(r"has stormproof \S+, sources \w{12}, but the campaign is of 0\.0\.9: install the same", said)

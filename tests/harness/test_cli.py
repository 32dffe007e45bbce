"""The command line as a user meets it: exit status, one clear message, a report, and nothing left running."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "harness.cli"]

SUITE = '''
"""A suite for the tests of the command line."""
from faults import Refuse, during, named
from harness import Available, Client, EvenShare, Scenario, Servers, Steady
from stormproof import Policy, Retry, RoundRobin

DAY = Scenario(
    servers=Servers(2),
    client=Client(balancer=RoundRobin(), policy=Policy(timeout=1.0, idempotent=True)),
    workload=Steady(rate=60, seconds={seconds}),
    faults=[during(0.5, 1.0, Refuse(), on=named("{target}"))],
    guarantees=[{guarantee}],
)

def test_a_short_day(run):
    """One server refuses connections for half a second."""
    run(DAY).check()
'''


def suite(folder: Path, *, guarantee: str = "Available(0.9)", target: str = "server-1", seconds: float = 2) -> Path:
    (folder / "test_short_day.py").write_text(SUITE.format(guarantee=guarantee, target=target, seconds=seconds))
    return folder


def stormproof(*arguments: object, cwd: Path, timeout: float = 60, **environ: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **environ}
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )


def test_a_suite_that_holds_ends_with_status_0_and_leaves_a_report(tmp_path):
    """`run --report`: a table on the terminal, and report.json, .html, .md, junit.xml and the history in the folder."""
    done = stormproof("run", suite(tmp_path), "--report", tmp_path / "out", "--seed", 7, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "✓ test_short_day.py::test_a_short_day" in done.stdout
    assert re.search(r"✓ held  1 scenarios, fleet local, .*, seed 7, report in .*report.html", done.stdout)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (report["verdict"], report["fleet"], report["seed"]) == ("held", "local", 7)
    [scenario] = report["scenarios"]
    assert (scenario["name"], scenario["verdict"], scenario["servers"]) == (
        "test_short_day.py::test_a_short_day",
        "held",
        2,
    )
    assert scenario["calls"] == scenario["outcomes"]["ok"] == 120
    assert [(fault["name"], fault["on"]) for fault in scenario["faults"]] == [("Refuse()", "server-1")]
    assert 0.45 < scenario["faults"][0]["from"] < scenario["faults"][0]["until"] < 1.5
    assert scenario["doc"] == "One server refuses connections for half a second."
    assert ET.parse(tmp_path / "out" / "junit.xml").getroot().find(".//testcase") is not None
    for name in ("report.html", "report.md", scenario["history"]):
        assert (tmp_path / "out" / name).stat().st_size > 0
    assert not list((tmp_path / "out" / "history").glob("*.partial*"))


def test_a_suite_runs_in_virtual_time_and_its_replay_too(tmp_path):
    """`run --fleet=sim`: the same table, report and status; what needs real servers is skipped, and says why."""
    suite(tmp_path, guarantee="EvenShare(), Available(0.9)", seconds=30)
    (tmp_path / "test_by_hand.py").write_text("def test_by_hand(fleet):\n    raise AssertionError\n")
    done = stormproof("run", tmp_path, "--fleet=sim", "--report", tmp_path / "out", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"✓ held  1 scenarios, fleet sim, virtual, seed 1, report in .*report.html", done.stdout)
    assert "the fixture fleet needs real servers; run with --fleet=local instead of --fleet=sim" in done.stdout
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (report["verdict"], report["fleet"], report["proxy"]) == ("held", "sim", "virtual")
    [scenario] = report["scenarios"]
    assert (scenario["calls"], scenario["faults"][0]["from"], scenario["faults"][0]["until"]) == (1800, 0.5, 1.0)
    again = scenario["again"]
    assert again.startswith("stormproof replay --fleet=sim --seed=1 ")
    assert stormproof(*again.split()[1:], cwd=tmp_path).returncode == 0


def test_a_seed_of_another_version_says_so(tmp_path):
    """`replay --of=report.json` takes fleet and seed from there, and tells if another stormproof wrote it."""
    suite(tmp_path)
    done = stormproof("run", tmp_path, "--fleet=sim", "--seed=5", "--report", "out", cwd=tmp_path)
    test, file = "test_short_day.py::test_a_short_day", tmp_path / "out" / "report.json"
    again = stormproof("replay", test, "--of=out/report.json", cwd=tmp_path)
    assert (done.returncode, again.returncode) == (0, 0), done.stdout + again.stdout
    assert "fleet sim, virtual, seed 5" in again.stdout
    assert again.stderr == ""
    file.write_text(json.dumps(json.loads(file.read_text()) | {"stormproof": "0.0.9"}))
    older = stormproof("replay", test, "--of=out/report.json", cwd=tmp_path)
    assert older.returncode == 0
    assert "was written by stormproof 0.0.9, and this is" in older.stderr
    assert "seed 5 may be another day here" in older.stderr
    wrong = stormproof("replay", test, "--of=test_short_day.py", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "is no report.json of stormproof; give one that --report wrote" in wrong.stderr


def test_a_broken_guarantee_ends_with_status_1_and_says_how_to_see_it_again(tmp_path):
    """The message names guarantee, measure, worst case and fault; its replay command gives the same verdict."""
    suite(tmp_path, guarantee="EvenShare()", target="server-1", seconds=4)
    text = (tmp_path / "test_short_day.py").read_text()
    text = (
        text.replace("balancer=RoundRobin()", "balancer=AlwaysFirst()")
        + "\nfrom harness.saboteurs import AlwaysFirst\n"
    )
    text = text.replace("\nDAY =", "\nfrom harness.saboteurs import AlwaysFirst\nDAY =", 1)
    text = re.sub(r"faults=\[.*\],", "", text)
    (tmp_path / "test_short_day.py").write_text(text)
    done = stormproof("run", tmp_path, cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "EvenShare()  broken: server-" in done.stdout
    again = re.search(r"again: (stormproof replay .*)$", done.stdout, re.MULTILINE)
    assert again is not None
    replayed = stormproof(*again.group(1).split()[1:], cwd=tmp_path)
    assert replayed.returncode == 1
    assert "EvenShare()  broken: server-" in replayed.stdout


def test_a_fault_that_touches_nothing_is_unknown(tmp_path):
    """A server without traffic is broken: that proves nothing, so the verdict is unknown and the status 2."""
    suite(tmp_path)
    path = tmp_path / "test_short_day.py"
    path.write_text(path.read_text().replace("servers=Servers(2)", "servers=Servers(2, priorities=(0, 1))"))
    done = stormproof("run", tmp_path, cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Refuse() on server-1 at 0.5 s touched no traffic" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "nowhere"], "there is no nowhere; give a folder or a file with suites"),
        (["run", "empty"], "no scenarios found there: a suite is a file test_*.py"),
        (["list", "empty"], "no scenarios found there: a suite is a file test_*.py"),
        (["run", "suites", "--fleet=moon"], "--fleet must be local, sim or docker; got 'moon'"),
        (["run", "suites", "--seed=-1"], "Invalid value for '--seed'"),
        (["replay", "nowhere.py::test_x"], "there is no nowhere.py"),
    ],
)
def test_bad_arguments_end_with_status_2_and_one_message(tmp_path, arguments, says):
    """Nothing starts, and the message says what to give instead."""
    for name in ("suites", "empty"):
        (tmp_path / name).mkdir()
    suite(tmp_path / "suites")
    done = stormproof(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert says in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_a_suite_with_a_mistake_says_where(tmp_path):
    """A fault that does not exist: status 2, and the file and line with the mistake."""
    (tmp_path / "test_wrong.py").write_text("from faults import Latencyy\n")
    done = stormproof("run", tmp_path, cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "test_wrong.py:1: in <module>" in done.stdout
    assert "cannot import name 'Latencyy' from 'faults'" in done.stdout


def test_a_toxiproxy_that_is_not_there_is_one_message(tmp_path):
    """STORMPROOF_TOXIPROXY_URL where nothing listens: status 2, the url, and what to do."""
    done = stormproof("run", suite(tmp_path), cwd=tmp_path, STORMPROOF_TOXIPROXY_URL="http://127.0.0.1:9")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "127.0.0.1:9" in done.stdout
    assert "Traceback" not in done.stdout


@pytest.mark.parametrize("which", ["builtin", "real"])
def test_both_proxies_carry_a_run(tmp_path, which):
    """The same suite holds behind the built-in proxy and behind the real Toxiproxy, and the report says which it was."""
    if which == "real" and "was installed" not in stormproof("toxiproxy", "which", cwd=tmp_path).stdout:
        pytest.skip("the real Toxiproxy is not installed: run `stormproof toxiproxy install` (needs Go)")
    out = tmp_path / "out"
    done = stormproof("run", suite(tmp_path), "--report", out, cwd=tmp_path, STORMPROOF_TOXIPROXY=which)
    assert done.returncode == 0, done.stdout + done.stderr
    proxy = json.loads((out / "report.json").read_text())["proxy"]
    assert proxy == {"builtin": "builtin 2.12.0-stormproof", "real": "toxiproxy 2.12.0"}[which]


def test_a_report_that_cannot_be_written_is_no_success(tmp_path):
    """The verdict is told all the same, then what went wrong and the way out; status 2."""
    done = stormproof("run", suite(tmp_path), "--report", "/proc/nowhere", cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "✓ held  1 scenarios" in done.stdout
    assert "the report could not be written to /proc/nowhere" in done.stdout
    assert "Traceback" not in done.stdout


OWN_CLIENT = """
from dataclasses import dataclass
import grpc
from protos import cart_pb2

@dataclass(frozen=True)
class OwnClient:
    def channel(self, endpoints, *, seed, observer):
        assert cart_pb2.MINE
        return grpc.insecure_channel(endpoints[0].address)
"""


def test_a_project_with_protos_of_its_own_can_be_tested(tmp_path):
    """A package named `protos` in the user's folder: theirs is theirs, in the suite and in the client, and ours is ours."""
    (tmp_path / "protos").mkdir()
    (tmp_path / "protos" / "__init__.py").write_text("")
    (tmp_path / "protos" / "cart_pb2.py").write_text("MINE = True\n")
    (tmp_path / "own_client.py").write_text(OWN_CLIENT)
    suite(tmp_path)
    path = tmp_path / "test_short_day.py"
    text = path.read_text().replace(
        "from faults", "from own_client import OwnClient\nfrom protos import cart_pb2\nfrom faults", 1
    )
    text = re.sub(r"client=Client\(.*\),", "client=OwnClient(),", text)
    path.write_text(re.sub(r"faults=\[.*\],", "", text))
    done = stormproof("run", tmp_path, cwd=tmp_path, PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    assert done.returncode == 0, done.stdout + done.stderr


def test_listing_shows_every_test_and_its_promise(tmp_path):
    """`list` runs nothing."""
    done = stormproof("list", suite(tmp_path), cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"test_a_short_day\s+One server refuses connections for half a second\.", done.stdout)


def started(folder: Path) -> tuple[subprocess.Popen[str], list[psutil.Process]]:
    """A run in its middle: the harness, and every process it has started."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [*COMMAND, "run", str(suite(folder, seconds=30)), "--report", str(folder / "out")]
    harness = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        return harness, until(lambda: grown(harness.pid), "the keeper, Toxiproxy, two servers and the client")
    except BaseException:
        harness.kill()
        raise


def grown(pid: int) -> list[psutil.Process]:
    family = psutil.Process(pid).children(recursive=True)
    return family if len(family) >= 5 else []


def until(happened, what: str, seconds: float = 20.0):
    """Waits for something with a deadline, and says what was missing."""
    deadline = time.monotonic() + seconds
    while not (found := happened()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)
    return found


def gone(family: list[psutil.Process]) -> bool:
    return not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in family)


def test_sigkill_leaves_no_worker_of_a_selftest(tmp_path):
    """Workers wait for work in a pipe that they hold open themselves: they must not wait for a dead parent's."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    selftest = subprocess.Popen(
        [*COMMAND, "selftest", "--jobs=2"], cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL
    )
    try:
        family = until(lambda: workers(selftest.pid), "two workers that have begun", 60.0)
    finally:
        selftest.kill()
        selftest.wait()
    until(lambda: gone(family), "both workers to be gone", 5.0)


def workers(pid: int) -> list[psutil.Process]:
    """The two processes that run saboteurs, once they have used some processor time."""
    family = psutil.Process(pid).children()
    busy = [child for child in family if "spawn_main" in " ".join(child.cmdline()) and child.cpu_times().user > 0.5]
    return busy if len(busy) == 2 else []


def test_sigkill_leaves_no_process_after_two_seconds(tmp_path):
    """SIGKILL to the harness in the middle of a run: keeper, Toxiproxy, servers and client are gone within 2 s."""
    harness, family = started(tmp_path)
    harness.kill()
    harness.wait()
    until(lambda: gone(family), "every process of the run to be gone", 2.0)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_signal_ends_a_run_cleanly(tmp_path, signum):
    """Ctrl-C or SIGTERM in the middle of a run: status 2, one message, nothing left running, no temporary folder."""
    harness, family = started(tmp_path)
    harness.send_signal(signum)
    said, _ = harness.communicate(timeout=15)
    assert harness.returncode == 2, said
    assert "stopped by a signal" in said
    until(lambda: gone(family), "every process of the run to be gone", 2.0)


def test_a_toxiproxy_that_dies_in_the_middle_is_told_and_what_was_seen_is_kept(tmp_path):
    """The run ends with status 2 and the reason; the report holds what was recorded until then."""
    harness, family = started(tmp_path)
    [toxiproxy] = [p for p in family if "proxy" in " ".join(p.cmdline()[:3])]
    history = tmp_path / "out" / "report.json"
    time.sleep(0.5)  # let some calls be recorded
    toxiproxy.kill()
    said, _ = harness.communicate(timeout=30)
    assert harness.returncode == 2, said
    assert "Toxiproxy ended in the middle of the run" in said
    [scenario] = json.loads(history.read_text())["scenarios"]
    assert scenario["verdict"] == "unknown"
    assert scenario["calls"] > 0
    until(lambda: gone(family), "every process of the run to be gone", 2.0)

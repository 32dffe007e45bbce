"""`stormproof campaign --dask=...` on a real cluster: a scheduler and three workers, each a process of its own."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import psutil
import pytest

from harness.campaign.show import run as run_campaign
from tests.harness.campaign.days import (
    ROOT,
    campaign,
    counts,
    environment,
    gone,
    sessions,
    started,
    suite,
    told,
    until,
)
from tests.harness.campaign.test_campaign_local import ENDLESS, EXPECTED, SEEDS

pytest.importorskip("distributed", reason="the extra cluster is missing: pip install 'stormproof[cluster]'")
DASK = [sys.executable, "-m", "dask"]


class Cluster:
    """A scheduler in `folder`, and its workers by name. They start far from any suite."""

    def __init__(self, folder):
        self.folder = folder
        self.workers = {}
        self._scheduler = self._process("scheduler", "--host", "127.0.0.1", "--port", "0")
        self.address = until(lambda: re.search(r"Scheduler at:\s+(tcp://\S+)", self.log("scheduler")), "a scheduler")[1]

    def start(self, *names, **environ):
        """Workers, each with one thread, that the scheduler knows when this returns."""
        for name in names:
            arguments = (self.address, "--no-nanny", "--nthreads", "1", "--name", name)
            self.workers[name] = self._process("worker", *arguments, log=name, **environ)
        for name in names:
            until(lambda name=name: "Registered to" in self.log(name), f"{name} is registered: {self.log(name)}")

    def kill(self, name):
        worker = self.workers.pop(name)
        worker.kill()
        worker.wait()

    def pids(self):
        return [worker.pid for worker in self.workers.values()]

    def end(self):
        for process in (*self.workers.values(), self._scheduler):
            process.kill()
            process.wait()

    def log(self, name):
        path = self.folder / f"{name}.log"
        return path.read_text() if path.exists() else ""

    def _process(self, kind, *arguments, log=None, **environ):
        with (self.folder / f"{log or kind}.log").open("w") as out:
            return subprocess.Popen(
                [*DASK, kind, "--no-dashboard", *arguments], cwd=self.folder, env={**environment(), **environ},
                stdout=out, stderr=out,
            )  # fmt: skip


@contextmanager
def cluster_in(folder):
    cluster = Cluster(folder)
    try:
        yield cluster
    finally:
        cluster.end()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """One for all tests here, which leave it with three workers."""
    with cluster_in(tmp_path_factory.mktemp("cluster")) as cluster:
        cluster.start("one", "two", "three")
        yield cluster


def test_a_cluster_comes_to_what_this_machine_comes_to(cluster, tmp_path):
    """Promise: the suites travel, every seed is run once, and verdicts, bad seeds and commands are the same."""
    run = campaign(suite(tmp_path), f"--seeds={SEEDS}", f"--dask={cluster.address}")
    report = told(tmp_path)
    assert (run.returncode, counts(report)) == (1, EXPECTED), run.stdout + run.stderr
    assert f"3 Dask workers at {cluster.address}, 3 processes at once" in run.stdout
    [row] = [row for row in report["rows"] if row["guarantee"] == "the test itself"]
    assert [bad["seed"] for bad in row["bad"]] == [3, 6, 9]
    assert row["bad"][0]["again"] == "stormproof replay --fleet=sim --seed=3 suites/test_days.py::test_by_hand"


SLOW = """
import time
from pathlib import Path

from test_days import DAY

def test_slow(run):
    result = run(DAY)
    time.sleep(0.2 if result.history.seed == 1 else 0.5)
    result.check()
"""


def test_a_worker_that_dies_is_told_and_its_part_is_done_by_others(cluster, tmp_path):
    """Promise: SIGKILL to one of three in the midst of its part: the report is whole, and says the same."""
    suite(tmp_path)
    (tmp_path / "suites" / "test_slow.py").write_text(SLOW)
    run = started(tmp_path, "--seeds=40", "-k", "slow", f"--dask={cluster.address}")
    try:
        victim = cluster.workers["two"].pid
        family = until(lambda: len(sessions(cluster.pids())) == 3 and sessions([victim]), "three parts under way")
        cluster.kill("two")
        until(lambda: gone(family), "the process of its part to be gone with it", 5.0)
        said, _ = run.communicate(timeout=60)
    finally:
        run.kill()
        cluster.start("two")
    assert run.returncode == 0, said
    assert re.search(r"! tcp://\S+ is gone; others do its part again", said), said
    assert counts(told(tmp_path)) == {("test_slow.py::test_slow", "Available(0.900)"): (40, 0, 0)}


def test_a_signal_leaves_nothing_running_on_the_workers(cluster, tmp_path):
    """Promise: Ctrl-C ends the processes of the campaign wherever they are; the workers themselves stay."""
    suite(tmp_path)
    (tmp_path / "suites" / "test_endless.py").write_text(ENDLESS)
    run = started(tmp_path, "--seeds=50", "-k", "endless", f"--dask={cluster.address}")
    try:
        family = until(lambda: len(found := sessions(cluster.pids())) == 3 and found, "three parts under way")
        run.send_signal(signal.SIGINT)
        said, _ = run.communicate(timeout=20)
    finally:
        run.kill()
    until(lambda: gone(family), "every process of the campaign to be gone", 5.0)
    assert run.returncode == 2
    assert "stopped by a signal; what was found so far is kept" in said
    assert all(psutil.Process(pid).is_running() for pid in cluster.pids())


def test_a_cluster_without_the_right_workers_is_refused(tmp_path):
    """Promise: no workers, or workers of another stormproof: status 2, who it is, and what to do; then none is left."""
    suite(tmp_path)
    other = tmp_path / "other"
    for package in ("stormproof", "faults", "harness", "protos"):
        shutil.copytree(ROOT / package, other / package)
    (other / "harness" / "history.py").open("a").write("\n# another one\n")
    with cluster_in(tmp_path) as cluster:
        run = campaign(tmp_path, f"--dask={cluster.address}")
        assert run.returncode == 2
        assert f"the Dask scheduler at {cluster.address} has no workers: start some with `dask worker" in run.stderr
        cluster.start("stranger", PYTHONPATH=f"{other}{os.pathsep}{tmp_path}")
        run = campaign(tmp_path, f"--dask={cluster.address}")
        assert run.returncode == 2
        says = r"the worker tcp://\S+ has another stormproof: \S+, sources \w+; here it is \S+, sources \w+: install the same"
        assert re.search(says, run.stderr), run.stderr


def test_a_scheduler_that_is_not_there_is_one_message_within_seconds(tmp_path):
    """Promise: status 2, the address, the reason and the way out."""
    began = time.monotonic()
    run = campaign(suite(tmp_path), "--dask=tcp://127.0.0.1:9")
    assert run.returncode == 2
    assert "--dask: there is no Dask scheduler at tcp://127.0.0.1:9 (Timed out" in run.stderr
    assert "give the address that `dask scheduler` prints" in run.stderr
    assert "Traceback" not in run.stderr
    assert time.monotonic() - began < 30.0  # 5 s of patience; the rest is a busy machine's


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"address": "tcp://nowhere"}, "there is no Dask scheduler at tcp://nowhere (that is no tcp://HOST:PORT)"),
        ({"address": "moon://a:1"}, "there is no Dask scheduler at moon://a:1 (that is no tcp://HOST:PORT)"),
        ({"address": "tcp://127.0.0.1:9", "jobs": 2}, "--jobs is for this machine's cores; with --dask its workers'"),
    ],
)
def test_arguments_that_make_no_sense_are_refused_at_once(capsys, arguments, says):
    """Promise: status 2, before anything is started."""
    assert run_campaign(("suites",), seeds=1, **arguments) == 2
    assert says in capsys.readouterr().err

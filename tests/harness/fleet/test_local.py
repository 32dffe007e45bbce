"""The local fleet: a run's history from three ends, clients that go wrong, and nothing left when it is over."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import grpc
import psutil
import pytest
import requests

from faults import Drain, Errors, Kill, Latency, Refuse, at, during, named
from harness import Available, Batch, Client, GrpcClient, Scenario, Servers, Steady
from harness.fleet import local, local_run, local_server
from harness.fleet.base import Watcher
from harness.fleet.errors import FleetError
from harness.fleet.local import LocalFleet
from harness.fleet.ports import free_port
from harness.history import History, reconcile
from harness.proxy.control import Control
from harness.proxy.find import command, find
from harness.proxy.install import installed
from harness.scenario import Plan
from stormproof import Policy

DAY = Scenario(
    servers=Servers(2),
    client=Client(policy=Policy(timeout=1.0, idempotent=True)),
    workload=Steady(rate=100, seconds=0.4),
    guarantees=[Available(0.5)],
)
MINUTE = Batch(items=1000, seconds=0.5)


@pytest.fixture(scope="module")
def fleet() -> Iterator[LocalFleet]:
    with LocalFleet() as fleet:
        yield fleet


def run(fleet: LocalFleet, *, watch: Watcher = lambda _: None, **changes) -> History:
    """What came of DAY with these changes."""
    scenario = replace(DAY, **changes)
    return fleet.run(scenario, Plan.draw(scenario, 1), name="a day", watch=watch)


def running() -> list[str]:
    """What descends from this process, in words."""
    return [
        " ".join(p.cmdline()) for p in psutil.Process().children(recursive=True) if p.status() != psutil.STATUS_ZOMBIE
    ]


@pytest.fixture
def temporary(monkeypatch, tmp_path) -> Path:
    """Where temporary folders are made, for this test alone."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture(params=["builtin", "real"])
def proxy(request, monkeypatch) -> str:
    """The proxy of the fleets that a test starts: each in turn."""
    monkeypatch.delenv("STORMPROOF_TOXIPROXY_URL", raising=False)
    monkeypatch.setenv("STORMPROOF_TOXIPROXY", request.param)
    if request.param == "real" and installed() is None and shutil.which("toxiproxy-server") is None:
        pytest.skip("the real Toxiproxy is not installed: run `stormproof toxiproxy install` (needs Go)")
    return str(request.param)


def test_a_run_is_told_from_three_ends(proxy):
    """Every call has one end, every attempt its execution, and each proxy carried bytes both ways: the tales fit together."""
    with LocalFleet() as fleet:
        history = run(fleet, faults=[during(0.1, 0.3, Latency(0.02), on=named("server-1"))])
    assert (history.problems, reconcile(history)) == ((), ())
    assert history.proxy == {"builtin": "builtin 2.12.0-stormproof", "real": "toxiproxy 2.12.0"}[proxy]
    assert (history.scenario, history.fleet, history.seed, history.client_starts) == ("a day", "local", 1, 1)
    assert sorted(operation.id for operation in history.operations) == list(range(40))
    assert {operation.result for operation in history.operations} == {"ok"}
    assert all(operation.ended is not None for operation in history.operations)
    assert len([e for e in history.executions if e.executed is not None]) == sum(1 for _ in history.attempts()) == 40
    assert all(carried.received > 1000 and carried.sent > 1000 for carried in history.carried), history.carried
    (acted,) = history.faults
    assert 0.1 <= acted.began < acted.healed <= history.seconds
    assert acted.touched > 0


def test_a_run_with_a_drained_server_loses_no_call(fleet):
    """It acts from its signal until the server is back, it is seen to touch traffic, and every call is answered once."""
    drained = during(0.1, 0.25, Drain(grace=2.0), on=named("server-1"))
    history = run(fleet, faults=[drained], client=Client(policy=Policy(timeout=1.0)))
    assert (history.problems, reconcile(history)) == ((), ())
    assert [operation.result for operation in history.operations] == ["ok"] * 40
    (acted,) = history.faults
    assert (acted.fault, acted.on, acted.problem) == ("Drain(grace=2)", "server-1", "")
    assert 0.1 <= acted.began < acted.healed
    assert acted.touched > 0


def test_calls_begin_on_time_from_the_first_on(fleet):
    """The workload starts when the client is ready, however long its own modules take to be imported."""
    history = run(fleet, client=SlowToImport(), workload=Steady(rate=100, seconds=0.1))
    assert history.problems == ()
    assert history.operations[0].invoked - history.operations[0].due < 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowToImport:
    def channel(self, endpoints, *, seed, observer):
        time.sleep(0.3)
        return grpc.insecure_channel(endpoints[0].address)


@dataclass(frozen=True, slots=True, kw_only=True)
class Crashing:
    def channel(self, endpoints, *, seed, observer):
        raise RuntimeError("no licence for this machine")


@dataclass(frozen=True, slots=True, kw_only=True)
class CrashingLater(GrpcClient):
    status: int = 7

    def channel(self, endpoints, *, seed, observer):
        import threading

        threading.Timer(0.25, os._exit, [self.status]).start()
        return GrpcClient.channel(self, endpoints, seed=seed, observer=observer)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hanging(GrpcClient):
    """Its channel's end is never reached: what it started outlives the workload."""

    def channel(self, endpoints, *, seed, observer):
        channel = GrpcClient.channel(self, endpoints, seed=seed, observer=observer)
        return Unclosable(channel)


class Unclosable:
    def __init__(self, channel):
        self.unary_unary = channel.unary_unary
        self.unary_stream = channel.unary_stream
        self.stream_unary = channel.stream_unary
        self.stream_stream = channel.stream_stream

    def __enter__(self):
        return self

    def __exit__(self, *_):
        time.sleep(1000)

    def close(self):
        pass


@dataclass(frozen=True, slots=True, kw_only=True)
class WithoutDisk(GrpcClient):
    """Its disk has room for a few calls only."""

    def channel(self, endpoints, *, seed, observer):
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        return GrpcClient.channel(self, endpoints, seed=seed, observer=observer)


def test_a_client_that_crashes_makes_the_run_unknown(fleet):
    """The problem is the last line of its traceback, and where; no server is left running."""
    before = running()
    history = run(fleet, client=Crashing())
    (problem,) = history.problems
    assert problem.startswith("the client ended with status 1: RuntimeError: no licence for this machine (File ")
    assert problem.endswith(", in channel); it never said that it is ready")
    assert history.operations == ()
    assert running() == before


@pytest.mark.parametrize(
    ("status", "problem"),
    [
        (7, "the client ended with status 7: it said nothing"),
        (0, "the client ended with status 0 before it was through"),
    ],
)
def test_a_client_that_ends_in_the_middle_makes_the_run_unknown(fleet, status, problem):
    """Also if it ends well. What it had told by then is kept; a call without an end is one that nobody can know of."""
    history = run(fleet, client=CrashingLater(status=status))
    assert 0 < len(history.operations) < 40
    assert history.problems == (problem, f"the client made {len(history.operations)} of 40 planned calls")
    assert all(o.result == "ok" or (o.result, o.ended) == ("info", None) for o in history.operations)


def test_a_batch_that_its_time_limit_breaks_off_is_no_problem(fleet):
    """Its client is through: what is missing is for NothingLost to tell."""
    history = run(fleet, workload=Batch(items=1_000_000, seconds=0.1))
    assert history.problems == ()


def test_a_server_that_somebody_kills_makes_the_run_unknown(fleet):
    """It is not the client's fault; the run is over at once, and what was told by then is kept."""

    def kill(progress):
        if progress.ok > 5:
            (journal,) = fleet.folder.glob("run-*/server-1.jsonl")
            with suppress(ProcessLookupError):  # the second time
                os.kill(json.loads(journal.read_text().splitlines()[0])["pid"], signal.SIGKILL)

    history = run(fleet, watch=kill, workload=Steady(rate=100, seconds=60))
    (problem,) = history.problems
    assert re.fullmatch(r"server-1 ended by itself at \d\.\d s with status -9", problem)
    assert 5 < len(history.operations) < 6000


def test_a_client_that_tells_of_no_attempts_meets_faults_too(fleet):
    """What a proxy refused reached no journal: the calls that failed meanwhile are what was touched."""
    history = run(fleet, client=GrpcClient(), servers=Servers(1), faults=[during(0.1, 0.3, Refuse())])
    (acted,) = history.faults
    assert (history.problems, acted.problem) == ((), "")
    assert acted.touched >= sum(o.result != "ok" and 0.1 <= o.invoked <= 0.3 for o in history.operations) > 0


def test_a_client_that_cannot_write_its_journal_is_told(fleet):
    """A call that was not recorded is not missing in silence: the process ends, and the run is unknown."""
    history = run(fleet, client=WithoutDisk())
    problem, missing = history.problems
    assert problem.startswith("the client ended with status 1: OSError: ")
    assert missing == f"the client made {len(history.operations)} of 40 planned calls"
    assert 0 < len(history.operations) < 40


def test_a_client_that_does_not_end_is_killed_and_told(fleet, monkeypatch):
    """Some time after its workload and its patience; what it told is kept, and it is not left running."""
    monkeypatch.setattr(local_run, "OVERTIME", 0.1)
    before = running()
    history = run(fleet, client=Hanging(), patience=0.1)
    assert history.problems == ("the client was not through 0.1 s after its time, and was killed",)
    assert len(history.operations) == 40
    assert running() == before


def test_a_client_that_is_killed_goes_on_where_it_was(fleet):
    """Every operation has one end or none, none is told twice, and the journal of the killed one is read to its last line."""
    history = run(
        fleet,
        client=Client(checkpoint_every=1, policy=Policy(timeout=1.0, idempotent=True)),
        workload=Batch(items=25, seconds=10),
        servers=Servers(1, service_time=0.01),
        faults=[during(0.1, 0.15, Kill(), on=named("client"))],
    )
    assert (history.problems, reconcile(history), history.client_starts) == ((), (), 2)
    assert len({operation.id for operation in history.operations}) == len(history.operations)
    assert {operation.item for operation in history.operations if operation.result == "ok"} == set(range(25))
    assert sum(operation.ended is None for operation in history.operations) <= 1
    assert history.seconds == max(operation.ended for operation in history.operations if operation.ended is not None)


class Forgetful(Client):
    """A client with a part of its own that the local fleet has no place for."""

    LEDGER = type("Ledger", (Client.LEDGER,), {})


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"faults": [at(0.1, Latency(0.3), on=named("client"))], "workload": MINUTE},
            "Latency(0.3) cannot act on the client: only Kill, Pause and Restart can",
        ),
        (
            {"faults": [at(0.1, Drain(), on=named("client"))], "workload": MINUTE},
            "Drain() cannot act on the client: only Kill, Pause and Restart can",
        ),
        (
            {"faults": [at(0.1, Kill(), on=named("client"))]},
            "Kill() on the client needs a Batch or Streams, the only workloads that can be taken up again",
        ),
        (
            {"client": Forgetful(checkpoint_every=10), "workload": MINUTE},
            "Forgetful has a ledger of its own, which only virtual time can use; run it with --fleet=sim",
        ),
        (
            {"faults": [at(0.1, Errors(0.5))], "servers": Servers(1, command=("my-server", "{port}"))},
            "Errors(0.5) needs a server that serves control.proto, and these are started by a command of your own",
        ),
    ],
)
def test_what_the_fleet_cannot_do_is_told_before_anything_starts(fleet, changes, problem):
    """The run ends unknown, with the reason, and without having wasted anybody's time."""
    history = run(fleet, **changes)
    assert history.problems == (problem,)
    assert (history.operations, history.faults) == ((), ())


def test_somebody_elses_server_is_run_as_ours_are(fleet):
    """A command that listens where it is told carries a whole run; it keeps no journal, and that is no problem."""
    own = (sys.executable, "-m", "harness.node", "--port", "{port}", "--service-time", "0.001")
    history = run(fleet, servers=Servers(2, command=own), faults=[during(0.1, 0.3, Refuse(), on=named("server-1"))])
    assert history.problems == ()
    assert sum(operation.result == "ok" for operation in history.operations) >= 36
    assert history.executions == ()
    assert all(carried.received > 0 for carried in history.carried)


def test_a_damaged_journal_is_a_lost_history(fleet):
    """A line that is no record proves nothing: the run is unknown, and what else is known is kept."""

    def spoil(_):
        for name in ("client", "server-0"):
            (journal,) = fleet.folder.glob(f"run-*/{name}.jsonl")
            with journal.open("a") as file:
                file.write("half a line\n")

    history = run(fleet, watch=spoil)
    client, server = sorted(history.problems)
    assert re.fullmatch(
        r"what the client did is lost: .*client.jsonl, line \d+ is not a record of a client's journal: .*", client
    )
    assert re.fullmatch(
        r"what the servers did is lost: .*server-0.jsonl, line \d+ is not a record of a journal: .*", server
    )
    assert all(carried.received > 0 for carried in history.carried)


def test_nothing_is_left_when_a_fleet_is_closed(temporary):
    """No process, and no temporary folder, also when the block raised in the middle of a deployment."""
    before = running()
    fleet = LocalFleet()
    with pytest.raises(ZeroDivisionError), fleet, fleet.deploy(Servers(2)):
        raise ZeroDivisionError
    assert fleet.folder.parent == temporary
    assert running() == before
    assert list(temporary.iterdir()) == []


def test_a_port_is_given_once_and_is_none_of_the_kernels():
    """A server that is down must find its port free when it comes back: no outgoing connection is given it meanwhile."""
    given = [free_port() for _ in range(200)]
    assert len(set(given)) == 200
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert 10_000 <= min(given) <= max(given) < lowest


@contextmanager
def taken() -> Iterator[int]:
    """A port that somebody else listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])


@pytest.mark.usefixtures("proxy")
def test_a_port_that_is_taken_from_toxiproxy_is_told(monkeypatch, temporary):
    """At once and with its last words; nothing is left of the attempt."""
    before = running()
    with taken() as port:
        monkeypatch.setattr(local, "free_port", lambda: port)
        with pytest.raises(FleetError, match="Toxiproxy could not start: .*[Aa]ddress already in use"):
            LocalFleet().__enter__()
    assert running() == before
    assert list(temporary.iterdir()) == []


def test_a_port_that_is_taken_from_a_server_is_told(fleet, monkeypatch):
    """Who needed it, which one it was, and why it could not be had; the other servers are stopped."""
    before = running()
    with taken() as port:
        monkeypatch.setattr(local_server, "free_port", lambda: port)
        with pytest.raises(FleetError, match=f"cannot listen on 127.0.0.1:{port}|address already in use"):
            run(fleet)
    assert running() == before


@contextmanager
def somebody_elses_toxiproxy() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A Toxiproxy that runs and is not ours: its url, and its process."""
    with taken() as port:
        pass
    argv = command(find({"STORMPROOF_TOXIPROXY": "builtin"}), port)
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL) as program:
        try:
            Control("127.0.0.1", port).wait_ready(10.0)
            yield f"http://127.0.0.1:{port}", program
        finally:
            program.terminate()


def test_a_toxiproxy_that_runs_already_is_used_and_left_as_it_was(monkeypatch):
    """Runs and faults go through it; proxies of others stay as they are, and none of ours remains, nor does it end."""
    monkeypatch.delenv("STORMPROOF_TOXIPROXY", raising=False)
    with somebody_elses_toxiproxy() as (url, program):
        monkeypatch.setenv("STORMPROOF_TOXIPROXY_URL", url)
        theirs = {"name": "theirs", "upstream": "127.0.0.1:9", "listen": "127.0.0.1:0"}
        requests.post(f"{url}/proxies", json=theirs, timeout=5.0).raise_for_status()
        requests.post(f"{url}/proxies/theirs/toxics", json={"type": "latency"}, timeout=5.0).raise_for_status()
        there = requests.get(f"{url}/proxies", timeout=5.0).json()
        with LocalFleet() as fleet:
            history = run(fleet, faults=[during(0.1, 0.3, Refuse(), on=named("server-0"))])
            with fleet.deploy(Servers(1)) as deployment, deployment.fault(Latency(0.1), on="server-0"):
                assert len(requests.get(f"{url}/proxies", timeout=5.0).json()) == 2
        assert (history.problems, history.faults[0].problem) == ((), "")
        assert requests.get(f"{url}/proxies", timeout=5.0).json() == there
        assert program.poll() is None


def test_a_toxiproxy_that_goes_away_in_the_middle_is_told(monkeypatch):
    """Nobody knows what the calls went through: the run is unknown, and what the client told is kept."""
    monkeypatch.delenv("STORMPROOF_TOXIPROXY", raising=False)
    with somebody_elses_toxiproxy() as (url, program):
        monkeypatch.setenv("STORMPROOF_TOXIPROXY_URL", url)
        with LocalFleet() as fleet:
            history = run(fleet, watch=lambda progress: program.kill() if progress.ok > 5 else None)
    cause, consequence = history.problems
    assert cause.startswith("Toxiproxy was gone in the middle of the run: ")
    assert consequence.startswith("what the proxies carried is lost: ")
    assert "no Toxiproxy answers" in cause
    assert len(history.operations) > 5

"""The keeper: what it starts can be signalled and watched, and does not outlive the harness by 2 s."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import psutil
import pytest

from harness.fleet.errors import FleetError
from harness.fleet.keeper import Keeper
from harness.node.ready import wait_ready
from protos.hello_pb2 import HelloRequest
from protos.hello_pb2_grpc import HelloStub

SERVE = "harness.node.server:serve"
SERVER = {"port": 0, "service_time": 0.0, "ready_fd": 3}

#: A harness that starts two servers, one of them stopped, and commands that leave children behind.
HARNESS = """
import os, signal, sys, time
from pathlib import Path
from harness.fleet.keeper import Keeper
from harness.node.ready import wait_ready

log = Path(sys.argv[1])
folder = log.parent / "folder"
folder.mkdir()
(folder / "file").touch()
keeper = Keeper(folder=folder)
servers = [keeper.spawn("harness.node.server:serve", {"port": 0, "ready_fd": 3}, log=log) for _ in range(2)]
for server in servers:
    wait_ready(server)
servers[1].signal(signal.SIGSTOP)
servers[1].stopped(5)
sleeper = keeper.execute(["sleep", "1000"], log=log)
shell = keeper.execute(["sh", "-c", "sleep 1001 & setsid sleep 1002 & wait"], log=log)
if sys.argv[2] == "forked" and os.fork() == 0:
    time.sleep(5)  # holds the socket to the keeper
    os._exit(0)
print(keeper.pid, shell.pid, *(process.pid for process in (*servers, sleeper)), flush=True)
time.sleep(1000)
"""


@pytest.fixture(scope="module")
def keeper():
    with Keeper() as keeper:
        yield keeper


@pytest.fixture
def log(tmp_path):
    return tmp_path / "log"


def with_descendants(pids):
    """Each process and what descends from it; psutil compares creation times, so a pid may be used again."""
    processes = [psutil.Process(pid) for pid in pids]
    return list(dict.fromkeys(p for process in processes for p in [process, *process.children(recursive=True)]))


def runs(process):
    """Not a zombie either: whose parent is gone has to wait for process 1 to look at how it ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def left(processes, within):
    """The processes that still run `within` seconds from now, or none as soon as none does."""
    deadline = time.monotonic() + within
    while (running := [process for process in processes if runs(process)]) and time.monotonic() < deadline:
        time.sleep(0.005)
    return running


def descendants(pid, count):
    """The descendants of `pid` as soon as there are `count` of them."""
    deadline = time.monotonic() + 5
    while len(found := psutil.Process(pid).children(recursive=True)) < count:
        assert time.monotonic() < deadline, f"{pid} has only {found}"
        time.sleep(0.005)
    return found


@pytest.mark.parametrize("count", [8, 32])
def test_a_fleet_started_by_one_keeper_answers(log, count):
    """All of them, each on a port of its own; how long that took is printed (numbers.md has the bound)."""
    began = time.monotonic()
    with Keeper() as keeper:
        servers = [keeper.spawn(SERVE, SERVER, log=log) for _ in range(count)]
        ports = [wait_ready(server).port for server in servers]
        channels = [grpc.insecure_channel(f"127.0.0.1:{port}") for port in ports]
        calls = [HelloStub(channel).SayHello.future(HelloRequest(name="Ada"), timeout=10) for channel in channels]
        assert [call.result().message for call in calls] == ["Hello, Ada!"] * count
        print(f"{count} servers answered after {time.monotonic() - began:.2f} s")
        for channel in channels:
            channel.close()
    assert len(set(ports)) == count
    assert [server.wait() for server in servers] == [-signal.SIGKILL] * count


@pytest.mark.parametrize(("command", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", -signal.SIGTERM)])
def test_an_exit_is_reported_with_its_status(keeper, log, command, status):
    """As subprocess does: negative for a signal; with the moment at which it was seen."""
    began = time.monotonic()
    process = keeper.execute(["sh", "-c", command], log=log)
    assert process.wait(5.0) == status
    assert not process.alive
    assert began < process.exited_at < time.monotonic()


def test_a_function_ends_its_process_with_its_value(keeper, log):
    """As sys.exit takes it; an exception is status 1, and its traceback stands in the log."""
    assert keeper.spawn("operator:add", {}, log=log).wait(5.0) == 1
    assert "TypeError: add expected 2 arguments, got 0" in log.read_text()
    assert keeper.spawn("os:nice", {}, log=log).wait(5.0) == 1
    assert keeper.spawn("os:getpriority", {"which": os.PRIO_PROCESS, "who": 0}, log=log).wait(5.0) == 0


def test_a_signal_reaches_the_whole_group(keeper, log):
    """A server behind a shell is hit as well as the shell."""
    shell = keeper.execute(["sh", "-c", "sleep 1000 & wait"], log=log)
    (sleeper,) = descendants(shell.pid, 1)
    assert shell.signal(signal.SIGTERM)
    assert shell.wait(5.0) == -signal.SIGTERM
    assert left([sleeper], within=5) == []


def test_a_signal_to_what_has_ended_is_not_sent(keeper, log):
    """Its pid may belong to somebody else by now."""
    process = keeper.execute(["true"], log=log)
    process.wait(5.0)
    assert process.signal(signal.SIGKILL) is False
    process.close()


def test_stopping_and_continuing_are_seen_to_happen(keeper, log):
    """A stopped process stands still when `stopped` returns and runs when the SIGCONT has been sent."""
    process = keeper.execute(["sleep", "1000"], log=log)
    with pytest.raises(TimeoutError, match=r"was not stopped after 0\.05 s"):
        process.stopped(0.05)
    for _ in range(20):
        sent = time.monotonic()
        process.signal(signal.SIGSTOP)
        assert sent <= process.stopped(5.0) <= time.monotonic()
        assert psutil.Process(process.pid).status() == psutil.STATUS_STOPPED
        process.signal(signal.SIGCONT)
        assert psutil.Process(process.pid).status() != psutil.STATUS_STOPPED
    process.signal(signal.SIGSTOP)
    process.close()
    assert process.wait() == -signal.SIGKILL
    with pytest.raises(FleetError, match="cannot be stopped: it has ended with status -9"):
        process.stopped(5.0)


def test_waiting_has_a_deadline(keeper, log):
    """And the message says for whom."""
    process = keeper.execute(["sleep", "1000"], log=log)
    with pytest.raises(TimeoutError, match=r"<Process \d+: sleep> was still running after 0.05 s"):
        process.wait(0.05)
    assert process.alive
    process.close()


def test_children_inherit_nothing_but_their_log(keeper, log, tmp_path):
    """No input, no descriptor of the keeper's or of another child, no blocked signal; a session of its own."""
    script = (
        "import os, sys; print(sys.stdin.read() == '', sorted(map(int, os.listdir('/proc/self/fd')))[:-1],"
        " [line for line in open('/proc/self/status') if 'SigBlk' in line][0].split()[1],"
        " os.getcwd(), os.environ['STORM'], os.getsid(0) == os.getpid())"
    )
    others = [keeper.spawn("time:sleep", {}, log=log), keeper.execute(["sleep", "1000"], log=log)]
    command = ["sh", "-c", 'exec "$0" -c "$1"', sys.executable, script]
    assert keeper.execute(command, log=log, env={"STORM": "9"}, cwd=tmp_path).wait(10.0) == 0
    assert f"True [0, 1, 2] 0000000000000000 {tmp_path} 9 True" in log.read_text()
    for other in others:
        other.close()


def test_a_function_that_does_not_exist_is_a_clear_error(keeper, log):
    """Nothing was started, and the keeper goes on."""
    with pytest.raises(FleetError, match=r"cannot start os:nope: module os has no function 'nope'"):
        keeper.spawn("os:nope", {}, log=log)
    with pytest.raises(FleetError, match=r"cannot start nope:nope: importing nope failed: ModuleNotFoundError"):
        keeper.spawn("nope:nope", {}, log=log)
    with pytest.raises(FleetError, match="cannot start 'nope': write it as 'module:function'"):
        keeper.spawn("nope", {}, log=log)
    assert keeper.execute(["true"], log=log).wait(5.0) == 0


def test_a_command_that_does_not_exist_is_a_clear_error(keeper, log, tmp_path):
    """So are a folder that does not exist and a log that cannot be written."""
    with pytest.raises(FleetError, match=r"cannot start no-such-program: no program 'no-such-program' on PATH"):
        keeper.execute(["no-such-program"], log=log)
    with pytest.raises(FleetError, match=r"cannot start true: .*No such file or directory: .*/nowhere"):
        keeper.execute(["true"], log=log, cwd=tmp_path / "nowhere")
    with pytest.raises(FleetError, match=r"cannot start true: .*No such file or directory: .*/nowhere/log"):
        keeper.execute(["true"], log=tmp_path / "nowhere" / "log")


def test_what_a_keeper_cannot_preload_is_a_clear_error(log):
    """A module that is missing, and one that starts threads: a fork would copy only one of them."""
    for module, problem in (
        ("nope", "cannot import nope"),
        ("numpy", "importing it starts .* no fork would be safe"),
    ):
        with Keeper([module]) as keeper, pytest.raises(FleetError, match=problem):
            keeper.execute(["true"], log=log)


def test_closing_ends_everything(log):
    """How each process ended can still be asked; nothing more can be started."""
    with Keeper() as keeper:
        processes = [keeper.execute(["sleep", "1000"], log=log) for _ in range(3)]
        processes[0].signal(signal.SIGSTOP)
        all_of_them = with_descendants([keeper.pid])
    assert left(all_of_them, within=0) == []
    assert [process.wait() for process in processes] == [-signal.SIGKILL] * 3
    with pytest.raises(FleetError, match="the keeper is closed"):
        keeper.execute(["true"], log=log)
    keeper.close()


def test_the_death_of_the_keeper_is_a_clear_error(log):
    """Every call says so, whoever waits is woken, and what it had started dies with it."""
    with Keeper() as keeper, ThreadPoolExecutor() as threads:
        server, sleeper = keeper.spawn(SERVE, SERVER, log=log), keeper.execute(["sleep", "1000"], log=log)
        wait_ready(server)
        sleeper.signal(signal.SIGSTOP)
        sleeper.stopped(5)
        children = with_descendants([server.pid, sleeper.pid])
        waiters = [threads.submit(server.wait), threads.submit(server.told, 60)]
        os.kill(keeper.pid, signal.SIGKILL)
        for call in (
            *(waiter.result for waiter in waiters),
            lambda: server.alive,
            lambda: server.told(5),
            lambda: sleeper.stopped(5),
            lambda: sleeper.signal(signal.SIGTERM),
            sleeper.close,
            lambda: keeper.execute(["true"], log=log),
        ):
            with pytest.raises(FleetError, match=r"the keeper \(pid \d+\) has died \(status -9\)"):
                call()
        assert left(children, within=2) == []


@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM", "SIGKILL forked"])
def test_nothing_outlives_the_harness(tmp_path, how):
    """Not a stopped server, a command, its child or a child in a session of its own (guarantee 111), nor its folder.

    Nor when a fork of the harness lives on and holds the socket to the keeper.
    """
    words = [sys.executable, "-c", HARNESS, str(tmp_path / "log"), how.split()[-1]]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=env) as harness:
        keeper, shell, *others = map(int, harness.stdout.readline().split())
        descendants(shell, 2)
        processes = with_descendants([keeper, *others])
        forked = psutil.Process(harness.pid).children() if "forked" in how else []
        harness.send_signal(signal.Signals[how.split()[0]])
        harness.wait(5)
        outlived = left(processes, within=2)
        for process in [*outlived, *(fork for fork in forked if fork.pid != keeper)]:
            process.kill()
    assert len(processes) == 7
    assert outlived == []
    assert not (tmp_path / "folder").exists()

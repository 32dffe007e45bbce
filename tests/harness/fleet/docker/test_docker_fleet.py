"""Real containers on a real engine: every fault acts, is healed, and nothing is left, of ours or of anybody's."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest

from faults import Blackhole, CpuHog, Drain, Errors, Kill, Latency, MemoryHog, MemoryLimit, Partition, Pause, Restart
from harness import Servers
from harness.fleet.deployment import Deployment
from harness.fleet.docker import home
from harness.fleet.docker.clean import clean
from harness.fleet.docker.fleet import DockerFleet
from harness.fleet.docker.labels import OWNER, PROJECT, ROLE
from harness.fleet.errors import FleetError
from protos.hello_pb2 import HelloRequest
from protos.hello_pb2_grpc import HelloStub

ROOT = Path(__file__).parents[4]


@pytest.fixture(scope="module")
def fleet(engine) -> Iterator[DockerFleet]:  # noqa: ARG001
    with DockerFleet() as fleet:
        yield fleet


@pytest.fixture(scope="module")
def two(fleet) -> Iterator[Deployment]:
    """Two servers; what a test does to one must be healed by its end."""
    with fleet.deploy(Servers(2, service_time=0.0)) as deployment:
        yield deployment


def ask(deployment: Deployment, name: str = "server-0", timeout: float = 1.5) -> str:
    """How a call over a new connection ends."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(deployment.addresses[name], options=options) as channel:
        try:
            HelloStub(channel).SayHello(HelloRequest(name="Ada"), timeout=timeout)
        except grpc.RpcError as error:
            return error.code().name
        return "OK"


FAULTS = [
    # Whether calls to the server are answered while it acts.
    (Latency(0.1), ("OK",)),
    (Blackhole(), ("DEADLINE_EXCEEDED",)),
    (Partition(), ("DEADLINE_EXCEEDED", "UNAVAILABLE")),
    (Pause(), ("DEADLINE_EXCEEDED",)),
    (Kill(), ("DEADLINE_EXCEEDED", "UNAVAILABLE")),
    (Drain(grace=1.0), ("DEADLINE_EXCEEDED", "UNAVAILABLE")),
    (Restart(), ("OK",)),
    (CpuHog(0.5), ("OK",)),
    (Errors(code="ABORTED"), ("ABORTED",)),
]


@pytest.mark.parametrize(("fault", "codes"), FAULTS, ids=str)
def test_a_fault_acts_on_its_container_and_is_healed(two, fault, codes):
    """The other server answers meanwhile, and the one that was hit answers again."""
    with two.fault(fault, on="server-0"):
        assert ask(two) in codes
        assert ask(two, "server-1", timeout=5.0) == "OK"
    assert ask(two, timeout=5.0) == "OK"


def test_the_engine_sees_what_is_done(two):
    """Paused, without a network, with a quarter of a processor, ended: by its own account, and none of it when healed."""
    container = two.servers["server-0"].container

    def seen() -> tuple[str, int, int]:
        container.reload()
        attrs = container.attrs
        return attrs["State"]["Status"], len(attrs["NetworkSettings"]["Networks"]), attrs["HostConfig"]["CpuQuota"]

    found = []
    for fault in (Pause(), Partition(), CpuHog(0.75), Kill()):
        with two.fault(fault, on="server-0"):
            found.append(seen())
    assert [found[0][0], found[1][1], found[2][2], found[3][0]] == ["paused", 0, 25_000, "exited"]
    assert seen() == ("running", 1, -1)


def test_a_server_that_needs_more_than_its_memory_limit_is_killed_and_comes_back(two):
    """The kernel kills it when it takes what it may not have; that is the fault's doing, and healing starts it again."""
    with two.fault(MemoryLimit(20_000_000), on="server-0"):
        with suppress(FleetError):  # it dies of the order
            two.apply(MemoryHog(200_000_000), "server-0")
        until(lambda: not two.servers["server-0"]._runs(), "the kernel killed it")
        two.heal(MemoryHog(200_000_000), "server-0")
        assert two.ended_by_themselves(0.0) == ()
    assert ask(two, timeout=5.0) == "OK"
    with two.fault(MemoryHog(200_000_000), on="server-0"):  # it may have as much again
        assert ask(two, timeout=5.0) == "OK"


def test_faults_overlap_on_a_container(two):
    """What is killed while it is paused and cut off comes back cut off and paused, and is whole once all is healed."""
    for fault in (Pause(), Partition(), Kill()):
        two.apply(fault, "server-0")
    two.heal(Kill(), "server-0")
    assert ask(two, timeout=0.5) != "OK"
    two.heal(Pause(), "server-0")
    assert ask(two, timeout=0.5) != "OK"
    two.heal(Partition(), "server-0")
    assert ask(two, timeout=5.0) == "OK"


def test_the_journal_of_a_killed_container_is_whole(two):
    """What was executed before the kill and after the start is in one journal."""
    before = len(two.executions(0.0))
    ask(two, timeout=5.0)
    with two.fault(Kill(), on="server-0"):
        assert len(two.executions(0.0)) == before + 1
    ask(two, timeout=5.0)
    assert [call.executed is not None for call in two.executions(0.0)][-2:] == [True, True]


def test_containers_are_confined_and_nothing_listens_beyond_loopback(engine, two):
    """Nobody's user, no capabilities, a root that cannot be written to, and no port of the machine."""
    ours = [each for each in engine.containers.list() if OWNER in each.labels]
    assert len(ours) >= len(two.servers) + 1
    for container in ours:
        host = container.attrs["HostConfig"]
        assert (container.attrs["Config"]["User"], host["ReadonlyRootfs"]) == ("65532:65532", True)
        assert not host["PortBindings"]
        assert host["CapDrop"] == ["ALL"]
        for process in psutil.Process(container.attrs["State"]["Pid"]).children(recursive=True):
            assert process.uids().real == 65532
    engines = {each.pid for each in psutil.process_iter(["name"]) if each.info["name"] in ("dockerd", "docker-proxy")}
    beyond = [
        connection.laddr
        for connection in psutil.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
        and connection.pid in engines
        and not connection.laddr.ip.startswith(("127.", "::1"))
    ]
    assert beyond == []


KILLED = """
import sys, time
from faults import Partition, Pause
from harness import Servers
from harness.fleet.docker.fleet import DockerFleet
with DockerFleet() as fleet, fleet.deploy(Servers(2)) as deployment:
    deployment.apply(Pause(), "server-0")
    deployment.apply(Partition(), "server-1")
    print("in the middle", flush=True)
    time.sleep(600)
"""


def everything(engine: Any) -> set[str]:
    """All that the engine has: containers, networks, volumes."""
    containers = {each.id for each in engine.containers.list(all=True)}
    networks = {each.id for each in engine.networks.list()}
    return containers | networks | {each.name for each in engine.volumes.list()}


@contextmanager
def strangers(engine: Any) -> Iterator[None]:
    """A container, a network and a volume of somebody else's."""
    network = engine.networks.create("somebody-elses")
    volume = engine.volumes.create("somebody-elses")
    container = engine.containers.run(
        home.TOXIPROXY, name="somebody-elses", network="somebody-elses", detach=True, volumes=["somebody-elses:/data"]
    )
    try:
        yield
    finally:
        container.remove(force=True)
        network.remove()
        volume.remove()


def killed_in_the_middle(**environ: str) -> None:
    """A harness that has paused one server and cut off the other is killed (SIGKILL)."""
    command = [sys.executable, "-c", KILLED]
    env = {**os.environ, **environ}
    with subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True) as harness:
        try:
            assert harness.stdout is not None
            assert harness.stdout.readline() == "in the middle\n"
        finally:
            harness.send_signal(signal.SIGKILL)


def test_a_killed_harness_leaves_what_clean_removes_and_nothing_else(engine):
    """After SIGKILL and `stormproof clean` the engine has what it had before; what is a stranger's is untouched."""
    with strangers(engine):
        before = everything(engine)
        killed_in_the_middle()
        assert len(everything(engine) - before) >= 4  # two servers, Toxiproxy and their network, at the least
        swept = clean()
        assert everything(engine) == before
        assert len(swept.removed) >= 4
        assert engine.containers.get("somebody-elses").status == "running"
        assert clean().removed == []


def test_cleaning_up_spares_the_living(engine, two):
    """What a run that goes on has is left alone, and that is told."""
    before = everything(engine)
    swept = clean()
    assert (swept.removed, len(swept.spared)) == ([], 1)
    assert everything(engine) == before
    assert ask(two, timeout=5.0) == "OK"


@pytest.fixture
def project(engine) -> Iterator[list[Any]]:
    """Toxiproxy and two Hello servers as docker-compose.yml has them, in a project that stays."""
    name = f"stormproof-test-{os.getpid()}"
    network = engine.networks.create(name)
    labels = {PROJECT: name}
    made = [
        engine.containers.run(
            home.TOXIPROXY, ["-host=0.0.0.0", "-proxy-metrics"], labels={**labels, ROLE: "toxiproxy"}, network=name,
            detach=True,
        ),
        *(
            engine.containers.run(home.IMAGE, labels={**labels, ROLE: "server"}, network=name, detach=True, read_only=True)
            for _ in range(2)
        ),
    ]  # fmt: skip
    try:
        yield made
    finally:
        for container in made:
            container.remove(force=True, v=True)
        network.remove()


def how_they_are(containers: list[Any]) -> list[tuple[str, list[str]]]:
    for container in containers:
        container.reload()
    return [(each.attrs["State"]["Status"], list(each.attrs["NetworkSettings"]["Networks"])) for each in containers]


def test_a_project_that_runs_is_used_and_given_back(engine, project, monkeypatch):
    """Its servers serve with the scenario's settings; one more is made for the third; at the end all is as it was."""
    monkeypatch.setenv("STORMPROOF_DOCKER_PROJECT", project[0].labels[PROJECT])
    before, was = everything(engine), how_they_are(project)
    with DockerFleet() as fleet, fleet.deploy(Servers(3, service_time=0.3)) as deployment:
        containers = [server.container.id for server in deployment.servers.values()]
        assert set(containers[:2]) == {each.id for each in project[1:]}
        began = time.monotonic()
        assert ask(deployment, timeout=5.0) == "OK"
        assert time.monotonic() - began >= 0.3
        deployment.apply(Partition(), "server-0")  # and nobody heals it
    assert (everything(engine), how_they_are(project)) == (before, was)


def test_a_killed_harness_gives_back_what_it_had_borrowed_when_cleaned_up(engine, project):
    """A borrowed server that is paused goes on, and one that is cut off is connected."""
    before, was = everything(engine), how_they_are(project)
    killed_in_the_middle(STORMPROOF_DOCKER_PROJECT=project[0].labels[PROJECT])
    assert how_they_are(project) != was
    swept = clean()
    assert len(swept.restored) == 2
    assert (everything(engine), how_they_are(project)) == (before, was)


def test_an_image_that_cannot_be_had_is_told_with_the_way_out(engine, monkeypatch):
    """And nothing is left running."""
    before = everything(engine)
    monkeypatch.setattr(home, "IMAGE", "stormproof.invalid/no-such-image:1")
    with pytest.raises(FleetError, match=r"no-such-image:1 is not here and cannot be pulled: .*docker build --target"):
        with DockerFleet() as fleet, fleet.deploy(Servers(1)):
            pass
    assert everything(engine) == before


def test_a_name_that_is_taken_is_told_with_the_way_out(engine, fleet):
    """The engine's own words, and what removes it if it is ours."""
    taken = engine.containers.create(home.TOXIPROXY, name=f"{fleet._name}-server-2")
    try:
        with pytest.raises(FleetError, match=r"could not be made: .*already in use.*`stormproof clean`"):
            with fleet.deploy(Servers(3)):
                pass
    finally:
        taken.remove()


def compose_file(folder: Path, **service: Any) -> Path:
    """A compose file of somebody's, with one service."""
    file = folder / "docker-compose.yml"
    content = {"services": {"cart": {"image": home.IMAGE, "entrypoint": ["sleep", "600"], **service}}}
    file.write_text(json.dumps(content))  # JSON is YAML
    return file


def test_a_service_without_the_port_is_told_and_nothing_is_left(engine, tmp_path, monkeypatch):
    """It runs, and nobody listens where the test says."""
    monkeypatch.setattr("harness.fleet.docker.server.READY", 1.0)
    before = everything(engine)
    file = compose_file(tmp_path, stop_grace_period="0s")
    with pytest.raises(FleetError, match=r"took no calls at .*:7000 within 1 s .*is that where it listens"):
        with DockerFleet() as fleet, fleet.deploy(Servers(1, compose=str(file), service="cart", port=7000)):
            pass
    assert everything(engine) == before


def test_a_compose_file_that_fails_is_told_in_its_own_words(engine, tmp_path):
    """A service that it does not have, and a file that is not there."""
    before = everything(engine)
    with DockerFleet() as fleet:
        with pytest.raises(FleetError, match="could not be brought up .*[Nn]o such service: basket"):
            with fleet.deploy(Servers(1, compose=str(compose_file(tmp_path)), service="basket", port=1)):
                pass
        with pytest.raises(FleetError, match=r"there is no compose file .*none\.yml"):
            with fleet.deploy(Servers(1, compose=str(tmp_path / "none.yml"), service="cart", port=1)):
                pass
    assert everything(engine) == before


@contextmanager
def way_to_the_engine(path: Path) -> Iterator[threading.Event]:
    """A socket that leads to the engine until the event is set: then it has stopped, as far as anybody can tell."""
    gone = threading.Event()
    open_ends: list[socket.socket] = []

    def carry(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)

    def serve(listener: socket.socket) -> None:
        with suppress(OSError):
            while not gone.is_set():
                near, _ = listener.accept()
                far = socket.socket(socket.AF_UNIX)
                far.connect("/var/run/docker.sock")
                open_ends.extend((near, far))
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=carry, args=pair, daemon=True).start()

    def watch() -> None:
        gone.wait()
        listener.close()
        path.unlink()
        for end in open_ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    with closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(path))
        listener.listen(16)
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield gone
        finally:
            gone.set()
            watcher.join()


def test_an_engine_that_stops_in_the_middle_is_told(engine, tmp_path):
    """Status 2, one message without a traceback; and what is left is removed once it runs again."""
    before, running = everything(engine), len(engine.containers.list())
    command = [sys.executable, "-m", "harness.cli", "run", "suites/test_partition.py", "--fleet=docker"]
    env = {**os.environ, "DOCKER_HOST": f"unix://{tmp_path}/d.sock"}
    with way_to_the_engine(tmp_path / "d.sock") as gone:
        with subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True) as harness:
            try:
                until(lambda: len(engine.containers.list()) >= running + 5, "four servers and Toxiproxy run")
                gone.set()
                said, _ = harness.communicate(timeout=60)
            finally:
                harness.kill()
    assert harness.returncode == 2, said
    assert "the container engine gave no answer" in said
    assert "`stormproof clean`" in said
    assert "Traceback" not in said
    clean()
    assert everything(engine) == before


def until(true: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.1)

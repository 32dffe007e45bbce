"""No engine, or none that may be used: one clear message with the way out, and exit status 2. No engine is needed for these."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from harness import Servers
from harness.fleet.docker import engine, labels
from harness.fleet.docker.fleet import DockerFleet
from harness.fleet.errors import FleetError

ROOT = Path(__file__).parents[4]


def stormproof(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """The command line, in a process of its own."""
    command = [sys.executable, "-m", "harness.cli", *words]
    env = {**os.environ, **environ}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=False)


def test_no_engine_is_told_once_with_the_way_out(tmp_path):
    """A run without an engine ends with status 2 and one message."""
    where = f"unix://{tmp_path}/no.sock"
    done = stormproof("run", "suites/test_partition.py", "--fleet=docker", DOCKER_HOST=where)
    said = done.stdout + done.stderr
    assert done.returncode == 2, said
    assert f"no container engine answers at {where}" in said
    assert "start one" in said
    assert "Traceback" not in said


def test_cleaning_up_without_an_engine_is_told_likewise(tmp_path):
    """There is nobody who could say what is left."""
    done = stormproof("clean", DOCKER_HOST=f"unix://{tmp_path}/no.sock")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("stormproof: no container engine answers")


def test_no_permission_is_told_apart_from_no_engine(monkeypatch):
    """Who may not open the socket is told to join its group, not to start an engine that runs."""

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "connect", refuse)  # root may open everything
    monkeypatch.setenv("DOCKER_HOST", "unix:///var/run/docker.sock")
    with pytest.raises(FleetError, match="no permission to use the container engine .* run as a member of the group"):
        engine.connect()


def test_an_engine_on_another_kernel_is_refused():
    """Its clock and its network are not this machine's, so no history could be joined."""

    class Elsewhere:
        def info(self):
            return {"KernelVersion": "5.15.0-other"}

    with pytest.raises(FleetError, match=r"kernel 5\.15\.0-other, here .*docker compose up chaos"):
        engine.must_be_here(Elsewhere())


def test_an_owner_that_lives_is_told_from_one_that_has_died():
    """This process lives; one that never was does not; and of one elsewhere nobody here can know."""
    mine = labels.owner()
    place, _, started, token = mine.rsplit("-", 3)
    assert labels.alive(mine) is True
    assert labels.alive(f"{place}-{2**22 + 1}-{started}-{token}") is False
    assert labels.alive(f"{place}-{os.getpid()}-{int(started) + 1}-{token}") is False  # its number came back
    assert labels.alive(f"elsewhere-1-1-1-{token}") is None


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"compose": "a.yml"}, "compose, service and port must be given together; there is no service and no port"),
        ({"compose": "a.yml", "service": "cart", "port": 0}, "port must be a whole number, from 1 to 65535; got 0"),
        ({"compose": "", "service": "cart", "port": 1}, "compose must be a text that is not empty; got ''"),
        (
            {"compose": "a.yml", "service": "cart", "port": 1, "command": ("x", "{port}")},
            "command must be None for servers of a compose file",
        ),
    ],
)
def test_servers_of_a_compose_file_are_checked_where_they_are_made(wrong, message):
    """Each mistake is named."""
    with pytest.raises(ValueError, match=message):
        Servers(2, **wrong)


def test_servers_with_a_command_are_no_containers():
    """The fleet of containers says so, and what to do instead."""
    refused = DockerFleet().refuses(Servers(1, command=("./mine", "{port}")))
    assert refused == "servers with a command are processes; use --fleet=local, or give their image in a compose file"

"""The fleet of containers: `--fleet=docker`.

It uses the compose project that runs (docker-compose.yml), or makes what it needs, and finds everything by labels. The
client is a process beside the harness; it reaches Toxiproxy at its address in the project's network, which on Linux the
engine's host can do as well as the network's own containers. So nothing has to be published for it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from faults import Fault, FileDescriptors, PacketLoss
from harness.fleet.deployment import Deployment
from harness.fleet.docker import borrowed, compose
from harness.fleet.docker.clean import sweep
from harness.fleet.docker.engine import connect, must_be_here, own_container, told
from harness.fleet.docker.home import Home
from harness.fleet.docker.labels import BORROWED, OWNER, PROJECT, owner
from harness.fleet.docker.server import DockerServer, Place
from harness.fleet.errors import FleetError
from harness.fleet.keeper import Keeper
from harness.fleet.proxied import cannot
from harness.fleet.real import PRELOAD, RealFleet
from harness.proxy.control import Control
from harness.proxy.errors import ToxiproxyError
from harness.scenario import Servers

#: Where Toxiproxy's API is in its container, and seconds until it must answer.
API, START = 8474, 10.0
#: Seconds between two looks whether engine and Toxiproxy are there.
LOOK = 0.5
#: Which compose project to use, where several run.
WHICH = "STORMPROOF_DOCKER_PROJECT"


class DockerFleet(RealFleet):
    """Containers on this machine's engine. Enter it before use; it starts nothing before."""

    name = "docker"

    def __init__(self) -> None:
        super().__init__()
        self._services: dict[tuple[str, str, int], compose.Service] = {}
        self._looked = 0.0
        self._ill: tuple[str, ...] = ()

    def __enter__(self) -> Self:
        try:
            self._open()
        except ToxiproxyError as error:
            self._stack.close()
            raise FleetError(str(error)) from error
        except BaseException:
            self._stack.close()
            raise
        return self

    def _open(self) -> None:
        self._client = connect()
        inside = own_container(self._client)
        if inside is None:
            must_be_here(self._client)
        self._owner = owner()
        self._name = f"stormproof-{self._owner[-6:]}"
        self._stack.callback(self._sweep)
        self._home = Home(self._client, self._owner, self._name)
        project = os.environ.get(WHICH) or (inside.labels.get(PROJECT) if inside is not None else None)
        if not self._home.find(project):
            if project:
                raise FleetError(f"no Toxiproxy runs in the project {project}: `docker compose -p {project} up -d`")
            self._home.make()
        elif self._home.lent:
            self._borrow("hello", self._home.lent, hello=True)
        self._proxies = self._home.address(self._home.toxiproxy)
        self.control = Control(self._proxies, API)
        try:
            self.control.wait_ready(START)
        except ToxiproxyError as error:
            words = self._home.toxiproxy.logs(tail=3).decode(errors="replace").strip()
            raise FleetError(
                f"Toxiproxy in {self._home.toxiproxy.name} did not answer: {error}; its last words: {words or 'none'}. Where "
                "a firewall or a rootless engine keeps its network from this machine, run `docker compose up chaos`"
            ) from error
        self.proxy = f"toxiproxy {self.control.version()}"
        self.folder = Path(tempfile.mkdtemp(prefix="stormproof-"))
        self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self._keeper = self._stack.enter_context(Keeper(PRELOAD, folder=self.folder))

    def cannot(self, fault: Fault, servers: Servers) -> str | None:
        if isinstance(fault, PacketLoss):
            return f"{fault} needs the built-in proxy, and in containers there is the real Toxiproxy; use --fleet=local"
        if isinstance(fault, FileDescriptors):
            return f"the docker fleet cannot limit a container's files while it runs ({fault}); use --fleet=local"
        return cannot(fault, servers)

    def refuses(self, servers: Servers) -> str | None:
        if servers.command is not None:
            return "servers with a command are processes; use --fleet=local, or give their image in a compose file"
        return None

    @contextlib.contextmanager
    def deploy(self, servers: Servers, *, seed: int = 1) -> Iterator[Deployment]:
        if reason := self.refuses(servers):
            raise FleetError(reason)
        places = self._places(servers)
        folder = Path(tempfile.mkdtemp(dir=self.folder, prefix="run-"))
        prefix = f"{self._name}-{folder.name}-"  # unique on a Toxiproxy that others use too
        found = (
            DockerServer(server, servers, place, self._client, self._home, self.control, folder, prefix, seed)
            for server, place in zip(servers.all(), places, strict=True)
        )
        with self._up(found, folder) as deployment:
            yield deployment

    def health(self) -> tuple[str, ...]:
        if time.monotonic() - self._looked > LOOK:
            self._looked = time.monotonic()
            try:
                with told("Toxiproxy could not be looked at"):
                    state = self._client.api.inspect_container(self._home.toxiproxy.id)["State"]
                self._ill = () if state["Running"] else ("Toxiproxy ended in the middle of the run",)
            except FleetError as error:
                self._ill = (str(error),)
        return self._ill

    def _places(self, servers: Servers) -> list[Place]:
        if servers.compose is None or servers.service is None:
            found, network = self._home.hello(servers.count), self._home.network
            return [Place(container=each, network=network, proxies=self._proxies) for each in found]
        service = self._service(servers.compose, servers.service, servers.count)
        return [Place(container=each, network=service.network, proxies=self._proxies) for each in service.containers]

    def _service(self, file: str, service: str, count: int) -> compose.Service:
        key = (file, service, count)
        if key not in self._services:
            found = compose.find(self._client, file, service, count)
            if found is None:
                project = f"{self._name}-{len(self._services)}"
                found = compose.bring_up(self._client, file, service, count, owner=self._owner, project=project)
            else:
                self._borrow(f"{len(self._services)}", list(found.containers), hello=False)
            with told(f"Toxiproxy could not join the network {found.network}"):
                self._join(found.network)
            self._services[key] = found
        return self._services[key]

    def _join(self, network: str) -> None:
        """Toxiproxy in one more network, until the end."""
        self._home.toxiproxy.reload()
        if network in self._home.toxiproxy.attrs["NetworkSettings"]["Networks"]:
            return
        self._client.networks.get(network).connect(self._home.toxiproxy)
        self._stack.callback(self._leave, network)

    def _leave(self, network: str) -> None:
        with contextlib.suppress(Exception):  # gone, or swept in any case
            self._client.networks.get(network).disconnect(self._home.toxiproxy, force=True)

    def _borrow(self, what: str, containers: list[Any], *, hello: bool) -> None:
        """Notes with the engine how they are, so that they are put back so even if we are killed."""
        with told("what is borrowed could not be noted"):
            states = [borrowed.State.of(container, hello=hello) for container in containers]
            labels = {OWNER: self._owner, BORROWED: borrowed.to_json(states)}
            self._client.volumes.create(name=f"{self._name}-borrowed-{what}", labels=labels)

    def _sweep(self) -> None:
        with told("not all that was started could be removed"):
            sweep(self._client, lambda owner: owner == self._owner)

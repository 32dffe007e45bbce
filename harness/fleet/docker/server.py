"""One server of a fleet of containers: its container, its proxy, and how each fault is done to it and undone."""

from __future__ import annotations

import contextlib
import math
import signal
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from docker.errors import APIError
from msgspec import json

from faults import CpuHog, Fault, MemoryLimit, Partition, Pause
from harness.fleet.docker.borrowed import JOURNAL, SETTINGS, aliases, get_file, put_files, set_memory
from harness.fleet.docker.engine import told
from harness.fleet.docker.home import Home
from harness.fleet.errors import FleetError
from harness.fleet.proxied import GRACE, READY, ProxiedServer
from harness.history import Server
from harness.node.probe import serves
from harness.proxy.control import Control
from harness.scenario import Servers

#: The ports of a Hello server in its container (Dockerfile).
PORT, CONTROL = 50051, 50052
#: Seconds between two looks whether a container that should run does.
LOOK = 0.5
#: Microseconds of a turn of the quota, and the least of them that is left: what the kernel takes.
TURN, LEAST = 100_000, 1_000
#: The least bytes that an engine lets a container have.
LEAST_MEMORY = 6 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where it is: its container, the network it is called in, the host that its proxies listen at."""

    container: Any
    network: str
    proxies: str


class DockerServer(ProxiedServer):
    """A running container. `address` is what clients call: its proxy."""

    def __init__(
        self, server: Server, servers: Servers, place: Place, client: Any, home: Home, control: Control,
        folder: Path, prefix: str, seed: int,
    ) -> None:  # fmt: skip
        super().__init__(server, servers, control, folder, prefix, seed)
        self.container = place.container
        self._place = place
        self._client = client
        self._home = home
        self._ours = servers.compose is None
        self._port = PORT if servers.port is None else servers.port
        self._upstream = ""
        self._names: list[str] = []  # by which it is known in its network
        self._fixed: str | None = None  # the address that it must have again
        self._told_to_end = False
        self._looked = -math.inf
        self._ends: list[str] = []
        self._shares: dict[str, float] = {}
        self._memory = 0  # its limit before it was limited further; 0 is none

    def begin(self) -> None:
        with told(f"{self.name} could not be prepared"):
            self._names = aliases(self.container, self._place.network)
            self._memory = self.container.attrs["HostConfig"]["Memory"] or 0
            if self._ours:
                with contextlib.suppress(APIError):  # it does not run
                    self.container.kill()
                self.container.wait(timeout=READY)
                put_files(self.container, {SETTINGS: json.encode(self._settings()), JOURNAL: b""})
        self.spawn()
        self._upstream = self._where()
        listening = self._control.create(self.proxy, upstream=self._upstream, listen="0.0.0.0:0")
        self.address = f"{self._place.proxies}:{listening.rpartition(':')[2]}"

    def spawn(self) -> None:
        with told(f"{self.name} could not be started"):
            self.container.start()
        self._told_to_end = False

    def wait_ready(self) -> None:
        if self._suffers(Partition):
            return  # nobody can see it; who reconnects it waits
        self._find_again()
        deadline, why = time.monotonic() + READY, "it has not been asked"
        while why:
            if not self._runs():
                raise FleetError(f"{self.name} ended before it took calls; its last words: {self._last_words()}")
            if time.monotonic() > deadline:
                raise FleetError(
                    f"{self.name} took no calls at {self._upstream} within {READY:g} s ({why}): is that where it "
                    f"listens? Its last words: {self._last_words()}"
                )
            why = (serves(self._upstream, 1.0) if self._ours else _refuses(self._upstream)) or ""
        self._misbehaviour.begins(f"{self._upstream.rpartition(':')[0]}:{CONTROL}" if self._ours else None)

    def ended_by_itself(self, origin: float) -> list[str]:
        if time.monotonic() - self._looked > LOOK and not self._told_to_end:
            state = self._state()
            self._looked = time.monotonic()
            if not state["Running"] and not self._told_to_end and not self._suffers(MemoryLimit):
                self._note_end(state, f" at about {self._looked - origin:.1f} s")
        return list(self._ends)

    def kill(self) -> float:
        now = time.monotonic()
        self._end(signal.SIGKILL)
        with told(f"{self.name} was not seen to end"):
            self.container.wait(timeout=READY)
        return max(now, time.monotonic())

    def stop(self, grace: float = GRACE) -> float:
        now = time.monotonic()
        if self._end(signal.SIGTERM):
            try:
                self.container.wait(timeout=max(grace, 0.1))
            except requests.RequestException:  # it takes longer
                with told(f"{self.name} could not be killed"), contextlib.suppress(APIError):  # it may have ended now
                    self.container.kill()
        with told(f"{self.name} was not seen to end"):
            self.container.wait(timeout=READY)
        return now

    def close(self) -> None:
        """One of ours is stopped; what was borrowed or brought up is put back by the fleet."""
        with contextlib.suppress(Exception):  # a Toxiproxy that is gone has no proxies either
            self._control.delete(self.proxy)
        if self._ours and not self._told_to_end:
            with contextlib.suppress(Exception):  # it may have ended by itself, and is swept in any case
                self._end(signal.SIGKILL)
        self._shares.clear()

    def fetch_journal(self) -> None:
        if self._ours:
            with told(f"the journal of {self.name} could not be had"):
                self.journal.write_bytes(get_file(self.container, JOURNAL))

    def _apply(self, fault: Fault, tag: str) -> float:
        match fault:
            case CpuHog():
                self._shares[tag] = fault.share
                return self._limit_processor()
            case MemoryLimit():
                return self._limit_memory(fault.left)
            case Partition():
                return self._disconnect()
        return super()._apply(fault, tag)

    def _heal(self, fault: Fault, tag: str) -> None:
        match fault:
            case CpuHog():
                self._shares.pop(tag, None)
                self._limit_processor()
            case MemoryLimit():
                if not self._suffers(MemoryLimit):
                    self._free_memory()
            case Partition():
                if not self._suffers(Partition):
                    self._connect()
            case _:
                super()._heal(fault, tag)

    def _touched(self, fault: Fault, tag: str) -> int | None:
        return None if isinstance(fault, Partition) else super()._touched(fault, tag)

    def _is_deaf(self) -> bool:
        killed = self._suffers(MemoryLimit) and not self._runs()  # by the kernel
        return killed or self._suffers(Pause) or self._suffers(Partition)

    def _runs(self) -> bool:
        return bool(self._state()["Running"])

    def _state(self) -> dict[str, Any]:
        with told(f"{self.name} could not be looked at"):
            state: dict[str, Any] = self._client.api.inspect_container(self.container.id)["State"]
            return state

    def _end(self, signum: int) -> bool:
        if self._told_to_end:
            return False
        self._misbehaviour.ends()
        state = self._state()
        self._told_to_end = True
        if not state["Running"]:
            if not self._suffers(MemoryLimit):
                self._note_end(state)
            return False
        with told(f"{self.name} could not be told to end"):
            if state["Paused"]:
                self.container.unpause()  # some engines kill no other way
            self.container.kill(signal.Signals(signum).name)
        return True

    def _note_end(self, state: dict[str, Any], when: str = "") -> None:
        if not self._ends:
            by = ", for it had no memory left" if state.get("OOMKilled") else ""
            self._ends.append(f"{self.name} ended by itself{when} with status {state['ExitCode']}{by}")

    def _pause(self) -> float:
        with told(f"{self.name} could not be paused"):
            if not self._state()["Paused"]:
                self.container.pause()
        return time.monotonic()

    def _continue(self) -> None:
        with told(f"{self.name} could not go on"):
            if self._state()["Paused"]:
                self.container.unpause()

    def _disconnect(self) -> float:
        where = self._where().rpartition(":")[0]
        self._fixed = where if self._home.keeps_address(self.container) else None
        with told(f"{self.name} could not be disconnected from {self._place.network}"):
            self._client.networks.get(self._place.network).disconnect(self.container, force=True)
        return time.monotonic()

    def _connect(self) -> None:
        """Back in its network. Connections are closed only if it has another address there: they would hear nothing ever."""
        with told(f"{self.name} could not be connected to {self._place.network}"):
            self.container.reload()
            if self._place.network not in self.container.attrs["NetworkSettings"]["Networks"]:
                network = self._client.networks.get(self._place.network)
                network.connect(self.container, aliases=self._names, ipv4_address=self._fixed)
        if not self._runs():
            return
        if self._suffers(Pause):
            self._find_again()
        else:
            self.wait_ready()
            self._misbehaviour.goes_on()

    def _limit_processor(self) -> float:
        """What hogs leave of one processor, as a quota; none is no limit."""
        left = max(LEAST, round((1.0 - sum(self._shares.values())) * TURN)) if self._shares else -1
        with told(f"the processor time of {self.name} could not be limited"):
            self.container.update(cpu_period=TURN, cpu_quota=left)
        return time.monotonic()

    def _limit_memory(self, left: int) -> float:
        """Of several such faults the last one counts."""
        with told(f"the memory of {self.name} could not be limited"):
            used = self._client.api.stats(self.container.id, stream=False, one_shot=True)["memory_stats"]["usage"]
            set_memory(self.container, max(LEAST_MEMORY, used + left))
        return time.monotonic()

    def _free_memory(self) -> None:
        with told(f"the memory of {self.name} could not be given back"):
            set_memory(self.container, self._memory or self._client.info()["MemTotal"])
        if not self._runs() and not self._told_to_end:  # the kernel's doing
            self._misbehaviour.ends()
            self._told_to_end = True
            self._revive()

    def _find_again(self) -> None:
        """Leads the proxy to where it is now."""
        where = self._where()
        if where != self._upstream and self.address:
            self._control.redirect(self.proxy, upstream=where)
        self._upstream = where

    def _where(self) -> str:
        return f"{self._home.address(self.container, self._place.network)}:{self._port}"

    def _last_words(self) -> str:
        with contextlib.suppress(Exception):  # the error that asks for them says more
            return self.container.logs(tail=5).decode(errors="replace").strip()[-500:] or "none"
        return "none"


def _refuses(address: str) -> str | None:
    """None if something listens at `address`, else why not."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=1.0).close()
    except OSError as error:
        time.sleep(0.05)
        return str(error)
    return None

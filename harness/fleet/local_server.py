"""One server of a local fleet: its process, its proxy, and how each fault is done to it and undone."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
import time
from pathlib import Path

from faults import CpuHog, Fault, FileDescriptors, Pause
from harness.fleet import descriptors
from harness.fleet.errors import FleetError
from harness.fleet.keeper import Keeper, Process
from harness.fleet.keeper_child import TELL_FD
from harness.fleet.ports import free_port
from harness.fleet.proxied import GRACE, READY, ProxiedServer
from harness.fleet.slices import Slices
from harness.history import Server
from harness.node.ready import wait_ready
from harness.proxy.control import Control
from harness.scenario import Servers

#: Seconds until a stopped process has stopped.
STOP = 2.0


class LocalServer(ProxiedServer):
    """A running server. `address` is what clients call: its proxy."""

    def __init__(
        self,
        server: Server,
        servers: Servers,
        keeper: Keeper,
        control: Control,
        folder: Path,
        prefix: str,
        seed: int,
    ) -> None:
        super().__init__(server, servers, control, folder, prefix, seed)
        self.port = free_port()
        self.process: Process | None = None
        self._keeper = keeper
        self._log = folder / f"{server.name}.log"
        self._chances = f"{seed}/{server.name}"  # what its proxy draws from: as in virtual time
        self._signalling = threading.Lock()
        self._slices = Slices(self._stop_or_continue)
        self._descriptors: int | None = None  # how many it might open before it was limited
        self._told_to_end: Process | None = None
        self._ended_by_themselves: list[Process] = []

    def begin(self) -> None:
        upstream, listen = f"127.0.0.1:{self.port}", f"127.0.0.1:{free_port()}"
        self.address = self._control.create(self.proxy, upstream=upstream, listen=listen, seed=self._chances)
        self.spawn()

    def spawn(self) -> None:
        servers = self._servers
        if servers.command is not None:
            argv = [part.replace("{port}", str(self.port)) for part in servers.command]
            self.process = self._keeper.execute(argv, log=self._log)
            return
        self.process = self._keeper.spawn(
            "harness.node.server:serve",
            {
                **self._settings(),
                "port": self.port,
                "control_port": 0,
                "ready_fd": TELL_FD,
                "journal": str(self.journal),
            },
            log=self._log,
        )

    def wait_ready(self) -> None:
        if self._servers.command is not None:
            self._wait_until_it_listens()
            return
        port = wait_ready(self._running(), timeout=READY).control_port
        self._misbehaviour.begins(None if port is None else f"127.0.0.1:{port}")

    def ended_by_itself(self, origin: float) -> list[str]:
        found, process = list(self._ended_by_themselves), self._running()
        # In this order: what is told to end is marked before it ends.
        if process.exited_at is not None and process not in (self._told_to_end, *found):
            found.append(process)
        return [
            f"{self.name} ended by itself at {(end.exited_at or origin) - origin:.1f} s with status {end.wait(0)}"
            for end in found
        ]

    def kill(self) -> float:
        now, process = time.monotonic(), self._running()
        self._end(signal.SIGKILL)
        process.close()
        return max(now, process.exited_at or now)

    def stop(self, grace: float = GRACE) -> float:
        now, process = time.monotonic(), self._running()
        if self._end(signal.SIGTERM):
            with contextlib.suppress(TimeoutError):
                process.wait(grace)
        process.close()
        return now

    def close(self) -> None:
        self._slices.close()
        try:
            if self.process is not None:
                self.process.close()
        finally:
            with contextlib.suppress(Exception):  # a Toxiproxy that is gone has no proxies either
                self._control.delete(self.proxy)

    def _apply(self, fault: Fault, tag: str) -> float:
        match fault:
            case CpuHog():
                return self._slices.add(tag, fault.share)
            case FileDescriptors():
                return self._limit_descriptors(fault.left)
        return super()._apply(fault, tag)

    def _heal(self, fault: Fault, tag: str) -> None:
        match fault:
            case CpuHog():
                self._slices.remove(tag)
            case FileDescriptors():
                self._free_descriptors()
            case _:
                super()._heal(fault, tag)

    def _runs(self) -> bool:
        return self._running().alive

    def _end(self, signum: int) -> bool:
        process = self._running()
        if process is self._told_to_end:
            return False
        self._misbehaviour.ends()
        self._told_to_end = process
        sent = process.signal(signum)
        if not sent:
            self._ended_by_themselves.append(process)
        return sent

    def _stop_or_continue(self, stop: bool) -> None:
        """For a slice of time. What is paused stays so; what has ended meanwhile cannot be told."""
        with self._signalling, contextlib.suppress(FleetError):
            if stop or not self._suffers(Pause):
                self._running().signal(signal.SIGSTOP if stop else signal.SIGCONT)

    def _pause(self) -> float:
        now, process = time.monotonic(), self._running()
        with self._signalling:
            process.signal(signal.SIGSTOP)
        return max(now, process.stopped(STOP))

    def _limit_descriptors(self, left: int) -> float:
        """Of several such faults the last one counts."""
        now = time.monotonic()
        before = descriptors.limit(self._running().pid, left)
        if self._descriptors is None:
            self._descriptors = before
        return now

    def _free_descriptors(self) -> None:
        if self._descriptors is not None and not self._suffers(FileDescriptors):
            descriptors.free(self._running().pid, self._descriptors)
            self._descriptors = None

    def _continue(self) -> None:
        self._running().signal(signal.SIGCONT)

    def _running(self) -> Process:
        assert self.process is not None
        return self.process

    def _wait_until_it_listens(self) -> None:
        process, deadline = self._running(), time.monotonic() + READY
        while not (_listens(self.port) and process.alive):
            if not process.alive:
                raise self._failure(f"ended with status {process.wait()} and does not listen")
            if time.monotonic() > deadline:
                raise self._failure(f"did not listen within {READY:g} s")
            time.sleep(0.02)

    def _failure(self, what: str) -> FleetError:
        words = self._log.read_text(errors="replace")[-500:].strip() if self._log.exists() else ""
        return FleetError(
            f"{self.name} {what} on port {self.port} ({self._running().what}); its last words: {words or 'none'}"
        )


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0

"""The servers of one run on this machine: started, broken, healed, asked what they did, and stopped.

It is what the `fleet` fixture hands to a test that asserts by hand, and what the nemesis works on.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

from faults import Errors, Fault, Kill, Overload, Pause, Refuse, Restart
from faults.network import NetworkFault
from faults.process import ProcessFault
from faults.server import ServerFault
from harness.fleet.errors import FleetError
from harness.fleet.keeper import Keeper, Process
from harness.fleet.keeper_child import TELL_FD
from harness.fleet.ports import free_port
from harness.history import Execution
from harness.history import Server as Named
from harness.node.journal import read_journal
from harness.node.ready import wait_ready
from harness.proxy.control import Control
from harness.scenario import Servers
from protos import control_pb2, control_pb2_grpc

#: Seconds that a server may need until it answers, and that a graceful stop may take.
READY, GRACE = 15.0, 5.0


class LocalServer:
    """One server: its process, its proxy, and how it is told to misbehave."""

    def __init__(
        self, named: Named, servers: Servers, keeper: Keeper, control: Control, folder: Path, prefix: str
    ) -> None:
        self.name = named.name
        self.named = named
        self.proxy = f"{prefix}{named.name}"
        self.journal = folder / f"{named.name}.jsonl"
        self.port = free_port()
        self.process: Process | None = None
        self.address = ""
        self._servers = servers
        self._keeper = keeper
        self._control = control
        self._log = folder / f"{named.name}.log"
        self._control_port: int | None = None
        self._misbehaviour: list[ServerFault] = []
        self._counted: dict[ServerFault, int] = {}
        self._lock = threading.Lock()

    def open_proxy(self) -> None:
        self.address = self._control.create(
            self.proxy, upstream=f"127.0.0.1:{self.port}", listen=f"127.0.0.1:{free_port()}"
        )

    def spawn(self) -> None:
        """Starts the process; `wait_ready` says when it answers."""
        servers = self._servers
        if servers.command is not None:
            argv = [part.replace("{port}", str(self.port)) for part in servers.command]
            self.process = self._keeper.execute(argv, log=self._log)
            return
        self.process = self._keeper.spawn(
            "harness.node.server:serve",
            {
                "port": self.port,
                "control_port": 0,
                "ready_fd": TELL_FD,
                "name": self.name,
                "service_time": servers.service_time,
                "workers": servers.workers,
                "journal": str(self.journal),
            },
            log=self._log,
        )

    def wait_ready(self) -> None:
        """Returns once the server takes calls. FleetError with its last words if it does not."""
        assert self.process is not None
        if self._servers.command is None:
            self._control_port = wait_ready(self.process, timeout=READY).control_port
            if self._misbehaviour:
                self._behave()
            return
        deadline = time.monotonic() + READY
        while not _listens(self.port):
            if not self.process.alive or time.monotonic() > deadline:
                words = self._log.read_text(errors="replace")[-500:] if self._log.exists() else ""
                raise FleetError(f"{self.name} does not listen on port {self.port}; its last words: {words or 'none'}")
            time.sleep(0.02)

    def kill(self) -> float:
        assert self.process is not None
        self.process.close()
        return self.process.exited_at or time.monotonic()

    def stop(self, grace: float) -> float:
        """SIGTERM, then SIGKILL after `grace` seconds."""
        assert self.process is not None
        began = time.monotonic()
        if self.process.alive:
            self.process.signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                self.process.wait(grace)
        self.process.close()
        return began

    def misbehave(self, fault: ServerFault) -> None:
        with self._lock:
            self._misbehaviour.append(fault)
            self._counted[fault] = self._count(fault, self._behave())

    def behave(self, fault: ServerFault) -> None:
        with self._lock:
            if fault in self._misbehaviour:
                self._misbehaviour.remove(fault)
                if self.process is not None and self.process.alive:
                    self._behave()

    def touched(self, fault: ServerFault) -> int:
        """How often `fault` acted since it was applied, by the server's own count."""
        with self._lock, self._told() as stub:
            return max(
                0, self._count(fault, stub.Observe(control_pb2.ObserveRequest(), timeout=2)) - self._counted[fault]
            )

    def _behave(self) -> Any:
        behaviour = control_pb2.Behaviour()
        for fault in self._misbehaviour:
            if isinstance(fault, Errors):
                behaviour.error_rate = fault.rate
                behaviour.error_code = grpc.StatusCode[fault.code].value[0]
            elif isinstance(fault, Overload):
                behaviour.limit = fault.limit
                behaviour.delay = fault.delay
        with self._told() as stub:
            return stub.Behave(behaviour, timeout=2)

    def _count(self, fault: ServerFault, observed: Any) -> int:
        counts = {Errors: observed.errors, Overload: observed.refused + observed.delayed}
        return int(counts[type(fault)])

    @contextlib.contextmanager
    def _told(self) -> Iterator[Any]:
        with grpc.insecure_channel(f"127.0.0.1:{self._control_port}") as channel:
            yield control_pb2_grpc.ControlStub(channel)


class Deployment:
    """The servers of one run. `addresses` are what clients call: each server's proxy."""

    def __init__(self, servers: Servers, keeper: Keeper, control: Control, folder: Path) -> None:
        self.folder = folder
        self._control = control
        prefix = f"{folder.name}-"  # unique on a Toxiproxy that others use too
        self.servers = {
            named.name: LocalServer(named, servers, keeper, control, folder, prefix) for named in servers.all()
        }
        self._toxics_acted: dict[tuple[Fault, str], int | None] = {}  # by the proxy's count, before each fault
        self._client: Process | None = None
        self._client_down = False
        self._start_client: Callable[[int], Process] | None = None
        self._generation = 0

    @property
    def addresses(self) -> dict[str, str]:
        """What to call, by server name."""
        return {name: server.address for name, server in self.servers.items()}

    def endpoints(self) -> list[dict[str, Any]]:
        """The endpoints as a client's process is told them."""
        return [
            {"name": s.name, "address": s.address, "weight": s.named.weight, "priority": s.named.priority}
            for s in self.servers.values()
        ]

    def start(self) -> None:
        """Starts all servers at once and returns when all answer."""
        for server in self.servers.values():
            server.open_proxy()
            server.spawn()
        for server in self.servers.values():
            server.wait_ready()

    def settle(self) -> None:
        """Lets the servers finish what they still do, so that their journals are whole, and closes the proxies' links."""
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda server: server.stop(GRACE), self.servers.values()))

    def stop(self) -> None:
        """Ends everything that was started, however far that came."""
        if self._client is not None:
            self._client.close()
        for server in self.servers.values():
            if server.process is not None:
                server.process.close()
            with contextlib.suppress(Exception):  # a Toxiproxy that is gone has no proxies either
                self._control.delete(server.proxy)

    def executions(self, origin: float) -> tuple[Execution, ...]:
        """What all journals tell, with times from `origin`."""
        return tuple(
            execution
            for server in self.servers.values()
            if server.journal.exists()
            for execution in read_journal(server.journal, server=server.name, origin=origin)
        )

    def carried(self) -> dict[str, tuple[int, int]]:
        """Bytes that each server's proxy received from its clients and sent to them, since it was made."""
        for server in self.servers.values():
            self._control.disable(server.proxy)  # the real Toxiproxy counts a connection only when it ends
        counted = self._control.carried()
        return {name: counted[server.proxy] for name, server in self.servers.items() if server.proxy in counted}

    @contextlib.contextmanager
    def fault(self, fault: Fault, *, on: str) -> Iterator[None]:
        """`fault` acts on the server `on` while the block runs; it is healed whatever happens in it."""
        self._victim(fault, on)
        try:
            self.apply(fault, on)
            yield
        finally:
            self.heal(fault, on)

    def apply(self, fault: Fault, on: str) -> float:
        """Lets `fault` act on `on`; returns when it was seen to (time.monotonic())."""
        if on == "client":
            return self._apply_to_client(fault)
        server = self._victim(fault, on)
        match fault:
            case Refuse():
                self._control.disable(server.proxy)
            case NetworkFault():
                self._toxics_acted[fault, on] = self._control.touched(server.proxy)
                self._control.add(server.proxy, fault.toxics())
            case Kill():
                return server.kill()
            case Pause():
                assert server.process is not None
                server.process.signal(signal.SIGSTOP)
                server.process.stopped(2.0)
            case Restart():
                began = server.stop(GRACE) if fault.graceful else server.kill()
                time.sleep(fault.downtime)
                server.spawn()
                server.wait_ready()
                return began
            case ServerFault():
                server.misbehave(fault)
            case _:
                raise FleetError(f"the local fleet cannot apply {fault}")
        return time.monotonic()

    def heal(self, fault: Fault, on: str) -> float:
        """Ends what `apply` began, as far as it came; returns when it was seen to be over."""
        if on == "client":
            return self._heal_client(fault)
        server = self._victim(fault, on)
        match fault:
            case Refuse():
                self._control.enable(server.proxy)
            case NetworkFault():
                self._control.remove(server.proxy, fault.toxics())
            case Pause():
                assert server.process is not None
                if server.process.alive:
                    server.process.signal(signal.SIGCONT)
            case Kill() | Restart():
                assert server.process is not None
                if not server.process.alive:
                    server.spawn()
                    server.wait_ready()
            case ServerFault():
                server.behave(fault)
        return time.monotonic()

    def touched(self, fault: Fault, on: str) -> int | None:
        """How often server or proxy counted `fault` to act; None where only the traffic can tell."""
        if isinstance(fault, ServerFault):
            return self._victim(fault, on).touched(fault)
        if on == "client":
            return None
        before = self._toxics_acted.get((fault, on))
        now = self._control.touched(self._victim(fault, on).proxy) if before is not None else None
        return None if now is None or before is None else now - before

    def _victim(self, fault: Fault, on: str) -> LocalServer:
        if on not in self.servers:
            raise FleetError(f"no server is named {on!r}; there are {', '.join(self.servers)} ({fault})")
        return self.servers[on]

    def adopt_client(self, start: Callable[[int], Process]) -> None:
        """Starts the client's process by `start(generation)`, now and whenever it was killed and is healed."""
        self._start_client = start
        self._client = start(0)

    def client_over(self, seconds: float) -> bool:
        """Waits up to `seconds`; whether the client has ended by itself."""
        assert self._client is not None
        if self._client_down:
            time.sleep(seconds)
            return False
        try:
            self._client.wait(seconds)
        except TimeoutError:
            return False
        return not self._client_down

    def client_problem(self) -> list[str]:
        """Why the client's end was not a good one; empty if it was."""
        assert self._client is not None
        status = self._client.wait(1.0)
        if status == 0:
            return []
        log = self.folder / "client.log"
        words = log.read_text(errors="replace")[-1500:].strip() if log.exists() else ""
        return [f"the client ended with status {status}: {words or 'it said nothing'}"]

    def _apply_to_client(self, fault: Fault) -> float:
        assert self._client is not None
        if isinstance(fault, Pause):
            self._client.signal(signal.SIGSTOP)
            self._client.stopped(2.0)
            return time.monotonic()
        if not self._client.alive:
            raise FleetError("the client was through before it could be killed; give it more items, or kill it earlier")
        self._client_down = True
        self._client.close()
        began = self._client.exited_at or time.monotonic()
        if isinstance(fault, Restart):
            time.sleep(fault.downtime)
            self._heal_client(Kill())
        return began

    def _heal_client(self, fault: Fault) -> float:
        assert self._client is not None
        assert self._start_client is not None
        if isinstance(fault, Pause):
            if self._client.alive:
                self._client.signal(signal.SIGCONT)
        elif self._client_down and isinstance(fault, ProcessFault):
            self._generation += 1
            self._client = self._start_client(self._generation)
            self._client_down = False
        return time.monotonic()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0

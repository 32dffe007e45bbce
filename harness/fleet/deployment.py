"""The servers of one run: started, broken, healed, asked what they did, and stopped.

It is what the `fleet` fixture hands to a test that asserts by hand, and what the nemesis works on. How a fault is done
to a server stands in proxied.py, local_server.py and docker/server.py, how to the client in local_client.py.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from faults import Fault
from harness.fleet.errors import FleetError
from harness.fleet.keeper import Process
from harness.fleet.local_client import LocalClient
from harness.fleet.proxied import ProxiedServer
from harness.fleet.victim import Victim
from harness.history import Execution
from harness.node.journal import read_journal
from harness.proxy.control import Control


class Deployment:
    """The servers of one run. `addresses` are what clients call: each server's proxy."""

    def __init__(self, servers: Iterable[ProxiedServer], control: Control, folder: Path) -> None:
        self.folder = folder
        self.client: LocalClient | None = None
        self._control = control
        self.servers = {server.name: server for server in servers}

    @property
    def addresses(self) -> dict[str, str]:
        """What to call, by server name."""
        return {name: server.address for name, server in self.servers.items()}

    def endpoints(self) -> list[dict[str, Any]]:
        """The endpoints as a client's process is told them."""
        return [
            {"name": s.name, "address": s.address, "weight": s.server.weight, "priority": s.server.priority}
            for s in self.servers.values()
        ]

    def start(self) -> None:
        """Starts all servers at once and returns when all answer."""
        for server in self.servers.values():
            server.begin()
        for server in self.servers.values():
            server.wait_ready()

    def start_client(self, start: Callable[[int], Process]) -> LocalClient:
        """Starts the client's process by `start(generation)`, now and whenever it was killed and is healed."""
        self.client = LocalClient(start, self.folder / "client.log")
        return self.client

    def ended_by_themselves(self, origin: float) -> tuple[str, ...]:
        """The servers that ended although nobody here told them to, in words, with times from `origin`."""
        return tuple(end for server in self.servers.values() for end in server.ended_by_itself(origin))

    def settle(self) -> None:
        """Lets the servers finish what they still do, so that their journals are whole."""
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda server: server.stop(), self.servers.values()))

    def stop(self) -> None:
        """Ends everything that was started, however far that came."""
        with contextlib.ExitStack() as ends:
            for server in self.servers.values():
                ends.callback(server.close)
            if self.client is not None:
                ends.callback(self.client.close)

    def executions(self, origin: float) -> tuple[Execution, ...]:
        """What all journals tell, with times from `origin`. ValueError if one of them is damaged."""
        for server in self.servers.values():
            server.fetch_journal()
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
        victim = self._victim(fault, on)
        try:
            victim.apply(fault)
            yield
        finally:
            victim.heal(fault)

    def apply(self, fault: Fault, on: str) -> float:
        """Lets `fault` act on `on`; returns when it was seen to (time.monotonic())."""
        return self._victim(fault, on).apply(fault)

    def heal(self, fault: Fault, on: str) -> float:
        """Ends what one `apply` of it began, as far as that came; returns when it was seen to be over."""
        return self._victim(fault, on).heal(fault)

    def touched(self, fault: Fault, on: str) -> int | None:
        """How often server or proxy counted `fault` to act; None where only the traffic can tell."""
        return self._victim(fault, on).touched(fault)

    def _victim(self, fault: Fault, on: str) -> Victim:
        if on == "client" and self.client is not None:
            return self.client
        if on not in self.servers:
            raise FleetError(f"no server is named {on!r}; there are {', '.join(self.servers)} ({fault})")
        return self.servers[on]

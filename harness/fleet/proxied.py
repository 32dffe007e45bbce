"""A server behind a proxy of its own: what a fleet of processes and a fleet of containers share.

Faults of the network go to the proxy, those of the server's program go to its control port; what ends, stops and starts it
is the business of the two subclasses (local_server.py, docker/server.py).
"""

from __future__ import annotations

import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from faults import Drain, Fault, Kill, Pause, Refuse, Restart, Toxic
from faults.network import NetworkFault
from faults.server import ServerFault
from harness.fleet.errors import FleetError
from harness.fleet.misbehaviour import Misbehaviour, seed_for
from harness.fleet.victim import Victim
from harness.history import Server
from harness.proxy.control import Control
from harness.scenario import Servers
from harness.values import to_json

#: Seconds that a server may need until it answers, and that a graceful stop may take.
READY, GRACE = 15.0, 5.0


class ProxiedServer(Victim):
    """A running server. `address` is what clients call: its proxy."""

    def __init__(
        self, server: Server, servers: Servers, control: Control, folder: Path, prefix: str, seed: int
    ) -> None:
        super().__init__(server.name)
        self.server = server
        self.proxy = f"{prefix}{server.name}"
        self.journal = folder / f"{server.name}.jsonl"
        self.address = ""
        self._servers = servers
        self._control = control
        self._seed = seed_for(server.name, seed)
        self._misbehaviour = Misbehaviour(server.name, self._seed, paused=self._is_deaf)

    def begin(self) -> None:
        """Starts server and proxy; `wait_ready` says when it answers."""
        raise NotImplementedError  # both subclasses have their own

    def spawn(self) -> None:
        """Starts the server; `wait_ready` says when it answers."""
        raise NotImplementedError  # both subclasses have their own

    def wait_ready(self) -> None:
        """Returns once the server takes calls. FleetError with its last words if it does not."""
        raise NotImplementedError  # both subclasses have their own

    def ended_by_itself(self, origin: float) -> list[str]:
        """Each end that nobody here brought about, in words, with its time from `origin`."""
        raise NotImplementedError  # both subclasses have their own

    def kill(self) -> float:
        """SIGKILL; returns when it was seen to be gone."""
        raise NotImplementedError  # both subclasses have their own

    def stop(self, grace: float = GRACE) -> float:
        """SIGTERM, then SIGKILL after `grace` seconds; returns when it began."""
        raise NotImplementedError  # both subclasses have their own

    def close(self) -> None:
        """Ends or gives back all there is of it, however far it came."""
        raise NotImplementedError  # both subclasses have their own

    def fetch_journal(self) -> None:
        """Sees to it that the file `journal` holds what the server has written so far, where it writes another."""

    def _settings(self) -> dict[str, Any]:
        """What a Hello server is told when it starts, beside its ports and files: JSON values (harness/node/server.py)."""
        return {
            "name": self.name,
            "service_time": to_json(self._servers.service_time),
            "workers": self._servers.workers,
            "queue": self._servers.queue,
            "cold_start": self._servers.cold_start,
            "seed": self._seed,
        }

    def _apply(self, fault: Fault, tag: str) -> float:
        match fault:
            case Refuse():
                self._control.disable(self.proxy)
            case NetworkFault():
                self._control.add(self.proxy, _tagged(fault, tag))
            case Kill():
                return self.kill()
            case Drain():
                return self.stop(fault.grace)
            case Pause():
                return self._pause()
            case Restart():
                began = self.stop() if fault.graceful else self.kill()
                time.sleep(fault.downtime)
                self._revive()
                return began
            case ServerFault():
                if reason := cannot(fault, self._servers):
                    raise FleetError(reason)
                self._misbehaviour.add(fault, tag)
            case _:
                raise FleetError(f"this fleet cannot apply {fault}")
        return time.monotonic()

    def _heal(self, fault: Fault, tag: str) -> None:
        match fault:
            case Refuse():
                if not self._suffers(Refuse):
                    self._control.enable(self.proxy)
            case NetworkFault():
                self._control.remove(self.proxy, _tagged(fault, tag))
            case Pause():
                if not self._suffers(Pause):
                    self._continue()
                    self._misbehaviour.goes_on()
            case Kill() | Drain() | Restart():
                self._revive()
            case ServerFault():
                self._misbehaviour.remove(tag)

    def _touched(self, fault: Fault, tag: str) -> int | None:
        match fault:
            case Refuse():
                return None
            case NetworkFault():
                return self._control.touched(self.proxy, _tagged(fault, tag))
            case ServerFault():
                return self._misbehaviour.touched(tag)
        return None

    def _revive(self) -> None:
        """Starts it again if it is down and nothing keeps it down; what keeps it paused keeps it so."""
        if self._runs() or self._suffers(Kill) or self._suffers(Drain):
            return
        self._end(signal.SIGKILL)  # it may have ended by itself
        self.spawn()
        self.wait_ready()
        if self._suffers(Pause):
            self._pause()

    def _is_deaf(self) -> bool:
        """Whether it cannot hear orders now."""
        return self._suffers(Pause)

    def _runs(self) -> bool:
        raise NotImplementedError  # both subclasses have their own

    def _end(self, signum: int) -> bool:
        """Tells the server to end; False, and it is noted, if it has done so by itself."""
        raise NotImplementedError  # both subclasses have their own

    def _pause(self) -> float:
        raise NotImplementedError  # both subclasses have their own

    def _continue(self) -> None:
        raise NotImplementedError  # both subclasses have their own


def cannot(fault: Fault, servers: Servers) -> str | None:
    """Why `fault` cannot be done to these servers, or None if it can."""
    if not isinstance(fault, ServerFault):
        return None
    if servers.command is not None:
        return f"{fault} needs a server that serves control.proto, and these are started by a command of your own"
    if servers.compose is not None:
        return f"{fault} needs a server that serves control.proto, and these are of a compose file of your own"
    return None


def _tagged(fault: NetworkFault, tag: str) -> list[Toxic]:
    return [replace(toxic, tag=tag) for toxic in fault.toxics()]

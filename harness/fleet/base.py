"""What a fleet is, and which there are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from faults import Fault
from harness.fleet.errors import FleetError
from harness.history import History
from harness.scenario import Plan, Scenario, Servers


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a run is: seconds since its start, calls so far by result, and the faults that act now."""

    name: str
    at: float
    seconds: float
    ok: int
    fail: int
    info: int
    faults: tuple[str, ...]


Watcher = Callable[[Progress], None]


class Fleet(Protocol):
    """Runs scenarios, one after the other. It is entered once and may be used for many."""

    name: str
    proxy: str

    def cannot(self, fault: Fault, servers: Servers) -> str | None:
        """Why it cannot apply `fault` to these servers, or None if it can."""
        ...

    def run(self, scenario: Scenario, plan: Plan, *, name: str, watch: Watcher) -> History:
        """What happened. Raises FleetError if the run could not begin; what goes wrong later is told in the history."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def open_fleet(name: str) -> Fleet:
    """The fleet of this name, not entered yet. FleetError for an unknown one."""
    if name == "local":
        from harness.fleet.local import LocalFleet

        return LocalFleet()
    if name == "sim":
        from harness.fleet.sim.fleet import SimFleet

        return SimFleet()
    if name == "docker":
        from harness.fleet.docker.fleet import DockerFleet

        return DockerFleet()
    raise FleetError(f"--fleet must be local, sim or docker; got {name!r}")

"""The fleet of virtual time, as a session sees it: `--fleet=sim`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import TracebackType
from typing import Self

from faults import (
    ColdStart,
    CpuHog,
    Drain,
    Errors,
    Fault,
    FileDescriptors,
    Hang,
    Kill,
    Overload,
    PacketLoss,
    Pause,
    Restart,
    StaleHealth,
    WrongAnswer,
)
from faults.network import NetworkFault
from harness.client import Client
from harness.fleet.base import Watcher
from harness.fleet.local_client import cannot as client_cannot
from harness.fleet.sim.run import Run
from harness.history import History
from harness.proxy.toxics import TYPES
from harness.scenario import Plan, Scenario, Servers
from harness.workload import Batch

#: The faults that there is a model of, beside those of the network, which the built-in proxy's toxics are.
MODELLED = (
    Kill, Drain, Pause, Restart, CpuHog, FileDescriptors, Errors, Overload, Hang, WrongAnswer, ColdStart, StaleHealth,
)  # fmt: skip
#: Those of the network that there is none of: what gRPC makes of a stream with holes in it is not modelled.
NOT_MODELLED = (PacketLoss,)


class SimFleet:
    """Runs scenarios in virtual time. It holds nothing, and needs no end."""

    name = "sim"
    proxy = "virtual"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def cannot(self, fault: Fault, servers: Servers) -> str | None:  # noqa: ARG002
        if isinstance(fault, MODELLED):
            return None
        known = isinstance(fault, NetworkFault) and all(toxic.type in TYPES for toxic in fault.toxics())
        if known and not isinstance(fault, NOT_MODELLED):
            return None
        return f"the sim fleet has no model of the fault {fault}; run it with --fleet=local"

    def run(self, scenario: Scenario, plan: Plan, *, name: str, watch: Watcher) -> History:
        """What happens; what there is no model of is told as a problem of the history, and nothing is run."""
        empty = History(
            scenario=name, fleet=self.name, proxy=self.proxy, seed=plan.seed, seconds=0.0,
            servers=scenario.servers.all(), operations=(),
            items=scenario.workload.items if isinstance(scenario.workload, Batch) else None,
        )  # fmt: skip
        problems = tuple(dict.fromkeys(self._unmodelled(scenario, plan)))
        if problems:
            return replace(empty, problems=problems)
        return Run(scenario, plan, name, watch).carry_out(empty)

    def _unmodelled(self, scenario: Scenario, plan: Plan) -> Iterator[str]:
        client = scenario.client
        if not isinstance(client, Client) or type(client).channel is not Client.channel:
            yield f"the sim fleet has no model of the client {client!r}, only of harness.Client; run it with --fleet=local"
        if scenario.servers.command is not None:
            yield "the sim fleet has no model of servers with a command of their own; run it with --fleet=local"
        if scenario.servers.compose is not None:
            yield "the sim fleet has no model of servers of a compose file; run it with --fleet=docker"
        for planned in plan.faults:
            if planned.on == "client":
                if reason := client_cannot(planned.fault, scenario.workload):
                    yield reason
            elif reason := self.cannot(planned.fault, scenario.servers):
                yield reason

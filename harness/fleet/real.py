"""What the fleets of real servers share: a keeper of processes, and how a scenario becomes a history on a deployment.

The client is a process of this machine on each of them. How servers are started and hurt is the subclass's: local.py has
processes, docker/fleet.py has containers.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from faults import Fault
from harness.client import Client
from harness.fleet import local_client
from harness.fleet.base import Watcher
from harness.fleet.deployment import Deployment
from harness.fleet.errors import FleetError
from harness.fleet.keeper import Keeper
from harness.fleet.local_run import LocalRun
from harness.fleet.proxied import ProxiedServer
from harness.history import History
from harness.proxy.control import Control
from harness.proxy.errors import ToxiproxyError
from harness.scenario import Plan, Scenario, Servers
from harness.workload import Batch
from stormproof.core.ledger import Ledger

#: Modules that every forked process needs; the keeper imports them once.
PRELOAD = ("harness.node.server", "harness.client", "harness.values")


class RealFleet:
    """Real servers, each behind a proxy of its own. Enter it before use; it starts nothing before."""

    name = ""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._keeper: Keeper
        self.control: Control
        self.proxy = ""

    def __enter__(self) -> Self:
        raise NotImplementedError  # both subclasses have their own

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def cannot(self, fault: Fault, servers: Servers) -> str | None:
        """Why it cannot apply `fault` to these servers, or None if it can."""
        raise NotImplementedError  # both subclasses have their own

    def refuses(self, servers: Servers) -> str | None:
        """Why it cannot have these servers at all, or None if it can."""
        raise NotImplementedError  # both subclasses have their own

    @contextlib.contextmanager
    def _up(self, servers: Iterable[ProxiedServer], folder: Path) -> Iterator[Deployment]:
        """These servers as a deployment that works in `folder`: started, and stopped at the end, whatever happens."""
        deployment = Deployment(servers, self.control, folder)
        try:
            deployment.start()
            yield deployment
        except ToxiproxyError as error:
            raise FleetError(str(error)) from error
        finally:
            deployment.stop()
            shutil.rmtree(folder, ignore_errors=True)

    def deploy(self, servers: Servers, *, seed: int = 1) -> AbstractContextManager[Deployment]:
        """The servers of one run, up and answering; all stopped at the end, whatever happens."""
        raise NotImplementedError  # both subclasses have their own

    def health(self) -> tuple[str, ...]:
        """Reasons why what was seen since the last look cannot be trusted."""
        raise NotImplementedError  # both subclasses have their own

    def run(self, scenario: Scenario, plan: Plan, *, name: str, watch: Watcher) -> History:
        """Starts servers and client, breaks what the plan says, and tells what happened."""
        empty = History(
            scenario=name, fleet=self.name, proxy=self.proxy, seed=plan.seed, seconds=0.0,
            servers=scenario.servers.all(), operations=(),
            items=scenario.workload.items if isinstance(scenario.workload, Batch) else None,
        )  # fmt: skip
        problems = {reason for p in plan.faults if (reason := self.cannot(p.fault, scenario.servers))}
        problems |= {*_client_problems(scenario, plan), *filter(None, [self.refuses(scenario.servers)])}
        if problems:
            return replace(empty, problems=tuple(sorted(problems)))
        with self.deploy(scenario.servers, seed=plan.seed) as deployment:
            return LocalRun(self._keeper, deployment, scenario, plan, name, watch, self.health).carry_out(empty)


def _client_problems(scenario: Scenario, plan: Plan) -> Iterator[str]:
    if isinstance(scenario.client, Client) and scenario.client.LEDGER is not Ledger:
        name = type(scenario.client).__name__
        yield f"{name} has a ledger of its own, which only virtual time can use; run it with --fleet=sim"
    for planned in plan.faults:
        if planned.on == "client" and (reason := local_client.cannot(planned.fault, scenario.workload)):
            yield reason

"""Clients that try again wrongly: too often, all together, what must not be done twice, or where it has just failed."""

from __future__ import annotations

from dataclasses import dataclass

from faults import Errors, during, every
from harness.client import Client
from harness.guarantees import NoRetryStorm, Recovers
from harness.saboteurs.base import Saboteur, lacking
from harness.scenario import Scenario, Servers
from harness.workload import Poisson
from stormproof.core.balancers.round_robin import RoundRobin
from stormproof.core.budget import Account, RetryBudget
from stormproof.core.policy import Policy, Retry


class _Generous(Account):
    __slots__ = ()

    def withdraw(self, now: float) -> bool:  # noqa: ARG002
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class NeverSpent(RetryBudget):
    """A budget that never says no."""

    def account(self) -> Account:
        return _Generous(self)


OUTAGE = Scenario(
    servers=Servers(3),
    client=Client(balancer=RoundRobin(), policy=Policy(timeout=1.0, retry=Retry(attempts=4))),
    workload=Poisson(rate=200, seconds=6),
    faults=[during(1, 3, Errors(1.0), on=every)],
    guarantees=[NoRetryStorm(attempts_per_call=1.2), Recovers(within=2.0)],
)

PLANTED = (
    Saboteur(
        name="retries-without-budget",
        defect="retries every failed call as often as its policy allows, whatever the others do",
        day=OUTAGE,
        client=lacking(OUTAGE.client, budget=NeverSpent()),
        found_by=NoRetryStorm,
        published=(1,),
    ),
)

"""Every server is restarted in its turn, gracefully, as a deployment does it. No call may fail."""

from dataclasses import replace

import pytest

from faults import Restart, rolling
from harness import Available, Client, NothingLost, Poisson, Recovers, Scenario, Servers
from stormproof import PeakEwma, Policy, Retry, RoundRobin

ROLLING_RESTART = Scenario(
    servers=Servers(4, service_time=0.010),
    client=Client(balancer=RoundRobin(), policy=Policy(timeout=2.0, idempotent=True, retry=Retry(attempts=3))),
    workload=Poisson(rate=100, seconds=9),
    faults=rolling(0.7, 1.3, Restart(downtime=0.3), count=4),
    guarantees=[Available(1.0), NothingLost(), Recovers(within=2.0)],
)


@pytest.mark.parametrize("balancer", [RoundRobin()], ids=repr)
def test_a_deployment_fails_no_call(run, balancer):
    """Calls in flight are finished, further ones go to the other servers, and each server is used again."""
    run(replace(ROLLING_RESTART, client=replace(ROLLING_RESTART.client, balancer=balancer))).check()


def test_peak_ewma_likewise(run):
    """Peak EWMA too; it prefers who is a little quicker, so it owes a healed server a tenth of its share, no half."""
    client = replace(ROLLING_RESTART.client, balancer=PeakEwma())
    kept = [promise for promise in ROLLING_RESTART.guarantees if not isinstance(promise, Recovers)]
    run(replace(ROLLING_RESTART, client=client, guarantees=[*kept, Recovers(within=2.0, share=0.1)])).check()

"""One server fails every call in a millisecond. To a naive least-connections balancer it looks like the best of all.

Google's SRE book (chapter 20) tells of such sinkholes: a broken server that attracts all traffic because it is never busy.
"""

from dataclasses import replace

import pytest

from faults import Errors, during, one
from harness import Available, AvoidsFaulty, Client, Poisson, Recovers, Scenario, Servers
from stormproof import LeastRequest, PeakEwma, Policy, Retry, RoundRobin

FAST_FAILING_SERVER = Scenario(
    servers=Servers(4, service_time=0.010),
    client=Client(balancer=LeastRequest(choices=None), policy=Policy(timeout=1.0, retry=Retry(attempts=3))),
    workload=Poisson(rate=120, seconds=8),
    faults=[during(1, 4.5, Errors(1.0, code="INTERNAL"), on=one)],
    guarantees=[Available(0.97), AvoidsFaulty(within=0.5, share=0.05), Recovers(within=2.0)],
)


@pytest.mark.parametrize("balancer", [LeastRequest(choices=None), LeastRequest(), RoundRobin()], ids=repr)
def test_failing_fast_attracts_no_traffic(run, balancer):
    """The server is left alone after a few failures, which nothing may retry, and taken back when it is well."""
    run(replace(FAST_FAILING_SERVER, client=replace(FAST_FAILING_SERVER.client, balancer=balancer))).check()


def test_peak_ewma_likewise(run):
    """Peak EWMA too; it prefers who is a little quicker, so it owes a healed server a tenth of its share, no half."""
    client = replace(FAST_FAILING_SERVER.client, balancer=PeakEwma())
    kept = [promise for promise in FAST_FAILING_SERVER.guarantees if not isinstance(promise, Recovers)]
    run(replace(FAST_FAILING_SERVER, client=client, guarantees=[*kept, Recovers(within=2.0, share=0.1)])).check()

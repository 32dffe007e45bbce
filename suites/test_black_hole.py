"""One of three servers is cut off without a word: its connections stay, and every byte vanishes, both ways.

gRPC's own round robin loses a third of the calls for as long as this lasts. Keepalive would need a minute to find it.
"""

from dataclasses import replace

import pytest

from faults import Blackhole, during, one
from harness import Available, AvoidsFaulty, Client, Fast, Poisson, Recovers, Scenario, Servers, WithinDeadline
from stormproof import LeastRequest, PeakEwma, Policy, Retry, RoundRobin

BLACK_HOLE = Scenario(
    servers=Servers(3),
    client=Client(
        balancer=RoundRobin(),
        policy=Policy(timeout=1.0, attempt_timeout=0.25, idempotent=True, retry=Retry(attempts=3)),
    ),
    workload=Poisson(rate=120, seconds=8),
    faults=[during(1.5, 4.5, Blackhole(), on=one)],
    guarantees=[
        Available(0.99),
        WithinDeadline(1.0),
        Fast(p90=0.050, grace=0.5),
        AvoidsFaulty(within=0.5, share=0.05),
        Recovers(within=2.0),
    ],
)


@pytest.mark.parametrize("balancer", [RoundRobin(), LeastRequest()], ids=repr)
def test_the_hole_is_found_within_two_attempts(run, balancer):
    """Within two attempt timeouts the hole is avoided, and it is used again within two seconds of its end."""
    run(replace(BLACK_HOLE, client=replace(BLACK_HOLE.client, balancer=balancer))).check()


def test_peak_ewma_likewise(run):
    """Peak EWMA too; it prefers who is a little quicker, so it owes a healed server a tenth of its share, no half."""
    client = replace(BLACK_HOLE.client, balancer=PeakEwma())
    kept = [promise for promise in BLACK_HOLE.guarantees if not isinstance(promise, Recovers)]
    run(replace(BLACK_HOLE, client=client, guarantees=[*kept, Recovers(within=2.0, share=0.1)])).check()

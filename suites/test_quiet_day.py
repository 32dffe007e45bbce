"""Nothing is wrong. Every balancer shares the work as it promises, and nobody waits.

The day that every other day is compared with: a library that fails here has no business on a bad one.
"""

from dataclasses import replace

import pytest

from harness import AtMostOnce, Available, Client, EvenShare, Fast, NoRetryStorm, NothingLost, Scenario, Servers, Steady
from stormproof import LeastRequest, PeakEwma, Policy, RandomChoice, RoundRobin

QUIET_DAY = Scenario(
    servers=Servers(4),
    client=Client(balancer=RoundRobin(), policy=Policy(timeout=1.0)),
    workload=Steady(rate=120, seconds=4),
    guarantees=[
        Available(1.0),
        Fast(p90=0.050),
        EvenShare(),
        NoRetryStorm(attempts_per_call=1.0),
        AtMostOnce(),
        NothingLost(),
    ],
)


@pytest.mark.parametrize(
    "balancer", [RoundRobin(), RandomChoice(), LeastRequest(), LeastRequest(choices=None)], ids=repr
)
def test_every_server_gets_its_share(run, balancer):
    """Round robin, random and least request are even over equal servers."""
    run(replace(QUIET_DAY, client=Client(balancer=balancer, policy=Policy(timeout=1.0)))).check()


def test_nobody_starves_under_peak_ewma(run):
    """Peak EWMA prefers who answers sooner, if only by chance; but every server gets a tenth of its share at least."""
    client = Client(balancer=PeakEwma(), policy=Policy(timeout=1.0))
    kept = [g for g in QUIET_DAY.guarantees if not isinstance(g, EvenShare)]
    run(replace(QUIET_DAY, client=client, guarantees=[*kept, EvenShare(within=0.9)])).check()

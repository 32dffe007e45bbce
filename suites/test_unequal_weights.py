"""Servers of different size: weights 5, 2 and 1. Each gets its share."""

from dataclasses import replace

import pytest

from harness import Available, Client, Scenario, Servers, Steady, WeightedShare
from stormproof import LeastRequest, Policy, RandomChoice, RoundRobin

UNEQUAL_WEIGHTS = Scenario(
    servers=Servers(3, weights=(5, 2, 1)),
    client=Client(balancer=RoundRobin(), policy=Policy(timeout=1.0)),
    workload=Steady(rate=150, seconds=4),
    guarantees=[Available(1.0), WeightedShare()],
)


@pytest.mark.parametrize("balancer", [RoundRobin(), RandomChoice()], ids=repr)
def test_every_server_gets_its_weight(run, balancer):
    """Smooth weighted round robin and weighted random choice follow the weights."""
    run(replace(UNEQUAL_WEIGHTS, client=replace(UNEQUAL_WEIGHTS.client, balancer=balancer))).check()


def test_least_request_leans_to_the_heavy(run):
    """Least request draws by weight and then compares load per weight: within half of each share."""
    client = replace(UNEQUAL_WEIGHTS.client, balancer=LeastRequest())
    run(replace(UNEQUAL_WEIGHTS, client=client, guarantees=[Available(1.0), WeightedShare(within=0.6)])).check()

"""One of four servers turns slow for six seconds. The callers should hardly notice."""

from dataclasses import replace

import pytest

from faults import Latency, during, one
from harness import Available, AvoidsFaulty, Client, Fast, NoRetryStorm, Poisson, Scenario, Servers
from stormproof import LeastRequest, PeakEwma, Policy, Retry, RoundRobin

SLOW_SERVER = Scenario(
    servers=Servers(4),
    client=Client(balancer=PeakEwma(), policy=Policy(timeout=1.0, retry=Retry(attempts=3))),
    workload=Poisson(rate=100, seconds=8),
    faults=[during(1.5, 7.5, Latency(0.300, jitter=0.050), on=one)],
    guarantees=[Available(0.99), Fast(p90=0.050, grace=1.0), NoRetryStorm(attempts_per_call=1.2)],
)


@pytest.mark.parametrize("balancer", [LeastRequest(), LeastRequest(choices=None)], ids=repr)
def test_callers_stay_fast(run, balancer):
    """Balancers that watch load leave the slow server within a second."""
    run(replace(SLOW_SERVER, client=replace(SLOW_SERVER.client, balancer=balancer))).check()


def test_peak_ewma_only_looks_in_now_and_then(run):
    """Peak EWMA leaves it as well, and sends it one call at a time, to see whether it has come round."""
    promises = [*SLOW_SERVER.guarantees, AvoidsFaulty(within=1.0, share=0.05)]
    run(replace(SLOW_SERVER, guarantees=promises)).check()


def test_round_robin_does_not_notice(run):
    """Round robin keeps sending one call in four to the slow server."""
    assert run(replace(SLOW_SERVER, client=replace(SLOW_SERVER.client, balancer=RoundRobin()))).broken == ["Fast"]

"""One of four servers is killed under load, and comes back a few seconds later.

Greetings may be repeated, so no caller should see an error; and the server gets its share back soon after its return.
"""

from dataclasses import replace

import pytest

from faults import Kill, during, one
from harness import Available, AvoidsFaulty, Client, NoRetryStorm, Poisson, Recovers, Scenario, Servers
from stormproof import LeastRequest, Policy, RandomChoice, Retry, RoundRobin

KILLED_SERVER = Scenario(
    servers=Servers(4),
    client=Client(balancer=RoundRobin(), policy=Policy(timeout=1.0, idempotent=True, retry=Retry(attempts=3))),
    workload=Poisson(rate=100, seconds=8),
    faults=[during(1.5, 4, Kill(), on=one)],
    guarantees=[
        Available(1.0),
        NoRetryStorm(attempts_per_call=1.2),
        AvoidsFaulty(within=0.5, share=0.02),
        Recovers(within=2.0),
    ],
)


@pytest.mark.parametrize("balancer", [RoundRobin(), RandomChoice(), LeastRequest()], ids=repr)
def test_no_call_fails_and_the_server_comes_back(run, balancer):
    """No call fails, and two seconds after its return the server works again."""
    run(replace(KILLED_SERVER, client=replace(KILLED_SERVER.client, balancer=balancer))).check()

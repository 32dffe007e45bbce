"""One of four servers is cut off from the network, and comes back: nobody is told, and whoever calls it hears nothing.

In containers it is a true partition (`docker network disconnect`): its interface is gone, and so is its address. Elsewhere
its bytes vanish. What tells the client is the time limit of each attempt, and that must not cost the caller its deadline.
"""

import pytest

from faults import Partition, during, one
from harness import Available, AvoidsFaulty, Client, Poisson, Recovers, Scenario, Servers, WithinDeadline
from stormproof import Policy, Retry, RoundRobin

PARTITION = Scenario(
    servers=Servers(4),
    client=Client(
        balancer=RoundRobin(),
        policy=Policy(timeout=1.0, attempt_timeout=0.2, idempotent=True, retry=Retry(attempts=3)),
    ),
    workload=Poisson(rate=100, seconds=9),
    faults=[during(1.5, 4.5, Partition(), on=one)],
    guarantees=[Available(1.0), WithinDeadline(1.0), AvoidsFaulty(within=0.5, share=0.05), Recovers(within=2.0)],
)


@pytest.mark.docker
def test_no_call_fails_and_the_server_has_its_share_again(run):
    """No call fails, the server is avoided within half a second, and two seconds after its return it works again."""
    run(PARTITION).check()

"""One server is stopped in its tracks (SIGSTOP): it keeps its connections, answers nothing, and goes on later.

Nothing tells the client. Only the time limit of each attempt does, and it must not cost the caller its deadline.
"""

import pytest

from faults import Pause, during, one
from harness import Available, Client, Poisson, Recovers, Scenario, Servers, WithinDeadline
from stormproof import Policy, Retry, RoundRobin

PAUSED_SERVER = Scenario(
    servers=Servers(4),
    client=Client(
        balancer=RoundRobin(),
        policy=Policy(timeout=1.0, attempt_timeout=0.2, idempotent=True, retry=Retry(attempts=3)),
    ),
    workload=Poisson(rate=100, seconds=8),
    faults=[during(1.5, 4, Pause(), on=one)],
    guarantees=[Available(0.99), WithinDeadline(1.0), Recovers(within=2.0)],
)


@pytest.mark.docker
def test_every_call_ends_in_time_and_most_end_well(run):
    """Calls to the stopped server are taken elsewhere, within their deadline."""
    run(PAUSED_SERVER).check()

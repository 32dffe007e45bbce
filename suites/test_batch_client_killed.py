"""The client itself is killed (SIGKILL) in the middle of a batch, twice, and started again.

It continues from its last checkpoint: nothing is lost, at most ten items are done again for each time, and each of those is
marked, so that a server can recognise it.
"""

from faults import Kill, during, named
from harness import Batch, Client, NothingLost, Resumes, Scenario, Servers
from stormproof import Policy, Retry, RoundRobin

BATCH_CLIENT_KILLED = Scenario(
    servers=Servers(3, service_time=0.010),
    client=Client(
        balancer=RoundRobin(),
        policy=Policy(timeout=1.0, idempotent=True, retry=Retry(attempts=3)),
        checkpoint_every=10,
    ),
    workload=Batch(items=300, seconds=30),
    faults=[during(1.0, 1.5, Kill(), on=named("client")), during(2.2, 2.6, Kill(), on=named("client"))],
    guarantees=[NothingLost(), Resumes(every=10)],
)


def test_the_batch_continues_where_it_was(run):
    """All items are done, in order, and hardly any twice."""
    run(BATCH_CLIENT_KILLED).check()

"""A batch of three hundred items is under way when servers die, one for a while and one for good. Every item is done."""

from faults import Kill, at, during, named
from harness import Batch, Client, NothingLost, Scenario, Servers
from stormproof import Policy, Retry, RoundRobin

BATCH_SERVER_DEATH = Scenario(
    servers=Servers(3, service_time=0.010),
    client=Client(
        balancer=RoundRobin(),
        policy=Policy(timeout=1.0, idempotent=True, retry=Retry(attempts=3)),
        checkpoint_every=10,
    ),
    workload=Batch(items=300, seconds=30),
    faults=[during(0.7, 1.7, Kill(), on=named("server-0")), at(1.2, Kill(), on=named("server-1"))],
    guarantees=[NothingLost()],
)


def test_every_item_is_done(run):
    """The batch goes on with the servers that are left."""
    run(BATCH_SERVER_DEATH).check()

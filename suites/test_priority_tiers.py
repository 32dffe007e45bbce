"""Two servers near by, two far away for when those are gone. All the near ones go; the far ones serve, until they are back."""

from faults import Refuse, during, named
from harness import Available, AvoidsFaulty, Client, EvenShare, Poisson, Recovers, Scenario, Servers
from stormproof import Policy, Retry, RoundRobin

PRIORITY_TIERS = Scenario(
    servers=Servers(4, priorities=(0, 0, 1, 1)),
    client=Client(balancer=RoundRobin(), policy=Policy(timeout=1.0, idempotent=True, retry=Retry(attempts=3))),
    workload=Poisson(rate=120, seconds=8),
    faults=[during(2.5, 4.5, Refuse(), on=named("server-0", "server-1"))],
    guarantees=[Available(0.99), EvenShare(), AvoidsFaulty(within=0.3, share=0.05), Recovers(within=2.0)],
)


def test_the_far_tier_serves_only_while_the_near_one_cannot(run):
    """No call fails; while the near servers are well, they do all the work, and evenly."""
    result = run(PRIORITY_TIERS)
    result.check()
    first = min(fault.began for fault in result.history.faults)
    early = {a.server for _, a in result.history.attempts() if a.started < first - 0.1}
    assert early == {"server-0", "server-1"}

"""One server's port is closed: open connections end, new ones are refused. This costs a call nothing but a moment."""

from faults import Refuse, during, one
from harness import Available, AvoidsFaulty, Client, Fast, Poisson, Recovers, Scenario, Servers
from stormproof import Policy, Retry, RoundRobin

REFUSED_CONNECTIONS = Scenario(
    servers=Servers(3),
    client=Client(balancer=RoundRobin(), policy=Policy(timeout=1.0, idempotent=True, retry=Retry(attempts=3))),
    workload=Poisson(rate=100, seconds=8),
    faults=[during(1.5, 4, Refuse(), on=one)],
    guarantees=[Available(1.0), Fast(p90=0.050), AvoidsFaulty(within=0.2, share=0.05), Recovers(within=2.0)],
)


def test_refused_calls_go_elsewhere_at_once(run):
    """A call that could not be sent is sent to another server, without waiting and without a retry's cost."""
    run(REFUSED_CONNECTIONS).check()

"""One server goes away and comes back every second. Clients must neither trust it at once nor give it up."""

from faults import Refuse, every_so_often, one
from harness import Available, Client, NoRetryStorm, Poisson, Recovers, Scenario, Servers
from stormproof import LeastRequest, Policy, Retry

FLAPPING_SERVER = Scenario(
    servers=Servers(4),
    client=Client(balancer=LeastRequest(), policy=Policy(timeout=1.0, idempotent=True, retry=Retry(attempts=3))),
    workload=Poisson(rate=120, seconds=8),
    faults=[every_so_often(1.0, Refuse(), lasting=0.5, start=1, end=5, on=one)],
    guarantees=[Available(0.99), NoRetryStorm(attempts_per_call=1.2), Recovers(within=2.0)],
)


def test_flapping_costs_no_calls(run):
    """Calls succeed throughout, and the server has its share back when it stays."""
    run(FLAPPING_SERVER).check()

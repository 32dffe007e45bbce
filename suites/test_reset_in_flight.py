"""Connections to one server are torn down while calls are on them. Greetings may be repeated, so they are."""

from faults import Reset, during, one
from harness import Available, Client, NoRetryStorm, Poisson, Recovers, Scenario, Servers, WithinDeadline
from stormproof import Policy, Retry, RoundRobin

RESET_IN_FLIGHT = Scenario(
    servers=Servers(4, service_time=0.010),
    client=Client(balancer=RoundRobin(), policy=Policy(timeout=1.0, idempotent=True, retry=Retry(attempts=3))),
    workload=Poisson(rate=100, seconds=7),
    faults=[during(1.5, 3.5, Reset(), on=one)],
    guarantees=[Available(0.99), WithinDeadline(1.0), NoRetryStorm(attempts_per_call=1.2), Recovers(within=2.0)],
)


def test_torn_calls_are_made_again_elsewhere(run):
    """A call whose connection was reset is answered by another server."""
    run(RESET_IN_FLIGHT).check()

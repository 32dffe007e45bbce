"""One server has lost its capacity: it takes one call at a time, slowly, and refuses the others. They go elsewhere."""

from faults import Overload, during, one
from harness import Available, Client, NoRetryStorm, Poisson, Recovers, Scenario, Servers
from stormproof import Code, LeastRequest, Policy, Retry

OVERLOAD = Scenario(
    servers=Servers(4),
    client=Client(
        balancer=LeastRequest(),
        policy=Policy(timeout=1.0, retry=Retry(attempts=3, on={Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED})),
    ),
    workload=Poisson(rate=120, seconds=8),
    faults=[during(1, 4, Overload(1, delay=0.050), on=one)],
    guarantees=[Available(0.99), NoRetryStorm(attempts_per_call=1.2), Recovers(within=2.0)],
)


def test_what_one_server_refuses_another_does(run):
    """Refused calls are answered by the others, and the extra load stays small."""
    run(OVERLOAD).check()

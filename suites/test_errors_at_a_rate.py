"""One server in four answers a third of its calls with UNAVAILABLE. Retries make good for it, within their budget."""

from faults import Errors, during, one
from harness import Available, Client, NoRetryStorm, Poisson, Scenario, Servers
from stormproof import LeastRequest, Policy, Retry

ERRORS_AT_A_RATE = Scenario(
    servers=Servers(4),
    client=Client(balancer=LeastRequest(), policy=Policy(timeout=1.0, retry=Retry(attempts=3))),
    workload=Poisson(rate=100, seconds=7),
    faults=[during(0.5, 6.5, Errors(0.33), on=one)],
    guarantees=[Available(0.99), NoRetryStorm(attempts_per_call=1.2)],
)


def test_retries_make_good_for_the_errors(run):
    """Hardly any caller sees an error, and the extra load stays within the budget."""
    run(ERRORS_AT_A_RATE).check()

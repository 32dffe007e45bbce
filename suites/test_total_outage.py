"""Every server refuses connections for three seconds. Nothing can succeed then; the question is what happens after.

Retries must not pile up while it lasts (a retry storm would keep the servers down), and all must be well soon after.
"""

from faults import Errors, Refuse, during, every
from harness import Client, Closed, NoRetryStorm, Poisson, Recovers, Scenario, Servers, WithinDeadline
from stormproof import Policy, Retry, RoundRobin

TOTAL_OUTAGE = Scenario(
    servers=Servers(3),
    client=Client(balancer=RoundRobin(), policy=Policy(timeout=1.0, retry=Retry(attempts=4))),
    workload=Poisson(rate=100, seconds=8),
    faults=[during(2, 5, Errors(1.0), on=every)],
    guarantees=[NoRetryStorm(attempts_per_call=1.2), WithinDeadline(1.0), Recovers(within=1.0)],
)


def test_retries_do_not_pile_up(run):
    """All servers fail all calls: the retry budget keeps the load near what it was, and after the end all is well."""
    run(TOTAL_OUTAGE).check()


def test_callers_come_back_when_nobody_was_there(run):
    """All connections are refused, and callers that wait for their answers are back within two seconds."""
    run(
        Scenario(
            servers=TOTAL_OUTAGE.servers,
            client=TOTAL_OUTAGE.client,
            workload=Closed(callers=4, seconds=7, think=0.02),
            faults=[during(1, 4, Refuse(), on=every)],
            guarantees=[WithinDeadline(1.0), Recovers(within=2.0)],
        )
    ).check()

"""The link to one server carries two kilobytes a second. Its answers crawl, and those who watch load go elsewhere."""

from faults import Bandwidth, during, one
from harness import Available, Client, Fast, Poisson, Recovers, Scenario, Servers, WithinDeadline
from stormproof import PeakEwma, Policy, Retry

THIN_LINK = Scenario(
    servers=Servers(4),
    client=Client(
        balancer=PeakEwma(),
        policy=Policy(timeout=2.0, attempt_timeout=0.5, idempotent=True, retry=Retry(attempts=3)),
    ),
    workload=Poisson(rate=100, seconds=9),
    faults=[during(1, 4, Bandwidth(2000), on=one)],
    guarantees=[Available(0.99), WithinDeadline(2.0), Fast(p90=0.050, grace=1.0), Recovers(within=3.0, share=0.1)],
)


def test_callers_do_not_wait_on_a_thin_link(run):
    """Calls stay fast, and the server is used again when its link is."""
    run(THIN_LINK).check()

"""Servers do the work, and their answers vanish. A payment must not be made twice because nobody heard that it was.

The method is not declared idempotent, so an attempt that may have been executed is never repeated: the caller is told
that nobody can know, and that is the right answer.
"""

import pytest

from faults import Blackhole, during, some
from harness import AtMostOnce, Client, NothingLost, Poisson, Scenario, Servers, WithinDeadline
from stormproof import Policy, Retry, RoundRobin

LOST_ACKNOWLEDGEMENT = Scenario(
    servers=Servers(4),
    client=Client(
        balancer=RoundRobin(),
        policy=Policy(timeout=1.0, attempt_timeout=0.2, idempotent=False, retry=Retry(attempts=3)),
    ),
    workload=Poisson(rate=100, seconds=6),
    faults=[during(1, 4.5, Blackhole(towards="client"), on=some(2))],
    guarantees=[AtMostOnce(), NothingLost(), WithinDeadline(1.0)],
)


@pytest.mark.docker
def test_nothing_is_done_twice(run):
    """No call is executed twice, no acknowledged one is lost, and the callers of the lost ones are told so in time."""
    result = run(LOST_ACKNOWLEDGEMENT)
    result.check()
    assert any(operation.result == "info" for operation in result.history.operations)

"""Answer streams are under way when their servers die: one is killed, one resets its connections, one falls silent.

Each stream goes on at another server after the last message that was heard, so what its caller reads is the uncut stream:
nothing is lost, repeated or out of order. It goes on even when the client itself is killed: then what it had in hand comes
again, and is marked.
"""

from dataclasses import replace

import pytest

from faults import Blackhole, Kill, Reset, during, named
from harness import GREETINGS, Available, Client, Scenario, Servers, Streams, Uncut, WithinDeadline
from stormproof import Policy, Retry, RoundRobin

TORN_STREAM = Scenario(
    servers=Servers(3, service_time=0.040),  # for each message
    client=Client(
        balancer=RoundRobin(),
        # `timeout` is for the whole stream, `attempt_timeout` for the silence between two messages.
        policy=Policy(timeout=5.0, attempt_timeout=0.5, retry=Retry(attempts=3), checkpoint=GREETINGS),
    ),
    workload=Streams(rate=12, seconds=6.5, messages=20),
    faults=[
        during(0.8, 1.8, Kill(), on=named("server-0")),
        during(2.6, 3.6, Reset(), on=named("server-1")),
        during(4.4, 5.4, Blackhole(), on=named("server-2")),
    ],
    guarantees=[Uncut(), Available(0.98), WithinDeadline(5.0, tolerance=0.5)],
)

READER_KILLED = replace(
    TORN_STREAM,
    client=replace(TORN_STREAM.client, checkpoint_every=10),
    workload=Streams(rate=12, seconds=4, messages=20),
    faults=[during(1.0, 1.5, Kill(), on=named("client")), during(2.2, 2.7, Kill(), on=named("client"))],
    guarantees=[Uncut(every=10)],
)


@pytest.mark.guarantee(90)
def test_a_torn_stream_goes_on_elsewhere(run):
    """Every stream is read to its last message, each of them once and in order."""
    run(TORN_STREAM).check()


@pytest.mark.guarantee(90, 91)
def test_a_stream_outlives_its_reader(run):
    """The client is killed (SIGKILL) twice: no message is lost, at most ten of a stream come again, and those are marked."""
    result = run(READER_KILLED)
    result.check()
    assert result.history.client_starts == 3
    assert any(piece.repeat for call in result.history.operations for piece in call.heard)

"""A test of one's own that asserts by hand: the fixture `fleet` starts servers, and takes the same fault values.

pytest examples/test_checkout.py
"""

import pytest

from faults import Kill, Latency
from harness import Servers
from protos.hello_pb2 import HelloRequest
from protos.hello_pb2_grpc import HelloStub
from stormproof import Channel, PeakEwma, Policy, Retry


@pytest.fixture
def shop(fleet):
    policy = Policy(timeout=2.0, idempotent=True, retry=Retry(attempts=3))
    with Channel(list(fleet.addresses.values()), balancer=PeakEwma(), policy=policy) as channel:
        yield HelloStub(channel)


@pytest.mark.servers(Servers(3, service_time=0.005))
def test_checkout_survives_a_slow_cart(fleet, shop):
    """Two of three carts are well: every greeting arrives."""
    with fleet.fault(Latency(0.300), on="server-1"):  # healed when the block ends, whatever happens in it
        for number in range(20):
            assert shop.SayHello(HelloRequest(name=str(number))).message == f"Hello, {number}!"


def test_checkout_survives_a_dead_cart(fleet, shop):
    """A server is killed: the others answer."""
    with fleet.fault(Kill(), on="server-0"):
        for number in range(20):
            assert shop.SayHello(HelloRequest(name=str(number))).message == f"Hello, {number}!"

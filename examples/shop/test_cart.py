"""A test of the shop's own: its compose file as it is, its service behind proxies, and the same fault values.

pytest examples/shop --fleet=docker
"""

from pathlib import Path

import pytest

from faults import Kill, Latency, Partition, Pause
from harness import Servers
from stormproof import Channel, Policy, Retry

CARTS = Servers(2, compose=str(Path(__file__).parent / "docker-compose.yml"), service="cart", port=7000)
POLICY = Policy(timeout=2.0, attempt_timeout=0.3, idempotent=True, retry=Retry(attempts=3))

pytestmark = [pytest.mark.docker, pytest.mark.servers(CARTS)]


@pytest.mark.parametrize("trouble", [Kill(), Pause(), Partition(), Latency(1.0)], ids=str)
def test_customers_do_not_notice_that_a_cart_is_in_trouble(fleet, trouble):
    """One of two carts is in trouble: each customer is answered in time."""
    with Channel(list(fleet.addresses.values()), policy=POLICY) as channel:
        add = channel.unary_unary("/shop.Cart/Add")
        assert int(add(b"Ada", wait_for_ready=True)) >= 1
        with fleet.fault(trouble, on="server-0"):
            for number in range(20):
                assert int(add(b"customer %d" % number)) >= 1

"""Many threads on one channel's lock and pool, as the threaded driver uses them, without sockets: every count is exact."""

from __future__ import annotations

import dataclasses
import sys
import threading
import time
from collections import Counter

import pytest

from stormproof import Adaptive, Channel, ConsistentHash, LeastRequest, PeakEwma, Policy, RandomChoice, RoundRobin
from stormproof.core import balancers
from stormproof.core.call import Call
from stormproof.core.outcome import OK

BALANCERS = [
    RoundRobin(),
    RandomChoice(),
    LeastRequest(),
    LeastRequest(choices=3),
    LeastRequest(choices=None),
    PeakEwma(),
    Adaptive(),
    ConsistentHash(header="user-id"),
]
THREADS = 8
#: Calls of each thread: of the one whose turns are exact, and of the default; the others go through the same lock.
CALLS = {RoundRobin(): 100_000, LeastRequest(): 100_000}
FEWER = 20_000


@pytest.fixture
def impatient():
    """Threads give way to each other fifty times as often as they would."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.0001)
    yield
    sys.setswitchinterval(before)


@pytest.mark.guarantee(5, 6, 10)
@pytest.mark.parametrize("balancer", BALANCERS, ids=repr)
@pytest.mark.usefixtures("impatient")
def test_eight_threads_lose_no_pick(balancer):
    """8 threads x 100,000 calls (20,000 of the balancers that are no default): each has its pick, none stays in flight, and
    turns are exact over all threads together."""
    calls = CALLS.get(balancer, FEWER)
    with Channel([f"h{n}:1" for n in range(7)], balancer=balancer, seed=1) as channel:
        lock, pool, policy = channel._lock, channel._pool, Policy()
        counts = [Counter() for _ in range(THREADS)]
        ready = threading.Barrier(THREADS)

        def work(count: Counter[str]) -> None:
            ready.wait(10)
            for _ in range(calls):
                call = Call(pool, policy)
                with lock:
                    [start] = call.begin(time.monotonic())
                count[start.endpoint.address] += 1
                with lock:
                    call.finished(1, OK, time.monotonic())

        threads = [threading.Thread(target=work, args=(count,)) for count in counts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        total = sum(counts, Counter())
        assert sum(total.values()) == THREADS * calls
        assert [member.in_flight for member in pool.members] == [0] * 7
        if balancer == RoundRobin():
            assert max(total.values()) - min(total.values()) <= 1
        assert len(total) == 7


def test_no_balancer_is_left_out():
    """Whoever adds one adds it here."""
    known = {one for one in vars(balancers).values() if isinstance(one, type) and dataclasses.is_dataclass(one)}
    assert {type(balancer) for balancer in BALANCERS} == known

"""What a health check, a warm-up and a load report change in who is picked: timetables over the pool."""

from __future__ import annotations

from collections import Counter

import pytest
from machines import ANSWERED, REFUSED, pool_of

from stormproof.core.balancers import RoundRobin
from stormproof.core.breaker import State
from stormproof.core.endpoint import Endpoint
from stormproof.core.failover import Failover
from stormproof.core.health import Answer
from stormproof.core.outcome import OK
from stormproof.core.reports import LoadReport, LoadReports
from stormproof.core.slow_start import SlowStart


def served(pool, count: int, now: float) -> Counter[str]:
    seen: Counter[str] = Counter()
    for _ in range(count):
        flight = pool.begin(now)
        seen[flight.member.endpoint.address[0]] += 1
        pool.finished(flight, OK, now)
    return seen


def test_one_that_says_it_does_not_serve_is_left_and_comes_back_with_its_word():
    """a is out from its NOT_SERVING to its SERVING, without a call having failed on it."""
    pool = pool_of("a", "b", balancer=RoundRobin())
    assert pool.checked("a:1", Answer.NOT_SERVING, False, 1.0)
    assert served(pool, 10, 1.0) == {"b": 10}
    assert not pool.checked("a:1", Answer.NOT_SERVING, False, 2.0)
    assert pool.checked("a:1", Answer.SERVING, True, 3.0)
    assert served(pool, 10, 3.0) == {"a": 5, "b": 5}


def test_if_nobody_says_that_it_serves_all_are_used():
    """Panic: health checks must not turn a channel off."""
    pool = pool_of("a", "b", balancer=RoundRobin())
    for address in ("a:1", "b:1"):
        pool.checked(address, Answer.SILENCE, False, 1.0)
    assert served(pool, 10, 1.0) == {"a": 5, "b": 5}


def test_an_ejected_endpoint_is_not_tried_before_it_says_that_it_serves():
    """Asked for its health, a dead server costs no caller a trial: it is tried after its first SERVING."""
    pool = pool_of("a", "b")
    pool.checked("a:1", Answer.SERVING, True, 0.0)
    pool.finished(pool.begin(0.0), REFUSED, 0.0)
    assert pool.checked("a:1", Answer.SILENCE, False, 0.3)
    assert served(pool, 20, 5.0) == {"b": 20}
    pool.checked("a:1", Answer.SERVING, True, 5.5)
    assert served(pool, 1, 5.6) == {"a": 1}
    assert pool.members[0].breaker.state is State.CLOSED


def test_its_word_alone_does_not_readmit_it():
    """A server that says it serves and fails its calls gets one trial a wait, no more."""
    pool = pool_of("a", "b", failover=Failover(base=1.0, cap=1.0))
    pool.checked("a:1", Answer.SERVING, True, 0.0)
    tried = 0
    for tick in range(1000):
        now = tick * 0.01
        pool.checked("a:1", Answer.SERVING, True, now)
        flight = pool.begin(now)
        on_a = flight.member.endpoint.address == "a:1"
        tried += on_a
        pool.finished(flight, ANSWERED if on_a else OK, now)
    assert 5 + 9 <= tried <= 5 + 13  # 10 s of waits of 0.8 to 1 s, after the first five in a row


def test_without_a_health_service_it_is_tried_as_if_nobody_asked():
    """UNIMPLEMENTED: the trial comes with the end of the wait; also if the service went away during the ejection."""
    for before in (Answer.NO_SERVICE, Answer.SERVING):
        pool = pool_of("a", "b")
        pool.checked("a:1", before, True, 0.0)
        pool.finished(pool.begin(0.0), REFUSED, 0.0)
        pool.checked("a:1", Answer.NO_SERVICE, True, 0.1)
        assert served(pool, 1, 1.0) == {"a": 1}


@pytest.mark.guarantee(103)
def test_an_ejected_endpoint_without_traffic_stays_harmless():
    """Nobody calls for an hour: the first call then goes to it as its trial, the others elsewhere."""
    pool = pool_of("a", "b")
    pool.finished(pool.begin(0.0), REFUSED, 0.0)
    flights = [pool.begin(3600.0) for _ in range(5)]
    assert [flight.member.endpoint.address for flight in flights] == ["a:1", "b:1", "b:1", "b:1", "b:1"]


@pytest.mark.guarantee(19)
def test_a_new_endpoint_warms_up():
    """Ten seconds of warm-up: c has a tenth of its share when it joins, half of it after 5 s, all of it after 10 s."""
    pool = pool_of("a", "b", balancer=RoundRobin(), failover=Failover(slow_start=SlowStart(window=10.0)))
    pool.update([Endpoint("a:1"), Endpoint("b:1"), Endpoint("c:1")], 100.0)
    assert served(pool, 210, 100.0)["c"] == 10
    assert served(pool, 250, 105.0)["c"] == 50
    assert served(pool, 300, 110.0)["c"] == 100
    assert pool._weigh_at == float("inf")


def test_a_returned_endpoint_warms_up_and_the_first_ones_do_not():
    """a and b start with the channel, at full weight; a is ejected, its trial succeeds, and it begins with a tenth."""
    pool = pool_of("a", "b", failover=Failover(slow_start=SlowStart(window=10.0)))
    pool.begin(0.0)
    assert [member.weight for member in pool.members] == [1.0, 1.0]
    pool.finished(pool.begin(0.0), REFUSED, 0.0)
    assert served(pool, 1, 1.0) == {"a": 1}  # the trial
    pool.begin(1.0)
    assert [member.weight for member in pool.members] == [0.1, 1.0]


@pytest.mark.guarantee(18)
def test_reported_load_becomes_weight():
    """a and b do 100 calls a second at 50 % and 25 % of their power: from the end of the blackout b gets two of three."""
    pool = pool_of("a", "b", balancer=RoundRobin(), load_reports=LoadReports(blackout=10.0))
    busy, idle = LoadReport(qps=100, cpu_utilization=0.5), LoadReport(qps=100, cpu_utilization=0.25)
    for second in range(12):
        pool.reported("a:1", busy, second)
        pool.reported("b:1", idle, second)
        wanted = {"a": 15, "b": 15} if second < 10 else {"a": 10, "b": 20}
        assert served(pool, 30, second) == wanted, f"at {second} s"


def test_many_different_weights_cost_few_steps():
    """1000 endpoints of different weights are turned over in at most 32 + 14 groups, and still by weight."""
    members = [Endpoint(f"h{n}:1", weight=1.0 + n / 1000) for n in range(1000)]
    pool = pool_of(*members, balancer=RoundRobin())
    seen: Counter[str] = Counter()
    for _ in range(150_000):
        flight = pool.begin(0.0)
        seen[flight.member.endpoint.address] += 1
        pool.finished(flight, OK, 0.0)
    assert len(pool._eligible.groups) <= 46
    whole = sum(e.weight for e in members)
    assert all(abs(seen[e.address] / (150_000 * e.weight / whole) - 1) < 0.06 for e in members)


@pytest.mark.guarantee(102)
def test_health_that_flips_while_nobody_calls_piles_nothing_up():
    """An ejected endpoint says yes and no 10,000 times: at most one plan a member and some to spare are kept."""
    pool = pool_of("a", "b")
    pool.checked("a:1", Answer.SERVING, True, 0.0)
    pool.finished(pool.begin(0.0), REFUSED, 0.0)
    for tick in range(1, 10_000):
        pool.checked("a:1", Answer.NOT_SERVING if tick % 2 else Answer.SERVING, tick % 2 == 0, 1.0 + tick)
    assert len(pool._due) <= 68
    pool.checked("a:1", Answer.SERVING, True, 20_000.0)
    assert served(pool, 1, 20_001.0) == {"a": 1}

"""The limit on calls at once, as timetables and in virtual time: its bounds, when it falls, when it grows again."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stormproof.core.limit import FixedLimit, GradientLimit


class Callers:
    """A fixed load in virtual time: so many callers, each calling again as soon as it is answered or refused.

    A call takes `takes` seconds, and so does a refused caller's pause. Every other call fails if `failing`.
    """

    def __init__(self, gauge, callers: int) -> None:
        self.gauge = gauge
        self.now = 0.0
        self.most: list[tuple[float, int]] = []  # calls in flight, whenever that changed
        self._next = [(index / callers * 0.1, index, -1.0) for index in range(callers)]
        self._turn = itertools.count(callers)

    def call(self, seconds: float, takes: float, *, failing: bool = False) -> int:
        """Goes on for `seconds`; returns the limit at the end."""
        end = self.now + seconds
        while self._next[0][0] < end:
            self.now, turn, began = heapq.heappop(self._next)
            if began >= 0.0:
                self.gauge.finished(began, self.now, tells=not (failing and turn % 2))
            let_in = self.gauge.begin(self.now)
            turn = next(self._turn)
            pause = takes / 100 if failing and turn % 2 else takes
            heapq.heappush(self._next, (self.now + pause, turn, self.now if let_in else -1.0))
            self.most.append((self.now, self.gauge.in_flight))
        self.now = end
        return self.gauge.limit


@pytest.mark.guarantee(82)
def test_a_fixed_limit_lets_in_that_many():
    """Guarantee 82: of four calls at once three are let in, streams as well; one that ends makes room for one."""
    gauge = FixedLimit(calls=3).gauge()
    assert [gauge.begin(0.0), gauge.begin(0.0, stream=True), gauge.begin(0.0), gauge.begin(0.0)] == [
        True,
        True,
        True,
        False,
    ]
    gauge.finished(0.0, 1.0)
    assert [gauge.begin(1.0), gauge.begin(1.0)] == [True, False]
    assert (gauge.in_flight, gauge.limit) == (3, 3)


@pytest.mark.guarantee(84)
def test_an_adaptive_limit_falls_when_calls_take_longer_and_recovers():
    """Guarantee 84: 40 callers whose calls take 0.1 s, then 0.4 s, then 0.1 s again; the limit each 2 s.

    A window adds 0.2 * sqrt(limit) while it grows (the first ones measure at half the limit), and takes away, at gradient
    1/2 > 1.5 * 0.1 / 0.4, 0.2 * (limit / 2 - sqrt(limit)).
    """
    callers = Callers(GradientLimit(initial=20, remeasure=1000).gauge(), 40)
    assert [callers.call(2.0, 0.1) for _ in range(5)] == [20, 20, 22, 24, 26]
    assert [callers.call(2.0, 0.4) for _ in range(6)] == [25, 22, 21, 19, 17, 16]
    assert [callers.call(2.0, 0.1) for _ in range(6)] == [16, 17, 19, 21, 23, 25]


@pytest.mark.guarantee(84)
def test_it_stays_within_its_bounds():
    """Guarantee 84: calls get ten times slower, then quick again: down to lowest, up to highest, and no further."""
    callers = Callers(GradientLimit(initial=10, lowest=6, highest=12, remeasure=1000).gauge(), 20)
    assert callers.call(10.0, 0.1) == 12
    assert min(callers.call(2.0, 1.0) for _ in range(15)) == 6
    assert callers.call(20.0, 0.1) == 12
    assert max(in_flight for _, in_flight in callers.most) == 12


def test_a_server_that_is_slower_for_good_gets_its_room_back():
    """At lowest there can be no queue, so what calls take there is the new quiet time, and the limit grows again."""
    callers = Callers(GradientLimit(initial=10, lowest=6, highest=12, remeasure=1000).gauge(), 20)
    callers.call(10.0, 0.1)
    assert callers.call(60.0, 1.0) == 12


def test_a_little_slower_is_no_reason():
    """Up to 1.5 times the quiet time the limit grows, as if nothing were; at twice as long it falls."""
    for takes, grows in ((0.14, True), (0.2, False)):
        callers = Callers(GradientLimit(initial=20, remeasure=1000).gauge(), 40)
        before = callers.call(5.0, 0.1)
        assert (callers.call(10.0, takes) > before) is grows


def test_an_idle_server_keeps_its_limit_and_learns_what_calls_take():
    """With less than half of the limit in use nothing is known of its height; but the time without a queue is."""
    gauge = GradientLimit(initial=20).gauge()
    callers = Callers(gauge, 5)
    callers.call(5.0, 0.1)
    assert gauge.quiet_time == pytest.approx(0.1, rel=0.05)
    assert callers.call(20.0, 0.3) == 20
    assert gauge.quiet_time == pytest.approx(0.3, rel=0.05)


def test_errors_say_nothing_about_how_long_work_takes():
    """Every other call fails a hundred times quicker: the time that the others take is found all the same."""
    gauge = GradientLimit(initial=20).gauge()
    Callers(gauge, 5).call(20.0, 0.1, failing=True)
    assert gauge.quiet_time == pytest.approx(0.1, rel=0.05)


def test_streams_count_against_the_highest_only():
    """Ten open streams leave the limit of unary calls alone, and are not measured; with them in flight `highest` holds."""
    gauge = GradientLimit(initial=4, lowest=4, highest=12).gauge()
    assert [gauge.begin(0.0, stream=True) for _ in range(10)] == [True] * 10
    assert [gauge.begin(0.0) for _ in range(3)] == [True, True, False]
    gauge.finished(0.0, 900.0, stream=True)
    assert gauge.begin(900.0)
    assert (gauge.limit, gauge.quiet_time) == (4, None)


def test_under_load_the_limit_is_halved_now_and_then_to_measure():
    """remeasure=10: in the seconds after the first window, and then each 10 s, 10 calls are in flight, else 20."""
    callers = Callers(GradientLimit(initial=20, highest=20, remeasure=10).gauge(), 40)
    callers.call(30.0, 0.1)
    most = [max(in_flight for now, in_flight in callers.most if int(now) == second) for second in range(30)]
    assert [second for second in range(30) if most[second] == 10] == [2, 14, 26]
    assert {calls for calls in most if calls != 10} <= {19, 20}


def test_a_probe_ends_even_if_nothing_ever_ends():
    """Calls that hang while the limit is halved: after three windows and a call's time the whole limit is free again."""
    gauge = GradientLimit(initial=20, remeasure=1.0).gauge()
    Callers(gauge, 20).call(1.2, 0.1)
    assert gauge.begin(1.2) is False
    assert [gauge.begin(5.0) for _ in range(20)].count(True) == 10


def overloaded(gauge, *, workers: int, service: float, rate: float, until: float, seed: int = 1) -> list[float]:
    """A queue with exponential service in virtual time, at this rate of calls. How long each call took that ended in the
    second half of the time."""
    rng, ends, queue, took = random.Random(seed), [], deque(), []
    now, busy, arrives = 0.0, 0, 0.0
    while now < until:
        if ends and ends[0][0] <= arrives:
            now, began = heapq.heappop(ends)
            gauge.finished(began, now)
            took += [now - began] if now >= until / 2 else []
            busy -= 1
        else:
            now = arrives
            arrives += rng.expovariate(rate)
            if gauge.begin(now):
                queue.append(now)
        if queue and busy < workers:
            busy += 1
            heapq.heappush(ends, (now + rng.expovariate(1 / service), queue.popleft()))
    return took


@pytest.mark.parametrize(
    ("workers", "service", "rate", "until"),
    [(10, 0.05, 400, 300), (2, 0.05, 60, 1200), (10, 3.0, 7, 9000), (40, 0.1, 800, 160)],
)
def test_an_overloaded_server_finds_its_size_and_keeps_it(workers, service, rate, until):
    """Offered up to twice what it can do, however long: at least 90 % of its capacity is used, and calls that are let in
    take under 5 times the service time on average. (With 200 let in it would be 5 to 100 times.)"""
    took = overloaded(GradientLimit().gauge(), workers=workers, service=service, rate=rate, until=until)
    assert len(took) >= 0.9 * (until / 2) * workers / service
    assert sum(took) / len(took) < 5 * service


class Gradient2:
    """The limit of Netflix's concurrency-limits (Gradient2Limit, WindowedLimit, their defaults), for comparison."""

    def __init__(self) -> None:
        self.in_flight, self.estimate, self.long, self.windows = 0, 20.0, 0.0, 0
        self.began, self.count, self.total, self.most = 0.0, 0, 0.0, 0

    def begin(self, now: float) -> bool:
        let_in = self.in_flight < int(self.estimate)
        self.in_flight += let_in
        self.most = max(self.most, self.in_flight)
        return let_in

    def finished(self, began: float, now: float) -> None:
        self.in_flight -= 1
        self.count, self.total = self.count + 1, self.total + now - began
        if now >= self.began + 1.0 and self.count >= 10:
            self._update(self.total / self.count)
            self.began, self.count, self.total, self.most = now, 0, 0.0, self.in_flight

    def _update(self, short: float) -> None:
        self.windows += 1
        self.long += (short - self.long) * (1 / self.windows if self.windows <= 10 else 2 / 601)
        if self.long / short > 2:
            self.long *= 0.95
        if self.most >= self.estimate / 2:
            gradient = max(0.5, min(1.0, 1.5 * self.long / short))
            self.estimate = max(20.0, min(200.0, self.estimate * 0.8 + (self.estimate * gradient + 4) * 0.2))


def test_an_overload_that_lasts_does_not_become_normal():
    """20 minutes of twice the capacity, 0.5 s of work a call: with Gradient2 calls take 4 s and more, with ours 1 s."""
    load = {"workers": 10, "service": 0.5, "rate": 40, "until": 1200}
    theirs, ours = overloaded(Gradient2(), **load), overloaded(GradientLimit().gauge(), **load)
    assert sum(theirs[-1000:]) / 1000 > 4.0
    assert sum(ours[-1000:]) / 1000 < 1.5


@pytest.mark.guarantee(82, 84)
@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 40), st.floats(0.0, 3.0), st.booleans(), st.booleans()), max_size=60),
    st.integers(1, 10),
    st.integers(1, 20),
)
def test_whatever_happens_the_bounds_hold_and_everything_is_counted_out(bursts, lowest, more):
    """Guarantees 82, 84: in flight <= highest, lowest <= limit <= highest at every moment, and 0 in flight at the end."""
    config = GradientLimit(initial=lowest, lowest=lowest, highest=lowest + more, remeasure=2.0)
    gauge, now, open_ = config.gauge(), 0.0, deque()
    for calls, takes, stream, tells in bursts:
        for _ in range(calls):
            if gauge.begin(now, stream=stream):
                open_.append((now, stream))
            assert lowest <= gauge.limit <= lowest + more
            assert gauge.in_flight == len(open_) <= lowest + more
        now += takes
        for _ in range(len(open_) // 2 + 1 if open_ else 0):
            began, was_stream = open_.popleft()
            gauge.finished(began, now, stream=was_stream, tells=tells)
    for began, was_stream in open_:
        gauge.finished(began, now, stream=was_stream)
    assert gauge.in_flight == 0


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: FixedLimit(calls=0), "calls must be a whole number, from 1 to 1e.06"),
        (lambda: GradientLimit(lowest=30), r"initial must be from lowest \(30\) to highest \(200\); got 20"),
        (lambda: GradientLimit(initial=0, highest=1.5), "initial must be .*; highest must be"),
        (lambda: GradientLimit(tolerance=0.5, window=0), "tolerance must be a number, from 1 to 10.*; window must be"),
    ],
)
def test_bad_values_say_what_is_wrong(build, says):
    """One ValueError that names them all."""
    with pytest.raises(ValueError, match=says):
        build()

"""The breaker against the table at the head of stormproof/core/breaker.py, and who a pool picks against the law of it."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machines import ANSWERED, CANCELLED, LOST, REFUSED, TIMED_OUT, WRONG, pool_of
from scipy.stats import kstest

from stormproof.core.balancers import LeastRequest, PeakEwma, RandomChoice, RoundRobin
from stormproof.core.breaker import Breaker, State
from stormproof.core.endpoint import Endpoint
from stormproof.core.failover import Failover
from stormproof.core.health import Answer
from stormproof.core.outcome import OK, Code, Evidence, Outcome

OURS = Outcome(Code.INTERNAL, Evidence.NEVER_SENT, "cannot be serialized")
INTERNAL = Outcome(Code.INTERNAL, Evidence.ANSWERED, "a mistake")
OUTCOMES = [OK, OK, ANSWERED, ANSWERED, LOST, TIMED_OUT, INTERNAL, WRONG, CANCELLED, OURS, REFUSED]
#: What speaks against the endpoint; what says nothing.
FAILED, NOTHING = {ANSWERED, LOST, TIMED_OUT, INTERNAL, REFUSED}, {CANCELLED, OURS}


class Others:
    """The other endpoints: what share of their calls they fail, and whether one more may be ejected."""

    def __init__(self, usual: float, room: bool) -> None:
        self.usual, self.room = usual, room

    def usual_rate(self, breaker, now) -> float:
        return self.usual

    def may_eject(self) -> bool:
        return self.room


class Reference:
    """The table, with every call since the breaker closed kept in a list: (its half of a window, whether it failed)."""

    def __init__(self, config: Failover) -> None:
        self.config, self.state, self.times, self.changed = config, "CLOSED", 0, 0.0
        self.half, self.began = 0, -math.inf  # halves of windows are numbered; one that is skipped breaks the row
        self.calls: list[tuple[int, bool]] = []
        self.wait = 0.0

    def finished(self, outcome, started, now, trial, others) -> None:
        failed = outcome in FAILED
        if outcome in NOTHING:
            if trial:
                self.state, self.wait = "OPEN", 0.0
        elif trial:
            self.opens(now) if failed else self.closes(now)
        elif self.state == "CLOSED":
            self.counts(now, failed)
            if failed and (outcome is REFUSED or self.too_many(others.usual)) and others.room:
                self.opens(now)
        elif started >= self.changed and not failed:
            self.closes(now)

    def counts(self, now, failed) -> None:
        if now >= self.began + 5.0:
            self.half += 1 if now < self.began + 10.0 else 2
            self.began = now
        self.calls.append((self.half, failed))

    def too_many(self, usual) -> bool:
        row = 0
        while row < len(self.calls) and self.calls[-1 - row][1]:
            row += 1
        recent = [failed for half, failed in self.calls if half >= self.half - 1]
        rate = sum(recent) / len(recent)
        gone = row >= self.config.consecutive and surely(1.0, row, usual)
        return gone or (
            len(recent) >= self.config.minimum and rate >= self.config.rate and surely(rate, len(recent), usual)
        )

    def opens(self, now) -> None:
        again = self.state == "HALF_OPEN" or (self.times and now < self.changed + self.config.cap)
        self.times = self.times + 1 if again else 1
        self.wait = min(self.config.cap, self.config.base * 2 ** (self.times - 1))
        self.state, self.changed = "OPEN", now

    def closes(self, now) -> None:
        self.state, self.changed, self.calls = "CLOSED", now, []


def surely(share: float, calls: int, usual: float) -> bool:
    """Chernoff: so many failures come by chance with at most exp(-n KL), and that is 1e-8 or less."""
    if share <= usual:
        return False
    divergence = share * math.log(share / usual) + (
        (1 - share) * math.log((1 - share) / (1 - usual)) if share < 1 else 0
    )
    return calls * divergence >= 8 * math.log(10)


STEPS = st.tuples(
    st.sampled_from([0.0, 0.01, 0.01, 0.2, 1.0, 4.0, 11.0]), st.sampled_from(OUTCOMES), st.booleans(), st.booleans()
)


@pytest.mark.guarantee(40, 41, 76, 77, 78, 80, 81, 105)
@settings(max_examples=300, deadline=None)
@given(
    steps=st.lists(STEPS | st.lists(STEPS, min_size=1, max_size=3).map(lambda few: few * 12), max_size=40),
    config=st.sampled_from([Failover(), Failover(consecutive=2, minimum=3, rate=0.5, base=0.1, cap=5.0),
                            Failover(consecutive=1000, minimum=10, rate=0.3)]),
    others=st.builds(Others, st.sampled_from([0.01, 0.01, 0.1, 0.6]), st.sampled_from([True, True, False])),
)  # fmt: skip
def test_a_breaker_is_what_its_table_says(steps, config, others):
    """Any trace of outcomes of calls begun before and after the last change, of trials, pauses and bursts: the same state,
    the same number of ejections in a row, and a wait within a fifth under that of the table."""
    breaker, model, rng, now = Breaker(config), Reference(config), random.Random(5), 0.0
    flat = [step for group in steps for step in (group if isinstance(group, list) else [group])]
    for pause, outcome, old, tries in flat:
        now += pause
        if model.state == "OPEN" and tries and now >= breaker.until:
            breaker.trial()
            model.state = "HALF_OPEN"
        trial = model.state == "HALF_OPEN" and tries
        started = now - 3.0 if old else now
        before = (breaker.recent(now), breaker._row)
        changed = breaker.finished(outcome, started, now, rng, trial=trial, fellows=others)
        was = model.state
        model.finished(outcome, started, now, trial, others)
        assert (breaker.state.name, breaker.times) == (model.state, model.times)
        assert changed == (was != model.state)
        if changed and model.state == "OPEN":
            assert now + 0.8 * model.wait <= breaker.until <= now + model.wait
        if outcome in NOTHING:
            assert (breaker.recent(now), breaker._row) == before


@pytest.mark.guarantee(41, 81)
def test_good_behaviour_is_remembered_for_as_long_as_the_longest_wait():
    """base 0.5 s, cap 1.5 s. Ejected 1.4 s after it came back: twice as long. 1.6 s after: as for the first time."""
    for calm, longest in ((1.4, 1.0), (1.6, 0.5)):
        breaker, rng = Breaker(Failover()), random.Random(1)
        breaker.finished(REFUSED, 0.0, 0.0, rng, trial=False)
        breaker.trial()
        breaker.finished(OK, 0.5, 0.5, rng, trial=True)
        breaker.finished(REFUSED, 0.5 + calm, 0.5 + calm, rng, trial=False)
        assert 0.8 * longest <= breaker.until - (0.5 + calm) <= longest


@pytest.mark.guarantee(81)
def test_waits_are_shortened_evenly_by_up_to_a_fifth():
    """KS test against the uniform distribution on 0.8 to 1 of the wait: 5000 ejections, seed 1, alpha 1e-6."""
    rng, waits = random.Random(1), []
    for _ in range(5000):
        breaker = Breaker(Failover(base=1.0))
        breaker.finished(REFUSED, 0.0, 0.0, rng, trial=False)
        waits.append(breaker.until)
    assert kstest(waits, "uniform", args=(0.8, 0.2)).pvalue > 1e-6


@pytest.mark.guarantee(58)
def test_in_a_panic_a_retry_still_goes_elsewhere():
    """All three are ejected, and all are used: whoever was tried is not, until all were."""
    pool = pool_of("a", "b", "c", failover=Failover(base=50, cap=50))
    for _ in range(3):
        pool.finished(pool.begin(0.0), REFUSED, 0.0)
    tried = []
    for name in "abca":
        flight = pool.begin(0.1, tried)
        assert flight.member.endpoint.address == f"{name}:1"
        tried.append(flight.member)


BALANCERS = [
    RoundRobin(),
    RandomChoice(),
    LeastRequest(),
    LeastRequest(choices=3),
    LeastRequest(choices=None),
    PeakEwma(),
]
ENDPOINTS = st.lists(
    st.builds(Endpoint, st.just("x:1"), st.sampled_from([0.0, 1.0, 1.0, 3.0]), st.integers(0, 2)),
    min_size=1,
    max_size=6,
)


def allowed(members, tried) -> set[int]:
    """Who may be picked: of those who are well, the first tier, those with weight; who is tried only if nobody else is well."""

    def best(some):
        well = [m for m in some if m.breaker.state is State.CLOSED and m.serving]
        first = min((m.endpoint.priority for m in well), default=None)
        tier = [m for m in well if m.endpoint.priority == first] or some
        return [m for m in tier if m.endpoint.weight > 0] or tier

    everybody = best(members)
    fresh = [m for m in everybody if m not in tried]
    others = best([m for m in members if m not in tried and m.breaker.state is State.CLOSED and m.serving])
    return {m.index for m in (best(fresh) if fresh else others or everybody)}


@pytest.mark.guarantee(1, 7, 45, 47, 58, 77, 78)
@settings(max_examples=300, deadline=None)
@given(balancer=st.sampled_from(BALANCERS), endpoints=ENDPOINTS, steps=st.lists(st.integers(0, 10**6), max_size=60))
def test_whoever_is_picked_is_eligible_or_on_trial(balancer, endpoints, steps):
    """Any weights, tiers, outcomes, health checks and retries. No call reaches who is ejected, unless nobody is well, but one
    trial at a time, once its wait is over; a pick never fails, and one endpoint alone is always picked."""
    pool = pool_of(*(Endpoint(f"h{i}:1", e.weight, e.priority) for i, e in enumerate(endpoints)), balancer=balancer)
    now, flights, trials = 0.0, [], set()
    for step in steps:
        what, number = step % 8, step // 8
        now += [0.0, 0.01, 0.3, 2.0][number % 4]
        member = pool.members[number % len(endpoints)]
        if what == 0:
            serving = number % 3 > 0
            pool.checked(member.endpoint.address, Answer.SERVING if serving else Answer.NOT_SERVING, serving, now)
        elif what <= 4:
            tried = [m for m in pool.members if number // 7 % 5 == m.index or number // 35 % 9 == m.index]
            due = [m for m in pool.members if m.breaker.state is State.OPEN and m.breaker.until <= now and not m.waits]
            may = allowed(pool.members, tried)
            flight = pool.begin(now, tried)
            flights.append(flight)
            if flight.trial:
                assert flight.member in due
                assert flight.member not in tried
                assert flight.member not in trials
                trials.add(flight.member)
            else:
                assert flight.member.index in may
                assert not due or set(due) & set(tried)
        elif flights:
            flight = flights.pop(number % len(flights))
            trials -= {flight.member} if flight.trial else set()
            pool.finished(flight, (OUTCOMES + [REFUSED] * 9)[number % 20], now)

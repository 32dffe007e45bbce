"""The machine of a call against a second one, written from its table and its policies: every action of any history."""

from __future__ import annotations

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from machines import ANSWERED, CANCELLED, LOST, REFUSED, TIMED_OUT, WRONG, pool_of

from stormproof.core.budget import RetryBudget
from stormproof.core.call import Call, Cancel, Finish, Start, State
from stormproof.core.failover import Failover
from stormproof.core.outcome import OK, Code, Evidence, Outcome
from stormproof.core.policy import Backoff, Hedge, Policy, Retry

NAMES = "abc"
FOREVER = float("inf")
PUSHED = Outcome(Code.RESOURCE_EXHAUSTED, Evidence.ANSWERED, "in a moment", 0.05)
NEVER = Outcome(Code.UNAVAILABLE, Evidence.ANSWERED, "do not come back", -1.0)
OURS = Outcome(Code.INTERNAL, Evidence.NEVER_SENT, "cannot be serialized")
INTERNAL = Outcome(Code.INTERNAL, Evidence.ANSWERED, "a mistake")
OUTCOMES = [OK, REFUSED, ANSWERED, LOST, TIMED_OUT, WRONG, CANCELLED, PUSHED, NEVER, OURS, INTERNAL]
#: Whose fault these are: the server's or the network's, not the request's.
THEIRS = {"UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "INTERNAL", "UNKNOWN", "DATA_LOSS", "CANCELLED"}


class Reference:
    """What a call has to do. Endpoints are picked in order; one that refused is out for good; each retry costs a coin."""

    def __init__(self, policy: Policy, resumable: bool, coins: int) -> None:
        self.policy, self.resumable, self.coins = policy, resumable, coins
        self.deadline = policy.timeout or FOREVER
        self.flying: dict[int, str] = {}
        self.tried: list[str] = []
        self.refused: set[str] = set()
        self.failures: list[Finish] = []
        self.attempts = self.reached = 0
        self.rounds = self.copies = 1  # attempts and copies so far, the first one in
        self.step = 1  # of the backoff
        self.committed = self.over = self.waits = False
        self.wake: tuple[float, float] | None = None  # not before, not after

    def pay(self) -> bool:
        self.coins -= 1
        return self.coins >= 0

    def start(self, now: float) -> list:
        there = [name for name in NAMES if name not in self.refused] or list(NAMES)
        fresh = [name for name in there if name not in self.tried and name not in self.flying.values()]
        self.attempts += 1
        self.flying[self.attempts] = name = (fresh or there)[0]
        hedge = self.policy.hedge
        again = hedge is not None and self.copies < hedge.attempts
        self.wake, self.waits = (now + hedge.after, now + hedge.after) if again else None, False
        limit = min(self.policy.attempt_timeout or FOREVER, self.deadline - now)
        return [("start", self.attempts, name, limit, None if hedge else self.reached + 1)]

    def copy(self, now: float) -> list:
        hedge = self.policy.hedge
        if hedge is None or self.copies >= hedge.attempts or now >= self.deadline or not self.pay():
            return []
        self.copies += 1
        return self.start(now)

    def finish(self, told: Finish) -> list:
        self.over, self.waits, self.wake = True, False, None
        return [*(("cancel", number) for number in self.flying), told]

    def failure(self) -> Finish:
        return self.failures[0 if self.policy.hedge else -1]

    def ended(self, number: int, outcome: Outcome, now: float, drawn: float | None) -> list:
        """`drawn`: when the machine wants to be woken, if it does; a wait that it drew itself."""
        name = self.flying.pop(number)
        self.refused |= {name} if outcome is REFUSED else set()
        self.reached += outcome.evidence is not Evidence.NEVER_SENT
        if self.over:
            return []
        if outcome in {OK, OURS}:
            return self.finish(Finish(number, outcome))
        self.failures.append(Finish(number, outcome))
        self.tried.append(name)
        fresh = set(NAMES) - self.refused - set(self.tried)
        if outcome is REFUSED and fresh and not self.committed and now < self.deadline:
            return self.start(now)
        hedge, pushback = self.policy.hedge, outcome.pushback
        if not self.repeats(outcome) and not (hedge and outcome.code.name in THEIRS):
            return self.finish(Finish(number, outcome))
        if hedge and pushback is not None and pushback < 0:  # gRFC A6: no more, but those that are out may still win
            self.copies, self.rounds, self.wake = hedge.attempts, self.policy.attempts, None
        if self.flying:
            if pushback is None:
                return self.copy(now)
            if self.copies < hedge.attempts:
                self.wake = (now + pushback, now + pushback)
            return []
        if not self.repeats(outcome) or self.rounds >= self.policy.attempts:
            return self.finish(self.failure())
        backoff = self.policy.retry.backoff
        most = min(backoff.cap, backoff.base * backoff.multiplier ** (self.step - 1))
        least, most = (0.0, most) if pushback is None else (pushback, pushback)
        if now + most >= self.deadline and not (drawn is not None and now + least <= drawn < self.deadline):
            return self.finish(self.failure())  # a shorter draw would have fitted, or none
        if not self.pay():
            return self.finish(self.failure())
        self.rounds += 1
        self.step = 1 if pushback is not None else self.step + 1
        if most == 0.0:
            return self.start(now)
        self.waits, self.wake = True, (now + least, now + most)
        return []

    def repeats(self, outcome: Outcome) -> bool:
        retry = self.policy.retry
        if retry is None or self.committed:
            return False
        if outcome.pushback is not None:
            return outcome.pushback >= 0
        if self.resumable:
            return outcome.code.name in THEIRS or outcome.code in retry.on
        if outcome.evidence is Evidence.LOST:
            no_answer = outcome.code.name in {"DEADLINE_EXCEEDED", "CANCELLED"}
            return (self.policy.idempotent or bool(self.policy.hedge)) and (no_answer or outcome.code in retry.on)
        return outcome.code in retry.on

    def woke(self, now: float) -> list:
        waited, self.waits, self.wake = self.waits, False, None
        if not waited:
            return self.copy(now)
        return self.start(now) if now < self.deadline else self.finish(self.failure())

    def progressed(self) -> None:
        self.committed = not self.resumable
        self.rounds = self.step = 1
        self.tried.clear()


POLICIES = st.builds(
    Policy,
    timeout=st.sampled_from([None, 0.5, 2.0]),
    attempt_timeout=st.sampled_from([None, 0.4]),
    idempotent=st.booleans(),
    retry=st.none()
    | st.builds(
        Retry,
        attempts=st.integers(1, 5),
        backoff=st.sampled_from([Backoff(base=0.0), Backoff(base=0.1), Backoff(base=0.2, cap=0.3)]),
        on=st.sampled_from([frozenset({Code.UNAVAILABLE}), frozenset({Code.UNAVAILABLE, Code.INVALID_ARGUMENT})]),
    ),
    hedge=st.sampled_from([None, None, Hedge(after=0.1, attempts=3), Hedge(after=0.0), Hedge(after=0.2, attempts=5)]),
)


def told(actions: list, hedged: bool) -> list:
    """The machine's actions in the model's words. Numbers of copies that overlap are only known to grow."""
    words: list = []
    for action in actions:
        match action:
            case Start(attempt, endpoint, timeout, sent):
                assert 1 <= sent <= attempt
                limit = FOREVER if timeout is None else timeout
                words.append(("start", attempt, endpoint.address[0], pytest.approx(limit), None if hedged else sent))
            case Cancel(attempt):
                words.append(("cancel", attempt))
            case _:
                words.append(action)
    return words


@pytest.mark.guarantee(49, 50, 51, 53, 54, 58, 59, 60, 61, 65, 68, 69, 70, 71, 72, 73, 99)
@settings(max_examples=400, deadline=None)
@given(policy=POLICIES, resumable=st.booleans(), coins=st.sampled_from([0, 1, 9, 9]), data=st.data())
def test_every_action_of_a_call_is_the_models(policy, resumable, coins, data):
    """Any policy and any order of ends, timers (on time and late), messages and cancellation: the same starts on the same
    endpoints with the same time and number, the same cancellations, the same end, once, and nothing after it."""
    resumable = resumable and policy.hedge is None
    budget = RetryBudget(ratio=0.0, per_second=coins * 2.0**-20, window=2.0**20)
    pool = pool_of(*NAMES, failover=Failover(consecutive=1000, minimum=10**9, base=1e6, cap=1e6), budget=budget)
    call, model, now = Call(pool, policy, resumable=resumable), Reference(policy, resumable, coins), 0.0
    assert told(call.begin(now), bool(policy.hedge)) == model.start(now)
    finishes = 0
    for _ in range(14):
        choices = [("end", number) for number in sorted(model.flying)] * 3
        choices += [("wake", 0)] * 3 * (model.wake is not None)
        choices += [("progress", 0)] * (len(model.flying) == 1 and policy.hedge is None)
        choices += [("commit", 0), ("cancel", 0)][: 2 if data.draw(st.integers(0, 4)) == 0 else 0]
        if not choices:
            break
        what, number = data.draw(st.sampled_from(choices))
        match what:
            case "end":
                now += data.draw(st.sampled_from([0.0, 0.01, 0.15, 0.6]))
                outcome = data.draw(st.sampled_from(OUTCOMES))
                actions = told(call.finished(number, outcome, now), bool(policy.hedge))
                assert actions == model.ended(number, outcome, now, call.wake_at)
            case "wake":
                assert call.wake_at is not None
                now = max(now, call.wake_at) + data.draw(st.sampled_from([0.0, 0.0, 0.001, 1.0]))
                actions = told(call.woke(now), bool(policy.hedge))
                assert actions == model.woke(now)
            case "cancel":
                actions = told(call.cancelled(now), bool(policy.hedge))
                end = Finish(model.attempts, Outcome(Code.CANCELLED, Evidence.LOST, "cancelled by the caller"))
                assert actions == ([] if model.over else model.finish(end))
            case "progress":
                call.progressed(now)
                model.progressed()
                continue
            case _:
                call.committed()
                model.committed = not resumable
                continue
        finishes += sum(isinstance(action, Finish) for action in actions)
        assert (call.wake_at is None) == (model.wake is None)
        if model.wake is not None:
            assert model.wake[0] - 1e-9 <= call.wake_at <= model.wake[1] + 1e-9
        assert (call.state is State.DONE, call.state is State.WAITING) == (model.over, model.waits)
        assert finishes == model.over
        assert pool.account._reserve == pytest.approx(
            max(0, model.coins), abs=0.001
        )  # what cannot happen costs nothing
        assert sum(member.in_flight for member in pool.members) == len(model.flying)
    event(f"over {model.over}, attempts {model.attempts}")

"""Idempotency keys, as a table: who runs, who waits, what is repeated, what is refused, and what may be run again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stormproof.core.once import Answer, Keys, found, kept
from stormproof.core.outcome import Code, Evidence, Outcome
from stormproof.core.policy import Policy, Retry

LOST = Outcome(Code.UNAVAILABLE, Evidence.LOST, "connection broke")
TIMED_OUT = Outcome(Code.DEADLINE_EXCEEDED, Evidence.LOST, "no answer in time")


@pytest.mark.guarantee(93)
def test_one_call_holds_a_key_and_the_others_wait_for_it():
    """Guarantee 93: the first looks and runs, those of the same payload wait, others are a conflict, until it is over."""
    keys: Keys[str] = Keys()
    assert keys.arrived("a", b"1", "first") == (Answer.LOOK, "first")
    assert keys.arrived("a", b"1", "second") == (Answer.WAIT, "first")
    assert keys.arrived("a", b"2", "third")[0] is Answer.CONFLICT
    assert keys.arrived("b", b"2", "fourth") == (Answer.LOOK, "fourth")
    keys.ended("a")
    assert keys.arrived("a", b"2", "fifth") == (Answer.LOOK, "fifth")
    assert len(keys) == 2


@pytest.mark.parametrize(("stored", "answer"), [(None, Answer.RUN), (b"1", Answer.REPEAT), (b"2", Answer.CONFLICT)])
def test_what_the_store_holds_decides_for_whoever_looks(stored, answer):
    """Nothing: run. The outcome of the same payload: repeat it. Of another: a conflict."""
    assert found(b"1", stored) is answer


@pytest.mark.guarantee(93)
def test_errors_are_kept_like_successes_unless_they_tell_of_the_moment():
    """Guarantee 93: what may be half done is never run again; five codes say that there was no room or no time."""
    passing = {"CANCELLED", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "ABORTED", "UNAVAILABLE"}
    assert {code.name for code in Code if not kept(code)} == passing


@pytest.mark.guarantee(93)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from([b"1", b"2"]), st.booleans()), max_size=60))
def test_one_at_a_time_and_one_kept_outcome_whatever_comes(steps):
    """Calls come with two keys and two payloads, and end in any order: of each key one runs at a time, and once an
    outcome is kept its handler never runs again."""
    keys: Keys[int] = Keys()
    running: dict[str, bytes] = {}
    store: dict[str, bytes] = {}
    for ticket, (key, digest, ends) in enumerate(steps):
        if ends and key in running:
            store.setdefault(key, running.pop(key))
            keys.ended(key)
            continue
        answer, _ = keys.arrived(key, digest, ticket)
        if answer is not Answer.LOOK:
            assert answer is (Answer.WAIT if running[key] == digest else Answer.CONFLICT)
        elif found(digest, store.get(key)) is Answer.RUN:
            assert key not in running
            assert key not in store
            running[key] = digest
        else:
            keys.ended(key)
    assert len(keys) == len(running)


@pytest.mark.guarantee(60)
@pytest.mark.parametrize("outcome", [LOST, TIMED_OUT])
def test_a_call_with_a_key_may_be_repeated_like_an_idempotent_one(outcome):
    """Guarantee 60: work that may have been done is repeated only if the method is declared repeatable, by a key too."""
    assert Policy(retry=Retry()).may_repeat(outcome) is False
    assert Policy(retry=Retry(), idempotency_key=True).may_repeat(outcome) is True
    assert Policy(retry=None, idempotency_key=True).may_repeat(outcome) is False


def test_the_switch_is_checked():
    """A key of the caller's own goes into the metadata, not here."""
    with pytest.raises(ValueError, match=r"idempotency_key must be a bool, such as True; got 'order-7'"):
        Policy(idempotency_key="order-7")

"""The table of promises is complete, and says what the tests say."""

from __future__ import annotations

from promises import NOT_OFFERED, PROMISES, TABLE, marks, table

NUMBERS = [number for promises in PROMISES.values() for number in promises]


def test_the_table_has_every_number_from_1_to_108():
    """One row each, in order."""
    assert list(range(1, 109)) == NUMBERS


def test_every_promise_is_held_by_a_test_or_not_offered_with_a_reason():
    """Never both, never neither; and at most seven are not offered."""
    held = marks()
    assert [n for n in NUMBERS if (n in held) == (n in NOT_OFFERED)] == []
    assert set(held) <= {*NUMBERS, *range(109, 116)}  # those are the harness's own
    assert len(NOT_OFFERED) < 8


def test_the_page_is_current():
    """docs/guarantees.md is what `python tests/promises.py` writes."""
    assert TABLE.read_text() == table(), "run python tests/promises.py"

"""Rates, as a timetable."""

from __future__ import annotations

import pytest

from stormproof.core.rates import Rate


def test_a_rate_is_that_of_the_last_5_to_10_seconds():
    """10 a second for 20 s, then none. The rate is over the time since 15 until 25, and then over that since 20."""
    rate, total, told = Rate(0, 0.0), 0, {}
    for now in range(1, 41):
        total += 10 if now <= 20 else 0
        told[now] = rate.at(total, float(now))
    assert {told[now] for now in range(1, 21)} == {10.0}
    assert [told[now] for now in (21, 23, 24)] == pytest.approx([50 / 6, 50 / 8, 50 / 9])
    assert {told[now] for now in range(25, 41)} == {0.0}


def test_the_first_call_is_not_a_thousand_a_second():
    """A rate is taken over a second at least: one call in the first millisecond is 1 a second."""
    assert Rate(0, 0.0).at(1, 0.001) == 1.0


def test_a_pause_counts():
    """Two calls with a minute of silence between them are not two a second."""
    rate = Rate(0, 0.0)
    rate.at(1, 1.0)
    assert rate.at(2, 61.0) == pytest.approx(2 / 61)

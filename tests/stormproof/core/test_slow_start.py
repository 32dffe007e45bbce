"""Slow start, as a table: how much of its share a new endpoint gets, by how long it has been there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stormproof.core.slow_start import SlowStart


@pytest.mark.guarantee(19)
@pytest.mark.parametrize(
    ("aggression", "factors"),
    [
        (1.0, [0.1, 0.1, 0.25, 0.5, 0.75, 1.0, 1.0]),
        (2.0, [0.1, 0.223606797749979, 0.5, 0.7071067811865476, 0.8660254037844386, 1.0, 1.0]),
        (0.5, [0.1, 0.1, 0.1, 0.25, 0.5625, 1.0, 1.0]),
    ],
)
def test_the_share_grows_over_the_window(aggression, factors):
    """max(0.1, (uptime / 20) ** (1 / aggression)) after 0, 1, 5, 10, 15, 20 and 1000 s of a window of 20."""
    slow_start = SlowStart(window=20.0, aggression=aggression)
    assert [slow_start.factor(uptime) for uptime in (0, 1, 5, 10, 15, 20, 1000)] == pytest.approx(factors, abs=1e-12)
    assert slow_start.factor(20.0) == 1.0


@pytest.mark.guarantee(19)
@given(
    st.builds(SlowStart, window=st.integers(1, 100_000), floor=st.floats(0.001, 1.0), aggression=st.floats(0.1, 10.0)),
    st.integers(0, 100_000),
    st.integers(0, 100_000),
)
def test_it_never_falls_is_never_under_the_floor_and_ends_at_1(slow_start, earlier, later):
    """For every window, floor, aggression and two moments."""
    earlier, later = sorted((earlier, later))
    assert slow_start.floor <= slow_start.factor(earlier) <= slow_start.factor(later) <= 1.0
    assert slow_start.factor(slow_start.window) == slow_start.factor(later + slow_start.window) == 1.0


def test_a_clock_that_went_back_is_the_beginning():
    """An uptime below 0 counts as 0."""
    assert SlowStart(window=10.0, aggression=2.0).factor(-1.0) == 0.1


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: SlowStart(window=0), "SlowStart: window must be a number, from 0.001 to 1e.09 .seconds.; got 0"),
        (lambda: SlowStart(window=1, floor=0), "floor must be a number, from 0.001 to 1 "),
        (lambda: SlowStart(window=1, floor=2, aggression=0), "floor must be .*; aggression must be a number, from 0.1"),
    ],
)
def test_bad_values_say_what_is_wrong(build, says):
    """One ValueError that names them all."""
    with pytest.raises(ValueError, match=says):
        build()

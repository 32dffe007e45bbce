"""The tests behind the verdicts, against values from elsewhere and against themselves."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.guarantees.statistics import (
    ALPHA,
    at_most,
    chance,
    chi_square,
    doubt,
    fits,
    interval,
    missing,
    needed,
    within,
)

ORDER = {"held": 0, "unknown": 1, "broken": 2}
samples = st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


def test_the_binomial_tail_is_exact():
    """Seven heads or more of ten coins: 176 of 1024; a certain event: 1."""
    assert chance(7, 10, 0.5) == pytest.approx(176 / 1024, rel=1e-12)
    assert chance(0, 10, 0.5) == 1.0
    assert chance(3, 3, 0.01) == pytest.approx(1e-6, rel=1e-9)


def test_clopper_and_pearson_agree_with_their_tables():
    """10 of 100 at 95 %: 0.0490 to 0.1762; none of 20: 1 - (alpha/2)^(1/20); all: its mirror image."""
    assert interval(10, 100, 0.05) == pytest.approx((0.0490047, 0.1762226), abs=1e-6)
    assert interval(0, 20, 0.05) == pytest.approx((0.0, 0.1684335), abs=1e-6)
    assert interval(20, 20, 0.05) == pytest.approx((0.8315665, 1.0), abs=1e-6)


def test_chi_square_agrees_with_its_tables():
    """60 and 40 of a fair coin: 4.0 with one degree of freedom, p 0.0455; a perfect fit: 1."""
    assert chi_square([60, 40], [0.5, 0.5]) == pytest.approx(0.0455003, abs=1e-6)
    assert chi_square([50, 50], [0.5, 0.5]) == 1.0
    assert chi_square([100], [1.0]) == 1.0


@pytest.mark.parametrize(
    ("bad", "n", "allowed", "word"),
    [
        (0, 100, 0.01, "held"),
        (1, 100, 0.01, "held"),
        (10, 100, 1 - 0.9, "held"),  # 1 - 0.9 is 0.09999999999999998
        (0, 99, 0.01, "unknown"),  # a hundred are needed to see one in a hundred
        (2, 100, 0.01, "unknown"),  # more than allowed, and chance explains it with probability 0.26
        (8, 100, 0.01, "unknown"),  # 8.2e-06
        (9, 100, 0.01, "broken"),  # 8.4e-07
        (4, 4, 0.01, "broken"),  # few, and still no chance: 1e-08
        (0, 20, 0.0, "held"),
        (0, 19, 0.0, "unknown"),
        (1, 1, 0.0, "broken"),
        (0, 0, 0.5, "unknown"),
        (20, 20, 1.0, "held"),
    ],
)
def test_a_rate_is_within_its_bound_beyond_it_or_not_to_be_told(bad, n, allowed, word):
    """The three zones, at their edges."""
    assert at_most(bad, n, allowed) == word


def test_the_sample_must_tell_the_bound_from_nothing_and_from_everything():
    """20 at least; 100 for a hundredth; as many for 99 hundredths."""
    assert [needed(allowed) for allowed in (0.0, 1.0, 0.5, 0.1, 0.01, 0.99, 0.001)] == [
        20,
        20,
        20,
        20,
        100,
        100,
        1000,
    ]


def test_an_unknown_rate_says_why():
    """Too few, or chance: with the figures."""
    assert doubt(0, 40, 0.01) == "40 calls counted, 100 needed to promise it"
    assert doubt(2, 100, 0.01) == (
        "2 of 100 calls were bad, 1 allowed; chance alone explains that with p = 0.3 (broken is below 1e-06)"
    )


@settings(deadline=None)  # the first use of scipy.stats loads it
@given(samples, st.floats(0, 1))
def test_one_more_bad_one_never_makes_a_verdict_better(sample, allowed):
    """held, unknown, broken: in this order, whatever n and the bound are."""
    bad, n = sample
    if bad < n:
        assert ORDER[at_most(bad, n, allowed)] <= ORDER[at_most(bad + 1, n, allowed)]


@settings(deadline=None)  # the first use of scipy.stats loads it
@given(samples, st.floats(0, 1), st.floats(0, 1))
def test_a_looser_bound_never_turns_what_is_not_broken_into_broken(sample, one, other):
    """What chance explains under a bound, it explains under a looser one."""
    bad, n = sample
    strict, loose = min(one, other), max(one, other)
    if at_most(bad, n, strict) != "broken":
        assert at_most(bad, n, loose) != "broken"


@settings(deadline=None)  # the first use of scipy.stats loads it
@given(samples)
def test_an_interval_holds_what_was_measured(sample):
    """The rate that was seen is never outside its own interval."""
    count, n = sample
    low, high = interval(count, n)
    assert 0 <= low <= count / n <= high <= 1


@settings(deadline=None)  # the first use of scipy.stats loads it
@given(samples)
def test_a_share_is_broken_only_where_its_interval_lies_outside(sample):
    """20 to 40 of a hundred: held only inside the band, broken only when the interval is out of it."""
    count, n = sample
    low, high = interval(count, n)
    word = within(count, n, 0.2, 0.4)
    assert (word == "broken") == (low > 0.4 or high < 0.2)
    assert word != "held" or 0.2 <= count / n <= 0.4


def test_an_empty_cell_is_found_as_soon_as_chance_does_not_explain_it():
    """Of five servers: not after 69 calls (chance leaves one of five empty), but after 70."""
    assert fits([17, 17, 17, 18, 0], [0.2] * 5) == "unknown"
    assert fits([17, 17, 18, 18, 0], [0.2] * 5) == "broken"
    assert [missing(n, 0.2, ALPHA / 5) for n in (69, 70)] == [False, True]


def test_a_cell_that_is_due_nothing_must_get_nothing():
    """Weight 0 means never while another can."""
    assert fits([500, 500, 0], [0.5, 0.5, 0.0]) == "held"
    assert fits([500, 500, 1], [0.5, 0.5, 0.0]) == "broken"


def test_chi_square_wants_fifty_expected_in_every_cell():
    """249 over five is a call too few."""
    assert fits([50, 50, 50, 50, 49], [0.2] * 5) == "unknown"
    assert fits([50, 50, 50, 50, 50], [0.2] * 5) == "held"


@pytest.mark.parametrize("seed", range(20))
def test_fair_draws_fit_and_a_bias_of_a_few_hundredths_does_not(seed):
    """200,000 draws over ten: fair ones pass (1e-6), cells 3 % up or down are found (power > 1 - 1e-6)."""
    draw = np.random.default_rng(seed)
    fair = draw.multinomial(200_000, [0.1] * 10)
    biased = draw.multinomial(200_000, [0.103, 0.097] * 5)
    assert fits(fair.tolist(), [0.1] * 10) == "held"
    assert fits(biased.tolist(), [0.1] * 10) == "broken"


@pytest.mark.parametrize("seed", range(20))
def test_a_rate_at_its_bound_is_never_called_broken(seed):
    """2000 calls that fail at exactly the rate allowed: error rate 1e-6 each."""
    rng = random.Random(seed)
    bad = sum(rng.random() < 0.01 for _ in range(2000))
    assert at_most(bad, 2000, 0.01) != "broken"


@pytest.mark.parametrize(("bad", "n", "allowed"), [(2, 1, 0.1), (-1, 1, 0.1), (0, 1, 1.1)])
def test_impossible_counts_are_refused(bad, n, allowed):
    """A caller's mistake is an error, not a verdict."""
    with pytest.raises(ValueError, match="bad must be from 0 to n and allowed from 0 to 1"):
        at_most(bad, n, allowed)

"""Service times: each distribution has the quantiles that its docstring says, and draws belong to an attempt's id."""

from __future__ import annotations

import math
import random

import pytest
from scipy.stats import binomtest

from harness import LogNormal, Normal, Pareto, Servers, Trace
from harness.service_time import Draws

N, ALPHA = 4000, 1e-6


@pytest.mark.parametrize(
    ("times", "bound", "share"),
    [
        (Normal(0.01, deviation=0.002), 0.012, 0.8413),  # one standard deviation above the mean
        (LogNormal(0.005, sigma=0.7), 0.005, 0.5),
        (LogNormal(0.005, sigma=0.7), 0.005 * math.exp(1.4), 0.97725),
        (Pareto(0.002, shape=1.5), 0.004, 1 - 2**-1.5),
        (Trace((0.001, 0.002, 0.002, 0.005)), 0.0015, 0.25),
    ],
    ids=str,
)
def test_a_distribution_is_what_it_says(times, bound, share):
    """Promise: that share of the draws lies under the bound. Exact binomial test, N = 4000, seed 1, alpha 1e-6."""
    rng = random.Random(1)
    under = sum(times.draw(rng) <= bound for _ in range(N))
    assert binomtest(under, N, share).pvalue > ALPHA


def test_a_draw_belongs_to_the_attempt():
    """Promise: the same seed and id give the same time, whatever came before; another id, attempt or seed another one."""
    times = LogNormal(0.005, sigma=0.7)
    draws = Draws(times, 1)
    first = draws.seconds(17, 1)
    draws.seconds(18, 1)
    assert draws.seconds(17, 1) == first
    others = {draws.seconds(18, 1), draws.seconds(17, 2), draws.seconds(17, 1, part=1), Draws(times, 2).seconds(17, 1)}
    assert first not in others
    assert len(others) == 4


def test_no_work_takes_less_than_no_time():
    """Promise: a normal distribution that reaches below 0 is cut there; a constant is not drawn."""
    draws = Draws(Normal(0.0, deviation=1.0), 1)
    assert min(draws.seconds(number, 1) for number in range(50)) == 0.0
    assert (Draws(0.002, 1).seconds(1, 1), Draws(0.002, 1).constant, draws.constant) == (0.002, 0.002, None)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Normal(-1, deviation=2), "Normal: mean must be a number, from 0 to 3600; got -1"),
        (lambda: Normal(1, deviation=math.nan), "deviation must be a number"),
        (lambda: LogNormal(0, sigma=9), "sigma must be a number, from 0 to 5"),
        (lambda: Pareto(0.1, shape=0), "shape must be a number"),
        (lambda: Trace(()), "seconds must be a tuple of at least one service time; got ()"),
        (lambda: Trace((0.1, -1)), r"seconds[1] must be a number"),
        (lambda: Servers(1, service_time="slow"), "service_time must be seconds, or Normal, LogNormal"),
        (lambda: Servers(1, service_time=Normal), "service_time must be seconds, or Normal, LogNormal"),
        (lambda: Servers(1, service_time=True), "service_time must be a number"),
        (lambda: Servers(1, queue=-1, cold_start=-1), "queue must be a whole number"),
        (lambda: Servers(1, queue=-1, cold_start=11), "cold_start must be a number, from 0 to 10"),
    ],
)
def test_a_wrong_one_says_what_is_wrong(make, says):
    """Promise: argument, value and bound."""
    with pytest.raises(ValueError) as raised:  # noqa: PT011 - its text is looked at
        make()
    assert says in str(raised.value)
